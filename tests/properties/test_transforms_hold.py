"""What holds for the joint transforms, whatever the example and the random numbers.

That image and label stay aligned is seen on examples that say in both where every pixel
comes from: the label by a value of its own for each pixel, the image by two ramps.
"""

import numpy as np
from for_all import for_all
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segjax.data import transforms
from segjax.data.labels import VOID
from segjax.data.pipeline import augment_row

SEEDS = st.integers(0, 2**32 - 1)
# Few enough pixels that each has a label value of its own below void.
SIZES = st.tuples(st.integers(1, 15), st.integers(1, 16))
WINDOWS = st.tuples(st.integers(1, 24), st.integers(1, 24))
SCALES = st.sampled_from([0.5, 1.0, 2.0]) | st.floats(0.3, 3.0)
STRENGTHS = st.floats(0, 1)

# Grey levels from one pixel of a ramp to the next.
STEP = 16


def whereabouts(size):
    """An example whose image and label both say where each pixel is."""
    rows, columns = np.indices(size)
    image = STEP * np.stack([rows, columns, rows], axis=-1)
    label = rows * size[1] + columns
    return {"image": image.astype(np.uint8), "label": label.astype(np.uint8), "id": "a"}


def origins(example, size):
    """Row and column in the source `[2 h w]`: by the label, and by the image."""
    by_label = np.stack(np.divmod(example["label"].astype(int), size[1]))
    by_image = np.moveaxis(example["image"][..., :2], -1, 0) / STEP
    return by_label, by_image


def assert_aligned(example, size, scaled):
    """Image and label come from the same places of the source, up to the filter.

    The label names the pixel that holds a centre, so the centre is at most half a pixel
    off its middle. The image is a weighted mean around the centre, symmetric but for
    how the pixels fall under a filter that widens; at the border it lacks one side.
    """
    seen = example["label"] != VOID
    by_label, by_image = origins(example, size)
    for axis in range(2):
        reach = max(1.0, size[axis] / scaled[axis])
        place = by_label[axis][seen]
        off = np.abs(by_image[axis][seen] - place)
        inside = (place >= reach) & (place + 1 + reach <= size[axis])
        rounding = 0.5 / STEP + 1e-3
        assert np.all(off[inside] <= 0.5 + 0.1 * (reach > 1) + rounding)
        assert np.all(off <= 0.5 + reach * (reach > 1) + rounding)


@st.composite
def examples(draw):
    """An example of a few classes and void, and any image."""
    size = draw(SIZES)
    label = draw(
        hnp.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 7, VOID]))
    )
    rng = np.random.default_rng(draw(SEEDS))
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return {"image": image, "label": label, "id": "a"}


@for_all(size=SIZES, new_size=WINDOWS)
def test_resizing_keeps_image_and_label_aligned(size, new_size):
    out = transforms.resize(whereabouts(size), new_size)
    assert_aligned(out, size, new_size)
    by_label, _ = origins(out, size)
    for axis in range(2):
        # The pixel that holds the centre, in whole numbers.
        lines = (2 * np.arange(new_size[axis]) + 1) * size[axis] // (2 * new_size[axis])
        expected = np.expand_dims(lines, 1 - axis)
        np.testing.assert_array_equal(
            by_label[axis], np.broadcast_to(expected, new_size)
        )


@for_all(size=SIZES, crop_size=WINDOWS, scale=SCALES, seed=SEEDS, flip=st.booleans())
def test_scaling_cropping_and_flipping_keep_image_and_label_aligned(
    size, crop_size, scale, seed, flip
):
    out = augment_row(
        whereabouts(size),
        np.random.default_rng(seed),
        crop_size=crop_size,
        scale_range=(scale, scale),
        flip=flip,
        strength=0,
        elastic=0,
        border_weight=None,
        image_size=None,
    )
    scaled = tuple(max(1, round(scale * side)) for side in size)
    assert_aligned(out, size, scaled)

    # One rectangle is not void: as much of the scaled example as the crop holds.
    seen = out["label"] != VOID
    shown = [min(pair) for pair in zip(scaled, crop_size, strict=True)]
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    assert [len(rows), len(columns)] == shown
    assert seen[np.ix_(rows, columns)].all()
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == tuple(shown)

    # Beyond it the image is its mirror image.
    before = rows[0], columns[0]
    padding = [
        (first, crop - first - n)
        for first, crop, n in zip(before, crop_size, shown, strict=True)
    ]
    inside = out["image"][np.ix_(rows, columns)]
    np.testing.assert_array_equal(
        out["image"], np.pad(inside, (*padding, (0, 0)), mode="symmetric")
    )


@for_all(
    example=examples(),
    colors=hnp.arrays(np.uint8, (256, 3)),
    crop_size=WINDOWS,
    seed=SEEDS,
)
def test_without_scaling_every_pixel_keeps_its_label(example, colors, crop_size, seed):
    """The image is a picture of the label, and still is after crop and flip."""
    example["image"] = colors[example["label"]]
    rng = np.random.default_rng(seed)
    out = transforms.random_scale_crop(
        example, rng, crop_size=crop_size, scale_range=(1.0, 1.0)
    )
    out = transforms.random_flip(out, rng)
    # Void also where there is no label, and the image is its mirror image.
    seen = out["label"] != VOID
    np.testing.assert_array_equal(out["image"][seen], colors[out["label"][seen]])
    height, width = (
        min(pair) for pair in zip(example["label"].shape, crop_size, strict=True)
    )
    assert VOID in example["label"] or seen.sum() == height * width


@for_all(size=SIZES, sigma=st.floats(0, 8), seed=SEEDS)
def test_elastic_deformation_keeps_image_and_label_aligned(size, sigma, seed):
    example = whereabouts(size)
    out = transforms.random_elastic(example, np.random.default_rng(seed), sigma=sigma)
    # Neither resized nor widened: half a pixel everywhere, at the border, too.
    assert_aligned(out, size, size)


@for_all(size=SIZES, quarters=st.tuples(*2 * [st.integers(-40, 40)]))
def test_an_even_displacement_is_a_shift(size, quarters):
    # A centre that falls between two pixels belongs to either, by rounding.
    shift = [(n + (n % 4 == 2)) / 4 for n in quarters]
    grid = np.broadcast_to(np.array(shift), (3, 3, 2))
    out = transforms.deform(whereabouts(size), grid)
    by_label, by_image = origins(out, size)
    places = np.indices(size) + np.reshape(shift, (2, 1, 1))
    whole = np.floor(places + 0.5)
    last = np.reshape(size, (2, 1, 1)) - 1
    seen = np.all((whole >= 0) & (whole <= last), axis=0)
    np.testing.assert_array_equal(out["label"] != VOID, seen)
    np.testing.assert_array_equal(by_label[:, seen], whole[:, seen])
    expected = np.clip(places, 0, last)
    np.testing.assert_allclose(by_image[:, seen], expected[:, seen], atol=0.51 / STEP)


@for_all(
    example=examples(),
    crop_size=WINDOWS,
    scales=st.tuples(SCALES, SCALES),
    image_size=st.none() | SIZES,
    options=st.fixed_dictionaries(
        {
            "flip": st.booleans(),
            "strength": STRENGTHS,
            "elastic": st.sampled_from([0, 0.5, 4.0]),
        }
    ),
    seed=SEEDS,
)
def test_augmentation_invents_no_label_and_depends_on_its_seed_alone(
    example, crop_size, scales, image_size, options, seed
):
    before = {name: example[name].copy() for name in ("image", "label")}

    def augmented():
        return augment_row(
            example,
            np.random.default_rng(seed),
            crop_size=crop_size,
            scale_range=tuple(sorted(scales)),
            border_weight=None,
            image_size=image_size,
            **options,
        )

    out, again = augmented(), augmented()
    assert {*np.unique(out["label"])} <= {*np.unique(example["label"]), VOID}
    assert out["image"].shape == (*crop_size, 3)
    assert out["label"].shape == crop_size
    assert out["image"].dtype == out["label"].dtype == np.uint8
    for name, array in before.items():
        np.testing.assert_array_equal(example[name], array)
        np.testing.assert_array_equal(out[name], again[name])


@for_all(example=examples(), seed=SEEDS)
def test_flipping_is_undone_by_flipping(example, seed):
    out = transforms.random_flip(example, np.random.default_rng(seed))
    back = transforms.random_flip(out, np.random.default_rng(seed))
    for name in ("image", "label"):
        np.testing.assert_array_equal(back[name], example[name])
    assert out["id"] == example["id"]


@for_all(example=examples(), strength=STRENGTHS, seed=SEEDS, order=st.randoms())
def test_colour_jitter_looks_at_no_positions(example, strength, seed, order):
    def jittered(image):
        rng = np.random.default_rng(seed)
        return transforms.photometric(
            {**example, "image": image}, rng, strength=strength
        )

    out = jittered(example["image"])
    assert out["label"] is example["label"]
    pixels = example["image"].reshape(-1, 3)
    shuffled = np.array(order.sample(range(len(pixels)), len(pixels)))
    other = jittered(pixels[shuffled].reshape(example["image"].shape))
    np.testing.assert_array_equal(
        out["image"].reshape(-1, 3)[shuffled], other["image"].reshape(-1, 3)
    )


@for_all(example=examples(), more=st.tuples(*4 * [st.integers(0, 20)]))
def test_padding_surrounds_with_mirror_image_and_void(example, more):
    image, label = example["image"], example["label"]
    (height, width), (top, bottom, left, right) = label.shape, more
    size = (top + height + bottom, left + width + right)
    padded_image = transforms.pad_image(image, size, top=top, left=left)
    padded_label = transforms.pad_label(label, size, top=top, left=left)
    inside = np.s_[top : top + height, left : left + width]
    np.testing.assert_array_equal(padded_label[inside], label)
    assert np.sum(padded_label != VOID) == np.sum(label != VOID)

    def mirrored(positions, side):
        """Position in a line that is repeated there and back without end."""
        positions = positions % (2 * side)
        return np.minimum(positions, 2 * side - 1 - positions)

    rows = mirrored(np.arange(size[0]) - top, height)
    columns = mirrored(np.arange(size[1]) - left, width)
    np.testing.assert_array_equal(padded_image, image[rows[:, None], columns])
