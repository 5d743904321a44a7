"""What is told about an image: its label, and on request how sure the network is."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

from segjax import uncertainty
from segjax.inference.stream import Maps

Predict = Callable[[np.ndarray], jax.Array | np.ndarray]
"""Images uint8 `[n h w 3]` -> class probabilities float32 `[n h w k]`."""


def predict_maps(
    images: np.ndarray,
    members: Sequence[Predict],
    *,
    with_probabilities: bool = False,
    with_uncertainty: bool = False,
) -> Maps:
    """Predicts images by the mean probabilities of one or several members.

    Members are the networks of an ensemble, or samples of one that leaves its dropout
    on; see `segjax.uncertainty` for what is said of them.

    Args:
      images: uint8 `[n h w 3]`.
      members: at least one.
      with_probabilities: whether to return them.
      with_uncertainty: whether to return the entropy and, of several members, the
        mutual information.

    Returns:
      `label` uint8 `[n h w]`, the most probable class; on request `probabilities`
      float16 `[n h w k]`, `entropy` and `mutual_information` float32 `[n h w]` in
      nats, 0..log(k).
    """
    maps = (jnp.asarray(member(images)) for member in members)
    if len(members) == 1:
        (mean,) = maps
        return _report(
            mean,
            with_probabilities=with_probabilities,
            with_entropy=with_uncertainty,
        )
    found = uncertainty.from_maps(maps)
    report = _report(
        found.mean,
        with_probabilities=with_probabilities,
        with_entropy=with_uncertainty,
    )
    if with_uncertainty:
        report["mutual_information"] = found.mutual_information
    return report


@partial(jax.jit, static_argnames=("with_probabilities", "with_entropy"))
def _report(mean, *, with_probabilities, with_entropy):
    report = {"label": jnp.argmax(mean, axis=-1).astype(jnp.uint8)}
    if with_probabilities:
        report["probabilities"] = mean.astype(jnp.float16)
    if with_entropy:
        report["entropy"] = jnp.sum(entr(mean), axis=-1)
    return report
