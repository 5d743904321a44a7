"""Oxford-IIIT Pet: cats and dogs with a trimap each.

Parkhi, Vedaldi, Zisserman, Jawahar: "Cats and dogs" (2012); CC BY-SA 4.0.

Layout, as `images.tar.gz` and `annotations.tar.gz` unpack:

    images/ID.jpg
    annotations/trimaps/ID.png
    annotations/trainval.txt, test.txt      a line "ID class species breed" each

Classes: the annotations' README names the values "1: Foreground 2: Background 3: Not
classified". All three are classes here, as in TensorFlow's segmentation tutorial and
in most published numbers; 3 is the rim between the other two ("ambiguous region" in
the paper's figure 1). Colours are ours.

Splits: of trainval (3,680 images) every fifth line is 'val' and the rest 'train', which
leaves every breed in both, as the list goes breed by breed; 'test' (3,669) as
published. TensorFlow Datasets has a builder of the same name, which needs TensorFlow
to read the files; this one reads the same files without.
"""

from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.downloads import Archive, download
from segjax.data.labels import LabelTable
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    hold_out,
    listed_pairs,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

OXFORD_PET = LabelTable(
    names=("pet", "background", "border"),
    colors=((220, 50, 47), (38, 139, 210), (238, 232, 213)),
    raw_ids={1: 0, 2: 1, 3: 2},
    thin=("border",),
)

# Checksums: tensorflow_datasets' oxford_iiit_pet/checksums.tsv.
ARCHIVES = (
    Archive(
        "https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz",
        {"images": "images"},
        checksum="sha256:"
        "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
    ),
    Archive(
        "https://thor.robots.ox.ac.uk/~vgg/data/pets/annotations.tar.gz",
        {"annotations": "annotations"},
        checksum="sha256:"
        "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
    ),
)


class OxfordPet(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the trimaps; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return paired_images_config(
            data_dir, find_pairs(data_dir), OXFORD_PET, max_bad=max_bad
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "Oxford-IIIT Pet, trimaps.",
            homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_oxford_pet(root: Path) -> Path:
    """Downloads the data set (0.8 GB); see `downloads.download`."""
    return download(root, "oxford_pet", ARCHIVES)


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such data set, a list or a file that it names is missing.
    """
    annotations = data_dir / "annotations"
    if not (annotations / "trimaps").is_dir():
        raise InputError(
            f"{data_dir}: no Oxford-IIIT Pet here; expected images and "
            "annotations/trimaps"
        )
    train, test = (
        listed_pairs(
            annotations / f"{name}.txt", data_dir / "images", annotations / "trimaps"
        )
        for name in ("trainval", "test")
    )
    train, val = hold_out(train, every=5)
    return {"train": train, "val": val, "test": test}
