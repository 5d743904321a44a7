import math

import numpy as np
import pytest
from scipy import ndimage

from segjax.boundary_iou import boundary_counts, boundary_iou
from segjax.data.labels import VOID
from segjax.errors import InputError


def random_label(rng, size, num_classes, *, void=0.0):
    fields = ndimage.gaussian_filter(rng.normal(size=(num_classes, *size)), (0, 2, 2))
    label = fields.argmax(axis=0).astype(np.uint8)
    holes = ndimage.gaussian_filter(rng.normal(size=size), 1.0)
    label[holes > np.quantile(holes, 1 - void)] = VOID
    return label


def region(mask, distance, *, ignored):
    """Pixels of a mask whose square leaves the mask: pixel by pixel."""
    height, width = mask.shape
    marked = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(mask):
        for y in range(row - distance, row + distance + 1):
            for x in range(column - distance, column + distance + 1):
                inside = 0 <= y < height and 0 <= x < width
                if not inside or not (mask[y, x] or ignored[y, x]):
                    marked[row, column] = True
    return marked


def reference(prediction, label, *, num_classes, distance, void):
    ignored = np.zeros(label.shape, bool)
    if void == "masked":
        ignored = label == VOID
    counts = []
    for k in range(num_classes):
        true = region((label == k) & ~ignored, distance, ignored=ignored)
        predicted = region((prediction == k) & ~ignored, distance, ignored=ignored)
        counts.append([np.sum(true & predicted), np.sum(true | predicted)])
    return np.array(counts)


def test_shifted_square_by_hand():
    # The diagonal is 5 x 10 pixels, 0.02 of it one pixel: regions are rings.
    label, prediction = np.zeros((2, 30, 40), np.uint8)
    label[10:16, 10:16] = 1
    prediction[10:16, 11:17] = 1
    counts = boundary_counts(prediction, label, num_classes=3)
    # Rings of 20 pixels share their upper and lower edge: 5 pixels each.
    np.testing.assert_array_equal(counts[1], [10, 30])
    # Outside: the frame (136) and the ring around the square (28), of which 7 above and
    # 7 below are shared.
    np.testing.assert_array_equal(counts[0], [136 + 14, 136 + 28 + 28 - 14])
    np.testing.assert_array_equal(counts[2], [0, 0])
    iou = boundary_iou(counts)
    np.testing.assert_allclose(iou[:2], [150 / 178, 1 / 3])
    assert np.isnan(iou[2])


@pytest.mark.parametrize(
    ("size", "ratio", "distance"),
    [
        ((360, 480), 0.02, 12),  # 600 pixels
        ((3, 4), 0.02, 1),  # never less than one
        ((30, 40), 0.05, 2),  # 2.5: halves to even, as in Python
        ((30, 40), 0.07, 4),  # 3.5
    ],
)
def test_width_of_the_region(size, ratio, distance):
    label = np.zeros(size, np.uint8)
    counts = boundary_counts(label, label, num_classes=1, dilation_ratio=ratio)
    inner = np.prod([max(0, side - 2 * distance) for side in size])
    np.testing.assert_array_equal(counts, [[label.size - inner] * 2])


@pytest.mark.parametrize("void", ["masked", "other"])
@pytest.mark.parametrize("distance", [1, 2, 3, 11])
def test_against_brute_force(distance, void):
    rng = np.random.default_rng(distance)
    size = (16, 21)
    label = random_label(rng, size, 3, void=0.15)
    prediction = np.where(label == VOID, 2, np.roll(label, 1, axis=1))
    prediction[prediction == VOID] = 1
    prediction[4:7, 5:9] = 3
    counts = boundary_counts(
        prediction,
        label,
        num_classes=5,
        dilation_ratio=distance / math.hypot(*size),
        void=void,
    )
    expected = reference(prediction, label, num_classes=5, distance=distance, void=void)
    assert expected[:3].all()
    assert expected[3, 1] > 0
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64


def test_erosions_of_the_authors_program():
    """d erosions by 3x3 inside a frame of zeros, as `mask_to_boundary`."""
    rng = np.random.default_rng(0)
    label, prediction = (random_label(rng, (60, 80), 3) for _ in range(2))
    counts = boundary_counts(prediction, label, num_classes=3)
    for k in range(3):
        regions = []
        for mask in (label == k, prediction == k):
            eroded = ndimage.binary_erosion(
                np.pad(mask, 1), np.ones((3, 3)), iterations=2
            )
            regions.append(mask & ~eroded[1:-1, 1:-1])
        both, either = regions[0] & regions[1], regions[0] | regions[1]
        np.testing.assert_array_equal(counts[k], [both.sum(), either.sum()])
        assert 0 < boundary_iou(counts)[k] < 1


def test_predictions_inside_void_change_nothing():
    rng = np.random.default_rng(1)
    label = random_label(rng, (40, 50), 3, void=0.3)
    prediction = random_label(rng, (40, 50), 3)
    expected = boundary_counts(prediction, label, num_classes=4)
    for value in range(4):
        changed = np.where(label == VOID, value, prediction)
        counts = boundary_counts(changed, label, num_classes=4)
        np.testing.assert_array_equal(counts, expected)


def test_edge_towards_void_is_no_outline():
    label = np.zeros((60, 80), np.uint8)
    label[:, 40:] = VOID
    counts = boundary_counts(np.zeros_like(label), label, num_classes=1)
    # Two pixels wide: above, below and at the left.
    expected = 60 * 40 - 56 * 38
    np.testing.assert_array_equal(counts, [[expected, expected]])


def test_counts_add_up_and_do_not_average():
    first = boundary_counts(
        np.zeros((60, 80), int), np.zeros((60, 80), int), num_classes=2
    )
    label = np.zeros((60, 80), int)
    second = boundary_counts(1 - label, label, num_classes=2)
    frame = 60 * 80 - 56 * 76
    np.testing.assert_array_equal(first + second, [[frame, 2 * frame], [0, frame]])
    np.testing.assert_array_equal(boundary_iou(first + second), [0.5, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros((4, 6), int)}, r"\(4, 5\).*\(4, 6\)"),
        ({"prediction": np.full((4, 5), 3)}, "prediction value 3; expected 0..2"),
        ({"label": np.zeros((4, 5))}, "label is float64"),
        ({"dilation_ratio": 0.0}, "dilation ratio 0.0"),
        ({"dilation_ratio": math.nan}, "dilation ratio nan"),
        ({"void": "background"}, "'background'.*masked, other"),
    ],
)
def test_refuses_misuse(change, message):
    zeros = np.zeros((4, 5), int)
    arguments = {"prediction": zeros, "label": zeros, "num_classes": 3, **change}
    positional = arguments.pop("prediction"), arguments.pop("label")
    with pytest.raises(InputError, match=f"boundary IoU: .*{message}"):
        boundary_counts(*positional, **arguments)
