"""One side's first steps, in this process: what `start_up.py` starts.

    python experiments/benchmarks/first_step.py SIDE CASE WEIGHTS [CACHE]

SIDE is a name in `side_by_side.worker.SIDES`, CASE the fields of a `Case` as JSON, WEIGHTS
an NPZ file of its weights, and CACHE the folder of JAX's compiled programs. Prints seconds
as JSON: "import" of the side's library and networks, "first step" from there to the end of
the first training step, with the network's construction and compilation, and the "second
step".
"""

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from side_by_side.cases import NUM_CLASSES, Case
from side_by_side.worker import SIDES


def main(side: str, case: str, weights: str, cache: str | None = None) -> None:
    """Prints one line."""
    case = Case(**json.loads(case))
    rng = np.random.default_rng(0)
    pixels = (case.batch_size, case.height, case.width)
    image = rng.integers(0, 256, (*pixels, 3), dtype=np.uint8)
    label = rng.integers(0, NUM_CLASSES, pixels, dtype=np.uint8)
    with np.load(weights) as file:
        values = dict(file)

    clock = [time.perf_counter()]
    module = importlib.import_module(f"side_by_side.{SIDES[side].module}")
    if cache is not None:
        from segjax.training import processes

        # As every experiment's command line does.
        launch = processes.Launch(compilation_cache=Path(cache))
        processes.keep_compiled_programs(launch)
    clock.append(time.perf_counter())
    programs = module.open_programs(case, values, image, label, **SIDES[side].options)
    for _ in range(2):
        programs.phases["training"]()
        clock.append(time.perf_counter())
    names = ("import", "first step", "second step")
    print(json.dumps(dict(zip(names, np.diff(clock).tolist(), strict=True))))


if __name__ == "__main__":
    main(*sys.argv[1:])
