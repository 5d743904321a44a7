"""The ways to look at an image, put together: networks, samples, windows and views."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from segjax.errors import InputError
from segjax.inference.augmented import predict_augmented
from segjax.inference.maps import Predict
from segjax.inference.overlap_tile import exact_tiles, predict_tiles
from segjax.inference.predictor import Predictor, see
from segjax.inference.windows import Blend, predict_windows


@dataclasses.dataclass(frozen=True)
class Views:
    """How one network sees one image.

    Attributes:
      native_size: at the image's own size, not the one that the network was trained
        at.
      window: height and width of a sliding window at the image's own size, enlarged
        to what the network takes; None is the whole image.
      overlap: least share of a window in common with the next one.
      blend: the windows' weights, see `windows.blend_weights`.
      tile: height and width of tiles that do not overlap, instead of windows.
      context: pixels of the image around a tile that the network sees; None is the
        margin that it loses.
      scales: the image's, averaged.
      flip: whether the mirror image is averaged in, too.
    """

    native_size: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 0.5
    blend: Blend = "gaussian"
    tile: tuple[int, int] | None = None
    context: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


def make_members(
    predictors: Sequence[Predictor],
    views: Views,
    *,
    dropout_samples: int = 0,
    seed: int = 0,
) -> list[Predict]:
    """One member for each network, or for each dropout sample of each network.

    A sample's masks follow from the seed and the sample's number, so an image's
    result does not depend on what else is predicted with it.

    Args:
      predictors: at least one; they know the same classes.
      views: how each sees an image.
      dropout_samples: samples with dropout left on; 0 is the network without it.
      seed: of the samples.

    Raises:
      InputError: the networks' classes differ, or `dropout_samples` is negative.
    """
    first = predictors[0].table.names
    for predictor in predictors:
        if predictor.table.names != first:
            raise InputError(
                f"an ensemble needs the same classes: {predictors[0].name} knows "
                f"{', '.join(first)}, but {predictor.name} knows "
                f"{', '.join(predictor.table.names)}"
            )
    if dropout_samples < 0:
        raise InputError(f"dropout_samples {dropout_samples}: expected at least 0")
    keys = [None]
    if dropout_samples:
        keys = jax.random.split(jax.random.key(seed), dropout_samples)
    return [
        partial(_predict, predictor, views, key)
        for predictor in predictors
        for key in keys
    ]


def _predict(predictor, views, key, images):
    one_by_one = (
        key is not None  # dropout masks would depend on an image's place in its batch
        or views.window is not None
        or views.tile is not None
        or views.flip
        or views.scales != (1.0,)
    )
    if not one_by_one:
        return _whole(predictor, views, key, images)
    return np.stack([_predict_one(predictor, views, key, image) for image in images])


def _predict_one(predictor, views, key, image):
    def view(image):
        if views.window is None and views.tile is None:
            return np.asarray(_whole(predictor, views, key, image[None])[0])
        predict = partial(predictor.tile, key=key)
        if views.tile is not None:
            return _tiles(predictor, views, predict, image)
        return predict_windows(
            image,
            predict,
            input_size=predictor.input_size(views.window),
            margin=predictor.margin,
            overlap=views.overlap,
            blend=views.blend,
        )

    if views.scales == (1.0,) and not views.flip:
        return view(image)
    return predict_augmented(
        image, view, scales=views.scales, horizontal_flip=views.flip
    )


def _tiles(predictor, views, predict, image):
    options = exact_tiles(
        predictor.input_size,
        predictor.margin,
        tile=views.tile,
        context=views.context,
    )
    return predict_tiles(image, predict, **options)


def _whole(predictor, views, key, images):
    seen = see(images, None if views.native_size else predictor.image_size)
    return predictor.probabilities(seen, images.shape[1:3], key)
