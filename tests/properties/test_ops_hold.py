"""What holds for the array functions, whatever the values.

Values are small whole numbers wherever sums are taken: float32 adds those exactly in
any order, so that results can be compared bit by bit. Shapes are few, because each is
compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from for_all import for_all
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax import lax

from segjax.ops import convolution, pooling, resampling, transposed_convolution

NHWC = ("NHWC", "HWIO", "NHWC")


def whole_numbers(shape, low, high, dtype=np.float32):
    """Arrays of whole numbers: all at random or, where small, few that differ."""
    seeds = st.integers(0, 2**32 - 1)
    at_random = seeds.map(
        lambda seed: (
            np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)
        )
    )
    if np.prod(shape) > 200:
        return at_random
    # These can be read when a check fails, and include all that are constant.
    return (
        hnp.arrays(dtype, shape, elements=st.integers(low, high).map(dtype)) | at_random
    )


def inner(first, second):
    return float(np.sum(np.asarray(first, np.float64) * np.asarray(second, np.float64)))


# Pooling

pool = jax.jit(pooling.max_pool_with_switches, static_argnames="ceil_mode")
unpool = jax.jit(pooling.max_unpool, static_argnames="size")


@jax.jit
def pool_gradient(x, weights):
    # Ceil mode; the other mode's gradient is the same function.
    return jax.vjp(lambda x: pooling.max_pool_with_switches(x)[0], x)[1](weights)[0]


@functools.partial(jax.jit, static_argnames="size")
def unpool_gradient(x, switches, weights, *, size):
    return jax.vjp(lambda x: pooling.max_unpool(x, switches, size=size), x)[1](weights)


def maxima_by_hand(x, ceil_mode):
    """The maxima `[b h' w' c]` and where in `x` they are, the first of equals."""
    size = [(side + ceil_mode) // 2 for side in x.shape[1:3]]
    pooled = np.empty((x.shape[0], *size, x.shape[3]), x.dtype)
    is_maximum = np.zeros(x.shape, bool)
    for b, i, j, c in np.ndindex(*pooled.shape):
        window = np.s_[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        first = np.unravel_index(np.argmax(x[window]), x[window].shape)
        is_maximum[window][first] = True
        pooled[b, i, j, c] = x[window][first]
    return pooled, is_maximum


@st.composite
def maps_to_pool(draw):
    size, ceil_mode = draw(
        st.sampled_from([((4, 6), True), ((5, 3), True), ((5, 3), False)])
    )
    shape = (2, *size, 3)
    special = st.sampled_from([np.nan, np.inf, -np.inf, -0.0])
    numbers = st.integers(-3, 3).map(float) | special
    x = draw(
        hnp.arrays(np.float32, shape, elements=numbers) | whole_numbers(shape, -3, 3)
    )
    return x, ceil_mode


@for_all(case=maps_to_pool())
def test_unpooling_puts_every_maximum_where_it_was_and_zero_elsewhere(case):
    x, ceil_mode = case
    pooled, switches = pool(x, ceil_mode=ceil_mode)
    expected, is_maximum = maxima_by_hand(x, ceil_mode)
    np.testing.assert_array_equal(pooled, expected)
    back = unpool(pooled, switches, size=x.shape[1:3])
    np.testing.assert_array_equal(back, np.where(is_maximum, x, np.float32(0)))


@st.composite
def maps_to_unpool(draw):
    """Positive values 2x3, switches that stay inside, a size and the mode it needs."""
    size, ceil_mode = draw(
        st.sampled_from([((4, 6), True), ((4, 6), False), ((3, 5), True), ((5, 7), 0)])
    )
    shape = (2, 2, 3, 3)
    values = draw(whole_numbers(shape, 1, 9))
    switches = draw(whole_numbers(shape, 0, 3, np.uint8))
    if size == (3, 5):
        switches[:, -1] &= 1
        switches[:, :, -1] &= 2
    return values, switches, size, bool(ceil_mode)


@for_all(case=maps_to_unpool())
def test_pooling_undoes_the_unpooling_of_positive_maps(case):
    values, switches, size, ceil_mode = case
    unpooled = unpool(values, switches, size=size)
    assert np.count_nonzero(unpooled) == values.size
    pooled, found = pool(unpooled, ceil_mode=ceil_mode)
    np.testing.assert_array_equal(pooled, values)
    np.testing.assert_array_equal(found, switches)


@for_all(
    x=whole_numbers((2, 5, 6, 3), -4, 4), weights=whole_numbers((2, 3, 3, 3), -4, 4)
)
def test_the_gradient_of_pooling_goes_to_the_maxima(x, weights):
    _, is_maximum = maxima_by_hand(x, True)
    spread = weights.repeat(2, axis=1).repeat(2, axis=2)[:, :5, :6]
    expected = np.where(is_maximum, spread, 0)
    np.testing.assert_array_equal(pool_gradient(x, weights), expected)


@for_all(
    x=whole_numbers((2, 3, 2, 3), -4, 4),
    switches=whole_numbers((2, 3, 2, 3), 0, 3, np.uint8),
    weights=whole_numbers((2, 7, 5, 3), -4, 4),
    size=st.sampled_from([(5, 3), (6, 4), (7, 5), (5, 4)]),
)
def test_the_gradient_of_unpooling_is_its_adjoint(x, switches, weights, size):
    weights = weights[:, : size[0], : size[1]]
    (gradient,) = unpool_gradient(x, switches, weights, size=size)
    assert inner(unpool(x, switches, size=size), weights) == inner(x, gradient)


@for_all(
    switches=st.sampled_from([1, 3, 4, 5, 8]).flatmap(
        lambda channels: whole_numbers((1, 2, 3, channels), 0, 3, np.uint8)
    )
)
def test_packed_switches_are_a_quarter_and_come_back(switches):
    channels = switches.shape[-1]
    packed = np.asarray(jax.jit(pooling.pack_switches)(switches))
    assert packed.shape == (1, 2, 3, (channels + 3) // 4)
    for c in range(channels):
        bits = packed[..., c // 4] // 4 ** (c % 4) % 4
        np.testing.assert_array_equal(bits, switches[..., c])
    unpack = jax.jit(pooling.unpack_switches, static_argnames="channels")
    np.testing.assert_array_equal(unpack(packed, channels=channels), switches)


# Convolutions


@functools.partial(jax.jit, static_argnames=("stride", "padding", "output_padding"))
def conv_transpose_and_gradients(x, kernel, weights, **options):
    output, vjp = jax.vjp(
        functools.partial(transposed_convolution.conv_transpose, **options), x, kernel
    )
    return output, *vjp(weights)


def strided_convolution(y, kernel, stride, padding, size):
    """What a transposed convolution with `kernel [kh kw c_in c_out]` is adjoint to."""
    y = np.pad(y.astype(np.float64), [(0, 0), *2 * [(padding, padding)], (0, 0)])
    total = 0
    for u, v in np.ndindex(*kernel.shape[:2]):
        rows = slice(u, u + stride * (size[0] - 1) + 1, stride)
        columns = slice(v, v + stride * (size[1] - 1) + 1, stride)
        total = total + y[:, rows, columns] @ kernel[u, v].astype(np.float64).T
    return total


# Kernel, stride, padding, output padding: as the decoders have them and odd ones.
TRANSPOSED = [
    ((2, 2), 2, 0, 0),
    ((4, 4), 2, 1, 0),
    ((3, 3), 1, 1, 0),
    ((5, 3), 3, 1, 2),
]


@st.composite
def transposed_convolutions(draw):
    kernel_size, stride, padding, output_padding = draw(st.sampled_from(TRANSPOSED))
    height, width, c_in, c_out = 3, 4, 3, 2
    out_size = [
        (n - 1) * stride - 2 * padding + k + output_padding
        for n, k in zip((height, width), kernel_size, strict=True)
    ]
    x = draw(whole_numbers((2, height, width, c_in), -4, 4))
    kernel, other = (
        draw(whole_numbers((*kernel_size, c_in, c_out), -4, 4)) for _ in range(2)
    )
    weights = draw(whole_numbers((2, *out_size, c_out), -4, 4))
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    return x, kernel, other, weights, options


@for_all(case=transposed_convolutions())
def test_transposed_convolution_is_the_adjoint_of_convolution(case):
    x, kernel, other, weights, options = case
    output, x_gradient, kernel_gradient = conv_transpose_and_gradients(
        x, kernel, weights, **options
    )
    convolve = functools.partial(
        strided_convolution,
        stride=options["stride"],
        padding=options["padding"],
        size=x.shape[1:3],
    )
    convolved = convolve(weights, kernel)
    assert inner(output, weights) == inner(x, convolved)
    np.testing.assert_array_equal(x_gradient, convolved)
    # Linear in the kernel, too: its gradient says what any other kernel would give.
    assert inner(kernel_gradient, other) == inner(x, convolve(weights, other))


# Maps, kernel and options; each has gradients of its own on a CPU.
CONVOLUTIONS = [
    ((2, 5, 6, 8), (1, 1, 8, 4), {"padding": "VALID"}),
    ((2, 5, 6, 16), (3, 3, 16, 48), {"padding": ((2, 0), (0, 2))}),
    (
        (2, 6, 7, 4),
        (3, 3, 1, 4),
        {"padding": "SAME", "rhs_dilation": (2, 1), "feature_group_count": 4},
    ),
]


@functools.partial(jax.jit, static_argnums=(0, 1))
def conv_and_gradients(function, number, x, kernel, weights):
    convolve = functools.partial(
        function,
        window_strides=(1, 1),
        dimension_numbers=NHWC,
        **CONVOLUTIONS[number][2],
    )
    output, vjp = jax.vjp(convolve, x, kernel)
    return output, *vjp(weights)


@st.composite
def convolutions(draw):
    number = draw(st.integers(0, len(CONVOLUTIONS) - 1))
    x_shape, kernel_shape, _ = CONVOLUTIONS[number]
    # Every output is as large as its maps.
    weights_shape = (*x_shape[:3], kernel_shape[3])
    shapes = (x_shape, kernel_shape, weights_shape)
    return number, *(draw(whole_numbers(shape, -4, 4)) for shape in shapes)


@for_all(case=convolutions())
def test_own_convolution_gradients_equal_plain_autodiff(case):
    ours = conv_and_gradients(convolution.conv_general_dilated, *case)
    plain = conv_and_gradients(lax.conv_general_dilated, *case)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(one, other)


# Resampling

resize = jax.jit(resampling.resize_bilinear, static_argnames=("size", "align_corners"))
RESIZINGS = st.sampled_from(
    [
        ((3, 4), (6, 8)),  # by whole numbers
        ((4, 6), (2, 3)),
        ((5, 4), (3, 7)),
        ((1, 3), (4, 5)),
    ]
)


@st.composite
def resizings(draw):
    source, target = draw(RESIZINGS)
    return draw(whole_numbers((2, *source, 2), -100, 100)), target


@for_all(case=resizings(), align_corners=st.booleans())
def test_resizing_stays_between_the_extremes(case, align_corners):
    x, size = case
    resized = np.asarray(resize(x, size, align_corners=align_corners))
    assert resized.shape == (2, *size, 2)
    for axes in np.ndindex(2, 2):
        one, of = resized[axes[0], ..., axes[1]], x[axes[0], ..., axes[1]]
        assert of.min() - 1e-4 <= one.min() <= one.max() <= of.max() + 1e-4


@for_all(
    sizes=RESIZINGS,
    value=st.integers(-(10**6), 10**6).map(lambda number: number / 7),
    align_corners=st.booleans(),
)
def test_resizing_keeps_a_constant(sizes, value, align_corners):
    source, size = sizes
    x = np.full((2, *source, 2), value, np.float32)
    resized = resize(x, size, align_corners=align_corners)
    np.testing.assert_allclose(resized, np.full((2, *size, 2), value), rtol=1e-6)


@for_all(case=resizings(), align_corners=st.booleans(), axis=st.sampled_from([1, 2]))
def test_resizing_commutes_with_mirroring(case, align_corners, axis):
    x, size = case
    resized = resize(x, size, align_corners=align_corners)
    mirrored = resize(np.flip(x, axis), size, align_corners=align_corners)
    np.testing.assert_allclose(mirrored, np.flip(resized, axis), atol=1e-4)


@for_all(sizes=RESIZINGS, plane=st.tuples(*3 * [st.integers(-20, 20)]))
def test_resizing_from_corner_to_corner_keeps_planes(sizes, plane):
    down, right, level = plane

    def sampled(size, height, width):
        rows, columns = (
            np.linspace(0, last, side)
            for last, side in zip((height, width), size, strict=True)
        )
        values = down * rows[:, None] + right * columns[None, :] + level
        return values[None, :, :, None]

    source, size = sizes
    extent = [side - 1 for side in source]
    resized = resize(
        sampled(source, *extent).astype(np.float32), size, align_corners=True
    )
    np.testing.assert_allclose(resized, sampled(size, *extent), atol=1e-4)


@functools.partial(jax.jit, static_argnames="ratio")
def upsampled_both_ways(x, *, ratio):
    kernel = resampling.bilinear_kernel(2 * ratio - ratio % 2, x.shape[3])
    return (
        resampling.upsample_bilinear(x, ratio=ratio),
        transposed_convolution.conv_transpose(x, kernel, stride=ratio),
    )


@for_all(x=whole_numbers((2, 3, 4, 2), -50, 50), ratio=st.integers(1, 4))
def test_upsampling_is_the_transposed_convolution_by_a_bilinear_kernel(x, ratio):
    fast, dense = upsampled_both_ways(x, ratio=ratio)
    np.testing.assert_allclose(fast, dense, atol=1e-4)


@for_all(value=st.integers(-1000, 1000), ratio=st.integers(1, 4))
def test_shares_of_bilinear_kernels_add_up_to_one(value, ratio):
    x = jnp.full((2, 3, 4, 2), value, jnp.float32)
    for upsampled in upsampled_both_ways(x, ratio=ratio):
        # All but where the maps fade to zero, beyond the outermost pixels' centres.
        inside = np.asarray(upsampled)[:, ratio:-ratio, ratio:-ratio]
        assert inside.size
        np.testing.assert_allclose(inside, np.full_like(inside, value), rtol=1e-6)


@st.composite
def crops(draw):
    height, width = draw(st.tuples(*2 * [st.integers(1, 9)]))
    windows = []
    size = (height, width)
    for _ in range(2):
        offset = tuple(draw(st.integers(0, side - 1)) for side in size)
        size = tuple(
            draw(st.integers(1, side - start))
            for side, start in zip(size, offset, strict=True)
        )
        windows.append((size, offset))
    return (height, width), windows


@for_all(case=crops())
def test_a_crop_of_a_crop_is_a_crop(case):
    (height, width), windows = case
    x = np.arange(height * width).reshape(1, height, width)
    (first, offset), (second, further) = windows
    twice = resampling.crop_to(
        resampling.crop_to(x, first, offset=offset), second, offset=further
    )
    both = tuple(a + b for a, b in zip(offset, further, strict=True))
    np.testing.assert_array_equal(twice, resampling.crop_to(x, second, offset=both))
    assert twice[0, 0, 0] == both[0] * width + both[1]
    assert twice.shape == (1, *second)
