"""The only file that writes state: Orbax checkpoints with checksums.

A checkpoint is the folder `STEP` of a run's `checkpoints`. Orbax writes it in the
background under another name; when all of it is on disk, `manifest.json` with the
size and SHA-256 of every file is added, and only then the folder gets its name. So a
folder `STEP` is whole, and every later change of a byte of it is found on reading.
What else may lie there is said in `checkpoint_folder`.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from segjax.errors import InputError
from segjax.training import checkpoint_folder, manifest, processes
from segjax.training.manifest import reason_of

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
            step: checkpoint_folder.read_scores(folder / str(step))
            for step in checkpoint_folder.steps_in(folder)
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
        return checkpoint_folder.best_step(scores, self._best)

    def save(self, job: _Save) -> None:
        """Starts writing; see the function `save`."""
        self.wait_until_finished()
        if job.step in self._scores:
            if job.scores is None or self._scores[job.step] is not None:
                return
            del self._scores[job.step]
            if processes.is_first():
                checkpoint_folder.set_unscored_aside(self._folder, job.step)
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
            folder = checkpoint_folder.unfinished(self._folder, step)
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
                checkpoint_folder.clear_unfinished(self._folder)
                self._writer = self._open_writer()
                self._start(job)
                self._writer.wait_until_finished()
            except Exception as again:
                error = again
            else:
                self._finished()
                return
        self._pending = None
        checkpoint_folder.clear_unfinished(self._folder)
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
            checkpoint_folder.clear_unscored(self._folder)
        kept = {
            *sorted(self._scores)[-self._keep :],
            checkpoint_folder.best_step(self._scores, self._best),
        }
        for step in self._scores.keys() - kept:
            del self._scores[step]
            if processes.is_first():
                checkpoint_folder.remove(self._folder, step)


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
    damaged, newest = processes.on_first(
        lambda: checkpoint_folder.set_damaged_aside(folder)
    )
    if damaged:
        logger.warning(
            "%s: damaged: %s; set aside as damaged-STEP, the newest sound one is "
            "step %d",
            folder,
            damaged,
            newest,
        )
    return Checkpoints(folder, best=best, keep=keep)


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
    return folder.is_dir() and bool(checkpoint_folder.steps_in(folder))


def read_meta(checkpoints: Checkpoints, *, step: int) -> dict[str, Any]:
    """What `save` was given as `meta` for checkpoint `step`.

    Raises:
      InputError: it cannot be read.
    """
    checkpoints.wait_until_finished()
    path = checkpoints.folder / str(step)
    try:
        return checkpoint_folder.read_meta(path)
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
    for step in checkpoint_folder.in_reading_order(folder, best=best):
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
        raise InputError(
            f"{folder}: no checkpoint is sound ({checkpoint_folder.listed(damaged)})"
        )
    raise InputError(f"{folder}: holds no checkpoint")


def _read_state(path: Path, step: int) -> Saved:
    path = path.resolve()  # Orbax finds nothing at a relative path
    _silence_orbax()
    meta = checkpoint_folder.read_meta(path)
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


def _on_this_host(state: Any) -> bool:
    """Whether this process can read all of the state."""
    return all(
        x.is_fully_addressable
        for x in jax.tree.leaves(state)
        if isinstance(x, jax.Array)
    )


def _silence_orbax() -> None:
    """Keeps Orbax's log off the terminal: what fails is told here, in one line."""
    absl = logging.getLogger("absl")
    if _not_of_orbax not in absl.filters:
        absl.addFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
