"""The tables of an explanation of two scores."""

from collections.abc import Sequence

import numpy as np

from segjax.explain.explanation import Explanation, Step
from segjax.report import units
from segjax.report.grids import Grid

DIGITS = 4
"""Decimals of the scores in the grids."""


def explanation_grids(explanation: Explanation) -> tuple[Grid, ...]:
    """Tables of an explanation, each of which adds up to its last line as printed.

    Keys: "steps", and with predictions that differ "classes" and "images". The
    difference of a line is that of the rounded scores before and after it, so the
    column has no rounding error; a line may be off by one in the last digit instead.
    """
    start, end = explanation.start, explanation.end
    grids = [
        Grid(
            key="steps",
            title="From A to B",
            columns=("step", "score", "difference"),
            rows=(
                (("A",), (_score(start),), ("",)),
                *(
                    ((s.name,), (_score(s.after),), (_difference(s.before, s.after),))
                    for s in explanation.steps
                ),
                (("B - A",), (_score(end),), (_difference(start, end),)),
            ),
            notes=(
                f"A: {explanation.a}.",
                f"B: {explanation.b}.",
                *explanation.notes,
                "Every step starts where the one before ended: another order would "
                "share the difference out otherwise.",
            ),
            codes=(),
        )
    ]
    for key, column, steps in (
        ("classes", "class", explanation.classes),
        ("images", "image", explanation.images),
    ):
        if steps:
            grids.append(_prediction_grid(key, column, steps))
    return tuple(grids)


def _prediction_grid(key: str, column: str, steps: Sequence[Step]) -> Grid:
    def pixels(counts: Sequence[int | None]) -> str:
        known = [count for count in counts if count is not None]
        return f"{sum(known):,}" if known else units.MISSING

    before, after = steps[0].before, steps[-1].after
    return Grid(
        key=key,
        title=f"The step from A's to B's predictions, by {column}",
        columns=(column, "difference", "gained", "lost"),
        rows=(
            *(
                (
                    (step.name,),
                    (_difference(step.before, step.after),),
                    (pixels([step.gained]),),
                    (pixels([step.lost]),),
                )
                for step in steps
            ),
            (
                ("sum",),
                (_difference(before, after),),
                (pixels([step.gained for step in steps]),),
                (pixels([step.lost for step in steps]),),
            ),
        ),
        notes=("Gained, lost: labelled pixels that only B, only A has right.",),
        codes=(),
    )


def _rounded(share: float) -> int:
    return round(share * 10**DIGITS)


def _score(share: float) -> str:
    if np.isnan(share):
        return units.MISSING
    return f"{_rounded(share) / 10**DIGITS:.{DIGITS}f}"


def _difference(before: float, after: float) -> str:
    if np.isnan(before) or np.isnan(after):
        return units.MISSING
    change = _rounded(after) - _rounded(before)
    return f"{change / 10**DIGITS:+.{DIGITS}f}" if change else f"{0:.{DIGITS}f}"
