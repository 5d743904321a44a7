"""What a run writes down: one JSON-lines file and TensorBoard scalars."""

import datetime
import errno
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax.errors import InputError
from segjax.training.tensorboard import EventFile

_PACKAGES = (
    "segjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of Python, segjax and the packages that a number depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def provenance() -> dict[str, Any]:
    """Versions, device and git commit that a number depends on."""
    return {
        "git_commit": _git_commit(),
        **versions(),
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

    The first record has `kind` "start" with time, configuration and provenance, a
    resumed run adds one more; the others have `kind` "train" or "eval", a `step`,
    and figures. Records past `start_step` are dropped on opening, and a line that a
    kill cut off with them: a run that was cut off between a checkpoint and its last
    record writes them again. So every record of a step is there once.

    Raises:
      InputError: on opening, a line of the log is damaged; on opening and on
        writing, the log cannot be written.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        config: dict[str, Any],
        start_step: int,
        evaluated: bool = True,
    ):
        """Opens the log; if not `evaluated`, step `start_step` will be once more."""
        self._path = workdir / "log.jsonl"
        try:
            if self._path.exists():
                _drop_records_after(self._path, start_step, evaluated=evaluated)
            self._board = EventFile(workdir / "tensorboard", start_step=start_step)
        except OSError as error:
            raise _not_writable(self._path, error) from error
        self._append(
            {
                "kind": "start",
                "step": start_step,
                "time": datetime.datetime.now(datetime.UTC).isoformat(),
                "config": config,
                "provenance": provenance(),
            }
        )

    def write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """Appends one record; its numbers also go to TensorBoard as `kind/name`."""
        self._append({"kind": kind, "step": step, **record})
        scalars = {}
        for name, value in record.items():
            if isinstance(value, int | float):
                scalars[f"{kind}/{name}"] = value
            elif isinstance(value, dict):
                scalars |= {f"{kind}/{name}/{key}": x for key, x in value.items()}
        try:
            for name, value in scalars.items():
                if value is not None:
                    self._board.scalar(name, value, step)
            if kind == "eval":  # a checkpoint follows, after which none comes again
                self._board.flush()
        except OSError as error:
            raise _not_writable(self._path.with_name("tensorboard"), error) from error

    def image(self, name: str, step: int, pixels: np.ndarray) -> None:
        """Adds a picture `[h w 3]` uint8 to TensorBoard."""
        try:
            self._board.image(name, pixels, step)
        except OSError as error:
            raise _not_writable(self._path.with_name("tensorboard"), error) from error

    def close(self) -> None:
        """Flushes and closes both."""
        self._board.close()

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            # One write of the whole line: a kill finds it written or not.
            with self._path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    if file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise _not_writable(self._path, error) from error


def _drop_records_after(path: Path, step: int, *, evaluated: bool) -> None:
    """Cuts the log off after its last record of at most `step`.

    If `step` is not `evaluated` yet, a record of its evaluation is cut off, too.

    Steps never go down in a log, so this reads from its end only as far as it cuts: a
    long run resumes as fast as a short one.
    """
    with path.open("r+b") as file:
        size, reach = file.seek(0, os.SEEK_END), 2**16
        while True:
            start = max(0, size - reach)
            file.seek(start)
            lines = file.read().split(b"\n")
            end = size - len(lines.pop())  # what has no end was cut off by a kill
            # The first may lack its beginning.
            for line in reversed(lines[1:] if start else lines):
                kind, number = _kind_and_step(line, path, end - len(line) - 1)
                again = not evaluated and (kind, number) == ("eval", step)
                if number <= step and not again:
                    file.truncate(end)
                    return
                end -= len(line) + 1
            if start == 0:
                file.truncate(end)
                return
            reach *= 4


def _kind_and_step(line: bytes, path: Path, start: int) -> tuple[str, int]:
    try:
        record = json.loads(line)
        return record["kind"], int(record["step"])
    except (ValueError, KeyError, TypeError) as error:
        number = path.read_bytes()[:start].count(b"\n") + 1
        raise InputError(
            f"{path}: line {number} is not a record ({error}): mend it, or move the "
            "file away to go on with a new log"
        ) from error


def _not_writable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written: {error.strerror or error}")
