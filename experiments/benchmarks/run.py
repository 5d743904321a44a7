"""segjax beside PyTorch and a plain Flax version: the same networks, weights and images.

    pip install -e .[benchmarks]
    python experiments/benchmarks/run.py

Every side runs in a process of its own, on the same device and threads, and all take
turns: each works for `--seconds` in every round. The table gives segjax's median time and,
for every other side, the median over the rounds of its time divided by segjax's, with the
quartiles: above 1 segjax is the faster one. Networks whose logits or first loss differ on
the same weights are not compared: the program stops. A side whose library is missing is
left out.

Writes OUTPUT.json, with every round, and OUTPUT.md, network by network, so that nothing is
lost where it is stopped. What happens before a step is measured once for all networks, by
`input_beside_torchvision.py` and `start_up.py`, whose figures go into the same files.
"""

import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from rich.console import Console
from side_by_side import before_a_step
from side_by_side.cases import NUM_CLASSES, Case
from side_by_side.driver import Driver, started
from side_by_side.table import markdown
from side_by_side.worker import SIDES

from segjax import cli
from segjax.errors import InputError
from segjax.whole_file import whole_file

PHASES = ("training", "inference", "evaluation", *before_a_step.PHASES)
# The sizes that the bars are set for, and the decoder variants at SegNet-Basic's.
CASES = {
    "segnet_basic": Case("segnet_basic", 180, 240, 2),
    "unet_bn": Case("unet_bn", 176, 240, 2, channels=0.5),
    "fcn8s": Case("fcn8s", 180, 240, 1),
    "segnet_vgg16_bn": Case("segnet_vgg16_bn", 180, 240, 1),
    "unet": Case("unet", 176, 240, 2, channels=0.5),
    "unet_valid": Case("unet_valid", 252, 252, 2, channels=0.5),
    "bilinear_basic": Case("bilinear_basic", 180, 240, 2),
    "segnet_basic_encoder_addition": Case("segnet_basic_encoder_addition", 180, 240, 2),
    "segnet_basic_single_channel": Case("segnet_basic_single_channel", 180, 240, 2),
    "fcn_basic": Case("fcn_basic", 180, 240, 2),
    "fcn_basic_no_addition": Case("fcn_basic_no_addition", 180, 240, 2),
    "fcn_basic_no_dim_reduction": Case("fcn_basic_no_dim_reduction", 180, 240, 2),
    "fcn_basic_no_addition_no_dim_reduction": Case(
        "fcn_basic_no_addition_no_dim_reduction", 180, 240, 2
    ),
}
# Largest difference of the logits, relative to the largest logit; and of the loss. Where
# two pixels of a pooling window are equal but for rounding, two right networks may unpool
# to different ones. Small images have few windows, so they are what is compared. In
# bfloat16 there are many such pairs: segjax's own SegNets are 0.15 and 0.2 from their
# float32 in the mean, and it is the mean that is compared.
_TOLERANCE = {True: 1e-4, False: 0.4}
_COMPARED_SIZE = (48, 64)
_COMPARED_SIZES = {"unet_valid": (188, 204)}  # it takes nothing smaller


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to time."""

    networks: tuple[str, ...] = tuple(CASES)
    """Rows of CASES."""

    phases: tuple[str, ...] = PHASES
    """What to time: what the networks do, and what happens before."""

    sides: tuple[str, ...] = (
        "segjax",
        "plain Flax",
        "PyTorch",
        "PyTorch, compiled",
        "PyTorch, bfloat16",
    )
    """Who does it; segjax first."""

    rounds: int = 11
    """How often every side has its turn."""

    seconds: float = 0.5
    """Least time of a turn, in calls one after the other."""

    batch_size: int | None = None
    """Images of a step, instead of a row's own."""

    height: int | None = None
    """Rows of the images, instead of a row's own."""

    width: int | None = None
    """Columns of the images, instead of a row's own."""

    channels: float | None = None
    """Factor on the networks' channels, instead of a row's own."""

    torch_python: str | None = None
    """Interpreter that has PyTorch (for the input torchvision and segjax, too), if this
    one has not."""

    output: Path = Path("runs/benchmark")
    """Where to write, without suffix."""


def main(benchmark: Benchmark) -> None:
    """Compares network by network, writes both files and prints the table."""
    for field, known in (
        ("networks", CASES),
        ("phases", PHASES),
        ("sides", SIDES),
    ):
        for value in getattr(benchmark, field):
            if value not in known:
                raise InputError(
                    f"{field}: unknown {value!r}: expected {', '.join(known)}"
                )
    if benchmark.sides[:1] != ("segjax",):
        raise InputError("sides: expected segjax first, to relate the others to")
    console = Console()
    sides = {side: _python(side, benchmark) for side in benchmark.sides}
    for side in [side for side, python in sides.items() if python is None]:
        console.print(f"left out: {side} (no {SIDES[side].library} to import)")
        del sides[side]
    with started(sides) as drivers:
        record = {
            "machine": _machine(drivers),
            "rates": {
                dtype: _rates(drivers, dtype)
                for dtype in dict.fromkeys(SIDES[side].dtype for side in sides)
            },
            "rounds": benchmark.rounds,
            "seconds": benchmark.seconds,
            "cases": [],
        }
        before = [p for p in before_a_step.PHASES if p in benchmark.phases]
        phases = tuple(p for p in benchmark.phases if p not in before)
        of_networks = dataclasses.replace(benchmark, phases=phases)
        for network in benchmark.networks if phases else ():
            case = _case(benchmark, network)
            console.print(f"{case}", soft_wrap=True)
            record["cases"].append(_compare(of_networks, case, drivers))
            _write(benchmark.output, record)
    for phase in before:
        console.print(phase)
        record[phase] = before_a_step.measure(
            phase, torch_python=benchmark.torch_python, rounds=benchmark.rounds
        )
        _write(benchmark.output, record)
    console.print(markdown(record), markup=False, soft_wrap=True)


def _case(benchmark, network):
    asked = {
        field: getattr(benchmark, field)
        for field in ("batch_size", "height", "width", "channels")
    }
    given = {field: value for field, value in asked.items() if value is not None}
    return dataclasses.replace(CASES[network], **given)


def _python(side: str, benchmark: Benchmark) -> str | None:
    """The interpreter that runs `side`, if there is one that can."""
    library = SIDES[side].library
    if library == "torch" and benchmark.torch_python:
        return benchmark.torch_python
    return sys.executable if importlib.util.find_spec(library) else None


def _compare(benchmark: Benchmark, case: Case, drivers: dict[str, Driver]) -> dict:
    """Checks that all sides compute the same, then times them in turn."""
    height, width = _COMPARED_SIZES.get(case.network, _COMPARED_SIZE)
    small = dataclasses.replace(case, height=height, width=width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = str(folder / "weights.npz")
        drivers["segjax"].ask("initialize", case=dataclasses.asdict(case), path=weights)
        _open(small, drivers, folder)
        differences = _differences(drivers, folder)
        _open(case, drivers, folder)
    return {
        "case": dataclasses.asdict(case),
        "differences": differences,
        "seconds": {
            phase: _times(benchmark, phase, drivers) for phase in benchmark.phases
        },
        "cost": {
            side: {p: driver.ask("cost", phase=p)["cost"] for p in benchmark.phases}
            for side, driver in drivers.items()
        },
    }


def _open(case: Case, drivers: dict[str, Driver], folder: Path) -> None:
    """Gives all sides the same network, weights and batch."""
    values = dataclasses.asdict(case)
    size = drivers["segjax"].ask("size", case=values)["size"]
    rng = np.random.default_rng(0)
    label = rng.integers(0, NUM_CLASSES + 1, (case.batch_size, *size), np.uint8)
    label[label == NUM_CLASSES] = 255
    shape = (case.batch_size, case.height, case.width, 3)
    image = rng.integers(0, 256, shape, np.uint8)
    batch, weights = str(folder / "batch.npz"), str(folder / "weights.npz")
    np.savez(batch, image=image, label=label)
    for driver in drivers.values():
        driver.ask("open", case=values, weights=weights, batch=batch)


def _differences(drivers, folder) -> dict[str, dict[str, float]]:
    """How far each side is from segjax; raises where it is another network."""
    logits, losses, found = {}, {}, {}
    for index, (side, driver) in enumerate(drivers.items()):
        path = str(folder / f"{index}.npy")
        driver.ask("logits", batch=str(folder / "batch.npz"), path=path)
        logits[side] = np.load(path)
        losses[side] = driver.ask("call", phase="training")["result"]
    expected = logits["segjax"]
    for side in drivers:
        if logits[side].shape != expected.shape:
            raise InputError(
                f"{side} has logits of shape {logits[side].shape}, segjax of "
                f"{expected.shape}: not the same network"
            )
        size = np.max if SIDES[side].exact else np.mean
        found[side] = {
            "logits": float(
                size(np.abs(logits[side] - expected)) / size(np.abs(expected))
            ),
            "loss": abs(losses[side] - losses["segjax"]) / losses["segjax"],
        }
        for what, difference in found[side].items():
            if not difference <= _TOLERANCE[SIDES[side].exact]:
                raise InputError(
                    f"{side} differs from segjax by {difference:.2g} (relative) in its "
                    f"{what} on the same weights, more than "
                    f"{_TOLERANCE[SIDES[side].exact]:g}: times would not compare"
                )
    return found


def _times(benchmark, phase, drivers) -> dict[str, list[float]]:
    """Seconds of a call in every round, by side."""
    seconds = {side: [] for side in drivers}
    for i in range(benchmark.rounds + 1):
        for side, driver in drivers.items():
            answer = driver.ask("time", phase=phase, at_least=benchmark.seconds)
            if i:  # the first one compiles
                seconds[side].append(answer["seconds"])
    return seconds


def _rates(drivers, dtype) -> dict[str, dict[str, float]]:
    """The machine's best, by library."""
    first = {}
    for side, driver in drivers.items():
        first.setdefault(SIDES[side].library, driver)
    return {
        library: driver.ask("rates", dtype=dtype) for library, driver in first.items()
    }


def _machine(drivers) -> dict:
    versions = {}
    for name in ("segjax", "jax", "jaxlib", "flax", "torch"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": drivers["segjax"].ask("device")["device"],
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _write(output: Path, record: dict) -> None:
    texts = {".json": json.dumps(record, indent=1), ".md": markdown(record)}
    for suffix, text in texts.items():
        with whole_file(output.with_suffix(suffix)) as scratch:
            scratch.write_text(text)


if __name__ == "__main__":
    cli.main(main, Benchmark())
