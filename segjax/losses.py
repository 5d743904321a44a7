"""Losses over labelled pixels, as `(sum, weight)`: the caller divides, once."""

import chex
import jax
import jax.numpy as jnp

from segjax.data.labels import VOID


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    pixel_weights: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy, summed over the labelled pixels.

    Void pixels have no part in the value, and their logits, even NaN, get a gradient
    of exactly 0. Sums over shards or micro-batches add up to that of the whole.

    With class weights `w` the sum is that of `w[y] * -log p[y]` and the weight that
    of `w[y]`, so the quotient is the weighted mean, as in PyTorch's
    `CrossEntropyLoss(weight=w)`; multiplying `w` by a constant changes nothing. With
    pixel weights (the border weights of U-Net, arXiv 1505.04597, equation 1) each
    pixel's weight is the product of the two.

    Args:
      logits: float `[b h w k]`; the computation is in float32.
      label: integer `[b h w]`, in `0..k-1` or `VOID`.
      class_weights: `[k]`, finite and >= 0; None counts every class as 1.
      pixel_weights: float `[b h w]`, >= 0; None counts every pixel as 1. Not read
        where the label is void.

    Returns:
      `(sum, weight)`, float32 scalars; `(0, 0)` where nothing is labelled.
    """
    chex.assert_rank([logits, label], [4, 3])
    chex.assert_type([logits, label], [float, int])
    chex.assert_equal_shape_prefix([logits, label], 3)
    num_classes = logits.shape[-1]
    labelled = label != VOID
    # Both are replaced before the loss is taken: 0 * NaN would still be NaN, in the
    # value and in the gradient.
    logits = jnp.where(labelled[..., None], logits.astype(jnp.float32), 0.0)
    target = jnp.where(labelled, label.astype(jnp.int32), 0)
    # A TPU has the classes first in memory (`segjax.ops.class_scores`); left to itself,
    # its compiler would move them.
    log_likelihood = jax.lax.platform_dependent(
        logits, target, tpu=_classes_first, default=_log_likelihood
    )
    if class_weights is None and pixel_weights is None:
        total = -jnp.sum(jnp.where(labelled, log_likelihood, 0.0))
        return total, jnp.sum(labelled, dtype=jnp.int32).astype(jnp.float32)
    weight = jnp.ones(label.shape, jnp.float32)
    if class_weights is not None:
        class_weights = jnp.asarray(class_weights, jnp.float32)
        chex.assert_shape(class_weights, (num_classes,))
        weight = weight * class_weights[target]
    if pixel_weights is not None:
        chex.assert_type(pixel_weights, float)
        chex.assert_equal_shape([pixel_weights, label])
        weight = weight * pixel_weights.astype(jnp.float32)
    weight = jnp.where(labelled, weight, 0.0)
    return -jnp.sum(weight * log_likelihood), jnp.sum(weight)


def _log_likelihood(logits, target, axis=-1):
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, axis % logits.ndim)
    is_target = jnp.expand_dims(target, axis) == classes
    # A masked sum, not a gather: the gradient of a gather is a scatter.
    of_target = jnp.sum(jnp.where(is_target, logits, 0.0), axis=axis)
    return of_target - jax.nn.logsumexp(logits, axis=axis)


def _classes_first(logits, target):
    return _log_likelihood(jnp.moveaxis(logits, -1, 0), target, axis=0)
