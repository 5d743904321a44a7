"""Predictor: a run made ready to label images, with nothing but its checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from segjax.data.labels import VOID, LabelTable
from segjax.data.transforms import resize_image
from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from segjax.ops.resampling import resize_bilinear
from segjax.training import checkpoint, parallel
from segjax.training.steps import predict_logits
from segjax.uncertainty import with_dropout


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network with its weights.

    All functions are jitted; a new shape is a new compilation.

    Attributes:
      name: of the network.
      step: updates that its weights have seen.
      table: names and colours of its classes.
      image_size: `(height, width)` that it was trained at; None is the images' own.
      margin: pixels that the network loses on every side; 0 for all networks but
        those with valid padding.
      input_size: `(height, width) -> (height, width)` of the smallest input whose
        scores cover it.
      probabilities: `(images uint8 [n h w 3], size, key=None) -> float32 [n *size k]`;
        images of any size, continued by their mirror image where the network needs it.
      tile: `(images uint8 [n h w 3], key=None) -> float32 [n h-2*margin w-2*margin k]`;
        images of a size that the network takes, and nothing is continued.

    With a key, dropout is left on (Monte-Carlo dropout); InputError for a network that
    has none. On several devices images are split over them, and every image's rows
    (`segjax.training.parallel`); any number of images of any height can be.
    """

    name: str
    step: int
    table: LabelTable
    image_size: tuple[int, int] | None
    margin: int
    input_size: Callable[[tuple[int, int]], tuple[int, int]]
    probabilities: Callable[..., jax.Array]
    tile: Callable[..., jax.Array]


def load_predictor(run: Path, *, mesh: jax.sharding.Mesh | None = None) -> Predictor:
    """Loads the weights that a run's results are of: its last, or its best ones.

    Args:
      run: the folder of a run (`segjax.experiment.train`).
      mesh: of `segjax.training.parallel.make_mesh`; None is the first device.

    Raises:
      InputError: the folder holds no checkpoint of a run, or one that was normalised
        in another way.
    """
    folder = run / "checkpoints"
    saved = checkpoint.read(folder)
    try:
        config, labels = saved.meta["config"], saved.meta["labels"]
        normalization = saved.meta["normalization"]
    except KeyError as error:
        raise InputError(
            f"{folder}: the checkpoint lacks {error}; expected one that training wrote"
        ) from error
    if config["select"] != "last":
        saved = checkpoint.read(folder, best=config["select"])
    known = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    if normalization != known:
        raise InputError(
            f"{folder}: images were normalised by {normalization}, expected {known}"
        )
    table = LabelTable(
        names=tuple(labels["names"]),
        colors=tuple(map(tuple, labels["colors"])),
        raw_ids={**{i: i for i in range(len(labels["names"]))}, VOID: VOID},
        thin=tuple(labels["thin"]),
    )
    model = build_model(
        config["model"],
        num_classes=table.num_classes,
        width=config["width"],
        dropout=config["dropout"],
        dtype=jnp.dtype(config["dtype"]),
    )
    size = config["image_size"]
    return make_predictor(
        model,
        {"params": saved.params, "batch_stats": saved.batch_stats},
        name=config["model"],
        step=saved.step,
        table=table,
        image_size=None if size is None else tuple(size),
        mesh=mesh,
    )


def make_predictor(
    model: nn.Module,
    variables: dict[str, Any],
    *,
    name: str,
    step: int,
    table: LabelTable,
    image_size: tuple[int, int] | None,
    mesh: jax.sharding.Mesh | None = None,
) -> Predictor:
    """Makes a predictor of a network of `segjax.models` and its variables."""
    if mesh is None:
        variables = jax.device_put(variables)
    else:
        variables = parallel.replicate(mesh, variables)

    def logits(state, batch):
        variables, key = state
        images = batch["image"]

        def predict(images):
            size = images.shape[1:3]
            return predict_logits(variables, images, model=model, size=size)

        return predict(images) if key is None else with_dropout(predict)(images, key)

    def finish(logits, size):
        if logits.shape[1:3] != size:
            logits = resize_bilinear(logits, size, align_corners=False)
        return jax.nn.softmax(logits, axis=-1)

    def tile(state, batch):
        variables, key = state
        images = batch["image"]

        def predict(images):
            outputs = model.apply(variables, normalize(images), train=False)
            return jax.nn.softmax(outputs["logits"], axis=-1)

        return predict(images) if key is None else with_dropout(predict)(images, key)

    finish_ = jax.jit(finish, static_argnums=1)

    def compiled(function):
        """`(images, key) -> result` of `(state, batch) -> result`."""
        if mesh is None:
            step = jax.jit(function)
            return lambda images, key: step((variables, key), {"image": images})
        step = parallel.jit_eval_step(function, mesh)

        def run(images, key):
            missing = -len(images) % mesh.shape["data"]
            black = np.zeros((missing, *images.shape[1:]), np.uint8)
            images = np.concatenate([images, black])
            batch = parallel.shard_batch(mesh, {"image": images})
            return step((variables, key), batch)[: len(images) - missing]

        return run

    # The network apart from the resizing: images of many sizes that are seen at one
    # size compile the network once.
    run_logits, run_tile = compiled(logits), compiled(tile)

    def probabilities(images, size, key=None):
        return finish_(run_logits(images, key), tuple(size))

    return Predictor(
        name=name,
        step=step,
        table=table,
        image_size=image_size,
        margin=model.margin,
        input_size=model.input_size,
        probabilities=probabilities,
        tile=lambda images, key=None: run_tile(images, key),
    )


def predict_image(
    predictor: Predictor, image: np.ndarray, *, image_size: tuple[int, int] | None
) -> np.ndarray:
    """Class probabilities of a whole image.

    Args:
      predictor: the network.
      image: uint8 `[h w 3]`.
      image_size: `(height, width)` that the network sees; None is the image's own.
        The probabilities are at the image's own size either way, as in evaluation.

    Returns:
      float32 `[h w k]`.
    """
    seen = see(image[None], image_size)
    return np.asarray(predictor.probabilities(seen, image.shape[:2])[0])


def see(images: np.ndarray, image_size: tuple[int, int] | None) -> np.ndarray:
    """Images `[n h w 3]` at the size that a network sees; None is their own."""
    if image_size is None:
        return images
    return np.stack([resize_image(image, image_size) for image in images])
