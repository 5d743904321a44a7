"""The JSON-lines record of a run."""

import json

import pytest

from segjax.training.logs import RunLog, provenance


def records(workdir):
    lines = (workdir / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_first_record_says_what_ran(tmp_path):
    log = RunLog(tmp_path, config={"seed": 3}, start_step=0)
    log.close()
    (start,) = records(tmp_path)
    assert start["kind"] == "start"
    assert start["config"] == {"seed": 3}
    for name in ("jax", "flax", "segjax", "git_commit", "device", "python"):
        assert name in start["provenance"]
    assert start["provenance"] == json.loads(json.dumps(provenance()))


def test_resuming_writes_no_step_twice(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    for step in (10, 20, 30):
        log.write("train", step, {"loss": float(step)})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut off by a kill
    log = RunLog(tmp_path, config={}, start_step=20)
    log.write("train", 30, {"loss": 31.0})
    log.close()
    train = [r for r in records(tmp_path) if r["kind"] == "train"]
    assert [(r["step"], r["loss"]) for r in train] == [(10, 10), (20, 20), (30, 31)]


def test_scalars_reach_tensorboard(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    log.write("eval", 5, {"miou": 0.25, "iou": [0.25, None]})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"eval/miou" in events.read_bytes()


def test_not_a_number_is_not_json(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    with pytest.raises(ValueError, match="JSON"):
        log.write("train", 1, {"loss": float("nan")})
    log.close()
