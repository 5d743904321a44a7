"""fit(): trains, evaluates, logs and saves, in plain lines."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from segjax.data.prefetch import Prefetched
from segjax.data.stalls import StallWatch
from segjax.errors import InputError
from segjax.training import checkpoint, parallel, processes, replay
from segjax.training.logs import RunLog
from segjax.training.preemption import Stopped, StopRequest
from segjax.training.replay import NotFiniteError
from segjax.training.state import TrainState

HostBatch = dict[str, np.ndarray]

SelectName = Literal["last", "pixel_accuracy", "miou"]

# In the `meta` of a checkpoint: what was done but not logged, or not evaluated.
_REMAINDER = "remainder"


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What training leaves.

    Attributes:
      state: the selected state.
      selected_step: the step that `state` is of.
      step_seconds: median wall time of one step in seconds, data included and
        compilation, evaluation and saving excluded; None if no step was timed.
      train_seconds: wall time of this call, everything included.
    """

    state: TrainState
    selected_step: int
    step_seconds: float | None
    train_seconds: float


def fit(
    state: TrainState,
    *,
    train_step: Callable,
    train_batches: Callable[[int], Iterator[HostBatch]],
    evaluate_state: Callable[[TrainState], dict[str, Any]],
    learning_rate: Callable[[int], Any],
    mesh: jax.sharding.Mesh,
    workdir: Path,
    config: dict[str, Any],
    meta: dict[str, Any],
    steps: int,
    log_every: int,
    eval_every: int,
    select: SelectName = "last",
    draw_panels: Callable[[TrainState, int], np.ndarray] | None = None,
    stop: StopRequest | None = None,
    stall_seconds: float = 60.0,
    title: str = "training",
    console: Console | None = None,
) -> FitResult:
    """Trains `state` until `steps` updates are done, resuming from `workdir`.

    Of several processes all call this, on one common `workdir`; the first one writes
    the log and the panels.

    Args:
      state: a fresh state; the latest checkpoint in `workdir` replaces it.
      train_step: jitted `(state, batch) -> (state, sums)`; may donate the state.
      train_batches: start step -> endless batches from that step on; of several
        processes each gives its share.
      evaluate_state: state -> scores of the validation split.
      learning_rate: step -> rate, for the log only.
      mesh: where state and batches live.
      workdir: receives `log.jsonl`, `tensorboard/`, `checkpoints/`.
      config: written to the log; JSON values.
      meta: written into every checkpoint; JSON values.
      steps: updates in all, resumed ones included.
      log_every: steps between log records.
      eval_every: steps between evaluations, each followed by a checkpoint and
        panels; the last step is always evaluated and saved.
      select: which evaluated state is returned: the "last", or the one with the
        highest "pixel_accuracy" or "miou" on the validation split (of equals the
        latest).
      draw_panels: `(state, step) -> pixels`, writes a picture and returns it.
      stop: looked at after every step, and while an input or an evaluation is
        waited for; see `segjax.training.preemption`.
      stall_seconds: a wait for input that is longer is told, with the reason.
      title: of what is printed.
      console: where progress and results are printed.

    Raises:
      InputError: the folder cannot be read or written; or the loss, the gradient or
        the weights are not finite: the message names the step and the file that has
        its batch and the state before it, and no such state is saved.
      Stopped: `stop` was requested; all that was done is saved.
    """
    console = console or Console()
    stop = stop or StopRequest()
    started = time.perf_counter()
    fresh = state
    manager = checkpoint.open_checkpoints(
        workdir / "checkpoints", best="miou" if select == "last" else select
    )
    log = None
    window = _Window()
    progress = _progress(console)

    def record(step: int) -> None:
        figures = window.close(step, learning_rate=float(learning_rate(step - 1)))
        if log is not None:
            log.write("train", step, figures)
        shown = f"loss {figures['loss']:.3f}"
        if figures["images_per_second"] is not None:
            shown += f"  {figures['images_per_second']:.1f} img/s"
        progress.update(task, figures=shown)

    def save(state, step, *, scores=None, **remainder) -> None:
        replay.check_state(state, step)
        checkpoint.save(
            manager,
            state,
            step=step,
            meta={**meta, _REMAINDER: remainder},
            scores=scores,
        )

    def save_and_stop(state, step, *, unevaluated: bool) -> None:
        """Leaves what the next run needs to go on as if nothing had been."""
        if step > 0:
            unlogged = window.fetch(step)
            save(state, step, unlogged=unlogged, unevaluated=unevaluated)
            manager.wait_until_finished()
        console.print(
            f"stopped at step {step}, saved; run the same command to go on",
            soft_wrap=True,
        )

    def evaluate_and_save(state, step) -> None:
        try:
            with stop.interrupting():
                scores = evaluate_state(state)
        except Stopped:
            save_and_stop(state, step, unevaluated=True)
            raise
        if log is not None:
            log.write("eval", step, json_scores(scores))
        progress.console.print(
            f"{title}, step {step:>6}: val loss "
            f"{scores['loss']:.3f}  mIoU {scores['miou']:.4f}  pixel "
            f"accuracy {scores['pixel_accuracy']:.4f}",
            soft_wrap=True,
        )
        kept = {name: _finite(scores[name]) for name in ("miou", "pixel_accuracy")}
        save(state, step, scores=kept)
        if log is not None and draw_panels is not None:
            log.image("panels", step, draw_panels(state, step))

    try:
        state, remainder = _restored(manager, parallel.replicate(mesh, state))
        window.add_fetched(remainder.get("unlogged", []))
        unevaluated = remainder.get("unevaluated", False)
        first = int(state.step)
        if first:
            console.print(f"resuming {workdir} from step {first}")
        if first > steps:
            raise InputError(
                f"{workdir} is at step {first}, past the {steps} asked for"
            )
        if first == steps and not unevaluated:
            state, selected = _select(manager, state, select)
            return FitResult(state, selected, None, time.perf_counter() - started)
        if processes.is_first():
            log = RunLog(
                workdir, config=config, start_step=first, evaluated=not unevaluated
            )
        with contextlib.ExitStack() as opened:
            opened.enter_context(progress)
            watch = opened.enter_context(StallWatch(stall_seconds, console.print))
            task = progress.add_task(
                title, total=steps, completed=first, figures="compiling"
            )
            if unevaluated:
                evaluate_and_save(state, first)
            ahead = opened.enter_context(
                Prefetched(
                    train_batches(first),
                    partial(parallel.shard_batch, mesh),
                    count=steps - first,
                )
            )
            batches = watch.batches(ahead)
            for step in range(first + 1, steps + 1):
                try:
                    with stop.interrupting():
                        batch = next(batches)
                except Stopped:
                    save_and_stop(state, step - 1, unevaluated=False)
                    raise
                state, sums = train_step(state, batch)
                window.add(sums, images=len(batch["image"]))
                progress.advance(task)
                if step == first + 1:
                    jax.block_until_ready(sums)  # the compilation is not a step's time
                    window.start_clock()
                due = step == steps or step % eval_every == 0
                if step % log_every == 0 or due:
                    record(step)
                    manager.poll()
                if due:
                    evaluate_and_save(state, step)
                    window.start_clock()
                if stop.reached(step):
                    save_and_stop(state, step, unevaluated=False)
                    raise stop.stopped()
        state, selected = _select(manager, state, select)
    except NotFiniteError as error:
        raise InputError(
            _kept(
                error,
                fresh,
                manager,
                workdir,
                train_step=train_step,
                train_batches=train_batches,
                mesh=mesh,
            )
        ) from error
    finally:
        if log is not None:
            log.close()
        manager.close()
    return FitResult(
        state=state,
        selected_step=selected,
        step_seconds=statistics.median(window.seconds) if window.seconds else None,
        train_seconds=time.perf_counter() - started,
    )


class _Window:
    """The steps since the last record: their sums and how long they took.

    Sums stay on the device until a record is due: fetching them would make every step
    wait.

    Attributes:
      seconds: of every step that was timed, the mean of its window.
    """

    def __init__(self):
        self.seconds: list[float] = []
        self._sums: list[dict[str, Any]] = []
        self.start_clock()

    def start_clock(self) -> None:
        """Times from here on."""
        self._images = self._steps = 0
        self._clock = time.perf_counter()

    def add(self, sums: dict[str, jax.Array], *, images: int) -> None:
        """Adds a step."""
        self._sums.append(sums)
        self._images += images
        self._steps += 1

    def add_fetched(self, sums: list[dict[str, float]]) -> None:
        """Adds what `fetch` gave in an earlier process, untimed."""
        self._sums += sums

    def fetch(self, step: int) -> list[dict[str, float]]:
        """The steps' sums, the last one's being of `step`.

        Raises:
          NotFiniteError: naming the first step whose loss or gradient is not finite.
        """
        fetched = [
            {name: float(x) for name, x in sums.items()}
            for sums in jax.device_get(self._sums)
        ]
        for number, sums in enumerate(fetched, start=step - len(fetched) + 1):
            replay.check_sums(sums, number)
        return fetched

    def close(self, step: int, *, learning_rate: float) -> dict[str, float | None]:
        """The record of the steps up to `step`, of which there is at least one."""
        sums = self.fetch(step)
        seconds = time.perf_counter() - self._clock
        if self._steps:
            self.seconds += [seconds / self._steps] * self._steps
        loss_sum = math.fsum(s["loss_sum"] for s in sums)
        loss_weight = math.fsum(s["loss_weight"] for s in sums)
        record = {
            "loss": loss_sum / loss_weight if loss_weight else 0.0,
            "grad_norm": sums[-1]["grad_norm"],
            "learning_rate": learning_rate,
            # None where the only step was one that compiled.
            "images_per_second": self._images / seconds if self._steps else None,
        }
        self._sums = []
        self.start_clock()
        return record


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
    )


def _restored(manager, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The latest checkpoint, in the place of `state`, and what it left undone."""
    latest = manager.latest_step()
    if latest is None:
        return state, {}
    meta = checkpoint.read_meta(manager, step=latest)
    return (
        checkpoint.restore(manager, state, step=latest),
        # Older checkpoints were all made where nothing is left.
        meta.get(_REMAINDER, {}),
    )


def _kept(error: NotFiniteError, fresh, manager, workdir, *, mesh, **steps) -> str:
    """Keeps the step that went wrong; what to tell about it."""
    path = workdir / replay.FOLDER / f"step_{error.step:06d}.npz"
    text = f"{workdir}: {error.what} at step {error.step}"
    try:
        state, _ = _restored(manager, parallel.replicate(mesh, fresh))
        good = int(state.step)
        text += f"; the last good checkpoint is step {good}" if good else ""
        observed = replay.keep(path, error.step, state=state, mesh=mesh, **steps)
    except InputError as why:
        return f"{text}; its batch is not kept: {why}"
    if observed.finite:
        text += f"; done again from step {good} it is finite"
    return (
        f"{text}; its batch and the state before it are in {path}: to do this step "
        f"alone, run python -m segjax replay --file {path}"
    )


def _select(manager, state: TrainState, select: SelectName) -> tuple[TrainState, int]:
    if select == "last":
        return state, int(state.step)
    manager.wait_until_finished()
    step = manager.best_step()
    if step == int(state.step):
        return state, step
    return checkpoint.restore(manager, state, step=step), step


def _finite(x: float) -> float:
    """A split of nothing but void has no score; it must not rank as best."""
    return float(x) if math.isfinite(x) else -1.0


def json_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores as JSON values: lists for arrays, None where a class is absent."""

    def plain(value):
        if isinstance(value, np.ndarray):
            return plain(value.tolist())
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return plain(scores)
