"""The JSON-lines record of a run."""

import datetime
import io
import json
import resource
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from segjax.errors import InputError
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
    started = datetime.datetime.fromisoformat(start["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - started).total_seconds() < 60
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


def events(workdir):
    """Events of all files, in order; the format is TFRecord."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack("Q", content[place : place + 8])
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += length + 16
    return found


def test_scalars_reach_tensorboard(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=4)
    log.write("eval", 5, {"miou": 0.25, "iou": [0.25, None], "by": {"a": 2, "b": None}})
    written = events(tmp_path)  # before it is closed: a kill loses none
    log.image("panels", 5, np.full((4, 6, 3), 9, np.uint8))
    log.close()
    scalars = {
        value.tag: (event.step, value.simple_value)
        for event in written
        for value in event.summary.value
    }
    assert scalars == {"eval/miou": (5, 0.25), "eval/by/a": (5, 2.0)}
    (restart,) = (e for e in written if e.WhichOneof("what") == "session_log")
    assert (restart.step, restart.session_log.status) == (5, SessionLog.START)
    (image,) = (v.image for v in events(tmp_path)[-1].summary.value)
    assert (image.height, image.width) == (4, 6)
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert (np.asarray(picture) == 9).all()


def test_full_disk_under_tensorboard_is_told(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "log.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, limits[1]))
    pixels = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    try:
        with pytest.raises(
            InputError, match="tensorboard: cannot be written: File too"
        ):
            log.image("panels", 1, pixels)
        with pytest.raises(
            InputError, match="tensorboard: cannot be written: File too"
        ):
            log.write("eval", 1, {"loss": 1.0})
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_not_a_number_is_not_json(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    with pytest.raises(ValueError, match="JSON"):
        log.write("train", 1, {"loss": float("nan")})
    log.close()


@pytest.mark.parametrize("resumed", [0, 1, 7, 2000, 2999, 3000, 4000])
def test_a_long_log_is_cut_where_it_must_be(tmp_path, resumed):
    lines = [
        json.dumps({"kind": "train", "step": s, "x": "y" * 90}) for s in range(3001)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n" + lines[5][:40])
    assert path.stat().st_size > 4 * 2**16
    RunLog(tmp_path, config={}, start_step=resumed).close()
    *kept, start = path.read_text().splitlines()
    assert kept == lines[: resumed + 1]
    assert json.loads(start)["kind"] == "start"


def test_resuming_does_not_read_what_it_keeps(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [json.dumps({"kind": "train", "step": s}) for s in range(100_000)]
    path.write_text("damaged long ago\n" + "\n".join(lines) + "\n")
    RunLog(tmp_path, config={}, start_step=99_000).close()
    assert json.loads(path.read_text().splitlines()[-2])["step"] == 99_000


def test_damaged_line_is_named(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    log.write("train", 1, {"loss": 1.0})
    log.close()
    path = tmp_path / "log.jsonl"
    content = path.read_bytes().replace(b'"step": 1', b'"sXep": 1')
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"log.jsonl: line 2 is not a record"):
        RunLog(tmp_path, config={}, start_step=1)
    assert path.read_bytes() == content


def test_full_disk_leaves_whole_lines(tmp_path):
    log = RunLog(tmp_path, config={}, start_step=0)
    size = (tmp_path / "log.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(InputError, match=r"log.jsonl: cannot be written: ."):
            log.write("train", 1, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "log.jsonl").stat().st_size == size
    log.write("train", 1, {"loss": 1.0})
    log.close()
    assert [r["kind"] for r in records(tmp_path)] == ["start", "train"]


def test_log_that_is_a_folder(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(InputError, match=r"log.jsonl: cannot be written: Is a dir"):
        RunLog(tmp_path, config={}, start_step=0)


def test_an_evaluation_that_is_made_again_is_there_once(tmp_path):
    def kinds():
        return [record["kind"] for record in records(tmp_path)]

    log = RunLog(tmp_path, config={}, start_step=0)
    log.write("train", 2, {"loss": 1.0})
    log.close()  # stopped in its evaluation, and after it before it was saved
    for _ in range(2):
        log = RunLog(tmp_path, config={}, start_step=2, evaluated=False)
        log.write("eval", 2, {"miou": 0.5})
        log.close()
    assert kinds() == ["start", "train", "start", "start", "eval"]
    RunLog(tmp_path, config={}, start_step=2).close()
    assert kinds() == ["start", "train", "start", "start", "eval", "start"]
