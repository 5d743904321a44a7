"""What a process leaves to be said if it ends where it cannot speak.

JAX ends a process from outside of Python where another one of the run has died, with a
stack trace of its own; so does whoever kills it. A tiny shell outlives the process and
says, as the last line, what that means for the run.
"""

import atexit
import os
import subprocess
from collections.abc import Callable


def leave_last_words(text: str) -> Callable[[], None]:
    """Prints `text` to standard error when this process ends, unless Python ends it.

    Returns:
      A function that takes it back, for who ends the process by `os._exit`.
    """
    # The pipe closes with this process, however it ends: `read` fails unless a line
    # came first. The shell must not hear the signals that this process hears.
    shell = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _ || printf "%s\\n" "$0" >&2', text],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    of_process = os.getpid()

    def take_back() -> None:
        if os.getpid() != of_process or shell.stdin.closed:
            return
        try:
            shell.stdin.write(b"ended\n")
            shell.stdin.close()
            shell.wait()
        except OSError:  # somebody killed the shell: then it says nothing
            pass

    atexit.register(take_back)
    return take_back
