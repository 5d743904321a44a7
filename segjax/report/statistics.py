"""Mean, spread and a paired test over seeds.

Every strategy runs with the same seeds, and a seed fixes the order and augmentation
of the training data, so runs are compared in pairs, seed by seed, with the first row.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from segjax.errors import InputError
from segjax.report.comparison import METRICS, Comparison, Strategy

LEVELS: Mapping[str, float] = {"**": 0.01, "*": 0.05}
"""Marks of significance, and what an adjusted p value must be below for them."""

# Differences of shares that agree to this are one number, rounded.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Summary:
    """One row over its seeds; every mapping has the keys of METRICS.

    A score that is undefined (NaN) for one seed has mean NaN and no spread, no
    difference and no p value: a mean over other seeds would be another quantity.

    Attributes:
      strategy: name of the row.
      mean: over the seeds.
      spread: sample standard deviation over the seeds (divisor n - 1); None with
        one seed.
      p_value: of the paired two-sided t-test against the first row, adjusted after
        Holm over the rows of the metric. None for the first row, with one seed, and
        where every seed shows the same difference other than 0: there is no
        variance to judge it by. Runs that agree in every seed have 1.
      difference: mean over the seeds of this row minus the first row; None for the
        first row.
    """

    strategy: str
    mean: Mapping[str, float]
    spread: Mapping[str, float | None]
    p_value: Mapping[str, float | None]
    difference: Mapping[str, float | None]


def check_seeds(seeds: Sequence[int], *, test: bool) -> None:
    """Checks the seeds of an ablation before anything runs.

    Args:
      seeds: as given on the command line.
      test: whether a spread or a test over them is asked for.

    Raises:
      InputError: none are given, one is repeated, or `test` with fewer than two.
    """
    given = " ".join(str(seed) for seed in seeds)
    if not seeds:
        raise InputError("--seeds is empty but expected at least one seed")
    for seed in seeds:
        if list(seeds).count(seed) > 1:
            raise InputError(
                f"--seeds {given} repeats {seed} but expected every seed once: a run "
                "counted twice hides the spread"
            )
    if test and len(seeds) < 2:
        raise InputError(
            f"--seeds {given} is one seed but a spread or a paired test needs at "
            "least two"
        )


def summarize(comparison: Comparison) -> tuple[Summary, ...]:
    """Mean, spread and test of every row of `comparison`, in its order.

    Runs are paired by seed, in whatever order a row lists them. The t-test has
    `n - 1` degrees of freedom for n seeds; see `describe_test` for what that means.

    Raises:
      InputError: a row has other seeds than the first, repeats one, or has not one
        score per seed.
    """
    if not comparison.strategies:
        return ()
    first = comparison.strategies[0]
    for row in comparison.strategies:
        _check_row(row, first)
    means, spreads, differences, p_values = {}, {}, {}, {}
    for metric in METRICS:
        scores = [_by_seed(row, metric) for row in comparison.strategies]
        means[metric] = [float(np.mean(s)) for s in scores]
        spreads[metric] = [_spread(s) for s in scores]
        others = scores[1:]
        differences[metric] = [None, *(_difference(s, scores[0]) for s in others)]
        p_values[metric] = [None, *holm([_p_value(s, scores[0]) for s in others])]
    return tuple(
        Summary(
            strategy=row.name,
            mean={metric: means[metric][i] for metric in METRICS},
            spread={metric: spreads[metric][i] for metric in METRICS},
            p_value={metric: p_values[metric][i] for metric in METRICS},
            difference={metric: differences[metric][i] for metric in METRICS},
        )
        for i, row in enumerate(comparison.strategies)
    )


def class_means(strategy: Strategy) -> tuple[float, ...]:
    """IoU of every class, mean over the seeds; NaN where it is NaN for one."""
    return tuple(float(x) for x in np.mean(np.asarray(strategy.class_iou), axis=0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values for being several (Holm 1979); None stays and is not counted.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it
    and at most 1. Below a level afterwards = rejected by Holm's procedure at it,
    which keeps the chance of any false mark in the family below that level.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, index) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = least
    return adjusted


def mark(p_value: float | None) -> str:
    """The mark of LEVELS that an adjusted p value earns: "**", "*" or ""."""
    if p_value is None:
        return ""
    return next((text for text, level in LEVELS.items() if p_value < level), "")


def describe_test(comparison: Comparison) -> str:
    """One paragraph for the foot of a table: what was tested, and its power."""
    if not comparison.strategies:
        return "Nothing was compared."
    seeds = comparison.strategies[0].seeds
    rows = len(comparison.strategies) - 1
    if len(seeds) == 1:
        return (
            f"One seed ({seeds[0]}): no spread and no test. How far another seed would "
            "move a score is not known."
        )
    listed = ", ".join(str(seed) for seed in seeds)
    spread = f"± is the sample standard deviation over {len(seeds)} seeds ({listed})."
    if not rows:
        return spread
    freedom = len(seeds) - 1
    marks = ", ".join(f"{m} p < {level}" for m, level in reversed(LEVELS.items()))
    from scipy import stats  # half a second, which few commands need

    needed = stats.t.isf(min(LEVELS["*"] / rows, 1) / 2, freedom) / len(seeds) ** 0.5
    return (
        f"{spread} Marks: {marks}, paired two-sided t-test against the first row "
        f"({freedom} degree{'s' * (freedom > 1)} of freedom), adjusted after Holm for "
        f"{rows} comparison{'s' * (rows > 1)} per score. The power is low with few "
        "seeds: to be the first marked, a mean difference has to exceed "
        f"{needed:.1f} standard deviations of the paired differences. No mark does "
        "not mean no difference."
    )


def _check_row(row: Strategy, first: Strategy) -> None:
    if len(set(row.seeds)) != len(row.seeds) or not row.seeds:
        raise InputError(
            f"{row.name} has seeds {_listed(row)} but expected at least one, each once"
        )
    if set(row.seeds) != set(first.seeds):
        raise InputError(
            f"{row.name} has seeds {_listed(row)} but {first.name} has seeds "
            f"{_listed(first)}: expected the same, they are compared in pairs"
        )
    for metric in METRICS:
        if len(row.scores[metric]) != len(row.seeds):
            raise InputError(
                f"{row.name} has {len(row.scores[metric])} values of {metric} for "
                f"{len(row.seeds)} seeds: expected one each"
            )
    if len(row.class_iou) != len(row.seeds):
        raise InputError(
            f"{row.name} has class IoU for {len(row.class_iou)} of {len(row.seeds)} "
            "seeds: expected all"
        )


def _listed(row: Strategy) -> str:
    return ", ".join(str(seed) for seed in row.seeds) or "none"


def _by_seed(row: Strategy, metric: str) -> np.ndarray:
    """Float64 `[seeds]`, by ascending seed."""
    values = dict(zip(row.seeds, row.scores[metric], strict=True))
    return np.array([values[seed] for seed in sorted(values)], np.float64)


def _spread(scores: np.ndarray) -> float | None:
    if len(scores) < 2 or np.isnan(scores).any():
        return None
    return float(np.std(scores, ddof=1))


def _difference(scores: np.ndarray, first: np.ndarray) -> float | None:
    mean = float(np.mean(scores - first))
    return None if np.isnan(mean) else mean


def _p_value(scores: np.ndarray, first: np.ndarray) -> float | None:
    differences = scores - first
    if len(differences) < 2 or np.isnan(differences).any():
        return None
    if np.ptp(differences) <= _ROUNDING:
        return 1.0 if np.abs(differences).max() <= _ROUNDING else None
    from scipy import stats

    return float(stats.ttest_rel(scores, first).pvalue)
