"""Data sets as records on disk: written once with TFDS, read at random."""

import contextlib
import io
import logging
import os
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from segjax.data import integrity, records
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

    def decoded_bytes(self) -> int:
        """Bytes of all images and labels as arrays, from the heads of their files.

        A record that cannot be read counts nothing: reading it raises.
        """
        sizes = []
        for index in range(len(self)):
            with contextlib.suppress(Exception):  # of ArrayRecord and Pillow, see above
                sizes.append(records.decoded_bytes(self._read(index)))
        return sum(sizes)

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


def make_builder(
    builder: type[tfds.core.DatasetBuilder],
    prepared_dir: os.PathLike | str | None,
    config: tfds.core.BuilderConfig,
) -> tfds.core.DatasetBuilder:
    """Makes a builder of ArrayRecord files below `prepared_root(prepared_dir)`."""
    with _quiet():
        return builder(
            data_dir=prepared_root(prepared_dir),
            config=config,
            file_format=tfds.core.FileFormat.ARRAY_RECORD,
        )


def prepared_root(prepared_dir: os.PathLike | str | None) -> Path:
    """The folder of the prepared data sets; see `datasets.open_dataset`."""
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
