"""The only file that writes state: Orbax checkpoints, the latest and the best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

BEST_METRIC = "miou"


def open_checkpoints(folder: Path) -> ocp.CheckpointManager:
    """Opens `folder` (made if missing) for saving and restoring.

    Kept are the newest checkpoint and the one of highest validation mIoU. Saves are
    asynchronous and atomic: a killed save leaves a temporary folder that no restore
    looks at. Close the manager to wait for the last save.
    """
    # max_to_keep with best_fn would delete the newest checkpoint when it is not
    # among the best, and a resumed run would lose work: hence a policy of both.
    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(1),
            checkpoint_managers.BestN(get_metric_fn=lambda m: m[BEST_METRIC], n=1),
        ]
    )
    return ocp.CheckpointManager(
        folder.resolve(),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=lambda m: m[BEST_METRIC],
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
    miou: float,
) -> None:
    """Saves `state` and `meta` (JSON values) as checkpoint `step`; a no-op if there.

    `miou` is the validation score of exactly this state; it decides what is kept.
    """
    if step in manager.all_steps():
        return
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave(dict(meta)),
        ),
        metrics={BEST_METRIC: miou},
    )


def restore(manager: ocp.CheckpointManager, like: Any, *, step: int) -> Any:
    """Restores checkpoint `step` with the structure, types and shardings of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    )
    return restored.state
