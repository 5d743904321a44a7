"""The page as an ASGI application: its files, what it serves, and `/predict`."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from segjax.errors import InputError
from segjax.serve.guards import guard, limit_posts
from segjax.serve.labeller import Labeller
from segjax.serve.uploads import (
    Limits,
    Upload,
    check_pixels,
    decode_upload,
    encode_picture,
)

# Path -> package, file, type. The look and the class maps are those of the report.
_FILES = {
    "/": ("segjax.serve", "index.html", "text/html"),
    "/serve.css": ("segjax.serve", "serve.css", "text/css"),
    "/icon.svg": ("segjax.serve", "icon.svg", "image/svg+xml"),
    "/indexed_png.js": ("segjax.serve", "indexed_png.js", "text/javascript"),
    "/serve.js": ("segjax.serve", "serve.js", "text/javascript"),
    "/report.css": ("segjax.report", "report.css", "text/css"),
    "/classmaps.js": ("segjax.report", "classmaps.js", "text/javascript"),
    "/panzoom.js": ("segjax.report", "panzoom.js", "text/javascript"),
}

_WAITING = 8  # images in memory at once; more are told to try again


def build_app(
    labeller: Labeller, *, limits: Limits, names: Collection[str] = ()
) -> ASGIApp:
    """Builds the application.

    `GET /about.json` says what is served. `POST /predict?run=0&run=1` with an image
    file as body answers with lines of JSON: first `height`, `width` and `picture` (a
    PNG in base64 where a browser would show the file otherwise, else null), then the
    events of `Labeller.events`. `native_size=1` shows the network the image at its own
    size. Every other answer is `{"error": one line}` with status 400 (image or query),
    403 (another site's request), 404, 405, 413 (file size) or 503 (busy). Nothing is
    written to disk.

    Args:
      labeller: predicts.
      limits: of the images.
      names: by which the page may be asked for besides "localhost" and addresses.
    """
    # Pillow's warnings are silenced per process, so images are read one at a time.
    reader = ThreadPoolExecutor(1, thread_name_prefix="segjax-read")
    about = _about(labeller, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        reader.shutdown(wait=False, cancel_futures=True)

    async def predict(request: Request) -> Response:
        indices = _indices(request, len(labeller.runs))
        native_size = request.query_params.get("native_size") == "1"
        data = await _body(request, limits.bytes)
        upload = await asyncio.get_running_loop().run_in_executor(
            reader, lambda: decode_upload(data, max_pixels=limits.pixels)
        )
        if native_size:
            height, width = upload.image.shape[:2]
            check_pixels(
                height,
                width,
                max_pixels=limits.native_pixels,
                what="image at its own size",
            )
        return StreamingResponse(
            _lines(labeller, reader, upload, indices, native_size),
            media_type="application/x-ndjson",
        )

    app = Starlette(
        routes=[
            *(_file_route(path, *entry) for path, entry in _FILES.items()),
            Route("/about.json", lambda request: JSONResponse(about), methods=["GET"]),
            Route("/predict", predict, methods=["POST"]),
        ],
        lifespan=lifespan,
        exception_handlers={
            InputError: _answer_input_error,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_nobody,
        },
    )
    return guard(limit_posts(app, count=_WAITING), names=names)


def _about(labeller: Labeller, limits: Limits) -> dict:
    table = labeller.runs[0].predictor.table
    return {
        "classes": [
            {"name": name, "color": [int(value) for value in color]}
            for name, color in zip(table.names, table.colors, strict=True)
        ],
        "runs": [
            {
                "title": run.title,
                "folder": run.folder,
                "step": run.predictor.step,
                "size": run.predictor.image_size,
            }
            for run in labeller.runs
        ],
        "max_bytes": limits.bytes,
        "max_pixels": limits.pixels,
        "max_native_pixels": limits.native_pixels,
    }


def _file_route(path: str, package: str, name: str, media_type: str) -> Route:
    content = resources.files(package).joinpath("assets", name).read_bytes()

    def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(path, answer, methods=["GET"])


def _indices(request: Request, count: int) -> list[int]:
    texts = request.query_params.getlist("run") or ["0"]
    known = [str(index) for index in range(count)]
    for text in texts:
        if text not in known:
            raise InputError(f"run {text!r}: expected a number in 0..{count - 1}")
    return list(dict.fromkeys(map(int, texts)))


async def _body(request: Request, limit: int) -> bytes:
    """The request's body, of which no more than `limit` bytes are taken in."""
    error = HTTPException(
        413, f"image: the file has more than {limit / 1e6:g} MB, the limit of this page"
    )
    if int(request.headers.get("content-length", 0)) > limit:
        raise error
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise error
    if not data:
        raise InputError("image: the file is empty")
    return bytes(data)


async def _lines(
    labeller: Labeller,
    reader: ThreadPoolExecutor,
    upload: Upload,
    indices: list[int],
    native_size: bool,
) -> AsyncIterator[str]:
    height, width = upload.image.shape[:2]
    picture = None
    if not upload.shown_alike:
        png = await asyncio.get_running_loop().run_in_executor(
            reader, encode_picture, upload.image
        )
        picture = base64.b64encode(png).decode("ascii")
    yield _line({"height": height, "width": width, "picture": picture})
    async for event in labeller.events(indices, upload.image, native_size=native_size):
        yield _line(event)


def _line(event: dict) -> str:
    return json.dumps(event, allow_nan=False) + "\n"


async def _answer_input_error(request: Request, error: InputError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


async def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)
