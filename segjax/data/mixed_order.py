"""The order in which training draws from several sources."""

import itertools
from collections.abc import Sequence

import grain
import numpy as np

from segjax.data.mixture import Part
from segjax.errors import InputError


def mixed_order(parts: Sequence[Part], *, seed: int) -> grain.MapDataset:
    """The endless order of training examples: their indices in `Joined`.

    The parts take turns in the proportion of their weights. Of each part every example
    comes once, in random order, before one comes again. What stands at a place depends
    on the parts, the seed and the place alone.

    Args:
      parts: at least one, with weights > 0.
      seed: integer >= 0.

    Raises:
      InputError: a part has no examples, or a weight is not above 0.
    """
    for part in parts:
        if part.count < 1 or not 0 < part.weight < float("inf"):
            raise InputError(
                f"mixture: {part.name} has {part.count} examples and weight "
                f"{part.weight}; expected at least one example and a weight > 0"
            )
    ends = list(itertools.accumulate(part.count for part in parts))
    streams = []
    for index, (part, end) in enumerate(zip(parts, ends, strict=True)):
        # Parts of equal size must not be shuffled alike.
        own = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
        indices = grain.MapDataset.range(end - part.count, end)
        streams.append(indices.seed(own).shuffle().repeat(None))
    return grain.MapDataset.mix(streams, weights=[part.weight for part in parts])
