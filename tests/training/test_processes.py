"""Several processes of one run: the numbers of one, one voice, clear errors."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.training import processes
from segjax.training.processes import Launch

ROOT = Path(__file__).parents[2]


def run(count, *arguments, devices):
    """Runs a script in `count` processes by the launcher that users have."""
    done = subprocess.run(
        [str(ROOT / "experiments" / "launch" / "local.sh"), str(count), *arguments],
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "JAX_PLATFORMS": "cpu",
            "DEVICES_PER_PROCESS": str(devices),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    script = str(ROOT / "tests" / "some_processes.py")
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        status, errors = run(count, script, "numbers", str(folder), devices=4 // count)
        assert status == 0, errors[-4000:]
        found.append(dict(np.load(folder / "numbers.npz")))
    one, two = found
    assert one.keys() == two.keys()
    for name, expected in one.items():
        scale = np.abs(expected).max(initial=0)
        np.testing.assert_allclose(
            two[name], expected, rtol=0, atol=1e-5 * scale + 1e-6, err_msg=name
        )


@pytest.mark.slow
def test_two_processes_make_one_ablation(tmp_path):
    script = str(ROOT / "experiments" / "upsampling_ablation.py")
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        status, errors = run(
            count,
            script,
            *("--smoke", "--models", "bilinear_basic", "--timing-rounds", "1"),
            *("--workdir", str(folder), "--prepared-dir", str(tmp_path / "data")),
            devices=2 // count,
        )
        assert status == 0, errors[-4000:]
        with (folder / "report.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        found.append(row)
        assert (folder / "report.html").is_file()
    one, two = found
    assert two["miou"] == pytest.approx(one["miou"], abs=1e-5)


def test_two_processes_speak_with_one_voice(tmp_path):
    script = str(ROOT / "tests" / "some_processes.py")
    status, errors = run(2, script, "voices", str(tmp_path), devices=1)
    assert status == 0, errors[-4000:]
    assert (tmp_path / "voices").read_text() == "2"


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        (Launch(coordinator="localhost:1"), "together, or --distributed alone"),
        (Launch(num_processes=2, process_id=0), "together, or --distributed alone"),
        (
            Launch(coordinator="x:1", num_processes=2, process_id=1, distributed=True),
            "together, or --distributed alone",
        ),
        (Launch("localhost:1", 2, 2), "process_id is 2: expected 0 to .* = 1"),
        (Launch("localhost", 2, 1), "'localhost': expected HOST:PORT"),
        (
            Launch("127.0.0.1:9", 2, 1, connect_timeout=0),
            "no coordinator at 127.0.0.1:9 within 0 s: .*refused",
        ),
    ],
)
def test_processes_that_cannot_start(launch, message):
    with pytest.raises(InputError, match=message):
        processes.start(launch)


def test_one_process_is_left_alone(tmp_path):
    processes.start(Launch())
    assert processes.is_first()
    assert processes.on_first(lambda: 3) == 3
    assert processes.first_before_others(lambda: 4) == 4
    processes.check_agreement({"a": 1})
