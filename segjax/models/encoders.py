"""Encoders that pool with switches: SegNet-Basic, VGG16 and U-Net's contracting path.

All three are stages of convolutions with a 2x2 max-pooling after each, so they are
one module and three sets of numbers.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.features import Features
from segjax.models.layers import ConvNormAct
from segjax.ops.pooling import max_pool_with_switches


class PooledEncoder(nn.Module):
    """Stages of convolutions, each followed by a 2x2 max-pooling with switches.

    Maps `[b h w c]` (normalised, float) to `Features`.

    Attributes:
      stages: for each stage, the channels of its convolutions.
      bottleneck: channels of the convolutions after the last pooling.
      kernel_size: side of every kernel.
      norm: batch normalisation after every convolution.
      ceil_mode: pool odd sizes by rounding up (Caffe's rule); any image size
        works. False drops odd borders, so sides must be multiples of `multiple`.
      dropout: rate of the dropout after the last stage's convolutions and after
        the bottleneck.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
    """

    stages: tuple[tuple[int, ...], ...]
    bottleneck: tuple[int, ...] = ()
    kernel_size: int = 3
    norm: bool = True
    ceil_mode: bool = True
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @property
    def multiple(self) -> int:
        """What the image's sides must be multiples of, in pixels."""
        return 1 if self.ceil_mode else 2 ** len(self.stages)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Features:
        _check_image(image, multiple=self.multiple)

        def convolve(x, stage, channels):
            for j, features in enumerate(channels, start=1):
                x = ConvNormAct(
                    features,
                    self.kernel_size,
                    norm=self.norm,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"conv{stage}_{j}",
                )(x, train=train)
            return x

        def drop(x):
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        maps, pooled, switches = {}, {}, {}
        x = image.astype(self.dtype)
        for i, channels in enumerate(self.stages, start=1):
            x = convolve(x, i, channels)
            if i == len(self.stages):
                x = drop(x)
            stride = 2**i
            maps[stride // 2] = x
            x, switches[stride] = max_pool_with_switches(x, ceil_mode=self.ceil_mode)
            pooled[stride] = x
        if self.bottleneck:
            x = drop(convolve(x, len(self.stages) + 1, self.bottleneck))
        maps[stride] = x
        return Features(maps=maps, pooled=pooled, switches=switches)


def _check_image(image: jax.Array, *, multiple: int) -> None:
    if image.ndim != 4 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            "image must be a normalised float array [b h w c], got "
            f"{image.dtype} {list(image.shape)}"
        )
    _, height, width, _ = image.shape
    if height % multiple or width % multiple or not height or not width:
        raise InputError(
            f"image is {height}x{width} pixels, but this network needs both sides "
            f"to be positive multiples of {multiple}: pad or crop it"
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


def unet(*, width: float = 1.0, norm: bool = False, **options) -> PooledEncoder:
    """U-Net's contracting path: 64, 128, 256, 512, then 1024 without pooling.

    Source: U-Net (arXiv 1505.04597), figure 1. Without batch normalisation, as in
    the paper, unless `norm`. Differs from the paper: same instead of valid padding, so output and input have the
    same size; dropout only if asked for (the paper gives no rate).
    """
    stages = tuple(scale_channels((c, c), width) for c in (64, 128, 256, 512))
    return PooledEncoder(
        stages,
        bottleneck=scale_channels((1024, 1024), width),
        norm=norm,
        ceil_mode=False,
        **options,
    )
