"""Explanation: why two scores of the same labels differ.

Two numbers may differ because two tools score the same predictions by different rules
(`segjax.explain.policies`), because the predictions differ, or both
(`segjax.explain.predictions`). An explanation is a path from the one score to the other
on which one thing changes at a time. Every step starts at the score where the one
before ended, so the steps add up to the difference whatever they are, with nothing left
over.

What a step is worth depends on the steps before it, as in every such sum; in another
order the shares would differ and the sum would not. The order:

1. labels that were resized to the predictions of A (then at the labels' own size),
2. the rules (`segjax.policies`): void, classes together or one by one, averaging and
   absent classes, float32. What absent classes count is changed where counts are
   those of single images or batches, because that is where most classes are absent,
3. the predictions themselves, by class and, as another view of the same step, by image,
4. labels that are resized to the predictions of B.

Everything is numpy on the host.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing that changes.

    Attributes:
      name: what changes, "from -> to"; or the class or image whose predictions do.
      before: score in 0..1 without it.
      after: score with it.
      gained: labelled pixels that only B has right; None where that says nothing.
      lost: labelled pixels that only A has right.
    """

    name: str
    before: float
    after: float
    gained: int | None = None
    lost: int | None = None

    @property
    def difference(self) -> float:
        """What the step adds to the score."""
        return self.after - self.before


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A path from score A to score B.

    Attributes:
      a: what A is.
      b: what B is.
      start: score of A.
      end: score of B.
      steps: from `start` to `end`; what is the same on both sides has none.
      classes: from before to after the step in which the predictions change, class by
        class; empty without such a step.
      images: the same step image by image: those that alone would change the score
        most, then all others together.
      notes: sentences on what was found on the way.
    """

    a: str
    b: str
    start: float
    end: float
    steps: tuple[Step, ...]
    classes: tuple[Step, ...] = ()
    images: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
