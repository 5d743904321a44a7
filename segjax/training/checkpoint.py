"""The only file that writes state: Orbax checkpoints with checksums.

A checkpoint is the folder `STEP` of a run's `checkpoints`. Orbax writes it in the
background under another name; when all of it is on disk, `manifest.json` with the
size and SHA-256 of every file is added, and only then the folder gets its name. So a
folder `STEP` is whole, and every later change of a byte of it is found on reading.

What else may lie there: `STEP.orbax-checkpoint-tmp`, a save that was killed, and
`deleted-STEP`, a removal that was, both cleared by the next run; `unscored-STEP`, a
checkpoint that is being written again with its scores, which has its name back if that
was killed; `damaged-STEP`, a checkpoint that failed its checksums, kept for inspection.
"""

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from segjax.errors import InputError
from segjax.training import manifest, processes
from segjax.training.manifest import reason_of

_TEMPORARY = ".orbax-checkpoint-tmp"
_UNSCORED = "unscored-"
_RETRY_SECONDS = (1.0, 5.0)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Save:
    """A save that may have to be made again."""

    step: int
    state: Any
    meta: dict[str, Any]
    scores: dict[str, float] | None


class Checkpoints:
    """The checkpoints of one run, open for saving; `open_checkpoints` makes it.

    Every process of a run has one and calls its methods at the same steps. Its files
    are the processes' common ones.
    """

    def __init__(self, folder: Path, *, best: str, keep: int):
        self._folder = folder
        self._best = best
        self._keep = keep
        self._scores: dict[int, dict[str, float] | None] = {
            step: _read_scores(folder / str(step)) for step in _steps(folder)
        }
        self._pending: _Save | None = None
        self._writer = self._open_writer()

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def all_steps(self) -> list[int]:
        """Steps of all checkpoints, the one being written included, ascending."""
        pending = [self._pending.step] if self._pending else []
        return sorted({*self._scores, *pending})

    def latest_step(self) -> int | None:
        """The newest step; None if there is no checkpoint."""
        return max(self.all_steps(), default=None)

    def best_step(self) -> int | None:
        """The step of the highest score, of equals the latest; None if none has one."""
        scores = dict(self._scores)
        if self._pending:
            scores[self._pending.step] = self._pending.scores
        return _best_step(scores, self._best)

    def save(self, job: _Save) -> None:
        """Starts writing; see the function `save`."""
        self.wait_until_finished()
        if job.step in self._scores:
            if job.scores is None or self._scores[job.step] is not None:
                return
            del self._scores[job.step]
            if processes.is_first():
                _rename_freely(self._folder / str(job.step), f"{_UNSCORED}{job.step}")
        self._pending = job
        try:
            self._start(job)
        except Exception as error:
            self._retry(error)

    def poll(self) -> None:
        """Takes note of a save that has ended, if one has; does not wait for one.

        To be called now and then between saves: a failed one is made again here.

        Raises:
          InputError: as `wait_until_finished`.
        """
        # Several processes must agree on the call at which a save ends, which only
        # waiting makes sure of.
        if self._pending is None or jax.process_count() > 1:
            return
        try:
            self._writer.check_for_errors()
        except Exception as error:
            self._retry(error)
        else:
            if self._sealed:
                self.wait_until_finished()

    def wait_until_finished(self) -> None:
        """Waits for the save that is being written; makes it again if it failed.

        Raises:
          InputError: it failed every time; the message has the reason.
        """
        if self._pending is None:
            return
        try:
            self._writer.wait_until_finished()
        except Exception as error:
            self._retry(error)
        else:
            self._finished()

    def close(self) -> None:
        """Waits for the last save and closes.

        Raises:
          InputError: as `wait_until_finished`.
        """
        try:
            self.wait_until_finished()
        finally:
            self._close_writer()

    def _open_writer(self) -> ocp.AsyncCheckpointer:
        _silence_orbax()
        return ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                state=ocp.StandardCheckpointHandler(),
                meta=ocp.JsonCheckpointHandler(),
                metrics=ocp.JsonCheckpointHandler(filename="metrics"),
            ),
            async_options=ocp.options.AsyncOptions(
                post_finalization_callback=self._seal
            ),
        )

    def _close_writer(self) -> None:
        try:
            self._writer.close()
        except Exception as error:  # was told already, or is of a save made again
            logger.debug("closing the writer: %s", error)

    def _start(self, job: _Save) -> None:
        self._sealed = False
        items = {
            "state": ocp.args.StandardSave(job.state),
            "meta": ocp.args.JsonSave({**job.meta, manifest.SEALED: True}),
        }
        if job.scores is not None:
            items["metrics"] = ocp.args.JsonSave(job.scores)
        self._writer.save(
            self._folder / str(job.step), args=ocp.args.Composite(**items)
        )

    def _seal(self) -> None:
        """Adds the manifest; Orbax calls it when all is written but the name."""
        if processes.is_first():
            step = self._pending.step
            (folder,) = self._folder.glob(f"{step}{_TEMPORARY}*")
            manifest.write(folder, step=step)
        self._sealed = True

    def _retry(self, error: Exception) -> None:
        job = self._pending
        for seconds in _RETRY_SECONDS if _on_this_host(job.state) else ():
            logger.warning(
                "%s: checkpoint %d could not be written (%s); trying again",
                self._folder,
                job.step,
                reason_of(error),
            )
            time.sleep(seconds)
            # A failed save leaves the writer in a state that is nobody's promise.
            self._close_writer()
            try:
                _clear(self._folder, _TEMPORARY)
                self._writer = self._open_writer()
                self._start(job)
                self._writer.wait_until_finished()
            except Exception as again:
                error = again
            else:
                self._finished()
                return
        self._pending = None
        _clear(self._folder, _TEMPORARY)
        newest = self.latest_step()
        raise InputError(
            f"{self._folder}: checkpoint {job.step} cannot be written: "
            f"{reason_of(error)}; "
            + (f"the run goes on from step {newest}" if newest else "there is no other")
        ) from error

    def _finished(self) -> None:
        self._scores[self._pending.step] = self._pending.scores
        self._pending = None
        if processes.is_first():
            _clear(self._folder, _UNSCORED)
        kept = {
            *sorted(self._scores)[-self._keep :],
            _best_step(self._scores, self._best),
        }
        for step in self._scores.keys() - kept:
            del self._scores[step]
            if processes.is_first():
                _remove(self._folder / str(step))


def open_checkpoints(folder: Path, *, best: str = "miou", keep: int = 2) -> Checkpoints:
    """Opens `folder` (made if missing) for saving and restoring.

    Kept are the newest `keep` checkpoints and the one whose validation score `best`
    is highest. Checkpoints that fail their checksums are renamed to `damaged-STEP`,
    with a warning in the log, and the newest sound one is the latest then. Close it
    to wait for the last save.

    Args:
      folder: the run's `checkpoints`.
      best: name of a score.
      keep: how many of the newest, at least 1.

    Raises:
      InputError: the folder cannot be written, or no checkpoint in it is sound.
    """
    folder = folder.resolve()
    damaged, newest = processes.on_first(lambda: _set_damaged_aside(folder))
    if damaged:
        logger.warning(
            "%s: damaged: %s; set aside as damaged-STEP, the newest sound one is "
            "step %d",
            folder,
            damaged,
            newest,
        )
    return Checkpoints(folder, best=best, keep=keep)


def _set_damaged_aside(folder: Path) -> tuple[str, int | None]:
    """Makes `folder` one of sound checkpoints; what was damaged, the newest sound."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_UNSCORED}*"):
            name = path.name.removeprefix(_UNSCORED)
            if not (folder / name).exists():
                path.rename(folder / name)
        _clear(folder, _UNSCORED)
        damaged = {}
        for step in _steps(folder):
            reason = manifest.damage(folder / str(step))
            if reason is not None:
                damaged[step] = reason
        sound = [step for step in _steps(folder) if step not in damaged]
        if damaged and not sound:
            raise InputError(
                f"{folder}: no checkpoint is sound ({_listed(damaged)}): restore it "
                "from a copy, or remove the folder to start anew"
            )
        _clear(folder, _TEMPORARY)
        _clear(folder, "deleted-")
        for step in damaged:
            _rename_freely(folder / str(step), f"damaged-{step}")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    return _listed(damaged), max(sound, default=None)


def save(
    checkpoints: Checkpoints,
    state: Any,
    *,
    step: int,
    meta: Mapping[str, Any],
    scores: Mapping[str, float] | None = None,
) -> None:
    """Saves `state` and `meta` (JSON values) as checkpoint `step`; a no-op if there.

    Only one that is there without scores is written again if `scores` are given.

    Returns when the state is copied; it is written in the background, and its buffers
    may be donated meanwhile. An earlier save is waited for. A save that fails is made
    again, twice, from the copy; on several hosts, where no host has all of the state,
    it is not.

    Args:
      checkpoints: of the run.
      state: any pytree of arrays.
      step: of the state.
      meta: what reading needs to know.
      scores: validation scores of exactly this state, finite; one of them decides
        what is kept. None for a state that was not evaluated.

    Raises:
      InputError: an earlier save, or the start of this one, failed every time.
    """
    if _on_this_host(state):
        # Not a view: on CPU that would be of a buffer that is donated next.
        state = jax.tree.map(lambda x: np.array(x, copy=True), state)
    checkpoints.save(
        _Save(
            step=step,
            state=state,
            meta=dict(meta),
            scores=None if scores is None else dict(scores),
        )
    )


def has_any(folder: Path) -> bool:
    """Whether `folder`, which may be missing, holds a checkpoint, sound or not."""
    return folder.is_dir() and bool(_steps(folder))


def read_meta(checkpoints: Checkpoints, *, step: int) -> dict[str, Any]:
    """What `save` was given as `meta` for checkpoint `step`.

    Raises:
      InputError: it cannot be read.
    """
    checkpoints.wait_until_finished()
    path = checkpoints.folder / str(step)
    try:
        return _read_meta(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be restored: {reason_of(error)}") from error


def restore(checkpoints: Checkpoints, like: Any, *, step: int) -> Any:
    """Restores checkpoint `step` with the structure, types and shardings of `like`.

    The devices need not be those that it was saved from.

    Raises:
      InputError: it cannot be read, or does not fit `like`.
    """
    checkpoints.wait_until_finished()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    path = checkpoints.folder / str(step)
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
            return reader.restore(
                path / "state", args=ocp.args.StandardRestore(abstract)
            )
    except Exception as error:
        raise InputError(f"{path}: cannot be restored: {reason_of(error)}") from error


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
    """Reads the latest checkpoint of a run, or its best one; writes nothing.

    A damaged checkpoint is passed over for the next older or next best one, with a
    warning in the log.

    Args:
      folder: the run's `checkpoints`.
      best: name of the validation score that is highest; None reads the latest.

    Raises:
      InputError: there is no checkpoint, or none that is sound.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run's checkpoints")
    damaged: dict[int, str] = {}
    for step in _candidates(folder, best):
        path = folder / str(step)
        reason = manifest.damage(path)
        if reason is None:
            try:
                return _read_state(path, step)
            except Exception as error:
                reason = reason_of(error)
        damaged[step] = reason
        logger.warning("%s: damaged (%s); looking for another one", path, reason)
    if damaged:
        raise InputError(f"{folder}: no checkpoint is sound ({_listed(damaged)})")
    raise InputError(f"{folder}: holds no checkpoint")


def _read_state(path: Path, step: int) -> Saved:
    _silence_orbax()
    meta = _read_meta(path)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path / "state").item_metadata.tree
        # As numpy, so that the devices it was saved from do not matter.
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
        )
        state = reader.restore(
            path / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )
    return Saved(
        step=step,
        params=state.get("ema_params") or state["params"],
        batch_stats=state.get("batch_stats") or {},
        meta=meta,
    )


def _read_meta(path: Path) -> dict[str, Any]:
    meta = json.loads((path / "meta" / "metadata").read_bytes())
    meta.pop(manifest.SEALED, None)
    return meta


def _candidates(folder: Path, best: str | None) -> Iterator[int]:
    """Steps in the order in which `read` wants them."""
    steps = _steps(folder)
    if best is None:
        yield from reversed(steps)
        return
    scores = {step: _read_scores(folder / str(step)) for step in steps}
    while (step := _best_step(scores, best)) is not None:
        yield step
        del scores[step]


def _steps(folder: Path) -> list[int]:
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    )


def _read_scores(path: Path) -> dict[str, float] | None:
    """The scores of a checkpoint; None if it has none that can be read."""
    try:
        scores = json.loads((path / "metrics" / "metrics").read_bytes())
        return {name: float(value) for name, value in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _best_step(scores: Mapping[int, Mapping[str, float] | None], best: str):
    scored = {step: s[best] for step, s in scores.items() if s and best in s}
    return max(scored, key=lambda step: (scored[step], step), default=None)


def _on_this_host(state: Any) -> bool:
    """Whether this process can read all of the state."""
    return all(
        x.is_fully_addressable
        for x in jax.tree.leaves(state)
        if isinstance(x, jax.Array)
    )


def _remove(path: Path) -> None:
    # A checkpoint that is half removed must not look like one.
    removed = _rename_freely(path, f"deleted-{path.name}")
    shutil.rmtree(removed, ignore_errors=True)


def _rename_freely(path: Path, name: str) -> Path:
    target = path.with_name(name)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{name}-{number}")
    return path.rename(target)


def _clear(folder: Path, part: str) -> None:
    """Removes what a kill left: the folders with `part` in their names."""
    for path in folder.iterdir():
        if part in path.name:
            shutil.rmtree(path, ignore_errors=True)


def _listed(damaged: Mapping[int, str]) -> str:
    return "; ".join(f"{step}: {reason}" for step, reason in damaged.items())


def _silence_orbax() -> None:
    """Keeps Orbax's log off the terminal: what fails is told here, in one line."""
    absl = logging.getLogger("absl")
    if _not_of_orbax not in absl.filters:
        absl.addFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
