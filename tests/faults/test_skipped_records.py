"""A bad record of the training data stops a run, or is skipped, counted and told."""

import dataclasses
import json
import re

import numpy as np
import pytest
from rich.console import Console

from segjax import cli, experiment
from segjax.configuration import Config
from segjax.data.datasets import Dataset
from segjax.data.labels import CAMVID
from segjax.errors import InputError

CONFIG = Config(
    name="bad",
    dataset="street_scenes",
    model="fcn_basic",
    width=1 / 16,
    crop_size=(32, 48),
    steps=4,
    batch_size=2,
    eval_batch_size=2,
    eval_every=4,
    panels=0,
)


class Scenes:
    """Examples of noise; those listed as bad cannot be read."""

    def __init__(self, count, bad=()):
        self.count, self.bad = count, bad

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.bad:
            raise InputError(f"train.array_record: record {index}: Corrupted")
        rng = np.random.default_rng(index)
        return {
            "image": rng.integers(0, 256, (32, 48, 3), np.uint8),
            "label": rng.integers(0, 11, (32, 48), np.uint8),
            "id": str(index),
        }


def run(workdir, capsys, *, bad, **options):
    dataset = Dataset("noise", CAMVID, {"train": Scenes(4, bad), "val": Scenes(2)})
    config = dataclasses.replace(CONFIG, workdir=workdir, **options)
    prepared = experiment.prepare(config, dataset=dataset)
    experiment.train(prepared, console=Console(width=200))
    return capsys.readouterr().out


def test_skip_stop_and_go_on(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.call(lambda: run(tmp_path / "run", capsys, bad=range(4)), prog="x", args=[])
    told = capsys.readouterr().err
    assert re.fullmatch(r"error: train.array_record: record \d: Corrupted\n", told)
    with pytest.raises(InputError, match=r"bad record number 2, max_bad is 1"):
        run(tmp_path / "run", capsys, bad=range(4), bad_records="skip", max_bad=1)
    # The same run goes on: what to do about bad records is not what a run is.
    out = run(tmp_path / "run", capsys, bad=(1,), bad_records="skip", max_bad=1)
    assert "skipped 1 bad record" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["step"], result["bad_records"]) == (4, 1)
