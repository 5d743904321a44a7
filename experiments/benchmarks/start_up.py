"""How long a run takes until its first step is done.

    python experiments/benchmarks/start_up.py
    python experiments/benchmarks/start_up.py --torch-python /path/to/python

Everything is measured in processes of its own, all in turn, and medians are printed with
the quartiles. First the wall time of a process that only imports something; the share of
Python itself is the first row. Then a training step of a small network: what importing
takes, what the first step takes with the construction of the network and its compilation
(with an empty folder of compiled programs, and with what the run before left there), and
what the second takes. PyTorch does the same with the same network, eager and by
`torch.compile` (with an empty folder for what that keeps, too); where there is no PyTorch,
it is left out.

Imports are measured with their files in the page cache and compiled to bytecode: each
process runs once before the first round.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from side_by_side.cases import Case
from side_by_side.segjax_programs import initial_weights

from segjax import cli
from segjax.errors import InputError
from segjax.whole_file import whole_file

_IMPORTS = {
    "nothing": "pass",
    "jax": "import jax",
    "jax, flax, optax": "import jax, flax, optax",
    "segjax.models": "import segjax.models",
    "segjax.models.zoo": "import segjax.models.zoo",
    "segjax.experiment": "import segjax.experiment",
}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to start."""

    rounds: int = 9
    """Repetitions of every import."""

    first_steps: int = 3
    """Repetitions of every first step."""

    network: str = "segnet_basic"
    """Network of the steps."""

    height: int = 96
    """Rows of its images."""

    width: int = 128
    """Columns of its images."""

    batch_size: int = 2
    """Images of a step."""

    channels: float = 0.25
    """Factor on its channels."""

    torch_python: Path | None = None
    """Interpreter that has PyTorch and segjax; None is this one."""

    output: Path | None = None
    """JSON file with every repetition."""


def main(benchmark: Benchmark) -> None:
    """Prints two tables."""
    if benchmark.rounds < 1 or benchmark.first_steps < 1:
        raise InputError(
            f"rounds is {benchmark.rounds} and first_steps {benchmark.first_steps}: "
            "expected at least 1"
        )
    torch_python = _torch_python(benchmark.torch_python)
    console = Console()
    imports = _imports(benchmark.rounds, torch_python)
    console.print(_import_table(imports))
    steps = _first_steps(benchmark, torch_python)
    console.print(_step_table(benchmark, steps))
    if torch_python is None:
        console.print("PyTorch is left out: it is not installed, see --torch-python")
    if benchmark.output is not None:
        report = {
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "versions": {name: metadata.version(name) for name in ("jax", "flax")},
            "imports": imports,
            "first_steps": steps,
        }
        with whole_file(benchmark.output) as scratch:
            scratch.write_text(json.dumps(report, indent=1))


def _torch_python(given: Path | None) -> str | None:
    """The interpreter for PyTorch's side; None leaves it out.

    Raises:
      InputError: the given one cannot import torch and segjax.
    """
    if given is None:
        return sys.executable if importlib.util.find_spec("torch") else None
    try:
        _output([str(given), "-c", "import torch, segjax"])
    except (OSError, InputError) as error:
        raise InputError(f"torch_python {given}: {error}") from error
    return str(given)


def _imports(rounds: int, torch_python: str | None) -> dict[str, list[float]]:
    """Wall seconds of a process that imports, by what it imports."""
    commands = {name: [sys.executable, "-c", code] for name, code in _IMPORTS.items()}
    if torch_python is not None:
        commands["torch"] = [torch_python, "-c", "import torch"]
    seconds = {name: [] for name in commands}
    for i in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            _output(command)
            if i:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _first_steps(
    benchmark: Benchmark, torch_python: str | None
) -> dict[str, dict[str, list[float]]]:
    """Seconds by side and by what `first_step.py` says, and of the whole "process"."""
    case = Case(
        benchmark.network,
        benchmark.height,
        benchmark.width,
        benchmark.batch_size,
        benchmark.channels,
    )
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        np.savez(weights, **initial_weights(case))
        told = [json.dumps(dataclasses.asdict(case)), str(weights)]
        for i in range(benchmark.first_steps):
            cache = Path(folder) / f"compiled{i}"
            runs = {
                "segjax, nothing compiled": (sys.executable, "segjax", [str(cache)]),
                "segjax, compiled before": (sys.executable, "segjax", [str(cache)]),
            }
            if torch_python is not None:
                runs |= {
                    side: (torch_python, side, [])
                    for side in ("PyTorch", "PyTorch, compiled")
                }
            inductor = str(Path(folder) / f"inductor{i}")
            for name, (python, side, more) in runs.items():
                script = str(Path(__file__).with_name("first_step.py"))
                started = time.perf_counter()
                printed = _output(
                    [python, script, side, *told, *more],
                    {**os.environ, "TORCHINDUCTOR_CACHE_DIR": inductor},
                )
                whole = time.perf_counter() - started
                parts = json.loads(printed.splitlines()[-1]) | {"process": whole}
                for part, value in parts.items():
                    seconds.setdefault(name, {}).setdefault(part, []).append(value)
    return seconds


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
      InputError: it failed; the message is the last line of its standard error.
    """
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{' '.join(command[:3])} ended with {last}")
    return done.stdout


def _import_table(seconds):
    table = Table(title="a process that imports")
    table.add_column("what")
    table.add_column("s", justify="right")
    table.add_column("quartiles", justify="right")
    for name, values in seconds.items():
        low, median, high = np.percentile(values, (25, 50, 75))
        table.add_row(name, f"{median:.2f}", f"{low:.2f} to {high:.2f}")
    return table


def _step_table(benchmark, seconds):
    title = (
        f"{benchmark.network}, {benchmark.channels:g} of its channels, "
        f"{benchmark.batch_size}x{benchmark.height}x{benchmark.width}, s"
    )
    table = Table(title=title)
    table.add_column("side")
    names = list(next(iter(seconds.values())))
    for name in names:
        table.add_column(name, justify="right")
    for side, parts in seconds.items():
        cells = [np.percentile(parts[name], (25, 50, 75)) for name in names]
        table.add_row(
            side, *(f"{mid:.2f}\n{low:.2f} to {high:.2f}" for low, mid, high in cells)
        )
    return table


if __name__ == "__main__":
    cli.main(main, Benchmark())
