import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arrays import assert_close, normal
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax import costs
from segjax.ops.convolution import conv_general_dilated
from segjax.ops.depthwise import depthwise_conv

SAME_3 = ((1, 1), (1, 1))


def convolve(convolution, x, kernel, *, padding="SAME", dilation=None, strides=(1, 1)):
    return convolution(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


@functools.partial(
    jax.jit, static_argnums=0, static_argnames=("padding", "dilation", "strides")
)
def value_and_gradients(convolution, x, kernel, **options):
    """Of a convolution and the sum of its squared output."""
    function = functools.partial(convolve, convolution, **options)
    output, vjp = jax.vjp(function, x, kernel)
    return output, *vjp(output)


def by_hand(x, kernel, pads, dilation):
    """The value and the gradients of half its squared sum, one product at a time."""
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    height, width = (
        side - (taps - 1) * step
        for side, taps, step in zip(
            padded.shape[1:3], kernel.shape, dilation, strict=False
        )
    )
    batch, channels = x.shape[0], x.shape[3]
    positions = list(np.ndindex(batch, height, width, channels, *kernel.shape[:2]))
    output = np.zeros((batch, height, width, channels))
    x_gradient, kernel_gradient = np.zeros_like(padded), np.zeros_like(kernel)
    for b, y, z, c, i, j in positions:
        at = b, y + i * dilation[0], z + j * dilation[1], c
        output[b, y, z, c] += padded[at] * kernel[i, j, 0, c]
    for b, y, z, c, i, j in positions:
        at = b, y + i * dilation[0], z + j * dilation[1], c
        x_gradient[at] += output[b, y, z, c] * kernel[i, j, 0, c]
        kernel_gradient[i, j, 0, c] += output[b, y, z, c] * padded[at]
    (top, _), (left, _) = pads
    x_gradient = x_gradient[:, top : top + x.shape[1], left : left + x.shape[2]]
    return output, x_gradient, kernel_gradient


def test_every_channel_has_its_own_filter(variant):
    image = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    x = np.concatenate([image, 10 * image], axis=-1)
    kernel = np.float32([[1, 2], [3, 4]])
    kernel = np.stack([kernel, np.eye(2, dtype=np.float32)], axis=-1)[:, :, None]
    output = variant(functools.partial(depthwise_conv, padding=((0, 0), (0, 0))))(
        x, kernel
    )
    np.testing.assert_array_equal(output[0, :, :, 0], [[37, 47], [67, 77]])
    np.testing.assert_array_equal(output[0, :, :, 1], [[60, 80], [120, 140]])


@pytest.mark.parametrize(
    ("pads", "dilation"),
    [(((1, 1), (0, 1)), (1, 1)), (((2, 0), (3, 1)), (2, 1))],
)
def test_products_one_at_a_time(pads, dilation):
    x, kernel = normal(2, 5, 4, 3), normal(3, 2, 1, 3, seed=1)
    actual = value_and_gradients(
        conv_general_dilated, x, kernel, padding=pads, dilation=dilation
    )
    for ours, expected in zip(actual, by_hand(x, kernel, pads, dilation), strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize(
    ("shape", "kernel_size", "options"),
    [
        ((2, 16, 24, 16), (7, 7), {}),
        ((2, 16, 24, 16), (3, 3), {"dilation": (2, 2)}),
        ((2, 9, 11, 5), (4, 2), {}),
        ((2, 9, 11, 5), (2, 4), {"padding": "VALID"}),
        ((1, 19, 17, 8), (3, 3), {"padding": "VALID", "dilation": (2, 2)}),
        ((1, 19, 17, 8), (4, 3), {"padding": "SAME_LOWER", "dilation": (2, 1)}),
        # More rows than one sum takes, and not a multiple of them.
        ((2, 35, 6, 3), (3, 5), {"padding": ((2, 0), (1, 3))}),
        # Padding beyond the kernel.
        ((2, 9, 11, 4), (3, 3), {"padding": ((4, 3), (0, 5))}),
        ((2, 9, 11, 4), (3, 3), {"padding": ((4, 6), (5, 0)), "dilation": (1, 2)}),
        ((2, 6, 7, 4), (1, 1), {}),
        ((1, 1, 30, 4), (1, 9), {}),
        ((3, 1, 1, 64), (3, 3), {}),
        # XLA's own: strides, and more filters than channels.
        ((2, 9, 11, 4), (3, 3), {"strides": (2, 1)}),
        ((2, 9, 11, 4), (3, 3, 2), {}),
    ],
)
def test_equals_xla(shape, kernel_size, options):
    multiplier = kernel_size[2] if len(kernel_size) == 3 else 1
    x = normal(*shape)
    kernel = normal(*kernel_size[:2], 1, multiplier * shape[3], seed=1)
    actual = value_and_gradients(conv_general_dilated, x, kernel, **options)
    expected = value_and_gradients(lax.conv_general_dilated, x, kernel, **options)
    for ours, xla in zip(actual, expected, strict=True):
        assert ours.shape == xla.shape
        assert_close(ours, xla)


def test_negative_padding_cuts():
    # Not compared with XLA's, which on CPU reads beyond the maps (openxla/xla#48713).
    x, kernel = normal(2, 9, 11, 4), normal(3, 3, 1, 4, seed=1)
    actual = value_and_gradients(
        conv_general_dilated, x, kernel, padding=((-2, 1), (3, -1))
    )
    output, x_gradient, kernel_gradient = value_and_gradients(
        lax.conv_general_dilated, x[:, 2:, :-1], kernel, padding=((0, 1), (3, 0))
    )
    x_gradient = np.pad(x_gradient, [(0, 0), (2, 0), (0, 1), (0, 0)])
    expected = output, x_gradient, kernel_gradient
    for ours, xla in zip(actual, expected, strict=True):
        assert_close(ours, xla)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_narrow_types_are_rounded_once(dtype, dilation):
    # Each step from exact factors: what is left is the rounding of the result.
    x, kernel = normal(2, 12, 17, 6), normal(5, 5, 1, 6, seed=1)
    gradient = normal(2, 12, 17, 6, seed=2)
    narrow = [jnp.asarray(v, dtype) for v in (x, kernel, gradient)]
    wide = [v.astype(jnp.float32) for v in narrow]

    @functools.partial(jax.jit, static_argnums=0)
    def run(convolution, x, kernel, gradient):
        output, vjp = jax.vjp(
            functools.partial(convolve, convolution, dilation=dilation), x, kernel
        )
        return output, *vjp(gradient)

    actual = run(conv_general_dilated, *narrow)
    expected = run(lax.conv_general_dilated, *wide)
    half_unit = float(jnp.finfo(dtype).eps) / 2
    for ours, xla in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(ours, np.float64), xla, rtol=1.01 * half_unit, atol=1e-4
        )


def test_bfloat16_gradients_are_summed_in_float32(variant):
    # Each weight sums 2 * 30 * 40 products of ones; in bfloat16 it would stop at 256.
    x = jnp.ones((2, 32, 42, 3), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 3), jnp.bfloat16)
    function = variant(lambda k: convolve(conv_general_dilated, x, k, padding="VALID"))
    output, vjp = jax.vjp(function, kernel)
    (gradient,) = vjp(jnp.ones_like(output))
    np.testing.assert_array_equal(gradient, jnp.full_like(kernel, 2400))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=(1, 9, 10, 4))
        kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 4))
        actual = value_and_gradients(conv_general_dilated, x, kernel)
        expected = value_and_gradients(lax.conv_general_dilated, x, kernel)
        for ours, xla in zip(actual, expected, strict=True):
            assert ours.dtype == jnp.float64
            assert_close(ours, xla, 1e-13)


def test_a_flax_layer_uses_it():
    x = normal(2, 9, 10, 6)
    layer = functools.partial(
        nn.Conv, 6, (3, 3), feature_group_count=6, kernel_dilation=2
    )
    variables = layer().init(jax.random.key(0), x)

    def loss(variables, layer):
        return (layer.apply(variables, x) ** 2).sum()

    ours = layer(conv_general_dilated=conv_general_dilated)
    run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    text = run.lower(variables, ours).as_text()
    assert "stablehlo.convolution" not in text
    assert "stablehlo.convolution" in run.lower(variables, layer()).as_text()
    jax.tree.map(assert_close, run(variables, ours), run(variables, layer()))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_get_xlas_convolutions(platform):
    x = jax.ShapeDtypeStruct((2, 9, 10, 6), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 1, 6), jnp.float32)

    def convolutions(platform):
        traced = value_and_gradients.trace(conv_general_dilated, x, kernel)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return text.count("stablehlo.convolution"), text.count("stablehlo.while")

    assert convolutions(platform) == (3, 0)
    # One loop each for the value and the gradients.
    assert convolutions("cpu") == (0, 3)


def test_operations_count_as_those_of_a_convolution():
    x = jax.ShapeDtypeStruct((2, 9, 10, 6), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 5, 1, 6), jnp.float32)
    function = functools.partial(convolve, conv_general_dilated)
    assert costs.count_flops(function, x, kernel) == 2 * (2 * 9 * 10 * 6) * (3 * 5)


def test_vmap_over_kernels_and_maps():
    x, kernel = normal(3, 1, 8, 9, 4), normal(3, 3, 3, 1, 4, seed=1)
    ours, xla = (
        jax.jit(jax.vmap(functools.partial(value_and_gradients, convolution)))
        for convolution in (conv_general_dilated, lax.conv_general_dilated)
    )
    jax.tree.map(assert_close, ours(x, kernel), xla(x, kernel))


def test_a_batch_split_over_devices():
    x, kernel = normal(4, 12, 9, 5), normal(3, 3, 1, 5, seed=1)
    expected = value_and_gradients(lax.conv_general_dilated, x, kernel)
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    split = NamedSharding(mesh, PartitionSpec("batch"))
    whole = NamedSharding(mesh, PartitionSpec())
    ours = functools.partial(value_and_gradients, conv_general_dilated)
    run = jax.jit(
        ours, in_shardings=(split, whole), out_shardings=(split, split, whole)
    )
    jax.tree.map(assert_close, run(x, kernel), expected)
    # Only the kernel's gradient crosses, once and not for each weight.
    text = run.lower(x, kernel).compile().as_text()
    assert text.count(" all-reduce(") == 1
    assert "all-gather" not in text
    assert text.index(" all-reduce(") > text.index("ENTRY")

    out, x_gradient, kernel_gradient = jax.pmap(ours, in_axes=(0, None))(
        x.reshape(2, 2, 12, 9, 5), kernel
    )
    assert_close(out.reshape(x.shape), expected[0])
    assert_close(x_gradient.reshape(x.shape), expected[1])
    assert_close(kernel_gradient.sum(0), expected[2])


def test_an_empty_batch_has_a_gradient_of_zero():
    x, kernel = jnp.zeros((0, 6, 7, 4)), jnp.ones((3, 3, 1, 4))
    _, x_gradient, kernel_gradient = value_and_gradients(
        conv_general_dilated, x, kernel
    )
    assert x_gradient.shape == x.shape
    np.testing.assert_array_equal(kernel_gradient, jnp.zeros_like(kernel))


def test_shapes_that_make_no_sense():
    x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 1, 3))
    with pytest.raises(ValueError, match=r"\(3, 3, 1, 2\)"):
        depthwise_conv(x, kernel[..., :2], padding=SAME_3)
    with pytest.raises(ValueError, match="not empty"):
        depthwise_conv(x, kernel, padding=((0, 0), (0, 0)), dilation=(2, 2))
    with pytest.raises(ValueError, match=r"dilation=\(0, 1\)"):
        depthwise_conv(x, kernel, padding=SAME_3, dilation=(0, 1))
    with pytest.raises(AssertionError):
        depthwise_conv(x, kernel.astype(jnp.bfloat16), padding=SAME_3)
