"""Pascal VOC 2012 segmentation, with and without SBD's additional labels.

Everingham, Van Gool, Williams, Winn, Zisserman: "The PASCAL Visual Object Classes
Challenge 2012": 1,464 train and 1,449 val images, 20 classes and background.
Hariharan, Arbelaez, Bourdev, Maji, Malik: "Semantic contours from inverse detectors"
(2011), the Semantic Boundaries Dataset: labels for 11,355 VOC images, used by the
papers that train on "VOC with extra annotations".

Layout, as the two archives unpack (`VOCtrainval_11-May-2012.tar`, `benchmark.tgz`):

    VOCdevkit/VOC2012/JPEGImages/ID.jpg
    VOCdevkit/VOC2012/SegmentationClass/ID.png       palette images: the indices count
    VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt, val.txt
    benchmark_RELEASE/dataset/cls/ID.mat, train.txt, val.txt     for pascal_voc_aug

`data_dir` is the folder that holds both, or one of those on the way down. The test
split has no public labels.

Classes: value 0 is background, 255 the void border around objects. Names and colours
(`tables/pascal_voc.txt`) are those of mmsegmentation's list; the colours equal VOC's
bit formula (`VOClabelcolormap.m`, `labels.default_colors`) for all 21.

pascal_voc_aug: train is VOC's train with VOC's own labels, then what SBD's train and
val lists add, without VOC's val: 10,582 images, the number that mmsegmentation's
`voc_aug.py` asserts and DeepLabv3+ reports. SBD's labels have no void.
"""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.downloads import Archive, download
from segjax.data.folder import read_classes
from segjax.data.labels import LabelTable, decode_label
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    listed_pairs,
    paired_images_config,
    read_label_image,
    shard_iterators,
)
from segjax.errors import InputError

PASCAL_VOC = read_classes(Path(__file__).parent / "tables/pascal_voc.txt")

# Checksums: torchvision's datasets/voc.py and sbd.py.
VOC_ARCHIVES = (
    Archive(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        {"VOC2012": "VOCdevkit/VOC2012"},
        checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
    ),
)
SBD_ARCHIVES = (
    Archive(
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
        "semantic_contours/benchmark.tgz",
        {"dataset": "benchmark_RELEASE/dataset"},
        checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
    ),
)
_HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"


class PascalVoc(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of VOC 2012 segmentation; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        voc = find_voc(data_dir)
        splits = {split: voc_pairs(voc, split) for split in ("train", "val")}
        return paired_images_config(data_dir, splits, PASCAL_VOC, max_bad=max_bad)

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(self, "Pascal VOC 2012 segmentation.", homepage=_HOMEPAGE)

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


class PascalVocAug(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of VOC 2012 with SBD's training images."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        voc, sbd = find_voc(data_dir), find_sbd(data_dir)
        train, val = (voc_pairs(voc, split) for split in ("train", "val"))
        return paired_images_config(
            data_dir,
            {"train": train + sbd_pairs(sbd, voc, without=train + val), "val": val},
            PASCAL_VOC,
            max_bad=max_bad,
            read_label=read_label,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self, "Pascal VOC 2012 segmentation with SBD.", homepage=_HOMEPAGE
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_voc(root: Path) -> Path:
    """Downloads VOC 2012 (2 GB); see `downloads.download`."""
    return download(root, "pascal_voc", VOC_ARCHIVES)


def download_voc_aug(root: Path) -> Path:
    """Downloads VOC 2012 and SBD (3.4 GB); see `downloads.download`."""
    download_voc(root)
    return download(root, "sbd", SBD_ARCHIVES).parent


def find_voc(data_dir: Path) -> Path:
    """Finds the folder VOC2012.

    Raises:
      InputError: it is not there.
    """
    for name in (".", "VOC2012", "VOCdevkit/VOC2012", "pascal_voc/VOCdevkit/VOC2012"):
        if (data_dir / name / "ImageSets/Segmentation").is_dir():
            return data_dir / name
    raise InputError(
        f"{data_dir}: no Pascal VOC 2012 here; expected "
        "VOCdevkit/VOC2012/ImageSets/Segmentation"
    )


def find_sbd(data_dir: Path) -> Path:
    """Finds the folder of SBD's labels.

    Raises:
      InputError: it is not there.
    """
    for parent in (".", "benchmark_RELEASE", "sbd/benchmark_RELEASE"):
        if (data_dir / parent / "dataset/cls").is_dir():
            return data_dir / parent / "dataset"
    raise InputError(
        f"{data_dir}: no SBD here; expected benchmark_RELEASE/dataset/cls beside "
        "VOCdevkit"
    )


def voc_pairs(voc: Path, split: str) -> list[Pair]:
    """The pairs of a split of VOC 2012, as listed."""
    return listed_pairs(
        voc / "ImageSets/Segmentation" / f"{split}.txt",
        voc / "JPEGImages",
        voc / "SegmentationClass",
    )


def sbd_pairs(sbd: Path, voc: Path, *, without: list[Pair]) -> list[Pair]:
    """VOC's images that SBD labels, less those of `without`, by name."""
    known = {pair.image.stem for pair in without}
    pairs = [
        pair
        for split in ("train", "val")
        for pair in listed_pairs(
            sbd / f"{split}.txt", voc / "JPEGImages", sbd / "cls", label_suffix=".mat"
        )
        if pair.image.stem not in known
    ]
    return sorted(pairs, key=lambda pair: pair.image.stem)


def read_label(path: Path, *, table: LabelTable) -> np.ndarray:
    """Reads a label of VOC (.png) or SBD (.mat), uint8 `[h w]` of train ids.

    Raises:
      InputError: the file cannot be read, or holds a value that is no class.
    """
    if path.suffix != ".mat":
        return read_label_image(path, table=table)
    import scipy.io  # not at the top: only SBD needs it, and it is slow to import

    try:
        raw = scipy.io.loadmat(path)["GTcls"][0]["Segmentation"][0]
    except Exception as error:  # loadmat raises whatever it meets
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{path}: not a label of SBD: {reason[0] if reason else error!r}; "
            "expected GTcls.Segmentation"
        ) from error
    return decode_label(np.asarray(raw), table, source=str(path))
