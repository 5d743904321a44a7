"""ISBI 2012 EM segmentation challenge: cell membranes in electron microscopy.

Arganda-Carreras et al.: "Crowdsourcing the creation of image segmentation
algorithms for connectomics" (2015); the data set of the U-Net paper. Serial
sections of Drosophila ventral nerve cord, 512x512, grey. Labels: 255 inside a
cell, 0 membrane. Download after registration at
https://imagej.net/events/isbi-2012-segmentation-challenge.

Layout: `image/N.png` and `label/N.png`, or the challenge's stacks
`train-volume.tif` and `train-labels.tif`. The challenge's test volume has no labels
and is not offered.

Splits: the slices in the order of their numbers, the last fifth (rounded down, at
least one slice) is 'val', what comes before it 'train'. The two are contiguous
because neighbouring sections look alike: scattered validation slices would measure
how well a model remembers their neighbours.
"""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.decoding import count_pages, label_array, opened, rgb_array
from segjax.data.labels import ISBI_EM
from segjax.data.paired_images import (
    Pair,
    check_equal_size,
    fingerprint,
    match_by_name,
    read_pair,
)
from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class StackSlice:
    """Page `index` of the two TIFF stacks."""

    volume: Path
    labels: Path
    index: int


@dataclasses.dataclass
class IsbiEmConfig(tfds.core.BuilderConfig):
    """The slices, split name -> files or pages. `IsbiEm.config` makes one."""

    name: str
    splits: dict[str, list[Pair | StackSlice]] = dataclasses.field(default_factory=dict)


class IsbiEm(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the challenge; takes its files from `IsbiEm.config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path) -> IsbiEmConfig:
        """Finds the slices below `data_dir` (`find_slices`) and splits them."""
        slices = find_slices(data_dir)
        if len(slices) < 2:
            raise InputError(
                f"{data_dir}: {len(slices)} labelled slices; expected 2 or more, "
                "to train and to validate"
            )
        start = len(slices) - max(1, len(slices) // 5)
        splits = {"train": slices[:start], "val": slices[start:]}
        groups = [
            (split, *(dataclasses.astuple(s) if isinstance(s, StackSlice) else s))
            for split, items in splits.items()
            for s in items
        ]
        return IsbiEmConfig(name=fingerprint(data_dir, groups, ISBI_EM), splits=splits)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="ISBI 2012 EM segmentation challenge, labelled slices.",
            features=records.features(),
            homepage="https://imagej.net/events/isbi-2012-segmentation-challenge",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return {
            split: records.shards(read, items)
            for split, items in self.builder_config.splits.items()
        }


def find_slices(data_dir: Path) -> list[Pair | StackSlice]:
    """Finds the labelled slices, in the order of the tissue.

    Raises:
      InputError: no such folder, neither layout in it, an image without label or a
        label without image, stacks that are unreadable or of different length.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; expected the ISBI 2012 data")
    if (data_dir / "image").is_dir():
        return match_by_name(data_dir / "image", data_dir / "label")
    volume, labels = data_dir / "train-volume.tif", data_dir / "train-labels.tif"
    if not volume.is_file():
        raise InputError(
            f"{data_dir}: no ISBI 2012 data here; expected folders image and label, "
            "or train-volume.tif and train-labels.tif"
        )
    if not labels.is_file():
        raise InputError(f"{labels}: no such file")
    pages = [count_pages(volume), count_pages(labels)]
    if pages[0] != pages[1]:
        raise InputError(
            f"{labels}: {pages[1]} slices, {volume.name} has {pages[0]}; "
            "expected as many"
        )
    return [StackSlice(volume, labels, index) for index in range(pages[0])]


def read(item: Pair | StackSlice) -> dict:
    """Reads and checks one slice; see `paired_images.read_pair`."""
    if isinstance(item, Pair):
        return read_pair(item, table=ISBI_EM)
    names = [f"{path}, slice {item.index}" for path in (item.volume, item.labels)]
    with opened(item.volume, source=names[0], frame=item.index) as page:
        image, size = rgb_array(page, source=names[0]), page.size
    with opened(item.labels, source=names[1], frame=item.index) as page:
        label = label_array(page, ISBI_EM, source=names[1])
    check_equal_size(size, label, image=names[0], label_name=names[1])
    return {
        "image": records.encode_png(image),
        "label": records.encode_png(label),
        "id": str(item.index),
    }
