"""What a data set looks like to everything that reads one."""

from typing import Protocol, TypedDict

import numpy as np


class Example(TypedDict):
    """One image and its label.

    Attributes:
      image: uint8 `[h w 3]`.
      label: uint8 `[h w]`, in `0..num_classes-1` or 255 = void.
      id: names the example in messages.
    """

    image: np.ndarray
    label: np.ndarray
    id: str


class Source(Protocol):
    """Random access to examples; `source[i]` may be called from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
