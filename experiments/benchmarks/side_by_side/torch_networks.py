"""segjax's networks in PyTorch, written as one would write them there.

Modules have the names of segjax's parameters (`torch_weights` relies on it). Differences
are those of the frameworks: pooling indices are int64, where segjax keeps 2 bits, and
the encoders keep only the maps that their decoder reads, as XLA does by itself.
"""

from collections.abc import Callable
from functools import partial

import torch
from side_by_side import torch_decoders, torch_layers
from side_by_side.torch_fcn import FCNVGG16
from side_by_side.torch_layers import scaled
from torch import nn

_VGG16_SEGNET_STAGES = (
    (512, 512, 512),
    (512, 512, 256),
    (256, 256, 128),
    (128, 64),
    (64,),
)
_MAPS, _POOLED, _INDICES = ("maps",), ("pooled",), ("indices",)


class Segmenter(nn.Module):
    """Encoder, maybe a neck, decoder: normalised image `[b 3 h w]` to `[b k h' w']`."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, neck: nn.Module | None = None
    ):
        super().__init__()
        self.encoder = encoder
        self.neck = neck
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.encoder(image)
        if self.neck is not None:
            features = self.neck(features)
        return self.decoder(features)


def _basic(decoder, keep, *, scores=(), **variant):
    def build(num_classes, width):
        encoder = torch_layers.segnet_basic(width, keep=keep)
        neck = torch_decoders.ScoreNeck(num_classes, encoder, scores)
        return Segmenter(
            encoder, decoder(num_classes, encoder, **variant), neck if scores else None
        )

    return build


def _segnet(make_encoder, *, stages=None, norm=True):
    def build(num_classes, width):
        encoder = make_encoder(width, keep=_INDICES, norm=norm)
        narrow = stages and tuple(scaled(s, width) for s in stages)
        decoder = torch_decoders.SegNet(num_classes, encoder, stages=narrow, norm=norm)
        return Segmenter(encoder, decoder)

    return build


def _fcn(make_encoder, *, skips, norm=True):
    def build(num_classes, width):
        encoder = make_encoder(width, keep=_POOLED, norm=norm)
        decoder = torch_decoders.FCN(num_classes, encoder, skips=skips)
        return Segmenter(encoder, decoder)

    return build


def _unet(make_encoder, *, norm=True, **options):
    def build(num_classes, width):
        encoder = make_encoder(width, keep=_MAPS, **options, norm=norm)
        # The last map before a pooling has the channels that the pooling has.
        map_channels = {s // 2: c for s, c in encoder.channels.items()}
        decoder = torch_decoders.UNet(
            num_classes, encoder, map_channels=map_channels, norm=norm, **options
        )
        return Segmenter(encoder, decoder)

    return build


def _fcn_vgg16(stride, **variant):
    return partial(FCNVGG16, stride=stride, **variant)


_segnet_basic = partial(_basic, torch_decoders.SegNetBasic)
_fcn_basic = partial(_basic, torch_decoders.FCNBasic, _POOLED)

NETWORKS: dict[str, Callable[[int, float], nn.Module]] = {
    "bilinear_basic": _basic(torch_decoders.Bilinear, ()),
    "segnet_basic": _segnet_basic(_INDICES),
    "segnet_basic_encoder_addition": _segnet_basic(_INDICES + _MAPS, addition=True),
    "segnet_basic_single_channel": _segnet_basic(_INDICES, single_channel=True),
    "fcn_basic": _fcn_basic(scores=(16, 8, 4, 2)),
    "fcn_basic_no_addition": _fcn_basic(scores=(16,), addition=False),
    "fcn_basic_no_dim_reduction": _fcn_basic(reduction=False),
    "fcn_basic_no_addition_no_dim_reduction": _fcn_basic(
        addition=False, reduction=False
    ),
    "segnet_vgg16_bn": _segnet(torch_layers.vgg16, stages=_VGG16_SEGNET_STAGES),
    "fcn32s": _fcn_vgg16(32),
    "fcn16s": _fcn_vgg16(16),
    "fcn8s": _fcn_vgg16(8),
    "fcn8s_at_once": _fcn_vgg16(8, at_once=True),
    "fcn16s_learned": _fcn_vgg16(16, learned=True),
    "fcn8s_learned": _fcn_vgg16(8, learned=True),
    "fcn8s_at_once_learned": _fcn_vgg16(8, at_once=True, learned=True),
    "unet_valid": _unet(torch_layers.unet, norm=False, padding="VALID"),
    "unet": _unet(torch_layers.unet, norm=False),
    "fcn_basic_4x4": _fcn(torch_layers.segnet_basic, skips=(8, 4, 2)),
    "unet_basic": _unet(torch_layers.segnet_basic),
    "fcn_vgg16_bn": _fcn(torch_layers.vgg16, skips=(16, 8)),
    "unet_vgg16_bn": _unet(torch_layers.vgg16),
    "segnet_vgg16": _segnet(
        torch_layers.vgg16, stages=_VGG16_SEGNET_STAGES, norm=False
    ),
    "fcn_vgg16": _fcn(torch_layers.vgg16, skips=(16, 8), norm=False),
    "unet_vgg16": _unet(torch_layers.vgg16, norm=False),
    "unet_bn": _unet(torch_layers.unet),
    "fcn_unet": _fcn(torch_layers.unet, skips=(8, 4, 2)),
    "segnet_unet": _segnet(torch_layers.unet),
}
"""Name in `segjax.models.zoo.MODELS` -> `(num_classes, width) -> module`."""
