"""What holds for windows, tiles and strips, whatever the sizes and the network."""

import itertools

import numpy as np
from for_all import for_all
from hypothesis import strategies as st

from segjax.inference.overlap_tile import predict_tiles, tile_blocks
from segjax.inference.strips import label_strips
from segjax.inference.windows import (
    blend_weights,
    blended_blocks,
    predict_windows,
    window_starts,
)

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(*2 * [st.integers(1, 20)])
TILES = st.tuples(*2 * [st.integers(1, 9)])
MARGINS = st.integers(0, 4)
OVERLAPS = st.sampled_from([0.0, 0.25, 0.5, 0.75]) | st.floats(0, 0.9)
BLENDS = st.sampled_from(["gaussian", "cosine", "uniform"])
BATCH_SIZES = st.integers(1, 5)


def image_of(size, seed):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def larger(tile, margin):
    return tuple(side + 2 * margin for side in tile)


def around(images, margin, *, reach):
    """A network that loses `margin`: each pixel's scores depend on all within `reach`.

    Whole numbers, which float32 adds exactly.
    """
    x = np.asarray(images, np.float32)
    _, height, width, _ = x.shape
    total = np.zeros((len(x), height - 2 * margin, width - 2 * margin, 3), np.float32)
    steps = range(margin - reach, margin + reach + 1)
    for number, (down, right) in enumerate(itertools.product(steps, repeat=2), start=1):
        part = x[:, down:, right:][:, : total.shape[1], : total.shape[2]]
        total += number % 7 * part
    return total


def continued(image, before, after):
    """The image and its mirror image around it."""
    return np.pad(image, (*2 * [(before, after)], (0, 0)), mode="symmetric")


class Rows:
    """Reads an image as a file is read: rows that follow one another, each once."""

    def __init__(self, image):
        self.image = image
        self.read = 0

    def __call__(self, start, stop):
        assert start == self.read < stop <= len(self.image)
        self.read = stop
        return self.image[start:stop]


@for_all(side=st.integers(1, 200), window=st.integers(1, 40), overlap=OVERLAPS)
def test_windows_leave_no_gap_and_overlap_enough(side, window, overlap):
    starts = window_starts(side, window, overlap=overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, side - window)
    step = max(1, round(window * (1 - overlap)))
    gaps = np.diff(starts)
    assert np.all((gaps >= 1) & (gaps <= step))
    # Evenly: no gap is larger than another by more than a pixel, and none is too many.
    assert gaps.size == 0 or np.ptp(gaps) <= 1
    assert len(gaps) == -(-max(0, side - window) // step)


@for_all(
    size=SIZES, window=TILES, overlap=OVERLAPS, blend=BLENDS, batch_size=BATCH_SIZES
)
def test_shares_of_the_windows_add_up_to_one_in_every_pixel(
    size, window, overlap, blend, batch_size
):
    # Window n says 1 for class n: its scores are the share that it has in each pixel.
    starts = itertools.product(
        *(
            window_starts(side, length, overlap=overlap)
            for side, length in zip(size, window, strict=True)
        )
    )
    starts = [*starts]
    numbers = itertools.count()

    def predict(images):
        scores = np.zeros((len(images), *window, len(starts)), np.float32)
        # The last batch has more inputs than there are windows.
        for one, number in zip(scores, numbers, strict=False):
            if number < len(starts):
                one[..., number] = 1
        return scores

    shares = predict_windows(
        np.zeros((*size, 3), np.uint8),
        predict,
        input_size=window,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
    )
    np.testing.assert_allclose(shares.sum(axis=-1), np.ones(size), rtol=1e-6)

    weight = np.outer(*(blend_weights(length, blend=blend) for length in window))
    expected = np.zeros((*np.add(size, window), len(starts)))
    for number, (top, left) in enumerate(starts):
        expected[top : top + window[0], left : left + window[1], number] = weight
    expected = expected[: size[0], : size[1]]
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


@for_all(
    size=SIZES,
    window=TILES,
    margin=MARGINS,
    overlap=OVERLAPS,
    blend=BLENDS,
    probabilities=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
)
def test_blending_a_constant_gives_the_constant(
    size, window, margin, overlap, blend, probabilities
):
    def predict(images):
        return np.broadcast_to(
            np.float32(probabilities), (1, *window, len(probabilities))
        )

    scores = predict_windows(
        np.zeros((*size, 3), np.uint8),
        predict,
        input_size=larger(window, margin),
        margin=margin,
        overlap=overlap,
        blend=blend,
    )
    expected = np.broadcast_to(np.float32(probabilities), scores.shape)
    assert scores.shape[:2] == size
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@for_all(
    size=SIZES,
    window=TILES,
    margin=MARGINS,
    overlap=OVERLAPS,
    blend=BLENDS,
    batch_size=BATCH_SIZES,
    seed=SEEDS,
)
def test_windows_of_a_network_that_sees_enough_equal_the_whole_image(
    size, window, margin, overlap, blend, batch_size, seed
):
    image = image_of(size, seed)
    scores = predict_windows(
        image,
        lambda images: around(images, margin, reach=margin),
        input_size=larger(window, margin),
        margin=margin,
        overlap=overlap,
        blend=blend,
        batch_size=batch_size,
    )
    (whole,) = around(continued(image, margin, margin)[None], margin, reach=margin)
    np.testing.assert_allclose(scores, whole, rtol=1e-6)


@for_all(
    size=SIZES,
    tile=TILES,
    margin=MARGINS,
    lost=MARGINS,
    align=st.integers(1, 4),
    batch_size=BATCH_SIZES,
    seed=SEEDS,
)
def test_tiles_of_a_network_that_sees_enough_equal_the_whole_image(
    size, tile, margin, lost, align, batch_size, seed
):
    image = image_of(size, seed)
    # What the network does not lose itself is context that is dropped.
    lost = min(lost, margin)
    scores = predict_tiles(
        image,
        lambda images: around(images, lost, reach=lost),
        input_size=larger(np.maximum(tile, align).tolist(), margin),
        margin=margin,
        align=align,
        batch_size=batch_size,
    )
    (whole,) = around(continued(image, lost, lost)[None], lost, reach=lost)
    np.testing.assert_array_equal(scores, whole)


@for_all(
    size=SIZES,
    tile=TILES,
    stride=st.integers(1, 4),
    more=MARGINS,
    seed=SEEDS,
)
def test_aligned_tiles_of_a_network_that_pools_equal_the_whole_image(
    size, tile, stride, more, seed
):
    # A block's pixels reach at most this far.
    margin = stride - 1 + more

    def pooled(images):
        """The maximum of the block of `stride` pixels that a pixel lies in."""
        height, width = images.shape[1:3]
        blocks = [np.arange(side) // stride * stride for side in (height, width)]
        maxima = images.copy()
        for down, right in np.ndindex(stride, stride):
            rows = np.minimum(blocks[0] + down, height - 1)
            columns = np.minimum(blocks[1] + right, width - 1)
            maxima = np.maximum(maxima, images[:, rows[:, None], columns])
        return maxima[:, margin : height - margin, margin : width - margin]

    image = image_of(size, seed)
    scores = predict_tiles(
        image,
        pooled,
        input_size=larger(np.maximum(tile, stride).tolist(), margin),
        margin=margin,
        align=stride,
    )
    (whole,) = pooled(continued(image, margin, margin + stride)[None])
    np.testing.assert_array_equal(scores, whole[: size[0], : size[1]])


@st.composite
def block_makers(draw):
    """Something that makes blocks out of `read_rows` and `size`, by either way."""
    margin, batch_size = draw(MARGINS), draw(BATCH_SIZES)
    align = draw(st.integers(1, 4))
    tile = [max(align, side) for side in draw(TILES)]
    options = {
        "input_size": larger(tile, margin),
        "margin": margin,
        "batch_size": batch_size,
    }
    if draw(st.booleans()):
        return tile_blocks, {**options, "align": align}
    return blended_blocks, {
        **options,
        "overlap": draw(OVERLAPS),
        "blend": draw(BLENDS),
    }


def position_dependent(margin):
    """Scores that depend on a pixel's place in its window: no two windows agree."""

    def predict(images):
        scores = around(images, margin, reach=0)
        place = (
            np.arange(scores.shape[1])[:, None] * 7 + np.arange(scores.shape[2]) ** 2
        )
        return scores + place.astype(np.float32)[..., None] * np.float32([1, -2, 3])

    return predict


@for_all(size=SIZES, maker=block_makers(), seed=SEEDS)
def test_blocks_cover_every_pixel_once_and_rows_are_read_once(size, maker, seed):
    blocks, options = maker
    rows = Rows(image_of(size, seed))
    times = np.zeros(size, int)
    corners = []
    for top, left, scores in blocks(
        rows, position_dependent(options["margin"]), size=size, **options
    ):
        height, width, _ = scores.shape
        assert top + height <= size[0]
        assert left + width <= size[1]
        times[top : top + height, left : left + width] += 1
        corners.append((top, left))
    assert np.all(times == 1)
    assert corners == sorted(corners)
    assert rows.read == size[0]


@for_all(size=SIZES, maker=block_makers(), other=BATCH_SIZES, seed=SEEDS)
def test_the_batch_size_changes_nothing(size, maker, other, seed):
    blocks, options = maker
    image = image_of(size, seed)
    in_memory = {tile_blocks: predict_tiles, blended_blocks: predict_windows}[blocks]
    predict = position_dependent(options["margin"])
    first, second = (
        in_memory(image, predict, **{**options, "batch_size": batch_size})
        for batch_size in (options["batch_size"], other)
    )
    np.testing.assert_array_equal(first, second)


@for_all(size=SIZES, maker=block_makers(), seed=SEEDS)
def test_strips_equal_the_image_in_memory(size, maker, seed):
    blocks, options = maker
    image = image_of(size, seed)
    predict = position_dependent(options["margin"])
    in_memory = {tile_blocks: predict_tiles, blended_blocks: predict_windows}[blocks]
    scores = in_memory(image, predict, **options)
    kept = []
    strips = label_strips(
        blocks(Rows(image), predict, size=size, **options), size=size, keep=kept.append
    )
    np.testing.assert_array_equal(np.concatenate([*strips]), scores.argmax(axis=-1))
    np.testing.assert_array_equal(np.concatenate(kept), scores.astype(np.float16))
