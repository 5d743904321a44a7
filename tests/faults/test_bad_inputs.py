"""What is wrong with an input is said in one line, and nothing is half-written.

Each row breaks one thing of something sound and does what a user would do with it;
it must end with status 2 and the row's message on one line, and leave every file as
it was.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import resource
import shutil
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax import __main__ as verbs
from segjax import cli, experiment
from segjax.configuration import Config
from segjax.data.archives import unpack_zip
from segjax.data.bad_records import skip_bad
from segjax.data.datasets import open_dataset
from segjax.data.stalls import StallWatch
from segjax.results import read_result
from segjax.training import checkpoint, manifest
from segjax.training.logs import RunLog
from segjax.training.workdir import check_resume, claim_workdir, hold_workdir

# A row that is no error after all ends soon, too.
CONFIG = Config(
    name="test",
    dataset="street_scenes",
    model="segnet_basic",
    width=1 / 16,
    crop_size=(48, 64),
    steps=1,
    batch_size=4,
    eval_batch_size=2,
    panels=0,
)
SCORES = {"miou": 0.5, "pixel_accuracy": 0.5}
STATE = {"params": {"x": jnp.arange(500.0)}, "batch_stats": {}}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Everything as it should be; the rows break copies of it."""
    root = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), np.uint8)
    label = rng.integers(0, 3, (24, 32), np.uint8)
    layouts = {
        "folder/images/{}.png": image,
        "folder/labels/{}.png": label,
        "camvid/train/{}.png": image,
        "camvid/trainannot/{}.png": label,
        "isbi/image/{}.png": image,
        "isbi/label/{}.png": label * 0,
    }
    for name in ("0", "1", "2"):
        for layout, array in layouts.items():
            path = root / layout.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    (root / "folder/classes.txt").write_text("0, a\n1, b\n2, c\n")
    (root / "camvid/train.txt").write_text("0.png 0.png\n1.png 1.png\n")
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("CamVid/a", bytes(1000))
    run = root / "run"
    claim_workdir(run, {"name": "test", "seed": 0})
    RunLog(run, config={}, start_step=0).close()
    shutil.rmtree(run / "tensorboard")
    checkpoints = checkpoint.open_checkpoints(run / "checkpoints")
    checkpoint.save(checkpoints, STATE, step=1, meta={}, scores=SCORES)
    checkpoints.close()
    open_dataset(
        "street_scenes",
        prepared_dir=root / "prepared",
        size=(48, 64),
        counts={"train": 4, "val": 2},
    )
    return root


@pytest.fixture
def place(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture(autouse=True)
def log_as_before():
    """The command line sets the log up for its whole process, which goes on here."""
    logger = logging.getLogger("segjax")
    before = (logger.handlers, logger.propagate, logger.level)
    yield
    logger.handlers, logger.propagate, logger.level = before


@pytest.fixture(autouse=True)
def tiny_scenes(monkeypatch):
    monkeypatch.setattr(checkpoint, "_RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(
        experiment,
        "open_dataset",
        lambda name, **options: open_dataset(
            name,
            **options,
            **{"size": (48, 64), "counts": {"train": 4, "val": 2}}
            if name == "street_scenes"
            else {},
        ),
    )


# How things break.


def write(name, content):
    def break_(place):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            Image.fromarray(content).save(path)

    return break_


def remove(pattern):
    def break_(place):
        paths = list(place.glob(pattern))
        assert paths, pattern
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_


def cut(pattern, keep):
    def break_(place):
        (path,) = place.glob(pattern)
        path.write_bytes(path.read_bytes()[:keep])

    return break_


def flip(pattern, position):
    def break_(place):
        path = max(place.glob(pattern), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[position] ^= 0x15
        path.write_bytes(content)

    return break_


def rename(old, new):
    return lambda place: (place / old).rename(place / new)


def folder_at(name):
    return lambda place: (place / name).mkdir(parents=True)


def both(*breaks):
    return lambda place: [break_(place) for break_ in breaks]


def nothing(place):
    pass


def bomb():
    """A PNG of some bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind, content):
        checked = kind + content
        return (
            struct.pack(">I", len(content))
            + checked
            + struct.pack(">I", zlib.crc32(checked))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def zip_with(member, content=b"x"):
    def break_(place):
        with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)

    return break_


def link():
    info = zipfile.ZipInfo("CamVid/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


# What a user does.


def use(name, data_dir, **options):
    return lambda place: open_dataset(
        name, data_dir=place / data_dir, prepared_dir=place / "new", **options
    )


def unpack(place):
    try:
        unpack_zip(
            place / "a.zip",
            place / "new",
            below="CamVid",
            source="a.zip",
            max_bytes=10_000,
            max_files=3,
        )
    finally:
        shutil.rmtree(place / "new", ignore_errors=True)


def read_prepared(place):
    dataset = open_dataset(
        "street_scenes",
        prepared_dir=place / "prepared",
        size=(48, 64),
        counts={"train": 4, "val": 2},
    )
    return [dataset.splits["train"][index] for index in range(4)]


def options(*args):
    """Starts an experiment with these options."""

    def do(place):
        where = [
            "--workdir",
            str(place / "new"),
            "--prepared-dir",
            str(place / "prepared"),
        ]
        cli.main(experiment.main, CONFIG, args=[*args, *where])

    return do


def verb(*args):
    return lambda place: verbs.main([arg.format(place=place) for arg in args])


def resume(place):
    with hold_workdir(place / "run", {"name": "test", "seed": 0}):
        checkpoints = checkpoint.open_checkpoints(place / "run" / "checkpoints")
        try:
            step = checkpoints.latest_step()
            checkpoint.restore(checkpoints, STATE, step=step)
            RunLog(place / "run", config={}, start_step=step).close()
        finally:
            checkpoints.close()


def read_run(place):
    checkpoint.read(place / "run" / "checkpoints")


def claim(name, **config):
    return lambda place: claim_workdir(
        Path(name) if name.startswith("/") else place / name,
        {"name": "test", "seed": 0, **config},
    )


@contextlib.contextmanager
def small_files(size):
    """A full disk, in effect: no file may grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save_on_full_disk(place):
    checkpoints = checkpoint.open_checkpoints(place / "run" / "checkpoints")
    state = {"x": np.random.default_rng(0).random(20_000)}
    try:
        with small_files(20_000):
            checkpoint.save(checkpoints, state, step=2, meta={}, scores=SCORES)
            checkpoints.wait_until_finished()
    finally:
        checkpoints.close()


def log_on_full_disk(place):
    log = RunLog(place / "run", config={}, start_step=0)
    kept = (place / "run" / "log.jsonl").read_bytes()
    try:
        with small_files(10):
            log.write("train", 1, {"loss": 1.0})
    finally:
        log.close()
        shutil.rmtree(place / "run" / "tensorboard")
        assert (place / "run" / "log.jsonl").read_bytes() == kept
        shutil.copy(place / "log.before", place / "run" / "log.jsonl")


def prepare_on_full_disk(place):
    with small_files(2000):
        open_dataset("folder", data_dir=place / "folder", prepared_dir=place / "new")


def hold_twice(place):
    config = {"name": "test", "seed": 0}
    with hold_workdir(place / "run", config), hold_workdir(place / "run", config):
        pass


FOLDER = use("folder", "folder")
IMAGE, LABEL = "folder/images/1.png", "folder/labels/1.png"
CAMVID = use("camvid", "camvid")
ISBI = use("isbi_em", "isbi")
GREY = np.zeros((24, 32), np.uint8)
CHECKPOINT = "run/checkpoints/1"

DATA = {
    "no folder": (nothing, use("folder", "gone"), "gone: no such folder"),
    "no class list, and labels with a gap": (
        both(
            remove("folder/classes.txt"),
            write(LABEL, np.full((24, 32), 7, np.uint8)),
        ),
        FOLDER,
        r"1\.png: label value 7, but no label has the value \d",
    ),
    "class list is binary": (
        write("folder/classes.txt", b"\xff\xfe0"),
        FOLDER,
        "class list cannot be read",
    ),
    "class list is empty": (
        write("folder/classes.txt", ""),
        FOLDER,
        "no class; expected",
    ),
    "line without name": (
        write("folder/classes.txt", "0\n"),
        FOLDER,
        "line 1 .*'value, name'",
    ),
    "value twice": (
        write("folder/classes.txt", "0, a\n0, b\n"),
        FOLDER,
        "line 2 .*value 0 is listed twice",
    ),
    "value too large": (
        write("folder/classes.txt", "256, a\n"),
        FOLDER,
        r"'256'; expected a whole number in 0\.\.255",
    ),
    "no images": (rename("folder/images", "folder/x"), FOLDER, "no images here"),
    "two layouts": (folder_at("folder/val/images"), FOLDER, "not both"),
    "empty split": (remove("folder/*/*.png"), FOLDER, "split 'train' is empty"),
    "no label": (remove(LABEL), FOLDER, r"images/1\.png: no label"),
    "no image": (remove(IMAGE), FOLDER, r"labels/1\.png: label without image"),
    "name twice": (write("folder/images/1.bmp", GREY), FOLDER, "same name as 1.bmp"),
    "label is JPEG": (
        both(remove(LABEL), write("folder/labels/1.jpg", GREY)),
        FOLDER,
        "does not keep label values",
    ),
    "sizes differ": (write(LABEL, GREY[1:]), FOLDER, r"label is 23x32 .*is 24x32"),
    "unknown label value": (
        write(LABEL, GREY + 9),
        FOLDER,
        "label value 9 is not a class",
    ),
    "label has colours": (
        write(LABEL, np.zeros((24, 32, 3), np.uint8)),
        FOLDER,
        r"classes\.txt: line 1 .*: the labels are colour images; expected 'value, name, red",
    ),
    "label has 16 bits": (
        write(LABEL, GREY.astype(np.uint16)),
        FOLDER,
        "label has pixel mode I;16",
    ),
    "image is cut off": (cut(IMAGE, 500), FOLDER, r"1\.png: not a readable image"),
    "image has a wrong byte": (
        flip(IMAGE, 300),
        FOLDER,
        r"1\.png: not a readable image",
    ),
    "image is a text": (write(IMAGE, "hello"), FOLDER, r"1\.png: not a readable image"),
    "image is empty": (write(IMAGE, b""), FOLDER, r"1\.png: not a readable image"),
    "image is a folder": (
        both(remove(IMAGE), folder_at(IMAGE)),
        FOLDER,
        "Is a directory",
    ),
    "image is a bomb": (write(IMAGE, bomb()), FOLDER, "exceeds limit of .* pixels"),
    "label is a bomb": (write(LABEL, bomb()), FOLDER, "exceeds limit of .* pixels"),
    "image in floating point": (
        both(
            remove(IMAGE), write("folder/images/1.tif", np.zeros((24, 32), np.float32))
        ),
        FOLDER,
        "cannot be made RGB",
    ),
    "more bad files than allowed": (
        both(write(IMAGE, b""), write(LABEL, b""), write("folder/images/2.png", b"")),
        use("folder", "folder", max_bad=1),
        r"2\.png: .* \(bad pair number 2, max_bad is 1\)",
    ),
    "negative max_bad": (nothing, use("folder", "folder", max_bad=-1), "max_bad -1"),
    "no CamVid": (rename("camvid/train", "camvid/x"), CAMVID, "no CamVid here"),
    "listed file is gone": (
        remove("camvid/train/1.png"),
        CAMVID,
        "no such file; .*names it",
    ),
    "line with one field": (
        write("camvid/train.txt", "0.png\n"),
        CAMVID,
        "has 1 fields",
    ),
    "listed twice": (
        write("camvid/train.txt", "0.png 0.png\n0.png 0.png\n"),
        CAMVID,
        "names an image twice",
    ),
    "one slice": (remove("isbi/*/[12].png"), ISBI, "1 labelled slices; expected 2"),
    "no slices": (remove("isbi/image"), ISBI, "no ISBI 2012 data here"),
    "membrane of another value": (
        write("isbi/label/1.png", GREY + 7),
        ISBI,
        "label value 7 is not a class",
    ),
    "path out of the archive": (zip_with("CamVid/../../x"), unpack, "unsafe path"),
    "absolute path": (zip_with("/CamVid/x"), unpack, "unsafe path"),
    "link in the archive": (zip_with(link()), unpack, "is a link or a device"),
    "archive is a bomb": (
        zip_with("CamVid/x", bytes(10**6)),
        unpack,
        "more than 10000 bytes",
    ),
    "archive is none": (write("a.zip", b"PK"), unpack, "not a readable zip file"),
    "archive is damaged": (flip("a.zip", 45), unpack, "not a readable zip file"),
    "archive of something else": (zip_with("Other/x"), unpack, "no folder CamVid"),
    "prepared: info changed": (
        flip("prepared/**/dataset_info.json", 100),
        read_prepared,
        "dataset_info.json has changed",
    ),
    "prepared: features changed": (
        flip("prepared/**/features.json", 100),
        read_prepared,
        "features.json has changed",
    ),
    "prepared: file is gone": (
        remove("prepared/**/*train.array_record*"),
        read_prepared,
        "train.array_record.* is missing",
    ),
    "prepared: record damaged": (
        flip("prepared/**/*train.array_record*", 2000),
        read_prepared,
        r"train\.array_record.*: record 0: Corrupted",
    ),
    "check: no such folder": (
        nothing,
        verb("data", "check", "folder", "--data-dir", "{place}/gone"),
        "gone: no such folder",
    ),
}

OPTIONS = {
    "unknown option": (nothing, options("--stepz", "3"), "--steps"),
    "no number": (nothing, options("--steps", "many"), "many"),
    "one size of two": (nothing, options("--crop-size", "64"), "crop-size"),
    "no such verb": (nothing, verb("trian"), "unknown verb 'trian': expected one of"),
    "no such action": (
        nothing,
        verb("data", "chek", "folder"),
        "chek.* list, prepare, check, show",
    ),
    "no such data set to check": (
        nothing,
        verb("data", "check", "x"),
        "unknown data set 'x'",
    ),
    "watch without a time": (
        nothing,
        lambda place: StallWatch(-1.0, print),
        "stall_seconds is -1.0, expected > 0",
    ),
    "skipping a negative number": (
        nothing,
        lambda place: skip_bad([], max_bad=-1),
        "max_bad -1: expected 0 or more",
    ),
} | {
    " ".join(arguments): (nothing, options(*arguments), message)
    for arguments, message in {
        ("--model", "resnet"): "unknown model 'resnet'",
        ("--dataset", "kitti"): "unknown data set 'kitti'; known: ",
        ("--data-dir", "x"): "takes no 'data_dir'",
        ("--batch-size", "3"): "batch_size is 3, .*positive multiple of 2",
        ("--eval-batch-size", "0"): "eval_batch_size is 0",
        ("--steps", "0"): "steps is 0, expected >= 1",
        ("--log-every", "0"): "log_every is 0, expected >= 1",
        ("--eval-every", "-1"): "eval_every is -1, expected >= 1",
        ("--panels", "-1"): "panels is -1, expected >= 0",
        ("--max-bad", "-1"): "max_bad is -1, expected >= 0",
        (
            "--bad-records",
            "ignore",
        ): "invalid choice 'ignore' for argument '--bad-records'",
        ("--stall-seconds", "0"): "stall_seconds is 0.0, expected > 0",
        ("--resume", "maybe"): "invalid choice 'maybe' for argument '--resume'",
        ("--resume", "must"): "resume is must, but workdir .*new holds no checkpoint",
        ("--crop-size", "0", "64"): "crop_size is 0x64",
        (
            "--model",
            "unet",
            "--crop-size",
            "40",
            "64",
        ): "is 40x64, but unet needs 48x64",
        ("--scale-range", "2", "1"): "scale_range .*expected 0 < lowest <= highest",
        ("--photometric", "2"): r"photometric 2.0: expected a strength in 0\.\.1",
        ("--elastic", "-1"): "elastic -1.0",
        ("--dropout", "1"): "dropout is 1.0, expected 0 <= rate < 1",
        ("--ema-decay", "1.5"): "ema_decay is 1.5, expected 0 < decay < 1",
        ("--clip-norm", "0"): "clip_norm is 0.0, expected > 0",
        ("--width", "0"): "width is 0.0, expected > 0",
        ("--seed", "-1"): "seed -1: expected an integer >= 0",
        ("--init-from", "gone"): "gone.*: no such folder",
    }.items()
}

CHECKPOINTS = {
    "no checkpoints": (remove("run/checkpoints"), read_run, "no such folder"),
    "none in the folder": (remove(CHECKPOINT), read_run, "holds no checkpoint"),
    "state flipped, to predict": (
        flip(f"{CHECKPOINT}/state/**/d/*", 50),
        read_run,
        r"no checkpoint is sound \(1: state/.* has another checksum",
    ),
    "state flipped, to resume": (
        flip(f"{CHECKPOINT}/state/**/d/*", 50),
        resume,
        "no checkpoint is sound .*remove the folder to start anew",
    ),
    "state cut off": (
        cut(f"{CHECKPOINT}/state/manifest.ocdbt", 20),
        read_run,
        "manifest.ocdbt has another size",
    ),
    "half deleted": (remove(f"{CHECKPOINT}/state"), read_run, "state/.* is missing"),
    "meta flipped": (
        flip(f"{CHECKPOINT}/meta/metadata", 3),
        read_run,
        "meta/metadata has",
    ),
    "manifest gone": (
        remove(f"{CHECKPOINT}/{manifest.MANIFEST}"),
        read_run,
        "manifest.json is missing",
    ),
    "manifest flipped": (
        flip(f"{CHECKPOINT}/{manifest.MANIFEST}", 30),
        read_run,
        "manifest.json is damaged",
    ),
    "renamed": (
        rename(CHECKPOINT, "run/checkpoints/9"),
        read_run,
        "it is step 1 under the name of another",
    ),
    "checkpoints is a file": (
        both(remove("run/checkpoints"), write("run/checkpoints", "")),
        resume,
        "checkpoints: cannot be written: File exists",
    ),
    "no manifest and no meta": (
        both(
            remove(f"{CHECKPOINT}/{manifest.MANIFEST}"),
            remove(f"{CHECKPOINT}/meta/metadata"),
        ),
        read_run,
        "no checkpoint is sound .*No such file",
    ),
    "state of another network": (
        nothing,
        lambda place: checkpoint.restore(
            checkpoint.open_checkpoints(place / "run" / "checkpoints"),
            {"params": {"x": jnp.zeros(7)}, "batch_stats": {}},
            step=1,
        ),
        "1: cannot be restored: ",
    ),
    "resume never": (
        nothing,
        lambda place: check_resume(place / "run", "never"),
        "resume is never, but workdir .*run holds a run: give another",
    ),
    "resume must, without a checkpoint": (
        remove(CHECKPOINT),
        lambda place: check_resume(place / "run", "must"),
        "resume is must, but workdir .*run holds no checkpoint",
    ),
    "replay: no such file": (
        nothing,
        verb("replay", "--file", "{place}/run/not_finite/step_000001.npz"),
        "configuration was written by another version of segjax: ",
    ),
    "replay: no run": (
        nothing,
        verb("replay", "--file", "{place}/folder/not_finite/step_000001.npz"),
        "folder: not a run of segjax .*expected RUN/not_finite/step_N.npz",
    ),
    "evaluate: no run": (
        nothing,
        verb("evaluate", "--run", "{place}/x"),
        "x/checkpoints: no",
    ),
    "evaluate: run without names": (
        nothing,
        verb("evaluate", "--run", "{place}/run"),
        "checkpoint lacks|other than training wrote",
    ),
    "result is damaged": (
        write("run/result.json", "{"),
        lambda place: read_result(place / "run"),
        "not the result of a finished run",
    ),
}

ENVIRONMENT = {
    "workdir is a file": (
        nothing,
        claim("folder/classes.txt"),
        "is not a run of segjax",
    ),
    "workdir below a file": (
        nothing,
        claim("a.zip/x"),
        "cannot be written: Not a directory",
    ),
    "workdir cannot be made": (
        nothing,
        claim("/proc/x"),
        "cannot be written: No such file",
    ),
    "workdir of other files": (
        nothing,
        claim("folder"),
        r"not a run of segjax \(no config",
    ),
    "workdir of other options": (
        nothing,
        claim("run", seed=1),
        "holds a run of 'test' with seed = 0, not 1",
    ),
    "config is damaged": (
        write("run/config.json", "{"),
        resume,
        "is not the JSON of a run",
    ),
    "config is a list": (
        write("run/config.json", "[]"),
        resume,
        "is not the JSON of a run",
    ),
    "workdir is in use": (
        nothing,
        hold_twice,
        rf"is in use by process {os.getpid()} on ",
    ),
    "log is damaged": (
        write("run/log.jsonl", "{}\n"),
        resume,
        "line 1 is not a record",
    ),
    "log is a folder": (
        both(remove("run/log.jsonl"), folder_at("run/log.jsonl")),
        resume,
        "log.jsonl: cannot be written: Is a directory",
    ),
    "disk full: checkpoint": (
        nothing,
        save_on_full_disk,
        "2 cannot be written: .*too large",
    ),
    "disk full: log": (
        lambda place: shutil.copy(place / "run" / "log.jsonl", place / "log.before"),
        log_on_full_disk,
        "log.jsonl: cannot be written: File too large",
    ),
    "disk full: preparing": (nothing, prepare_on_full_disk, "new/.*cannot be written"),
    "prepared_dir is a file": (
        nothing,
        lambda place: open_dataset(
            "folder", data_dir=place / "folder", prepared_dir=place / "a.zip"
        ),
        "cannot be written",
    ),
    "prepared_dir cannot be made": (
        nothing,
        lambda place: open_dataset(
            "folder", data_dir=place / "folder", prepared_dir="/proc/x"
        ),
        "cannot be written",
    ),
}

ROWS = DATA | OPTIONS | CHECKPOINTS | ENVIRONMENT
# Their mark on the folder of a sound run: who had it last.
_MARKS = {".lock"}


def contents(place):
    return {
        path.relative_to(place).as_posix(): path.is_file()
        and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.name not in _MARKS
    }


@pytest.mark.parametrize(
    ("break_", "do", "message"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)
def test_bad_input(place, capsys, break_, do, message):
    break_(place)
    before = contents(place)
    with pytest.raises(SystemExit) as stop:
        cli.call(partial(do, place), prog="segjax", args=[])
    assert stop.value.code == 2
    printed = capsys.readouterr().err.splitlines()
    # Warnings may come first: one line each, too.
    *_, last = printed
    assert last.startswith("error: ")
    assert re.search(message, last), last
    assert not any("Traceback" in line for line in printed)
    assert contents(place) == before


def test_there_are_sixty():
    assert len(ROWS) >= 60
    assert len(ROWS) == sum(map(len, (DATA, OPTIONS, CHECKPOINTS, ENVIRONMENT)))


def test_what_the_rows_break_is_sound(place):
    for do in (FOLDER, CAMVID, ISBI, unpack, read_prepared, read_run, resume):
        do(place)
    assert dataclasses.asdict(CONFIG)["seed"] == 0
    assert json.loads((place / "run" / "config.json").read_text())["name"] == "test"
