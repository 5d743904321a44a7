import math

import jax
import numpy as np
import pytest

from segjax import metrics
from segjax.data.labels import VOID
from segjax.metrics import scores

confusion_matrix = jax.jit(metrics.confusion_matrix, static_argnames="num_classes")


def brute_force(prediction, label, num_classes):
    counts = np.zeros((num_classes, num_classes), np.int64)
    for p, t in zip(prediction.ravel(), label.ravel(), strict=True):
        if t != VOID:
            counts[t, p] += 1
    return counts


def test_confusion_by_hand():
    label = np.array([[[0, 0, 1], [2, VOID, 1]]], np.uint8)
    prediction = np.array([[[0, 1, 1], [0, 2, 1]]], np.int32)
    counts = confusion_matrix(prediction, label, 3)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 2, 0], [1, 0, 0]])


@pytest.mark.parametrize("num_classes", [1, 2, 11, 150, 255])
@pytest.mark.parametrize("label_type", [np.uint8, np.int32])
@pytest.mark.parametrize("prediction_type", [np.uint8, np.int32])
def test_confusion_against_brute_force(num_classes, label_type, prediction_type):
    rng = np.random.default_rng(num_classes)
    shape = (2, 20, 30)
    label = rng.integers(0, num_classes, shape).astype(label_type)
    label[rng.random(shape) < 0.2] = VOID
    prediction = rng.integers(0, num_classes, shape).astype(prediction_type)
    counts = confusion_matrix(prediction, label, num_classes)
    np.testing.assert_array_equal(counts, brute_force(prediction, label, num_classes))


def test_confusion_of_void_alone_is_zero():
    label = np.full((1, 4, 4), VOID, np.uint8)
    counts = confusion_matrix(np.zeros((1, 4, 4), np.int32), label, 3)
    np.testing.assert_array_equal(counts, np.zeros((3, 3)))


def test_confusion_is_exact_beyond_float32():
    side = 4097  # side * side is odd and above 2^24: float32 cannot hold it
    label = np.ones((1, side, side), np.uint8)
    counts = confusion_matrix(np.zeros_like(label), label, 2)
    np.testing.assert_array_equal(counts, [[0, 0], [side * side, 0]])


def test_confusion_refuses_misuse():
    label = np.zeros((1, 2, 2), np.uint8)
    with pytest.raises(AssertionError):
        confusion_matrix(np.zeros((1, 2, 3), np.int32), label, 2)
    with pytest.raises(AssertionError):
        confusion_matrix(np.zeros((1, 2, 2), np.float32), label, 2)


def test_scores_by_hand():
    result = scores(np.array([[6, 2, 0], [1, 3, 0], [2, 0, 2]], np.int64))
    # t = 8 4 4; predicted 9 5 2; union 11 6 4
    assert result["pixel_accuracy"] == pytest.approx(11 / 16)
    assert result["class_accuracy"] == pytest.approx((6 / 8 + 3 / 4 + 2 / 4) / 3)
    assert result["iou"] == pytest.approx([6 / 11, 3 / 6, 2 / 4])
    assert result["miou"] == pytest.approx((6 / 11 + 3 / 6 + 2 / 4) / 3)
    assert result["fwiou"] == pytest.approx((8 * 6 / 11 + 4 * 3 / 6 + 4 * 2 / 4) / 16)


def test_class_absent_everywhere_is_left_out():
    result = scores(np.array([[3, 0, 1], [0, 0, 0], [1, 0, 5]], np.int64))
    assert result["iou"][0] == pytest.approx(3 / 5)
    assert math.isnan(result["iou"][1])
    assert result["miou"] == pytest.approx((3 / 5 + 5 / 7) / 2)
    assert result["class_accuracy"] == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert result["fwiou"] == pytest.approx((4 * 3 / 5 + 6 * 5 / 7) / 10)


def test_class_predicted_but_never_true_counts_with_zero():
    result = scores(np.array([[3, 1], [0, 0]], np.int64))
    assert result["iou"] == [3 / 4, 0.0]
    assert result["miou"] == pytest.approx(3 / 8)
    # Accuracy and frequency weighting know only classes that occur in the labels.
    assert result["class_accuracy"] == 3 / 4
    assert result["fwiou"] == 3 / 4


def test_scores_of_nothing_are_undefined():
    result = scores(np.zeros((2, 2), np.int64))
    assert all(
        math.isnan(result[name])
        for name in ("pixel_accuracy", "class_accuracy", "miou", "fwiou", "mdice")
    )
    assert all(map(math.isnan, result["iou"] + result["dice"]))


def test_scores_take_totals_beyond_int32():
    big = 10**12
    result = scores(np.array([[3 * big, big], [0, 4 * big]], np.int64))
    assert result["pixel_accuracy"] == 7 / 8
    assert result["iou"] == [3 / 4, 4 / 5]


def test_scores_are_plain_python():
    result = scores(np.eye(3, dtype=np.int64))
    lists = ("iou", "dice")
    assert {type(value) for name in lists for value in result[name]} == {float}
    assert {type(result[name]) for name in result if name not in lists} == {float}
    assert result["miou"] == 1.0


def test_scores_refuse_what_is_not_square():
    with pytest.raises(AssertionError):
        scores(np.zeros((2, 3), np.int64))


def test_dice_by_hand():
    result = scores(np.array([[6, 2, 0, 0], [1, 3, 0, 0], [2, 0, 2, 0], [0] * 4]))
    # t = 8 4 4 0; predicted 9 5 2 0
    assert result["dice"][:3] == pytest.approx([12 / 17, 6 / 9, 4 / 6])
    assert math.isnan(result["dice"][3])
    assert result["mdice"] == pytest.approx((12 / 17 + 6 / 9 + 4 / 6) / 3)
    # Predicted but never true: 0, as for the IoU.
    assert scores(np.array([[3, 1], [0, 0]], np.int64))["dice"] == [6 / 7, 0.0]


def test_class_scores_by_hand():
    rows = metrics.class_scores(
        np.array([[6, 2, 0, 0], [1, 3, 0, 1], [2, 0, 2, 0], [0] * 4])
    )
    assert rows.pixels.tolist() == [8, 5, 4, 0]
    assert rows.share.tolist() == [8 / 17, 5 / 17, 4 / 17, 0]
    assert rows.accuracy[:3].tolist() == [6 / 8, 3 / 5, 2 / 4]
    assert rows.precision.tolist() == [6 / 9, 3 / 5, 2 / 2, 0]
    assert rows.iou.tolist() == [6 / 11, 3 / 7, 2 / 4, 0]
    assert rows.dice.tolist() == [12 / 17, 6 / 10, 4 / 6, 0]
    assert math.isnan(rows.accuracy[3])  # predicted, but never true
    nothing = metrics.class_scores(np.zeros((2, 2), np.int64))
    assert all(np.isnan(column).all() for column in nothing[1:])


def test_confusions_of_images_against_brute_force():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 4, (3, 6, 7)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = VOID
    label[2] = VOID
    prediction = rng.integers(0, 4, label.shape).astype(np.uint8)
    counts = jax.jit(metrics.image_confusions, static_argnums=2)(prediction, label, 4)
    assert counts.dtype == np.int32
    pairs = zip(prediction, label, strict=True)
    expected = [brute_force(*pair, 4) for pair in pairs]
    np.testing.assert_array_equal(counts, expected)


def test_dice_against_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 5, (2, 400))
    result = scores(sklearn_metrics.confusion_matrix(label, prediction))
    f1 = sklearn_metrics.f1_score(label, prediction, average=None)
    iou = sklearn_metrics.jaccard_score(label, prediction, average=None)
    np.testing.assert_allclose(result["dice"], f1, rtol=0, atol=1e-15)
    np.testing.assert_allclose(result["iou"], iou, rtol=0, atol=1e-15)
