"""The only file that writes state: Orbax checkpoints, the latest and the best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def read_variables(folder: Path, *, best: bool = False) -> tuple[Any, Any]:
    """Reads parameters and batch statistics of a run, whatever its network was.

    Args:
      folder: the run's `checkpoints`.
      best: the best checkpoint's instead of the latest one's.

    Returns:
      `(params, batch_stats)` as nested dicts of numpy arrays; those that evaluation
      uses, so the moving average where the run keeps one.

    Raises:
      InputError: there is no checkpoint.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run's checkpoints")
    manager = open_checkpoints(folder)
    try:
        step = manager.best_step() if best else manager.latest_step()
        if step is None:
            raise InputError(f"{folder}: holds no checkpoint")
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
        ).state
    finally:
        manager.close()
    restored = jax.tree.map(np.asarray, restored)
    params = restored.get("ema_params") or restored["params"]
    return params, restored.get("batch_stats") or {}
