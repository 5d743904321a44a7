"""What every request passes and every answer carries, as plain ASGI wrappers."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guard(app: ASGIApp, *, names: Collection[str]) -> ASGIApp:
    """Refuses requests that another site made, and adds HEADERS to every answer.

    Args:
      app: what answers the other requests.
      names: by which the page may be asked for, see `refusal`.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        reason = refusal(headers.get("host"), headers.get("origin"), names=names)
        answer = app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive, send_with_headers)

    return guarded


def refusal(
    host: str | None, origin: str | None, *, names: Collection[str]
) -> str | None:
    """Says why a request is refused, or None.

    A page of another site can point its own name at this machine (DNS rebinding), but
    never an address or "localhost". It can also send requests here, with its origin.

    Args:
      host: header of the request.
      origin: header of the request; None where the browser sent none.
      names: host names that are allowed besides "localhost" and every IP address.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        own = urlsplit(origin).netloc == host if origin is not None else True
    except ValueError:
        name, own = "", False
    if name != "localhost" and name not in names and not _is_address(name):
        return (
            f"host {host!r}: expected localhost, an IP address, or a name given by "
            "--allowed-hosts"
        )
    return None if own else f"origin {origin!r}: expected this page's own"


def limit_posts(app: ASGIApp, *, count: int) -> ASGIApp:
    """Answers 503 while `count` POST requests are being worked on."""
    active = 0

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal active
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
        elif active >= count:
            error = f"{count} images are being labelled or waiting; try again"
            await JSONResponse({"error": error}, 503)(scope, receive, send)
        else:
            active += 1
            try:
                await app(scope, receive, send)
            finally:
                active -= 1

    return limited


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
