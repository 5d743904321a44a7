"""How much sooner a run starts when its programs were compiled before.

    python experiments/benchmarks/compilation_cache.py

Starts the same short run twice, each in a process of its own and with one new
cache folder, and prints how long each took to have its programs: JAX's own record of
the time that tracing, lowering and compiling (or reading the cache) took, and the
wall time of the whole process.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segjax import cli

_RUN = """
import json, sys, jax
seconds = {}
def note(event, duration, **_):
    seconds[event] = seconds.get(event, 0.0) + duration
jax.monitoring.register_event_duration_secs_listener(note)
sys.argv = sys.argv[1:]
import runpy
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("SECONDS " + json.dumps(seconds))
"""
_COMPILING = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to start."""

    experiment: Path = Path(__file__).parents[1] / "camvid_segnet_basic.py"
    """The experiment's script; it is run with --smoke."""

    options: tuple[str, ...] = ()
    """More of its options."""


def main(benchmark: Benchmark) -> None:
    """Prints a table of both starts."""
    table = Table(title=f"{benchmark.experiment.name} --smoke, started twice")
    for column in ("cache", "compiling s", "process s"):
        table.add_column(column, justify="left" if column == "cache" else "right")
    starts = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty", "filled"):
            starts.append(_start(benchmark, Path(folder)))
            table.add_row(name, *(f"{seconds:.2f}" for seconds in starts[-1]))
    ratios = (first / second for first, second in zip(*starts, strict=True))
    table.add_row("times faster", *(f"{ratio:.1f}" for ratio in ratios))
    Console().print(table)


def _start(benchmark, folder):
    """Seconds that compiling and the whole process took."""
    began = time.perf_counter()
    options = [str(benchmark.experiment), "--smoke", *benchmark.options]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *options, "--compilation-cache", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - began
    line = done.stdout.rsplit("SECONDS ", 1)[1].splitlines()[0]
    return json.loads(line)[_COMPILING], wall


if __name__ == "__main__":
    cli.main(main, Benchmark())
