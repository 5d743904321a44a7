"""fit and evaluate: resume is exact, every image counts once."""

import json
from functools import partial

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from segjax.data import pipeline
from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.training import loop, parallel, steps
from segjax.training.state import create_state

CLASSES = 3


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


@pytest.fixture(scope="module")
def setup():
    model = build_model("segnet_basic", num_classes=CLASSES, width=0.1, dropout=0.2)
    tx = optax.sgd(0.05, momentum=0.9)
    mesh = parallel.make_mesh()
    train_step = partial(steps.train_step, model=model, tx=tx)
    eval_step = partial(steps.eval_step, model=model, num_classes=CLASSES)
    source = make_source()

    def evaluate(state):
        return loop.evaluate(
            jitted_eval,
            state.eval_variables,
            pipeline.eval_batches(source, batch_size=4),
            mesh=mesh,
            num_examples=len(source),
        )

    jitted_eval = parallel.jit_eval_step(eval_step, mesh)
    return {
        "model": model,
        "state": lambda: create_state(model, tx, seed=0),
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


def test_infinite_loss_stops_the_run_and_names_the_steps(setup, tmp_path):
    state = setup["state"]()
    state = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    with pytest.raises(FloatingPointError, match="between steps 1 and 2"):
        setup["fit"](state, workdir=tmp_path, steps=2, eval_every=2)


def test_evaluation_counts_every_image_once(setup):
    source = make_source(count=7, seed=1)
    variables = setup["state"]().eval_variables

    def run(batch_size, num_examples=7):
        return loop.evaluate(
            setup["eval_step"],
            variables,
            pipeline.eval_batches(source, batch_size=batch_size),
            mesh=setup["mesh"],
            num_examples=num_examples,
        )

    one, two = run(2), run(4)
    labelled = sum((e["label"] != VOID).sum() for e in source)
    assert one["confusion"].sum() == labelled
    assert one["confusion"].dtype == np.int64
    np.testing.assert_array_equal(one["confusion"], two["confusion"])
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-6)
    with pytest.raises(RuntimeError, match="evaluated 7 images of a split of 8"):
        run(2, num_examples=8)


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
    scores = loop.evaluate(
        parallel.jit_eval_step(
            partial(steps.eval_step, model=model, num_classes=CLASSES), mesh
        ),
        state.eval_variables,
        pipeline.eval_batches(source, batch_size=4),
        mesh=mesh,
        num_examples=4,
    )
    assert scores["miou"] > 0.95


def test_scores_as_json():
    scores = {"iou": [0.5, float("nan")], "confusion": np.eye(2, dtype=np.int64)}
    assert loop.json_scores(scores) == {
        "iou": [0.5, None],
        "confusion": [[1, 0], [0, 1]],
    }
