"""MODELS: every network by name, with where it comes from and its size."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from segjax.errors import InputError
from segjax.models import encoders
from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.segmenter import Segmenter

_VGG16_SEGNET_STAGES = (
    (512, 512, 512),
    (512, 512, 256),
    (256, 256, 128),
    (128, 64),
    (64,),
)


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One row of MODELS.

    Attributes:
      encoder: name of the encoder, for people.
      decoder: name of the decoder, for people; FCN with the strides of its skips.
      source: arXiv number of the paper it is from, or "after" which it is modelled;
        "segjax" is a combination of our own. The modules' docstrings list the
        deviations.
      build: `(num_classes, *, width, dropout, dtype, axis_name) -> Segmenter`.
      parameters: published or independently counted number of parameters at
        `num_classes` = 11 and three input channels; None where there is none.
    """

    encoder: str
    decoder: str
    source: str
    build: Callable[..., Segmenter]
    parameters: int | None = None


def _segmenter(encoder, decoder, *, norm=True):
    def build(num_classes, *, width, dropout, **options):
        options["norm"] = norm
        return Segmenter(
            encoder(width=width, dropout=dropout, **options),
            decoder(num_classes, width=width, **options),
        )

    return build


def _fcn(*skips):
    return lambda num_classes, **_: FCNDecoder(num_classes, skips)


def _unet(num_classes, *, width, **options):
    del width  # follows the encoder
    return UNetDecoder(num_classes, **options)


def _segnet(stages=None, **fixed):
    def build(num_classes, *, width, **options):
        scaled = stages and tuple(encoders.scale_channels(s, width) for s in stages)
        return SegNetDecoder(num_classes, scaled, **fixed, **options)

    return build


MODELS: dict[str, ModelEntry] = {
    "segnet_basic": ModelEntry(
        "SegNet-Basic",
        "SegNet",
        "1511.00561",
        _segmenter(
            encoders.segnet_basic,
            _segnet(
                ((64,),) * 4, kernel_size=7, classifier_kernel_size=1, activation=None
            ),
        ),
        parameters=1_416_587,
    ),
    "fcn_basic": ModelEntry(
        "SegNet-Basic",
        "FCN 8, 4, 2",
        "after 1511.00561",
        _segmenter(encoders.segnet_basic, _fcn(8, 4, 2)),
    ),
    "unet_basic": ModelEntry(
        "SegNet-Basic",
        "U-Net",
        "segjax",
        _segmenter(encoders.segnet_basic, _unet),
    ),
    "segnet_vgg16_bn": ModelEntry(
        "VGG16-BN",
        "SegNet",
        "1511.00561",
        _segmenter(encoders.vgg16, _segnet(_VGG16_SEGNET_STAGES)),
        parameters=29_449_355,
    ),
    "fcn_vgg16_bn": ModelEntry(
        "VGG16-BN",
        "FCN 16, 8",
        "after 1411.4038",
        _segmenter(encoders.vgg16, _fcn(16, 8)),
    ),
    "unet_vgg16_bn": ModelEntry(
        "VGG16-BN",
        "U-Net",
        "segjax",
        _segmenter(encoders.vgg16, _unet),
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
        "VGG16",
        "U-Net",
        "segjax",
        _segmenter(encoders.vgg16, _unet, norm=False),
    ),
    "unet": ModelEntry(
        "U-Net",
        "U-Net",
        "1505.04597",
        _segmenter(encoders.unet, _unet, norm=False),
        parameters=31_032_395,
    ),
    "unet_bn": ModelEntry(
        "U-Net, BN",
        "U-Net",
        "after 1505.04597",
        _segmenter(encoders.unet, _unet),
    ),
    "fcn_unet": ModelEntry(
        "U-Net, BN",
        "FCN 8, 4, 2",
        "segjax",
        _segmenter(encoders.unet, _fcn(8, 4, 2)),
    ),
    "segnet_unet": ModelEntry(
        "U-Net, BN",
        "SegNet",
        "segjax",
        _segmenter(encoders.unet, _segnet()),
    ),
}


def build_model(
    name: str,
    *,
    num_classes: int,
    width: float = 1.0,
    dropout: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    axis_name: str | None = None,
) -> Segmenter:
    """Builds the network `name` of MODELS.

    Args:
      name: a key of MODELS.
      num_classes: channels of the logits; void is not a class.
      width: factor on every number of channels but the classes; 1 is the paper's.
      dropout: rate at the end of the encoder.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.

    Raises:
      InputError: no network of that name.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}: expected one of {', '.join(MODELS)}")
    return MODELS[name].build(
        num_classes, width=width, dropout=dropout, dtype=dtype, axis_name=axis_name
    )


def count_parameters(model: Segmenter, *, channels: int = 3) -> int:
    """Number of trainable parameters, without running or allocating anything."""
    side = 2 * model.multiple
    image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
