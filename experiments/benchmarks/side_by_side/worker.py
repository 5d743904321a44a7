"""One side of the comparison in a process of its own, driven line by line.

    python -m side_by_side.worker SIDE

reads one JSON object a line from standard input, does it, and answers with one on
standard output. The sides never run at the same time, and neither library's threads or
memory are in the other's way.
"""

import dataclasses
import importlib
import json
import os
import sys
import time

import numpy as np
from side_by_side.cases import Case
from side_by_side.rates import device_name, measured_rates


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to run the networks.

    Attributes:
      library: "jax" or "torch".
      module: which has `open_programs`.
      options: of `open_programs`.
      exact: whether its outputs must be segjax's; False where it computes in bfloat16.
    """

    library: str
    module: str
    options: dict
    exact: bool = True

    @property
    def dtype(self) -> str:
        """Of the computation."""
        return self.options.get("dtype", "float32")


SIDES = {
    "segjax": Side("jax", "segjax_programs", {}),
    "plain Flax": Side("jax", "plain_programs", {}),
    "PyTorch": Side("torch", "torch_programs", {"compiled": False}),
    "PyTorch, compiled": Side("torch", "torch_programs", {"compiled": True}),
    "segjax, bfloat16": Side(
        "jax", "segjax_programs", {"dtype": "bfloat16"}, exact=False
    ),
    "PyTorch, bfloat16": Side(
        "torch",
        "torch_programs",
        {"compiled": False, "dtype": "bfloat16"},
        exact=False,
    ),
}


def serve(side: Side) -> None:
    """Answers requests until the input ends."""
    # Libraries that print must not print between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module = importlib.import_module(f"side_by_side.{side.module}")
    programs = None
    for line in sys.stdin:
        request = json.loads(line)
        action, answer = request.pop("do"), {}
        if action == "initialize":
            np.savez(request["path"], **module.initial_weights(Case(**request["case"])))
        elif action == "size":
            answer["size"] = module.logits_size(Case(**request["case"]))
        elif action == "open":
            programs = None  # frees the memory of the one before
            with np.load(request["weights"]) as weights:
                programs = module.open_programs(
                    Case(**request["case"]),
                    dict(weights),
                    *_batch(request["batch"]),
                    **side.options,
                )
        elif action == "logits":
            np.save(request["path"], programs.logits(_batch(request["batch"])[0]))
        elif action == "call":
            answer["result"] = _plain(programs.phases[request["phase"]]())
        elif action == "time":
            answer["seconds"] = _seconds(programs.phases[request["phase"]], **request)
        elif action == "cost":
            answer["cost"] = programs.cost(request["phase"])
        elif action == "rates":
            answer = measured_rates(side.library, **request)
        elif action == "device":
            answer["device"] = device_name()
        answers.write(json.dumps(answer) + "\n")


def _batch(path):
    with np.load(path) as batch:
        return batch["image"], batch["label"]


def _seconds(function, *, phase, at_least) -> float:
    """Of one call, the mean of as many as fill `at_least` seconds."""
    del phase
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < at_least:
        function()
        calls += 1
    return (time.perf_counter() - started) / calls


def _plain(result):
    return float(result) if np.ndim(result) == 0 else None


if __name__ == "__main__":
    serve(SIDES[sys.argv[1]])
