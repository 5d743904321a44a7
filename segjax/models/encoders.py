"""Encoders that pool with switches: SegNet-Basic, VGG16 and U-Net's contracting path.

All three are stages of convolutions with a 2x2 max-pooling after each, so they are
one module and three sets of numbers. Strided convolutions can replace the pooling.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.features import Features
from segjax.models.layers import ConvNormAct, Padding, Remat, check_maps, run_block
from segjax.ops.pooling import max_pool_with_switches, pack_switches


class PooledEncoder(nn.Module):
    """Stages of convolutions, each followed by a 2x2 max-pooling with switches.

    Maps `[b h w c]` (normalised, float) to `Features`. Raises `InputError` at trace
    time for an image of a size that it cannot take.

    Attributes:
      stages: for each stage, the channels of its convolutions.
      bottleneck: channels of the convolutions after the last pooling.
      kernel_size: side of every kernel; odd.
      norm: batch normalisation after every convolution.
      pool: what halves the sides after a stage: "max", a 2x2 max-pooling, or
        "stride", a 3x3 convolution of stride 2 with the stage's channels, batch
        normalisation if `norm`, and ReLU. The latter has no switches.
      ceil_mode: pool odd sizes by rounding up (Caffe's rule); any image size
        works. False demands sides that every pooling divides evenly.
      padding: "SAME" keeps sizes; "VALID" takes no pixel from outside the image, so
        that every convolution loses a border, `margin` pixels on every side in all.
        It needs max-pooling without `ceil_mode`.
      dropout: rate of the dropout after the last stage's convolutions and after
        the bottleneck.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; a stage with its pooling is a block.
    """

    stages: tuple[tuple[int, ...], ...]
    bottleneck: tuple[int, ...] = ()
    kernel_size: int = 3
    norm: bool = True
    pool: Literal["max", "stride"] = "max"
    ceil_mode: bool = True
    padding: Padding = "SAME"
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @property
    def max_stride(self) -> int:
        """Stride of the deepest map."""
        return 2 ** len(self.stages)

    @property
    def margin(self) -> int:
        """Pixels of the image that the deepest map does not cover, on every side."""
        if self.padding != "VALID":
            return 0
        lost = (self.kernel_size - 1) // 2
        return sum(
            len(channels) * lost * 2**level
            for level, channels in enumerate([*self.stages, self.bottleneck])
        )

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest image whose deepest map covers `size`.

        A map at stride `s` covers `s` pixels a side with each of its own, and the
        image needs `margin` more on every side.
        """
        step = 1 if self.ceil_mode else self.max_stride
        return tuple(-(-max(1, s) // step) * step + 2 * self.margin for s in size)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Features:
        self._check(image)

        def convolve(x, features, name, kernel_size=self.kernel_size, stride=1):
            return ConvNormAct(
                features,
                kernel_size,
                stride=stride,
                norm=self.norm,
                padding=self.padding,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=name,
            )(x, train=train)

        def convolve_all(x, stage, channels):
            for j, features in enumerate(channels, start=1):
                x = convolve(x, features, f"conv{stage}_{j}")
            return x

        def drop(x):
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        def stage(_, x, i, channels):
            x = convolve_all(x, i, channels)
            if i == len(self.stages):
                x = drop(x)
            if self.pool == "max":
                pooled, chosen = max_pool_with_switches(x, ceil_mode=self.ceil_mode)
                return x, pooled, pack_switches(chosen)
            size = {"kernel_size": 3, "stride": 2}
            return x, convolve(x, x.shape[-1], f"pool{i}", **size), None

        def bottleneck(_, x):
            return drop(convolve_all(x, len(self.stages) + 1, self.bottleneck))

        maps, pooled, switches = {}, {}, {}
        x = image.astype(self.dtype)
        for i, channels in enumerate(self.stages, start=1):
            block = partial(stage, i=i, channels=channels)
            stride = 2**i
            maps[stride // 2], x, chosen = run_block(block, self, x, remat=self.remat)
            pooled[stride] = x
            if chosen is not None:
                switches[stride] = chosen
        if self.bottleneck:
            x = run_block(bottleneck, self, x, remat=self.remat)
        maps[stride] = x
        return Features(maps=maps, pooled=pooled, switches=switches)

    @nn.nowrap
    def _check(self, image: jax.Array) -> None:
        if self.pool not in ("max", "stride"):
            raise InputError(f"pool is {self.pool!r}, expected 'max' or 'stride'")
        if self.padding not in ("SAME", "VALID"):
            raise InputError(f"padding is {self.padding!r}, expected SAME or VALID")
        if self.padding == "VALID" and (self.ceil_mode or self.pool == "stride"):
            raise InputError(
                "padding VALID needs max-pooling without ceil_mode, got "
                f"pool={self.pool!r} and ceil_mode={self.ceil_mode}"
            )
        check_maps("image", image, "[b h w c]")
        size, lost = image.shape[1:3], 2 * self.margin
        if size != self.input_size(tuple(side - lost for side in size)):
            raise InputError(
                f"image is {size[0]}x{size[1]} pixels, but this network needs both "
                f"sides{f', less {lost},' if lost else ''} to be positive multiples "
                f"of {1 if self.ceil_mode else self.max_stride}: pad or crop it"
            )


def scale_channels(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Channels times `width`, rounded, at least one: narrow twins of the papers."""
    return tuple(max(1, round(c * width)) for c in channels)


def segnet_basic(*, width: float = 1.0, **options) -> PooledEncoder:
    """SegNet-Basic's encoder: 4 x [7x7 convolution 64, BN, ReLU, pool].

    Source: SegNet (arXiv 1511.00561) section 3.1 and the authors'
    `segnet_basic_train.prototxt`. Differs from them: no local response
    normalisation of the input, BN epsilon 1e-5 (theirs 1e-9). Convolutions have
    biases as in the prototxt; the paper's text says they have none.
    """
    stages = tuple(scale_channels((64,), width) for _ in range(4))
    return PooledEncoder(stages, kernel_size=7, **options)


def vgg16(*, width: float = 1.0, **options) -> PooledEncoder:
    """VGG16's 13 convolutions, five poolings, no fully connected layers.

    Source: Simonyan & Zisserman (arXiv 1409.1556), configuration D, as used by
    SegNet (with batch normalisation) and FCN (without, and with its fully
    connected layers, which are not part of this encoder). `norm` chooses.
    """
    stages = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    return PooledEncoder(tuple(scale_channels(s, width) for s in stages), **options)


def unet(
    *, width: float = 1.0, norm: bool = False, padding: Padding = "SAME", **options
) -> PooledEncoder:
    """U-Net's contracting path: 64, 128, 256, 512, then 1024 without pooling.

    Source: U-Net (arXiv 1505.04597), figure 1. `padding` "VALID" without `norm` is
    the paper's: an image of 572x572 pixels ends as a map of 28x28, and 62 pixels on
    every side have no place in it. With "SAME" sizes halve from level to level. Dropout
    only if asked for: the paper has it "at the end of the contracting path" but gives
    no rate.
    """
    stages = tuple(scale_channels((c, c), width) for c in (64, 128, 256, 512))
    return PooledEncoder(
        stages,
        bottleneck=scale_channels((1024, 1024), width),
        norm=norm,
        ceil_mode=False,
        padding=padding,
        **options,
    )
