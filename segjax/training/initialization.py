"""Starting a network from another one's weights, as staged training does."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from segjax.errors import InputError

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Report:
    """What a transfer did, by paths such as `score_pool4/kernel`, sorted.

    Attributes:
      copied: in both; the source's values were taken.
      kept: in the new network only, which keeps its own values.
      ignored: in the source only.
    """

    copied: tuple[str, ...]
    kept: tuple[str, ...]
    ignored: tuple[str, ...]


def transfer(params: Tree, source: Any) -> tuple[Tree, Report]:
    """Replaces every leaf of `params` that `source` has, too, by the source's.

    Staged training starts FCN-16s from a trained FCN-32s and FCN-8s from that (FCN,
    arXiv 1411.4038, section 4.2). The new score layers are zero, so before the first
    step the finer net predicts what the coarser one does, up to the interpolation:
    its logits are the coarser net's finest scores upsampled first by 2 and then by
    the rest. With the coarser net at stride `s`, both interpolations agree exactly
    at the image rows and columns that lie in the middle half between two of its
    scores. Elsewhere, going by 2 first rounds off the corner that linear
    interpolation has at each score, by at most 1/8 of the second difference there.

    Works on any pytree of arrays: `params`, `batch_stats`, or a dict of both. Call it
    before the state is spread over devices.

    Args:
      params: The new network's variables, initialised.
      source: The variables to start from; nested like `params` where they share
        layers.

    Returns:
      A tree of the structure, shapes and types of `params`, sharing no buffer with
      `source`, so that donating it leaves `source` alone; and the report.

    Raises:
      InputError: No path is in both trees, or one is in both with different shapes.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    new = {_name(path): leaf for path, leaf in leaves}
    old = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(source)}
    copied = new.keys() & old.keys()
    if not copied:
        raise InputError(
            "nothing to transfer: no path is in both networks; the new one has "
            f"{_some(new)}, the source {_some(old)}"
        )
    for name in sorted(copied):
        if jnp.shape(new[name]) != jnp.shape(old[name]):
            raise InputError(
                f"{name} has shape {jnp.shape(new[name])} in the new network and "
                f"{jnp.shape(old[name])} in the source: expected equal shapes (take it "
                "out of the source to start that layer anew)"
            )
    values = [
        jnp.array(old[name], dtype=leaf.dtype) if name in copied else leaf
        for name, leaf in new.items()
    ]
    report = Report(
        copied=tuple(sorted(copied)),
        kept=tuple(sorted(new.keys() - copied)),
        ignored=tuple(sorted(old.keys() - copied)),
    )
    return jax.tree.unflatten(structure, values), report


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _some(names) -> str:
    """The first few of `names`, for a message of one line."""
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing"
