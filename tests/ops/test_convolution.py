import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arrays import assert_close, normal
from jax import lax

from segjax.ops.convolution import conv_general_dilated

NHWC = ("NHWC", "HWIO", "NHWC")


def weight_gradient_by_hand(x, gradient, pads, kernel_size):
    x = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(1, 2))
    return np.einsum(
        "bhwcij,bhwo->ijco", windows, gradient.astype(np.float64), optimize=True
    )


@pytest.mark.parametrize(
    ("shape", "c_out", "kernel_size", "padding"),
    [
        ((2, 23, 50, 32), 48, (3, 3), "SAME"),
        ((2, 23, 50, 48), 32, (3, 3), "VALID"),
        ((1, 45, 60, 16), 24, (7, 7), "SAME"),
        ((4, 23, 30, 24), 16, (7, 7), ((3, 3), (3, 3))),
        ((2, 9, 11, 64), 64, (3, 3), ((2, 0), (1, 2))),
        ((1, 40, 70, 3), 64, (7, 7), "SAME"),
        ((1, 40, 70, 64), 11, (1, 1), "SAME"),
        ((2, 7, 9, 5), 6, (1, 1), "VALID"),
        ((2, 7, 40, 5), 6, (1, 1), "VALID"),
        ((2, 20, 61, 40), 40, (2, 2), ((1, 1), (1, 1))),
        ((2, 20, 61, 40), 40, (1, 5), "SAME"),
        ((2, 1, 1, 64), 64, (3, 3), "SAME"),
        # Few channels, or padding beyond the kernel: XLA's own form.
        ((2, 9, 11, 3), 4, (3, 3), "SAME"),
        ((1, 9, 11, 64), 64, (3, 3), ((3, 3), (4, 4))),
        ((1, 9, 11, 64), 64, (3, 3), ((-1, 0), (0, 1))),
    ],
)
def test_convolution_and_gradients(shape, c_out, kernel_size, padding):
    x, kernel = normal(*shape), normal(*kernel_size, shape[3], c_out, seed=1)

    def convolve(convolution, x, kernel):
        return convolution(x, kernel, (1, 1), padding, dimension_numbers=NHWC)

    output_shape = jax.eval_shape(
        functools.partial(convolve, lax.conv_general_dilated), x, kernel
    ).shape
    weights = normal(*output_shape, seed=2)

    @functools.partial(jax.jit, static_argnums=0)
    def run(convolution, x, kernel, weights):
        output, vjp = jax.vjp(functools.partial(convolve, convolution), x, kernel)
        return output, *vjp(weights)

    output, x_gradient, kernel_gradient = run(conv_general_dilated, x, kernel, weights)
    expected, x_expected, kernel_expected = run(
        lax.conv_general_dilated, x, kernel, weights
    )
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(x_gradient, x_expected)
    assert_close(kernel_gradient, kernel_expected)
    pads = padding
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(shape[1:3], kernel_size, (1, 1), padding)
    if min(min(pad) for pad in pads) >= 0:
        by_hand = weight_gradient_by_hand(x, weights, pads, kernel_size)
        assert_close(kernel_gradient, by_hand)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"strides": (1, 2), "padding": "VALID"},
        {"kernel_dilation": 2},
        {"input_dilation": 2, "padding": 1},
        {"feature_group_count": 4},
        {"padding": "CIRCULAR"},
        {"padding": "REFLECT"},
        {"padding": 2},
        {"use_bias": False, "dtype": jnp.float32},
    ],
)
def test_a_flax_layer_takes_it_in_place_of_the_original(options):
    x = normal(2, 9, 10, 64)
    layer = functools.partial(nn.Conv, 64, (3, 3), **options)
    variables = layer().init(jax.random.key(0), x)

    def loss(variables, layer):
        return (layer.apply(variables, x) ** 2).sum()

    ours = layer(conv_general_dilated=conv_general_dilated)
    run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    value, gradient = run(variables, ours)
    expected_value, expected_gradient = run(variables, layer())
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    jax.tree.map(assert_close, gradient, expected_gradient)


def test_other_layouts_and_dimensions_are_left_to_xla():
    x, kernel = normal(2, 64, 8, 9), normal(64, 64, 3, 3)
    np.testing.assert_array_equal(
        conv_general_dilated(x, kernel, (1, 1), "SAME"),
        lax.conv_general_dilated(x, kernel, (1, 1), "SAME"),
    )
    x, kernel = normal(2, 9, 4), normal(3, 4, 5)
    layout = ("NWC", "WIO", "NWC")
    np.testing.assert_array_equal(
        conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=layout),
        lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=layout),
    )


def weight_gradient_program(channels, kernel_size):
    x = jax.ShapeDtypeStruct((1, 23, 30, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((*kernel_size, channels, channels), jnp.float32)
    loss = lambda k, x: conv_general_dilated(  # noqa: E731
        x, k, (1, 1), "SAME", dimension_numbers=NHWC
    ).sum()
    return jax.jit(jax.grad(loss)).trace(kernel, x)


@pytest.mark.parametrize("kernel_size", [(3, 3), (7, 7)])
def test_the_matrix_product_is_chosen_for_many_channels_on_cpu_only(kernel_size):
    traced = weight_gradient_program(64, kernel_size)
    product = "stablehlo.dot_general"
    assert product in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert product not in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert product not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_the_matrix_product_is_chosen_inside_a_flax_layer():
    layer = nn.Conv(64, (3, 3), conv_general_dilated=conv_general_dilated)
    x = jnp.zeros((1, 6, 7, 64))
    variables = layer.init(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda variables: layer.apply(variables, x).sum()))
    assert "dot_general" in gradient.lower(variables).as_text()


def test_an_empty_batch_has_a_gradient_of_zero():
    x, kernel = jnp.zeros((0, 6, 7, 64)), jnp.ones((3, 3, 64, 64))
    gradient = jax.grad(
        lambda k: conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=NHWC
        ).sum()
    )(kernel)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(kernel))


def test_the_matrix_product_is_not_chosen_for_few_channels():
    traced = weight_gradient_program(3, (3, 3))
    assert "dot_general" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_bfloat16_weight_gradients_are_summed_in_float32(variant, kernel_size):
    # Each weight of a valid convolution of ones sums one product for each of the
    # 2 * 30 * 40 output pixels; a sum in bfloat16 would stop at 256.
    size = (30 + kernel_size - 1, 40 + kernel_size - 1)
    x = jnp.ones((2, *size, 64), jnp.bfloat16)
    kernel = jnp.ones((kernel_size, kernel_size, 64, 64), jnp.bfloat16)
    function = variant(
        lambda k: conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=NHWC)
    )
    output, vjp = jax.vjp(function, kernel)
    (gradient,) = vjp(jnp.ones_like(output))
    assert gradient.dtype == jnp.bfloat16
    assert gradient.shape == kernel.shape
    np.testing.assert_array_equal(gradient, jnp.bfloat16(2400))


def test_bfloat16_equals_float32_up_to_the_final_rounding():
    x = normal(2, 20, 60, 40).astype(jnp.bfloat16)
    weights = normal(2, 20, 60, 48, seed=1).astype(jnp.bfloat16)
    kernel = normal(3, 3, 40, 48, seed=2).astype(jnp.bfloat16)
    _, vjp = jax.vjp(
        lambda k: conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC),
        kernel,
    )
    expected = weight_gradient_by_hand(x, weights, [(1, 1), (1, 1)], (3, 3))
    (gradient,) = vjp(jnp.asarray(weights))
    # Half a unit in the last of bfloat16's 8 bits, and float32 noise.
    np.testing.assert_allclose(
        np.asarray(gradient, np.float64), expected, rtol=2**-8, atol=1e-3
    )


def test_vmap_over_kernels_and_maps():
    x, kernel = normal(3, 1, 8, 9, 64), normal(3, 3, 3, 64, 64, seed=1)

    def gradient(convolve, x, kernel):
        loss = lambda k: (  # noqa: E731
            convolve(x, k, (1, 1), "SAME", dimension_numbers=NHWC) ** 2
        ).sum()
        return jax.grad(loss)(kernel)

    assert_close(
        jax.jit(jax.vmap(functools.partial(gradient, conv_general_dilated)))(x, kernel),
        jax.vmap(functools.partial(gradient, lax.conv_general_dilated))(x, kernel),
    )
