import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops.resampling import (
    bilinear_kernel,
    crop_to,
    resize_bilinear,
)
from segjax.ops.transposed_convolution import conv_transpose


def resize_by_hand(x, size, align_corners):
    """Samples the four neighbours of each position, one output pixel at a time."""

    def neighbours(index, source, target):
        if align_corners:
            position = index * (source - 1) / (target - 1) if target > 1 else 0.0
        else:
            position = max((index + 0.5) * source / target - 0.5, 0.0)
        first = min(int(position), source - 1)
        share = min(position, source - 1) - first
        return [(first, 1 - share), (min(first + 1, source - 1), share)]

    x = x.astype(np.float64)
    result = np.zeros((x.shape[0], *size, x.shape[3]))
    for i, j in np.ndindex(*size):
        for (y, in_y), (z, in_z) in itertools.product(
            neighbours(i, x.shape[1], size[0]), neighbours(j, x.shape[2], size[1])
        ):
            result[:, i, j] += in_y * in_z * x[:, y, z]
    return result


@pytest.mark.parametrize(
    ("values", "width", "align_corners", "expected"),
    [
        ([0, 12], 4, False, [0, 3, 9, 12]),
        ([0, 12], 4, True, [0, 4, 8, 12]),
        ([0, 12], 1, False, [6]),
        ([0, 12], 1, True, [0]),
        ([7], 3, False, [7, 7, 7]),
        ([7], 3, True, [7, 7, 7]),
        ([0, 3, 6], 6, False, [0, 0.75, 2.25, 3.75, 5.25, 6]),
        ([0, 3, 6], 5, True, [0, 1.5, 3, 4.5, 6]),
        # No smoothing when shrinking: pixels between the samples do not count.
        ([0, 2, 100, 4, 8, 0], 2, False, [2, 8]),
        ([0, 2, 100, 4, 8], 2, True, [0, 8]),
        ([0, 2, 10, 20], 2, False, [1, 15]),
    ],
)
def test_resizing_worked_by_hand(variant, values, width, align_corners, expected):
    row = np.float32(values).reshape(1, 1, -1, 1)
    resize = lambda size: variant(  # noqa: E731
        lambda x: resize_bilinear(x, size, align_corners=align_corners)
    )
    resized = resize((1, width))(row)
    np.testing.assert_allclose(resized[0, 0, :, 0], expected, rtol=1e-6)
    column = row.transpose(0, 2, 1, 3)
    resized = resize((width, 1))(column)
    np.testing.assert_allclose(resized[0, :, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((4, 5), (8, 10)),
        ((4, 5), (7, 3)),
        ((23, 30), (45, 60)),
        ((9, 7), (4, 3)),
        ((6, 6), (1, 1)),
        ((1, 1), (3, 2)),
        ((3, 4), (24, 11)),
        ((5, 5), (5, 5)),
    ],
)
def test_resizing_equals_its_definition(source, target, align_corners):
    x = np.random.default_rng(0).normal(size=(2, *source, 3)).astype(np.float32)
    resized = jax.jit(
        lambda x: resize_bilinear(x, target, align_corners=align_corners)
    )(x)
    assert resized.dtype == jnp.float32
    np.testing.assert_allclose(
        resized, resize_by_hand(x, target, align_corners), rtol=0, atol=2e-6
    )


def test_resizing_in_bfloat16_rounds_once(variant):
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 2)).astype(jnp.bfloat16)
    resize = variant(lambda x: resize_bilinear(x, (11, 9), align_corners=False))
    resized = resize(x)
    assert resized.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        resized, resize(x.astype(np.float32)).astype(jnp.bfloat16)
    )


@pytest.mark.parametrize("align_corners", [True, False])
def test_gradient_of_resizing(align_corners):
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype(np.float32)
    check_grads(
        lambda x: resize_bilinear(x, (5, 9), align_corners=align_corners),
        (x,),
        order=1,
        rtol=1e-2,
    )


def test_resizing_to_nothing():
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 1\) to \(0, 4\)"):
        resize_bilinear(jnp.zeros((1, 2, 2, 1)), (0, 4), align_corners=True)


def test_bilinear_kernels_worked_by_hand():
    four = np.asarray(bilinear_kernel(4, 3))
    assert four.shape == (4, 4, 3, 3)
    assert four.dtype == np.float32
    row = np.float32([0.25, 0.75, 0.75, 0.25])
    for c, d in np.ndindex(3, 3):
        np.testing.assert_array_equal(four[:, :, c, d], (c == d) * np.outer(row, row))
    row = [0.5, 1, 0.5]
    np.testing.assert_array_equal(bilinear_kernel(3, 1)[:, :, 0, 0], np.outer(row, row))
    assert bilinear_kernel(1, 1) == 1
    assert bilinear_kernel(2, 1, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="kernel_size=0"):
        bilinear_kernel(0, 1)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_bilinear_kernel_makes_a_transposed_convolution_interpolate(stride):
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 2)).astype(np.float32)
    kernel_size = 2 * stride - stride % 2
    upsampled = conv_transpose(
        x,
        bilinear_kernel(kernel_size, 2),
        stride=stride,
        padding=(kernel_size - stride) // 2,
    )
    expected = resize_bilinear(x, upsampled.shape[1:3], align_corners=False)
    # The convolution sees zeros beyond the border, the interpolation its edge.
    inside = np.s_[:, stride:-stride, stride:-stride]
    assert upsampled.shape == (1, 5 * stride, 6 * stride, 2)
    np.testing.assert_allclose(upsampled[inside], expected[inside], rtol=0, atol=2e-6)


def test_cropping_takes_the_window_at_the_offset(variant):
    x = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    crop = variant(lambda x: crop_to(x, (2, 3), offset=(1, 2)))
    np.testing.assert_array_equal(crop(x), x[:, 1:3, 2:5])
    np.testing.assert_array_equal(crop_to(x, (5, 6)), x)
    maps = x[..., None].astype(np.float32)
    np.testing.assert_array_equal(crop(maps), maps[:, 1:3, 2:5])


@pytest.mark.parametrize(
    ("size", "offset"), [((5, 3), (0, 0)), ((2, 2), (3, 0)), ((2, 2), (0, -1))]
)
def test_a_crop_that_does_not_fit(size, offset):
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} .*\(1, 4, 4, 2\)"):
        crop_to(jnp.zeros((1, 4, 4, 2)), size, offset=offset)
