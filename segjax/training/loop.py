"""fit(): trains, evaluates, logs and saves, in plain lines."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
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

from segjax import metrics
from segjax.errors import InputError
from segjax.training import checkpoint, parallel
from segjax.training.logs import RunLog
from segjax.training.state import TrainState

HostBatch = dict[str, np.ndarray]

SelectName = Literal["last", "pixel_accuracy", "miou"]


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


def evaluate(
    eval_step: Callable[[dict[str, Any], dict[str, jax.Array]], dict[str, jax.Array]],
    variables: dict[str, Any],
    batches: Iterable[HostBatch],
    *,
    mesh: jax.sharding.Mesh,
    num_examples: int,
    visit: Callable[[int, np.ndarray], None] | None = None,
) -> dict[str, Any]:
    """Scores a whole split: one confusion matrix, every image once.

    Args:
      eval_step: jitted `segjax.training.steps.eval_step`.
      variables: of the model.
      batches: host batches, the last one padded.
      mesh: where batches go.
      num_examples: images in the split.
      visit: called with the index and the prediction, uint8 `[h w]`, of every
        image; the prediction has the batch's size, padding included.

    Returns:
      `segjax.metrics.scores` of the split's confusion matrix, plus `loss` (mean over
      labelled pixels), `confusion` and `num_images`.

    Raises:
      RuntimeError: images were missed or seen twice.
    """
    totals, first = None, 0
    for batch in batches:
        sums = eval_step(variables, parallel.shard_batch(mesh, batch))
        predictions = sums.pop("prediction")
        if visit is not None:
            predictions = np.asarray(predictions)
            for index, prediction in enumerate(predictions, start=first):
                if index < num_examples:
                    visit(index, prediction)
            first += len(predictions)
        sums = jax.tree.map(lambda x: _wide(np.asarray(x)), jax.device_get(sums))
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    if totals is None or totals["seen"] != num_examples:
        seen = 0 if totals is None else int(totals["seen"])
        raise RuntimeError(f"evaluated {seen} images of a split of {num_examples}")
    weight = float(totals["loss_weight"])
    return {
        **metrics.scores(totals["confusion"]),
        "loss": float(totals["loss_sum"]) / weight if weight else math.nan,
        "confusion": totals["confusion"],
        "num_images": num_examples,
    }


def _wide(x: np.ndarray) -> np.ndarray:
    """Totals are kept in 64 bits: a split has more pixels than int32 or float32."""
    kind = np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64
    return x.astype(kind)


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
    title: str = "training",
    console: Console | None = None,
) -> FitResult:
    """Trains `state` until `steps` updates are done, resuming from `workdir`.

    Args:
      state: a fresh state; the latest checkpoint in `workdir` replaces it.
      train_step: jitted `(state, batch) -> (state, sums)`; may donate the state.
      train_batches: start step -> endless batches from that step on.
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
      title: of what is printed.
      console: where progress and results are printed.

    Raises:
      FloatingPointError: the loss is not finite; names the steps it happened in.
    """
    console = console or Console()
    started = time.perf_counter()
    manager = checkpoint.open_checkpoints(
        workdir / "checkpoints", best="miou" if select == "last" else select
    )
    latest = manager.latest_step()
    state = parallel.replicate(mesh, state)
    if latest is not None:
        state = checkpoint.restore(manager, state, step=latest)
        console.print(f"resuming {workdir} from step {latest}")
    first = int(state.step)
    if first > steps:
        manager.close()
        raise InputError(f"{workdir} is at step {first}, past the {steps} asked for")
    if first == steps:
        state, selected = _select(manager, state, select)
        manager.close()
        return FitResult(state, selected, None, time.perf_counter() - started)
    log = RunLog(workdir, config=config, start_step=first)
    windows: list[float] = []
    batches = train_batches(first)
    pending: list[dict[str, jax.Array]] = []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
    )
    try:
        with progress:
            task = progress.add_task(
                title, total=steps, completed=first, figures="compiling"
            )
            clock, images = time.perf_counter(), 0
            for step in range(first + 1, steps + 1):
                batch = next(batches)
                images += len(batch["image"])
                state, sums = train_step(state, parallel.shard_batch(mesh, batch))
                pending.append(sums)
                progress.advance(task)
                due = step == steps or step % eval_every == 0
                if step == first + 1:
                    jax.block_until_ready(sums)  # the compilation is not a step's time
                    clock, images = time.perf_counter(), 0
                elif step % log_every == 0 or due:
                    record = _train_record(pending, step)
                    seconds = time.perf_counter() - clock
                    timed = images // len(batch["image"])
                    record["learning_rate"] = float(learning_rate(step - 1))
                    record["images_per_second"] = images / seconds
                    windows += [seconds / timed] * timed
                    log.write("train", step, record)
                    progress.update(
                        task,
                        figures=f"loss {record['loss']:.3f}  "
                        f"{record['images_per_second']:.1f} img/s",
                    )
                    pending, images = [], 0
                    clock = time.perf_counter()
                if due:
                    scores = evaluate_state(state)
                    log.write("eval", step, json_scores(scores))
                    progress.console.print(
                        f"{title}, step {step:>6}: val loss "
                        f"{scores['loss']:.3f}  mIoU {scores['miou']:.4f}  pixel "
                        f"accuracy {scores['pixel_accuracy']:.4f}",
                        soft_wrap=True,
                    )
                    checkpoint.save(
                        manager,
                        state,
                        step=step,
                        meta=meta,
                        scores={
                            name: _finite(scores[name])
                            for name in ("miou", "pixel_accuracy")
                        },
                    )
                    if draw_panels is not None:
                        log.image("panels", step, draw_panels(state, step))
                    clock = time.perf_counter()
        state, selected = _select(manager, state, select)
    finally:
        log.close()
        manager.close()
    return FitResult(
        state=state,
        selected_step=selected,
        step_seconds=statistics.median(windows) if windows else None,
        train_seconds=time.perf_counter() - started,
    )


def _select(manager, state: TrainState, select: SelectName) -> tuple[TrainState, int]:
    if select == "last":
        return state, int(state.step)
    manager.wait_until_finished()
    step = manager.best_step()
    if step == int(state.step):
        return state, step
    return checkpoint.restore(manager, state, step=step), step


def _train_record(pending: list[dict[str, jax.Array]], step: int) -> dict[str, float]:
    sums = jax.device_get(pending)
    loss_sum = math.fsum(float(s["loss_sum"]) for s in sums)
    loss_weight = math.fsum(float(s["loss_weight"]) for s in sums)
    if not math.isfinite(loss_sum):
        raise FloatingPointError(
            f"the loss is {loss_sum} between steps {step - len(sums) + 1} and {step}"
        )
    return {
        "loss": loss_sum / loss_weight if loss_weight else 0.0,
        "grad_norm": float(sums[-1]["grad_norm"]),
    }


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
