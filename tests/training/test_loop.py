"""fit and score: resume is exact, every image counts once."""

import errno
import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from segjax import scoring
from segjax.data import pipeline
from segjax.data.labels import VOID, LabelTable
from segjax.errors import InputError
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.models.zoo import build_model
from segjax.training import checkpoint, loop, parallel, replay, steps
from segjax.training.preemption import Stopped, listening
from segjax.training.state import create_state
from segjax.training.tensorboard import EventFile

CLASSES = 3
TABLE = LabelTable(
    names=("dark", "grey", "light"),
    colors=((60, 60, 60), (120, 120, 120), (180, 180, 180)),
    raw_ids={0: 0, 1: 1, 2: 2, VOID: VOID},
)


def make_source(count=7, size=(16, 16), seed=0):
    """Vertical bands of grey, the class is the brightness; a void border."""
    rng = np.random.default_rng(seed)
    source = []
    for i in range(count):
        label = rng.integers(0, CLASSES, (size[0] // 8, size[1] // 8), dtype=np.uint8)
        label = label.repeat(8, axis=0).repeat(8, axis=1)
        image = np.repeat((60 + 60 * label)[..., None], 3, axis=-1).astype(np.uint8)
        label[0] = VOID
        source.append({"image": image, "label": label, "id": str(i)})
    return source


def score(eval_step, variables, source, *, mesh, batch_size, seen=None):
    scores, _ = scoring.score(
        eval_step,
        variables,
        pipeline.eval_batches(seen or source, batch_size=batch_size),
        source,
        table=TABLE,
        mesh=mesh,
        boundaries=False,
    )
    return scores


@pytest.fixture(scope="module")
def setup():
    # Batch statistics, dropout and switches, in as few arrays as that takes.
    encoder = PooledEncoder(((4,), (6,)), dropout=0.2)
    model = Segmenter(encoder, SegNetDecoder(CLASSES))
    tx = optax.sgd(0.05, momentum=0.9)
    mesh = parallel.make_mesh()
    train_step = partial(steps.train_step, model=model, tx=tx)
    eval_step = partial(steps.eval_step, model=model, num_classes=CLASSES)
    source = make_source()

    def evaluate(state):
        return score(jitted_eval, state.eval_variables, source, mesh=mesh, batch_size=4)

    fresh = create_state(model, tx, seed=0)
    jitted_eval = parallel.jit_eval_step(eval_step, mesh)
    return {
        "model": model,
        "state": lambda: fresh,  # fit copies it
        "mesh": mesh,
        "eval_step": jitted_eval,
        "fit": partial(
            loop.fit,
            train_step=parallel.jit_train_step(train_step, mesh),
            train_batches=lambda start: pipeline.train_batches(
                source,
                batch_size=2,
                crop_size=(16, 16),
                scale_range=(1.0, 1.5),
                flip=True,
                photometric=0.1,
                seed=0,
                start_step=start,
            ),
            evaluate_state=evaluate,
            learning_rate=lambda step: 0.05,
            mesh=mesh,
            config={"seed": 0},
            meta={"config": {"seed": 0}},
            log_every=2,
            console=Console(quiet=True),
        ),
    }


def test_four_steps_are_two_and_two(setup, tmp_path):
    whole = setup["fit"](
        setup["state"](), workdir=tmp_path / "whole", steps=4, eval_every=2
    )
    (tmp_path / "parts").mkdir()
    setup["fit"](setup["state"](), workdir=tmp_path / "parts", steps=2, eval_every=2)
    parts = setup["fit"](
        setup["state"](), workdir=tmp_path / "parts", steps=4, eval_every=2
    )
    assert int(parts.state.step) == 4
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(whole.state),
        jax.device_get(parts.state),
    )

    def log(name):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [
            {k: v for k, v in r.items() if k != "images_per_second"}
            for r in records
            if r["kind"] != "start"
        ]

    assert log("whole") == log("parts")
    assert [r["step"] for r in log("whole")] == [2, 2, 4, 4]


def test_best_weights_are_selected_by_the_score_that_is_named(setup, tmp_path):
    # Accuracy falls while mIoU rises and falls: each choice has a state of its own.
    made_up = {2: (0.2, 0.9), 4: (0.6, 0.8), 6: (0.4, 0.7)}

    def evaluate(state):
        miou, accuracy = made_up[int(state.step)]
        return {"miou": miou, "pixel_accuracy": accuracy, "loss": 0.0}

    for select, step in (("last", 6), ("miou", 4), ("pixel_accuracy", 2)):
        for _ in range(2):  # the second call finds a finished run
            fitted = setup["fit"](
                setup["state"](),
                workdir=tmp_path / select,
                steps=6,
                eval_every=2,
                select=select,
                evaluate_state=evaluate,
            )
            assert (fitted.selected_step, int(fitted.state.step)) == (step, step)


def test_a_finished_run_is_not_trained_further(setup, tmp_path):
    first = setup["fit"](setup["state"](), workdir=tmp_path, steps=2, eval_every=2)
    text = (tmp_path / "log.jsonl").read_text()
    again = setup["fit"](setup["state"](), workdir=tmp_path, steps=2, eval_every=2)
    assert (tmp_path / "log.jsonl").read_text() == text
    assert again.step_seconds is None
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(first.state),
        jax.device_get(again.state),
    )
    with pytest.raises(InputError, match="at step 2, past the 1 asked for"):
        setup["fit"](setup["state"](), workdir=tmp_path, steps=1, eval_every=2)


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory):
    """A run of five steps that nothing stops: its state and log."""
    workdir = tmp_path_factory.mktemp("whole")
    fitted = setup["fit"](setup["state"](), workdir=workdir, **FIVE_STEPS)
    return jax.device_get(fitted.state), log_of(workdir)


FIVE_STEPS = {"steps": 5, "log_every": 3, "eval_every": 2}


def log_of(workdir):
    lines = (workdir / "log.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in record.items() if k != "images_per_second"}
        for record in map(json.loads, lines)
        if record["kind"] != "start"
    ]


def signal_at(function, call):
    """`function`, but SIGTERM comes in its call of that number, before it is done."""
    calls = []

    def called(*args):
        calls.append(args)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return function(*args)

    return called


def signal_while_waiting_for(call, functions):
    """SIGTERM comes when the batch of that number is due; it comes when that is heard.

    Batches are made in another thread, the signal goes to the main one as a process's
    does.
    """
    steps_begun = threading.Semaphore(0)

    def train_batches(start):
        batches = functions["train_batches"](start)
        for _ in range(call - 1):
            yield next(batches)
        for _ in range(call - 1):
            assert steps_begun.acquire(timeout=60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        for _ in range(2000):
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                break
            time.sleep(0.005)
        yield from batches

    def train_step(*args):
        result = functions["train_step"](*args)
        steps_begun.release()
        return result

    return {"train_batches": train_batches, "train_step": train_step}


def stopped_fit(setup, workdir, **options):
    with listening() as stop, pytest.raises(Stopped) as stopped:
        setup["fit"](
            setup["state"](), workdir=workdir, stop=stop, **FIVE_STEPS | options
        )
    assert stopped.value.code == 143


# Sums are pending at step 1 and 5; 2 and 4 are evaluated, and so is the last.
@pytest.mark.parametrize(
    ("where", "call", "saved"),
    [
        ("train_batches", 1, None),
        ("train_batches", 2, 1),
        ("train_step", 5, 5),
        ("evaluate_state", 1, 2),
        ("evaluate_state", 3, 5),
    ],
)
def test_a_run_that_was_told_to_stop_goes_on(
    setup, whole, tmp_path, where, call, saved
):
    function = setup["fit"].keywords[where]
    options = {where: signal_at(function, call)}
    if where == "train_batches":
        options = signal_while_waiting_for(call, setup["fit"].keywords)
    stopped_fit(setup, tmp_path, **options)
    steps_saved = [int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*")]
    assert max(steps_saved, default=None) == saved
    fitted = setup["fit"](setup["state"](), workdir=tmp_path, **FIVE_STEPS)
    state, log = whole
    jax.tree.map(np.testing.assert_array_equal, state, jax.device_get(fitted.state))
    assert log_of(tmp_path) == log
    scored = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    assert scored.latest_step() == 5
    assert scored.best_step() is not None
    scored.close()
    assert not list((tmp_path / "checkpoints").glob("unscored-*"))


def test_stopped_again_and_again(setup, whole, tmp_path):
    """At every step, and in every evaluation: each start does one thing."""
    for _ in range(2):
        stopped_fit(
            setup,
            tmp_path,
            train_step=signal_at(setup["fit"].keywords["train_step"], 1),
            evaluate_state=signal_at(setup["fit"].keywords["evaluate_state"], 2),
        )
    evaluate = setup["fit"].keywords["evaluate_state"]
    stopped_fit(setup, tmp_path, steps=4, evaluate_state=signal_at(evaluate, 1))
    stopped_fit(setup, tmp_path, steps=4, evaluate_state=signal_at(evaluate, 1))
    fitted = setup["fit"](setup["state"](), workdir=tmp_path, **FIVE_STEPS)
    state, log = whole
    jax.tree.map(np.testing.assert_array_equal, state, jax.device_get(fitted.state))
    assert log_of(tmp_path) == log


@pytest.mark.parametrize("what", ["log", "tensorboard", "checkpoint"])
def test_a_full_disk_loses_nothing(setup, whole, tmp_path, monkeypatch, what):
    """It stops the run with the reason; with space again the run goes on."""

    def full(function, call):
        calls = []

        def written(*args, **options):
            calls.append(args)
            if len(calls) >= call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*args, **options)

        return written

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_RETRY_SECONDS", (0.0, 0.0))
        owner, name, call, message = {
            "log": (Path, "open", 4, "log.jsonl: cannot be written: No space"),
            "tensorboard": (EventFile, "scalar", 20, "tensorboard: .* No space"),
            "checkpoint": (
                checkpoint.Checkpoints,
                "_start",
                2,
                "checkpoint 4 cannot be written: .*No space.*goes on from step 2",
            ),
        }[what]
        sound = getattr(owner, name)
        failing = full(sound, call)
        if what == "log":  # of all files that are opened, this one

            def of_the_log(path, *args, **options):
                chosen = failing if path.name == "log.jsonl" else sound
                return chosen(path, *args, **options)

            patch.setattr(owner, name, of_the_log)
        else:
            patch.setattr(owner, name, failing)
        with pytest.raises(InputError, match=message):
            setup["fit"](setup["state"](), workdir=tmp_path, **FIVE_STEPS)
    fitted = setup["fit"](setup["state"](), workdir=tmp_path, **FIVE_STEPS)
    state, log = whole
    jax.tree.map(np.testing.assert_array_equal, state, jax.device_get(fitted.state))
    assert log_of(tmp_path) == log


class Counted(list):
    """Examples, and how often one was read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def work_of_resuming(setup, workdir, step):
    """What two more steps read and do, of a run that has done `step`."""
    checkpoints = checkpoint.open_checkpoints(workdir / "checkpoints")
    state = setup["state"]().replace(step=np.int32(step))
    checkpoint.save(checkpoints, state, step=step, meta={}, scores={"miou": 0.5})
    checkpoints.close()
    source, done = Counted(make_source()), []

    def batches(start):
        for batch in pipeline.train_batches(
            source,
            batch_size=2,
            crop_size=(16, 16),
            scale_range=(1.0, 1.5),
            flip=True,
            photometric=0.1,
            seed=0,
            start_step=start,
            num_threads=0,
        ):
            done.append(source.reads)
            yield batch

    def train_step(state, batch):
        done.append("step")
        return setup["fit"].keywords["train_step"](state, batch)

    fitted = setup["fit"](
        setup["state"](),
        workdir=workdir,
        train_batches=batches,
        train_step=train_step,
        steps=step + 2,
        eval_every=2,
    )
    assert int(fitted.state.step) == step + 2
    return done


@pytest.mark.parametrize("step", [1_000, 1_000_000])
def test_a_long_run_resumes_as_fast_as_a_short_one(setup, tmp_path, step):
    # Two images are read for each of two steps, maybe for both of them ahead.
    done = work_of_resuming(setup, tmp_path, step)
    assert [item for item in done if item != "step"] == [2, 4]
    assert done.count("step") == 2


def weighted(setup, poisoned=()):
    """Batches with weights of 1; at the poisoned steps one is not a number."""

    def batches(start):
        for step, batch in enumerate(
            setup["fit"].keywords["train_batches"](start), start=start + 1
        ):
            weight = np.ones(batch["label"].shape, np.float32)
            if step in poisoned:
                weight[0, 5, 5] = np.nan
            yield {**batch, "weight": weight}

    return batches


def test_a_step_that_is_not_finite_is_named_and_kept(setup, tmp_path):
    batches = weighted(setup, poisoned=(3,))
    with pytest.raises(
        InputError,
        match=r"the loss is nan at step 3; the last good checkpoint is step 2; its "
        r"batch and the state before it are in .*/step_000003.npz: .* replay --file",
    ) as stopped:
        setup["fit"](
            setup["state"](), workdir=tmp_path, train_batches=batches, **FIVE_STEPS
        )
    assert "\n" not in str(stopped.value)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert [record["step"] for record in log_of(tmp_path)] == [2, 2]
    path = tmp_path / "not_finite" / "step_000003.npz"
    step, state, batch = replay.read(path, setup["state"]())
    assert (step, int(state.step)) == (3, 2)
    following = weighted(setup, poisoned=(3,))(2)
    jax.tree.map(np.testing.assert_array_equal, batch, next(following))
    saved = checkpoint.read(tmp_path / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)

    def again(batch):
        return replay.observe(
            setup["fit"].keywords["train_step"],
            parallel.replicate(setup["mesh"], state),
            parallel.shard_batch(setup["mesh"], batch),
        )

    observed = again(batch)
    assert not observed.finite
    assert np.isnan(observed.sums["loss_sum"])
    assert any("kernel" in name for name in observed.not_finite)
    assert again({**batch, "weight": np.nan_to_num(batch["weight"], nan=1.0)}).finite
    with pytest.raises(InputError, match="is not as in the run's network"):
        replay.read(path, state.replace(step=np.zeros(3, np.int32)))
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"npz: not a step to replay"):
        replay.read(path, state)


def test_nothing_that_is_not_finite_is_saved(setup, tmp_path):
    """Not by a signal before the next record, nor where only the weights are."""
    batches = weighted(setup, poisoned=(3,))
    train_step = setup["fit"].keywords["train_step"]
    with listening() as stop, pytest.raises(InputError, match="loss is nan at step 3"):
        setup["fit"](
            setup["state"](),
            workdir=tmp_path / "signal",
            stop=stop,
            train_batches=batches,
            train_step=signal_at(train_step, 3),
            **FIVE_STEPS,
        )
    steps_done = []

    def overflows_once(state, batch):
        state, sums = train_step(state, batch)
        steps_done.append(int(state.step))
        if len(steps_done) == 4:
            state = state.replace(
                params=jax.tree.map(lambda x: x * np.float32(np.inf), state.params)
            )
        return state, sums

    with pytest.raises(
        InputError,
        match=r"the weights are not finite at step 4; .*; done again from step 2 it is",
    ):
        setup["fit"](
            setup["state"](),
            workdir=tmp_path / "weights",
            train_batches=weighted(setup),
            train_step=overflows_once,
            **FIVE_STEPS,
        )
    for name in ("signal", "weights"):
        (saved,) = (tmp_path / name / "checkpoints").iterdir()
        assert saved.name == "2"


def test_infinite_loss_stops_the_run_and_names_the_steps(setup, tmp_path):
    state = setup["state"]()
    state = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    with pytest.raises(InputError, match="the loss is nan at step 1; its batch"):
        setup["fit"](state, workdir=tmp_path, steps=2, eval_every=2)


def test_evaluation_counts_every_image_once(setup):
    source = make_source(count=7, seed=1)
    variables = setup["state"]().eval_variables

    def run(batch_size, seen=None):
        return score(
            setup["eval_step"],
            variables,
            source,
            mesh=setup["mesh"],
            batch_size=batch_size,
            seen=seen,
        )

    one, two = run(2), run(4)
    labelled = sum((e["label"] != VOID).sum() for e in source)
    assert one["confusion"].sum() == labelled
    assert one["confusion"].dtype == np.int64
    np.testing.assert_array_equal(one["confusion"], two["confusion"])
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-6)
    with pytest.raises(RuntimeError, match="evaluated 6 images of a split of 7"):
        run(2, seen=source[:6])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_basic", "unet_basic", "segnet_basic"])
def test_each_decoder_overfits_four_images(name, tmp_path):
    source = make_source(count=4, size=(32, 32))
    model = build_model(name, num_classes=CLASSES, width=0.25)
    tx = optax.sgd(0.1, momentum=0.9)
    mesh = parallel.make_mesh()
    state = parallel.replicate(mesh, create_state(model, tx, seed=0))
    step = parallel.jit_train_step(partial(steps.train_step, model=model, tx=tx), mesh)
    batches = pipeline.eval_batches(source, batch_size=4)
    batch = parallel.shard_batch(mesh, next(iter(batches)))
    for _ in range(150):
        state, _ = step(state, batch)
    eval_step = partial(steps.eval_step, model=model, num_classes=CLASSES)
    scores = score(
        parallel.jit_eval_step(eval_step, mesh),
        state.eval_variables,
        source,
        mesh=mesh,
        batch_size=4,
    )
    assert scores["miou"] > 0.95


def test_scores_as_json():
    scores = {"iou": [0.5, float("nan")], "confusion": np.eye(2, dtype=np.int64)}
    assert loop.json_scores(scores) == {
        "iou": [0.5, None],
        "confusion": [[1, 0], [0, 1]],
    }
