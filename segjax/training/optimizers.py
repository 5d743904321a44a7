"""Optimisers by name: SGD with momentum and AdamW, with clipping."""

from typing import Any, Literal

import jax
import optax

OptimizerName = Literal["sgd", "adamw"]


def decayed(params: Any) -> Any:
    """Which parameters weight decay applies to: kernels, not biases or BN's.

    The SegNet prototxts set decay 0 on biases; scale and offset of batch
    normalisation are left alone likewise.
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    name: OptimizerName,
    learning_rate: optax.Schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Gradient to update, by name.

    Args:
      name: `sgd` (with heavy-ball momentum; weight decay is added to the gradient,
        Caffe's and PyTorch's L2) or `adamw` (decoupled weight decay, `momentum` is
        its first beta, the second is 0.999).
      learning_rate: step -> rate.
      momentum: see above.
      weight_decay: factor, on kernels only.
      clip_norm: largest global norm of the gradient, clipped before anything else;
        None does not clip.
    """
    clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if name == "sgd":
        return optax.chain(
            *clip,
            optax.add_decayed_weights(weight_decay, mask=decayed),
            optax.sgd(learning_rate, momentum=momentum),
        )
    return optax.chain(
        *clip,
        optax.adamw(
            learning_rate, b1=momentum, weight_decay=weight_decay, mask=decayed
        ),
    )
