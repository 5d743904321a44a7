import math

import numpy as np
import pytest
from scipy import ndimage, optimize
from scipy.spatial.distance import cdist

from segjax.boundary import (
    boundary_f1,
    boundary_f1_both_ways,
    boundary_f1_dilated,
    mean_boundary_f1,
)
from segjax.boundary_pixels import boundary_map
from segjax.data.labels import VOID
from segjax.errors import InputError

BOTH = pytest.mark.parametrize("score", [boundary_f1, boundary_f1_dilated])


def halves(edge, *, size=(360, 480), values=(0, 1)):
    """Columns up to `edge` (excluded) of one class, the rest of another."""
    label = np.full(size, values[1], np.uint8)
    label[:, :edge] = values[0]
    return label


def random_label(rng, size, num_classes, *, void=0.0):
    """Blobs, so that boundaries are curves and not noise."""
    fields = rng.normal(size=(num_classes, *size))
    fields = ndimage.gaussian_filter(fields, (0, 1.2, 1.2))
    label = fields.argmax(axis=0).astype(np.uint8)
    holes = ndimage.gaussian_filter(rng.normal(size=size), 1.0)
    label[holes > np.quantile(holes, 1 - void)] = VOID
    return label


def edge_pixels(mask):
    """Another reading of `seg2bdry`: the junctions of the grid of pixel edges.

    The image's grid has a node at the lower right corner of every pixel; a node is on
    the boundary if one of the four pixel edges that meet there separates unequal
    pixels. Nodes on the frame of the image copy the frame's inner neighbour: the edge
    that ends there.
    """
    height, width = mask.shape
    marked = np.zeros(mask.shape, bool)
    for row in range(height):
        for column in range(width):
            below, right = row + 1 < height, column + 1 < width
            edges = []
            if right:
                edges.append(mask[row, column] != mask[row, column + 1])
            if below:
                edges.append(mask[row, column] != mask[row + 1, column])
            if right and below:
                edges.append(mask[row + 1, column] != mask[row + 1, column + 1])
                edges.append(mask[row, column + 1] != mask[row + 1, column + 1])
            marked[row, column] = any(edges)
    return marked


def reference(prediction, label, *, num_classes, radius, one_to_one):
    """Scores of void-free maps by brute force: F1 of the authors' script."""
    f1 = np.full(num_classes, np.nan)
    for k in range(num_classes):
        predicted = np.argwhere(edge_pixels(prediction == k))
        true = np.argwhere(edge_pixels(label == k))
        if not len(predicted) and not len(true):
            continue
        f1[k] = 0.0
        if not len(predicted) or not len(true):
            continue
        near = cdist(predicted, true) <= radius + 1e-6
        if one_to_one:
            chosen = optimize.linear_sum_assignment(near, maximize=True)
            matched_predicted = matched_true = near[chosen].sum()
        else:
            matched_predicted = near.any(axis=1).sum()
            matched_true = near.any(axis=0).sum()
        precision = matched_predicted / len(predicted)
        recall = matched_true / len(true)
        if precision + recall:
            f1[k] = 2 * precision * recall / (precision + recall)
    return f1


def test_boundary_map_by_hand():
    mask = np.array(
        [
            [0, 0, 0, 0, 0],
            [0, 0, 1, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 1],
            [1, 0, 0, 0, 1],
        ],
        bool,
    )
    expected = np.array(
        [
            [0, 1, 1, 0, 0],
            [0, 1, 1, 0, 0],
            [0, 0, 0, 1, 1],  # last column: differs from below
            [1, 0, 0, 1, 0],
            [1, 0, 0, 1, 0],  # last row: differs from the right; corner never
        ],
        bool,
    )
    np.testing.assert_array_equal(boundary_map(mask), expected)
    np.testing.assert_array_equal(boundary_map(~mask), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (9, 13)])
def test_boundary_map_against_pixel_edges(size):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random(size) < density
        np.testing.assert_array_equal(boundary_map(mask), edge_pixels(mask))


@BOTH
@pytest.mark.parametrize(
    ("shift", "expected"), [(0, 1.0), (1, 1.0), (4, 1.0), (5, 0.0)]
)
def test_vertical_line_shifted(score, shift, expected):
    # 0.75 % of the diagonal of 360x480, 600 pixels, is 4.5 pixels.
    scores = score(halves(240 + shift), halves(240), num_classes=2)
    np.testing.assert_array_equal(scores.f1, [expected, expected])
    np.testing.assert_array_equal(scores.precision, [expected, expected])
    np.testing.assert_array_equal(scores.recall, [expected, expected])
    assert scores.image == expected


@BOTH
def test_distance_equal_to_the_tolerance_counts(score):
    # The diagonal of 3x4 is 5 pixels.
    label, prediction = halves(1, size=(3, 4)), halves(2, size=(3, 4))
    for tolerance, expected in ((0.2, 1.0), (0.199, 0.0), (0.0, 0.0)):
        scores = score(prediction, label, num_classes=2, tolerance=tolerance)
        assert scores.image == expected
    assert score(label, label, num_classes=2, tolerance=0.0).image == 1.0


def test_a_tolerance_of_the_whole_image_pairs_all():
    rng = np.random.default_rng(2)
    label, prediction = (random_label(rng, (40, 60), 2) for _ in range(2))
    true = np.count_nonzero(edge_pixels(label == 1))
    predicted = np.count_nonzero(edge_pixels(prediction == 1))
    assert true != predicted
    exact = boundary_f1(prediction, label, num_classes=2, tolerance=1.0)
    np.testing.assert_allclose(exact.precision, min(1, true / predicted))
    np.testing.assert_allclose(exact.recall, min(1, predicted / true))
    dilated = boundary_f1_dilated(prediction, label, num_classes=2, tolerance=1.0)
    assert dilated.image == 1


def test_every_true_pixel_is_matched_once():
    # Three edges, all within 4.5 pixels of the one true edge.
    label = halves(240)
    prediction = halves(240)
    prediction[:, 238:240] = 1
    prediction[:, 240:242] = 0
    exact = boundary_f1(prediction, label, num_classes=2)
    dilated = boundary_f1_dilated(prediction, label, num_classes=2)
    np.testing.assert_allclose(exact.precision, [1 / 3, 1 / 3])
    np.testing.assert_array_equal(exact.recall, [1, 1])
    assert exact.image == pytest.approx(1 / 2)
    assert dilated.image == 1.0


def test_largest_matching_is_not_the_greedy_one():
    label = np.zeros((1, 9), np.uint8)
    prediction = np.zeros((1, 9), np.uint8)
    label[0, 1] = label[0, 2] = 1
    prediction[0, 3] = prediction[0, 4] = 1
    # Boundaries: 0 and 2 of the label, 2 and 4 of the prediction. The pair at distance
    # 0 would block both pairs at distance 2.
    tolerance = 2 / math.hypot(1, 9)
    scores = boundary_f1(prediction, label, num_classes=2, tolerance=tolerance)
    np.testing.assert_array_equal(scores.f1, [1.0, 1.0])


@pytest.mark.parametrize("radius", [1.0, 1.5, 3.2])
@pytest.mark.parametrize("seed", range(4))
def test_against_brute_force(seed, radius):
    rng = np.random.default_rng(seed)
    size = (17, 23)
    label = random_label(rng, size, 4)
    prediction = np.roll(label, rng.integers(-2, 3, 2), (0, 1))
    spots = rng.random(size) < 0.05
    prediction = np.where(spots, rng.integers(0, 5, size), prediction)
    tolerance = radius / math.hypot(*size)
    for score, one_to_one in ((boundary_f1, True), (boundary_f1_dilated, False)):
        expected = reference(
            prediction, label, num_classes=6, radius=radius, one_to_one=one_to_one
        )
        scores = score(prediction, label, num_classes=6, tolerance=tolerance)
        np.testing.assert_allclose(scores.f1, expected, rtol=1e-12)
        assert np.isnan(scores.f1[5])
        assert scores.image == pytest.approx(np.nanmean(expected), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_as_many_pairs_as_the_cheapest_assignment_with_outliers(seed):
    """The criterion of BSDS, solved densely: its pairs are as many as ours."""
    rng = np.random.default_rng(seed)
    label, prediction = (random_label(rng, (14, 18), 2) for _ in range(2))
    radius = 2.5
    predicted = np.argwhere(edge_pixels(prediction == 1))
    true = np.argwhere(edge_pixels(label == 1))
    rows, columns = len(predicted), len(true)
    outlier = 100 * radius
    cost = np.full((rows + columns, rows + columns), outlier)
    distance = cdist(predicted, true)
    # Not allowed: dearer than leaving all alone.
    forbidden = outlier * (rows + columns)
    cost[:rows, :columns] = np.where(distance <= radius, distance, forbidden)
    row, column = optimize.linear_sum_assignment(cost)
    pairs = np.count_nonzero((row < rows) & (column < columns))
    scores = boundary_f1(
        prediction, label, num_classes=2, tolerance=radius / math.hypot(14, 18)
    )
    assert 0 < pairs < min(rows, columns)
    np.testing.assert_allclose(scores.precision, [pairs / rows] * 2)
    np.testing.assert_allclose(scores.recall, [pairs / columns] * 2)


@BOTH
def test_precision_and_recall_change_places(score):
    rng = np.random.default_rng(7)
    one, other = (random_label(rng, (40, 60), 3) for _ in range(2))
    there = score(one, other, num_classes=3, tolerance=0.03)
    back = score(other, one, num_classes=3, tolerance=0.03)
    np.testing.assert_array_equal(there.precision, back.recall)
    np.testing.assert_array_equal(there.recall, back.precision)
    np.testing.assert_allclose(there.f1, back.f1, rtol=1e-12)
    assert 0 < there.image < 1


@pytest.mark.parametrize("void", ["masked", "other"])
def test_both_ways_at_once_are_each_alone(void):
    rng = np.random.default_rng(8)
    label = random_label(rng, (40, 50), 4, void=0.1)
    prediction = random_label(rng, (40, 50), 4)
    options = {"num_classes": 4, "tolerance": 0.04, "void": void}
    pair = boundary_f1_both_ways(prediction, label, **options)
    for found, alone in zip(pair, (boundary_f1, boundary_f1_dilated), strict=True):
        expected = alone(prediction, label, **options)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert pair.dilated.image > pair.matched.image


def test_dilated_never_below_one_to_one():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        one, other = (random_label(rng, (30, 30), 3, void=0.1) for _ in range(2))
        one[one == VOID] = 0
        options = {"num_classes": 3, "tolerance": 0.05}
        exact = boundary_f1(one, other, **options).f1
        dilated = boundary_f1_dilated(one, other, **options).f1
        assert np.all(dilated >= exact)
        assert np.any(dilated > exact)


@BOTH
def test_which_classes_count(score):
    label = halves(100)
    prediction = halves(100)
    prediction[100:110, 300:310] = 2  # on class 1; class 3 occurs nowhere
    either = score(prediction, label, num_classes=4)
    present = score(prediction, label, num_classes=4, classes="ground_truth")
    np.testing.assert_array_equal(np.isnan(either.f1), [False, False, False, True])
    np.testing.assert_array_equal(np.isnan(present.f1), [False, False, True, True])
    assert either.f1[2] == 0
    # Class 1: 360 of 360 true pixels; 11 x 11 less 9 x 9 false ones.
    f1 = 2 * 360 / (360 + 360 + 40)
    assert either.f1[1] == pytest.approx(f1)
    assert either.image == pytest.approx((1 + f1) / 3)
    assert present.image == pytest.approx((1 + f1) / 2)


@BOTH
@pytest.mark.parametrize("classes", ["either", "ground_truth"])
def test_class_that_fills_the_image(score, classes):
    label = np.zeros((36, 48), np.uint8)
    right = score(label, label, num_classes=2, classes=classes)
    assert np.isnan(right.f1).all()
    assert math.isnan(right.image)
    # Present in the label, without an edge there: a predicted edge is wrong.
    wrong = score(halves(24, size=(36, 48)), label, num_classes=2, classes=classes)
    expected = [0.0, 0.0 if classes == "either" else np.nan]
    np.testing.assert_array_equal(wrong.f1, expected)
    np.testing.assert_array_equal(wrong.precision, [0, 0])
    assert np.isnan(wrong.recall).all()
    assert wrong.image == 0


@BOTH
def test_missed_class_counts_with_zero(score):
    label = halves(24, size=(36, 48))
    scores = score(np.zeros_like(label), label, num_classes=2)
    np.testing.assert_array_equal(scores.f1, [0, 0])
    np.testing.assert_array_equal(scores.recall, [0, 0])
    assert np.isnan(scores.precision).all()
    assert scores.image == 0


@BOTH
@pytest.mark.parametrize("classes", ["either", "ground_truth"])
def test_predictions_inside_void_change_nothing(score, classes):
    rng = np.random.default_rng(3)
    label = random_label(rng, (40, 60), 3, void=0.3)
    prediction = random_label(rng, (40, 60), 3)
    options = {"num_classes": 5, "tolerance": 0.02, "classes": classes}
    expected = score(prediction, label, **options)
    assert 0 < expected.image < 1
    for value in range(5):
        changed = np.where(label == VOID, value, prediction)
        got = score(changed, label, **options)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@BOTH
def test_edge_towards_void(score):
    # Class 0 | void | class 1, and the prediction's edge in the middle of void.
    label = halves(240)
    label[:, 200:280] = VOID
    prediction = halves(240)
    masked = score(prediction, label, num_classes=2)
    assert np.isnan(masked.f1).all()
    assert math.isnan(masked.image)
    # The authors' script: the true boundaries are those of void, 40 pixels away.
    script = score(prediction, label, num_classes=2, void="other")
    np.testing.assert_array_equal(script.precision, [0, 0])
    np.testing.assert_array_equal(script.recall, [0, 0])
    assert script.image == 0


@BOTH
def test_void_meets_two_classes(score):
    # Classes meet in the lower half only; above, void lies between them.
    label = halves(20, size=(40, 40))
    label[:20, 20:24] = VOID
    prediction = halves(20, size=(40, 40))
    scores = score(prediction, label, num_classes=2, tolerance=0.0)
    np.testing.assert_array_equal(scores.f1, [1, 1])
    # Row 19 belongs to the boundary by its lower neighbours: 21 rows of 40. The script
    # has void's outline as well: the left edge is true of class 0, not of class 1.
    script = score(prediction, label, num_classes=2, tolerance=0.0, void="other")
    assert script.f1[0] == 1
    assert script.precision[1] == pytest.approx(21 / 40)
    # Down column 23 to row 18, along row 19 from column 20 to 23 and the lower half.
    assert script.recall[1] == pytest.approx(21 / (19 + 4 + 20 + 1))


def test_script_conventions_against_brute_force():
    rng = np.random.default_rng(11)
    label = random_label(rng, (20, 26), 3, void=0.2)
    prediction = random_label(rng, (20, 26), 3)
    expected = reference(prediction, label, num_classes=3, radius=2.0, one_to_one=True)
    scores = boundary_f1(
        prediction,
        label,
        num_classes=3,
        tolerance=2.0 / math.hypot(20, 26),
        classes="either",
        void="other",
    )
    np.testing.assert_allclose(scores.f1, expected, rtol=1e-12)


@BOTH
def test_image_of_void_alone(score):
    label = np.full((30, 40), VOID, np.uint8)
    scores = score(halves(20, size=(30, 40)), label, num_classes=2)
    assert np.isnan(scores.f1).all()
    assert math.isnan(scores.image)


def test_mean_over_images():
    label = halves(240)
    images = [label, halves(250), np.zeros_like(label)]  # 1, 0 and 0
    scores = [boundary_f1(image, label, num_classes=2) for image in images]
    nothing = boundary_f1(label, np.full_like(label, VOID), num_classes=2)
    assert mean_boundary_f1([*scores, nothing]) == pytest.approx(1 / 3)
    assert math.isnan(mean_boundary_f1([nothing]))
    assert math.isnan(mean_boundary_f1([]))


@BOTH
def test_integer_types_agree(score):
    rng = np.random.default_rng(5)
    label, prediction = (random_label(rng, (20, 30), 3) for _ in range(2))
    label[:3] = VOID
    expected = score(prediction, label, num_classes=3)
    got = score(prediction.astype(np.int8), label.astype(np.int64), num_classes=3)
    np.testing.assert_array_equal(got.f1, expected.f1)


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((4, 6), np.uint8)}, r"\(4, 6\).*\(4, 5\)"),
        ({"prediction": np.zeros((4, 5))}, "prediction is float64"),
        ({"prediction": np.zeros((1, 4, 5), np.uint8)}, r"prediction .*\(1, 4, 5\)"),
        ({"label": np.zeros((4, 5), bool)}, "label is bool"),
        ({"prediction": np.full((4, 5), 3)}, r"prediction value 3; expected 0..2"),
        ({"prediction": np.full((4, 5), VOID)}, "prediction value 255"),
        ({"prediction": np.full((4, 5), -1)}, "prediction value -1"),
        ({"label": np.full((4, 5), 7)}, r"label value 7; .*or 255 \(void\)"),
        (
            {"label": np.zeros((4, 0), int), "prediction": np.zeros((4, 0), int)},
            "pixel",
        ),
        ({"num_classes": 0}, "0 classes"),
        ({"tolerance": -0.1}, "tolerance -0.1"),
        ({"tolerance": math.nan}, "tolerance nan"),
        ({"classes": "label"}, "classes 'label'.*ground_truth"),
        ({"void": "background"}, "void 'background'.*masked, other"),
    ],
)
def test_refuses_misuse(score, change, message):
    arguments = {
        "prediction": np.zeros((4, 5), np.uint8),
        "label": np.zeros((4, 5), np.uint8),
        "num_classes": 3,
        **change,
    }
    positional = arguments.pop("prediction"), arguments.pop("label")
    with pytest.raises(InputError, match=message) as error:
        score(*positional, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), np.uint8), np.zeros(3, bool)])
def test_boundary_map_refuses_misuse(mask):
    with pytest.raises(InputError, match="bool"):
        boundary_map(mask)
