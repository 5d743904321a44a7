"""Files that are there whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import InputError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a scratch path beside `path` that takes its name when the block ends well.

    If the block raises, or the program is killed, what `path` held before stays; a
    block that raises leaves no scratch file either.

    Args:
      path: of the file; its folder is made if missing.

    Raises:
      InputError: the file cannot be written (an OSError in the block, such as a full
        disk or a folder that may not be written to).
    """
    scratch = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        scratch.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written: {reason}") from error
    finally:
        # Not there if it took the name, or if it was never made.
        with contextlib.suppress(OSError):
            scratch.unlink()
