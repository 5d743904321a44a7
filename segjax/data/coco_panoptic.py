"""COCO panoptic 2017 as semantic labels: 80 kinds of things and 53 kinds of stuff.

Kirillov, He, Girshick, Rother, Dollar: "Panoptic segmentation" (2019); labels CC BY
4.0, images under Flickr's terms of use: 118,287 train and 5,000 val.

Layout, as `train2017.zip`, `val2017.zip`, `panoptic_annotations_trainval2017.zip` and
the two archives inside the latter unpack:

    images/train2017/ID.jpg (or train2017/ID.jpg)
    annotations/panoptic_train2017/ID.png
    annotations/panoptic_train2017.json             and the same for val2017

A pixel of a PNG is the number `red + 256 green + 256^2 blue` of a segment; the JSON
file says of each segment which category it is of. Number 0 is void. A crowd counts as
its category.

Classes: the order, names and colours (`tables/coco_panoptic.txt`) are those of
mmdetection's list; the 133 category ids in this order equal those of the authors'
`panoptic_coco_categories.json`, of which the 116 that COCO-Stuff has, too, equal the
ids of its `labels.txt`.
"""

import functools
import io
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.coco_stuff import IMAGE_ARCHIVES, coco_images
from segjax.data.decoding import opened
from segjax.data.downloads import Archive, download
from segjax.data.folder import read_classes
from segjax.data.labels import LabelTable, decode_label
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    match_by_name,
    paired_images_config,
    read_bytes,
    shard_iterators,
)
from segjax.errors import InputError

COCO_PANOPTIC = read_classes(Path(__file__).parent / "tables/coco_panoptic.txt")

# Checksum: tensorflow_datasets' url_checksums/coco.txt.
LABEL_ARCHIVES = (
    Archive(
        "http://images.cocodataset.org/annotations/"
        "panoptic_annotations_trainval2017.zip",
        {"annotations": "annotations"},
        checksum="sha256:"
        "c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
        nested=(
            "annotations/panoptic_train2017.zip",
            "annotations/panoptic_val2017.zip",
        ),
    ),
)

Segments = dict[int, int]
"""Number of a segment -> its category id."""


class CocoPanoptic(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the panoptic labels; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(data_dir: Path, *, max_bad: int = 0) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return paired_images_config(
            data_dir,
            find_pairs(data_dir),
            COCO_PANOPTIC,
            max_bad=max_bad,
            # Read when the first label is: the file of train has 300 MB.
            read_label=functools.partial(
                read_label, segments_of=functools.cache(read_segments)
            ),
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(
            self,
            "COCO panoptic 2017 as semantic labels, 133 classes.",
            homepage="https://cocodataset.org/#panoptic-2018",
        )

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_coco_panoptic(root: Path) -> Path:
    """Downloads images and labels (21 GB); see `downloads.download`."""
    return download(root, "coco_panoptic", (*IMAGE_ARCHIVES, *LABEL_ARCHIVES))


def find_pairs(data_dir: Path) -> dict[str, list[Pair]]:
    """Finds the image and label files of each split.

    Raises:
      InputError: no such data set, an image without label or a label without image,
        no JSON file beside the labels.
    """
    annotations = data_dir / "annotations"
    splits = {}
    for split in ("train", "val"):
        labels = annotations / f"panoptic_{split}2017"
        if not labels.is_dir():
            raise InputError(
                f"{data_dir}: no COCO panoptic here: no annotations/{labels.name}; "
                "expected panoptic_annotations_trainval2017.zip, unpacked, and the "
                "archives in it, too"
            )
        if not labels.with_suffix(".json").is_file():
            raise InputError(f"{labels}.json: no such file; it describes {labels}")
        splits[split] = match_by_name(coco_images(data_dir, split), labels)
    return splits


def read_segments(path: Path) -> dict[str, Segments]:
    """Reads a JSON file of the panoptic annotations: name of the PNG -> segments.

    Raises:
      InputError: the file cannot be read or is another.
    """
    try:
        content = json.loads(read_bytes(path))
        return {
            image["file_name"]: {
                int(segment["id"]): int(segment["category_id"])
                for segment in image["segments_info"]
            }
            for image in content["annotations"]
        }
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not panoptic annotations ({error!r}); expected annotations with "
            "file_name and segments_info"
        ) from error


def read_label(path: Path, *, table: LabelTable, segments_of) -> np.ndarray:
    """Reads a panoptic PNG as train ids, uint8 `[h w]`.

    Args:
      path: the PNG; the JSON file lies beside its folder.
      table: what the category ids mean; 0 is no segment.
      segments_of: `read_segments`, which remembers.

    Raises:
      InputError: the file is not an RGB image, the JSON file does not know it or one
        of its segments, or a category is not in the table.
    """
    description = path.parent.with_suffix(".json")
    segments = segments_of(description).get(path.name)
    if segments is None:
        raise InputError(f"{path}: {description} does not name it")
    with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
        if image.mode != "RGB":
            raise InputError(
                f"{path}: label has pixel mode {image.mode}; expected RGB, the number "
                "of a segment"
            )
        pixels = np.asarray(image).astype(np.int64)
    numbers = pixels @ np.array([1, 256, 256**2])
    found, inverse = np.unique(numbers, return_inverse=True)
    categories = np.zeros(len(found), np.uint8)
    for index, number in enumerate(found.tolist()):
        if number == 0:
            continue
        category = segments.get(number)
        if category is None:
            raise InputError(f"{path}: segment {number} is not in {description}")
        if not 1 <= category <= 255:
            raise InputError(
                f"{description}: {path.name} has category {category}; expected one of "
                "COCO panoptic's"
            )
        categories[index] = category
    return decode_label(
        categories[inverse].reshape(numbers.shape), table, source=str(path)
    )
