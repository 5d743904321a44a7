"""Fetching a published data set: its archives, checked and unpacked, or nothing."""

import contextlib
import dataclasses
import hashlib
import logging
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from segjax.data.archives import MAX_BYTES, unpack_tar, unpack_zip
from segjax.errors import InputError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
      url: address of a zip or tar file; which of them, its first bytes say.
      folders: name of a folder in it, at any depth -> the folder of the data set that
        receives its files.
      checksum: "md5:..." or "sha256:..." of the file; None where none is published.
      nested: zip files in the data set that are then unpacked where they lie, and
        removed; their folders have their names.
      max_bytes: of all that is unpacked to a folder.
    """

    url: str
    folders: Mapping[str, str]
    checksum: str | None = None
    nested: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES


def download(root: Path, name: str, archives: Sequence[Archive]) -> Path:
    """Downloads a data set into `root/downloads/name`, unless it is there.

    Args:
      root: where the prepared data sets lie.
      name: of the data set's folder.
      archives: what it consists of.

    Returns:
      the folder with the data set's files. It appears complete or not at all.

    Raises:
      InputError: a download fails, or is not the archive that was expected.
    """
    target = root / "downloads" / name
    if target.is_dir():
        return target
    missing = [p for p in (target.parent, root, *root.parents) if not p.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix="incomplete."
        ) as folder:
            unpacked = Path(folder) / "unpacked"
            for archive in archives:
                logger.info("downloading %s to %s", archive.url, target)
                file = Path(folder) / "archive"
                _fetch(archive, file, name)
                _unpack(archive, file, unpacked)
                file.unlink()
            unpacked.rename(target)
    except OSError as error:
        if not target.is_dir():  # else another process was faster
            raise InputError(f"{target}: cannot be written: {error}") from error
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):  # not empty, or never made
                folder.rmdir()
    return target


def _fetch(archive: Archive, path: Path, name: str) -> None:
    url = archive.url
    try:
        with (
            urllib.request.urlopen(url, timeout=60) as response,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(response, file, 2**20)
            expected = response.headers.get("Content-Length")
    except (urllib.error.URLError, HTTPException, TimeoutError, ValueError) as error:
        raise InputError(
            f"{url}: download failed ({error}); download {name} by hand and give its "
            "folder as data_dir"
        ) from error
    if expected is not None and path.stat().st_size != int(expected):
        raise InputError(
            f"{url}: download ended after {path.stat().st_size} of {expected} bytes"
        )
    if archive.checksum is not None:
        algorithm, _, digest = archive.checksum.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != digest:
            raise InputError(
                f"{url}: {algorithm} is {found}, expected {digest}: another file than "
                "the published one"
            )


def _unpack(archive: Archive, file: Path, folder: Path) -> None:
    with file.open("rb") as start:
        unpack = unpack_zip if start.read(2) == b"PK" else unpack_tar
    for below, into in archive.folders.items():
        unpack(
            file,
            folder / into,
            below=below,
            source=archive.url,
            max_bytes=archive.max_bytes,
        )
    for name in archive.nested:
        inner = folder / name
        if not inner.is_file():
            raise InputError(f"{archive.url}: no {inner.name} in the archive")
        unpack_zip(
            inner,
            inner.with_suffix(""),
            below=inner.stem,
            source=f"{archive.url}: {inner.name}",
            max_bytes=archive.max_bytes,
        )
        inner.unlink()
