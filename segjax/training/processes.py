"""The processes of one run: how they find each other, agree and speak with one voice.

Every process runs the same program on its own devices and its own part of the data
(`segjax.training.parallel`). One alone is the usual case, in which nothing here does
anything.
"""

import contextlib
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from segjax.errors import InputError
from segjax.training.last_words import leave_last_words

_GO_ON = (
    "The last checkpoint is intact: start all processes again with the same options"
)
# Of what a collective operation raises where the other side is gone.
_GONE = ("closed by peer", "reset by peer", "Socket closed", "UNAVAILABLE", "heartbeat")


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a run's processes start; nothing of it changes a number."""

    coordinator: str | None = None
    """HOST:PORT of process 0, if a run has several processes; see --distributed."""

    num_processes: int | None = None
    """Processes of the run; needs --coordinator."""

    process_id: int | None = None
    """Which of them this is, from 0; needs --coordinator."""

    distributed: bool = False
    """Several processes that the machine knows of: a TPU pod slice, SLURM, Open MPI."""

    connect_timeout: int = 300
    """Seconds to wait for the other processes."""

    compilation_cache: Path | None = None
    """Where compiled programs are kept; None is SEGJAX_CACHE or ~/.cache/segjax/xla."""


def start(launch: Launch) -> None:
    """Joins the run's other processes, if it has any. Call before any use of devices.

    Raises:
      InputError: options that do not go together, or nobody answers in time.
    """
    by_hand = (launch.coordinator, launch.num_processes, launch.process_id)
    if by_hand == (None, None, None) and not launch.distributed:
        return
    if (
        launch.distributed == (by_hand != (None, None, None))
        or None in by_hand[: 0 if launch.distributed else None]
    ):
        raise InputError(
            "expected --coordinator, --num-processes and --process-id together, or "
            "--distributed alone"
        )
    if not launch.distributed and not (
        launch.num_processes > 0 <= launch.process_id < launch.num_processes
    ):
        raise InputError(
            f"process_id is {launch.process_id}: expected 0 to num_processes - 1 = "
            f"{launch.num_processes - 1}"
        )
    # Without its own end the client kills the process where it cannot connect.
    _await_coordinator(launch)
    try:
        jax.distributed.initialize(
            *by_hand, initialization_timeout=launch.connect_timeout
        )
    except (RuntimeError, ValueError) as error:
        where = launch.coordinator or "the coordinator"
        reason = str(error).splitlines()[0]
        raise InputError(
            f"process {launch.process_id} did not get through to the others at {where} "
            f"within {launch.connect_timeout} s: {reason}"
        ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends this process at once, with status 1, by any error that is not the user's.

    Of several processes the others wait for one that stands in its error, and JAX's own
    end waits for them; the sooner it ends, the sooner they do. Where the error is only
    that another process is gone, one line says so. Where JAX ends the process itself,
    or somebody kills it, a line of that kind is the last on standard error, too. Alone,
    a process does nothing here.
    """
    # Not `process_count`: it starts the devices, which `plan` still has to choose.
    if not jax.distributed.is_initialized():
        yield
        return
    me = f"process {jax.process_index()} of {jax.process_count()}"
    take_back = leave_last_words(
        f"error: {me} was ended from outside: another process of the run died or cannot "
        f"be reached, if JAX says so above, or else this one was killed. {_GO_ON}"
    )
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and any(
            part in str(error) for part in _GONE
        ):
            reason = str(error).splitlines()[0]
            line = f"error: {me}: another process of the run died: {reason}. {_GO_ON}"
        else:
            traceback.print_exc()
            line = f"error: {me} failed, and so the others end. {_GO_ON}"
        print(line, file=sys.stderr)
        take_back()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def keep_compiled_programs(launch: Launch) -> None:
    """Turns the persistent compilation cache on, unless JAX is told of one already."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") and not launch.compilation_cache:
        return
    folder = launch.compilation_cache or Path(
        os.environ.get("SEGJAX_CACHE") or Path.home() / ".cache" / "segjax" / "xla"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"compilation_cache {folder} cannot be written: {error.strerror}"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A run compiles many small programs, which add up.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def is_first() -> bool:
    """Whether this process writes what a run has only one of."""
    return jax.process_index() == 0


def on_first(function: Callable[[], Any]) -> Any:
    """Calls `function` in the first process; its JSON result or error is everybody's.

    All processes must call this at the same point; none is past it before the first
    is done.

    Raises:
      InputError: as `function` does, in every process.
    """
    if jax.process_count() == 1:
        return function()
    answer, error = {}, None
    if is_first():
        try:
            answer = {"result": function()}
        except InputError as raised:
            answer, error = {"error": str(raised)}, raised
    answer = json.loads(_exchange(json.dumps(answer).encode())[0])
    if "error" in answer:
        raise error or InputError(answer["error"])
    return answer["result"]


def first_before_others(function: Callable[[], Any]) -> Any:
    """Calls `function` in every process, in the first one before the others.

    So what it makes on a common disk is made once, and found by the others.

    Raises:
      InputError: as `function` does, of the first process in all of them.
    """
    made = []
    on_first(lambda: made.append(function()))
    return made[0] if made else function()


def check_agreement(values: Mapping[str, Any]) -> None:
    """Raises InputError in every process unless `values`, of JSON, are everybody's."""
    if jax.process_count() == 1:
        return
    others = [json.loads(text) for text in _exchange(json.dumps(dict(values)).encode())]
    for index, other in enumerate(others):
        for field in sorted(other.keys() | others[0].keys()):
            if other.get(field) != others[0].get(field):
                raise InputError(
                    f"processes disagree: {field} is {others[0].get(field)!r} in "
                    f"process 0 and {other.get(field)!r} in process {index}: start all "
                    "with the same options"
                )


def _await_coordinator(launch: Launch) -> None:
    """Waits until process 0 listens; raises InputError where it never does."""
    if launch.coordinator is None or launch.process_id == 0:
        return
    import socket
    import time

    host, _, port = launch.coordinator.rpartition(":")
    end = time.monotonic() + launch.connect_timeout
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=2.0):
                return
        except ValueError as error:
            raise InputError(
                f"coordinator is {launch.coordinator!r}: expected HOST:PORT"
            ) from error
        except OSError as error:
            if time.monotonic() > end:
                raise InputError(
                    f"no coordinator at {launch.coordinator} within "
                    f"{launch.connect_timeout} s: {error.strerror or error}"
                ) from error
            time.sleep(0.2)


def _exchange(message: bytes) -> list[bytes]:
    """Every process's message, in the processes' order."""
    length = np.array([len(message)], np.int32)
    lengths = np.ravel(multihost_utils.process_allgather(length))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(message)] = np.frombuffer(message, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [
        bytes(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True)
    ]
