"""PhC-C2DH-U373 and DIC-C2DH-HeLa of the Cell Tracking Challenge, as cell or not.

Ulman et al.: "An objective comparison of cell-tracking algorithms" (2017), the data
sets "PhC-U373" and "DIC-HeLa" of the U-Net paper: two videos each, of glioblastoma
cells in phase contrast and of HeLa cells in differential interference contrast. Free
for work related to the challenge; other uses as https://celltrackingchallenge.net says.

Layout, as the training archives unpack (`data_dir` is their folder, or holds it):

    01/t000.tif                     8-bit grey
    01_ST/SEG/man_seg000.tif        16 bits: 0, or the number of a cell
    01_GT/SEG/man_seg000.tif        the same, for some of the images

Labels: the silver truth (`_ST`, fused from submitted results, for all images) where
both videos have it, else the gold truth (`_GT`, drawn by experts, for a few images and
maybe not every cell in them: U-Net trained on 35 and 20 "partially annotated" ones).
`truth` chooses. A number becomes class 'cell', except for pixels that touch another
cell (8-neighbourhood), which become background: the "separation borders that we
introduce between touching cells" of the U-Net paper, without which two of them would be
one. The challenge annotates and scores only cells that reach into the field of
interest, the image without a margin of 50 pixels; so in this margin what is no cell is
void. (50 for these two data sets: the challenge's evaluation; checked against two
public trackers.)

Splits: video 01 is 'train', video 02 'val'.
"""

import io
import re
from pathlib import Path
from typing import Literal

import numpy as np
import scipy  # whole: it loads `ndimage` on first use
import tensorflow_datasets as tfds

from segjax.data import records
from segjax.data.decoding import opened
from segjax.data.downloads import Archive, download
from segjax.data.labels import VOID, LabelTable
from segjax.data.paired_images import (
    Pair,
    PairedImagesConfig,
    image_files_in,
    paired_images_config,
    read_bytes,
    shard_iterators,
)
from segjax.errors import InputError

Truth = Literal["silver", "gold"]

CELLS = LabelTable(
    names=("background", "cell"),
    colors=((7, 54, 66), (133, 153, 0)),
    # As after `cells_or_not`: the numbers of cells have no table.
    raw_ids={0: 0, 1: 1, 255: VOID},
)
MARGIN = 50
"""Pixels around the field of interest, in both data sets."""

_URL = "http://data.celltrackingchallenge.net/training-datasets/"
# Checksums: torch_em's data/datasets/ctc.py.
ARCHIVES = {
    "PhC-C2DH-U373": Archive(
        f"{_URL}PhC-C2DH-U373.zip",
        {"PhC-C2DH-U373": "."},
        checksum="sha256:"
        "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
    ),
    "DIC-C2DH-HeLa": Archive(
        f"{_URL}DIC-C2DH-HeLa.zip",
        {"DIC-C2DH-HeLa": "."},
        checksum="sha256:"
        "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
    ),
}
_VIDEOS = {"train": "01", "val": "02"}
_FOLDERS = {"silver": "_ST", "gold": "_GT"}


class PhcU373(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of PhC-C2DH-U373; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(
        data_dir: Path, *, truth: Truth | None = None, max_bad: int = 0
    ) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return _config(data_dir, "PhC-C2DH-U373", truth, max_bad)

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, "PhC-C2DH-U373")

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


class DicHela(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of DIC-C2DH-HeLa; takes its files from `config`."""

    VERSION = tfds.core.Version("1.0.0")

    @staticmethod
    def config(
        data_dir: Path, *, truth: Truth | None = None, max_bad: int = 0
    ) -> PairedImagesConfig:
        """Finds the files below `data_dir`."""
        return _config(data_dir, "DIC-C2DH-HeLa", truth, max_bad)

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, "DIC-C2DH-HeLa")

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        return shard_iterators(self.builder_config)


def download_phc_u373(root: Path) -> Path:
    """Downloads PhC-C2DH-U373; see `downloads.download`."""
    return download(root, "phc_u373", [ARCHIVES["PhC-C2DH-U373"]])


def download_dic_hela(root: Path) -> Path:
    """Downloads DIC-C2DH-HeLa; see `downloads.download`."""
    return download(root, "dic_hela", [ARCHIVES["DIC-C2DH-HeLa"]])


def find_pairs(
    data_dir: Path, name: str, *, truth: Truth | None = None
) -> dict[str, list[Pair]]:
    """Finds the labelled images of each split.

    Args:
      data_dir: the folder of the data set, or the one that holds it.
      name: of the data set, as the challenge has it.
      truth: which labels; None is silver where there is, else gold.

    Raises:
      InputError: no such data set, or not these labels; a label without image.
    """
    if truth not in (None, *_FOLDERS):
        raise InputError(f"truth {truth!r}; expected {' or '.join(_FOLDERS)}")
    root = data_dir / name if (data_dir / name).is_dir() else data_dir
    for video in _VIDEOS.values():
        if not (root / video).is_dir():
            raise InputError(
                f"{data_dir}: no {name} here: no folder {video}; expected the "
                "training archive of celltrackingchallenge.net, unpacked"
            )
    folders = {
        kind: {s: root / f"{video}{ending}" / "SEG" for s, video in _VIDEOS.items()}
        for kind, ending in _FOLDERS.items()
    }
    if truth is None:
        silver = all(folder.is_dir() for folder in folders["silver"].values())
        truth = "silver" if silver else "gold"
    return {
        split: _labelled(root / _VIDEOS[split], folder)
        for split, folder in folders[truth].items()
    }


def read_label(path: Path, *, table: LabelTable) -> np.ndarray:
    """Reads the numbers of cells as train ids of `CELLS`; see `cells_or_not`.

    Raises:
      InputError: the file cannot be read, or has other pixels than numbers.
    """
    del table  # there is one
    with opened(io.BytesIO(read_bytes(path)), source=str(path)) as image:
        if image.mode not in ("L", "I;16", "I;16B", "I"):
            raise InputError(
                f"{path}: label has pixel mode {image.mode}; expected one channel of 8 "
                "or 16 bits, the numbers of cells"
            )
        return cells_or_not(np.asarray(image).astype(np.int64), margin=MARGIN)


def cells_or_not(numbers: np.ndarray, *, margin: int) -> np.ndarray:
    """Turns the numbers of cells into background 0, cell 1 and void.

    Args:
      numbers: 0 or the number of a cell, integers `[h w]`.
      margin: pixels along the border of the image in which cells may be missing.

    Returns:
      uint8 `[h w]`: 1 in a cell, but 0 where it touches another one; 255 outside of
      the field of interest where there is no cell.
    """
    cell = numbers > 0
    highest = scipy.ndimage.maximum_filter(numbers, size=3, mode="nearest")
    nothing = numbers.max() + 1  # more than any number
    lowest = scipy.ndimage.minimum_filter(
        np.where(cell, numbers, nothing), size=3, mode="nearest"
    )
    label = (cell & (highest == lowest)).astype(np.uint8)
    outside = np.ones(numbers.shape, bool)
    outside[margin : numbers.shape[0] - margin, margin : numbers.shape[1] - margin] = (
        False
    )
    label[outside & ~cell] = VOID
    return label


def _labelled(images: Path, labels: Path) -> list[Pair]:
    image_files = image_files_in(images)
    pairs = []
    for stem, label in image_files_in(labels).items():
        match = re.fullmatch(r"man_seg([0-9]{3,4})", stem)
        if not match:
            raise InputError(f"{label}: expected a name like man_seg000.tif")
        image = image_files.get(f"t{match[1]}")
        if image is None:
            raise InputError(f"{label}: label without image; expected one in {images}")
        pairs.append(Pair(image, label))
    return pairs


def _config(data_dir, name, truth, max_bad) -> PairedImagesConfig:
    return paired_images_config(
        data_dir,
        find_pairs(data_dir, name, truth=truth),
        CELLS,
        max_bad=max_bad,
        read_label=read_label,
    )


def _info(builder, name) -> tfds.core.DatasetInfo:
    return records.info(
        builder,
        f"{name} of the Cell Tracking Challenge, as cell or not.",
        homepage="https://celltrackingchallenge.net/2d-datasets/",
    )
