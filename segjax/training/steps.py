"""One training step, one evaluation step, one prediction: pure, device-agnostic.

A step reads no flag, no clock and no device count. Sums leave it, not means: the
host divides once, so the figures do not depend on how a batch was split.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from segjax import losses, metrics
from segjax.models.segmenter import Segmenter
from segjax.ops.normalization import normalize
from segjax.ops.resampling import crop_to, resize_bilinear
from segjax.training.state import TrainState

Batch = dict[str, jax.Array]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Segmenter,
    tx: optax.GradientTransformation,
    class_weights: jax.Array | None = None,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update on the weighted mean cross-entropy of the batch's labelled pixels.

    With `accumulate` n the batch goes through the network in n parts, one after the
    other, in the memory of one: image `i` in part `i % n`, so that a part has the same
    images on any number of devices. The sums of loss, weight and gradient are added up
    before the one division, so without batch normalisation the update is that of
    the whole batch, however its void pixels lie. Batch normalisation sees one part at
    a time and uses that part's statistics, as a smaller batch would. Each part
    starts from the same running statistics, and the mean of the results is kept:
    one step of the running average towards the mean of the parts' means and variances,
    which are what the layers divided by. The variance between the parts' means is in
    neither.

    Args:
      state: where training stands.
      batch: `image` uint8 `[b h w 3]`, `label` uint8 `[b h w]`, 255 = void, and
        maybe `weight` float32 `[b h w]`, factors on the pixels' class weights. Where
        the network loses a margin, the label and the weight lose it, too.
      model: the network; its `axis_name` must be this `axis_name`.
      tx: the optimiser.
      class_weights: `[k]`, or None for all one.
      ema_decay: of the moving average, read only if `state` keeps one.
      accumulate: parts, a divisor of the images (of each device).
      axis_name: pmapped axis, over which sums are added before any division. None
        under jit, where the batch is the whole batch already.

    Returns:
      The next state, and sums: `loss_sum`, `loss_weight`, `grad_norm` (a norm, of
      the gradient before clipping).
    """
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

    def loss_fn(params, batch, key):
        outputs, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            normalize(batch["image"]),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        logits = outputs["logits"]
        covered = partial(
            crop_to, size=logits.shape[1:3], offset=(model.margin, model.margin)
        )
        loss_sum, loss_weight = losses.cross_entropy(
            logits,
            covered(batch["label"]),
            class_weights=class_weights,
            pixel_weights=covered(batch["weight"]) if "weight" in batch else None,
        )
        return loss_sum, (loss_weight, updates.get("batch_stats", {}))

    def sums_of(batch, key):
        (loss_sum, (loss_weight, batch_stats)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.params, batch, key)
        return (loss_sum, loss_weight, grads), batch_stats

    if accumulate == 1:
        sums, batch_stats = sums_of(batch, key)
    else:
        sums, batch_stats = _accumulate(sums_of, batch, key, parts=accumulate)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    loss_sum, loss_weight, grads = sums
    # A batch of nothing but void has weight 0 and gradient 0: no update, no NaN.
    scale = 1.0 / jnp.where(loss_weight > 0, loss_weight, 1.0)
    grads = jax.tree.map(lambda g: g * scale, grads)

    updates_params, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates_params)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
    next_state = TrainState(
        step=state.step + 1,
        seed=state.seed,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=ema_params,
    )
    sums = {
        "loss_sum": loss_sum,
        "loss_weight": loss_weight,
        "grad_norm": optax.tree.norm(grads),
    }
    return next_state, sums


def _accumulate(sums_of, batch, key, *, parts):
    """Adds up the sums of `parts` parts of a batch; means of their statistics."""

    def split(x):
        # Neighbouring images go to different parts: a device that holds neighbours has
        # work in each part.
        chex.assert_is_divisible(x.shape[0], parts)
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    def add(total, part):
        index, rows = part
        result = sums_of(rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, result), None

    split_batch = {name: split(batch[name]) for name in batch}
    first = jax.tree.map(lambda x: x[0], split_batch)
    shapes = jax.eval_shape(sums_of, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (sums, statistics), _ = jax.lax.scan(add, zeros, (jnp.arange(parts), split_batch))
    return sums, jax.tree.map(lambda x: x / parts, statistics)


def predict_logits(
    variables: dict[str, Any],
    image: jax.Array,
    *,
    model: Segmenter,
    size: tuple[int, int],
) -> jax.Array:
    """Class scores at `size` for images of any size.

    The image `[b h w 3]` uint8 is continued by its mirror image, by the network's
    margin at the top and left and at the bottom and right to a size that it can take;
    the scores of what was added are dropped, and the logits, not the label, are
    resized to `size`. Returns float32 `[b *size k]`.
    """
    height, width = image.shape[1:3]
    padded_size = model.input_size((height, width))
    before = model.margin
    rows, columns = (
        (before, padded - before - side)
        for padded, side in zip(padded_size, (height, width), strict=True)
    )
    padded = jnp.pad(image, ((0, 0), rows, columns, (0, 0)), mode="symmetric")
    logits = model.apply(variables, normalize(padded), train=False)["logits"]
    logits = crop_to(logits, (height, width))
    if logits.shape[1:3] != tuple(size):
        logits = resize_bilinear(logits, size, align_corners=False)
    return logits


def eval_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: Segmenter,
    num_classes: int,
    class_weights: jax.Array | None = None,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Predicts and scores one batch at the label's resolution.

    Args:
      variables: of the model, `params` and `batch_stats`.
      batch: as in training, plus `valid` bool `[b]`, False on rows that pad.
      model: the network.
      num_classes: classes of the confusion matrix.
      class_weights: of the loss.
      axis_name: pmapped axis, over which sums are added. None under jit.

    Returns:
      Sums: `confusion` int32 `[k k]` (rows true, columns predicted), `loss_sum`,
      `loss_weight`, and `seen` int32, the number of valid images. And `prediction`
      uint8 `[b h w]`, the most probable class of every pixel.
    """
    label = batch["label"]
    logits = predict_logits(
        variables, batch["image"], model=model, size=label.shape[1:3]
    )
    loss_sum, loss_weight = losses.cross_entropy(
        logits, label, class_weights=class_weights
    )
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    sums = {
        "confusion": metrics.confusion_matrix(prediction, label, num_classes),
        "loss_sum": loss_sum,
        "loss_weight": loss_weight,
        "seen": jnp.sum(batch["valid"].astype(jnp.int32)),
    }
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    return {**sums, "prediction": prediction}


def predict_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: Segmenter,
) -> jax.Array:
    """Most probable class of every pixel, uint8, at the label's resolution."""
    size = batch["label"].shape[1:3]
    logits = predict_logits(variables, batch["image"], model=model, size=size)
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)
