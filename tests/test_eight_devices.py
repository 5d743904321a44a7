"""One device, eight of them, split batches, split images, pmap: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYOUTS = ["jit", "data=4,space=2", "data=2,space=4", "pmap"]


def run_on_eight_devices(*arguments):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "eight_devices.py"), *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        ("segnet", ["data=4,space=2"]),
        pytest.param(
            "segnet", ["jit", "data=2,space=4", "pmap"], marks=pytest.mark.slow
        ),
        pytest.param("fcn", LAYOUTS, marks=pytest.mark.slow),
        pytest.param("unet", LAYOUTS, marks=pytest.mark.slow),
    ],
)
def test_five_steps_are_those_of_one_device(name, layouts):
    out = run_on_eight_devices("training", name, *layouts)
    assert out.count("is one device") == len(layouts)


@pytest.mark.parametrize(
    ("name", "height"),
    [
        ("fcn", "64"),
        pytest.param("unet", "64", marks=pytest.mark.slow),
        pytest.param("segnet_basic", "128", marks=pytest.mark.slow),
        pytest.param("fcn_basic", "128", marks=pytest.mark.slow),
        pytest.param("bilinear_basic", "128", marks=pytest.mark.slow),
        pytest.param("unet_bn", "128", marks=pytest.mark.slow),
        pytest.param("segnet_unet", "128", marks=pytest.mark.slow),
    ],
)
def test_split_images_exchange_borders_and_are_never_put_together(name, height):
    out = run_on_eight_devices("halos", name, height)
    assert out.count("has halos") == 2


@pytest.mark.parametrize(
    "counts", [["2"], pytest.param(["1", "4"], marks=pytest.mark.slow)]
)
def test_a_state_of_eight_devices_goes_on_with_fewer(tmp_path, counts):
    out = run_on_eight_devices("restoring", str(tmp_path / "checkpoints"), *counts)
    assert out.count("restored on") == len(counts)
