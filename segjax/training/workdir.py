"""The folder of a run: whose it is, and files that are never half-written."""

import json
from pathlib import Path
from typing import Any

from segjax.errors import InputError

# Fields of a configuration that say where files lie: they change no number, so a run
# may be resumed with others.
FREE_FIELDS = frozenset({"data_dir", "prepared_dir", "workdir"})


def claim_workdir(workdir: Path, config: dict[str, Any]) -> None:
    """Makes `workdir` and writes `config.json`, or checks that it is this run's.

    Raises:
      InputError: the folder holds another experiment or other files, or cannot be
        written.
    """
    path = workdir / "config.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        for field in sorted(found.keys() | config.keys()):
            if field in FREE_FIELDS or found.get(field) == config.get(field):
                continue
            raise InputError(
                f"workdir {workdir} holds a run of {found.get('name')!r} with "
                f"{field} = {found.get(field)!r}, not {config.get(field)!r}: give "
                "another --workdir, or the same options to resume it"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(
            f"workdir {workdir} exists and is not a run of segjax (no config.json): "
            "give a new or empty folder"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config)
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written: {error}") from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes `value` to `path`, whole or not at all."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(
        json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    scratch.replace(path)
