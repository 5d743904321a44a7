"""Configuration to result: checks before anything is written, and a whole run."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from segjax import class_weights, cli, configuration, experiment, scoring
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.training import checkpoint
from segjax.training.workdir import claim_workdir

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))

CONFIG = Config(
    name="test",
    dataset="street_scenes",
    model="segnet_basic",
    steps=2,
    batch_size=4,
    eval_batch_size=4,
)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    """Where the embedded data are drawn once for all tests of this file."""
    return tmp_path_factory.mktemp("prepared")


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while the class is being made.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


# Of all scripts the one whose network takes least to compile.
QUICK = "camvid_fcn_basic"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem != QUICK))
        for p in SCRIPTS
        if p.stem != "upsampling_ablation"
    ],
)
def test_smoke(path, prepared_dir, tmp_path):
    script = load_script(path)
    config = dataclasses.replace(
        script.CONFIG, smoke=True, workdir=tmp_path / "run", prepared_dir=prepared_dir
    )
    # optax.adamw raises a float to the power of an int32 count.
    with jax.numpy_dtype_promotion("standard"):
        experiment.main(config)
    run = tmp_path / "run"
    records = [
        json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()
    ]
    assert [(r["kind"], r["step"]) for r in records] == [
        ("start", 0),
        ("train", 1),
        ("train", 2),
        ("eval", 2),
    ]
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["scores"]["miou"] <= 1
    scores = result["scores"]
    assert 0 <= scores["boundary_f1"] <= scores["boundary_f1_dilated"] <= 1
    assert (run / "panels" / "000002.png").is_file()
    assert (run / "checkpoints" / "2").is_dir()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_is_a_configuration_that_can_be_run(path, prepared_dir):
    script = load_script(path)
    assert script.CONFIG.name == path.stem
    if path.stem != "upsampling_ablation":
        experiment.prepare(
            dataclasses.replace(script.CONFIG, smoke=True, prepared_dir=prepared_dir)
        )


@pytest.fixture(scope="module")
def finished(prepared_dir, tmp_path_factory):
    """A whole run: `(configuration, result)`."""
    config = dataclasses.replace(
        CONFIG,
        smoke=True,
        workdir=tmp_path_factory.mktemp("finished") / "run",
        prepared_dir=prepared_dir,
    )
    return config, experiment.run(config, console=Console(quiet=True))


def test_a_finished_run_gives_the_same_result_again(finished):
    config, first = finished
    console = Console(quiet=True)
    again = experiment.run(config, console=console)
    assert first.scores["confusion"] == again.scores["confusion"]
    assert first.step_seconds == again.step_seconds
    assert first.split == "test"
    for a, b in zip(first.predictions, again.predictions, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="holds a run of 'test' with seed = 0, not 1"):
        experiment.run(dataclasses.replace(config, seed=1), console=console)


def test_a_run_starts_from_the_weights_of_another(finished):
    config, _ = finished
    # Another decoder on the same encoder.
    prepared = experiment.prepare(
        dataclasses.replace(
            config,
            model="segnet_basic_encoder_addition",
            init_from=config.workdir,
            ema_decay=0.9,
        )
    )
    state = experiment.initial_state(prepared, seed=1)
    saved = checkpoint.read(config.workdir / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, saved.params)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, saved.batch_stats)
    assert saved.meta["labels"]["names"][:2] == ["Sky", "Building"]
    assert saved.meta["config"]["model"] == "segnet_basic"
    wider = dataclasses.replace(prepared.config, smoke=False, width=0.25)
    with pytest.raises(InputError, match=r"init_from .*run: .*expected equal shapes"):
        experiment.prepare(wider, dataset=prepared.dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "batch_size is 3, .*positive multiple of 2"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"dataset": "kitti"}, "unknown data set 'kitti'"),
        ({"data_dir": Path("x")}, "takes no 'data_dir'"),
        ({"steps": 0}, "steps is 0"),
        ({"model": "unet", "crop_size": (40, 64)}, "crop_size is 40x64.*48x64"),
        ({"model": "unet_valid"}, "crop_size is 64x96, but unet_valid needs 188x188"),
        (
            {"model": "segnet_basic_strided:max_unpool+none"},
            "stride 16 needs the encoder's pooling switches",
        ),
        ({"elastic": -1.0}, "elastic -1.0"),
        ({"border_weight": (10.0, 0.0, 1)}, "border_weight"),
        ({"init_from": Path("no_such_run")}, "no_such_run"),
        ({"crop_size": (0, 64)}, "crop_size is 0x64"),
        ({"scale_range": (2.0, 1.0)}, "scale_range"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"ema_decay": 1.5}, "ema_decay is 1.5"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"width": 0.0}, "width is 0.0"),
        ({"warmup_steps": 2}, "warmup_steps 2"),
        ({"learning_rate": -1.0}, "learning rate > 0"),
        ({"class_weights": (1.0, 2.0)}, "2 numbers, but the data set has 11"),
        ({"class_weights": (-1.0,) * 11}, "expected finite numbers >= 0"),
        ({"seed": -1}, "seed"),
        ({"panels": -1}, "panels is -1"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(
    change, message, prepared_dir, tmp_path, monkeypatch
):
    def open_tiny(name, **options):
        tiny = configuration.SMOKE_DATA if name == "street_scenes" else {}
        return open_dataset(name, **options, **tiny)

    monkeypatch.setattr(experiment, "open_dataset", open_tiny)
    config = dataclasses.replace(
        CONFIG, workdir=tmp_path / "run", prepared_dir=prepared_dir, **change
    )
    with pytest.raises(InputError, match=message):
        experiment.run(config, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_workdir_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match=r"not a run of segjax \(no config.json\)"):
        claim_workdir(tmp_path, {})
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a run of segjax"):
        claim_workdir(tmp_path / "file", {})
    with pytest.raises(InputError, match="cannot be written"):
        claim_workdir(tmp_path / "file" / "run", {})


def test_paths_may_change_between_the_parts_of_a_run(tmp_path):
    one = dataclasses.replace(CONFIG, workdir=Path("a"), data_dir=Path("b"))
    two = dataclasses.replace(CONFIG, workdir=Path("c"), prepared_dir=Path("d"))
    claim_workdir(tmp_path / "run", configuration.plain(one))
    claim_workdir(tmp_path / "run", configuration.plain(two))


TABLE = LabelTable(
    names=("wide", "thin", "other"),
    colors=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
    raw_ids={0: 0, 1: 1, 2: 2, 255: 255},
    thin=("thin", "other"),
)
SOURCE = [
    {"label": np.array([[0, 0, 0, 1]], np.uint8), "id": "a"},
    {"label": np.array([[0, 255, 2, 2]], np.uint8), "id": "b"},
]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", None),
        # 4, 1 and 2 pixels; the median is 2.
        ("median_frequency", [0.5, 2.0, 1.0]),
        # 4 of 8, 1 of 4 and 2 of 4 pixels of the images that show the class.
        ("median_frequency_present", [1.0, 2.0, 1.0]),
        ("enet", 1 / np.log(1.02 + np.array([4, 1, 2]) / 7)),
        ((1.0, 0.0, 2.0), [1.0, 0.0, 2.0]),
    ],
)
def test_loss_weights(rule, expected):
    weights = class_weights.loss_weights(rule, SOURCE, 3)
    if expected is None:
        assert weights is None
    else:
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_published_weights_need_camvids_classes():
    with pytest.raises(InputError, match="11 numbers, but the data set has 3"):
        class_weights.loss_weights("segnet_camvid", SOURCE, 3)
    weights = class_weights.loss_weights("segnet_camvid", SOURCE, 11)
    np.testing.assert_allclose(weights, class_weights.SEGNET_CAMVID, rtol=1e-6)


def test_majority_baseline():
    # Class 0 is the commonest: right on 4 of 7 pixels, IoU 4/7, 0, 0.
    scores = scoring.majority_baseline(SOURCE, SOURCE, TABLE)
    np.testing.assert_allclose(scores["pixel_accuracy"], 4 / 7)
    np.testing.assert_allclose(scores["miou"], 4 / 21)
    assert scores["thin_iou"] == 0
    assert scores["boundary_f1"] == 0


def run_script(*args):
    script = ROOT / "experiments" / "camvid_segnet_basic.py"
    return subprocess.run(
        [sys.executable, str(script), *args],
        capture_output=True,
        text=True,
        check=False,
    )


def test_errors_of_a_script_are_one_message_and_status_two(tmp_path):
    done = run_script("--data-dir", "no/such/folder", "--workdir", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "no/such/folder" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [(["--batch-sise", "4"], "--batch-sise"), (["--steps", "many"], "many")],
)
def test_options_that_do_not_parse_are_one_message_and_status_two(
    args, message, capsys
):
    with pytest.raises(SystemExit, match="2"):
        cli.main(lambda config: pytest.fail("ran"), CONFIG, args=args)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_models_pull_in_no_data_library():
    code = (
        "import sys, segjax.models.zoo\n"
        "bad = {'tensorflow', 'tensorflow_datasets', 'grain'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_pulls_in_no_tensorflow():
    code = (
        "import sys, segjax.experiment\n"
        "assert 'tensorflow' not in sys.modules\n"
        "sys.modules['tensorflow'] = None  # importing it from here on fails\n"
        "import segjax.data.datasets, tensorflow_datasets as tfds\n"
        "from segjax.data.street_scenes import StreetScenes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
