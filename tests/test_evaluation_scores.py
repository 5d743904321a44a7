"""Scores of a split from the counts of its images, by hand and by brute force."""

import math

import numpy as np
import pytest

from segjax.calibration import confidence_counts
from segjax.data.labels import VOID, LabelTable
from segjax.evaluation_counts import Counts, Parts, count_image
from segjax.evaluation_scores import all_intervals, all_scores, image_scores

TABLE = LabelTable(
    names=("a", "b", "c"),
    colors=((0, 0, 0), (90, 0, 0), (0, 90, 0)),
    raw_ids={0: 0, 1: 1, 2: 2, VOID: VOID},
    thin=("b",),
)
NAN = math.nan


@pytest.fixture
def counts():
    # Two images; class c is nowhere.
    return Counts(
        confusions=np.array(
            [[[6, 2, 0], [0, 2, 0], [0, 0, 0]], [[3, 1, 0], [2, 4, 0], [0, 0, 0]]]
        ),
        boundary_f1=np.array([[0.5, 1.0, NAN], [0.2, NAN, NAN]]),
        boundary_f1_dilated=np.array([[0.7, 1.0, NAN], [0.4, NAN, NAN]]),
        boundary_iou=np.array([[[1, 2], [3, 4], [0, 0]], [[2, 2], [1, 6], [0, 0]]]),
        sizes=np.array(
            [
                [[[1, 2, 1], [5, 6, 0], [0, 0, 0]], [[2, 2, 2], [0] * 3, [0] * 3]],
                [[[3, 4, 1], [0, 0, 1], [0, 0, 0]], [[4, 6, 1], [0] * 3, [0] * 3]],
            ]
        ).repeat([1, 2], axis=1)
        * np.array([1, 1, 0])[None, :, None, None],
        calibration=np.stack(
            [
                confidence_counts(
                    np.array([0.9, 0.9], np.float32),
                    np.array([0, 0]),
                    np.array([0, 1]),
                ),
                confidence_counts(
                    np.array([0.5, 0.5], np.float32),
                    np.array([0, 0]),
                    np.array([0, 0]),
                ),
            ]
        ),
    )


def test_scores_by_hand(counts):
    scores = all_scores(counts, TABLE)
    assert scores["confusion"].tolist() == [[9, 3, 0], [2, 6, 0], [0, 0, 0]]
    assert scores["num_images"] == 2
    assert scores["miou"] == pytest.approx((9 / 14 + 6 / 11) / 2)
    assert scores["thin_iou"] == 6 / 11
    assert scores["accuracy"][:2] == [9 / 12, 6 / 8]
    assert scores["precision"][:2] == [9 / 11, 6 / 9]
    assert scores["share"] == [0.6, 0.4, 0.0]
    assert scores["pixels"] == [12, 8, 0]
    assert math.isnan(scores["accuracy"][2])
    assert math.isnan(scores["precision"][2])
    # Mean over images of the mean over an image's classes; not over all four numbers.
    assert scores["boundary_f1"] == pytest.approx((0.75 + 0.2) / 2)
    assert scores["boundary_f1_dilated"] == pytest.approx((0.85 + 0.4) / 2)
    assert scores["class_boundary_f1"][:2] == pytest.approx([0.35, 1.0])
    assert math.isnan(scores["class_boundary_f1"][2])
    # Quotients of sums: 3/4 and 4/10, not means of quotients.
    assert scores["class_boundary_iou"][:2] == [3 / 4, 4 / 10]
    assert scores["boundary_iou"] == pytest.approx((3 / 4 + 4 / 10) / 2)
    assert scores["size_iou"][0][:2] == [4 / 8, 5 / 7]
    assert scores["size_recall"][0][:2] == [4 / 6, 5 / 6]
    assert scores["iou_small"] == pytest.approx((4 / 8 + 6 / 11) / 2)
    assert scores["iou_medium"] == 5 / 7
    assert math.isnan(scores["iou_large"])
    # Half of two pixels right at 0.9, both at 0.5.
    assert scores["expected_calibration_error"] == pytest.approx(0.2 + 0.25, rel=1e-6)
    assert scores["maximum_calibration_error"] == pytest.approx(0.5, rel=1e-6)


def test_what_was_not_counted_is_not_scored(counts):
    scores = all_scores(Counts(confusions=counts.confusions), TABLE)
    assert not {name for name in scores if "boundary" in name or "size" in name}
    assert "iou_small" not in scores
    assert "expected_calibration_error" not in scores
    intervals = all_intervals(Counts(confusions=counts.confusions), TABLE, scores)
    assert set(intervals) == {
        *("miou", "pixel_accuracy", "class_accuracy", "fwiou", "mdice", "thin_iou")
    }
    one = Counts(confusions=counts.confusions[:1])
    assert all_intervals(one, TABLE, scores) == {}


def test_intervals_of_boundary_scores_against_brute_force():
    rng = np.random.default_rng(0)
    images = 30
    f1 = rng.random((images, 3))
    f1[rng.random(f1.shape) < 0.3] = NAN
    f1[7] = NAN  # an image without any boundary
    overlap = rng.integers(1, 50, (images, 3))
    boundary_iou = np.stack([overlap, overlap + rng.integers(0, 50, (images, 3))], -1)
    counts = Counts(
        confusions=rng.integers(1, 9, (images, 3, 3)),
        boundary_f1=f1,
        boundary_f1_dilated=f1,
        boundary_iou=boundary_iou,
    )
    scores = all_scores(counts, TABLE)
    intervals = all_intervals(counts, TABLE, scores)

    means = np.array(
        [np.mean(row[~np.isnan(row)]) if i != 7 else NAN for i, row in enumerate(f1)]
    )
    draws = np.random.default_rng(0).multinomial(
        images, np.full(images, 1 / images), size=2000
    )
    f1_draws, iou_draws = [], []
    for weights in draws:
        chosen = np.repeat(np.arange(images), weights)
        f1_draws.append(np.nanmean(means[chosen]))
        sums = boundary_iou[chosen].sum(axis=0)
        iou_draws.append(np.mean(sums[:, 0] / sums[:, 1]))
    for name, values in (("boundary_f1", f1_draws), ("boundary_iou", iou_draws)):
        low, high = np.quantile(values, [0.025, 0.975])
        assert intervals[name].low == pytest.approx(low, abs=1e-9)
        assert intervals[name].high == pytest.approx(high, abs=1e-9)
        assert intervals[name].estimate == scores[name]
    assert scores["boundary_f1"] == pytest.approx(np.nanmean(means))


def test_scores_of_single_images(counts):
    columns = image_scores(counts)
    assert columns["pixels"].tolist() == [10, 10]
    assert columns["pixel_accuracy"].tolist() == [0.8, 0.7]
    assert columns["miou"] == pytest.approx([(6 / 8 + 2 / 4) / 2, (3 / 6 + 4 / 7) / 2])
    assert columns["boundary_f1"].tolist() == [0.75, 0.2]


def test_void_alone_has_no_score():
    label = np.full((6, 7), VOID, np.uint8)
    parts = Parts(calibration=True)
    image = count_image(
        np.zeros_like(label),
        label,
        np.full(label.shape, 0.5, np.float32),
        num_classes=3,
        parts=parts,
    )
    counts = Counts(
        confusions=np.zeros((2, 3, 3), np.int64),
        **{name: np.stack([value] * 2) for name, value in image.items()},
    )
    scores = all_scores(counts, TABLE)
    for name in ("miou", "boundary_f1", "boundary_iou", "iou_small", "thin_iou"):
        assert math.isnan(scores[name])
    assert math.isnan(scores["expected_calibration_error"])
    assert all_intervals(counts, TABLE, scores) == {}
