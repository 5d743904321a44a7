"""Transposed convolution with PyTorch's arithmetic and, on CPU, a faster form.

XLA's CPU backend is slower at a strided transposed convolution than even at the weight
gradient of an ordinary one (`segjax.ops.convolution`). There it becomes an ordinary one
whose channels are unfolded to pixels. Other platforms get XLA's own form: the choice is
made when the program is lowered, so one traced program serves all of them. Derivatives,
and what it runs in, are as in that module.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.convolution import conv_general_dilated

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: int = 0,
    output_padding: int = 0,
) -> jax.Array:
    """Transposed convolution: each input pixel adds a copy of the kernel to the output.

    `out[s*i - p + u, s*j - p + v, o] += x[i, j, c] * kernel[u, v, c, o]`, the
    arithmetic of PyTorch's `ConvTranspose2d`: its weight `(c_in, c_out, kh, kw)`
    transposed to `(2, 3, 0, 1)` is this kernel, not flipped. Both sides of the
    output are `(n - 1) * stride - 2 * padding + k + output_padding`.

    Args:
      x: Floating-point maps `[b h w c_in]`.
      kernel: `[kh kw c_in c_out]` in the type of `x`.
      stride: Distance in the output between neighbouring input pixels.
      padding: Rows and columns to cut from all four sides of the output.
      output_padding: Rows and columns to add at its bottom and right.

    Returns:
      Maps `[b h' w' c_out]` in the type of `x`.

    Raises:
      ValueError: The channels of `x` and `kernel` differ, a number is out of
        range, or the output would be empty.
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_type(x, float)
    chex.assert_type(kernel, x.dtype)
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"a kernel of shape {kernel.shape} takes {kernel.shape[2]} channels, "
            f"got maps of shape {x.shape}"
        )
    if stride < 1 or padding < 0 or not 0 <= output_padding < stride:
        raise ValueError(
            "expected stride >= 1, padding >= 0 and 0 <= output_padding < stride, "
            f"got {stride=}, {padding=}, {output_padding=}"
        )
    size = tuple(
        (n - 1) * stride - 2 * padding + k + output_padding
        for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    )
    if any(side < 1 for side in size):
        raise ValueError(
            f"maps of shape {x.shape} and a kernel of shape {kernel.shape} with "
            f"{stride=}, {padding=}, {output_padding=} give an output of "
            f"{size[0]}x{size[1]}"
        )
    if kernel.shape[:2] == (stride, stride) and padding == output_padding == 0:
        return _tiled_conv_transpose(x, kernel, stride, size)
    return _conv_transpose(x, kernel, stride, padding, size)


def _dilated_conv_transpose(x, kernel, stride, padding, size):
    """Spreads the input `stride` apart and convolves it with the turned kernel."""
    pads = [
        (k - 1 - padding, target - (n - 1) * stride - 1 + padding)
        for k, n, target in zip(kernel.shape[:2], x.shape[1:3], size, strict=True)
    ]
    return lax.conv_general_dilated(
        x,
        jnp.flip(kernel, (0, 1)),
        (1, 1),
        pads,
        lhs_dilation=(stride, stride),
        dimension_numbers=_DIMENSION_NUMBERS,
    )


def _subpixel_conv_transpose(x, kernel, stride, padding, size):
    """Convolves to `stride * stride * c_out` channels, then unfolds them to pixels.

    Output row `q * stride + r` is the sum over `t` of input row `q - t` times
    kernel row `t * stride + r`: for each `r` an ordinary convolution.
    """
    batch, height, width, c_in = x.shape
    c_out = kernel.shape[3]
    rows, columns = (-(-k // stride) for k in kernel.shape[:2])
    missing = [rows * stride - kernel.shape[0], columns * stride - kernel.shape[1]]
    kernel = jnp.pad(kernel, [(0, n) for n in (*missing, 0, 0)])
    kernel = kernel.reshape(rows, stride, columns, stride, c_in, c_out)[::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5)
    if rows == columns == 1:
        pixels = jnp.einsum("bhwi,irso->bhrwso", x, kernel[0, 0])
    else:
        folded = conv_general_dilated(
            x,
            kernel.reshape(rows, columns, c_in, -1),
            (1, 1),
            [(rows - 1, rows - 1), (columns - 1, columns - 1)],
            dimension_numbers=_DIMENSION_NUMBERS,
        )
        height, width = folded.shape[1:3]
        pixels = folded.reshape(batch, height, width, stride, stride, c_out)
        pixels = pixels.transpose(0, 1, 3, 2, 4, 5)
    maps = pixels.reshape(batch, height * stride, width * stride, c_out)
    cuts = [
        (-padding, padding + target - side, 0)
        for target, side in zip(size, maps.shape[1:3], strict=True)
    ]
    return lax.pad(maps, jnp.zeros((), maps.dtype), [(0, 0, 0), *cuts, (0, 0, 0)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _tiled_conv_transpose(x, kernel, stride, size):
    """One where the copies of the kernel lie side by side."""
    static = {"stride": stride, "padding": 0, "size": size}
    # Elsewhere the product of matrices is faster; the TPU's compiler writes its result
    # in a layout of its own and copies it, and so with its gradient.
    return lax.platform_dependent(
        x,
        kernel,
        tpu=functools.partial(_dilated_conv_transpose, **static),
        default=functools.partial(_subpixel_conv_transpose, **static),
    )


def _tiled_conv_transpose_forward(x, kernel, stride, size):
    return _tiled_conv_transpose(x, kernel, stride, size), (x, kernel)


def _tiled_conv_transpose_backward(stride, size, residuals, gradient):
    def gradients(function):
        function = functools.partial(function, stride=stride, padding=0, size=size)
        return lambda x, kernel, gradient: jax.vjp(function, x, kernel)[1](gradient)

    return lax.platform_dependent(
        *residuals,
        gradient,
        tpu=gradients(_dilated_conv_transpose),
        default=gradients(_subpixel_conv_transpose),
    )


_tiled_conv_transpose.defvjp(
    _tiled_conv_transpose_forward, _tiled_conv_transpose_backward
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_transpose(x, kernel, stride, padding, size):
    static = {"stride": stride, "padding": padding, "size": size}
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_subpixel_conv_transpose, **static),
        default=functools.partial(_dilated_conv_transpose, **static),
    )


def _conv_transpose_forward(x, kernel, stride, padding, size):
    return _conv_transpose(x, kernel, stride, padding, size), (x, kernel)


def _conv_transpose_backward(stride, padding, size, residuals, gradient):
    x, kernel = residuals

    def kernel_gradient(x, gradient):
        return _subpixel_kernel_gradient(x, gradient, kernel.shape[:2], stride, padding)

    def xla_kernel_gradient(x, gradient):
        return jax.linear_transpose(
            lambda k: _dilated_conv_transpose(x, k, stride, padding, size), kernel
        )(gradient)[0]

    # The input gradient is an ordinary strided convolution, fast on every platform.
    (x_gradient,) = jax.linear_transpose(
        lambda v: _dilated_conv_transpose(v, kernel, stride, padding, size), x
    )(gradient)
    return x_gradient, lax.platform_dependent(
        x, gradient, cpu=kernel_gradient, default=xla_kernel_gradient
    )


def _subpixel_kernel_gradient(x, gradient, kernel_size, stride, padding):
    """The weight gradient of a convolution of the unfolded gradient to `x`.

    Kernel row `t * stride + r` meets input row `i` in row `(i + t) * stride + r` of the
    padded output: among the rows that leave `r`, an ordinary convolution. They are
    taken by strided slices, which a device that holds some of an image's rows can
    do with its neighbours' help; a reshape would need all rows.
    """
    blocks = [-(-k // stride) for k in kernel_size]
    totals = [
        (n + block - 1) * stride for n, block in zip(x.shape[1:3], blocks, strict=True)
    ]
    ends = [
        (padding, total - padding - side, 0)
        for total, side in zip(totals, gradient.shape[1:3], strict=True)
    ]
    gradient = lax.pad(
        gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *ends, (0, 0, 0)]
    )
    unfolded = jnp.concatenate(
        [
            gradient[:, r::stride, q::stride]
            for r in range(stride)
            for q in range(stride)
        ],
        axis=-1,
    )
    folded = jnp.zeros((*blocks, unfolded.shape[-1], x.shape[-1]), x.dtype)
    _, vjp = jax.vjp(
        lambda k: conv_general_dilated(
            unfolded, k, (1, 1), "VALID", dimension_numbers=_DIMENSION_NUMBERS
        ),
        folded,
    )
    folded = vjp(x)[0].reshape(*blocks, stride, stride, gradient.shape[-1], -1)
    kernel = folded.transpose(0, 2, 1, 3, 5, 4)
    kernel = kernel.reshape(*(n * stride for n in blocks), *kernel.shape[-2:])
    return kernel[: kernel_size[0], : kernel_size[1]]


_conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)
