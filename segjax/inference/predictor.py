"""Predictor: a run made ready to label images, with nothing but its checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.labels import VOID, LabelTable
from segjax.data.transforms import resize_image
from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from segjax.training import checkpoint
from segjax.training.steps import predict_logits


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network with its weights.

    Attributes:
      name: of the network.
      step: updates that its weights have seen.
      table: names and colours of its classes.
      image_size: `(height, width)` that it was trained at; None is the images' own.
      probabilities: `(images uint8 [n h w 3], size) -> float32 [n *size k]`, jitted:
        a new shape is a new compilation.
    """

    name: str
    step: int
    table: LabelTable
    image_size: tuple[int, int] | None
    probabilities: Callable[[np.ndarray, tuple[int, int]], jax.Array]


def load_predictor(run: Path) -> Predictor:
    """Loads the weights that a run's results are of: its last, or its best ones.

    Args:
      run: the folder of a run (`segjax.experiment.train`).

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
    variables = jax.device_put(
        {"params": saved.params, "batch_stats": saved.batch_stats}
    )

    def probabilities(variables, images, size):
        logits = predict_logits(variables, images, model=model, size=size)
        return jax.nn.softmax(logits, axis=-1)

    jitted = jax.jit(probabilities, static_argnums=2)
    size = config["image_size"]
    return Predictor(
        name=config["model"],
        step=saved.step,
        table=table,
        image_size=None if size is None else tuple(size),
        probabilities=lambda images, size: jitted(variables, images, tuple(size)),
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
    seen = image if image_size is None else resize_image(image, image_size)
    return np.asarray(predictor.probabilities(seen[None], image.shape[:2])[0])
