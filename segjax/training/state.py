"""TrainState: all that a training step reads and writes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from segjax.models.segmenter import Segmenter


@flax.struct.dataclass
class TrainState:
    """One immutable pytree; a step maps it to the next.

    Attributes:
      step: int32 scalar, number of updates done.
      seed: int32 scalar; all randomness of a step is derived from seed and step. It
        is data and not a constant of the program, so that runs of several seeds
        share one compilation.
      params: trainable parameters, float32.
      batch_stats: running statistics of batch normalisation, float32.
      opt_state: Optax's state.
      ema_params: exponential moving average of `params`, or None if not kept.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema_params: Any = None

    @property
    def eval_variables(self) -> dict[str, Any]:
        """Variables to evaluate and predict with: the average if one is kept."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}


def create_state(
    model: Segmenter,
    tx: optax.GradientTransformation,
    *,
    seed: int,
    ema: bool = False,
    channels: int = 3,
) -> TrainState:
    """Initialises parameters and optimiser state from `seed`.

    Parameters depend on `seed` only, not on any image size.
    """
    image = jnp.zeros((1, *model.input_size((1, 1)), channels), jnp.float32)

    @jax.jit
    def init(seed):
        variables = model.init(jax.random.key(seed), image, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            seed=seed,
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=tx.init(params),
            ema_params=params if ema else None,
        )

    return init(jnp.asarray(seed, jnp.int32))
