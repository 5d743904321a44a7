"""Drawn road scenes in the 11 classes of CamVid: the data set that needs no files.

Example `index` of a split is a pure function of (seed, split, index, size), so two
machines prepare the same pictures, and a smaller version of a split is its start.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.scenes.render import render_scene
from segjax.errors import InputError

__all__ = ["StreetScenes", "StreetScenesConfig", "draw_example", "render_scene"]


@dataclasses.dataclass
class StreetScenesConfig(tfds.core.BuilderConfig):
    """Size and number of the scenes; its name holds all of them.

    Attributes:
      size: height and width in pixels, at least 32 each.
      counts: (split name, number of examples) pairs.
      seed: another seed gives other scenes.
    """

    name: str = ""
    size: tuple[int, int] = (64, 96)
    counts: tuple[tuple[str, int], ...] = (("train", 480), ("val", 96), ("test", 96))
    seed: int = 0

    def __post_init__(self):
        if len(self.size) != 2 or min(self.size) < 32:
            raise InputError(
                f"street_scenes: size {self.size}; expected (height, width), "
                "at least 32 each"
            )
        if self.seed < 0:
            raise InputError(f"street_scenes: seed {self.seed}; expected 0 or more")
        if not self.counts:
            raise InputError("street_scenes: no split; expected counts like train=480")
        for split, count in self.counts:
            if not split.isidentifier():
                raise InputError(f"street_scenes: split name {split!r} is not a word")
            if count < 1:
                raise InputError(
                    f"street_scenes: split {split!r} has {count} examples; "
                    "expected 1 or more"
                )
        height, width = self.size
        counts = "-".join(f"{split}{count}" for split, count in self.counts)
        self.name = f"{height}x{width}-{counts}-seed{self.seed}"


class StreetScenes(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the drawn road scenes."""

    # The version is that of the pictures: raise it when `render_scene` changes.
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drawn road scenes in the 11 classes of CamVid.",
            features=records.features(),
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        config = self.builder_config
        return {
            split: records.shards(
                lambda index, split=split: _encode(config, split, index), range(count)
            )
            for split, count in config.counts
        }


def draw_example(
    *, seed: int, split: str, index: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws example `index` of a split: image `[h w 3]` and label `[h w]`, uint8."""
    entropy = (seed, int.from_bytes(split.encode(), "little"), index)
    return render_scene(np.random.default_rng(entropy), size=size)


def _encode(config: StreetScenesConfig, split: str, index: int) -> dict:
    image, label = draw_example(
        seed=config.seed, split=split, index=index, size=config.size
    )
    return {
        "image": records.encode_png(image),
        "label": records.encode_png(label),
        "id": f"{split}-{index:05d}",
    }
