"""COCO-Stuff 164K: 80 kinds of things and 91 kinds of stuff on COCO 2017.

Caesar, Uijlings, Ferrari: "COCO-Stuff: thing and stuff classes in context" (2018);
labels CC BY 4.0, images under Flickr's terms of use: 118,287 train and 5,000 val.

Layout, as https://github.com/nightrome/cocostuff says to unpack `train2017.zip`,
`val2017.zip` and `stuffthingmaps_trainval2017.zip`:

    images/train2017/ID.jpg           annotations/train2017/ID.png
    images/val2017/ID.jpg             annotations/val2017/ID.png

`train2017` beside `images`, and `stuffthingmaps` for `annotations`, are found, too.

Classes: a value is the published id less 1, in 0..181, and 255 is unlabelled. 11 of
those ids (street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door,
blender, hair brush) have no pixel, so 171 classes are left. Names and ids
(`tables/coco_stuff.txt`) are those of the authors' `labels.txt`; the ids that are left
are the 171 of mmsegmentation's conversion table, and its names are the same. The
authors publish no colours: these are VOC's bit formula of the published id.
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

COCO_STUFF = read_classes(Path(__file__).parent / "tables/coco_stuff.txt")

_32_GB = 32 * 2**30

# Checksums: tensorflow_datasets' url_checksums/coco.txt; COCO-Stuff publishes none.
IMAGE_ARCHIVES = (
    Archive(
        "http://images.cocodataset.org/zips/train2017.zip",
        {"train2017": "images/train2017"},
        checksum="sha256:"
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        max_bytes=_32_GB,
    ),
    Archive(
        "http://images.cocodataset.org/zips/val2017.zip",
        {"val2017": "images/val2017"},
        checksum="sha256:"
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
)
LABEL_ARCHIVES = (
    Archive(
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
        "stuffthingmaps_trainval2017.zip",
        {"train2017": "annotations/train2017", "val2017": "annotations/val2017"},
    ),
)


class CocoStuff(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the pixel maps; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return paired_images_config(
            data_dir, find_pairs(data_dir), COCO_STUFF, max_bad=max_bad
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "COCO-Stuff 164K, 171 classes.",
            homepage="https://github.com/nightrome/cocostuff",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_coco_stuff(root: Path) -> Path:
    """Downloads images and pixel maps (21 GB); see `downloads.download`."""
    return download(root, "coco_stuff", (*IMAGE_ARCHIVES, *LABEL_ARCHIVES))


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such data set, an image without label or a label without image.
    """
    for parent in ("annotations", "stuffthingmaps"):
        if (data_dir / parent / "train2017").is_dir():
            return {
                split: match_by_name(
                    coco_images(data_dir, split), data_dir / parent / f"{split}2017"
                )
                for split in ("train", "val")
            }
    raise InputError(
        f"{data_dir}: no COCO-Stuff here; expected images/train2017 and "
        "annotations/train2017 (and val2017)"
    )


def coco_images(data_dir: Path, split: str) -> Path:
    """Finds the folder of COCO's images of a split.

    Raises:
      InputError: it is not there.
    """
    for folder in (data_dir / "images" / f"{split}2017", data_dir / f"{split}2017"):
        if folder.is_dir():
            return folder
    raise InputError(
        f"{data_dir}: no images of COCO here; expected images/{split}2017 or "
        f"{split}2017"
    )
