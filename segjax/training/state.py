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
      step: int32 scalar, number of updates done; randomness is derived from it.
      params: trainable parameters, float32.
      batch_stats: running statistics of batch normalisation, float32.
      opt_state: Optax's state.
      ema_params: exponential moving average of `params`, or None if not kept.
    """

    step: jax.Array
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
    key: jax.Array,
    ema: bool = False,
    channels: int = 3,
) -> TrainState:
    """Initialises parameters and optimiser state from `key`.

    Parameters depend on `key` only, not on any image size.
    """
    side = 2 * model.multiple
    image = jnp.zeros((1, side, side, channels), jnp.float32)

    @jax.jit
    def init(key):
        variables = model.init(key, image, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=tx.init(params),
            ema_params=params if ema else None,
        )

    return init(key)
