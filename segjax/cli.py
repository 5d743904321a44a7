"""Command lines: options from a dataclass, errors as one line and status 2."""

import argparse
import contextlib
import dataclasses
import functools
import io
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import tyro

from segjax.errors import InputError


def main(
    run: Callable[[Any], Any],
    default: Any,
    *,
    presets: Mapping[str, Any] | None = None,
    args: list[str] | None = None,
) -> None:
    """Parses options over `default` and calls `run` with the result.

    Every field of the dataclass `default` is an option (`--batch-size 4`), and so is
    every one of `segjax.training.processes.Launch`. An unknown
    or ill-typed option, and every `InputError`, ends the program with status 2 and a
    one-line message that names it.

    Args:
      run: what to do with the parsed configuration.
      default: a dataclass instance: the experiment's own numbers.
      presets: others by name: `--preset NAME` takes one as the default instead.
      args: the command line; None reads `sys.argv`.
    """
    args = sys.argv[1:] if args is None else args
    try:
        default = _preset(default, presets or {}, args)
    except InputError as error:
        _stop(error)
    # Here, because the verbs that train nothing start without loading JAX.
    from segjax.training import processes

    options = dataclasses.make_dataclass(
        "Options",
        [("config", type(default)), ("launch", processes.Launch)],
    )
    parsed = _in_one_line(
        lambda: tyro.cli(
            tyro.conf.OmitArgPrefixes[options],
            default=options(default, processes.Launch()),
            args=args,
        )
    )
    _show_progress_messages()
    try:
        processes.start(parsed.launch)
        processes.keep_compiled_programs(parsed.launch)
        with processes.ending_together():
            run(parsed.config)
    except InputError as error:
        _stop(error)


def _stop(error: InputError) -> NoReturn:
    # Grain adds lines of its own to what is raised through it.
    print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
    sys.exit(2)


def _preset(default: Any, presets: Mapping[str, Any], args: list[str]) -> Any:
    """The default that `--preset NAME` names, if it is among the options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    name = parser.parse_known_args(args)[0].preset
    if name is None or not presets:
        return default
    if name not in presets:
        raise InputError(
            f"unknown preset {name!r}: expected one of {', '.join(presets)}"
        )
    return presets[name]


def call(function: Callable[..., None], *, prog: str, args: list[str]) -> None:
    """Calls `function` with what the command line gives for its parameters.

    Errors are as in `main`.

    Args:
      function: every parameter is an option, named in its docstring.
      prog: the program's name in the help text.
      args: the command line.
    """

    @functools.wraps(function)
    def parsed(*args, **options):
        return functools.partial(function, *args, **options)

    run = _in_one_line(lambda: tyro.cli(parsed, prog=prog, args=args))
    _show_progress_messages()
    try:
        run()
    except InputError as error:
        _stop(error)


def _in_one_line(parse: Callable[[], Any]) -> Any:
    """What `parse` returns; the errors that it prints are put into one line."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return parse()
    except SystemExit as stop:
        if stop.code:
            print(f"error: {_unboxed(boxed.getvalue())}", file=sys.stderr)
        raise


def _unboxed(text: str) -> str:
    """Tyro's message in its frame as one line; it says what is wrong and expected."""
    lines = [line.strip("╭╮╰╯│─ ") for line in text.splitlines()[1:]]
    return " ".join(
        line for line in lines if line.strip("-") and "full helptext" not in line
    )


class _StandardError(logging.Handler):
    """Prints records to `sys.stderr` as it is when they come."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _show_progress_messages() -> None:
    """Prints segjax's own log lines, and no other library's."""
    logger = logging.getLogger("segjax")
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
