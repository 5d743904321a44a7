"""What lies in a run's `checkpoints`: names, scores, and what a kill left there.

A folder `STEP` is a whole checkpoint. Beside those may lie:

- `STEP.orbax-checkpoint-tmp`, a save that was killed, and `deleted-STEP`, a removal that
  was; both are cleared by the next run,
- `unscored-STEP`, a checkpoint that is being written again with its scores, which has
  its name back if that was killed,
- `damaged-STEP`, a checkpoint that failed its checksums, kept for inspection.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.training import manifest

_TEMPORARY = ".orbax-checkpoint-tmp"
_UNSCORED = "unscored-"
_DELETED = "deleted-"
_DAMAGED = "damaged-"


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, ascending."""
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    )


def in_reading_order(folder: Path, *, best: str | None) -> Iterator[int]:
    """Steps from the newest on; with the name of a score, from its highest on."""
    steps = steps_in(folder)
    if best is None:
        yield from reversed(steps)
        return
    scores = {step: read_scores(folder / str(step)) for step in steps}
    while (step := best_step(scores, best)) is not None:
        yield step
        del scores[step]


def best_step(
    scores: Mapping[int, Mapping[str, float] | None], best: str
) -> int | None:
    """The step of the highest score `best`, of equals the latest; None if none has."""
    scored = {step: s[best] for step, s in scores.items() if s and best in s}
    return max(scored, key=lambda step: (scored[step], step), default=None)


def read_scores(path: Path) -> dict[str, float] | None:
    """The scores of a checkpoint; None if it has none that can be read."""
    try:
        scores = json.loads((path / "metrics" / "metrics").read_bytes())
        return {name: float(value) for name, value in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def read_meta(path: Path) -> dict[str, Any]:
    """What a checkpoint was given as `meta`; may raise OSError or ValueError."""
    meta = json.loads((path / "meta" / "metadata").read_bytes())
    meta.pop(manifest.SEALED, None)
    return meta


def set_damaged_aside(folder: Path) -> tuple[str, int | None]:
    """Makes `folder` one of sound checkpoints; what was damaged, the newest sound.

    Raises:
      InputError: it cannot be written, or no checkpoint in it is sound.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_UNSCORED}*"):
            name = path.name.removeprefix(_UNSCORED)
            if not (folder / name).exists():
                path.rename(folder / name)
        clear_unscored(folder)
        damaged = {}
        for step in steps_in(folder):
            reason = manifest.damage(folder / str(step))
            if reason is not None:
                damaged[step] = reason
        sound = [step for step in steps_in(folder) if step not in damaged]
        if damaged and not sound:
            raise InputError(
                f"{folder}: no checkpoint is sound ({listed(damaged)}): restore it "
                "from a copy, or remove the folder to start anew"
            )
        clear_unfinished(folder)
        _clear(folder, _DELETED)
        for step in damaged:
            _rename_freely(folder / str(step), f"{_DAMAGED}{step}")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    return listed(damaged), max(sound, default=None)


def set_unscored_aside(folder: Path, step: int) -> None:
    """Makes room for checkpoint `step` to be written again."""
    _rename_freely(folder / str(step), f"{_UNSCORED}{step}")


def clear_unscored(folder: Path) -> None:
    """Removes what was set aside and has been written again."""
    _clear(folder, _UNSCORED)


def unfinished(folder: Path, step: int) -> Path:
    """Where Orbax is writing checkpoint `step`."""
    # Not by a glob: Python keeps the pattern of every step.
    (path,) = (p for p in folder.iterdir() if p.name.startswith(f"{step}{_TEMPORARY}"))
    return path


def clear_unfinished(folder: Path) -> None:
    """Removes saves that failed or were killed."""
    _clear(folder, _TEMPORARY)


def remove(folder: Path, step: int) -> None:
    """Removes checkpoint `step`."""
    # A checkpoint that is half removed must not look like one.
    removed = _rename_freely(folder / str(step), f"{_DELETED}{step}")
    shutil.rmtree(removed, ignore_errors=True)


def listed(damaged: Mapping[int, str]) -> str:
    """Steps and what is wrong with them, for messages."""
    return "; ".join(f"{step}: {reason}" for step, reason in damaged.items())


def _rename_freely(path: Path, name: str) -> Path:
    target = path.with_name(name)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{name}-{number}")
    return path.rename(target)


def _clear(folder: Path, part: str) -> None:
    """Removes the folders with `part` in their names."""
    for path in folder.iterdir():
        if part in path.name:
            shutil.rmtree(path, ignore_errors=True)
