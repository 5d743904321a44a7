"""A prediction beside its label, checked: what every score of one image starts from."""

import numpy as np

from segjax.data.labels import VOID
from segjax.errors import InputError


def checked_pair(
    prediction: np.ndarray, label: np.ndarray, *, num_classes: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Makes sure that a prediction can be compared with a label.

    Args:
      prediction: integer `[h w]` in `0..num_classes-1`.
      label: integer `[h w]` in `0..num_classes-1` or `VOID`.
      num_classes: k.
      purpose: what is being computed; begins the messages.

    Returns:
      Both as uint8 `[h w]`; a byte holds every class and void.

    Raises:
      InputError: the sizes differ, an array is not an integer `[h w]` of at least one
        pixel, or a value is no class.
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    for name, array in (("prediction", prediction), ("label", label)):
        if not np.issubdtype(array.dtype, np.integer) or array.ndim != 2:
            raise InputError(
                f"{purpose}: {name} is {array.dtype} with shape {array.shape}; "
                "expected an integer [h w]"
            )
    if prediction.shape != label.shape or not label.size:
        raise InputError(
            f"{purpose}: prediction of size {prediction.shape} for a label of size "
            f"{label.shape}; expected equal sizes of at least one pixel"
        )
    if not 1 <= num_classes <= VOID:
        raise InputError(f"{purpose}: {num_classes} classes; expected 1 to {VOID}")
    # The values of a scored label must be classes or void, of a prediction classes.
    for name, values, also in (
        ("prediction", prediction, ""),
        ("label", label[label != VOID], f" or {VOID} (void)"),
    ):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            worst = values.min() if values.min() < 0 else values.max()
            raise InputError(
                f"{purpose}: {name} value {worst}; expected 0..{num_classes - 1}{also}"
            )
    return prediction.astype(np.uint8), label.astype(np.uint8)


def masked(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The prediction, uint8 `[h w]`, made void where the label is void."""
    return np.where(label == VOID, np.uint8(VOID), prediction)
