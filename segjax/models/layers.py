"""Layers used by two or more architectures."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.ad_checkpoint import checkpoint_name

from segjax.errors import InputError
from segjax.ops.class_scores import class_scores
from segjax.ops.convolution import conv_general_dilated
from segjax.ops.resampling import bilinear_kernel
from segjax.ops.transposed_convolution import conv_transpose

Padding = Literal["SAME", "VALID"]

Remat = Literal["none", "blocks"]
"""What the backward pass computes again instead of keeping it: nothing, or all maps
inside of a block, of which only the input is kept. A block is what lies between two
changes of resolution. The gradient and the parameters' names are the same."""


def run_block(
    function: Callable[[nn.Module, jax.Array], Any],
    module: nn.Module,
    x: jax.Array,
    *,
    remat: Remat,
) -> Any:
    """`function(module, x)`, which makes submodules of `module`, as a block."""
    if remat not in ("none", "blocks"):
        raise InputError(f"remat is {remat!r}, expected none or blocks")
    return (nn.remat(function) if remat == "blocks" else function)(module, x)


def run_level(
    function: Callable[[nn.Module, jax.Array], Any],
    module: nn.Module,
    x: jax.Array,
    *,
    remat: Remat,
) -> Any:
    """`run_block` for a decoder's level: enlarge, join, `ConvNormAct`.

    Without `remat`, too, the backward pass enlarges and joins again: only what
    `ConvNormAct` convolved is kept. The enlarged map is among the largest there are, and
    cheap.
    """
    if remat == "none":
        return nn.remat(function, policy=_is_kept)(module, x)
    return run_block(function, module, x, remat=remat)


_CONVOLVED = "convolved"


def _is_kept(primitive, *inputs, **parameters):
    if primitive.name == "name":
        return parameters["name"] == _CONVOLVED
    # Statistics of the channels, which take a pass over the map or all devices.
    if primitive.name == "reduce_sum":
        return inputs[0].ndim - len(parameters["axes"]) == 1
    return primitive.name == "psum"


def check_maps(name: str, x: jax.Array, shape: str) -> None:
    """Raises InputError unless `x` is floating point and has four axes."""
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            f"{name} must be a normalised float array {shape}, got "
            f"{x.dtype} {list(x.shape)}"
        )


def he_normal(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Normal with variance 2 / (inputs of one output): `[kh kw c_in c_out]`.

    Source: He et al. (arXiv 1502.01852); the "msra" filler of the SegNet prototxts
    and the N(0, sqrt(2/N)) of U-Net (arXiv 1505.04597, section 3). Not truncated.
    """
    # Drawn flat: the same numbers, and XLA compiles it ten times faster on CPU.
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return flat.reshape(shape) * math.sqrt(2.0 / math.prod(shape[:-1]))


def bilinear_init(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Start of a transposed convolution as bilinear interpolation: `[k k c c]`.

    Every channel is mapped to itself. Source: FCN (arXiv 1411.4038), section 4.3.
    """
    del key
    kernel_size, _, channels, _ = shape
    return bilinear_kernel(kernel_size, channels, dtype=dtype)


# A convolution with bias and same padding. The parameters are those of `nn.Conv`; the
# weight gradient is the platform's fastest.
Conv = functools.partial(
    nn.Conv,
    padding="SAME",
    kernel_init=he_normal,
    conv_general_dilated=conv_general_dilated,
)


class Classifier(nn.Module):
    """1x1 convolution to float32 class scores: `[b h w c] -> [b h w num_classes]`.

    Parameters and numbers are those of `Conv(num_classes, (1, 1))` on `x` in float32.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1, 1, x.shape[-1], self.num_classes)
        kernel = self.param("kernel", he_normal, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        return class_scores(x, kernel[0, 0]) + bias.reshape(1, 1, 1, -1)


def _promote_constant_bias(x, kernel, bias, *, dtype):
    return promote_dtype(x, kernel, jax.lax.stop_gradient(bias), dtype=dtype)


class ConvNormAct(nn.Module):
    """Convolution, then batch normalisation and activation, each optional.

    `[b h w c] -> [b h' w' features]`. Batch statistics are float32 whatever
    `dtype` is; `axis_name` synchronises them over a pmapped axis. They take the
    convolution's bias out again, so its gradient is 0, and here exactly so, without the
    pass over the map that its rounding errors would cost.

    With `padding` "SAME" the output has the input's size divided by `stride`,
    rounded up; `kernel_size - 1` zeros are put around the input, half of them on
    each side, whatever its size (PyTorch's padding `(kernel_size - 1) / 2`). "VALID"
    puts none, so `kernel_size - 1` rows and columns are lost before striding. `groups`
    splits the channels; as many groups as channels make it depthwise.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    groups: int = 1
    padding: Padding = "SAME"
    norm: bool = True
    activation: Callable[[jax.Array], jax.Array] | None = nn.relu
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        kernel = (self.kernel_size, self.kernel_size)
        # XLA's own "SAME" depends on the input's size where the stride is not 1.
        around = ((self.kernel_size - 1) // 2, self.kernel_size // 2)
        x = Conv(
            self.features,
            kernel,
            strides=self.stride,
            feature_group_count=self.groups,
            padding={"SAME": [around, around], "VALID": "VALID"}[self.padding],
            dtype=self.dtype,
            promote_dtype=(
                _promote_constant_bias if self.norm and train else promote_dtype
            ),
            name="conv",
        )(x)
        x = checkpoint_name(x, _CONVOLVED)
        if self.norm:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name="bn",
            )(x)
        return x if self.activation is None else self.activation(x)


class ConvTranspose(nn.Module):
    """Transposed convolution, PyTorch's arithmetic.

    `[b h w c] -> [b H W features]` with
    `H = (h - 1) * stride - 2 * padding + kernel_size`.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int = 0
    use_bias: bool = True
    kernel_init: Callable = he_normal
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = conv_transpose(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return x
