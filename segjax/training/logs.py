"""What a run writes down: one JSON-lines file and TensorBoard scalars."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def provenance() -> dict[str, Any]:
    """Versions, device and git commit that a number depends on."""
    return {
        "segjax": importlib.metadata.version("segjax"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_cpus": os.cpu_count(),
    }


def _git_commit() -> str | None:
    """Commit of the source tree, "-dirty" if changed; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class RunLog:
    """Appends records to `<workdir>/log.jsonl` and scalars to TensorBoard.

    The first record has `kind` "start" with configuration and provenance, a
    resumed run adds one more; the others have `kind` "train" or "eval", a `step`,
    and figures. Records past `start_step` are dropped on opening: a run that was
    cut off between a checkpoint and its last record writes them again.
    """

    def __init__(self, workdir: Path, *, config: dict[str, Any], start_step: int):
        self._path = workdir / "log.jsonl"
        if self._path.exists():
            _drop_records_after(self._path, start_step)
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )
        self._append(
            {
                "kind": "start",
                "step": start_step,
                "config": config,
                "provenance": provenance(),
            }
        )

    def write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """Appends one record; its numbers also go to TensorBoard as `kind/name`."""
        self._append({"kind": kind, "step": step, **record})
        for name, value in record.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)
            elif isinstance(value, dict):
                for key, item in value.items():
                    if item is not None:
                        self._board.add_scalar(f"{kind}/{name}/{key}", item, step)

    def image(self, name: str, step: int, pixels: np.ndarray) -> None:
        """Adds a picture `[h w 3]` uint8 to TensorBoard."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes both."""
        self._board.close()

    def _append(self, record: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")


def _drop_records_after(path: Path, step: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A line without its end was cut off by a kill; it is past the checkpoint.
    whole = [line for line in lines if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(kept), encoding="utf-8")
    scratch.replace(path)
