"""The segjax side: the library's own steps, compiled as a run compiles them."""

from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from side_by_side.cases import NUM_CLASSES, Case, Programs
from side_by_side.compiled_phases import make_programs

from segjax import losses, metrics
from segjax.data.labels import VOID
from segjax.models.zoo import build_model
from segjax.ops.normalization import normalize
from segjax.planning.programs import Program
from segjax.training import parallel, steps
from segjax.training.optimizers import make_optimizer
from segjax.training.state import TrainState, create_state

_SPREAD = 0.1


def initial_weights(case: Case) -> dict[str, np.ndarray]:
    """Weights that all sides start from, by names like `params/encoder/.../kernel`.

    They are those that segjax draws for seed 0, but for what starts constant: scales
    and biases, batch statistics and FCN's score layers are moved away from it, each value
    on its own. Otherwise two networks could differ in them and give the same logits.
    """
    state = create_state(_model(case), optax.identity(), seed=0)
    weights = flax.traverse_util.flatten_dict(state.eval_variables, sep="/")
    rng = np.random.default_rng(0)
    return {name: _moved(weights[name], rng) for name in sorted(weights)}


def logits_size(case: Case) -> tuple[int, int]:
    """Height and width of the logits: the image's, but for valid convolutions."""
    margin = _model(case).margin
    return case.height - 2 * margin, case.width - 2 * margin


def open_programs(
    case: Case,
    weights: dict[str, np.ndarray],
    image: np.ndarray,
    label: np.ndarray,
    *,
    dtype: str = "float32",
) -> Programs:
    """What segjax does with `case` on the first device.

    Args:
      case: the network.
      weights: as `initial_weights` names them.
      image: uint8 `[b h w 3]`.
      label: uint8 `[b h' w']`, of the size of the logits.
      dtype: of the computation.
    """
    model = _model(case, dtype)
    mesh = parallel.make_mesh(jax.devices()[:1])
    margin = [(0, 0), (model.margin, model.margin), (model.margin, model.margin)]
    batch = {
        "image": image,
        # As large as the image: the steps drop what the network loses.
        "label": np.pad(label, margin, constant_values=VOID),
        "valid": np.ones(len(image), bool),
    }
    variables = parallel.replicate(mesh, _nested(weights))
    state = parallel.replicate(mesh, _state(_nested(weights)))
    on_mesh = partial(parallel.jit_eval_step, mesh=mesh)
    return make_programs(
        apply=jax.jit(partial(_logits, model=model)),
        train=_jitted_training(model, mesh),
        predict=on_mesh(partial(_predict, model=model)),
        evaluate=on_mesh(partial(_evaluate, model=model)),
        mean_loss=lambda sums: float(sums["loss_sum"]) / float(sums["loss_weight"]),
        state=state,
        variables=variables,
        batch=parallel.shard_batch(mesh, batch),
    )


def training_program(case: Case, device: jax.Device, *, dtype: str) -> Program:
    """The training step as shapes, for `device`, which need not be here."""
    model = _model(case, dtype)
    pixels = (case.batch_size, case.height, case.width)
    batch = {
        "image": jax.ShapeDtypeStruct((*pixels, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct(pixels, jnp.uint8),
    }
    state = jax.eval_shape(partial(create_state, model, _optimizer(), seed=0))
    step = _jitted_training(model, parallel.make_mesh([device]))
    return Program(case.batch_size, step, (state, batch))


def _model(case: Case, dtype: str = "float32") -> nn.Module:
    return build_model(
        case.network,
        num_classes=NUM_CLASSES,
        width=case.channels,
        dtype=jnp.dtype(dtype),
    )


def _optimizer() -> optax.GradientTransformation:
    return make_optimizer("sgd", optax.constant_schedule(0.1), momentum=0.9)


def _moved(leaf, rng):
    leaf = np.array(leaf)
    if leaf.min() < leaf.max():
        return leaf
    noise = rng.normal(size=leaf.shape).astype(leaf.dtype)
    if leaf.ndim > 1:
        return leaf + noise / np.sqrt(np.prod(leaf.shape[:-1]), dtype=leaf.dtype)
    # Scales and variances stay positive.
    return leaf + _SPREAD * np.clip(noise, -3, 3)


def _nested(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    nested = flax.traverse_util.unflatten_dict(weights, sep="/")
    return {"batch_stats": {}, **nested}


def _state(variables: dict[str, Any]) -> TrainState:
    return TrainState(
        step=np.zeros((), np.int32),
        seed=np.zeros((), np.int32),
        opt_state=_optimizer().init(variables["params"]),
        **variables,
    )


def _jitted_training(model, mesh):
    step = partial(steps.train_step, model=model, tx=_optimizer())
    return parallel.jit_train_step(step, mesh)


def _logits(variables, image, *, model):
    return model.apply(variables, normalize(image), train=False)["logits"]


def _predict(variables, batch, *, model):
    if not model.margin:
        return steps.predict_step(variables, batch, model=model)
    # The step would continue the image by a margin, which is in this image already.
    logits = _logits(variables, batch["image"], model=model)
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def _evaluate(variables, batch, *, model):
    if not model.margin:
        return steps.eval_step(variables, batch, model=model, num_classes=NUM_CLASSES)
    logits = _logits(variables, batch["image"], model=model)
    inside = slice(model.margin, -model.margin)
    label = batch["label"][:, inside, inside]
    loss_sum, loss_weight = losses.cross_entropy(logits, label)
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    return {
        "confusion": metrics.confusion_matrix(prediction, label, NUM_CLASSES),
        "loss_sum": loss_sum,
        "loss_weight": loss_weight,
        "prediction": prediction,
    }
