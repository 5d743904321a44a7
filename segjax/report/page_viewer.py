"""What the viewer of the report page shows, packed for the browser.

Class maps travel as PNGs with a palette of grey levels and are turned into colours
and error maps in the browser: a level says which class a pixel has, whatever the
classes' colours are.
"""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from segjax.data.labels import VOID
from segjax.errors import InputError
from segjax.report.comparison import Comparison

# Quality at which 8x8 block artefacts cannot be seen at the viewer's magnification.
_JPEG = {"format": "JPEG", "quality": 92, "subsampling": 0, "optimize": True}


def viewer_data(comparison: Comparison) -> dict[str, Any]:
    """The viewer's images as a JSON object, PNG and JPEG as data URIs.

    Returns:
      `classes` (name, color), `step` (levels between two classes, see
      `encode_classes`), `strategies` (names), `tolerance` (share of the diagonal
      that boundary F1 allows) and `images`, each with `name`, `width` and `height` of
      the label, `image`, `label`, `predictions`, `disagreement` and `errors` (one
      per strategy; null where no pixel is labelled).

    Raises:
      InputError: counts, shapes or types of images, labels and predictions differ
        from each other or from the contract of `Comparison`.
    """
    _check(comparison)
    num_classes = comparison.table.num_classes
    images = []
    for i, (name, image, label) in enumerate(
        zip(comparison.image_ids, comparison.images, comparison.labels, strict=True)
    ):
        predictions = [strategy.predictions[i] for strategy in comparison.strategies]
        images.append(
            {
                "name": name,
                "width": label.shape[1],
                "height": label.shape[0],
                "image": encode_image(image),
                "label": encode_classes(label, num_classes),
                "predictions": [encode_classes(p, num_classes) for p in predictions],
                "disagreement": _or_null(disagreement(predictions, label)),
                "errors": [_or_null(error_share(p, label)) for p in predictions],
            }
        )
    return {
        "classes": [
            {"name": name, "color": [int(value) for value in color]}
            for name, color in zip(
                comparison.table.names, comparison.table.colors, strict=True
            )
        ],
        "step": _step(num_classes),
        "strategies": [strategy.name for strategy in comparison.strategies],
        "images": images,
    }


def disagreement(predictions: Sequence[np.ndarray], label: np.ndarray) -> float:
    """Share of labelled pixels that not all predictions give one class; NaN if none.

    Args:
      predictions: uint8 `[h w]` each.
      label: uint8 `[h w]`, 255 = void.
    """
    labelled = label != VOID
    stack = np.stack(predictions)
    differ = (stack != stack[0]).any(axis=0)
    return float(differ[labelled].mean()) if labelled.any() else math.nan


def error_share(prediction: np.ndarray, label: np.ndarray) -> float:
    """Share of labelled pixels that `prediction` has wrong; NaN if none is labelled."""
    labelled = label != VOID
    wrong = prediction[labelled] != label[labelled]
    return float(wrong.mean()) if labelled.any() else math.nan


def encode_classes(label: np.ndarray, num_classes: int) -> str:
    """A class map as the data URI of a PNG with a palette.

    Class k has the grey level `k * step` and void `num_classes * step`, with
    `step = 255 // num_classes`: as far apart as can be, because some browsers add
    noise to pixels that a script reads.

    Args:
      label: uint8 `[h w]` in 0..num_classes-1 or 255.
      num_classes: at most 254.
    """
    index = np.where(label == VOID, np.uint8(num_classes), label)
    picture = Image.fromarray(index)
    levels = [k * _step(num_classes) for k in range(num_classes + 1)]
    picture.putpalette([level for level in levels for _ in range(3)])
    return _data_uri(picture, format="PNG", optimize=True)


def encode_image(image: np.ndarray) -> str:
    """An image as a data URI: exact as PNG, or as JPEG where that is much smaller."""
    picture = Image.fromarray(image)
    exact = _data_uri(picture, format="PNG", optimize=True)
    small = _data_uri(picture, **_JPEG)
    return small if 2 * len(small) < len(exact) else exact


def _step(num_classes: int) -> int:
    return 255 // num_classes


def _data_uri(picture: Image.Image, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{options['format'].lower()};base64,{data}"


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _check(comparison: Comparison) -> None:
    count = len(comparison.image_ids)
    for field in ("images", "labels"):
        if len(getattr(comparison, field)) != count:
            raise InputError(
                f"comparison has {len(getattr(comparison, field))} {field} but {count} "
                "image_ids; expected as many"
            )
    for name, image, label in zip(
        comparison.image_ids, comparison.images, comparison.labels, strict=True
    ):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f"image {name!r} is {image.dtype} {image.shape}; expected uint8 [h w 3]"
            )
        _check_classes(label, comparison.table.num_classes, f"label of {name!r}")
    for strategy in comparison.strategies:
        if len(strategy.predictions) != count:
            raise InputError(
                f"{strategy.name} has {len(strategy.predictions)} predictions for "
                f"{count} images; expected as many"
            )
        for name, label, prediction in zip(
            comparison.image_ids, comparison.labels, strategy.predictions, strict=True
        ):
            what = f"prediction of {strategy.name} for {name!r}"
            _check_classes(prediction, comparison.table.num_classes, what)
            if prediction.shape != label.shape:
                raise InputError(
                    f"{what} is {prediction.shape}; expected the label's {label.shape}"
                )


def _check_classes(label: np.ndarray, num_classes: int, what: str) -> None:
    if label.dtype != np.uint8 or label.ndim != 2:
        raise InputError(f"{what} is {label.dtype} {label.shape}; expected uint8 [h w]")
    outside = label[(label >= num_classes) & (label != VOID)]
    if outside.size:
        raise InputError(
            f"{what} has value {outside[0]}; expected 0..{num_classes - 1} or {VOID}"
        )
