"""What both JAX sides share: phases as compiled programs, and what those need."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from side_by_side.cases import Programs


def make_programs(
    *,
    apply: Callable[[Any, jax.Array], jax.Array],
    train: Callable[[Any, Any], tuple[Any, Any]],
    predict: Callable[[Any, Any], jax.Array],
    evaluate: Callable[[Any, Any], dict[str, jax.Array]],
    mean_loss: Callable[[Any], float],
    state: Any,
    variables: Any,
    batch: Any,
) -> Programs:
    """Programs of jitted functions; each is compiled when it is first asked for.

    Only training changes weights: logits, inference and evaluation are those of the
    initial ones whenever they are called.

    Args:
      apply: `(variables, image) -> logits`, in inference mode.
      train: `(state, batch) -> (state, sums)`; may donate the state.
      predict: `(variables, batch) -> uint8 [b h' w']`.
      evaluate: `(variables, batch) -> sums`, among them `confusion` `[11 11]`.
      mean_loss: of the sums of either.
      state: on the device, sharing no buffer with `variables` if it is donated.
      variables: on the device.
      batch: on the device.
    """
    functions = {"training": train, "inference": predict, "evaluation": evaluate}

    @functools.cache
    def compiled(phase):
        first = state if phase == "training" else variables
        return functions[phase].lower(first, batch).compile()

    def training():
        nonlocal state
        state, sums = jax.block_until_ready(compiled("training")(state, batch))
        return mean_loss(sums)

    def inference():
        return jax.block_until_ready(compiled("inference")(variables, batch))

    def evaluation():
        sums = jax.block_until_ready(compiled("evaluation")(variables, batch))
        return {"loss": mean_loss(sums), "confusion": np.asarray(sums["confusion"])}

    return Programs(
        logits=lambda image: np.asarray(apply(variables, image)),
        phases={
            "training": training,
            "inference": inference,
            "evaluation": evaluation,
        },
        cost=lambda phase: read_cost(compiled(phase)),
    )


def read_cost(compiled: jax.stages.Compiled) -> dict[str, float] | None:
    """What the compiler says: operations, bytes accessed, bytes of temporaries."""
    counted, memory = compiled.cost_analysis(), compiled.memory_analysis()
    if not counted or memory is None:
        return None
    return {
        "flops": float(counted["flops"]),
        "bytes": float(counted["bytes accessed"]),
        "temporaries": float(memory.temp_size_in_bytes),
    }
