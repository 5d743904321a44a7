"""Command lines: options from a dataclass, errors as one line and status 2."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import tyro

from segjax.errors import InputError


def main(
    run: Callable[[Any], Any], default: Any, *, args: list[str] | None = None
) -> None:
    """Parses options over `default` and calls `run` with the result.

    Every field of the dataclass `default` is an option (`--batch-size 4`). An unknown
    or ill-typed option, and every `InputError`, ends the program with status 2 and a
    message that names it.

    Args:
      run: what to do with the parsed configuration.
      default: a dataclass instance: the experiment's own numbers.
      args: the command line; None reads `sys.argv`.
    """
    config = tyro.cli(type(default), default=default, args=args)
    _show_progress_messages()
    try:
        run(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _show_progress_messages() -> None:
    """Prints segjax's own log lines, and no other library's."""
    logger = logging.getLogger("segjax")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
