"""Checksums of a prepared data set.

The record files are ArrayRecord, which has checksums of all that it holds; the JSON
files beside them have none and say how to read them.
"""

import contextlib
import hashlib
import json
from pathlib import Path

from segjax.errors import InputError
from segjax.whole_file import whole_file

CHECKSUMS = "checksums.json"


def write_checksums(directory: Path) -> None:
    """Notes the SHA-256 of the JSON files and the sizes of the others.

    Two processes that prepare the same data set write the same.
    """
    content = json.dumps(_measure(directory), indent=2)
    # Another process may be writing it just now: what it writes is as good.
    with (
        contextlib.suppress(InputError),
        whole_file(directory / CHECKSUMS) as scratch,
    ):
        scratch.write_text(content, encoding="utf-8")


def check_files(directory: Path) -> None:
    """Compares the files with what was noted; passes where nothing was.

    Raises:
      InputError: a file is missing or has changed; the message names it.
    """
    path = directory / CHECKSUMS
    if not path.is_file():
        return
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        found = _measure(directory)
        for name, value in noted.items():
            if name not in found:
                raise ValueError(f"{name} is missing")
            if found[name] != value:
                raise ValueError(f"{name} has changed since it was written")
        for name in found.keys() - noted.keys():
            raise ValueError(f"{name} was not there when it was written")
    except (OSError, ValueError, AttributeError) as error:
        raise not_readable(directory, error) from error


def not_readable(directory: Path, error: Exception) -> InputError:
    """The error of a prepared data set that is damaged."""
    return InputError(
        f"{directory}: the prepared data set cannot be read ({first_line(error)}); "
        "remove the folder to have it prepared anew"
    )


def first_line(error: Exception) -> str:
    """What an error of another library says, for a message of one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _measure(directory: Path) -> dict[str, str | int]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".json"
        else path.stat().st_size
        for path in sorted(directory.iterdir())
        if path.is_file() and not path.name.startswith(CHECKSUMS)
    }
