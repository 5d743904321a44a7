"""The difference that rules make: two policies, the same predictions."""

import dataclasses

import numpy as np

from segjax.errors import InputError
from segjax.explain.explanation import Explanation, Step
from segjax.policies import Policy, class_counts, named, undefined


def explain_policies(
    confusions: np.ndarray,
    a: str | Policy,
    b: str | Policy,
    *,
    num_classes: int | None = None,
) -> Explanation:
    """Explains the difference of two policies' scores of the same predictions.

    Args:
      confusions: as in `segjax.policies.Policy`: integer `[n k k]`, or `[n k+1 k+1]`
        with void last and `num_classes=k`.
      a: the policy to start from, or its name.
      b: the policy to arrive at.
      num_classes: k.

    Raises:
      InputError: an unknown name; a policy counts void and `confusions` has none; no
        pixel has a label.
    """
    a, b, confusions = as_policy(a), as_policy(b), np.asarray(confusions)
    k = confusions.shape[-1] if num_classes is None else num_classes
    check_labelled(confusions, k, "these confusion counts")
    steps, notes = policy_steps(confusions, a, b, k)
    return Explanation(
        a=f"{a.name} ({a.description})",
        b=f"{b.name} ({b.description})",
        start=a(confusions, num_classes=k),
        end=b(confusions, num_classes=k),
        steps=steps,
        notes=notes,
    )


def as_policy(policy: str | Policy) -> Policy:
    """The policy itself, or the one of that name."""
    return named(policy) if isinstance(policy, str) else policy


def policy_steps(
    confusions: np.ndarray, a: Policy, b: Policy, num_classes: int
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """One step for each choice in which the policies differ, and what it met."""
    steps, notes = [], []
    here, value = a, a(confusions, num_classes=num_classes)
    pools_last = a.pool is not None and b.pool is None
    averaging = ("absent", "pool") if pools_last else ("pool", "absent")
    for field in ("void", "mean", *averaging, "float32"):
        if getattr(here, field) == getattr(b, field):
            continue
        there = dataclasses.replace(here, **{field: getattr(b, field)})
        after = there(confusions, num_classes=num_classes)
        name = f"{_WORDS[field]}: {_value(here, field)} -> {_value(there, field)}"
        steps.append(Step(name, value, after))
        if field == "void":
            share = confusions[:, num_classes:].sum() / confusions.sum()
            notes.append(f"{100 * share:.1f} % of the pixels have no label.")
        if field == "absent":
            counts = class_counts(confusions, here.void, num_classes)
            empty, total = undefined(counts, here)
            notes.append(
                f"Absent: {empty:,} of {total:,} IoUs have no pixel ("
                f"{_value(here, 'mean')}; {_value(here, 'pool')})."
            )
        here, value = there, after
    return tuple(steps), tuple(notes)


_WORDS = {
    "void": "void",
    "mean": "mean",
    "pool": "averaging",
    "absent": "absent classes",
    "float32": "sums",
}


def _value(policy: Policy, field: str) -> str:
    """A choice in words."""
    value = getattr(policy, field)
    match field:
        case "void":
            return {"wrong": "wrong", "class": "a class", "background": "class 0"}.get(
                value, "excluded"
            )
        case "mean":
            return "by class" if value == "classes" else "classes together"
        case "pool":
            words = {None: "all images", 1: "image by image"}
            return words.get(value, f"batches of {value}")
        case "absent":
            return "left out" if value is None else f"count {value:g}"
    return "float32" if value else "exact"


def check_labelled(confusions: np.ndarray, num_classes: int, what: str) -> None:
    """Raises InputError if every counted pixel is void."""
    if not confusions[:, :num_classes].any():
        raise InputError(f"{what}: no pixel has a label; there is nothing to score")
