"""Unpacking an archive from elsewhere, which may be hostile."""

import contextlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segjax.errors import InputError

# More than any data set here holds; a bomb of 10 MB can hold 10 GB.
MAX_BYTES = 8 * 2**30
MAX_FILES = 200_000

# What zipfile raises for a damaged file, by kind of damage.
_DAMAGE = (
    zipfile.BadZipFile,
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
    files, unpacked = 0, 0
    with contextlib.ExitStack() as stack:
        with _reading(source):
            file = stack.enter_context(zipfile.ZipFile(archive))
        for member in file.infolist():
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or below not in parts[:-1]:
                continue
            _check_member(member, parts, source)
            files += 1
            if files > max_files:
                raise InputError(f"{source}: more than {max_files} files")
            path = target.joinpath(*parts[parts.index(below) + 1 :])
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise InputError(f"{source}: holds {path.name} twice")
            with path.open("xb") as out:
                for chunk in _chunks(file, member, source):
                    unpacked += len(chunk)
                    if unpacked > max_bytes:
                        raise InputError(
                            f"{source}: unpacks to more than {max_bytes} bytes"
                        )
                    out.write(chunk)
    if not files:
        raise InputError(f"{source}: no folder {below} in the archive")


def _chunks(
    file: zipfile.ZipFile, member: zipfile.ZipInfo, source: str
) -> Iterator[bytes]:
    with contextlib.ExitStack() as stack:
        with _reading(source):
            packed = stack.enter_context(file.open(member))
        while True:
            with _reading(source):
                chunk = packed.read(_CHUNK)
            if not chunk:
                return
            yield chunk


@contextlib.contextmanager
def _reading(source: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{source}: not a readable zip file: {error}") from error


def _check_member(member: zipfile.ZipInfo, parts: tuple[str, ...], source: str) -> None:
    name = member.filename
    if ".." in parts or parts[0].startswith("/") or _STRANGE.search(name):
        raise InputError(f"{source}: unsafe path {name!r} in the archive")
    # The upper half holds the mode of a Unix file, zero where none was noted.
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InputError(f"{source}: {name!r} in the archive is a link or a device")
    if member.flag_bits & 1:
        raise InputError(f"{source}: {name!r} in the archive is encrypted")
