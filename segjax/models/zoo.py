"""MODELS: every network by name, with where it comes from and its size."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models import encoders
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.fcn_head import FCNHead
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.segnet_variants import (
    BilinearDecoder,
    FCNBasicDecoder,
    ScoreNeck,
    SegNetBasicDecoder,
)
from segjax.models.decoders.strategies import (
    SKIPS,
    UPSAMPLINGS,
    SkipNeck,
    StrategyDecoder,
)
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.deconvnet import deconvnet
from segjax.models.fcn import FCN
from segjax.models.full_resolution import FullResolutionNet
from segjax.models.layers import Remat
from segjax.models.patch_classifier import PatchClassifier
from segjax.models.resnet import RESNET50, RESNET101, ResNet
from segjax.models.segmenter import Segmenter

_VGG16_SEGNET_STAGES = (
    (512, 512, 512),
    (512, 512, 256),
    (256, 256, 128),
    (128, 64),
    (64,),
)
# Of SegNet-Basic's encoder, deepest first.
_BASIC_STRIDES = (16, 8, 4, 2)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A number of parameters that was published or counted independently.

    Attributes:
      num_classes: for this many classes
      channels: and this many channels of the image
      parameters: there are so many trainable parameters.
    """

    num_classes: int
    channels: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One row of MODELS.

    Attributes:
      encoder: name of the encoder, for people.
      decoder: name of the decoder, for people; FCN with the strides of its skips.
      source: arXiv number of the paper it is from, or "after" which it is modelled;
        "segjax" is a combination of our own. The modules' docstrings list the
        deviations.
      build: `(num_classes, *, width, dropout, dtype, axis_name, remat) -> network`.
      reference: what its number of parameters is checked against; None where there
        is nothing.
    """

    encoder: str
    decoder: str
    source: str
    build: Callable[..., nn.Module]
    reference: Reference | None = None


def _segmenter(encoder, decoder, *, norm=True, neck=None, **fixed):
    """A row's build: `decoder` and `neck` take `(num_classes, **options)`."""

    def build(num_classes, *, width, dropout, **options):
        options |= fixed
        return Segmenter(
            encoder(width=width, dropout=dropout, norm=norm, **options),
            decoder(num_classes, width=width, norm=norm, **options),
            neck and neck(num_classes),
        )

    return build


def _fcn(*skips):
    return lambda num_classes, **_: FCNDecoder(num_classes, skips)


def _unet(num_classes, *, width, **options):
    del width  # follows the encoder
    return UNetDecoder(num_classes, **options)


def _segnet(stages=None):
    def build(num_classes, *, width, **options):
        scaled = stages and tuple(encoders.scale_channels(s, width) for s in stages)
        return SegNetDecoder(num_classes, scaled, **options)

    return build


def _segnet_basic(**variant):
    def build(num_classes, *, dtype, axis_name, **_):
        return SegNetBasicDecoder(
            num_classes, dtype=dtype, axis_name=axis_name, **variant
        )

    return _segmenter(encoders.segnet_basic, build)


def _fcn_basic(*, scores=(), **variant):
    def build(num_classes, *, dtype, **_):
        return FCNBasicDecoder(num_classes, dtype=dtype, **variant)

    neck = partial(ScoreNeck, strides=scores) if scores else None
    return _segmenter(encoders.segnet_basic, build, neck=neck)


def _bilinear(num_classes, **_):
    return BilinearDecoder(num_classes)


def _exact_fcn(stride, **variant):
    def build(num_classes, *, axis_name, **options):
        del axis_name  # no batch normalisation
        return FCN(num_classes, stride, **variant, **options)

    return build


def _fcn_resnet(blocks):
    def build(num_classes, *, width, dropout, remat, **options):
        encoder = ResNet(blocks, output_stride=8, width=width, remat=remat, **options)
        return Segmenter(encoder, FCNHead(num_classes, dropout=dropout, **options))

    return build


def _patch_classifier(num_classes, *, remat, **options):
    del remat  # no blocks
    return PatchClassifier(num_classes, **options)


MODELS: dict[str, ModelEntry] = {
    # The SegNet paper's table 1, in its order.
    "bilinear_basic": ModelEntry(
        "SegNet-Basic",
        "bilinear",
        "1511.00561",
        _segmenter(encoders.segnet_basic, _bilinear),
    ),
    "segnet_basic": ModelEntry(
        "SegNet-Basic",
        "SegNet",
        "1511.00561",
        _segnet_basic(),
        Reference(11, 3, 1_416_587),
    ),
    "segnet_basic_encoder_addition": ModelEntry(
        "SegNet-Basic", "SegNet + maps", "1511.00561", _segnet_basic(addition=True)
    ),
    "segnet_basic_single_channel": ModelEntry(
        "SegNet-Basic",
        "SegNet, depthwise",
        "1511.00561",
        _segnet_basic(single_channel=True),
    ),
    "fcn_basic": ModelEntry(
        "SegNet-Basic", "FCN 8, 4, 2", "1511.00561", _fcn_basic(scores=_BASIC_STRIDES)
    ),
    "fcn_basic_no_addition": ModelEntry(
        "SegNet-Basic",
        "FCN, no skips",
        "1511.00561",
        _fcn_basic(addition=False, scores=_BASIC_STRIDES[:1]),
    ),
    "fcn_basic_no_dim_reduction": ModelEntry(
        "SegNet-Basic",
        "FCN 8, 4, 2, all maps",
        "1511.00561",
        _fcn_basic(reduction=False),
    ),
    "fcn_basic_no_addition_no_dim_reduction": ModelEntry(
        "SegNet-Basic",
        "FCN, all maps, no skips",
        "1511.00561",
        _fcn_basic(addition=False, reduction=False),
    ),
    # Other published networks.
    "segnet_vgg16_bn": ModelEntry(
        "VGG16-BN",
        "SegNet",
        "1511.00561",
        _segmenter(encoders.vgg16, _segnet(_VGG16_SEGNET_STAGES)),
        Reference(11, 3, 29_449_355),
    ),
    "fcn32s": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN",
        "1411.4038",
        _exact_fcn(32),
        Reference(21, 3, 134_346_581),
    ),
    "fcn16s": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN 16",
        "1411.4038",
        _exact_fcn(16),
        Reference(21, 3, 134_357_354),
    ),
    "fcn8s": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN 16, 8",
        "1411.4038",
        _exact_fcn(8),
        Reference(21, 3, 134_362_751),
    ),
    "fcn8s_at_once": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN 16, 8",
        "1411.4038",
        _exact_fcn(8, at_once=True),
        Reference(21, 3, 134_362_751),
    ),
    "fcn16s_learned": ModelEntry(
        "VGG16, fc6, fc7", "FCN 16, learned", "1411.4038", _exact_fcn(16, learned=True)
    ),
    "fcn8s_learned": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN 16, 8, learned",
        "1411.4038",
        _exact_fcn(8, learned=True),
    ),
    "fcn8s_at_once_learned": ModelEntry(
        "VGG16, fc6, fc7",
        "FCN 16, 8, learned",
        "1411.4038",
        _exact_fcn(8, at_once=True, learned=True),
    ),
    "unet_valid": ModelEntry(
        "U-Net, valid",
        "U-Net, valid",
        "1505.04597",
        _segmenter(encoders.unet, _unet, norm=False, padding="VALID"),
        Reference(2, 1, 31_030_658),
    ),
    "unet": ModelEntry(
        "U-Net",
        "U-Net",
        "after 1505.04597",
        _segmenter(encoders.unet, _unet, norm=False),
        Reference(11, 3, 31_032_395),
    ),
    "deconvnet": ModelEntry(
        "VGG16-BN, fc6, fc7",
        "DeconvNet",
        "1505.04366",
        deconvnet,
        Reference(21, 3, 251_805_653),
    ),
    "fcn_resnet50": ModelEntry(
        "ResNet-50, stride 8",
        "FCN head",
        "after 1411.4038",
        _fcn_resnet(RESNET50),
        Reference(21, 3, 32_957_013),
    ),
    "fcn_resnet101": ModelEntry(
        "ResNet-101, stride 8",
        "FCN head",
        "after 1411.4038",
        _fcn_resnet(RESNET101),
        Reference(21, 3, 51_949_141),
    ),
    # The lecture's two starting points: no way back is needed.
    "patch_classifier": ModelEntry(
        "patches of 32", "none", "segjax", _patch_classifier
    ),
    "full_resolution": ModelEntry("no pooling", "none", "segjax", FullResolutionNet),
    # The three decoder styles on one encoder each.
    "fcn_basic_4x4": ModelEntry(
        "SegNet-Basic",
        "FCN 8, 4, 2",
        "after 1511.00561",
        _segmenter(encoders.segnet_basic, _fcn(8, 4, 2)),
    ),
    "unet_basic": ModelEntry(
        "SegNet-Basic", "U-Net", "segjax", _segmenter(encoders.segnet_basic, _unet)
    ),
    "fcn_vgg16_bn": ModelEntry(
        "VGG16-BN",
        "FCN 16, 8",
        "after 1411.4038",
        _segmenter(encoders.vgg16, _fcn(16, 8)),
    ),
    "unet_vgg16_bn": ModelEntry(
        "VGG16-BN", "U-Net", "segjax", _segmenter(encoders.vgg16, _unet)
    ),
    "segnet_vgg16": ModelEntry(
        "VGG16",
        "SegNet",
        "segjax",
        _segmenter(encoders.vgg16, _segnet(_VGG16_SEGNET_STAGES), norm=False),
    ),
    "fcn_vgg16": ModelEntry(
        "VGG16",
        "FCN 16, 8",
        "after 1411.4038",
        _segmenter(encoders.vgg16, _fcn(16, 8), norm=False),
    ),
    "unet_vgg16": ModelEntry(
        "VGG16", "U-Net", "segjax", _segmenter(encoders.vgg16, _unet, norm=False)
    ),
    "unet_bn": ModelEntry(
        "U-Net, BN", "U-Net", "after 1505.04597", _segmenter(encoders.unet, _unet)
    ),
    "fcn_unet": ModelEntry(
        "U-Net, BN", "FCN 8, 4, 2", "segjax", _segmenter(encoders.unet, _fcn(8, 4, 2))
    ),
    "segnet_unet": ModelEntry(
        "U-Net, BN", "SegNet", "segjax", _segmenter(encoders.unet, _segnet())
    ),
}

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "segnet_basic": encoders.segnet_basic,
    "segnet_basic_strided": partial(encoders.segnet_basic, pool="stride"),
    "vgg16": partial(encoders.vgg16, norm=False),
    "vgg16_bn": encoders.vgg16,
    "unet": partial(encoders.unet, norm=False),
    "unet_bn": partial(encoders.unet, norm=True),
}
"""Encoders for strategies: what comes before the colon in `unet_bn:bilinear+sum`."""


def build_model(
    name: str,
    *,
    num_classes: int,
    width: float = 1.0,
    dropout: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    axis_name: str | None = None,
    remat: Remat = "none",
) -> nn.Module:
    """Builds the network `name`.

    Args:
      name: a key of MODELS, or a strategy `ENCODER:UPSAMPLING+SKIP` of keys of
        ENCODERS, UPSAMPLINGS and SKIPS, e.g. `unet_bn:max_unpool+none`.
      num_classes: channels of the logits; void is not a class.
      width: factor on every number of channels but the classes; 1 is the paper's.
      dropout: rate at the end of the encoder.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again instead of keeping it.

    Raises:
      InputError: no network of that name.
    """
    build = _strategy(name) if ":" in name else None
    if build is None:
        if name not in MODELS:
            raise InputError(
                f"unknown model {name!r}: expected one of {', '.join(MODELS)}, or "
                "ENCODER:UPSAMPLING+SKIP"
            )
        build = MODELS[name].build
    return build(
        num_classes,
        width=width,
        dropout=dropout,
        dtype=dtype,
        axis_name=axis_name,
        remat=remat,
    )


def _strategy(name):
    """A build like those of MODELS, for `ENCODER:UPSAMPLING+SKIP`."""
    encoder, _, decoder = name.partition(":")
    upsampling, _, skip = decoder.partition("+")
    for part, value, known in (
        ("encoder", encoder, ENCODERS),
        ("upsampling", upsampling, UPSAMPLINGS),
        ("skip", skip, SKIPS),
    ):
        if value not in known:
            raise InputError(
                f"model {name!r}: unknown {part} {value!r}; expected "
                f"ENCODER:UPSAMPLING+SKIP with one of {', '.join(known)}"
            )

    def build(num_classes, *, width, dropout, dtype, axis_name, remat):
        keep = SKIPS[skip].keep is not None
        built = ENCODERS[encoder](
            width=width,
            dropout=dropout,
            dtype=dtype,
            axis_name=axis_name,
            remat=remat,
        )
        return Segmenter(
            built,
            StrategyDecoder(
                num_classes,
                UPSAMPLINGS[upsampling],
                SKIPS[skip],
                norm=built.norm,
                dtype=dtype,
                axis_name=axis_name,
                remat=remat,
            ),
            SkipNeck(num_classes, SKIPS[skip]) if keep else None,
        )

    return build


def count_parameters(model: nn.Module, *, channels: int = 3) -> int:
    """Number of trainable parameters, without running or allocating anything."""
    image = jax.ShapeDtypeStruct((1, *model.input_size((1, 1)), channels), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
