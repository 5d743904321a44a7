"""Convolutions with XLA's results and, on CPU, faster gradients.

XLA's CPU backend computes the weight gradient of a convolution several times slower
than the convolution itself. The function here says the same arithmetic in a form that
it handles well. Other platforms get XLA's own form: the choice is made when the program
is lowered, so one traced program serves all of them.

It defines its own reverse-mode derivative (`jax.grad`, `jax.vjp`); like every such
function in JAX it has no forward mode (`jax.jvp`), and it runs in `jax.jit`,
`jax.vmap`, `jax.pmap` and, with `check_vma=False`, `jax.shard_map`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops import depthwise

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
# Below these sizes of a kernel, and of the wider factor of its matrix product, a block
# does too little arithmetic for what copying its columns costs, and XLA's own weight
# gradient is the faster one. Both were found by measurement.
_MIN_WEIGHTS = 4096
_MIN_COLUMNS = 128
# Positions in one block of the weight gradient: few enough for its columns to stay
# in cache, enough for the matrix product to dominate.
_BLOCK_POSITIONS = 2048


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision=None,
    preferred_element_type=None,
    out_sharding=None,
) -> jax.Array:
    """Does what `jax.lax.conv_general_dilated` does, with a faster gradient on CPU.

    The arguments are those of the original, so it can take its place in a layer:
    `nn.Conv(..., conv_general_dilated=convolution.conv_general_dilated)`. The
    output and the gradient of `lhs` are XLA's. On CPU the gradient of `rhs` is
    a sum of matrix products over blocks of columns, equal to XLA's up to the order of
    summation, with sums in at least float32. It is used where it is the faster one:
    2-D convolutions of floating-point `[b h w c]` maps with stride 1, without
    dilation or groups, by 1x1 kernels and by kernels with enough weights (3x3 from 64
    to 64 channels, 7x7 from 3 to 64, but not 3x3 from 3 to 64). Depthwise
    convolutions with stride 1 and one filter a channel, dilated or not, are those of
    `segjax.ops.depthwise`: on CPU the output and both gradients equal XLA's up to
    the order of summation. Everything else is XLA's.

    Args:
      lhs: Maps `[b h w c_in]` (or as `dimension_numbers` says).
      rhs: Kernel `[kh kw c_in c_out]` (or as `dimension_numbers` says).
      window_strides: As in `jax.lax.conv_general_dilated`.
      padding: As there.
      lhs_dilation: As there.
      rhs_dilation: As there.
      dimension_numbers: As there.
      feature_group_count: As there.
      batch_group_count: As there.
      precision: As there.
      preferred_element_type: As there.
      out_sharding: As there.

    Returns:
      What `jax.lax.conv_general_dilated` returns.
    """
    is_ordinary = (
        lhs.ndim == 4
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and lhs.dtype == rhs.dtype
        and dimension_numbers is not None
        and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
        == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _DIMENSION_NUMBERS)
        and batch_group_count == 1
        and preferred_element_type is None
        and out_sharding is None
        and all(
            step == 1
            for steps in (window_strides, lhs_dilation)
            for step in steps or ()
        )
    )
    if is_ordinary:
        dilation = tuple(map(int, rhs_dilation or (1, 1)))
        pads = padding
        if isinstance(padding, str):
            reach = [
                (k - 1) * step + 1
                for k, step in zip(rhs.shape[:2], dilation, strict=True)
            ]
            pads = lax.padtype_to_pads(lhs.shape[1:3], reach, window_strides, padding)
        pads = tuple((int(before), int(after)) for before, after in pads)
        if feature_group_count == 1:
            if dilation == (1, 1) and _weight_gradient_by_columns_wins(rhs.shape, pads):
                return _conv(lhs, rhs, pads, precision)
        elif feature_group_count == lhs.shape[3] and depthwise.is_depthwise(
            lhs.shape, rhs.shape, padding=pads, dilation=dilation
        ):
            return depthwise.depthwise_conv(
                lhs, rhs, padding=pads, dilation=dilation, precision=precision
            )
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )


def _weight_gradient_by_columns_wins(kernel_shape, pads):
    height, width, c_in, c_out = kernel_shape
    is_pointwise = height == width == 1
    is_large = (
        height * width * c_in * c_out >= _MIN_WEIGHTS
        and max(width * c_out, height * c_in) >= _MIN_COLUMNS
    )
    # The blocks assume that every output sees at least one row and column of input.
    return (is_pointwise or is_large) and all(
        0 <= pad < side
        for side, ends in zip((height, width), pads, strict=True)
        for pad in ends
    )


def _xla_conv(x, kernel, pads, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        pads,
        dimension_numbers=_DIMENSION_NUMBERS,
        precision=precision,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, pads, precision):
    return _xla_conv(x, kernel, pads, precision)


def _conv_forward(x, kernel, pads, precision):
    return _xla_conv(x, kernel, pads, precision), (x, kernel)


def _conv_backward(pads, precision, residuals, gradient):
    x, kernel = residuals

    def xla_weight_gradient(x, gradient):
        conv = functools.partial(_xla_conv, x, pads=pads, precision=precision)
        return jax.linear_transpose(conv, kernel)(gradient)[0]

    def weight_gradient_by_columns(x, gradient):
        return _weight_gradient_by_columns(x, gradient, pads, precision)

    (x_gradient,) = jax.linear_transpose(
        lambda v: _xla_conv(v, kernel, pads, precision), x
    )(gradient)
    kernel_gradient = lax.platform_dependent(
        x, gradient, cpu=weight_gradient_by_columns, default=xla_weight_gradient
    )
    return x_gradient, kernel_gradient


_conv.defvjp(_conv_forward, _conv_backward)


def _weight_gradient_by_columns(x, gradient, pads, precision):
    """Sums the weight gradient over blocks of columns, one matrix product in each.

    The gradient of the weight at `(i, j)` is the product of all inputs, shifted by
    `i` rows, and all output gradients, shifted by `-j` columns. So a block needs
    `kh` copies of the inputs and `kw` of the output gradients, side by side in
    the channels, and not the `kh * kw` copies of a full im2col. A block has all rows,
    so that a device which holds some of an image's rows works on those.
    """
    batch, height, width, c_in = x.shape
    _, out_height, out_width, c_out = gradient.shape
    (top, bottom), (left, right) = pads
    is_narrow = jnp.finfo(gradient.dtype).bits < 32
    sum_dtype = jnp.float32 if is_narrow else gradient.dtype
    kernel_height = height + top + bottom - out_height + 1
    kernel_width = width + left + right - out_width + 1

    # A head of few classes: the products of single rows, which are read in place, are
    # small beside the maps.
    if kernel_height == kernel_width == 1 and 4 * c_in * c_out <= width * (
        c_in + c_out
    ):
        factors = (x, gradient) if c_in < c_out else (gradient, x)
        factors = (factor.astype(sum_dtype) for factor in factors)
        rows = jnp.einsum("bhwi,bhwo->bhio", *factors, precision=precision)
        total = rows.sum(axis=(0, 1))
        total = total if c_in < c_out else total.T
        return total[None, None].astype(gradient.dtype)

    columns = max(1, _BLOCK_POSITIONS // max(1, batch * out_height))
    num_blocks = -(-width // columns)
    columns = -(-width // num_blocks)
    # Columns of zeros that complete the last block add nothing to the sum.
    fill = num_blocks * columns - width
    before, after = kernel_width - 1 - left, kernel_width - 1 - right
    x = jnp.pad(x, [(0, 0), (top, bottom), (0, fill), (0, 0)])
    gradient = jnp.pad(gradient, [(0, 0), (0, 0), (before, after + fill), (0, 0)])

    def add_block(total, start):
        inputs = lax.dynamic_slice_in_dim(x, start, columns, axis=2)
        targets = lax.dynamic_slice_in_dim(
            gradient, start, columns + kernel_width - 1, axis=2
        )
        inputs = jnp.concatenate(
            [inputs[:, i : i + out_height] for i in range(kernel_height)], axis=-1
        ).astype(sum_dtype)
        targets = jnp.concatenate(
            [targets[:, :, j : j + columns] for j in reversed(range(kernel_width))],
            axis=-1,
        ).astype(sum_dtype)
        factors = (inputs, targets) if inputs_first else (targets, inputs)
        # No reshape to matrices: it would mix rows, which may lie on several devices.
        product = jnp.einsum("bhwi,bhwo->io", *factors, precision=precision)
        return total + product, None

    # The wider factor goes last: the product is vectorised over its columns.
    inputs_first = kernel_height * c_in < kernel_width * c_out
    shape = (kernel_width * c_out, kernel_height * c_in)
    total, _ = lax.scan(
        add_block,
        jnp.zeros(shape[::-1] if inputs_first else shape, sum_dtype),
        jnp.arange(num_blocks) * columns,
    )
    if inputs_first:
        total = total.T
    total = total.reshape(kernel_width, c_out, kernel_height, c_in)
    return total.transpose(2, 0, 3, 1).astype(gradient.dtype)
