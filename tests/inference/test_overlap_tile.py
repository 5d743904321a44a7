from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.overlap_tile import exact_tiles, predict_tiles, tile_blocks
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.ops.normalization import normalize
from segjax.training.steps import predict_logits


def random_image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def middle(lost):
    """A network that gives the image itself, less `lost` pixels a side."""

    def predict(tiles):
        height, width = tiles.shape[1:3]
        return tiles[:, lost : height - lost, lost : width - lost].astype(np.float32)

    return predict


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (6, 8), (7, 9), (23, 31)])
@pytest.mark.parametrize(
    ("margin", "lost", "align", "batch_size"),
    [(0, 0, 1, 1), (4, 4, 1, 1), (4, 0, 4, 2), (4, 2, 1, 5), (4, 4, 2, 3)],
)
def test_identity_gives_the_image_back(size, margin, lost, align, batch_size):
    image = random_image(*size)
    scores = predict_tiles(
        image,
        middle(lost),
        input_size=(6 + 2 * margin, 8 + 2 * margin),
        margin=margin,
        align=align,
        batch_size=batch_size,
    )
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, image)


@pytest.mark.parametrize(
    ("align", "batch_size", "edges"),
    [
        # Tiles of 10 pixels on a side of 24.
        (1, 1, [0, 10, 20]),
        (1, 4, [0, 10, 20]),
        (4, 2, [0, 8, 16]),  # the last tile gives 8 of its 10
        (7, 3, [0, 7, 14]),  # and here all 10 of them
    ],
)
def test_every_pixel_comes_from_one_tile_of_one_shape(align, batch_size, edges):
    calls = []

    def predict(tiles):
        assert tiles.shape == (batch_size, 16, 16, 3)
        calls.append(len(tiles))
        first = batch_size * (len(calls) - 1)
        numbers = np.arange(first, first + batch_size, dtype=np.float32)
        return np.broadcast_to(numbers[:, None, None, None], (batch_size, 10, 10, 1))

    scores = predict_tiles(
        random_image(24, 10),
        predict,
        input_size=(16, 16),
        margin=3,
        align=align,
        batch_size=batch_size,
    )
    expected = np.searchsorted(edges, np.arange(24), side="right") - 1
    np.testing.assert_array_equal(scores[..., 0], np.repeat(expected[:, None], 10, 1))
    assert len(calls) == -(-len(edges) // batch_size)


def test_the_paper_s_tiles():
    inputs = []

    def predict(tiles):
        inputs.append(tiles)
        return middle(92)(tiles)

    image = random_image(400, 388)
    scores = predict_tiles(image, predict, input_size=(572, 572), margin=92)
    np.testing.assert_array_equal(scores, image)
    assert len(inputs) == 2
    # Mirrored about its edge: pixel -1 is pixel 0, and so on.
    np.testing.assert_array_equal(inputs[0][0, 91, 92:480], image[0])
    np.testing.assert_array_equal(inputs[0][0, 0, 92:480], image[91])
    np.testing.assert_array_equal(inputs[0][0, 92:480, 480], image[:388, 387])
    # The second tile begins at row 388 of the image, which ends twelve rows on.
    np.testing.assert_array_equal(inputs[1][0, 0, 92:480], image[388 - 92])
    np.testing.assert_array_equal(inputs[1][0, 92 + 12, 92:480], image[399])


def test_margin_that_covers_the_receptive_field_leaves_no_seams():
    # Every score is the sum of the 7x7 pixels around it.
    def predict(tiles):
        windows = np.lib.stride_tricks.sliding_window_view(tiles, (7, 7), (1, 2))
        return windows.sum(axis=(-2, -1), dtype=np.int64)

    image = random_image(20, 33)
    scores = predict_tiles(image, predict, input_size=(14, 17), margin=3, batch_size=4)
    mirrored = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(scores, predict(mirrored[None])[0])


def test_valid_unet_in_tiles_is_the_unet_on_the_whole_image():
    encoder = PooledEncoder(
        ((3, 3), (4, 4)), (5, 5), norm=False, ceil_mode=False, padding="VALID"
    )
    model = Segmenter(encoder, UNetDecoder(2, norm=False, padding="VALID"))
    assert model.margin == 14 + 6
    image = random_image(43, 30)
    smallest = jnp.zeros((1, *model.input_size((1, 1)), 3))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), smallest)
    whole = jax.jit(partial(predict_logits, model=model, size=(43, 30)))(
        variables, image[None]
    )

    @jax.jit
    def apply(tiles):
        return model.apply(variables, normalize(tiles), train=False)["logits"]

    options = exact_tiles(model.input_size, model.margin, tile=(16, 16))
    assert options == {
        "input_size": model.input_size((16, 16)),
        "margin": model.margin,
        "align": 4,
    }
    tiled = predict_tiles(image, apply, batch_size=4, **options)
    assert apply._cache_size() == 1
    assert tiled.shape == (43, 30, 2)
    assert np.ptp(whole) > 0.1
    np.testing.assert_allclose(tiled, whole[0], atol=1e-5)
    # More context changes nothing: 5 pixels are raised to 8, two pooling windows.
    wider = exact_tiles(model.input_size, 20, tile=(16, 16), context=25)
    assert (wider["margin"], wider["align"]) == (28, 4)
    np.testing.assert_allclose(
        predict_tiles(image, apply, **wider), whole[0], atol=1e-5
    )
    # Tiles that start between the poolings' windows are another network.
    shifted = predict_tiles(image, apply, batch_size=4, **{**options, "align": 15})
    np.testing.assert_allclose(shifted[:15, :15], whole[0, :15, :15], atol=1e-5)
    assert np.abs(shifted - whole[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 8}, "input_size 16x16 with a margin of 8 leaves tiles of 0x0"),
        ({"align": 11}, "tiles of 10x10 pixels, expected at least 11x11"),
        ({"margin": -1}, "margin -1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"margin": 2}, "scores have 10x10 pixels.*at least 12x12"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        predict_tiles(
            random_image(20, 20),
            middle(3),
            **{"input_size": (16, 16), "margin": 3, **options},
        )


def test_image_of_wrong_rank_or_type():
    image = random_image(20, 20)
    for bad in (image[..., 0], image.astype(np.float32)):
        with pytest.raises(AssertionError):
            predict_tiles(bad, middle(0), input_size=(16, 16), margin=0)


def test_options_of_the_paper_s_network():
    """Inputs of 16 n + 124 pixels lose 92 a side; figure 1 has 572, 388 of them left."""

    def input_size(size):
        return tuple(-(-(side + 60) // 16) * 16 + 124 for side in size)

    assert exact_tiles(input_size, 92, tile=(388, 388)) == {
        "input_size": (572, 572),
        "margin": 92,
        "align": 16,
    }
    # A tile of 4 pixels would fit, but not start at multiples of 16.
    assert exact_tiles(input_size, 92, tile=(1, 30))["input_size"] == (204, 220)
    with pytest.raises(InputError, match="context 91: the network needs 92 pixels"):
        exact_tiles(input_size, 92, tile=(1, 1), context=91)


def test_options_of_a_network_that_takes_every_size():
    assert exact_tiles(lambda size: size, 0, tile=(30, 40), context=5) == {
        "input_size": (40, 50),
        "margin": 5,
        "align": 1,
    }


@pytest.mark.parametrize("margin", [0, 3, 11, 40])
@pytest.mark.parametrize("size", [(1, 1), (5, 70), (37, 29), (70, 5)])
def test_blocks_cover_every_pixel_once_and_rows_are_read_once(size, margin):
    image = random_image(*size)
    asked, covered = [], np.zeros(size, int)

    def read_rows(start, stop):
        asked.extend(range(start, stop))
        return image[start:stop]

    corners = []
    for top, left, scores in tile_blocks(
        read_rows,
        middle(margin),
        size=size,
        input_size=(10 + 2 * margin, 13 + 2 * margin),
        margin=margin,
        align=4,
        batch_size=2,
    ):
        place = np.s_[top : top + scores.shape[0], left : left + scores.shape[1]]
        np.testing.assert_array_equal(scores, image[place])
        corners.append((top, left))
        covered[place] += 1
    assert asked == list(range(size[0]))
    assert corners == sorted(corners)
    np.testing.assert_array_equal(covered, np.ones(size))
