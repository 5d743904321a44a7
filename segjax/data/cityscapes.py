"""Cityscapes, fine annotations: the 19 classes that are evaluated.

Cordts et al.: "The Cityscapes dataset for semantic urban scene understanding" (2016):
2,975 train and 500 val images of 1024x2048. Non-commercial use; the files come with
registration at https://www.cityscapes-dataset.com (`leftImg8bit_trainvaltest.zip` and
`gtFine_trainvaltest.zip`), so nothing is downloaded here.

Layout, as the two archives unpack into one folder:

    leftImg8bit/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png

Where `gtFine` holds only files `..._labelTrainIds.png`, which a tool of the authors
writes, these are read. The test split's labels are withheld (its files are blank) and
not offered.

Classes: the order is that of `trainId`, from `labels.py` of the authors' package
cityscapesscripts 2.3.0, by which names, colours and the 15 other labelIds, all void,
were checked; mmsegmentation's names and colours are the same. A licence plate has
labelId -1, which no label file holds.
"""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.folder import read_classes
from segjax.data.labels import VOID, LabelTable
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    image_files_in,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

CITYSCAPES = dataclasses.replace(
    read_classes(Path(__file__).parent / "tables/cityscapes.txt"),
    thin=(
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "person",
        "rider",
        "motorcycle",
        "bicycle",
    ),
)
TRAIN_IDS = dataclasses.replace(
    CITYSCAPES,
    raw_ids={**{train_id: train_id for train_id in range(19)}, 255: VOID},
)
_TABLES = {"labelIds": CITYSCAPES, "labelTrainIds": TRAIN_IDS}
_IMAGE_ENDING = "_leftImg8bit"


class Cityscapes(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the fine annotations; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        splits, table = find_pairs(data_dir)
        return paired_images_config(data_dir, splits, table, max_bad=max_bad)

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "Cityscapes, fine annotations, 19 classes.",
            homepage="https://www.cityscapes-dataset.com",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def find_pairs(data_dir: Path) -> tuple[dict[str, list[Pair]], LabelTable]:
    """Finds the image and label files of train and val, and what the values mean.

    Raises:
      InputError: no such data set, an image without label or a label without image.
    """
    for name in ("leftImg8bit", "gtFine"):
        if not (data_dir / name / "train").is_dir():
            raise InputError(
                f"{data_dir}: no Cityscapes here: no {name}/train; expected "
                "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of "
                "www.cityscapes-dataset.com, unpacked"
            )
    any_label = next((data_dir / "gtFine/train").glob("*/*_gtFine_labelIds.png"), None)
    ending = "labelTrainIds" if any_label is None else "labelIds"
    splits = {
        split: _pairs_of_split(data_dir, split, f"_gtFine_{ending}")
        for split in ("train", "val")
    }
    return splits, _TABLES[ending]


def _pairs_of_split(data_dir: Path, split: str, label_ending: str) -> list[Pair]:
    images, labels = data_dir / "leftImg8bit" / split, data_dir / "gtFine" / split
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    cities = sorted(path.name for path in images.iterdir() if path.is_dir())
    for city in sorted(path.name for path in labels.iterdir() if path.is_dir()):
        if city not in cities:
            raise InputError(f"{labels / city}: labels without images in {images}")
    pairs = []
    for city in cities:
        if not (labels / city).is_dir():
            raise InputError(f"{labels / city}: no such folder; {images / city} is one")
        frames = _frames(images / city, _IMAGE_ENDING)
        label_files = _frames(labels / city, label_ending)
        for frame, path in frames.items():
            if frame not in label_files:
                raise InputError(
                    f"{path}: no label; expected "
                    f"{labels / city / frame}{label_ending}.png"
                )
            pairs.append(Pair(path, label_files[frame]))
        for frame, path in label_files.items():
            if frame not in frames:
                raise InputError(
                    f"{path}: label without image; expected one in {images / city}"
                )
    return pairs


def _frames(folder: Path, ending: str) -> dict[str, Path]:
    """CITY_SEQUENCE_FRAME -> file, of those whose name ends so."""
    return {
        stem.removesuffix(ending): path
        for stem, path in image_files_in(folder).items()
        if stem.endswith(ending)
    }
