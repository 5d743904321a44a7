"""The folder of a run: whose it is, who uses it, and files never half-written."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from segjax.errors import InputError
from segjax.training import checkpoint
from segjax.whole_file import whole_file

# Fields of a configuration that say where files lie, how devices share the work (which
# changes rounding at most), when to stop and what is told: a run may be resumed with
# others.
FREE_FIELDS = frozenset(
    {
        "data_dir",
        "prepared_dir",
        "workdir",
        "parallel",
        "mesh",
        "remat",
        "cache",
        "resume",
        "stall_seconds",
        "bad_records",
        "max_bad",
    }
)

Resume = Literal["auto", "never", "must"]

LOCK = ".lock"
# What a run that was killed at its very start may have left.
_BEGINNINGS = frozenset({LOCK, "config.json.tmp"})


def claim_workdir(
    workdir: Path,
    config: dict[str, Any],
    *,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Makes `workdir` and writes `config.json`, or checks that it is this run's.

    Args:
      workdir: of the run.
      config: JSON values.
      defaults: of fields that an older version, which wrote the folder, had not.

    Raises:
      InputError: the folder holds another experiment or other files, or cannot be
        written.
    """
    path = workdir / "config.json"
    try:
        if path.is_file():
            _check_config(path, config, defaults)
            return
        if workdir.exists() and not _is_new(workdir):
            raise InputError(
                f"workdir {workdir} exists and is not a run of segjax (no "
                "config.json): give a new or empty folder"
            )
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config)
    except OSError as error:
        raise _not_writable(workdir, error) from error


@contextlib.contextmanager
def hold_workdir(
    workdir: Path,
    config: dict[str, Any],
    *,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[None]:
    """Claims `workdir` and keeps other processes out of it while the context lasts.

    The lock is one of the operating system on the file `.lock`, so it ends with the
    process, whatever ends it; the file stays, and means nothing by itself. Of several
    hosts that share one run, one takes it.

    Raises:
      InputError: another process has the folder (named with its host), or as
        `claim_workdir`.
    """
    # Not before it is known to be ours: nothing is written into another's folder.
    claim_workdir(workdir, config, defaults=defaults)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((workdir / LOCK).open("a+", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(
                f"workdir {workdir} is in use by {holder}: wait for it, stop it, or "
                "give another --workdir"
            ) from error
        except OSError as error:
            raise _not_writable(workdir, error) from error
        # A process that was faster may have made the folder another run's.
        claim_workdir(workdir, config, defaults=defaults)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        except OSError as error:
            raise _not_writable(workdir, error) from error
        yield


def check_resume(workdir: Path, resume: Resume) -> None:
    """Raises InputError if `workdir` holds a run and must not, or none and must.

    Writes nothing. A run begins to count with its first checkpoint.
    """
    if resume == "auto":
        return
    found = (workdir / "result.json").is_file() or checkpoint.has_any(
        workdir / "checkpoints"
    )
    if found and resume == "never":
        raise InputError(
            f"resume is never, but workdir {workdir} holds a run: give another "
            "--workdir, or --resume auto to go on with it"
        )
    if not found and resume == "must":
        raise InputError(
            f"resume is must, but workdir {workdir} holds no checkpoint: expected the "
            "folder of a run, or --resume auto to start one"
        )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes `value` to `path`, whole or not at all.

    Raises:
      InputError: the file cannot be written.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _check_config(
    path: Path, config: dict[str, Any], defaults: Mapping[str, Any]
) -> None:
    try:
        found = dict(defaults) | json.loads(path.read_text(encoding="utf-8"))
        fields = sorted(found.keys() | config.keys())
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not the JSON of a run: {error}") from error
    for field in fields:
        if field in FREE_FIELDS or found.get(field) == config.get(field):
            continue
        raise InputError(
            f"workdir {path.parent} holds a run of {found.get('name')!r} with "
            f"{field} = {found.get(field)!r}, not {config.get(field)!r}: give "
            "another --workdir, or the same options to resume it"
        )


def _is_new(workdir: Path) -> bool:
    return workdir.is_dir() and {p.name for p in workdir.iterdir()} <= _BEGINNINGS


def _not_writable(workdir: Path, error: OSError) -> InputError:
    return InputError(f"workdir {workdir} cannot be written: {error.strerror or error}")
