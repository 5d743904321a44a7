"""What a data set looks like to everything that reads one."""

from typing import Protocol, TypedDict

import numpy as np

from segjax.errors import InputError


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


def checked(example: Example) -> Example:
    """Returns the example; raises `InputError` if image and label do not go together."""
    image, label = example["image"], example["label"]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"example {example['id']}: image is {image.dtype} {image.shape}, "
            "expected uint8 [h w 3]"
        )
    if label.dtype != np.uint8 or label.shape != image.shape[:2]:
        raise InputError(
            f"example {example['id']}: label is {label.dtype} {label.shape}, "
            f"expected uint8 {image.shape[:2]} as its image"
        )
    return example
