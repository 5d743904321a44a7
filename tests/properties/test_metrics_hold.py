"""What holds for every score, whatever the predictions and the labels."""

import functools
import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from for_all import for_all
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segjax import metrics, policies
from segjax.boundary import boundary_f1, boundary_f1_both_ways
from segjax.boundary_iou import boundary_counts, boundary_iou
from segjax.calibration import calibration, calibration_counts
from segjax.data.labels import VOID
from segjax.intervals import bootstrap_difference, bootstrap_interval

SEEDS = st.integers(0, 2**32 - 1)
# Compiled once for each number of classes.
SHAPE = (3, 4, 5)
NUM_CLASSES = st.sampled_from([1, 2, 5])
image_confusions = jax.jit(metrics.image_confusions, static_argnums=2)
confusion_matrix = jax.jit(metrics.confusion_matrix, static_argnums=2)


@st.composite
def answers(draw, shape=SHAPE, num_classes=NUM_CLASSES):
    """A prediction, a label with void, and the number of classes."""
    k = draw(num_classes)
    prediction = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, k - 1)))
    values = st.sampled_from([*range(k), VOID])
    return prediction, draw(hnp.arrays(np.uint8, shape, elements=values)), k


@st.composite
def confusions(draw, least=1):
    """Counts of some images `[n k k]`: a few or many pixels, and absent classes."""
    n, k = draw(st.integers(least, 6)), draw(st.integers(1, 6))
    highest = draw(st.sampled_from([1, 3, 10**6]))
    counts = draw(hnp.arrays(np.int64, (n, k, k), elements=st.integers(0, highest)))
    present = draw(hnp.arrays(np.int64, k, elements=st.sampled_from([0, 1, 1, 1])))
    # Not the total of labels alone: absent classes are not predicted, either.
    return counts * present[:, None] * present[None, :]


def permutation(length):
    return st.permutations(range(length)).map(np.array)


def counted(prediction, label, k):
    return np.asarray(image_confusions(prediction, label, k)).astype(np.int64)


def miou(total):
    return metrics.scores(total)["miou"]


def same(first, second, tolerance=1e-12):
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


# Confusion counts


@for_all(answer=answers())
def test_confusion_counts_are_those_of_a_loop(answer):
    prediction, label, k = answer
    expected = np.zeros((SHAPE[0], k, k), int)
    for image, i, j in np.ndindex(SHAPE):
        if label[image, i, j] != VOID:
            expected[image, label[image, i, j], prediction[image, i, j]] += 1
    np.testing.assert_array_equal(counted(*answer), expected)


@for_all(answer=answers(), order=permutation(math.prod(SHAPE)))
def test_the_order_of_pixels_and_images_changes_nothing(answer, order):
    prediction, label, k = answer
    shuffled = (x.ravel()[order].reshape(SHAPE) for x in (prediction, label))
    np.testing.assert_array_equal(
        confusion_matrix(*shuffled, k), confusion_matrix(prediction, label, k)
    )


@for_all(answer=answers())
def test_the_counts_of_parts_add_up_to_those_of_the_whole(answer):
    prediction, label, k = answer
    whole = np.asarray(confusion_matrix(prediction, label, k))
    np.testing.assert_array_equal(counted(*answer).sum(axis=0), whole)
    # Parts of a picture, too; what is cut away is void.
    columns = np.arange(SHAPE[2]) < 2
    parts = (np.where(mask, label, np.uint8(VOID)) for mask in (columns, ~columns))
    np.testing.assert_array_equal(
        sum(np.asarray(confusion_matrix(prediction, part, k)) for part in parts), whole
    )
    # With void as one more class nothing is lost.
    sides = [
        policies.count_pixels(p, t, k) for p, t in zip(prediction, label, strict=True)
    ]
    assert np.sum(sides) == prediction.size
    np.testing.assert_array_equal(np.sum(sides, axis=0)[:k, :k], whole)


@for_all(
    answer=answers(), other=hnp.arrays(np.int32, SHAPE, elements=st.integers(0, 4))
)
def test_what_is_predicted_in_void_changes_nothing(answer, other):
    prediction, label, k = answer
    changed = np.where(label == VOID, np.minimum(other, k - 1), prediction)
    np.testing.assert_array_equal(counted(changed, label, k), counted(*answer))


# Scores of confusion counts


@for_all(counts=confusions())
def test_scores_are_the_fractions_of_their_definition(counts):
    total = counts.sum(axis=0)
    n = [[int(value) for value in row] for row in total]
    k = len(n)
    true = [sum(row) for row in n]
    predicted = [sum(column) for column in zip(*n, strict=True)]
    pixels = sum(true)
    union = [true[i] + predicted[i] - n[i][i] for i in range(k)]

    def ratio(numerator, denominator):
        return Fraction(numerator, denominator) if denominator else None

    def mean(values):
        defined = [value for value in values if value is not None]
        return ratio(sum(defined), len(defined))

    iou = [ratio(n[i][i], union[i]) for i in range(k)]
    dice = [ratio(2 * n[i][i], true[i] + predicted[i]) for i in range(k)]
    expected = {
        "pixel_accuracy": ratio(sum(n[i][i] for i in range(k)), pixels),
        "class_accuracy": mean(ratio(n[i][i], true[i]) for i in range(k)),
        "miou": mean(iou),
        "fwiou": ratio(sum(true[i] * (iou[i] or 0) for i in range(k)), pixels),
        "mdice": mean(dice),
        "iou": iou,
        "dice": dice,
    }
    result = metrics.scores(total)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        values = np.array(value if isinstance(value, list) else [value], object)
        as_floats = [math.nan if v is None else float(v) for v in values]
        same(np.atleast_1d(result[name]), as_floats)


@for_all(counts=confusions())
def test_scores_are_shares_and_dice_is_above_iou(counts):
    result = metrics.scores(counts.sum(axis=0))
    iou, dice = np.array(result["iou"]), np.array(result["dice"])
    for values in result.values():
        values = np.atleast_1d(values)
        defined = values[~np.isnan(values)]
        assert np.all((defined >= 0) & (defined <= 1 + 1e-12))
    np.testing.assert_array_equal(np.isnan(iou), np.isnan(dice))
    defined = ~np.isnan(iou)
    assert np.all(iou[defined] <= dice[defined])
    same(dice, 2 * iou / (1 + iou))
    # Accuracy and precision are never below the IoU.
    rows = metrics.class_scores(counts.sum(axis=0))
    for share in (rows.accuracy, rows.precision):
        both = ~np.isnan(share) & defined
        assert np.all(share[both] >= iou[both])


@for_all(data=st.data(), counts=confusions())
def test_other_numbers_for_the_classes_permute_their_scores(data, counts):
    order = data.draw(permutation(counts.shape[1]))
    total = counts.sum(axis=0)
    result, other = metrics.scores(total), metrics.scores(total[np.ix_(order, order)])
    for name, values in result.items():
        if isinstance(values, list):
            np.testing.assert_array_equal(other[name], np.array(values)[order])
        else:
            same(other[name], values)
    for one, permuted in zip(
        metrics.class_scores(total),
        metrics.class_scores(total[np.ix_(order, order)]),
        strict=True,
    ):
        np.testing.assert_array_equal(permuted, one[order])


@for_all(answer=answers())
def test_a_perfect_prediction_scores_one(answer):
    _, label, k = answer
    prediction = np.where(label == VOID, 0, label).astype(np.int32)
    result = metrics.scores(counted(prediction, label, k).sum(axis=0))
    present = np.isin(np.arange(k), label)
    expected = np.where(present, 1.0, np.nan)
    for name in ("iou", "dice"):
        np.testing.assert_array_equal(result[name], expected)
    for name in ("pixel_accuracy", "class_accuracy", "miou", "fwiou", "mdice"):
        np.testing.assert_array_equal(result[name], 1.0 if present.any() else np.nan)


# Policies

# Not in batches: those depend on which images are neighbours.
NAMES = st.sampled_from(sorted(policies.POLICIES))
ALL_NAMES = st.sampled_from(sorted({**policies.POLICIES, **policies.MISTAKES}))


def with_void(counts, seed):
    """Counts `[n k+1 k+1]`, the last row being void."""
    n, k, _ = counts.shape
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 20, (n, k + 1, k + 1))
    wide[:, :k, :k] = counts
    return wide


@for_all(data=st.data(), counts=confusions(), name=ALL_NAMES, seed=SEEDS)
def test_policies_look_at_no_order(data, counts, name, seed):
    n, k, _ = counts.shape
    policy, wide = policies.named(name), with_void(counts, seed)
    value = policy(wide, num_classes=k)
    assert math.isnan(value) or 0 <= value <= 1 + 1e-6
    # Sums in float32 depend on the order by their rounding.
    tolerance = 1e-5 if policy.float32 else 1e-12
    images = data.draw(permutation(n))
    same(policy(wide[images], num_classes=k), value, tolerance)
    classes = data.draw(permutation(k))
    if policy.void == "background":
        classes = np.array([0, *(c for c in classes if c)])
    classes = np.append(classes, k)
    renamed = wide[:, classes][:, :, classes]
    same(policy(renamed, num_classes=k), value, tolerance)
    # Nor does it matter how often all images are there.
    same(policy(np.concatenate([wide, wide]), num_classes=k), value, tolerance)


@for_all(counts=confusions(), name=NAMES, seed=SEEDS)
def test_policies_of_tools_leave_void_out(counts, name, seed):
    k = counts.shape[1]
    policy = policies.named(name)
    # A labelled pixel that is predicted as void would be a miss.
    wide = with_void(counts, seed)
    wide[:, :k, k] = 0
    np.testing.assert_array_equal(policy(wide, num_classes=k), policy(counts))


@for_all(answer=answers())
def test_void_counts_as_each_mistake_says(answer):
    prediction, label, k = answer
    images = zip(prediction, label, strict=True)
    counts = np.stack([policies.count_pixels(p, t, k) for p, t in images])
    value = {
        name: policies.named(name)(counts, num_classes=k)
        for name in ("void-background", "void-class", "void-wrong")
    }
    background = np.where(label == VOID, np.uint8(0), label)
    total = counted(prediction, background, k).sum(axis=0)
    same(value["void-background"], miou(total))
    # Void as a class that is never predicted; what is wrong is so for the others alone.
    one_more = np.where(label == VOID, np.uint8(k), label)
    total = counted(prediction, one_more, k + 1).sum(axis=0)
    same(value["void-class"], miou(total))
    iou = metrics.scores(total)["iou"]
    same(value["void-wrong"], metrics.mean_iou_of(iou, range(k)))


@for_all(counts=confusions(), size=st.integers(1, 4))
def test_merging_images_changes_no_score_of_the_whole(counts, size):
    starts = range(0, len(counts), size)
    merged = np.stack([counts[i : i + size].sum(axis=0) for i in starts])
    for name, policy in policies.POLICIES.items():
        if policy.pool is None:
            tolerance = 1e-5 if policy.float32 else 0
            same(policy(merged), policy(counts), tolerance)
        # Batches of that size are pools of that size.
        elif policy.pool == 1:
            same(
                policies.named(f"{name}/{size}")(merged_alone(counts, size)),
                policy(counts),
            )


def merged_alone(counts, size):
    """Every image followed by empty ones: each batch of `size` holds one image."""
    n, k, _ = counts.shape
    spread = np.zeros((n * size, k, k), counts.dtype)
    spread[::size] = counts
    return spread


@for_all(counts=confusions())
def test_policies_are_in_the_order_of_what_absent_classes_count(counts):
    value = {name: policy(counts) for name, policy in policies.POLICIES.items()}
    result = metrics.scores(counts.sum(axis=0))
    for name in ("segjax", "torchmetrics"):
        same(value[name], result["miou"])
    same(value["mmseg"], result["miou"], 1e-5)
    same(value["hrnet"], np.nan_to_num(result["iou"]).mean())
    same(value["smp-macro"], np.nan_to_num(result["iou"], nan=1.0).mean())
    if not math.isnan(result["miou"]):
        assert value["hrnet"] <= value["segjax"] + 1e-12
        assert value["segjax"] <= value["smp-macro"] + 1e-12


@for_all(counts=confusions(), name=NAMES)
def test_only_absence_keeps_a_perfect_prediction_from_one(counts, name):
    policy = policies.named(name)
    perfect = counts * np.eye(counts.shape[1], dtype=int)
    value = policy(perfect)
    if policy.absent is None:
        expected = 1.0 if perfect.any() else math.nan
    elif policy.absent == 1:
        expected = 1.0
    else:
        expected = np.mean(perfect.sum(axis=(0, 1)) > 0)
    same(value, expected, 1e-6)


# Intervals


interval = functools.partial(bootstrap_interval, score=miou, resamples=30)


@for_all(
    counts=confusions(least=2),
    seed=st.integers(0, 2**32 - 1),
    factor=st.integers(2, 9),
    levels=st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)),
)
def test_intervals(counts, seed, factor, levels):
    narrow, wide = (
        interval(counts, seed=seed, level=level) for level in sorted(levels)
    )
    assert narrow.estimate == pytest.approx(miou(counts.sum(axis=0)), nan_ok=True)
    if math.isnan(narrow.low):
        assert narrow.undefined == 1.0
    else:
        assert 0 <= wide.low <= narrow.low + 1e-12
        assert narrow.low <= narrow.high
        assert narrow.high - 1e-12 <= wide.high <= 1 + 1e-12
    # Shares do not depend on how many pixels the images have.
    same(interval(factor * counts, seed=seed, level=max(levels)), wide)
    # Images that are all alike say that others are, too.
    alike = np.broadcast_to(counts[:1], counts.shape)
    one = miou(counts[0])
    same(interval(alike, seed=seed)[:3], [one] * 3)


@for_all(counts=confusions(least=2), seed=st.integers(0, 2**32 - 1))
def test_a_method_does_not_differ_from_itself(counts, seed):
    difference = functools.partial(
        bootstrap_difference, score=miou, resamples=30, seed=seed
    )
    result = difference(counts, counts)
    if not math.isnan(result.low):
        assert result[1:3] == (0.0, 0.0)
    # Against another, the two change places with the sign.
    other = counts[::-1].transpose(0, 2, 1)
    there, back = difference(counts, other), difference(other, counts)
    same(
        [there.estimate, there.low, there.high], [-back.estimate, -back.high, -back.low]
    )
    assert there.undefined == back.undefined


# Boundaries

PICTURE = (7, 9)
TOLERANCES = st.floats(0, 0.5)


@st.composite
def pictures(draw, num_classes=3):
    """A prediction and a label `[h w]` of rectangles, with void, as uint8."""
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    pair = []
    for values in (range(num_classes), [*range(num_classes), VOID]):
        drawn = np.full((height, width), draw(st.sampled_from(values)), np.uint8)
        for _ in range(draw(st.integers(0, 4))):
            top, left = (
                draw(st.integers(0, height - 1)),
                draw(st.integers(0, width - 1)),
            )
            bottom, right = (
                draw(st.integers(top, height)),
                draw(st.integers(left, width)),
            )
            drawn[top:bottom, left:right] = draw(st.sampled_from(values))
        pair.append(drawn)
    return tuple(pair)


def f1_arrays(result):
    return np.stack([result.f1, result.precision, result.recall])


@for_all(
    pair=pictures(), tolerance=TOLERANCES, void=st.sampled_from(["masked", "other"])
)
def test_boundary_scores_are_shares_and_matching_once_is_never_above(
    pair, tolerance, void
):
    matched, dilated = boundary_f1_both_ways(
        *pair, num_classes=3, tolerance=tolerance, void=void
    )
    once, often = f1_arrays(matched), f1_arrays(dilated)
    np.testing.assert_array_equal(np.isnan(once), np.isnan(often))
    defined = ~np.isnan(once)
    assert np.all((once[defined] >= 0) & (often[defined] <= 1))
    assert np.all(once[defined] <= often[defined] + 1e-12)


@for_all(pair=pictures(), tolerances=st.tuples(TOLERANCES, TOLERANCES))
def test_a_larger_tolerance_never_lowers_a_boundary_score(pair, tolerances):
    strict, lenient = (
        f1_arrays(boundary_f1(*pair, num_classes=3, tolerance=tolerance))
        for tolerance in sorted(tolerances)
    )
    defined = ~np.isnan(strict)
    assert np.all(strict[defined] <= lenient[defined] + 1e-12)


@for_all(pair=pictures(), tolerance=TOLERANCES, order=permutation(3))
def test_boundaries_know_neither_class_numbers_nor_rows_from_columns(
    pair, tolerance, order
):
    score = functools.partial(boundary_f1, num_classes=3, tolerance=tolerance)
    result = score(*pair)
    names = np.full(256, VOID, np.uint8)
    names[:3] = order
    renamed = score(*(names[x] for x in pair))
    np.testing.assert_array_equal(f1_arrays(renamed)[:, order], f1_arrays(result))
    same(renamed.image, result.image)
    turned = score(*(x.T for x in pair))
    np.testing.assert_array_equal(f1_arrays(turned), f1_arrays(result))
    counts, *others = (
        boundary_counts(*two, num_classes=3)
        for two in (pair, [names[x] for x in pair], [x.T for x in pair])
    )
    np.testing.assert_array_equal(others[0][order], counts)
    np.testing.assert_array_equal(others[1], counts)


@for_all(pair=pictures(), other=pictures(), tolerance=TOLERANCES)
def test_what_is_predicted_in_void_moves_no_boundary(pair, other, tolerance):
    prediction, label = pair
    void = label == VOID
    changed = np.where(void, np.resize(other[0], label.shape), prediction)
    for score in (
        lambda p: f1_arrays(boundary_f1(p, label, num_classes=3, tolerance=tolerance)),
        lambda p: boundary_counts(p, label, num_classes=3),
    ):
        np.testing.assert_array_equal(score(changed), score(prediction))


@for_all(pair=pictures(), tolerance=TOLERANCES)
def test_prediction_and_label_change_places(pair, tolerance):
    first, second = pair[0], np.where(pair[1] == VOID, pair[0], pair[1])
    score = functools.partial(boundary_f1, num_classes=3, tolerance=tolerance)
    there, back = score(first, second), score(second, first)
    np.testing.assert_array_equal(there.precision, back.recall)
    np.testing.assert_array_equal(there.recall, back.precision)
    same(there.f1, back.f1)
    np.testing.assert_array_equal(
        boundary_counts(first, second, num_classes=3),
        boundary_counts(second, first, num_classes=3),
    )
    # And a perfect prediction has nothing but ones.
    perfect = f1_arrays(score(first, first))
    assert np.all(perfect[~np.isnan(perfect)] == 1)
    # Of every class that is there and not alone.
    has_boundary = [0 < np.sum(first == c) < first.size for c in range(3)]
    np.testing.assert_array_equal(~np.isnan(perfect[0]), has_boundary)
    iou = boundary_iou(boundary_counts(first, first, num_classes=3))
    np.testing.assert_array_equal(iou, np.where(np.isin(range(3), first), 1.0, np.nan))


@for_all(pair=pictures())
def test_boundary_regions_are_parts_of_the_classes(pair):
    prediction, label = pair
    both, either = boundary_counts(prediction, label, num_classes=3).T
    assert np.all((both >= 0) & (both <= either))
    masked = np.where(label == VOID, VOID, prediction)
    for c in range(3):
        assert both[c] <= np.sum((label == c) & (masked == c))
        assert either[c] <= np.sum((label == c) | (masked == c))


# Calibration


@st.composite
def confident_answers(draw):
    """Probabilities `[n h w 3]` and a label."""
    shape = (draw(st.integers(1, 4)), 3, 4)
    rng = np.random.default_rng(draw(SEEDS))
    logits = rng.normal(0, draw(st.sampled_from([0.0, 1.0, 20.0])), (*shape, 3))
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=-1, keepdims=True)
    values = st.sampled_from([0, 1, 2, VOID])
    return probabilities.astype(np.float32), draw(
        hnp.arrays(np.uint8, shape, elements=values)
    )


@for_all(data=st.data(), answer=confident_answers(), bins=st.integers(1, 20))
def test_calibration_counts_add_up_in_any_order(data, answer, bins):
    probabilities, label = answer
    count = functools.partial(calibration_counts, bins=bins)
    whole = count(probabilities, label)
    assert whole[:, 0].sum() == np.sum(label != VOID)
    right = (probabilities.argmax(axis=-1) == label) & (label != VOID)
    assert whole[:, 1].sum() == right.sum()
    images = [count(p, t) for p, t in zip(probabilities, label, strict=True)]
    np.testing.assert_array_equal(sum(images), whole)
    order = data.draw(permutation(label.size))
    shuffled = count(probabilities.reshape(-1, 3)[order], label.ravel()[order])
    np.testing.assert_array_equal(shuffled, whole)


@for_all(answer=confident_answers(), bins=st.integers(1, 20), order=permutation(3))
def test_calibration_errors_are_shares_in_order(answer, bins, order):
    probabilities, label = answer
    result = calibration(calibration_counts(probabilities, label, bins=bins))
    if np.all(label == VOID):
        assert math.isnan(result.expected_error)
        assert math.isnan(result.maximum_error)
        return
    assert 0 <= result.expected_error <= result.maximum_error + 1e-12
    assert result.maximum_error <= 1 + 1e-6
    seen = label != VOID
    gap = np.mean(probabilities.argmax(axis=-1)[seen] == label[seen]) - np.mean(
        probabilities.max(axis=-1)[seen], dtype=np.float64
    )
    # Errors of opposite sign in one bin cancel: one bin is the least that they can be.
    assert result.expected_error >= abs(gap) - 1e-6
    # Where no two classes are equally probable, their numbers do not matter.
    if all(
        np.all(probabilities[..., a] != probabilities[..., b])
        for a, b in itertools.combinations(range(3), 2)
    ):
        names = np.full(256, VOID, np.uint8)
        names[order] = np.arange(3)
        renamed = calibration_counts(probabilities[..., order], names[label], bins=bins)
        same(calibration(renamed).expected_error, result.expected_error)
