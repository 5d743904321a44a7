"""A checkpoint alone labels images as the evaluation of its run did."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from segjax import experiment
from segjax.configuration import Config
from segjax.errors import InputError
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
