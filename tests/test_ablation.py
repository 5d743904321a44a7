"""An ablation from end to end, what it refuses, and what it leaves on disk."""

import csv
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from segjax import ablation, configuration, experiment
from segjax.ablation import Ablation
from segjax.errors import InputError
from segjax.report.comparison import METRICS

SCRIPT = Path(__file__).parents[1] / "experiments" / "upsampling_ablation.py"

CONFIG = Ablation(
    name="upsampling_ablation",
    preset="test",
    dataset="street_scenes",
    models=("segnet_basic", "segnet_basic:bilinear+reduced_sum"),
    seeds=(0, 1),
    test="paired-t",
    timing_rounds=1,
    learning_rate=0.01,
    smoke=True,
)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[SCRIPT.stem]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two networks, two seeds: `(config, comparison)`."""
    folder = tmp_path_factory.mktemp("ablation")
    config = dataclasses.replace(
        CONFIG, workdir=folder / "run", prepared_dir=folder / "prepared"
    )
    comparison, workdir = ablation.run(config, preset=CONFIG, console=QUIET)
    assert workdir == config.workdir
    return config, comparison


def test_comparison_holds_every_run_as_it_is_on_disk(finished):
    config, comparison = finished
    first, second = comparison.strategies
    assert (first.name, second.name) == config.models
    assert first.seeds == second.seeds == (0, 1)
    for strategy, slug in (
        (first, "segnet_basic"),
        (second, "segnet_basic-bilinear-reduced_sum"),
    ):
        for i, seed in enumerate(strategy.seeds):
            path = config.workdir / slug / f"seed{seed}" / "result.json"
            scores = json.loads(path.read_text())["scores"]
            for metric in METRICS:
                assert strategy.scores[metric][i] == scores[metric]
        assert len(strategy.predictions) == len(comparison.images) == 1
        assert strategy.predictions[0].shape == comparison.labels[0].shape
    # Seeds are other runs of the same program.
    assert first.scores["miou"][0] != first.scores["miou"][1]
    assert first.published["parameters"] == 1_425_000
    assert second.published is None


def test_costs_are_of_these_networks(finished):
    _, comparison = finished
    first, second = (s.costs for s in comparison.strategies)
    # 48x64 scenes, an eighth of 64 channels: switches of strides 2 to 16, two bits
    # each, and the deepest map in float32.
    pixels = {stride: (48 // stride) * (64 // stride) for stride in (2, 4, 8, 16)}
    assert first.border_bytes == sum(pixels.values()) * 8 // 4 + pixels[16] * 8 * 4
    # Eleven channels of the maps at strides 8 to 1 instead of switches.
    maps = (48 * 64 + pixels[2] + pixels[4] + pixels[8]) * 11 * 4
    assert second.border_bytes == maps + pixels[16] * 8 * 4
    assert first.train_ratio == first.inference_ratio == 1.0


def test_a_finished_ablation_is_read_and_not_run(finished, monkeypatch):
    config, comparison = finished
    monkeypatch.setattr(experiment.loop, "fit", None)
    monkeypatch.setattr(ablation, "measure_costs", None)
    again, _ = ablation.run(config, preset=CONFIG, console=QUIET)
    for a, b in zip(comparison.strategies, again.strategies, strict=True):
        assert (a.scores, a.costs) == (b.scores, b.costs)
        for p, q in zip(a.predictions, b.predictions, strict=True):
            np.testing.assert_array_equal(p, q)


def test_a_run_that_was_cut_off_goes_on(finished, tmp_path):
    config, comparison = finished
    run = config.workdir / "segnet_basic" / "seed1"
    before = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()
    again, _ = ablation.run(config, preset=CONFIG, console=QUIET)
    assert again.strategies[0].scores == comparison.strategies[0].scores
    after = json.loads((run / "result.json").read_text())
    assert after["scores"] == before["scores"]


def test_results_of_another_recipe_are_not_overwritten(finished):
    config, _ = finished
    before = sorted(config.workdir.rglob("*"))
    with pytest.raises(InputError, match=r"learning_rate = 0\.01, not 0\.02"):
        ablation.run(
            dataclasses.replace(config, learning_rate=0.02),
            preset=CONFIG,
            console=QUIET,
        )
    assert sorted(config.workdir.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ()}, "models is empty"),
        ({"models": ("unet", "unet")}, "models lists a network twice"),
        ({"models": ("segnet_basic", "resnet")}, "unknown model 'resnet'"),
        ({"seeds": (0,)}, "one seed but a spread or a paired test needs"),
        ({"seeds": ()}, "seeds"),
        ({"timing_rounds": -1}, "timing_rounds is -1"),
        ({"parallel": "pmap"}, "parallel is 'pmap', but costs .* --timing-rounds 0"),
        (
            {"models": ("unet_bn", "segnet_basic_strided:max_unpool+sum")},
            "needs the encoder's pooling switches",
        ),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(
    change, message, finished, tmp_path
):
    prepared_dir = finished[0].prepared_dir
    config = dataclasses.replace(
        CONFIG, workdir=tmp_path / "run", prepared_dir=prepared_dir, **change
    )
    with pytest.raises(InputError, match=message):
        ablation.run(config, preset=CONFIG, console=QUIET)
    assert not (tmp_path / "run").exists()


def test_bad_records_are_skipped_in_preparing_as_a_single_run_does(
    monkeypatch, tmp_path
):
    opened = []

    def open_dataset(name, **options):
        opened.append((name, options["max_bad"]))
        raise InputError("opened")

    monkeypatch.setattr(experiment, "open_dataset", open_dataset)
    options = {
        "dataset": "camvid",
        "bad_records": "skip",
        "max_bad": 3,
        "smoke": False,
    }
    config = dataclasses.replace(CONFIG, workdir=tmp_path / "run", **options)
    with pytest.raises(InputError, match="opened"):
        ablation.run(config, preset=CONFIG, console=QUIET)
    assert opened == [("camvid", 3)]


def test_command_gives_what_differs_from_the_preset(finished):
    config, comparison = finished
    assert (
        comparison.command == "python experiments/upsampling_ablation.py --preset test"
    )
    changed = dataclasses.replace(
        config, seeds=(3, 4), flip=False, models=("unet_bn:nearest+sum",)
    )
    assert ablation._command(changed, CONFIG).endswith(
        "--preset test --no-flip --models unet_bn:nearest+sum --seeds 3 4"
    )


def test_script_writes_every_form_of_the_report(script, finished, monkeypatch, capsys):
    config, _ = finished
    monkeypatch.setitem(script.PRESETS, CONFIG.preset, CONFIG)
    script.main(config)  # reads what is finished
    assert "report.html" in capsys.readouterr().out
    names = list(config.models)
    with (config.workdir / "report.csv").open(newline="") as file:
        rows = [(row["strategy"], row["seed"]) for row in csv.DictReader(file)]
    assert rows == [(name, str(seed)) for name in names for seed in config.seeds]
    for form in ("report.html", "report.md"):
        text = (config.workdir / form).read_text()
        assert all(name in text for name in names)


def test_presets_are_the_papers_and_ours(script):
    table_1 = script.PRESETS["segnet-table1"]
    assert (table_1.image_size, table_1.crop_size) == ((360, 480), (360, 480))
    assert (table_1.optimizer, table_1.learning_rate) == ("sgd", 0.1)
    assert (table_1.momentum, table_1.batch_size) == (0.9, 12)
    assert table_1.class_weights == "segnet_camvid"
    assert table_1.select == "pixel_accuracy"
    assert (len(table_1.models), table_1.dataset) == (8, "camvid")
    for name, preset in script.PRESETS.items():
        assert preset.preset == name
        ablation._check(preset)
        configuration.check(dataclasses.replace(preset, model=preset.models[0]))


@pytest.mark.slow
def test_all_eight_variants_of_the_papers_table(script, tmp_path):
    config = dataclasses.replace(
        script.SEGNET_TABLE_1, smoke=True, workdir=tmp_path / "run"
    )
    script.main(config)
    text = (tmp_path / "run" / "report.md").read_text()
    assert all(name in text for name in script.TABLE_1)


@pytest.mark.slow
def test_the_demo(script, tmp_path):
    config = dataclasses.replace(script.DEMO, smoke=True, workdir=tmp_path / "run")
    # optax.adamw raises a float to the power of an int32 count.
    with jax.numpy_dtype_promotion("standard"):
        script.main(config)
    assert (tmp_path / "run" / "report.html").is_file()
