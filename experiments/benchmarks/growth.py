"""How time and memory grow with the image and the batch.

    python experiments/benchmarks/growth.py

Measures training step and inference of each network for one image size after the other
at `--batch-size` and for one batch size after the other at `--size`: the median time of
programs that take turns, the temporary memory of the compiled program, and the peak of
the resident memory of a process that does nothing else, less what it took before. Fits a
line through all points of a curve, once any and once through zero, and says how far the
farthest point lies from each, in percent of the line. Writes experiments/results/growth.md,
growth.png and growth.json.
"""

import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from growth_plot import draw
from rich.console import Console
from side_by_side import segjax_programs
from side_by_side.cases import NUM_CLASSES, Case

from segjax import cli
from segjax.costs import interleaved_times
from segjax.errors import InputError
from segjax.whole_file import whole_file

_FOLDER = Path(__file__).parents[1] / "results"
PHASES = ("training", "inference")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    networks: tuple[str, ...] = ("segnet_basic", "fcn_basic", "unet")
    """Networks."""

    channels: float = 0.25
    """Factor on their channels."""

    sizes: tuple[str, ...] = ("90x120", "180x240", "360x480", "720x960")
    """Images: rows x columns. U-Net's are rounded up to multiples of 16."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
    """Images of a step."""

    size: str = "180x240"
    """Images when the batch size grows."""

    batch_size: int = 1
    """Images of a step when their size grows."""

    rounds: int = 9
    """Repetitions, all sizes of a network and phase in turn."""

    results: Path = _FOLDER
    """Folder that the files are written to."""


@dataclasses.dataclass(frozen=True, order=True)
class Point:
    """One size of one network in one phase."""

    network: str
    phase: str
    height: int
    width: int
    batch_size: int

    @property
    def pixels(self) -> int:
        """Of all images of a step."""
        return self.height * self.width * self.batch_size


def main(benchmark: Benchmark) -> None:
    """Measures, prints the page and writes all three files."""
    console = Console()
    figures = {}
    for network in benchmark.networks:
        for phase in PHASES:
            points = sorted(set().union(*curves(benchmark, network, phase).values()))
            figures |= _measured(benchmark, points)
            console.print(f"{network}, {phase}: {len(points)} sizes measured")
    found = []
    for network in benchmark.networks:
        for phase in PHASES:
            for axis, points in curves(benchmark, network, phase).items():
                values = [figures[point] for point in points]
                found.append(_curve(network, phase, axis, points, values))
    report = {
        "about": _about(benchmark),
        "curves": found,
    }
    page = _page(report)
    with whole_file(benchmark.results / "growth.json") as scratch:
        scratch.write_text(json.dumps(report, indent=1))
    draw(benchmark.results / "growth.png", found)
    with whole_file(benchmark.results / "growth.md") as scratch:
        scratch.write_text(page)
    console.print(page, soft_wrap=True, markup=False, highlight=False)


def curves(benchmark: Benchmark, network: str, phase: str) -> dict[str, list[Point]]:
    """The points along which the image grows, and those along which the batch does.

    Raises:
      InputError: fewer than two sizes, or one that is not rows x columns.
    """
    if min(len(benchmark.sizes), len(benchmark.batch_sizes)) < 2:
        raise InputError("sizes and batch_sizes: expected two of each to see growth")

    def point(size, batch_size):
        return Point(network, phase, *_sides(size, network), batch_size)

    return {
        "image": [point(size, benchmark.batch_size) for size in benchmark.sizes],
        "batch": [point(benchmark.size, images) for images in benchmark.batch_sizes],
    }


def _sides(size: str, network: str) -> tuple[int, int]:
    try:
        height, width = map(int, size.split("x"))
    except ValueError as error:
        raise InputError(f"size {size!r}: expected ROWSxCOLUMNS") from error
    if network.startswith("unet"):
        return -(-height // 16) * 16, -(-width // 16) * 16
    return height, width


def _measured(benchmark, points):
    """Figures of the points, timed in turn."""
    opened = {point: open_phase(point, benchmark.channels) for point in points}
    seconds = interleaved_times(
        {point: run for point, (run, _) in opened.items()}, rounds=benchmark.rounds
    )
    temporaries = {point: bytes_() for point, (_, bytes_) in opened.items()}
    del opened
    return {
        point: {
            "seconds": statistics.median(seconds[point]),
            "quartiles": np.percentile(seconds[point], (25, 75)).tolist(),
            "temporaries": temporaries[point],
            "resident": _resident(point, benchmark.channels),
        }
        for point in points
    }


def open_phase(point: Point, channels: float):
    """A function that does the work once, and one for its bytes of temporaries."""
    case = Case(point.network, point.height, point.width, point.batch_size, channels)
    rng = np.random.default_rng(0)
    pixels = (point.batch_size, point.height, point.width)
    programs = segjax_programs.open_programs(
        case,
        segjax_programs.initial_weights(case),
        rng.integers(0, 256, (*pixels, 3), dtype=np.uint8),
        rng.integers(0, NUM_CLASSES, pixels, dtype=np.uint8),
    )
    return (
        programs.phases[point.phase],
        lambda: int(programs.cost(point.phase)["temporaries"]),
    )


def _resident(point, channels):
    """Bytes that a process of its own grows by, in `growth_memory.py`."""
    told = json.dumps({"point": dataclasses.asdict(point), "channels": channels})
    script = Path(__file__).with_name("growth_memory.py")
    done = subprocess.run(
        [sys.executable, str(script), told],
        # What this process has compiled is read: compiling takes memory, too.
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{script.name} {told}: {done.stderr[-300:]}")
    return int(done.stdout)


def _curve(network, phase, axis, points, values):
    """A curve's points and how far they are from a line, for time and memory."""
    pixels = [point.pixels for point in points]
    curve = {"network": network, "phase": phase, "axis": axis, "points": []}
    for point, value in zip(points, values, strict=True):
        curve["points"].append(dataclasses.asdict(point) | value)
    for name in ("seconds", "temporaries", "resident"):
        curve[name] = deviations(pixels, [value[name] for value in values])
    return curve


def deviations(x: list[float], y: list[float]) -> dict[str, float]:
    """Largest distance of a point from a line, as a share of the line.

    Returns:
      "line": from the best of all lines, "proportional": from the best through zero.
      Best is the smallest sum of squared relative distances.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    result = {}
    for name, columns in {
        "line": np.stack([x, np.ones_like(x)], axis=1),
        "proportional": x[:, None],
    }.items():
        weighted = columns / y[:, None]
        solution = np.linalg.lstsq(weighted, np.ones_like(y), rcond=None)[0]
        line = columns @ solution
        result[name] = float(np.abs(y / line - 1).max())
    return result


def _about(benchmark):
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("jax", "flax"))
    return (
        f"{datetime.date.today()}, {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, {versions}, float32, "
        f"{benchmark.channels:g} of the networks' channels; images "
        f"{', '.join(benchmark.sizes)} at batch size {benchmark.batch_size}, batch sizes "
        f"{', '.join(map(str, benchmark.batch_sizes))} at {benchmark.size}; medians of "
        f"{benchmark.rounds} rounds in turn"
    )


def _page(report):
    lines = [
        "# Growth with the image and the batch",
        "",
        report["about"] + ".",
        "",
        "![Time and memory against pixels of a step](growth.png)",
        "",
        "How far the farthest point lies from the best straight line, and from the best "
        "one through zero (proportional growth). Time is that of a step, temporaries "
        "are what the compiled program reserves, resident is what a process grows by.",
        "",
        "| network | phase | grows | time: line | proportional | temporaries: line | "
        "proportional | resident: line | proportional |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for curve in report["curves"]:
        cells = [f"`{curve['network']}`", curve["phase"], curve["axis"]]
        for name in ("seconds", "temporaries", "resident"):
            cells += [f"{100 * share:.0f} %" for share in curve[name].values()]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| network | phase | image | batch | s | quartiles | s per image and megapixel | "
        "temporaries MB | resident MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    seen = set()
    for curve in report["curves"]:
        for p in curve["points"]:
            key = tuple(p[f] for f in ("network", "phase", "height", "width"))
            if (*key, p["batch_size"]) in seen:
                continue
            seen.add((*key, p["batch_size"]))
            low, high = p["quartiles"]
            megapixels = p["height"] * p["width"] * p["batch_size"] / 1e6
            lines.append(
                f"| `{p['network']}` | {p['phase']} | {p['height']}x{p['width']} | "
                f"{p['batch_size']} | {p['seconds']:.4f} | {low:.4f} to {high:.4f} | "
                f"{p['seconds'] / megapixels:.2f} | {p['temporaries'] / 1e6:.1f} | "
                f"{p['resident'] / 1e6:.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.main(main, Benchmark())
