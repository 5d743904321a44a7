"""Weights from a file that another library wrote, for a network here."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from segjax.errors import InputError
from segjax.port import fcn_release, resnet, segnet_pytorch, unet_pytorch, vgg16
from segjax.port.table import Fit, Port, Shape, convert, fit

logger = logging.getLogger(__name__)

PORTS: tuple[Port, ...] = (
    *vgg16.PORTS,
    *fcn_release.PORTS,
    *segnet_pytorch.PORTS,
    *unet_pytorch.PORTS,
    *resnet.PORTS,
)
"""Every table. Where several fit, the first one is taken."""

# One in every batch normalisation of PyTorch, not worth telling.
_COUNTER = ".num_batches_tracked"
# So many names of each kind are in a message.
_SHOWN = 3


def load(
    tensors: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    network: str,
    file: str,
) -> dict[str, Any]:
    """Finds the table that fits a checkpoint and a network, and converts by it.

    A table fits if the network has all of its layers, the checkpoint has all of its
    tensors and no others, and every shape is right. Layers for other classes are left
    out. What was found, and what of the checkpoint is not used, is logged.

    Args:
      tensors: the checkpoint's, by name.
      variables: the network's: nested dict with `params` and, if it has any,
        `batch_stats`, of arrays or shapes.
      network: its name, for messages.
      file: where the tensors are from, for messages.

    Returns:
      `{"params": ..., "batch_stats": ...}`, nested, float32, with the layers that the
      checkpoint has; without `batch_stats` if it has none.

    Raises:
      InputError: no table fits; the message says for each one that the network has the
        layers of what is missing, unexpected or of another shape. Or a value is not
        finite.
    """
    source = {name: tuple(array.shape) for name, array in tensors.items()}
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    target = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    port, found = _choose(source, target, network=network, file=file)
    if problem := port.check(tensors):
        raise InputError(f"{file}: {problem}")
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{file}: {name} has values that are not finite: these are no sound "
                f"weights of {port.name}"
            )
    logger.info(
        "%s: %s%s; not used: %s",
        file,
        port.name,
        f", without {', '.join(found.other_classes)} (other classes)"
        if found.other_classes
        else "",
        ", ".join(n for n in found.unused if not n.endswith(_COUNTER)) or "none",
    )
    arrays = convert(port, found.taken, tensors)
    arrays |= {path: np.zeros(target[path], np.float32) for path in port.zeros}
    return traverse_util.unflatten_dict(arrays, sep="/")


def _choose(
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    *,
    network: str,
    file: str,
) -> tuple[Port, Fit]:
    """The first table without a mismatch."""
    fits = [
        (port, fit(port, source, target))
        for port in PORTS
        if port.targets <= target.keys()
    ]
    for port, found in fits:
        if not found.mismatches:
            return port, found
    reasons = "; ".join(
        f"{port.name}: {_mismatches(found)}"
        for port, found in sorted(fits, key=lambda pair: pair[1].mismatches)
    )
    known = _recognised(source)
    recognised = f" (it is a {known})" if known else ""
    if not fits:
        raise InputError(
            f"{file}{recognised} does not fit {network}: there is no table for this "
            "network's layers"
        )
    raise InputError(f"{file}{recognised} does not fit {network}; tried {reasons}")


def _recognised(source: Mapping[str, Shape]) -> str | None:
    """What the checkpoint is by its tensors' names, whatever the network."""
    for port in PORTS:
        names = {row.source for row in port.rows}
        others = source.keys() - names
        if names <= source.keys() and all(map(port.is_unused, others)):
            return port.name
    return None


def _mismatches(found: Fit) -> str:
    """All kinds of mismatch, the first few of each by name."""
    reshaped = [
        f"{name} {list(shape)} instead of {list(expected)}"
        for name, shape, expected in found.reshaped
    ]
    kinds = {
        "missing": found.missing,
        "unexpected": found.unexpected,
        "of another shape": reshaped,
    }
    return ", ".join(
        f"{len(names)} {kind} ({_some(names)})"
        for kind, names in kinds.items()
        if names
    )


def _some(names) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
