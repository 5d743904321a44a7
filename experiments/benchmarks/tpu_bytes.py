"""Bytes and memory of segjax's training step beside a plain one's, on TPU v5e.

    pip install -e .[tpu]
    python experiments/benchmarks/tpu_bytes.py

Compiles the training step of both (`side_by_side/`: the same network, loss and optimiser)
with the TPU's compiler for one chip, as `python -m segjax plan` does, and writes
experiments/results/tpu_bytes.md. No TPU is needed, and none is measured. A compilation
takes minutes, so each is kept in the work directory and read the next time (remove it
after a change of the code); what is not there yet is "not run" in the page.
"""

import dataclasses
import datetime
import json
from importlib import metadata
from pathlib import Path

from rich.console import Console
from side_by_side import plain_programs, segjax_programs
from side_by_side.cases import Case

from segjax import cli
from segjax.planning.estimate import estimate
from segjax.planning.plan import LABEL
from segjax.planning.topology import find_devices

_NETWORKS = ("segnet_basic", "unet_bn", "unet")
_SIDES = {"segjax": segjax_programs, "plain": plain_programs}
# Figure -> its column, and by what to divide it.
_FIGURES = {
    "compiler_operations": ("TFLOP", 1e12),
    "bytes_moved": ("GB moved", 1e9),
    "compiler_bytes": ("GB accessed", 1e9),
    "temporaries": ("GB of temporaries", 1e9),
}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to compile."""

    networks: tuple[str, ...] = _NETWORKS
    """Networks to compile now; the page shows SegNet-Basic and both U-Nets as well."""

    sides: tuple[str, ...] = tuple(_SIDES)
    """Whose steps to compile now: segjax, plain."""

    height: int = 352
    """Rows of the images."""

    width: int = 480
    """Columns of the images."""

    batch_size: int = 8
    """Images of a step."""

    channels: float = 1.0
    """Factor on the networks' channels."""

    dtype: str = "bfloat16"
    """Type of the computation."""

    quick: bool = False
    """Compile with the least effort: in a fraction of the time, but bytes moved come out
    a tenth higher."""

    workdir: Path = Path("runs/tpu_bytes")
    """Where the compilations' figures are kept."""

    page: Path = Path(__file__).parent.parent / "results" / "tpu_bytes.md"
    """What to write."""


def main(benchmark: Benchmark) -> None:
    """Compiles what is not there yet, and writes and prints the page."""
    console = Console()
    benchmark.workdir.mkdir(parents=True, exist_ok=True)
    for network in benchmark.networks:
        for side in benchmark.sides:
            path = _path(benchmark, network, side)
            if not path.is_file():
                console.print(f"compiling {network}, {side}")
                path.write_text(
                    json.dumps(_compile(benchmark, network, side), indent=1)
                )
                benchmark.page.write_text(_page(benchmark))
    benchmark.page.write_text(_page(benchmark))
    console.print(_page(benchmark), markup=False, soft_wrap=True)


def _compile(benchmark: Benchmark, network: str, side: str) -> dict:
    (device,) = find_devices("v5e:1x1")
    case = Case(
        network,
        benchmark.height,
        benchmark.width,
        benchmark.batch_size,
        benchmark.channels,
    )
    program = _SIDES[side].training_program(case, device, dtype=benchmark.dtype)
    made = estimate(program, devices=[device], rates=None, quick=benchmark.quick)
    names = ("jax", "libtpu", "flax")
    return {
        "estimate": dataclasses.asdict(made),
        "versions": {name: metadata.version(name) for name in names},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _path(benchmark: Benchmark, network: str, side: str) -> Path:
    values = dataclasses.asdict(benchmark)
    parts = ("height", "width", "batch_size", "channels", "dtype")
    name = "-".join([network, *(str(values[part]) for part in parts), side])
    return benchmark.workdir / f"{name}{'-quick' * benchmark.quick}.json"


def _page(benchmark: Benchmark) -> str:
    networks = tuple(dict.fromkeys([*_NETWORKS, *benchmark.networks]))
    kept = {
        (network, side): json.loads(path.read_text())
        for network in networks
        for side in _SIDES
        if (path := _path(benchmark, network, side)).is_file()
    }
    lines = [
        "# A training step beside a plain one, as the TPU's compiler sees them",
        "",
        f"All figures are {LABEL}:",
        f"`python experiments/benchmarks/tpu_bytes.py{' --quick' * benchmark.quick}` compiles",
        "segjax's training step and that of the same network in plain Flax",
        "(`experiments/benchmarks/side_by_side/`) for one v5e chip: "
        f"{benchmark.batch_size} images of {benchmark.height}x{benchmark.width},",
        f"{_share(benchmark.channels)} of the channels, {benchmark.dtype}, SGD with momentum.",
        "Operations are all arithmetic; bytes moved are those to and from the chip's large",
        "memory, bytes accessed what the compiler counts, which has those of the memory on",
        "the chip, too; temporaries are what a step needs beside weights, momentum and",
        "batch.",
        "",
        "| network | | " + " | ".join(title for title, _ in _FIGURES.values()) + " |",
        "|" + " --- |" * (2 + len(_FIGURES)),
    ]
    for network in networks:
        figures = {side: _figures(kept.get((network, side))) for side in _SIDES}
        for side in _SIDES:
            lines.append(_row(f"`{network}`", side, figures[side]))
        ratios = {
            name: figures["segjax"][name] / figures["plain"][name]
            for name in _FIGURES
            if name in figures["segjax"] and name in figures["plain"]
        }
        lines.append(_row("", "segjax / plain", ratios, decimals=3))
    dates = sorted({record["date"] for record in kept.values()})
    versions = sorted(
        {
            ", ".join(f"{k} {v}" for k, v in record["versions"].items())
            for record in kept.values()
        }
    )
    if kept:
        effort = " with the least effort" if benchmark.quick else ""
        lines += ["", f"Compiled {' and '.join(dates)}{effort}, {'; '.join(versions)}."]
    return "\n".join(lines) + "\n"


def _share(channels: float) -> str:
    return "all" if channels == 1 else f"{channels:g}"


def _figures(record: dict | None) -> dict[str, float]:
    """By the names of _FIGURES, scaled; nothing where nothing was compiled."""
    if record is None:
        return {}
    values = {**record["estimate"], **(record["estimate"]["memory"] or {})}
    return {
        name: values[name] / unit
        for name, (_, unit) in _FIGURES.items()
        if values.get(name) is not None
    }


def _row(network: str, side: str, figures: dict, *, decimals: int = 2) -> str:
    # A program that the compiler found no place for has neither bytes nor memory.
    missing = "-" if figures else "not run"
    cells = [
        f"{figures[name]:.{decimals}f}" if name in figures else missing
        for name in _FIGURES
    ]
    return f"| {network} | {side} | {' | '.join(cells)} |"


if __name__ == "__main__":
    cli.main(main, Benchmark())
