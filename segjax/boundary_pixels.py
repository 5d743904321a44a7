"""Boundary pixels: where the classes of a label meet, one pixel wide."""

from typing import Literal, NamedTuple

import numpy as np

from segjax.data.labels import VOID
from segjax.errors import InputError


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Marks the boundary of a mask, one pixel wide.

    A pixel is marked if it, its right, its lower and its lower right neighbour are not
    all equal, neighbours outside the image taken equal to the nearest pixel inside. In
    the last row that leaves the right neighbour, in the last column the lower one, and
    the last corner is never marked. This is what `seg2bdry(mask, 'imageSize')` of BSDS
    comes to: it marks the junctions of the grid of pixel edges that touch an edge
    between different pixels, and copies the border of that grid from next to it.

    Args:
      mask: bool `[h w]`.

    Returns:
      bool `[h w]`; the boundary lies half a pixel above and left of the true edge.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 2:
        raise InputError(
            f"boundary_map: mask is {mask.dtype} with shape {mask.shape}; "
            "expected bool [h w]"
        )
    return _differs(*_blocks(mask))


class BoundaryPixels(NamedTuple):
    """The boundary pixels of all classes, sorted by class, then by position.

    A pixel on the boundary of several classes (they meet there) occurs once for each.
    """

    classes: np.ndarray  # int64 [n]
    rows: np.ndarray  # int64 [n]
    columns: np.ndarray  # int64 [n]


def class_boundaries(
    label: np.ndarray, *, void: Literal["masked", "other"]
) -> BoundaryPixels:
    """The boundary pixels of every class, found in one pass over the label.

    A 2x2 block that is not uniform lies on the boundary of each class in it, and of
    no other: the same as one `boundary_map` per class, for the price of one.

    Args:
      label: uint8 `[h w]`, classes and `VOID`.
      void: `"masked"` or `"other"`, see `segjax.boundary`.
    """
    blocks = _blocks(label)
    rows, columns = np.nonzero(_differs(*blocks))
    members = np.sort([block[rows, columns] for block in blocks], axis=0)
    first = np.ones(members.shape, bool)
    first[1:] = members[1:] != members[:-1]
    first &= members != VOID
    if void == "masked":
        # One class and void is no boundary.
        first &= first.sum(axis=0) > 1
    member, pixel = np.nonzero(first)
    classes = members[member, pixel]
    order = np.lexsort((pixel, classes))
    pixel = pixel[order]
    return BoundaryPixels(classes[order].astype(np.int64), rows[pixel], columns[pixel])


def _blocks(array: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each pixel, its right, lower and lower right neighbour: four times `[h w]`."""
    padded = np.pad(array, ((0, 1), (0, 1)), mode="edge")
    return array, padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]


def _differs(pixel, right, below, across) -> np.ndarray:
    return (pixel != right) | (pixel != below) | (pixel != across)
