"""The only file that writes state: Orbax checkpoints, the latest and the best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from segjax.errors import InputError


def open_checkpoints(folder: Path, *, best: str = "miou") -> ocp.CheckpointManager:
    """Opens `folder` (made if missing) for saving and restoring.

    Kept are the newest checkpoint and the one whose validation score `best` is
    highest. Saves are asynchronous and atomic: a killed save leaves a temporary
    folder that no restore looks at. Close the manager to wait for the last save.
    """
    # max_to_keep with best_fn would delete the newest checkpoint when it is not
    # among the best, and a resumed run would lose work: hence a policy of both.
    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(1),
            checkpoint_managers.BestN(get_metric_fn=lambda m: m[best], n=1),
        ]
    )
    return ocp.CheckpointManager(
        folder.resolve(),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=lambda m: m[best],
            best_mode="max",
        ),
        item_names=("state", "meta"),
    )


def save(
    manager: ocp.CheckpointManager,
    state: Any,
    *,
    step: int,
    meta: Mapping[str, Any],
    scores: Mapping[str, float],
) -> None:
    """Saves `state` and `meta` (JSON values) as checkpoint `step`; a no-op if there.

    `scores` are the validation scores of exactly this state, finite; one of them
    decides what is kept.
    """
    if step in manager.all_steps():
        return
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave(dict(meta)),
        ),
        metrics=dict(scores),
    )


def restore(manager: ocp.CheckpointManager, like: Any, *, step: int) -> Any:
    """Restores checkpoint `step` with the structure, types and shardings of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    )
    return restored.state


class Saved(NamedTuple):
    """What a checkpoint holds, whatever its network was.

    Attributes:
      step: updates done.
      params: parameters that evaluation uses (the moving average where the run keeps
        one), nested dicts of numpy arrays.
      batch_stats: running statistics of batch normalisation, likewise.
      meta: what `save` was given.
    """

    step: int
    params: Any
    batch_stats: Any
    meta: dict[str, Any]


def read(folder: Path, *, best: str | None = None) -> Saved:
    """Reads the latest checkpoint of a run, or its best one.

    Args:
      folder: the run's `checkpoints`.
      best: name of the validation score that is highest; None reads the latest.

    Raises:
      InputError: there is no checkpoint.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run's checkpoints")
    manager = open_checkpoints(folder, **({"best": best} if best else {}))
    try:
        step = manager.best_step() if best else manager.latest_step()
        if step is None:
            raise InputError(f"{folder}: holds no checkpoint")
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()
            ),
        )
    finally:
        manager.close()
    state = jax.tree.map(np.asarray, restored.state)
    return Saved(
        step=step,
        params=state.get("ema_params") or state["params"],
        batch_stats=state.get("batch_stats") or {},
        meta=restored.meta,
    )
