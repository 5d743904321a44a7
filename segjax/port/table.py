"""Port: the table from one kind of public checkpoint to the parameters of a network."""

import dataclasses
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a tensor is kept in a checkpoint and here.

    Attributes:
      convert: from the checkpoint's order of axes to ours.
      source_shape: from the shape that is wanted here to that in the checkpoint.
    """

    convert: Callable[[np.ndarray], np.ndarray]
    source_shape: Callable[[Shape], Shape]


VECTOR = Layout(lambda x: x, lambda shape: shape)
"""Biases and batch normalisation: `[c]` in both."""

CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda s: (s[3], s[2], s[0], s[1]))
"""A convolution of PyTorch or Caffe, `[c_out c_in kh kw]`, to `[kh kw c_in c_out]`."""

CONV_TRANSPOSED = Layout(
    lambda x: x.transpose(2, 3, 0, 1), lambda s: (s[2], s[3], s[0], s[1])
)
"""PyTorch's `ConvTranspose2d`, `[c_in c_out kh kw]`, to `[kh kw c_in c_out]`."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor.

    Attributes:
      source: its name in the checkpoint.
      target: its path here, e.g. `params/encoder/conv1_1/conv/kernel`.
      layout: how the two are laid out.
      class_axes: axes of the target that have one entry per class. If the two differ
        there and nowhere else, the network was made for other classes: the target is
        left as it is.
    """

    source: str
    target: str
    layout: Layout
    class_axes: tuple[int, ...] = ()


Arrays = dict[str, np.ndarray]
"""Path here -> values."""


@dataclasses.dataclass(frozen=True)
class Port:
    """The table of one source architecture for the networks that have its layers.

    Attributes:
      name: what the checkpoint is, for people.
      rows: every tensor that is taken, once.
      unused: patterns (`classifier.*`) of the other tensors that its checkpoints may
        have.
      zeros: paths here that the source has no tensor for because it has no bias.
      finish: changes what was converted, by path: folds another input normalisation.
      check: looks at the checkpoint's tensors, by name, and says what is wrong with
        their values, in the unused ones too; None if nothing is.
    """

    name: str
    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    finish: Callable[[Arrays], Arrays] = lambda arrays: arrays
    check: Callable[[Mapping[str, np.ndarray]], str | None] = lambda tensors: None

    @property
    def targets(self) -> set[str]:
        """Every path that it sets."""
        return {row.target for row in self.rows} | set(self.zeros)

    def is_unused(self, name: str) -> bool:
        """Whether its checkpoints may have the tensor `name`, which is not taken."""
        return any(fnmatchcase(name, pattern) for pattern in self.unused)


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a checkpoint and a network go together by a table.

    Attributes:
      missing: tensors that the table names and the checkpoint lacks.
      unexpected: tensors of the checkpoint that the table does not know.
      reshaped: (tensor, its shape, the shape that the network needs).
      taken: rows to convert.
      other_classes: targets that are left because they are for other classes.
      unused: tensors that the table knows and does not take.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, Shape, Shape], ...]
    taken: tuple[Row, ...]
    other_classes: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def mismatches(self) -> int:
        """How many tensors do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)


def fit(port: Port, source: Mapping[str, Shape], target: Mapping[str, Shape]) -> Fit:
    """Compares a checkpoint's tensors with a table, all of them.

    Args:
      port: the table; all of its targets are in `target`.
      source: tensor of the checkpoint -> shape.
      target: path in the network's variables -> shape.
    """
    missing, reshaped, taken, other_classes = [], [], [], []
    for row in port.rows:
        if row.source not in source:
            missing.append(row.source)
            continue
        shape, needed = tuple(source[row.source]), tuple(target[row.target])
        expected = row.layout.source_shape(needed)
        if shape == expected:
            taken.append(row)
        elif _differ_in_classes(row, shape, needed):
            other_classes.append(row.target)
        else:
            reshaped.append((row.source, shape, expected))
    others = sorted(source.keys() - {row.source for row in port.rows})
    return Fit(
        missing=tuple(missing),
        unexpected=tuple(name for name in others if not port.is_unused(name)),
        reshaped=tuple(reshaped),
        taken=tuple(taken),
        other_classes=tuple(other_classes),
        unused=tuple(name for name in others if port.is_unused(name)),
    )


def _differ_in_classes(row: Row, shape: Shape, needed: Shape) -> bool:
    """Whether a tensor of `shape` would have the needed one but for its classes."""
    wildcard = -1
    classes = {axis % len(needed) for axis in row.class_axes}
    if not classes or len(shape) != len(needed):
        return False
    marked = tuple(wildcard if i in classes else n for i, n in enumerate(needed))
    return all(
        b == wildcard or a == b
        for a, b in zip(shape, row.layout.source_shape(marked), strict=True)
    )


def convert(
    port: Port, taken: tuple[Row, ...], tensors: Mapping[str, np.ndarray]
) -> Arrays:
    """The arrays of `taken` by path, finished, as float32."""
    arrays = {
        row.target: row.layout.convert(np.asarray(tensors[row.source], np.float32))
        for row in taken
    }
    return port.finish(arrays)
