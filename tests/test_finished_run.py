"""What a finished run is good for, from its checkpoint alone: scores and labels."""

import dataclasses
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segjax import __main__ as verbs
from segjax import configuration, evaluation, experiment
from segjax.configuration import Config
from segjax.errors import InputError
from segjax.inference.label_files import read_label
from segjax.inference.predictor import load_predictor, predict_image
from segjax.training import checkpoint

CONFIG = Config(
    name="test",
    dataset="street_scenes",
    model="fcn_basic",
    learning_rate=0.01,
    select="miou",
    smoke=True,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    config = dataclasses.replace(
        CONFIG, workdir=folder / "run", prepared_dir=folder / "prepared"
    )
    prepared = experiment.prepare(config)
    return prepared, experiment.train(prepared, console=Console(quiet=True))


def test_predictions_are_those_that_were_scored(run):
    prepared, result = run
    predictor = load_predictor(result.workdir)
    table = prepared.dataset.table
    assert (predictor.name, predictor.step) == ("fcn_basic", 2)
    assert predictor.table.names == table.names
    assert predictor.table.colors == table.colors
    for index, scored in zip(result.indices, result.predictions, strict=True):
        image = prepared.dataset.splits[result.split][index]["image"]
        probabilities = predict_image(predictor, image, image_size=None)
        assert probabilities.shape == (*image.shape[:2], table.num_classes)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=-1), scored)


def test_probabilities_are_at_the_images_size_whatever_the_network_sees(run):
    predictor = load_predictor(run[1].workdir)
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    assert predict_image(predictor, image, image_size=(32, 48)).shape[:2] == (37, 53)


def test_folders_that_are_no_runs_are_named(run, tmp_path):
    with pytest.raises(InputError, match=r"checkpoints: no such folder"):
        load_predictor(tmp_path)
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    state = {"params": {"x": np.zeros(2, np.float32)}}
    scores = {"miou": 0.0, "pixel_accuracy": 0.0}
    checkpoint.save(manager, state, step=1, meta={"config": {}}, scores=scores)
    manager.close()
    with pytest.raises(InputError, match="lacks 'labels'"):
        load_predictor(tmp_path)


def test_evaluation_from_the_checkpoint_is_the_runs_own(run):
    prepared, result = run
    found = evaluation.evaluate(result.workdir)
    assert (found.model, found.step, found.split) == ("fcn_basic", 2, "test")
    assert found.scores["confusion"].tolist() == result.scores["confusion"]
    for name in ("miou", "boundary_f1", "thin_iou"):
        assert found.scores[name] == result.scores[name]
    source = prepared.dataset.splits["test"]
    assert found.ids == tuple(source[i]["id"] for i in range(len(source)))
    # Each image's own counts: rows add up to its labelled pixels.
    for i, confusion in enumerate(found.confusions):
        label = source[i]["label"]
        expected = np.bincount(label[label != 255], minlength=11)
        np.testing.assert_array_equal(confusion.sum(axis=1), expected)
    for name, interval in found.intervals.items():
        assert interval.estimate == found.scores[name]
        assert interval.low <= interval.estimate <= interval.high


def test_evaluation_names_a_split_that_is_not_there(run):
    with pytest.raises(InputError, match="split is 'trial', expected one of"):
        evaluation.evaluate(run[1].workdir, split="trial")


def test_configuration_survives_the_checkpoint():
    config = dataclasses.replace(CONFIG, class_weights=(1.0, 2.0), image_size=(4, 6))
    plain = configuration.plain(config)
    assert configuration.from_plain(plain) == config
    with pytest.raises(InputError, match="another version of segjax: colour"):
        configuration.from_plain({**plain, "colour": 1})


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["segjax", *map(str, args)])
    verbs.main()


def test_verbs(run, tmp_path, monkeypatch, capsys):
    workdir = run[1].workdir
    call(monkeypatch, "evaluate", "--run", workdir, "--figure", tmp_path / "c.png")
    out = capsys.readouterr().out
    assert f"{run[1].scores['miou']:.3f}" in out
    assert (tmp_path / "c.png").is_file()

    (tmp_path / "images").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    expected = predict_image(load_predictor(workdir), image, image_size=None)
    command = ["predict", "--run", workdir, "--input", tmp_path / "images", "--output"]
    call(monkeypatch, *command, tmp_path / "whole", "--probabilities")
    label = read_label(tmp_path / "whole" / "a.png")
    np.testing.assert_array_equal(label, expected.argmax(axis=-1))
    saved = np.load(tmp_path / "whole" / "probabilities" / "a.npz")
    np.testing.assert_allclose(saved["probabilities"], expected, atol=1e-3)
    assert saved["names"][0] == "Sky"
    # One window that holds the image is the image.
    call(monkeypatch, *command, tmp_path / "windows", "--window", 48, 64)
    np.testing.assert_array_equal(read_label(tmp_path / "windows" / "a.png"), label)
    call(monkeypatch, *command, tmp_path / "strips", "--window", 48, 64, "--strips")
    np.testing.assert_array_equal(read_label(tmp_path / "strips" / "a.png"), label)
    with pytest.raises(SystemExit):
        call(monkeypatch, *command, tmp_path / "no", "--strips")
    assert "strips" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_explain_score(run, tmp_path, monkeypatch, capsys):
    workdir = run[1].workdir
    call(monkeypatch, "explain-score", "segjax", "hrnet", "--run", workdir)
    out = capsys.readouterr().out
    assert f"{run[1].scores['miou']:.4f}" in out
    with pytest.raises(SystemExit):
        call(monkeypatch, "explain-score", "segjax", "hrnet")
    assert "two policies need --run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(monkeypatch, "explain-score", tmp_path, tmp_path)
    assert "need --dataset" in capsys.readouterr().err


def test_what_a_user_can_mend_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, "evaluate", "--run", tmp_path)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/checkpoints: no such folder")
