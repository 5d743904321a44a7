"""What is compared: networks, sizes, and the programs that each side offers of them."""

import dataclasses
from collections.abc import Callable

import numpy as np

NUM_CLASSES = 11


@dataclasses.dataclass(frozen=True)
class Case:
    """One network at one size.

    Attributes:
      network: name in `segjax.models.zoo.MODELS`.
      height: rows of the images, in pixels.
      width: columns of the images, in pixels.
      batch_size: images of a step.
      channels: factor on the network's channels.
    """

    network: str
    height: int
    width: int
    batch_size: int
    channels: float = 1.0


@dataclasses.dataclass(frozen=True)
class Programs:
    """What a side can do with one case; all sides do the same arithmetic.

    The image is uint8 `[b h w 3]`, the label uint8 in 0..10 or 255 = void, of the size
    of the logits. Each phase is a function without arguments that does its work once,
    on a batch that lies on the device already, and waits for it.

    Attributes:
      logits: image -> float32 `[b h' w' 11]`, in inference mode.
      phases: name -> function. "training": normalise, forward, mean cross-entropy of the
        labelled pixels, backward, SGD 0.1 with momentum 0.9; returns the loss before the
        update. "inference": normalise, forward, argmax to uint8. "evaluation": what
        inference does, the loss, and the confusion matrix of the labelled pixels.
      cost: phase -> operations ("flops"), bytes accessed ("bytes") and temporary memory
        in bytes ("temporaries") of the compiled program; None where nothing is known.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    phases: dict[str, Callable[[], object]]
    cost: Callable[[str], dict[str, float] | None]
