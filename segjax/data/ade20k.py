"""ADE20K in the edition of the scene parsing challenge: 150 classes.

Zhou, Zhao, Puig, Fidler, Barriuso, Torralba: "Scene parsing through ADE20K dataset"
(2017): 20,210 training and 2,000 validation images of indoor and outdoor scenes.

Layout, as `ADEChallengeData2016.zip` unpacks (the images of the full data set have
other labels):

    images/training/ADE_train_ID.jpg        annotations/training/ADE_train_ID.png
    images/validation/ADE_val_ID.jpg        annotations/validation/ADE_val_ID.png

`data_dir` is `ADEChallengeData2016` or the folder that holds it.

Classes: value 0 is "other objects" and void, 1 to 150 are the classes in the order of
`objectInfo150.txt`. Names (`tables/ade20k.txt`) are the first synonym of each, as in
mmsegmentation's list, which agrees in all 150 with GluonCV's list of synonyms; the
colours are those that mmsegmentation, mmdetection and GluonCV have in common, in which
road and skyscraper are the same grey.
"""

from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.downloads import Archive, download
from segjax.data.folder import read_classes
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    match_by_name,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

ADE20K = read_classes(Path(__file__).parent / "tables/ade20k.txt")

ARCHIVES = (
    Archive(
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        {"ADEChallengeData2016": "."},
        # As several public loaders have it.
        checksum="md5:7328b3957e407ddae1d3cbf487f149ef",
    ),
)
_FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the challenge's data; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return paired_images_config(
            data_dir, find_pairs(data_dir), ADE20K, max_bad=max_bad
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "ADE20K, 150 classes, the edition of the scene parsing challenge.",
            homepage="http://sceneparsing.csail.mit.edu/",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_ade20k(root: Path) -> Path:
    """Downloads the challenge's data (1 GB); see `downloads.download`."""
    return download(root, "ade20k", ARCHIVES)


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such data set, an image without label or a label without image.
    """
    for root in (data_dir, data_dir / "ADEChallengeData2016"):
        if (root / "annotations/training").is_dir():
            return {
                split: match_by_name(
                    root / "images" / folder, root / "annotations" / folder
                )
                for split, folder in _FOLDERS.items()
            }
    raise InputError(
        f"{data_dir}: no ADE20K here; expected ADEChallengeData2016 with "
        "images/training and annotations/training (and validation)"
    )
