import math

import numpy as np
import pytest

from segjax.calibration import calibration, calibration_counts, confidence_counts
from segjax.data.labels import VOID
from segjax.errors import InputError


def softmax_maps(rng, shape, num_classes):
    logits = rng.normal(scale=2.0, size=(*shape, num_classes))
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_by_hand():
    # Four bins. Confidences are whole numbers of 64ths: no rounding anywhere.
    confidence = np.array([[48, 40, 36, 60, 64, 56, 62]], np.float32) / 64
    prediction = np.array([[0, 1, 1, 0, 1, 0, 1]])
    label = np.array([[0, 1, 0, 0, 1, 1, VOID]])
    counts = confidence_counts(confidence, prediction, label, bins=4)
    unit = 2**24 // 64
    np.testing.assert_array_equal(
        counts,
        [[0, 0, 0], [0, 0, 0], [3, 2, (48 + 40 + 36) * unit], [3, 2, 180 * unit]],
    )
    result = calibration(counts)
    np.testing.assert_array_equal(result.pixels, [0, 0, 3, 3])
    np.testing.assert_allclose(result.accuracy[2:], [2 / 3, 2 / 3])
    np.testing.assert_allclose(result.confidence[2:], [31 / 48, 15 / 16])
    assert np.isnan(result.accuracy[:2]).all()
    assert np.isnan(result.confidence[:2]).all()
    gaps = [2 / 3 - 31 / 48, 15 / 16 - 2 / 3]
    assert result.expected_error == pytest.approx(sum(gaps) / 2)
    assert result.maximum_error == pytest.approx(gaps[1])


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_bins_are_closed_above(bins):
    edges = np.array([m / bins for m in range(1, bins + 1)], np.float32)
    zeros = np.zeros(bins, int)
    at = confidence_counts(edges, zeros, zeros, bins=bins)
    np.testing.assert_array_equal(at[:, 0], np.ones(bins))
    # The next larger number is in the next bin; 1 has none above, 0 is in the first.
    above = np.append(np.nextafter(edges[:-1], np.float32(2)), np.float32(0))
    counts = confidence_counts(above, zeros, zeros, bins=bins)
    np.testing.assert_array_equal(counts[:, 0], np.ones(bins))
    assert counts[0, 2] == 0


def test_against_brute_force():
    rng = np.random.default_rng(0)
    probabilities = softmax_maps(rng, (40, 50), 4)
    label = rng.integers(0, 4, (40, 50))
    label[rng.random((40, 50)) < 0.2] = VOID
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == label
    bins, total, expected, largest = 15, (label != VOID).sum(), 0.0, 0.0
    for m in range(bins):
        low, high = np.float32(m / bins), np.float32((m + 1) / bins)
        inside = (confidence > low) & (confidence <= high) & (label != VOID)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / total * gap
            largest = max(largest, gap)
    result = calibration(calibration_counts(probabilities, label))
    # Confidences below 1/2 are rounded to 2^-24.
    assert result.expected_error == pytest.approx(expected, abs=1e-7)
    assert result.maximum_error == pytest.approx(largest, abs=1e-7)
    assert result.pixels.sum() == total
    assert 0 < expected < largest


def test_parts_in_any_order_give_the_same_bits():
    rng = np.random.default_rng(1)
    probabilities = softmax_maps(rng, (30, 20), 5)
    label = rng.integers(0, 5, (30, 20))
    whole = calibration_counts(probabilities, label)
    for order in (np.arange(30), rng.permutation(30)):
        parts = [
            calibration_counts(probabilities[rows], label[rows])
            for rows in np.array_split(order, 7)
        ]
        np.testing.assert_array_equal(sum(parts), whole)
    assert whole.dtype == np.int64


def test_a_sure_and_right_network_and_a_sure_and_wrong_one():
    ones = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    right = calibration(calibration_counts(ones, np.array([0, 1, 2, 2])))
    assert right.expected_error == right.maximum_error == 0
    wrong = calibration(calibration_counts(ones, np.array([1, 2, 0, 0])))
    assert wrong.expected_error == wrong.maximum_error == 1


def test_void_alone():
    counts = calibration_counts(np.ones((2, 3, 1), np.float32), np.full((2, 3), VOID))
    result = calibration(counts)
    assert not counts.any()
    assert math.isnan(result.expected_error)
    assert math.isnan(result.maximum_error)


def test_rounding_above_one_is_one():
    confidence = np.array([np.nextafter(np.float32(1), np.float32(2))])
    zeros = np.zeros(1, int)
    counts = confidence_counts(confidence, zeros, zeros, bins=2)
    np.testing.assert_array_equal(counts, [[0, 0, 0], [1, 1, 2**24]])


def test_half_precision_is_taken():
    rng = np.random.default_rng(2)
    probabilities = softmax_maps(rng, (6, 7), 11).astype(np.float16)
    counts = calibration_counts(probabilities, np.zeros((6, 7), int))
    assert counts[:, 0].sum() == 42


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.array([[3.0, -2.0]]), "confidence"),
        (np.array([[0.9, 0.9]]), "add up to 1.8"),
        (np.array([[np.nan, 1.0]]), "add up to nan"),
    ],
)
def test_refuses_what_is_no_probability(probabilities, message):
    with pytest.raises(InputError, match=message):
        calibration_counts(probabilities, np.zeros(1, int))


def test_refuses_no_bin():
    with pytest.raises(InputError, match="0 bins"):
        confidence_counts(np.ones(1), np.zeros(1, int), np.zeros(1, int), bins=0)
