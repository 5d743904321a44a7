"""Unpacking an archive from elsewhere, which may be hostile."""

import contextlib
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from segjax.errors import InputError

# More than any data set here holds; a bomb of 10 MB can hold 10 GB.
MAX_BYTES = 8 * 2**30
MAX_FILES = 200_000

# What zipfile and tarfile raise for a damaged file, by kind of damage.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    NotImplementedError,
)
_CHUNK = 2**20
# Not a name on every system: a drive, a backslash, a control character.
_STRANGE = re.compile(r"[\\:\x00-\x1f]")


def unpack_zip(
    archive: Path,
    target: Path,
    *,
    below: str,
    source: str,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> None:
    """Unpacks the files below the folder `below`, at any depth, to below `target`.

    Args:
      archive: the zip file.
      target: folder that receives them; what it holds after a failure is for the
        caller to remove.
      below: name of a folder in the archive; the rest is passed over.
      source: names the archive in messages.
      max_bytes: of all that is unpacked; counted, not believed.
      max_files: likewise.

    Raises:
      InputError: not a readable zip file; a path that leads out of `target`, a link
        or another thing that is neither file nor folder, an encrypted file; more
        bytes or files than allowed; no folder `below`.
    """
    out = _Unpacking(target, source, below, max_bytes=max_bytes, max_files=max_files)
    with contextlib.ExitStack() as stack:
        with _reading(source, "zip"):
            file = stack.enter_context(zipfile.ZipFile(archive))
        for member in file.infolist():
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or below not in parts[:-1]:
                continue
            _check_path(member.filename, parts, source)
            _check_kind(member, source)
            with contextlib.ExitStack() as opened:
                with _reading(source, "zip"):
                    packed = opened.enter_context(file.open(member))
                out.write(parts, _chunks(packed, source, "zip"))
    out.check_not_empty()


def unpack_tar(
    archive: Path,
    target: Path,
    *,
    below: str,
    source: str,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> None:
    """As `unpack_zip`, for a tar file, compressed or not."""
    out = _Unpacking(target, source, below, max_bytes=max_bytes, max_files=max_files)
    with contextlib.ExitStack() as stack:
        with _reading(source, "tar"):
            file = stack.enter_context(tarfile.open(archive, "r|*"))
        while True:
            with _reading(source, "tar"):
                member = file.next()
            if member is None:
                break
            parts = PurePosixPath(member.name).parts
            if member.isdir() or below not in parts[:-1]:
                continue
            _check_path(member.name, parts, source)
            if not member.isreg():
                raise InputError(
                    f"{source}: {member.name!r} in the archive is a link or a device"
                )
            with _reading(source, "tar"):
                packed = file.extractfile(member)
            out.write(parts, _chunks(packed, source, "tar"))
    out.check_not_empty()


class _Unpacking:
    """Writes the members of an archive, and counts them."""

    def __init__(self, target, source, below, *, max_bytes, max_files):
        self._target, self._source, self._below = target, source, below
        self._max_bytes, self._max_files = max_bytes, max_files
        self._bytes = self._files = 0

    def write(self, parts: tuple[str, ...], chunks: Iterator[bytes]) -> None:
        self._files += 1
        if self._files > self._max_files:
            raise InputError(f"{self._source}: more than {self._max_files} files")
        path = self._target.joinpath(*parts[parts.index(self._below) + 1 :])
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise InputError(f"{self._source}: holds {path.name} twice")
        with path.open("xb") as out:
            for chunk in chunks:
                self._bytes += len(chunk)
                if self._bytes > self._max_bytes:
                    raise InputError(
                        f"{self._source}: unpacks to more than {self._max_bytes} bytes"
                    )
                out.write(chunk)

    def check_not_empty(self) -> None:
        if not self._files:
            raise InputError(f"{self._source}: no folder {self._below} in the archive")


def _chunks(packed: IO[bytes], source: str, kind: str) -> Iterator[bytes]:
    while True:
        with _reading(source, kind):
            chunk = packed.read(_CHUNK)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _reading(source: str, kind: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{source}: not a readable {kind} file: {error}") from error


def _check_path(name: str, parts: tuple[str, ...], source: str) -> None:
    if ".." in parts or parts[0].startswith("/") or _STRANGE.search(name):
        raise InputError(f"{source}: unsafe path {name!r} in the archive")


def _check_kind(member: zipfile.ZipInfo, source: str) -> None:
    name = member.filename
    # The upper half holds the mode of a Unix file, zero where none was noted.
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InputError(f"{source}: {name!r} in the archive is a link or a device")
    if member.flag_bits & 1:
        raise InputError(f"{source}: {name!r} in the archive is encrypted")
