"""What happens before a step: the scripts of their own that measure it, and their tables."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import InputError

_FOLDER = Path(__file__).parent.parent
# Phase -> script, and its option for figures in JSON.
_SCRIPTS = {
    "input": ("input_beside_torchvision.py", "--json"),
    "start-up": ("start_up.py", "--output"),
}
PHASES = tuple(_SCRIPTS)


def measure(phase: str, *, torch_python: str | None, rounds: int) -> Any:
    """Runs the script of a phase.

    Args:
      phase: one of `PHASES`.
      torch_python: interpreter that has PyTorch, torchvision and segjax, if this one has
        not.
      rounds: repetitions.

    Returns:
      The script's figures.

    Raises:
      InputError: the script failed.
    """
    script, option = _SCRIPTS[phase]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "figures.json"
        command = [str(_FOLDER / script), option, str(written), "--rounds", str(rounds)]
        if phase == "start-up" and torch_python:
            command += ["--torch-python", torch_python]
        python = torch_python if phase == "input" and torch_python else sys.executable
        done = subprocess.run(
            [python, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise InputError(f"{script} failed: {''.join(last) or 'no message'}")
        return json.loads(written.read_text())


def input_rows(figures: list[dict]) -> list[list[str]]:
    """Table of the input programs, the header first."""
    rows = [["images", "crops", "program", "images/s", "per core", "of segjax, alone"]]
    for of in figures:
        low, high = of["spread"]
        rows.append(
            [
                "x".join(map(str, of["size"])),
                "x".join(map(str, of["crop"])),
                of["name"],
                f"{of['images_per_second']:.1f}",
                f"{of['per_core']:.1f}",
                f"{of['ratio']:.2f} ({low:.2f} to {high:.2f})",
            ]
        )
    return rows


def import_rows(figures: dict) -> list[list[str]]:
    """Table of processes that only import something, the header first."""
    rows = [["a process that imports", "s", "quartiles"]]
    for name, seconds in figures["imports"].items():
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        rows.append([name, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    return rows


def first_step_rows(figures: dict) -> list[list[str]]:
    """Table of the time to the first step, the header first."""
    sides = figures["first_steps"]
    parts = list(next(iter(sides.values())))
    rows = [["the first step, s", *parts]]
    for side, seconds in sides.items():
        medians = (statistics.median(seconds[part]) for part in parts)
        rows.append([side, *(f"{median:.2f}" for median in medians)])
    return rows
