"""Makes the notebooks beside this file from their sources, or checks them.

    python colabs/build.py                 # NAME.py -> NAME.ipynb, executed
    python colabs/build.py quickstart      # only this one
    python colabs/build.py --check         # execute and compare, write nothing

The `.py` files (jupytext's percent format) are the source. Of the outputs only the
figures of cells tagged `keep-output` stay in the `.ipynb`. A notebook fails if a cell
raises or warns; `--check` fails, too, if a notebook is not that of its source, and
`--minutes 5` if all of them together take longer. Data and compiled programs go to
an empty folder: nothing is reused from an earlier run.

Needs `pip install -r requirements-colabs.txt`; segjax itself is installed by the
notebooks' first cell if it is missing, whose time is not counted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)

FOLDER = Path(__file__).resolve().parent

# Longest first: two run at a time, so the last one to start should be short.
NAMES = ("upsampling", "ablation", "quickstart", "own_data", "pods")

KEEP = "keep-output"

_METADATA = {
    "accelerator": "GPU",  # what Colab starts; a notebook runs without one, too
    "colab": {"provenance": []},
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    parser.add_argument("--minutes", type=float, help="fail if all take longer")
    options = parser.parse_args()
    strangers = set(options.names) - set(NAMES)
    if strangers:
        parser.error(f"no notebook {min(strangers)!r}: expected {', '.join(NAMES)}")
    names = [name for name in NAMES if name in options.names or not options.names]
    notebooks = {name: read_source(name) for name in names}

    failures = []
    if options.check:
        failures += [
            f"{name}.ipynb is not that of {name}.py: run python colabs/build.py {name}"
            for name, notebook in notebooks.items()
            if not is_written(name, notebook)
        ]
    install = notebooks[names[0]].cells[0].source
    subprocess.run([sys.executable, "-c", install], cwd=FOLDER, check=True)
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="segjax-colabs-") as scratch,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        runs = {
            pool.submit(execute, notebook, scratch=Path(scratch)): name
            for name, notebook in notebooks.items()
        }
        for run in as_completed(runs):
            name, (problem, seconds) = runs[run], run.result()
            print(f"{name}: {seconds:.0f} s", flush=True)
            if problem:
                failures.append(f"{name}: {problem}")
            elif not options.check:
                strip(notebooks[name])
                nbformat.write(notebooks[name], FOLDER / f"{name}.ipynb")
    minutes = (time.perf_counter() - started) / 60
    print(f"all: {60 * minutes:.0f} s, {options.jobs} at a time")
    if options.minutes and minutes > options.minutes:
        failures.append(f"took {minutes:.1f} minutes, expected <= {options.minutes:g}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def read_source(name: str) -> nbformat.NotebookNode:
    """The notebook of `NAME.py`, without outputs, the same on every machine."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata = nbformat.from_dict(_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("lines_to_next_cell", None)  # of the file, not the notebook
    return notebook


def is_written(name: str, notebook: nbformat.NotebookNode) -> bool:
    """Whether `NAME.ipynb` has the cells and tags of its source."""
    path = FOLDER / f"{name}.ipynb"
    if not path.is_file():
        return False

    def parts(cells):
        return [(cell.cell_type, cell.source, cell.metadata) for cell in cells]

    written = nbformat.read(path, as_version=4)
    return parts(written.cells) == parts(notebook.cells)


def execute(
    notebook: nbformat.NotebookNode, *, scratch: Path
) -> tuple[str | None, float]:
    """Runs all cells in a new kernel; returns what went wrong, and the seconds."""
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")]),
        "TFDS_DATA_DIR": str(scratch / "data"),
        "SEGJAX_CACHE": str(scratch / "programs"),
        "IPYTHONDIR": str(scratch / "ipython"),
        # Half of the time is compiling: less of it, and not in threads, as the
        # notebooks share the cores.
        "XLA_FLAGS": "--xla_backend_optimization_level=1"
        " --xla_cpu_parallel_codegen_split_count=1",
        "TMPDIR": str(scratch),
    }
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,
    )
    started = time.perf_counter()
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return str(error), time.perf_counter() - started
    return _noise(notebook), time.perf_counter() - started


def _noise(notebook: nbformat.NotebookNode) -> str | None:
    """The first warning that a cell printed, if one did."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            text = output.get("text", "")
            if "Warning" in text:
                return f"cell {number} printed {text.strip()!r}"
    return None


def strip(notebook: nbformat.NotebookNode) -> None:
    """Removes all outputs but the figures of the cells that keep theirs."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        figures = [
            nbformat.v4.new_output(
                "display_data", {"image/png": output.data["image/png"]}
            )
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        cell.outputs = figures[-1:] if KEEP in cell.metadata.get("tags", []) else []


if __name__ == "__main__":
    sys.exit(main())
