"""The plain side: Flax's training state, Optax's loss, `jax.jit`."""

import re
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state
from side_by_side.cases import NUM_CLASSES, Case, Programs
from side_by_side.compiled_phases import make_programs
from side_by_side.plain_networks import build_plain, normalize

from segjax.planning.programs import Program

_VOID = 255
# `nn.ConvTranspose` slides the kernel over the spread input; segjax, as PyTorch, adds
# a copy of it for every pixel. One kernel is the other, turned by half a turn.
_TURNED = re.compile(r"params/decoder/up\d+/kernel")


class TrainState(train_state.TrainState):
    """Flax's state, with the running statistics of batch normalisation."""

    batch_stats: Any


def open_programs(
    case: Case,
    weights: dict[str, np.ndarray],
    image: np.ndarray,
    label: np.ndarray,
    *,
    dtype: str = "float32",
) -> Programs:
    """What the plain network does on the first device; see the segjax side."""
    model = _model(case, dtype)
    device = jax.devices()[0]
    variables = jax.device_put(load(weights), device)
    # A copy: the step donates its state.
    state = jax.tree.map(jnp.copy, _state(model, variables))
    batch = {"image": image, "label": label}
    return make_programs(
        apply=jax.jit(partial(_logits, model=model)),
        train=_jitted_training(),
        predict=jax.jit(partial(_predict, model=model)),
        evaluate=jax.jit(partial(_evaluate, model=model)),
        mean_loss=lambda sums: float(sums["loss"]),
        state=state,
        variables=variables,
        batch=jax.device_put(batch, device),
    )


def load(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """Variables of the plain network from the flat weights of segjax's."""
    loaded = {
        name: weight[::-1, ::-1] if _TURNED.fullmatch(name) else weight
        for name, weight in weights.items()
    }
    return {"batch_stats": {}, **flax.traverse_util.unflatten_dict(loaded, sep="/")}


def training_program(case: Case, device: jax.Device, *, dtype: str) -> Program:
    """The training step as shapes, for `device`, which need not be here."""
    model = _model(case, dtype)
    place = jax.sharding.SingleDeviceSharding(device)
    pixels = (case.batch_size, case.height, case.width)

    def create(key, image):
        variables = model.init(key, image, train=False)
        return _state(model, {"batch_stats": {}, **variables})

    image = jax.ShapeDtypeStruct((*pixels, 3), jnp.float32)
    state = jax.eval_shape(create, jax.random.key(0), image)
    logits = jax.eval_shape(
        partial(_logits, model=model),
        {"params": state.params, "batch_stats": state.batch_stats},
        jax.ShapeDtypeStruct(image.shape, jnp.uint8),
    )
    batch = {
        "image": jax.ShapeDtypeStruct(image.shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct(logits.shape[:3], jnp.uint8),
    }
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        (state, batch),
    )
    return Program(case.batch_size, _jitted_training(), arguments)


def _model(case, dtype):
    return build_plain(
        case.network,
        num_classes=NUM_CLASSES,
        width=case.channels,
        dtype=jnp.dtype(dtype),
    )


def _state(model, variables):
    return TrainState.create(
        apply_fn=model.apply, tx=optax.sgd(0.1, momentum=0.9), **variables
    )


def _jitted_training():
    return jax.jit(_train_step, donate_argnums=0)


def _train_step(state, batch):
    def loss_fn(params):
        logits, updates = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            normalize(batch["image"]),
            train=True,
            mutable=["batch_stats"],
        )
        return _loss(logits, batch["label"]), updates.get("batch_stats", {})

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, batch_stats), grads = grad_fn(state.params)
    state = state.apply_gradients(grads=grads, batch_stats=batch_stats)
    return state, {"loss": loss}


def _loss(logits, label):
    labelled = label != _VOID
    target = jnp.where(labelled, label, 0).astype(jnp.int32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    return jnp.mean(loss, where=labelled)


def _logits(variables, image, *, model):
    return model.apply(variables, normalize(image), train=False)


def _predict(variables, batch, *, model):
    logits = _logits(variables, batch["image"], model=model)
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def _evaluate(variables, batch, *, model):
    logits = _logits(variables, batch["image"], model=model)
    label = batch["label"]
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    cell = label.astype(jnp.int32) * NUM_CLASSES + prediction.astype(jnp.int32)
    cell = jnp.where(label == _VOID, NUM_CLASSES**2, cell).reshape(-1)
    counts = jnp.bincount(cell, length=NUM_CLASSES**2 + 1)[:-1]
    return {
        "loss": _loss(logits, label),
        "confusion": counts.reshape(NUM_CLASSES, NUM_CLASSES),
        "prediction": prediction,
    }
