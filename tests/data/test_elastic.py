import numpy as np
import pytest

from segjax.data import transforms
from segjax.data.labels import VOID


def random_example(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "label": rng.integers(0, 200, (height, width)).astype(np.uint8),
        "id": "a",
    }


def coordinates(height, width):
    """An example that says where each of its pixels is: the row, then the column."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([4 * rows, 4 * columns, 0 * rows], axis=-1).astype(np.uint8)
    label = (rows // 8 * 10 + columns // 8).astype(np.uint8)
    return {"image": image, "label": label, "id": "a"}


class Ones:
    """Stands in for a generator: every normal number is 1."""

    def standard_normal(self, shape):
        return np.ones(shape)


def test_sigma_zero_is_the_identity():
    example = random_example(19, 24)
    out = transforms.random_elastic(example, np.random.default_rng(0), sigma=0.0)
    np.testing.assert_array_equal(out["image"], example["image"])
    np.testing.assert_array_equal(out["label"], example["label"])
    assert out["id"] == "a"


@pytest.mark.parametrize("grid_size", [(3, 3), (2, 5), (4, 3)])
def test_displacement_at_the_grid_points_is_the_given_one(grid_size):
    grid = np.random.default_rng(0).normal(0, 10, (*grid_size, 2))
    # Every sixth pixel is a grid point.
    size = tuple(6 * (n - 1) + 1 for n in grid_size)
    field = transforms.dense_displacement(grid, size)
    assert field.shape == (2, *size)
    np.testing.assert_allclose(field[:, ::6, ::6], grid.transpose(2, 0, 1), atol=1e-9)


def test_displacement_is_a_smooth_cubic_between_grid_points():
    grid = np.random.default_rng(0).normal(0, 10, (3, 3, 2))
    line = transforms.dense_displacement(grid, (201, 3))[0, :, 0]
    # A cubic's fourth differences vanish; a C2 spline's second ones have no jump
    # at the knot, where those of the two cubics on both sides would differ.
    assert np.abs(np.diff(line[:101], 4)).max() < 1e-8
    assert np.abs(np.diff(line[100:], 4)).max() < 1e-8
    second = np.diff(line, 2)
    assert np.abs(np.diff(second)).max() < 0.05 * np.abs(second).max()
    # It is not linear.
    assert np.abs(second).max() > 1e-4


def test_constant_displacement_is_a_constant():
    grid = np.broadcast_to(np.array([1.5, -4.0]), (3, 3, 2))
    field = transforms.dense_displacement(grid, (8, 11))
    np.testing.assert_allclose(field[0], np.full((8, 11), 1.5), atol=1e-12)
    np.testing.assert_allclose(field[1], np.full((8, 11), -4.0), atol=1e-12)


@pytest.mark.parametrize("shift", [(2, 3), (-2, 3), (0, -20), (5, 0)])
def test_whole_shift_moves_image_and_label(shift):
    example = random_example(12, 17)
    out = transforms.deform(example, np.broadcast_to(np.array(shift, float), (3, 3, 2)))
    window = tuple(
        slice(20 + s, 20 + s + side) for s, side in zip(shift, (12, 17), strict=True)
    )
    mirrored = np.pad(example["image"], ((20, 20), (20, 20), (0, 0)), mode="symmetric")
    void = np.pad(example["label"], 20, constant_values=VOID)
    np.testing.assert_array_equal(out["image"], mirrored[window])
    np.testing.assert_array_equal(out["label"], void[window])


def test_three_quarters_of_a_pixel_by_hand():
    example = random_example(5, 9)
    out = transforms.deform(example, np.broadcast_to(np.array([0, 0.75]), (3, 3, 2)))
    image = example["image"].astype(float)
    mean = 0.25 * image[:, :-1] + 0.75 * image[:, 1:]
    assert np.abs(out["image"][:, :-1] - mean).max() <= 0.5 + 1e-3
    # The right pixel holds the point; right of the last one is nothing.
    np.testing.assert_array_equal(out["label"][:, :-1], example["label"][:, 1:])
    assert (out["label"][:, -1] == VOID).all()


@pytest.mark.parametrize("seed", range(3))
def test_image_and_label_stay_aligned(seed):
    example = coordinates(48, 60)
    rng = np.random.default_rng(seed)
    out = transforms.random_elastic(example, rng, sigma=6.0)
    rows, columns = (out["image"][..., axis] / 4 for axis in (0, 1))
    inside = out["label"] != VOID
    assert 0.5 < inside.mean() < 1
    moved = np.hypot(rows - np.arange(48)[:, None], columns - np.arange(60)[None, :])
    assert moved[inside].max() > 3
    # What the image says where it is from, up to its rounding, the label says too.
    sure = inside & (abs(rows % 1 - 0.5) > 0.13) & (abs(columns % 1 - 0.5) > 0.13)
    assert sure.sum() > 0.3 * sure.size
    source = np.rint(rows).astype(int), np.rint(columns).astype(int)
    np.testing.assert_array_equal(out["label"][sure], example["label"][source][sure])


def test_sigma_is_in_pixels():
    example = random_example(20, 20)
    out = transforms.random_elastic(example, Ones(), sigma=3.0)
    np.testing.assert_array_equal(out["label"][:-3, :-3], example["label"][3:, 3:])


def test_depends_on_the_generator_alone_and_leaves_its_input():
    example = random_example(20, 24)
    before = {k: example[k].copy() for k in ("image", "label")}
    first, again, other = (
        transforms.random_elastic(example, np.random.default_rng(seed), sigma=4.0)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["label"], again["label"])
    assert not np.array_equal(first["image"], other["image"])
    for name, array in before.items():
        np.testing.assert_array_equal(example[name], array)
        assert first[name].dtype == np.uint8
