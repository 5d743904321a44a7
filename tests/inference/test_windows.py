import itertools

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.windows import (
    blend_weights,
    blended_blocks,
    predict_windows,
    window_starts,
)

BLENDS = ["gaussian", "cosine", "uniform"]


def random_image(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


def pointwise(images):
    """Four scores of a pixel that depend on nothing but the pixel."""
    x = images.astype(np.float32)
    scores = [x[..., 0] / 3, x[..., 1] * x[..., 2], np.sqrt(x[..., 0]), -x[..., 2]]
    return np.stack(scores, axis=-1)


def position_dependent(images):
    """Scores that depend on where in its window a pixel lies, and on its window."""
    height, width = images.shape[1:3]
    place = np.arange(height)[:, None] * 7 + np.arange(width) ** 2
    first = images[:, :1, :1, 0].astype(np.float32)
    value = images[..., 1] + place.astype(np.float32) * first
    return np.stack([value, -value, np.broadcast_to(first, value.shape)], axis=-1)


def test_gaussian_weights_by_hand():
    # Centres at 1/8, 3/8, 5/8, 7/8; distances from 1/2 of 3 and 1 standard deviations.
    edge, middle = np.exp(-4.5), np.exp(-0.5)
    np.testing.assert_allclose(
        blend_weights(4, blend="gaussian"), [edge, middle, middle, edge], rtol=1e-15
    )


def test_cosine_weights_by_hand():
    # sin^2 of 30, 90 and 150 degrees.
    np.testing.assert_allclose(
        blend_weights(3, blend="cosine"), [1 / 4, 1, 1 / 4], rtol=1e-15
    )
    # At half overlap neighbours add up to 1.
    weight = blend_weights(8, blend="cosine")
    np.testing.assert_allclose(weight[:4] + weight[4:], np.ones(4), rtol=1e-15)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("length", [1, 2, 7, 512, 4096])
def test_weights_are_positive_and_symmetric(blend, length):
    weight = blend_weights(length, blend=blend)
    assert weight.shape == (length,)
    assert weight.dtype == np.float64
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("side", "window", "overlap", "expected"),
    [
        (10, 4, 0.0, [0, 3, 6]),  # three windows are needed, spread evenly
        (12, 4, 0.0, [0, 4, 8]),
        (10, 4, 0.5, [0, 2, 4, 6]),
        (11, 4, 0.5, [0, 1, 3, 5, 7]),
        (4, 4, 0.5, [0]),
        (3, 4, 0.5, [0]),
        (6, 4, 0.99, [0, 1, 2]),  # at least one pixel on
        (5, 1, 0.5, [0, 1, 2, 3, 4]),
    ],
)
def test_window_starts_by_hand(side, window, overlap, expected):
    assert window_starts(side, window, overlap=overlap) == expected


def test_windows_reach_both_ends_and_overlap_enough():
    for side, window, overlap in itertools.product(
        range(1, 40), (1, 3, 8, 16), (0, 0.25, 0.5, 0.8)
    ):
        starts = window_starts(side, window, overlap=overlap)
        assert starts[0] == 0
        assert starts[-1] == max(0, side - window)
        step = max(1, round(window * (1 - overlap)))
        assert all(1 <= b - a <= step for a, b in itertools.pairwise(starts))


def test_blend_of_one_row_by_hand():
    """Windows of 3 on 5 pixels, cosine weights 1/4, 1, 1/4; window i says i + 1."""
    calls = itertools.count(1)

    def predict(images):
        return np.full((1, 1, 3, 1), next(calls), np.float32)

    scores = predict_windows(
        np.zeros((1, 5, 3), np.uint8),
        predict,
        input_size=(1, 3),
        overlap=1 / 3,
        blend="cosine",
    )
    # Starts 0 and 2: the middle pixel is the last of one and the first of the other.
    np.testing.assert_array_equal(scores[0, :, 0], [1, 1, 1.5, 2, 2])

    calls = itertools.count(1)
    scores = predict_windows(
        np.zeros((1, 4, 3), np.uint8),
        predict,
        input_size=(1, 3),
        overlap=2 / 3,
        blend="cosine",
    )
    # Starts 0 and 1. Pixel 1: (1 * 1 + 2 / 4) / (5 / 4) = 1.2; pixel 2: 1.8.
    np.testing.assert_allclose(scores[0, :, 0], [1, 1.2, 1.8, 2], rtol=1e-7)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (6, 8), (7, 23), (31, 20)])
def test_pointwise_predictor_gives_the_whole_image_bit_for_bit(size, overlap, blend):
    image = random_image(*size)
    scores = predict_windows(
        image, pointwise, input_size=(6, 8), overlap=overlap, blend=blend, batch_size=3
    )
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, pointwise(image[None])[0])


@pytest.mark.parametrize("blend", BLENDS)
def test_constant_scores_stay_constant(blend):
    constant = np.float32([0.1, -3.7, 1e-20])

    def predict(images):
        return np.broadcast_to(constant, (*images.shape[:3], 3))

    scores = predict_windows(
        random_image(19, 27), predict, input_size=(8, 8), overlap=0.6, blend=blend
    )
    np.testing.assert_array_equal(scores, np.broadcast_to(constant, (19, 27, 3)))


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(
    ("size", "input_size", "overlap", "margin"),
    [
        ((17, 22), (6, 8), 0.5, 0),
        ((17, 22), (6, 8), 0.0, 0),
        ((4, 22), (6, 8), 0.75, 0),
        ((17, 5), (8, 6), 0.4, 0),
        ((17, 22), (10, 12), 0.7, 2),
        ((2, 3), (14, 13), 0.5, 4),  # the mirror is mirrored again
        ((9, 5), (14, 13), 0.5, 6),  # more margin than window
    ],
)
def test_equals_brute_force(size, input_size, overlap, margin, blend):
    image = random_image(*size)

    def predict(images):
        middle = slice(margin, -margin or None)
        return position_dependent(images[:, middle, middle]) + images.sum(
            axis=(1, 2, 3), dtype=np.float32
        ).reshape(-1, 1, 1, 1)

    window = [side - 2 * margin for side in input_size]
    starts = [
        window_starts(side, length, overlap=overlap)
        for side, length in zip(size, window, strict=True)
    ]
    mirrored = np.pad(image, ((margin, 60), (margin, 60), (0, 0)), mode="symmetric")
    extent = [axis[-1] + n for axis, n in zip(starts, window, strict=True)]
    total, weights = np.zeros((*extent, 3)), np.zeros((*extent, 1))
    weight = np.outer(*(blend_weights(n, blend=blend) for n in window))[..., None]
    for top, left in itertools.product(*starts):
        place = np.s_[top : top + window[0], left : left + window[1]]
        pixels = mirrored[top : top + input_size[0], left : left + input_size[1]]
        total[place] += weight * predict(pixels[None])[0]
        weights[place] += weight
    expected = (total / weights)[: size[0], : size[1]]
    scores = predict_windows(
        image,
        predict,
        input_size=input_size,
        margin=margin,
        overlap=overlap,
        blend=blend,
        batch_size=4,
    )
    assert weights.min() > 0
    np.testing.assert_allclose(scores, expected, rtol=2e-7)


def test_small_image_is_mirrored_at_the_bottom_and_right():
    seen = []

    def predict(images):
        seen.append(images[0, :, :, 0])
        return images[..., :1].astype(np.float32)

    image = np.repeat(np.uint8([[1, 2, 3], [4, 5, 6]])[..., None], 3, axis=-1)
    predict_windows(image, predict, input_size=(4, 5))
    np.testing.assert_array_equal(
        seen, [[[1, 2, 3, 3, 2], [4, 5, 6, 6, 5], [4, 5, 6, 6, 5], [1, 2, 3, 3, 2]]]
    )


def test_batches_have_one_size_and_do_not_change_the_scores():
    image = random_image(20, 20)
    shapes = []

    def predict(images):
        shapes.append(images.shape)
        return position_dependent(images)

    one, five = (
        predict_windows(image, predict, input_size=(8, 8), batch_size=n) for n in (1, 5)
    )
    np.testing.assert_array_equal(one, five)
    # 4 x 4 windows: 16 calls of one input, then 4 of five.
    assert shapes == [(1, 8, 8, 3)] * 16 + [(5, 8, 8, 3)] * 4


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_blocks_cover_every_pixel_once_and_rows_are_read_once(overlap):
    size = (37, 29)
    image = random_image(*size)
    asked, covered = [], np.zeros(size, int)

    def read_rows(start, stop):
        asked.extend(range(start, stop))
        return image[start:stop]

    corners = []
    blocks = blended_blocks(
        read_rows,
        lambda images: pointwise(images[:, 2:-2, 2:-2]),
        size=size,
        input_size=(12, 12),
        margin=2,
        overlap=overlap,
        batch_size=2,
    )
    for top, left, scores in blocks:
        corners.append((top, left))
        covered[top : top + scores.shape[0], left : left + scores.shape[1]] += 1
    assert asked == list(range(size[0]))
    assert corners == sorted(corners)
    np.testing.assert_array_equal(covered, np.ones(size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, r"overlap 1.0: expected a share in \[0, 1\)"),
        ({"overlap": -0.1}, "overlap -0.1"),
        ({"blend": "linear"}, "blend 'linear': expected gaussian, cosine or uniform"),
        ({"margin": 4}, "input_size 8x8 with a margin of 4 leaves windows of 0x0"),
        ({"margin": -1}, "margin -1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"margin": 1}, "scores have 8x8 pixels, expected those of a window, 6x6"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        predict_windows(random_image(9, 9), pointwise, input_size=(8, 8), **options)


def test_refuses_an_image_without_pixels():
    with pytest.raises(InputError, match="image has 0x4 pixels"):
        predict_windows(random_image(0, 4), pointwise, input_size=(8, 8))
