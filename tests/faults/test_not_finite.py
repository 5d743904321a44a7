"""A run whose loss overflows, from its command line to the step done again."""

import json
import re
from functools import partial

import numpy as np
import pytest

from segjax import __main__ as verbs
from segjax import cli, experiment
from segjax.configuration import Config
from segjax.data.datasets import open_dataset
from segjax.training import checkpoint

CONFIG = Config(
    name="overflow",
    dataset="street_scenes",
    model="fcn_basic",
    width=1 / 16,
    crop_size=(32, 48),
    # The first step is sound, what it makes of the weights is not.
    learning_rate=1e20,
    steps=8,
    batch_size=2,
    eval_batch_size=2,
    eval_every=4,
    log_every=4,
    panels=0,
)


def test_overflow_stops_the_run_and_can_be_done_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        experiment,
        "open_dataset",
        partial(open_dataset, size=(32, 48), counts={"train": 4, "val": 2}),
    )
    places = ["--workdir", str(tmp_path / "run")]
    places += ["--prepared-dir", str(tmp_path / "prepared")]
    cache = ["--compilation-cache", str(tmp_path / "xla")]
    with pytest.raises(SystemExit) as stop:
        cli.main(experiment.main, CONFIG, args=places + cache)
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in told
    *_, line = told.splitlines()
    found = re.fullmatch(
        r"error: \S+: the (loss|gradient) is (nan|-?inf) at step (\d); its batch and "
        r"the state before it are in (\S+): to do this step alone, run python -m "
        r"(segjax replay --file \S+)",
        line,
    )
    assert found, line
    assert 1 < int(found[3]) <= 4
    # Nothing that is not finite is on disk, in a checkpoint or a record.
    assert not checkpoint.has_any(tmp_path / "run" / "checkpoints")
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(record)["kind"] for record in log] == ["start"]
    with np.load(found[4], allow_pickle=False) as kept:
        assert kept["batch/image"].shape == (2, 32, 48, 3)
        assert all(np.isfinite(kept[name]).all() for name in kept.files)
    verbs.main(found[5].split()[1:])
    printed = capsys.readouterr().out
    assert f"step {found[3]} of " in printed
    assert re.search(r"image \(2, 32, 48, 3\), values \d+ to \d+", printed)
    value = re.search(
        rf"{'loss_sum' if found[1] == 'loss' else 'grad_norm'} (\S+)", printed
    )
    assert value[1] == found[2]
    assert "not finite after the step: " in printed
