"""SUN RGB-D: indoor scenes, 37 classes; the images only, not the depth.

Song, Lichtenberg, Xiao: "SUN RGB-D: a RGB-D scene understanding benchmark suite"
(2015): 5,285 training and 5,050 test images, the split that SegNet's paper scores.

The labels of the benchmark lie in a MATLAB file that needs 64 GB of memory to open.
What is read here is the edition of https://github.com/ankurhanda/sunrgbd-meta-data,
whose README names the three archives; nothing is downloaded. Unpack each of them into
a folder of its name:

    SUNRGBD-train_images/img-000001.jpg ... img-005285.jpg
    SUNRGBD-test_images/img-000001.jpg ... img-005050.jpg
    sunrgbd_train_test_labels/img-000001.png ... img-010335.png

The labels of the test images come first: that of training image N is `img-(N + 5050)`.

Classes: value 0 is unlabelled ("ignore", the repository's issue 1) and void, 1 to 37
are the classes. Names and order (`tables/sun_rgbd.txt`) are those of `seg37list.mat` in that
README and agree with MSeg's list, which writes "refridgerator" and "television" for
fridge and tv. There are no published colours: these are VOC's bit formula.

Splits: 'test' as published. The benchmark has no validation split: of the training
images every tenth block of ten neighbours, which are often frames of one video, is
'val' (520), and the other 4,765 are 'train'.
"""

import re
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.folder import read_classes
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    hold_out,
    image_files_in,
    paired_images_config,
    shard_iterators,
)
from segjax.errors import InputError

SUN_RGBD = read_classes(Path(__file__).parent / "tables/sun_rgbd.txt")
TEST_IMAGES = 5050

_LABELS = "sunrgbd_train_test_labels"
_FOLDERS = {"train": "SUNRGBD-train_images", "test": "SUNRGBD-test_images"}
_NAME = re.compile(r"img-([0-9]{6})")


class SunRgbd(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the 37 classes; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return paired_images_config(
            data_dir, find_pairs(data_dir), SUN_RGBD, max_bad=max_bad
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self, "SUN RGB-D, 37 classes.", homepage="http://rgbd.cs.princeton.edu/"
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such data set, an image without label or a label without image.
    """
    for name in (*_FOLDERS.values(), _LABELS):
        if not (data_dir / name).is_dir():
            raise InputError(
                f"{data_dir}: no SUN RGB-D here: no folder {name}; expected the three "
                "archives of github.com/ankurhanda/sunrgbd-meta-data, unpacked"
            )
    labels = image_files_in(data_dir / _LABELS)
    found = {}
    for split, folder in _FOLDERS.items():
        first = 1 + (TEST_IMAGES if split == "train" else 0)
        pairs = []
        for stem, image in image_files_in(data_dir / folder).items():
            match = _NAME.fullmatch(stem)
            if not match:
                raise InputError(f"{image}: expected a name like img-000001.jpg")
            name = f"img-{int(match[1]) - 1 + first:06d}"
            if name not in labels:
                raise InputError(
                    f"{image}: no label; expected {data_dir / _LABELS / name}.png"
                )
            pairs.append(Pair(image, labels.pop(name)))
        found[split] = pairs
    for path in labels.values():
        raise InputError(f"{path}: label without image")
    train, val = hold_out(found["train"], every=10, block=10)
    return {"train": train, "val": val, "test": found["test"]}
