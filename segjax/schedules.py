"""Learning rate as a function of the step."""

from typing import Literal

import jax.numpy as jnp
import optax

from segjax.errors import InputError

ScheduleName = Literal["constant", "poly", "cosine"]


def learning_rate(
    name: ScheduleName,
    *,
    peak: float,
    steps: int,
    warmup_steps: int = 0,
    power: float = 0.9,
) -> optax.Schedule:
    """A constant, polynomial or cosine schedule with linear warm-up.

    Steps count from 0. During warm-up the rate is `peak * (step + 1) / warmup_steps`:
    the first update already learns and the last of them is at the peak. Then, with
    `t = (step - warmup_steps) / (steps - warmup_steps)`, it is `peak` (constant),
    `peak * (1 - t) ** power` (poly, DeepLab) or `peak * (1 + cos(pi * t)) / 2`
    (cosine); the last two reach 0 at `steps`, one after the last update, and stay.

    Args:
      name: "constant", "poly" or "cosine".
      peak: highest rate, > 0.
      steps: number of updates of the run, warm-up included.
      warmup_steps: updates of the warm-up, fewer than `steps`.
      power: exponent of poly, > 0.

    Returns:
      An optax schedule: a function of the integer step, traced or not, to a float32
      rate.

    Raises:
      InputError: for an unknown name or an option out of range.
    """
    if not peak > 0:
        raise InputError(f"peak {peak}: expected a learning rate > 0")
    if not 0 <= warmup_steps < steps:
        raise InputError(
            f"warmup_steps {warmup_steps}, steps {steps}: "
            "expected 0 <= warmup_steps < steps"
        )
    if name not in ("constant", "poly", "cosine"):
        raise InputError(f"schedule {name!r}: expected 'constant', 'poly' or 'cosine'")
    if not power > 0:
        raise InputError(f"power {power}: expected a number > 0")

    def schedule(step):
        step = jnp.asarray(step).astype(jnp.float32)
        # Clipped: compiled, the quotient at the end can exceed 1, and a fractional
        # power of what is left would be NaN.
        left = jnp.clip((steps - step) / (steps - warmup_steps), 0.0, 1.0)
        if name == "constant":
            rate = jnp.full_like(step, peak)
        elif name == "poly":
            rate = peak * left**power
        else:
            rate = peak * (1.0 - jnp.cos(jnp.pi * left)) / 2.0
        if warmup_steps == 0:
            return rate
        return jnp.where(step < warmup_steps, peak * (step + 1.0) / warmup_steps, rate)

    return schedule
