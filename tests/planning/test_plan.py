"""Plans of narrow networks for the CPU, against counts by hand."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from segjax.__main__ import main
from segjax.configuration import Config
from segjax.errors import InputError
from segjax.planning import topology
from segjax.planning.plan import make_plan, plan_values
from segjax.planning.programs import (
    Data,
    describe_data,
    evaluation_program,
    training_program,
)
from segjax.planning.roofline import Roofline
from segjax.training import parallel

# SegNet-Basic with 4 channels instead of 64, on 32x48 pixels.
CONFIG = Config(
    name="narrow",
    dataset="street_scenes",
    model="segnet_basic",
    width=1 / 16,
    crop_size=(32, 48),
    batch_size=4,
    eval_batch_size=3,
    optimizer="sgd",
    momentum=0.9,
)
CHANNELS = 4
CLASSES = 11
NORMALIZATIONS = 8
SCRIPT = """
from segjax.configuration import Config

CONFIG = Config(
    name="tiny", dataset="street_scenes", model="bilinear_basic", width=1 / 16,
    crop_size=(32, 48), batch_size=4, eval_batch_size=4,
)
"""


def convolutions():
    """(multiplications of one image, parameters) of each, the first one first.

    Counted from the paper's section 3: four 7x7 convolutions before a pooling each, four
    after an unpooling each, with bias and batch normalisation; a 1x1 classifier.
    """
    pixels = [32 * 48 // 4**level for level in range(4)]
    c = CHANNELS
    found = []
    for size, c_in in zip(pixels + pixels[::-1], [3] + [c] * 7, strict=True):
        found.append((49 * c_in * c * size, 49 * c_in * c + 3 * c))
    found.append((c * CLASSES * pixels[0], c * CLASSES + CLASSES))
    return found


@pytest.fixture(scope="module")
def plan():
    return make_plan(CONFIG, describe_data(CONFIG), jax.devices()[:2], topology="local")


def test_operations_are_those_counted_by_hand(plan):
    forward = sum(products for products, _ in convolutions())
    first = convolutions()[0][0]
    # Backward: as much for the maps and for the weights, but none for the image.
    per_image = 2 * (3 * forward - first)
    assert plan.training.batch_size == 4
    assert plan.training.operations == 4 * per_image / 2
    assert plan.one_device.batch_size == 2
    assert plan.one_device.operations == 2 * per_image
    # 3 images are rounded up to 4, so that two devices have as many each. Scores are
    # taken at the data set's 64x96 pixels: four times as many.
    assert plan.evaluation.batch_size == 4
    assert plan.evaluation.operations == 4 * 2 * (4 * forward) / 2


def test_arguments_are_state_and_batch(plan):
    parameters = sum(weights for _, weights in convolutions())
    # Parameters, momentum and running statistics on every device; half of the batch, an
    # image of three bytes and a label of one byte per pixel. Beside them counters.
    state = 4 * (2 * parameters + 2 * NORMALIZATIONS * CHANNELS)
    expected = state + 2 * 32 * 48 * (3 + 1)
    memory = plan.training.memory
    assert expected <= memory.arguments < expected + 100
    assert memory.aliased == pytest.approx(state, abs=100)
    assert memory.peak >= memory.arguments + memory.temporaries
    assert plan.training.fits is None


def test_every_gradient_is_reduced_once_and_one_device_sends_nothing(plan):
    parameters = sum(weights for _, weights in convolutions())
    reduced = {total.kind: total for total in plan.training.collectives}["all-reduce"]
    # Beside the gradients the loss, its weight and a few sums per channel of each batch
    # normalisation: 3 % of the weights of a 7x7 convolution from 4 to 4 channels.
    least = 4 * parameters
    assert least <= reduced.num_bytes < 1.05 * least
    assert reduced.sent_bytes == reduced.num_bytes
    assert plan.one_device.collectives == ()


def test_a_cpu_has_no_stated_rates(plan):
    assert plan.chip is plan.training.roofline is plan.efficiency is None
    assert plan_values(plan)["label"] == "compiler estimates, not measurements"
    json.dumps(plan_values(plan))


def test_efficiency_is_images_per_device_against_one_device(plan):
    many = Roofline(compute=3.0, memory=1.0, communication=5.0)
    one = Roofline(compute=1.0, memory=2.0, communication=0.0)
    rated = dataclasses.replace(
        plan,
        training=dataclasses.replace(plan.training, roofline=many),
        one_device=dataclasses.replace(plan.one_device, roofline=one),
    )
    # 4 images on 2 devices in 5 or 3 + 5 seconds, 2 images on one in 2.
    assert rated.training.images_per_second == 4 / 5
    assert rated.efficiency == pytest.approx((4 / 5 / 2) / (2 / 2))
    assert rated.efficiency_without_overlap == pytest.approx((4 / 8 / 2) / (2 / 2))
    unstated = dataclasses.replace(
        rated.training, roofline=dataclasses.replace(many, communication=None)
    )
    assert dataclasses.replace(rated, training=unstated).efficiency is None


def test_what_is_known_of_data_sets_without_reading_them(tmp_path):
    folder = dataclasses.replace(CONFIG, dataset="folder", image_size=(20, 30))
    with pytest.raises(InputError, match="num-classes"):
        describe_data(folder)
    (tmp_path / "classes.txt").write_text("0, a\n1, b\n2, c\n255, void\n")
    found = describe_data(dataclasses.replace(folder, data_dir=tmp_path))
    assert found == Data(3, (20, 30))
    camvid = dataclasses.replace(CONFIG, dataset="camvid")
    assert describe_data(camvid) == Data(11, (360, 480))
    given = describe_data(camvid, num_classes=2, label_size=(5, 6))
    assert given == Data(2, (5, 6))


def test_options_that_change_the_program_reach_it():
    data = Data(num_classes=5, label_size=(24, 32))
    mesh = parallel.make_mesh(jax.devices()[:2])
    weighted = dataclasses.replace(
        CONFIG,
        class_weights="median_frequency",  # counts pixels: there is one of every class
        border_weight=(10.0, 5.0, 1),
        ema_decay=0.9,
        image_size=(16, 32),
        eval_batch_size=2,
    )
    state, batch = training_program(weighted, data, mesh).arguments
    assert batch["weight"].shape == batch["label"].shape == (4, 32, 48)
    assert jax.tree.structure(state.ema_params) == jax.tree.structure(state.params)
    _, batch = evaluation_program(weighted, data, mesh).arguments
    assert batch["image"].shape == (2, 16, 32, 3)
    assert batch["label"].shape == (2, 24, 32)
    with pytest.raises(InputError, match=r"parallel is 'pmap'.*expected 'jit'"):
        training_program(dataclasses.replace(CONFIG, parallel="pmap"), data, mesh)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--experiment", "NO.py"], "NO.py: no such file"),
        (["--experiment", "BARE"], "has no CONFIG, expected CONFIG = segjax"),
        (["--experiment", "BROKEN"], "cannot be imported: ZeroDivisionError"),
        (["--topology", "v5litepod-16"], "topology 'v5litepod-16': expected one of"),
        (["--topology", "v5e:2x2x2"], "v5e slices have 2 sides and 1 to 256 chips"),
        (["--topology", "v5e:32x32"], "v5e slices have 2 sides and 1 to 256 chips"),
        (["--topology", "v5e:0x4"], "v5e slices have 2 sides and 1 to 256 chips"),
        (["--mesh", "data=3,space=5"], "data=3,space=5 has 15 devices, but there"),
        (["--mesh", "4by4"], "mesh '4by4': expected data=N,space=M"),
        (["--model", "nonet"], "nonet"),
        (["--batch-size", "3"], "batch_size is 3"),
        (["--model", "unet", "--crop-size", "33", "48"], "crop_size is 33x48"),
    ],
)
def test_what_a_user_can_mend_is_one_line(options, line, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(SCRIPT)
    (tmp_path / "BARE").with_suffix(".py").write_text("CONFIG = 3")
    (tmp_path / "BROKEN").with_suffix(".py").write_text("1 / 0")
    options = [
        str(tmp_path / f"{option}.py") if option in ("BARE", "BROKEN") else option
        for option in options
    ]
    if "--experiment" not in options:
        options += ["--experiment", str(tmp_path / "tiny.py")]
    with pytest.raises(SystemExit) as stop:
        main(["plan", *options])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_without_the_compiler_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install segjax\[tpu\]"):
        topology.find_devices("v5e:4x4")


def test_the_command_prints_tables_and_says_what_they_are(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "tiny.py").write_text(SCRIPT)
    main(["plan", "--experiment", str(tmp_path / "tiny.py"), "--no-one-device"])
    captured = capsys.readouterr()
    assert captured.err == ""
    for words in (
        "arguments",
        "temporaries",
        "matrix operations",
        "all-reduce",
        "bilinear_basic",
        "compiler estimates, not measurements",
    ):
        assert words in captured.out


def _run(*options, cwd):
    """The command in a process of its own: libtpu is loaded once and for all."""
    command = [sys.executable, "-m", "segjax", "plan", *options]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=cwd, env=environment
    )


@pytest.mark.slow
def test_a_tpu_slice_is_planned_without_a_tpu_and_in_silence(tmp_path):
    pytest.importorskip("libtpu")
    (tmp_path / "tiny.py").write_text(SCRIPT)
    done = _run(
        *("--experiment", "tiny.py", "--topology", "v5e:2x2", "--json"),
        *("--no-evaluation", "--no-one-device"),
        cwd=tmp_path,
    )
    assert done.stderr == ""
    values = json.loads(done.stdout)
    training = values["training"]
    assert values["device_kind"] == "TPU v5 lite"
    assert values["num_devices"] == 4
    assert values["mesh"] == {"data": 4, "space": 1}
    assert training["fits"] is True
    assert training["memory"]["peak"] < 2**30
    assert [total["kind"] for total in training["collectives"]] == ["all-reduce"]
    seconds = training["roofline"]["seconds"]
    assert training["images_per_second"] == 4 / seconds
    assert seconds >= training["operations"] / 197e12
    assert math.isfinite(seconds)


@pytest.mark.slow
def test_forms_of_operations_for_cpu_do_not_reach_a_tpu(tmp_path):
    pytest.importorskip("libtpu")
    program = """
import dataclasses, sys
from segjax.configuration import Config
from segjax.planning import programs, topology
from segjax.training import parallel
config = Config(name="", dataset="street_scenes", model="unet_bn", width=0.5,
                crop_size=(32, 48), batch_size=4)
devices = topology.find_devices(sys.argv[1])
mesh = parallel.make_mesh(devices[:1])
step = programs.training_program(config, programs.describe_data(config), mesh)
print(step.lower().as_text().count("stablehlo.while"))
"""
    loops = {}
    for name, platforms in (("local", "cpu"), ("v5e:2x2", "")):
        done = subprocess.run(
            [sys.executable, "-c", program, name],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "JAX_PLATFORMS": platforms},
        )
        assert done.stderr == ""
        loops[name] = int(done.stdout)
    # Weight gradients are sums over blocks on CPU, and XLA's own on a TPU.
    assert loops["local"] > 0
    assert loops["v5e:2x2"] == 0
