"""Serving the page on a port of this machine, until Ctrl-C."""

import contextlib
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from segjax.errors import InputError


def bind(host: str, port: int) -> socket.socket:
    """Takes the port, so that an unusable one is known before a network is loaded.

    Args:
      host: name or address of one of this machine's interfaces.
      port: 0 takes any that is free.

    Raises:
      InputError: the port is taken or not allowed, or the host is not this machine.
    """
    if not 0 <= port <= 65535:
        # The system would take the lower 16 bits.
        raise InputError(f"port {port}: expected 0..65535")
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{host} port {port}: cannot be served on: {reason}; "
            "give another --host or --port"
        ) from error


def url(listener: socket.socket) -> str:
    """The page's address, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """A server that says nothing of itself, and says when it is told to end."""

    def __init__(self, app: ASGIApp, *, on_exit: Callable[[], None] = lambda: None):
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes SIGINT and SIGTERM."""
        self._on_exit()
        super().handle_exit(sig, frame)


def run_server(
    app: ASGIApp, listener: socket.socket, *, on_exit: Callable[[], None]
) -> None:
    """Serves until Ctrl-C, which ends it without a traceback.

    Args:
      app: answers.
      listener: from `bind`; closed in the end.
      on_exit: ends answers that go on, lest the server wait for them.
    """
    # Uvicorn raises the signal again when it has shut down.
    with contextlib.suppress(KeyboardInterrupt), listener:
        Server(app, on_exit=on_exit).run(sockets=[listener])
