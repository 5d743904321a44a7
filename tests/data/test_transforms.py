from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from segjax.data import transforms
from segjax.data.labels import VOID


def random_example(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "label": rng.integers(0, 200, (height, width)).astype(np.uint8),
        "id": "a",
    }


def nearest(label, size):
    """Pixel that holds the centre, one pixel at a time, in exact fractions."""
    (height, width), (new_height, new_width) = label.shape, size
    out = np.empty(size, label.dtype)
    for i in range(new_height):
        for j in range(new_width):
            row = (i + Fraction(1, 2)) * height / new_height
            column = (j + Fraction(1, 2)) * width / new_width
            out[i, j] = label[row // 1, column // 1]
    return out


class FixedFactors:
    """Stands in for a generator: `uniform` gives these numbers."""

    def __init__(self, *factors):
        self.factors = np.array(factors)

    def uniform(self, low, high, count):
        assert count == len(self.factors)
        return self.factors


def test_resize_doubles_a_row_by_hand():
    row = np.array([[0, 100]], np.uint8)
    example = {"image": np.repeat(row[..., None], 3, axis=2), "label": row, "id": "a"}
    out = transforms.resize(example, (1, 4))
    # Centres of the new pixels lie at 0.25, 0.75, 1.25, 1.75; those of the old ones,
    # between which the image is interpolated, at 0.5 and 1.5.
    np.testing.assert_array_equal(out["image"][0, :, 1], [0, 25, 75, 100])
    np.testing.assert_array_equal(out["label"], [[0, 0, 100, 100]])
    assert out["id"] == "a"


def test_resize_reduces_without_aliasing_by_hand():
    row = np.array([[0, 0, 100, 100]], np.uint8)
    out = transforms.resize_image(np.repeat(row[..., None], 3, axis=2), (1, 2))
    # A triangle of half-width 2 around 1.0 weighs the pixels .75 .75 .25 0.
    np.testing.assert_array_equal(out[0, :, 0], [round(25 / 1.75), round(150 / 1.75)])


@pytest.mark.parametrize("size", [(5, 7), (9, 13), (18, 26), (23, 4), (1, 1)])
def test_resize_takes_the_label_at_the_pixel_centre(size):
    example = random_example(9, 13)
    out = transforms.resize(example, size)
    np.testing.assert_array_equal(out["label"], nearest(example["label"], size))
    assert out["image"].shape == (*size, 3)
    assert out["image"].dtype == out["label"].dtype == np.uint8


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scale_crop_is_a_window_of_the_whole_resized_example(scale, seed):
    example = random_example(17, 21)
    crop = (8, 9)
    out = transforms.random_scale_crop(
        example,
        np.random.default_rng(seed),
        crop_size=crop,
        scale_range=(scale, scale),
    )
    size = (round(17 * scale), round(21 * scale))
    image = np.asarray(
        Image.fromarray(example["image"]).resize(size[::-1], Image.Resampling.BILINEAR)
    )
    label = nearest(example["label"], size)
    matches = [
        (top, left)
        for top in range(size[0] - crop[0] + 1)
        for left in range(size[1] - crop[1] + 1)
        if np.array_equal(
            out["label"], label[top : top + crop[0], left : left + crop[1]]
        )
    ]
    assert len(matches) == 1
    ((top, left),) = matches
    window = image[top : top + crop[0], left : left + crop[1]]
    difference = np.abs(out["image"].astype(int) - window.astype(int))
    # Pillow keeps the window's corner in float32: a value may round the other way.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.6, 2.3])
@pytest.mark.parametrize("axis", [0, 1])
def test_scale_crop_keeps_image_and_label_aligned(scale, axis):
    shape = (60, 80)
    # A slope of 2 grey levels per pixel: a shift by half a pixel makes a bias of 1.
    ramp = (2 * np.indices(shape)[axis]).astype(np.uint8)
    example = {"image": np.repeat(ramp[..., None], 3, 2), "label": ramp}
    differences = []
    for seed in range(20):
        out = transforms.random_scale_crop(
            example,
            np.random.default_rng(seed),
            crop_size=(40, 48),
            scale_range=(scale, scale),
        )
        seen = out["label"] != VOID
        image = out["image"][seen, 0].astype(int)
        differences.append(image - out["label"][seen].astype(int))
    differences = np.concatenate(differences)
    assert np.abs(differences).max() <= 2
    # A centre on a border takes the pixel after it, half a pixel or one grey level
    # away: every centre when halving, one in seven at scale 0.7.
    bias = {0.5: -1.0, 0.7: -1 / 7}.get(scale, 0.0)
    assert abs(differences.mean() - bias) < 0.1


def test_scale_crop_uses_image_size_as_scale_one():
    example = random_example(20, 30)
    out = transforms.random_scale_crop(
        example,
        np.random.default_rng(0),
        crop_size=(10, 12),
        scale_range=(1.0, 1.0),
        image_size=(10, 12),
    )
    whole = transforms.resize(example, (10, 12))
    np.testing.assert_array_equal(out["image"], whole["image"])
    np.testing.assert_array_equal(out["label"], whole["label"])


def test_scale_crop_visits_every_window():
    example = {
        "image": np.zeros((5, 6, 3), np.uint8),
        "label": np.arange(30, dtype=np.uint8).reshape(5, 6),
    }
    corners = set()
    for seed in range(100):
        out = transforms.random_scale_crop(
            example,
            np.random.default_rng(seed),
            crop_size=(4, 4),
            scale_range=(1.0, 1.0),
        )
        corners.add(int(out["label"][0, 0]))
    assert corners == {0, 1, 2, 6, 7, 8}


def test_scale_crop_draws_the_scale_uniformly():
    example = {
        "image": np.zeros((100, 100, 3), np.uint8),
        "label": np.zeros((100, 100), np.uint8),
    }
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(300):
        out = transforms.random_scale_crop(
            example, rng, crop_size=(100, 100), scale_range=(0.5, 1.0)
        )
        sides.append(np.sqrt((out["label"] != VOID).sum()))
    # Uniform on 50..100: mean 75, standard deviation of the mean 0.83.
    assert abs(np.mean(sides) - 75) < 4
    assert min(sides) < 53
    assert max(sides) > 97


def test_scale_crop_pads_with_mirror_image_and_void():
    example = random_example(3, 4)
    corners = set()
    for seed in range(200):
        out = transforms.random_scale_crop(
            example,
            np.random.default_rng(seed),
            crop_size=(8, 6),
            scale_range=(1.0, 1.0),
        )
        rows, columns = np.nonzero(out["label"] != VOID)
        top, left = rows.min(), columns.min()
        corners.add((top, left))
        inside = np.s_[top : top + 3, left : left + 4]
        np.testing.assert_array_equal(out["label"][inside], example["label"])
        assert len(rows) == 12
        for i in range(8):
            for j in range(6):
                # Period 2n, mirrored at the borders between pixels.
                row, column = (i - top) % 6, (j - left) % 8
                row, column = min(row, 5 - row), min(column, 7 - column)
                assert (out["image"][i, j] == example["image"][row, column]).all()
    assert corners == {(top, left) for top in range(6) for left in range(3)}


def test_flip_mirrors_both_half_of_the_time():
    example = random_example(3, 4)
    before = {name: example[name].copy() for name in ("image", "label")}
    rng = np.random.default_rng(0)
    flips = 0
    for _ in range(400):
        out = transforms.random_flip(example, rng)
        flipped = not np.array_equal(out["label"], example["label"])
        flips += flipped
        for name in ("image", "label"):
            expected = before[name][:, ::-1] if flipped else before[name]
            np.testing.assert_array_equal(out[name], expected)
            np.testing.assert_array_equal(example[name], before[name])
    assert 160 < flips < 240  # four standard deviations around 200


def test_photometric_brightness_by_hand():
    example = random_example(2, 2)
    example["image"] = np.array([[[100, 0, 200], [10, 51, 170]]], np.uint8)
    out = transforms.photometric(example, FixedFactors(1.5, 1.0, 1.0), strength=0.5)
    np.testing.assert_array_equal(out["image"], [[[150, 0, 255], [15, 77, 255]]])
    assert out["label"] is example["label"]


def test_photometric_without_contrast_is_the_mean_luma():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 0] = [200, 0, 0]
    image[0, 1] = [0, 100, 50]
    out = transforms.photometric(
        {"image": image, "label": None}, FixedFactors(1.0, 0.0, 1.0), strength=1.0
    )
    # (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 2 = 62.1
    np.testing.assert_array_equal(out["image"], np.full((1, 2, 3), 62))


def test_photometric_without_saturation_is_each_pixels_luma():
    image = np.array([[[200, 0, 0], [0, 100, 50]]], np.uint8)
    out = transforms.photometric(
        {"image": image, "label": None}, FixedFactors(1.0, 1.0, 0.0), strength=1.0
    )
    # 59.8 and 64.4
    np.testing.assert_array_equal(out["image"], [[[60] * 3, [64] * 3]])


def test_photometric_combines_the_three_changes():
    image = random_example(8, 9)["image"]
    brightness, contrast, saturation = 0.8, 1.3, 0.6
    out = transforms.photometric(
        {"image": image, "label": None},
        FixedFactors(brightness, contrast, saturation),
        strength=0.5,
    )
    expected = image.astype(np.float64) * brightness
    mean = (expected @ [0.299, 0.587, 0.114]).mean()
    expected = mean + contrast * (expected - mean)
    grey = (expected @ [0.299, 0.587, 0.114])[..., None]
    expected = np.clip(grey + saturation * (expected - grey), 0, 255)
    assert np.abs(out["image"] - expected).max() <= 0.51


def test_photometric_draws_from_one_plus_minus_strength():
    image = np.full((1, 1, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    values = [
        int(
            transforms.photometric({"image": image, "label": None}, rng, strength=0.3)[
                "image"
            ][0, 0, 0]
        )
        for _ in range(300)
    ]
    # One grey pixel: contrast and saturation leave it, brightness is 0.7..1.3.
    assert 70 <= min(values) < 73
    assert 127 < max(values) <= 130
    assert abs(np.mean(values) - 100) < 4


def test_photometric_of_strength_zero_is_the_identity():
    example = random_example(8, 9)
    out = transforms.photometric(example, np.random.default_rng(0), strength=0)
    np.testing.assert_array_equal(out["image"], example["image"])


@pytest.mark.parametrize("seed", range(3))
def test_transforms_depend_on_the_generator_alone(seed):
    example = random_example(12, 16)

    def run():
        rng = np.random.default_rng(seed)
        out = transforms.random_scale_crop(
            example, rng, crop_size=(8, 8), scale_range=(0.5, 2.0)
        )
        out = transforms.random_flip(out, rng)
        return transforms.photometric(out, rng, strength=0.4)

    first, second = run(), run()
    np.testing.assert_array_equal(first["image"], second["image"])
    np.testing.assert_array_equal(first["label"], second["label"])
