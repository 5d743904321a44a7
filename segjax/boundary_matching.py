"""Which boundary pixels of a prediction and of a label are counterparts."""

from collections.abc import Iterable

import numpy as np
import scipy  # whole: it loads `sparse` on first use, which is at the end of a run

from segjax.boundary_pixels import BoundaryPixels


def pairs_within(
    predicted: BoundaryPixels,
    true: BoundaryPixels,
    *,
    radius: float,
    size: tuple[int, int],
) -> "scipy.sparse.csr_array":
    """The pairs of a predicted and a true pixel of one class, at most `radius` apart.

    Looks up every offset of every predicted pixel in a map of the true ones. The
    offsets are a table of a few dozen, so this is faster than a search tree.

    Args:
      predicted: the pixels that are rows of the result.
      true: those that are its columns.
      radius: largest distance in pixels.
      size: height and width of the image.

    Returns:
      int8 `[predicted true]`, 1 for each pair.
    """
    offsets = _disk(radius)
    reach = int(np.abs(offsets).max())
    # A margin as wide as the reach: no lookup leaves the map.
    width = size[1] + 2 * reach
    lookup = np.full((size[0] + 2 * reach) * width, -1, np.int32)
    steps = offsets[:, 0] * width + offsets[:, 1]
    predicted_places = (predicted.rows + reach) * width + predicted.columns + reach
    true_places = (true.rows + reach) * width + true.columns + reach

    degrees = np.zeros(predicted.classes.size, np.int64)
    neighbours = [np.zeros(0, np.int32)]
    for label in np.intersect1d(predicted.classes, true.classes):
        ours = _slice_of(true.classes, label)
        lookup[true_places[ours]] = np.arange(ours.start, ours.stop)
        for theirs in _parts(_slice_of(predicted.classes, label), len(steps)):
            found = lookup[predicted_places[theirs][:, None] + steps[None, :]]
            hit = found >= 0
            degrees[theirs] = np.count_nonzero(hit, axis=1)
            neighbours.append(found[hit])
        lookup[true_places[ours]] = -1
    indices = np.concatenate(neighbours)
    indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)
    return scipy.sparse.csr_array(
        (np.ones(indices.size, np.int8), indices, indptr),
        shape=(predicted.classes.size, true.classes.size),
    )


def matched_one_to_one(
    pairs: "scipy.sparse.csr_array",
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows and which columns a largest one-to-one choice of pairs covers.

    The largest flow from a source through rows, pairs and columns to a sink, one unit
    each. `csgraph.maximum_bipartite_matching` finds the same number, but in SciPy 1.17
    needs minutes for some images where Dinic's flow takes hundredths of a second.
    """
    rows, columns = pairs.shape
    # Nodes: the source, the rows, the columns, the sink; each lists its successors.
    sink = 1 + rows + columns
    successors = [
        np.arange(rows) + 1,
        pairs.indices + (1 + rows),
        np.full(columns, sink),
    ]
    indices = np.concatenate(successors).astype(np.int32)
    degrees = [[0, rows], np.diff(pairs.indptr), np.ones(columns, int), [0]]
    indptr = np.concatenate(degrees).cumsum().astype(np.int32)
    graph = scipy.sparse.csr_array(
        (np.ones(indices.size, np.int32), indices, indptr), shape=(sink + 1, sink + 1)
    )
    flow = scipy.sparse.csgraph.maximum_flow(graph, 0, sink, method="dinic").flow
    sent = flow[[0]].toarray()[0, 1 : 1 + rows]
    # The flow against an edge is that along it with a minus.
    received = -flow[[sink]].toarray()[0, 1 + rows : sink]
    return sent > 0, received > 0


def matched_to_any(pairs: "scipy.sparse.csr_array") -> tuple[np.ndarray, np.ndarray]:
    """Which rows and which columns occur in any pair."""
    columns = np.zeros(pairs.shape[1], bool)
    columns[pairs.indices] = True
    return np.diff(pairs.indptr) > 0, columns


def _slice_of(classes: np.ndarray, label: int) -> slice:
    """Where `label` lies in the sorted `classes`."""
    start, stop = np.searchsorted(classes, [label, label + 1])
    return slice(int(start), int(stop))


def _parts(whole: slice, steps: int) -> Iterable[slice]:
    """Cuts a slice so that a part times `steps` is about a million at most.

    Bounds the memory of a large image, and keeps that of a small one in the cache.
    """
    length = max(1, 2**20 // steps)
    for start in range(whole.start, whole.stop, length):
        yield slice(start, min(start + length, whole.stop))


def _disk(radius: float) -> np.ndarray:
    """The integer offsets no longer than `radius`, int64 `[n 2]`, shortest first."""
    # So that a distance equal to the radius counts whatever the rounding.
    limit = radius**2 * (1 + 1e-9)
    reach = int(radius) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    lengths = rows**2 + columns**2
    order = np.argsort(lengths, axis=None, kind="stable")
    order = order[: np.count_nonzero(lengths <= limit)]
    return np.stack([rows.ravel()[order], columns.ravel()[order]], axis=1)
