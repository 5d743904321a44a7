"""Weights that teach a network the borders between touching cells."""

from collections.abc import Sequence

import numpy as np
import scipy  # whole: it loads `ndimage` on first use

from segjax.data.labels import VOID

# A cell farther than this many sigma is not looked at.
_REACH = 6


def border_weights(
    label: np.ndarray,
    *,
    cell_class: int,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Pixel weights that are large where two cells are close to each other.

    `w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 * sigma^2))`, with d1 and d2 the
    distances to the nearest and the second nearest cell.

    Source: U-Net (arXiv 1505.04597), equation 2, with its w0 = 10 and sigma = 5
    pixels. What the paper leaves open is chosen so: a cell is a connected component
    of pixels of `cell_class`, where pixels that touch only at a corner are not
    connected. Cells that touch must be separated in the label already (by a line of
    another class, which the paper draws by morphological operations); two that are
    not count as one. The distance to a cell is that from the pixel's centre to the
    centre of the cell's nearest pixel, so it is 0 on the whole cell and 1 next to
    it, and pixels of a cell near its neighbour are weighted, too. Every pixel gets
    the second term, whatever its class, where there are two cells at least.

    A cell is looked at only in its bounding box, grown by 6 sigma. What that leaves
    out is less than `w0 * exp(-18)`, that is 1.6e-8 * w0, at any pixel.

    Args:
      label: uint8 `[h w]`, class indices or `VOID`.
      cell_class: the class whose connected components are cells.
      w0: weight of a pixel between two cells that touch, above w_c; >= 0.
      sigma: in pixels, how fast it decreases; > 0.
      class_weights: w_c, `[num_classes]`; None is 1 for every class.

    Returns:
      float32 `[h w]`; 0 where the label is void.
    """
    if label.ndim != 2 or label.dtype != np.uint8:
        raise ValueError(f"label is {label.dtype} {label.shape}, expected uint8 [h w]")
    labelled = label != VOID
    weights = labelled.astype(np.float32)
    if class_weights is not None:
        weights[labelled] = np.asarray(class_weights, np.float32)[label[labelled]]
    cells, _ = scipy.ndimage.label(label == cell_class)
    nearest = np.full(label.shape, np.inf, np.float32)
    second = nearest.copy()
    reach = int(np.ceil(_REACH * sigma))
    for number, (rows, columns) in enumerate(
        scipy.ndimage.find_objects(cells), start=1
    ):
        box = (
            slice(max(0, rows.start - reach), rows.stop + reach),
            slice(max(0, columns.start - reach), columns.stop + reach),
        )
        distance = scipy.ndimage.distance_transform_edt(cells[box] != number)
        distance = distance.astype(np.float32)
        second[box] = np.minimum(second[box], np.maximum(nearest[box], distance))
        nearest[box] = np.minimum(nearest[box], distance)
    border = np.exp((nearest + second) ** 2 * np.float32(-0.5 / sigma**2))
    return weights + np.float32(w0) * border * labelled
