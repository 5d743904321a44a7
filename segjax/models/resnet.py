"""ResNet-50 and -101 as encoders, with dilation in place of late strides."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.encoders import scale_channels
from segjax.models.features import Features
from segjax.models.layers import Conv, Remat, check_maps, run_block

# Blocks in each of the four layers.
RESNET50 = (3, 4, 6, 3)
RESNET101 = (3, 4, 23, 3)
# What the last convolution of a block widens to.
_EXPANSION = 4


class ResNet(nn.Module):
    """A residual network of bottleneck blocks, without its classifier.

    Maps an image `[b h w c]` (normalised, float) of any size to `Features`: `maps[1]` is
    the image, `maps[2]` the first convolution's map, `maps[4]` and on the last map at
    that stride. Sides are divided by strides, rounded up. There are no switches: it
    halves by strides, and by a 3x3 max-pooling, whose windows overlap. `pooled[s]`, which
    FCN's skips read, is `maps[s]`.

    Names follow torchvision's: `conv1`, `bn1`, `layer1_0/conv1` (torchvision's
    `layer1.0.conv1`) and on; `downsample_conv` and `downsample_bn` are its `downsample`.

    Source: He et al. (arXiv 1512.03385), table 1 and figure 5, in torchvision's form: the
    stride is in a block's 3x3 convolution and not in its first 1x1 ("v1.5"). An output
    stride of 16 or 8 gives up the strides of the last layers for dilation: with 8, layer
    3 has dilation 2 and layer 4 has 4, the first block of each that of the layer before
    (torchvision's `replace_stride_with_dilation`). Without classifier it has 23,508,032
    parameters with 50 layers and 42,500,160 with 101.

    Attributes:
      blocks: in each of the four layers, e.g. RESNET50.
      output_stride: of the deepest map: 32, 16 or 8.
      width: factor on every number of channels.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: pmapped axis over which batch statistics are synchronised.
      remat: what the backward pass computes again; a layer is a block.
    """

    blocks: tuple[int, int, int, int]
    output_stride: int = 32
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: Remat = "none"

    @property
    def max_stride(self) -> int:
        """Stride of the deepest map."""
        return self.output_stride

    @property
    def margin(self) -> int:
        """Pixels of the image that the deepest map does not cover: none."""
        return 0

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest image whose maps cover `size`: itself."""
        return tuple(max(1, side) for side in size)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Features:
        if self.output_stride not in (8, 16, 32):
            raise InputError(
                f"ResNet's output stride is {self.output_stride}: expected 32, 16 or 8"
            )
        check_maps("image", image, "[b h w c]")
        convolve = partial(
            _convolve, train=train, dtype=self.dtype, axis_name=self.axis_name
        )

        def layer(_, x, number, channels, stride, dilations):
            for i, dilation in enumerate(dilations):
                x = Bottleneck(
                    channels,
                    stride=stride if i == 0 else 1,
                    dilation=dilation,
                    project=i == 0,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"layer{number}_{i}",
                )(x, train=train)
            return x

        maps = {1: image}
        (channels,) = scale_channels((64,), self.width)
        x = convolve(image.astype(self.dtype), channels, 7, "1", stride=2)
        maps[2] = x = nn.relu(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        reached, dilation = 4, 1
        for number, count in enumerate(self.blocks, start=1):
            wanted = 1 if number == 1 else 2
            before = dilation
            if reached * wanted > self.output_stride:
                dilation, stride = dilation * wanted, 1
            else:
                stride = wanted
            reached *= stride
            (channels,) = scale_channels((64 * 2 ** (number - 1),), self.width)
            function = partial(
                layer,
                number=number,
                channels=channels,
                stride=stride,
                dilations=(before, *[dilation] * (count - 1)),
            )
            maps[reached] = x = run_block(function, self, x, remat=self.remat)
        pooled = {stride: m for stride, m in maps.items() if stride > 1}
        return Features(maps=maps, pooled=pooled, switches={})


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around which the input is added.

    `[b h w c]` to `[b h/stride w/stride 4 * channels]`, batch normalisation after every
    convolution, ReLU after the first two and after the sum.

    Attributes:
      channels: of the first two convolutions.
      stride: of the 3x3 convolution.
      dilation: likewise.
      project: whether the input is brought to the output's shape by a 1x1 convolution.
      dtype: of the computation.
      axis_name: pmapped axis over which batch statistics are synchronised.
    """

    channels: int
    stride: int
    dilation: int
    project: bool
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        convolve = partial(
            _convolve, train=train, dtype=self.dtype, axis_name=self.axis_name
        )
        wide = _EXPANSION * self.channels
        around = x
        if self.project:
            around = convolve(x, wide, 1, "", stride=self.stride, prefix="downsample_")
        x = nn.relu(convolve(x, self.channels, 1, "1"))
        x = convolve(
            x, self.channels, 3, "2", stride=self.stride, dilation=self.dilation
        )
        x = convolve(nn.relu(x), wide, 1, "3")
        return nn.relu(x + around)


def _convolve(
    x,
    features,
    kernel_size,
    name,
    *,
    train,
    dtype,
    axis_name,
    stride=1,
    dilation=1,
    prefix="",
):
    """Convolution without bias and batch normalisation: `conv{name}` and `bn{name}`."""
    padding = dilation * (kernel_size - 1) // 2
    x = Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        kernel_dilation=dilation,
        padding=padding,
        use_bias=False,
        dtype=dtype,
        name=f"{prefix}conv{name}",
    )(x)
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name,
        name=f"{prefix}bn{name}",
    )(x)
