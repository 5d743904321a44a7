"""Depthwise convolution, in a form of its own on CPU.

XLA's CPU backend takes many times longer for a depthwise convolution and its gradients
than the arithmetic needs. Here it is said as a few loops that XLA vectorises.
Other platforms get XLA's own convolution: the choice is made when the program is
lowered, so one traced program serves all of them.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
# Products that the weight gradient adds up before it stores a sum: with fewer it waits
# for memory, with more it is no faster. Found by measurement.
_ROWS_PER_SUM = 8


def is_depthwise(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
) -> bool:
    """Whether `depthwise_conv` takes these shapes.

    True for maps `[b h w c]` and a kernel `[kh kw 1 c]`, positive dilation and an
    output that is not empty.
    """
    if len(x_shape) != 4 or len(kernel_shape) != 4:
        return False
    size = _output_size(x_shape, kernel_shape, padding, dilation)
    return kernel_shape[2:] == (1, x_shape[3]) and all(
        n > 0 for n in (*x_shape, *kernel_shape, *dilation, *size)
    )


# Compiled as a whole: called outside of `jax.jit`, the choice of the platform alone
# would compile both forms.
@functools.partial(jax.jit, static_argnames=("padding", "dilation", "precision"))
def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int] = (1, 1),
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolves every channel with its own filter, stride 1.

    The sum over `i, j` of `x[y + i * dy, x + j * dx, c] * kernel[i, j, 0, c]` on
    the padded maps: `jax.lax.conv_general_dilated` with as many groups as channels.
    On CPU the output and both gradients equal XLA's up to the order of summation, with
    sums in at least float32. It defines its own reverse-mode derivative and has no
    forward mode.

    Used by the single-channel decoder of SegNet (arXiv 1511.00561), section 3.1.

    Args:
      x: Floating-point maps `[b h w c]`.
      kernel: `[kh kw 1 c]` in the type of `x`.
      padding: Rows of zeros above and below, columns left and right; negative numbers
        cut.
      dilation: Distance in the maps between neighbouring weights, `(dy, dx)`.
      precision: Of XLA's convolution, where that is used. On CPU nothing is rounded
        before the sum.

    Returns:
      Maps `[b h' w' c]` in the type of `x`, with
      `h' = h + above + below - (kh - 1) * dy` and `w'` likewise.

    Raises:
      ValueError: The channels of `x` and `kernel` differ, a dilation is not
        positive, or the output would be empty.
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_type(x, float)
    chex.assert_type(kernel, x.dtype)
    if not is_depthwise(x.shape, kernel.shape, padding=padding, dilation=dilation):
        raise ValueError(
            "expected maps [b h w c], a kernel [kh kw 1 c], dilation >= 1 and an "
            f"output that is not empty, got {x.shape}, {kernel.shape}, {padding=} and "
            f"{dilation=}"
        )
    return _conv(x, kernel, padding, dilation, precision)


def _output_size(x_shape, kernel_shape, padding, dilation):
    return tuple(
        side + sum(ends) - (taps - 1) * step
        for side, taps, ends, step in zip(
            x_shape[1:3], kernel_shape[:2], padding, dilation, strict=True
        )
    )


def _xla_conv(x, kernel, padding, dilation, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        padding,
        rhs_dilation=dilation,
        dimension_numbers=_DIMENSION_NUMBERS,
        feature_group_count=x.shape[3],
        precision=precision,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, padding, dilation, precision):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_sum_of_taps, padding=padding, dilation=dilation),
        default=functools.partial(
            _xla_conv, padding=padding, dilation=dilation, precision=precision
        ),
    )


def _conv_forward(x, kernel, padding, dilation, precision):
    return _conv(x, kernel, padding, dilation, precision), (x, kernel)


def _conv_backward(padding, dilation, precision, residuals, gradient):
    x, kernel = residuals
    xla_conv = functools.partial(
        _xla_conv, padding=padding, dilation=dilation, precision=precision
    )
    # The input gradient is the convolution of the output's by the turned kernel.
    turned_padding = tuple(
        tuple((taps - 1) * step - end for end in ends)
        for taps, ends, step in zip(kernel.shape[:2], padding, dilation, strict=True)
    )

    def x_gradient(gradient, kernel):
        return _sum_of_taps(
            gradient, jnp.flip(kernel, (0, 1)), turned_padding, dilation
        )

    def xla_x_gradient(gradient, kernel):
        return jax.linear_transpose(lambda v: xla_conv(v, kernel), x)(gradient)[0]

    def kernel_gradient(gradient, x):
        return _weight_gradient(x, gradient, kernel.shape[:2], padding, dilation)

    def xla_kernel_gradient(gradient, x):
        return jax.linear_transpose(lambda k: xla_conv(x, k), kernel)(gradient)[0]

    return (
        lax.platform_dependent(
            gradient, kernel, cpu=x_gradient, default=xla_x_gradient
        ),
        lax.platform_dependent(
            gradient, x, cpu=kernel_gradient, default=xla_kernel_gradient
        ),
    )


_conv.defvjp(_conv_forward, _conv_backward)


def _sum_of_taps(x, kernel, padding, dilation):
    """Adds one shifted copy of the maps for each weight, a row of weights at a time.

    A row's products and additions are one vectorised loop over the maps. A loop over
    the rows, and not all weights at once, keeps compiling short.
    """
    kernel_height, kernel_width, _, channels = kernel.shape
    height, width = _output_size(x.shape, kernel.shape, padding, dilation)
    size = (x.shape[0], height, width, channels)
    sum_dtype = _sum_dtype(x)
    maps, weights = _pad(x, padding).astype(sum_dtype), kernel.astype(sum_dtype)

    def add_row(i, total):
        return total + sum(
            lax.dynamic_slice(maps, (0, i * dilation[0], j * dilation[1], 0), size)
            * lax.dynamic_slice(weights, (i, j, 0, 0), (1, 1, 1, channels))
            for j in range(kernel_width)
        )

    total = lax.fori_loop(0, kernel_height, add_row, jnp.zeros(size, sum_dtype))
    return total.astype(x.dtype)


def _weight_gradient(x, gradient, kernel_size, padding, dilation):
    """Sums, one weight at a time, input times output gradient over all positions.

    Both are cut into blocks of rows. Adding the products of the blocks element by
    element is a vectorised loop that stores little, and a product with ones, which
    XLA does not fuse with it, adds up what it leaves. XLA's own reduction over all
    positions is not vectorised.
    """
    batch, height, width, channels = gradient.shape
    rows = -(-height // _ROWS_PER_SUM)
    starts = range(0, height, rows)
    # Rows of zeros that complete the last block add nothing to the sum.
    fill = len(starts) * rows - height
    (above, below), columns = padding
    sum_dtype = _sum_dtype(x)

    def lines(maps, padding):
        # Columns and channels in one axis: shorter to compile, and as fast.
        maps = _pad(maps, padding).astype(sum_dtype)
        return maps.reshape(*maps.shape[:2], -1)

    maps = lines(x, ((above, below + fill), columns))
    targets = lines(gradient, ((0, fill), (0, 0)))

    def weight_gradient(_, tap):
        down, right = tap
        size = (batch, rows, width * channels)
        total = sum(
            lax.dynamic_slice(maps, (0, down + start, right * channels), size)
            * targets[:, start : start + rows]
            for start in starts
        )
        # Images stay apart, so that a batch split over devices is added up only once.
        ones = jnp.ones((batch, 1, rows * width), sum_dtype)
        sums = jnp.matmul(
            ones, total.reshape(batch, -1, channels), precision=lax.Precision.HIGHEST
        )
        return None, sums

    # Constants: what the loop reads need not be computed by the program.
    taps = np.indices(kernel_size).reshape(2, -1)
    shifts = taps * np.array(dilation)[:, None]
    _, sums = lax.scan(weight_gradient, None, tuple(shifts))
    return sums.sum((1, 2)).reshape(*kernel_size, 1, channels).astype(gradient.dtype)


def _pad(x, padding):
    config = [(0, 0, 0), *((*ends, 0) for ends in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _sum_dtype(x):
    return jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
