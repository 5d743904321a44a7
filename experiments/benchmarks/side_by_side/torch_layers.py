"""PyTorch's layers and encoders, with the names that segjax gives to its parameters."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


def scaled(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Channels times `width`, rounded, at least one, as segjax scales them."""
    return tuple(max(1, round(c * width)) for c in channels)


class ConvNormAct(nn.Module):
    """Convolution, then batch normalisation and ReLU, each optional.

    Batch normalisation has epsilon 1e-5 and gives a new batch the weight 0.1, which is
    Flax's momentum of 0.9. Both divide by the biased variance of the batch; for the
    running variance PyTorch takes the unbiased one, `n / (n - 1)` times as large for
    `n` pixels of a channel, Flax the biased one.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int = 3,
        *,
        padding: str = "SAME",
        groups: int = 1,
        norm: bool = True,
        relu: bool = True,
    ):
        super().__init__()
        around = kernel_size // 2 if padding == "SAME" else 0
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, padding=around, groups=groups)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-5, momentum=0.1) if norm else None
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return F.relu(x, inplace=True) if self.relu else x


@dataclasses.dataclass
class Features:
    """What an encoder hands to its decoder, by stride, and nothing that it would not read.

    Attributes:
      sizes: height and width of the maps.
      maps: last map at a stride; always the deepest one.
      pooled: output of the pooling that reaches a stride.
      indices: int64 positions of that pooling's maxima.
    """

    sizes: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    maps: dict[int, torch.Tensor] = dataclasses.field(default_factory=dict)
    pooled: dict[int, torch.Tensor] = dataclasses.field(default_factory=dict)
    indices: dict[int, torch.Tensor] = dataclasses.field(default_factory=dict)

    @property
    def max_stride(self) -> int:
        return max(self.sizes)

    def unpool(self, x: torch.Tensor, stride: int) -> torch.Tensor:
        size = self.sizes[stride // 2]
        return F.max_unpool2d(x, self.indices[stride], 2, output_size=size)


class PooledEncoder(nn.Module):
    """Stages of convolutions, each followed by a 2x2 max-pooling.

    Attributes:
      channels: stride -> channels of the pooling that reaches it.
      deepest: channels of the deepest map.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...],
        bottleneck: tuple[int, ...] = (),
        *,
        keep: tuple[str, ...],
        kernel_size: int = 3,
        norm: bool = True,
        ceil_mode: bool = True,
        padding: str = "SAME",
    ):
        """`keep` says which of maps, pooled and indices the decoder will read."""
        super().__init__()
        self.keep = keep
        self.ceil_mode = ceil_mode
        self.stages = len(stages)
        self.layers = []
        c_in = 3
        for i, channels in enumerate([*stages, bottleneck], start=1):
            names = [f"conv{i}_{j}" for j in range(1, len(channels) + 1)]
            self.layers.append(names)
            for name, c_out in zip(names, channels, strict=True):
                layer = ConvNormAct(
                    c_in, c_out, kernel_size, padding=padding, norm=norm
                )
                self.add_module(name, layer)
                c_in = c_out
        self.channels = {2**i: stage[-1] for i, stage in enumerate(stages, start=1)}
        self.deepest = c_in

    def forward(self, x: torch.Tensor) -> Features:
        features = Features()
        for i in range(1, self.stages + 1):
            x, stride = self._convolve(x, i), 2**i
            features.sizes[stride // 2] = tuple(x.shape[2:])
            if "maps" in self.keep:
                features.maps[stride // 2] = x
            if "indices" in self.keep:
                x, features.indices[stride] = F.max_pool2d(
                    x, 2, ceil_mode=self.ceil_mode, return_indices=True
                )
            else:
                x = F.max_pool2d(x, 2, ceil_mode=self.ceil_mode)
            if "pooled" in self.keep:
                features.pooled[stride] = x
        x = self._convolve(x, self.stages + 1)
        features.sizes[stride] = tuple(x.shape[2:])
        features.maps[stride] = x
        return features

    def _convolve(self, x, stage):
        for name in self.layers[stage - 1]:
            x = getattr(self, name)(x)
        return x


def segnet_basic(width: float, **options) -> PooledEncoder:
    """SegNet-Basic's encoder: four 7x7 convolutions."""
    stages = tuple(scaled((64,), width) for _ in range(4))
    return PooledEncoder(stages, kernel_size=7, **options)


def vgg16(width: float, **options) -> PooledEncoder:
    """VGG16's 13 convolutions."""
    stages = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    return PooledEncoder(tuple(scaled(s, width) for s in stages), **options)


def unet(width: float, **options) -> PooledEncoder:
    """U-Net's contracting path."""
    stages = tuple(scaled((c, c), width) for c in (64, 128, 256, 512))
    bottleneck = scaled((1024, 1024), width)
    return PooledEncoder(stages, bottleneck, ceil_mode=False, **options)
