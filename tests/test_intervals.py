import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from segjax import metrics
from segjax.errors import InputError
from segjax.intervals import bootstrap_difference, bootstrap_interval


def accuracy(confusion):
    return confusion.trace() / confusion.sum() if confusion.sum() else math.nan


def miou(confusion):
    return metrics.scores(confusion)["miou"]


def random_counts(rng, images, num_classes=3):
    counts = rng.integers(0, 50, (images, num_classes, num_classes))
    return counts + 100 * np.eye(num_classes, dtype=int) * rng.integers(
        0, 5, (images, 1, 1)
    )


def drawn_indices(images, resamples, seed):
    """Lists of drawn images; the same weights, written out as indices."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(images, [1 / images] * images, size=resamples)
    return [np.repeat(np.arange(images), row) for row in weights]


@pytest.mark.parametrize("score", [accuracy, miou])
def test_percentiles_against_brute_force(score):
    counts = random_counts(np.random.default_rng(0), 12)
    draws = [score(counts[index].sum(axis=0)) for index in drawn_indices(12, 200, 7)]
    interval = bootstrap_interval(counts, score=score, resamples=200, level=0.9, seed=7)
    assert interval.estimate == score(counts.sum(axis=0))
    ends = np.quantile(draws, [0.05, 0.95])
    np.testing.assert_allclose([interval.low, interval.high], ends, rtol=1e-14)
    assert interval.low < interval.estimate < interval.high
    assert interval.level == 0.9
    assert interval.undefined == 0


def test_draws_do_not_depend_on_how_many_are_made_at_once():
    # 2^23 values at once: 20 draws of 400,000 cells are several products.
    counts = np.zeros((3, 800, 1000), int)
    counts[:, 0, 0] = [1, 2, 4]
    interval = bootstrap_interval(
        counts, score=lambda sums: sums[0, 0], resamples=25, seed=3
    )
    draws = [counts[index, 0, 0].sum() for index in drawn_indices(3, 25, 3)]
    ends = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose([interval.low, interval.high], ends, rtol=1e-14)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_bca_against_scipy(level):
    counts = random_counts(np.random.default_rng(1), 15)
    draws = [miou(counts[index].sum(axis=0)) for index in drawn_indices(15, 400, 2)]

    def statistic(index):
        return miou(counts[index.astype(int)].sum(axis=0))

    options = {"vectorized": False, "method": "BCa", "confidence_level": level}
    images = (np.arange(15),)
    some = stats.bootstrap(images, statistic, n_resamples=2, rng=0, **options)
    ours = dataclasses.replace(some, bootstrap_distribution=np.array(draws))
    expected = stats.bootstrap(
        images, statistic, n_resamples=0, bootstrap_result=ours, **options
    ).confidence_interval
    interval = bootstrap_interval(
        counts, score=miou, resamples=400, level=level, method="bca", seed=2
    )
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-9)
    plain = bootstrap_interval(counts, score=miou, resamples=400, level=level, seed=2)
    assert (plain.low, plain.high) != (interval.low, interval.high)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_coverage(method):
    """Of many intervals, 90 % hold the true accuracy; from pixels hardly any would."""
    rng = np.random.default_rng(3)
    covered = 0
    trials, images, pixels = 150, 40, 10_000
    for trial in range(trials):
        # Accuracies of images scatter around 0.75: images are the sample, not pixels.
        right = rng.binomial(pixels, rng.beta(6, 2, images))
        counts = np.stack([right, pixels - right], axis=1)
        interval = bootstrap_interval(
            counts,
            score=lambda sums: sums[0] / sums.sum(),
            resamples=300,
            level=0.9,
            method=method,
            seed=trial,
        )
        covered += interval.low <= 0.75 <= interval.high
    # 90 % of 150 is 135; three standard errors (3.7 each) and the bootstrap's slight
    # optimism with 40 images.
    assert 121 <= covered <= 146


def test_width_against_the_standard_error():
    rng = np.random.default_rng(4)
    right = rng.binomial(1000, rng.beta(6, 2, 200))
    counts = np.stack([right, 1000 - right], axis=1)
    interval = bootstrap_interval(counts, score=lambda sums: sums[0] / sums.sum())
    error = (right / 1000).std() / math.sqrt(200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_a_pair_is_drawn_together():
    rng = np.random.default_rng(5)
    first, second = random_counts(rng, 10), random_counts(rng, 10)
    draws = [
        miou(first[index].sum(axis=0)) - miou(second[index].sum(axis=0))
        for index in drawn_indices(10, 150, 0)
    ]
    interval = bootstrap_difference(first, second, score=miou, resamples=150)
    ends = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose([interval.low, interval.high], ends, rtol=1e-12)
    estimate = miou(first.sum(axis=0)) - miou(second.sum(axis=0))
    assert interval.estimate == pytest.approx(estimate)


def test_a_steady_difference_is_found_where_intervals_overlap():
    rng = np.random.default_rng(6)
    right = rng.integers(300, 900, 30)
    better = np.stack([right + 20, 980 - right], axis=1)
    worse = np.stack([right, 1000 - right], axis=1)

    def score(sums):
        return sums[0] / sums.sum()

    one, other = (bootstrap_interval(c, score=score) for c in (better, worse))
    assert one.low < other.high
    difference = bootstrap_difference(better, worse, score=score)
    np.testing.assert_allclose(difference[:3], [0.02] * 3)
    nothing = bootstrap_difference(worse, worse, score=score, method="bca")
    assert nothing[:3] == (0, 0, 0)


def test_draws_without_a_score_are_left_out_and_told():
    # A class in one image of three: (2/3)^3 of the draws lack it.
    counts = np.array([[3, 1], [0, 0], [0, 0]])

    def score(sums):
        return sums[0] / sums.sum() if sums.sum() else math.nan

    interval = bootstrap_interval(counts, score=score)
    assert interval[:3] == (0.75, 0.75, 0.75)
    assert interval.undefined == pytest.approx(8 / 27, abs=0.04)
    nowhere = bootstrap_interval(np.zeros((3, 2), int), score=score, method="bca")
    assert np.isnan(nowhere[:3]).all()
    assert nowhere.undefined == 1


def test_bca_has_no_ends_where_an_image_decides_whether_there_is_a_score():
    counts = np.array([[3, 1], [5, 9], [4, 4]])

    def score(sums):
        return sums[0] / sums.sum() if sums[0] > 7 else math.nan

    # Without the second image 7 are right: the jackknife has no score there.
    options = {"score": score, "resamples": 300}
    bca = bootstrap_interval(counts, **options, method="bca")
    assert bca.estimate == 12 / 26
    assert math.isnan(bca.low)
    assert math.isnan(bca.high)
    plain = bootstrap_interval(counts, **options)
    assert plain.low < plain.estimate < plain.high


def test_large_counts_stay_exact():
    counts = np.full((4, 1), 2**48 + 1)
    interval = bootstrap_interval(counts, score=lambda sums: sums[0] % 2**20)
    assert interval[:3] == (4, 4, 4)


def test_seeds():
    counts = random_counts(np.random.default_rng(8), 9)
    options = {"score": accuracy, "resamples": 50}
    one = bootstrap_interval(counts, **options)
    assert one == bootstrap_interval(counts, **options)
    assert one != bootstrap_interval(counts, **options, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.ones((1, 2, 2), int)}, "counts of 1 images"),
        ({"counts": np.ones((0, 2), int)}, "counts of 0 images"),
        ({"counts": np.ones((3, 2))}, "counts are float64"),
        ({"counts": np.int64(3)}, "expected integers"),
        ({"resamples": 0}, "0 resamples"),
        ({"level": 95}, "level 95"),
        ({"method": "normal"}, "'normal'.*percentile, bca"),
    ],
)
def test_refuses_misuse(change, message):
    arguments = {"counts": np.ones((3, 2), int), "score": np.sum, **change}
    counts = arguments.pop("counts")
    with pytest.raises(InputError, match=message):
        bootstrap_interval(counts, **arguments)


def test_refuses_other_images():
    with pytest.raises(InputError, match="same images"):
        bootstrap_difference(np.ones((3, 2), int), np.ones((4, 2), int), score=np.sum)
