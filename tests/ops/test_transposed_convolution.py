import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arrays import assert_close, normal
from jax import lax

from segjax.ops.convolution import conv_general_dilated
from segjax.ops.transposed_convolution import conv_transpose

NHWC = ("NHWC", "HWIO", "NHWC")


def conv_transpose_by_hand(x, kernel, stride, padding, output_padding):
    """Adds one copy of the kernel for each input pixel."""
    (batch, height, width, _), (kh, kw, _, c_out) = x.shape, kernel.shape
    full = np.zeros(
        (
            batch,
            (height - 1) * stride + kh + output_padding,
            (width - 1) * stride + kw + output_padding,
            c_out,
        )
    )
    for i, j in np.ndindex(height, width):
        copies = np.einsum("bc,uvco->buvo", x[:, i, j], kernel.astype(np.float64))
        rows = slice(i * stride, i * stride + kh)
        full[:, rows, j * stride : j * stride + kw] += copies
    end = -padding or None
    return full[:, padding:end, padding:end]


def test_the_lecture_example_of_a_convolution_and_its_transpose(variant):
    image = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    kernel = np.float32([[1, 2], [3, 4]])
    # One row for each output pixel, one column for each input pixel.
    matrix = np.float32(
        [
            [1, 2, 0, 3, 4, 0, 0, 0, 0],
            [0, 1, 2, 0, 3, 4, 0, 0, 0],
            [0, 0, 0, 1, 2, 0, 3, 4, 0],
            [0, 0, 0, 0, 1, 2, 0, 3, 4],
        ]
    )
    convolve = variant(
        lambda x, k: conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=NHWC)
    )
    output = convolve(image[None, :, :, None], kernel[:, :, None, None])
    np.testing.assert_array_equal(output[0, :, :, 0], [[37, 47], [67, 77]])
    np.testing.assert_array_equal(matrix @ image.ravel(), [37, 47, 67, 77])

    small = np.float32([[1, 0], [2, 1]])
    expected = [[1, 2, 0], [5, 9, 2], [6, 11, 4]]
    output = variant(lambda x, k: conv_transpose(x, k, stride=1))(
        small[None, :, :, None], kernel[:, :, None, None]
    )
    np.testing.assert_array_equal(output[0, :, :, 0], expected)
    np.testing.assert_array_equal(
        (matrix.T @ small.ravel()).reshape(3, 3), np.float32(expected)
    )


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding", "output_padding"),
    [
        ((2, 2), 2, 0, 0),
        ((3, 3), 3, 0, 0),
        ((2, 2), 2, 1, 0),
        ((2, 2), 2, 0, 1),
        ((4, 4), 2, 1, 0),
        ((4, 4), 2, 0, 0),
        ((4, 4), 2, 3, 1),
        ((8, 8), 2, 3, 0),
        ((16, 16), 8, 4, 0),
        ((16, 16), 8, 0, 0),
        ((6, 6), 3, 1, 2),
        ((3, 3), 1, 1, 0),
        ((1, 1), 1, 0, 0),
        ((3, 3), 2, 1, 1),
        ((3, 3), 2, 0, 0),
        ((5, 5), 3, 2, 2),
        ((1, 1), 2, 0, 0),
        ((1, 1), 2, 0, 1),
        ((2, 2), 3, 1, 0),
        ((2, 4), 2, 1, 0),
        ((3, 2), 2, 0, 1),
    ],
)
def test_transposed_convolution_equals_adding_up_kernels(
    kernel_size, stride, padding, output_padding
):
    x, kernel = normal(2, 3, 5, 4), normal(*kernel_size, 4, 3, seed=1)
    height = (3 - 1) * stride - 2 * padding + kernel_size[0] + output_padding
    width = (5 - 1) * stride - 2 * padding + kernel_size[1] + output_padding
    weights = normal(2, height, width, 3, seed=2)

    @jax.jit
    def run(x, kernel, weights):
        function = functools.partial(
            conv_transpose,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
        )
        output, vjp = jax.vjp(function, x, kernel)
        return output, *vjp(weights)

    output, x_gradient, kernel_gradient = run(x, kernel, weights)
    expected = conv_transpose_by_hand(x, kernel, stride, padding, output_padding)
    assert_close(output, expected)

    # The function is linear in each argument, so its gradient is its matrix's rows.
    by_hand = functools.partial(
        conv_transpose_by_hand,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
    )
    one_hot = lambda like: np.eye(like.size, dtype=np.float32).reshape(  # noqa: E731
        -1, *like.shape
    )
    x_expected = [(by_hand(e, kernel) * weights).sum() for e in one_hot(x)]
    assert_close(x_gradient, np.reshape(x_expected, x.shape))
    if kernel.size <= 200:
        kernel_expected = [(by_hand(x, e) * weights).sum() for e in one_hot(kernel)]
        assert_close(kernel_gradient, np.reshape(kernel_expected, kernel.shape))


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding", "channels"),
    [(4, 2, 1, (40, 48)), (16, 8, 4, (5, 5)), (2, 2, 0, (32, 16)), (3, 2, 1, (40, 8))],
)
def test_transposed_convolution_is_the_same_on_every_platform(
    kernel_size, stride, padding, channels
):
    x = normal(2, 23, 15, channels[0])
    kernel = normal(kernel_size, kernel_size, *channels, seed=1)

    def xla(x, kernel):
        pad = kernel_size - 1 - padding
        return lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(pad, pad)] * 2,
            lhs_dilation=(stride, stride),
            dimension_numbers=NHWC,
        )

    def ours(x, kernel):
        return conv_transpose(x, kernel, stride=stride, padding=padding)

    @functools.partial(jax.jit, static_argnums=0)
    def run(function, x, kernel):
        output, vjp = jax.vjp(function, x, kernel)
        return output, *vjp(jnp.sin(output))

    jax.tree.map(assert_close, run(ours, x, kernel), run(xla, x, kernel))


def test_flax_turns_its_kernel_by_180_degrees():
    x = normal(2, 7, 9, 8)
    layer = nn.ConvTranspose(4, (2, 2), (2, 2), use_bias=False)
    variables = layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"][::-1, ::-1]
    assert_close(
        conv_transpose(x, kernel, stride=2), jax.jit(layer.apply)(variables, x)
    )


def test_transposed_convolution_in_bfloat16(variant):
    x = normal(1, 5, 6, 8).astype(jnp.bfloat16)
    kernel = normal(4, 4, 8, 3, seed=1).astype(jnp.bfloat16)
    function = variant(lambda x, k: conv_transpose(x, k, stride=2, padding=1))
    output, vjp = jax.vjp(function, x, kernel)
    assert output.dtype == jnp.bfloat16
    assert [g.dtype for g in vjp(output)] == [jnp.bfloat16] * 2
    expected = conv_transpose_by_hand(x.astype(np.float32), kernel, 2, 1, 0)
    assert_close(output.astype(np.float32), expected, 2**-7)


def test_transposed_convolution_that_makes_no_sense():
    x, kernel = jnp.zeros((1, 3, 3, 4)), jnp.zeros((2, 2, 4, 5))
    with pytest.raises(ValueError, match=r"\(2, 2, 4, 5\) takes 4 .*\(1, 3, 3, 3\)"):
        conv_transpose(x[..., :3], kernel, stride=2)
    with pytest.raises(ValueError, match="output_padding=2"):
        conv_transpose(x, kernel, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="stride=0"):
        conv_transpose(x, kernel, stride=0)
    with pytest.raises(ValueError, match="0x0"):
        conv_transpose(x, kernel, stride=2, padding=3)
    with pytest.raises(AssertionError):
        conv_transpose(x, kernel.astype(jnp.bfloat16), stride=2)
