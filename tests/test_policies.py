import dataclasses
import math

import numpy as np
import pytest

from segjax import metrics, policies
from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.policies import MISTAKES, POLICIES, count_pixels, named

# Two images, four classes. Class 2 is predicted but never true, class 3 is nowhere.
#   image 0: right 6 2 0 0, true 8 2, predicted 6 3 1, union 8 3 1
#   image 1: right 1 0 0 0, true 1 0, predicted 1 0 0, union 1 0 0
#   together: right 7 2 0 0, union 9 3 1 0
IMAGES = np.zeros((2, 4, 4), np.int64)
IMAGES[0, 0, :3] = 6, 1, 1
IMAGES[0, 1, 1] = 2
IMAGES[1, 0, 0] = 1

BY_HAND = {
    "segjax": (7 / 9 + 2 / 3 + 0) / 3,
    "mmseg": (7 / 9 + 2 / 3 + 0) / 3,
    "torchmetrics": (7 / 9 + 2 / 3 + 0) / 3,
    "hrnet": (7 / 9 + 2 / 3 + 0 + 0) / 4,
    "segnet-bf": (7 / 9 + 2 / 3 + 0 + 0) / 4,
    "smp-micro": 9 / 13,
    "smp-macro": (7 / 9 + 2 / 3 + 0 + 1) / 4,
    "smp-micro-imagewise": (8 / 12 + 1 / 1) / 2,
    "smp-macro-imagewise": ((6 / 8 + 2 / 3 + 0 + 1) / 4 + (1 + 1 + 1 + 1) / 4) / 2,
}


def test_every_policy_has_a_case_by_hand():
    assert set(BY_HAND) == set(POLICIES)
    for name, policy in {**POLICIES, **MISTAKES}.items():
        assert policy.name == name
        assert policy.description


@pytest.mark.parametrize("name", BY_HAND)
def test_policy_by_hand(name):
    tolerance = 1e-7 if POLICIES[name].float32 else 1e-15
    assert POLICIES[name](IMAGES) == pytest.approx(BY_HAND[name], abs=tolerance)


def test_image_means_by_hand():
    expected = ((6 / 8 + 2 / 3 + 0) / 3 + 1) / 2
    assert MISTAKES["image-means"](IMAGES) == pytest.approx(expected, abs=1e-15)


# From the pixels, without a confusion matrix.


def iou(prediction, label, c):
    union = np.sum((prediction == c) | (label == c))
    return np.sum((prediction == c) & (label == c)) / union if union else None


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def pixels(predictions, labels):
    """All labelled pixels in one row."""
    labelled = np.concatenate([label.ravel() for label in labels]) != VOID
    return (
        np.concatenate([x.ravel() for x in predictions])[labelled],
        np.concatenate([x.ravel() for x in labels])[labelled],
    )


def brute_force(name, predictions, labels, k):
    everything = pixels(predictions, labels)
    each = [pixels([p], [t]) for p, t in zip(predictions, labels, strict=True)]

    def micro(prediction, label):
        right = np.sum(prediction == label)
        union = 2 * len(label) - right  # one miss is one false alarm elsewhere
        return right / union if union else 1.0

    def macro(pair, absent):
        values = [iou(*pair, c) for c in range(k)]
        values = [absent if value is None else value for value in values]
        return mean(value for value in values if value is not None)

    return {
        "segjax": lambda: macro(everything, None),
        "mmseg": lambda: macro(everything, None),
        "torchmetrics": lambda: macro(everything, None),
        "hrnet": lambda: macro(everything, 0),
        "segnet-bf": lambda: (
            sum(iou(*everything, c) for c in range(k) if (everything[1] == c).any()) / k
        ),
        "smp-micro": lambda: micro(*everything),
        "smp-macro": lambda: macro(everything, 1),
        "smp-micro-imagewise": lambda: mean(micro(*pair) for pair in each),
        "smp-macro-imagewise": lambda: mean(macro(pair, 1) for pair in each),
        "image-means": lambda: mean(macro(pair, None) for pair in each if len(pair[0])),
    }[name]()


def random_case(seed, k=6, n=5):
    """Predictions and labels with void, absent classes and one image without label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - 2, (n, 9, 11))
    predictions = np.where(
        rng.random(labels.shape) < 0.6, labels, rng.integers(0, k - 1, labels.shape)
    )
    labels[rng.random(labels.shape) < 0.2] = VOID
    labels[2] = VOID
    return predictions, labels


@pytest.mark.parametrize("name", [*POLICIES, "image-means"])
@pytest.mark.parametrize("seed", range(3))
def test_policy_against_brute_force(name, seed):
    k = 6
    predictions, labels = random_case(seed, k)
    counts = np.stack(
        [count_pixels(p, t, k) for p, t in zip(predictions, labels, strict=True)]
    )
    expected = brute_force(name, predictions, labels, k)
    policy = named(name)
    tolerance = 1e-7 if policy.float32 else 1e-14
    assert policy(counts, num_classes=k) == pytest.approx(expected, abs=tolerance)
    assert policy(counts[:, :k, :k]) == policy(counts, num_classes=k)


def test_counts_and_scores_against_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    k = 6
    predictions, labels = random_case(7, k)
    counts = np.stack(
        [count_pixels(p, t, k) for p, t in zip(predictions, labels, strict=True)]
    )
    prediction, label = pixels(predictions, labels)
    ids = np.arange(k)
    reference = sklearn_metrics.confusion_matrix(label, prediction, labels=ids)
    np.testing.assert_array_equal(counts[:, :k, :k].sum(axis=0), reference)

    def jaccard(average, absent, ids=ids):
        return sklearn_metrics.jaccard_score(
            label, prediction, labels=ids, average=average, zero_division=absent
        )

    occurring = np.union1d(label, prediction)
    exact = {
        "segjax": jaccard("macro", 0, occurring),
        "torchmetrics": jaccard("macro", 0, occurring),
        "hrnet": jaccard("macro", 0),
        "segnet-bf": jaccard("macro", 0),
        "smp-macro": jaccard("macro", 1),
        "smp-micro": jaccard("micro", 0),
    }
    for name, expected in exact.items():
        score = POLICIES[name](counts, num_classes=k)
        assert score == pytest.approx(expected, abs=1e-15), name


def test_the_policy_called_segjax_is_what_metrics_computes():
    predictions, labels = random_case(11)
    counts = [count_pixels(p, t, 6) for p, t in zip(predictions, labels, strict=True)]
    total = np.sum(counts, axis=0)[:6, :6]
    score = POLICIES["segjax"](np.stack(counts), num_classes=6)
    assert score == pytest.approx(metrics.scores(total)["miou"], abs=1e-15)


# Void.


def test_void_pixels_count_as_the_policy_says():
    label = np.array([[0, 0, 1, 1], [1, VOID, VOID, VOID]])
    prediction = np.array([[0, 0, 1, 0], [VOID, 0, 1, VOID]])
    counts = count_pixels(prediction, label, 2)
    np.testing.assert_array_equal(counts, [[2, 0, 0], [1, 1, 1], [1, 1, 1]])

    def score(name):
        return named(name)(counts[None], num_classes=2)

    # right 2 1, true 2 3, predicted 3 1: the pixel predicted as void is missed.
    assert score("segjax") == pytest.approx((2 / 3 + 1 / 3) / 2)
    # Predictions inside void are false alarms: predicted 4 2.
    assert score("void-wrong") == pytest.approx((2 / 4 + 1 / 4) / 2)
    # Void has right 1, true 3, predicted 2.
    assert score("void-class") == pytest.approx((2 / 4 + 1 / 4 + 1 / 4) / 3)
    # Void is class 0: right 2 + 1 + 1, true 2 + 3, predicted 3 + 3 of class 0.
    assert score("void-background") == pytest.approx((4 / 7 + 1 / 4) / 2)


@pytest.mark.parametrize("name", ["void-class", "void-wrong", "void-background"])
def test_void_cannot_count_where_it_was_dropped(name):
    with pytest.raises(InputError, match=r"void.*expected 5 rows"):
        MISTAKES[name](IMAGES)


# Averages of batches.


def test_a_ragged_last_batch_weighs_as_much_as_a_full_one():
    # Class 0 of two, in three images: right 1, 1, 0 of 1 pixel each.
    counts = np.zeros((3, 2, 2), np.int64)
    counts[0, 0, 0] = counts[1, 0, 0] = counts[2, 0, 1] = 1
    micro = dataclasses.replace(POLICIES["smp-micro"], pool=2)
    assert micro(counts) == (1 + 0) / 2
    assert POLICIES["smp-micro"](counts) == 2 / 4
    assert named("smp-micro/2")(counts) == micro(counts)
    # Class 1 is predicted only in the last: batches (1) and (0, 0), together (2/3, 0).
    assert named("segjax/2")(counts) == (1 + 0) / 2
    assert named("segjax")(counts) == pytest.approx((2 / 3 + 0) / 2)
    assert named("segjax/3")(counts) == named("segjax")(counts)
    assert named("segjax/1")(counts) == MISTAKES["image-means"](counts)


# Large counts.


def test_totals_are_exact_beyond_float32():
    # 2^24 pixels in one image, then one pixel in each of 1000 more.
    counts = np.zeros((1001, 2, 2), np.int64)
    counts[0, 0, 0] = 2**24
    counts[1:, 0, 1] = 1
    union = 2**24 + 1000
    assert POLICIES["smp-micro"](counts) == 2**24 / (union + 1000)
    assert POLICIES["segjax"](counts) == 2**24 / union / 2
    # 2^24 + 1 is 2^24 in float32: a thousand misses of class 0 are never seen.
    assert POLICIES["mmseg"](counts) == 1 / 2


def test_float32_totals_are_added_up_image_by_image():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3_000_000, (300, 3, 3))
    right, union = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for image in counts:
        one = np.diag(image).astype(np.float32)
        right = right + one
        union = union + (
            image.sum(axis=0).astype(np.float32)
            + image.sum(axis=1).astype(np.float32)
            - one
        )
    score = POLICIES["mmseg"](counts)
    assert score == float(np.nanmean(right / union))
    assert score != POLICIES["segjax"](counts)


# Nothing to score, misuse.


def test_without_a_labelled_pixel():
    nothing = np.zeros((2, 3, 3), np.int64)
    scores = {name: policy(nothing) for name, policy in POLICIES.items()}
    for name in ("segjax", "mmseg", "torchmetrics", "smp-micro"):
        assert math.isnan(scores.pop(name))
    assert scores == {
        "hrnet": 0,
        "segnet-bf": 0,
        "smp-macro": 1,
        "smp-micro-imagewise": 1,
        "smp-macro-imagewise": 1,
    }


def test_scores_leave_the_counts_alone():
    counts = np.arange(32).reshape(2, 4, 4)
    MISTAKES["void-background"](counts, num_classes=3)
    np.testing.assert_array_equal(counts, np.arange(32).reshape(2, 4, 4))


@pytest.mark.parametrize("name", ["pascal", "", "segjax/0", "segjax/", "segjax/x"])
def test_unknown_policies_are_refused(name):
    with pytest.raises(InputError, match="expected"):
        named(name)


def test_misuse_is_refused():
    with pytest.raises(InputError, match="confusions of 4 classes; expected 6"):
        POLICIES["segjax"](IMAGES, num_classes=6)
    with pytest.raises(AssertionError):
        POLICIES["segjax"](IMAGES[0])
    with pytest.raises(AssertionError):
        POLICIES["segjax"](IMAGES.astype(np.float32))
    with pytest.raises(AssertionError):
        count_pixels(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


def test_undefined_ratios_are_counted():
    counts = policies.class_counts(IMAGES)
    assert policies.undefined(counts, POLICIES["segjax"]) == (1, 4)
    assert policies.undefined(counts, MISTAKES["image-means"]) == (4, 8)
