"""A served page for tests: two networks that can be worked out by hand, a real server."""

import contextlib
import http.client
import json
import threading
import time
import urllib.parse

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.data.labels import LabelTable
from segjax.inference.predictor import make_predictor
from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD
from segjax.serve.app import build_app
from segjax.serve.labeller import Labeller
from segjax.serve.runs import ServedRun
from segjax.serve.server import Server, bind
from segjax.serve.uploads import Limits

MARKUP = "<img src=x onerror=alert(1)>"
# Two classes share a colour: indices must not be taken from colours.
TABLE = LabelTable(
    names=("dark", MARKUP, "bright"),
    colors=((200, 20, 220), (10, 200, 30), (10, 200, 30)),
    raw_ids={0: 0, 1: 1, 2: 2},
)
LIMITS = Limits(bytes=60_000, pixels=40_000, native_pixels=10_000)


class ByRed(nn.Module):
    """Class = how many of the thresholds the pixel's red reaches.

    Takes images of any size but of 13 or 17 rows.
    """

    thresholds: tuple[int, int]
    margin = 0

    @staticmethod
    def input_size(size):
        return size

    @nn.compact
    def __call__(self, image, *, train):
        assert not train
        if image.shape[1] == 13:
            raise ValueError("13 rows\nare too many")
        if image.shape[1] == 17:
            raise MemoryError
        red = (image[..., 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255
        reached = [
            (red > threshold - 0.5).astype(jnp.int32) for threshold in self.thresholds
        ]
        return {"logits": 20 * jax.nn.one_hot(sum(reached), 3, dtype=jnp.float32)}


def served_run(name, folder, thresholds, *, image_size=None):
    predictor = make_predictor(
        ByRed(thresholds), {}, name=name, step=7, table=TABLE, image_size=image_size
    )
    return ServedRun(name, folder, predictor)


def served_runs():
    """One that sees images at their own size, one that sees them at 12 x 16."""
    return (
        served_run("thirds", f"runs/{MARKUP}", (85, 170)),
        served_run("late<b>", "runs/late", (128, 250), image_size=(12, 16)),
    )


@contextlib.contextmanager
def serving(runs, *, names=()):
    """A real server on a free port; gives its port."""
    labeller = Labeller(runs)
    app = build_app(labeller, limits=LIMITS, names=names)
    with bind("127.0.0.1", 0) as listener:
        server = Server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            labeller.close()


def ask(port, path="/", *, method="GET", body=None, headers=None, host=None):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None and not {"Content-Length", "Transfer-Encoding"} & set(
            headers or {}
        ):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(port, body, *, run=(0,), native_size=False, **options):
    """Status and JSON objects of an answer to `/predict`."""
    query = [("run", index) for index in run] + [("native_size", int(native_size))]
    path = f"/predict?{urllib.parse.urlencode(query)}"
    status, _, content = ask(port, path, method="POST", body=body, **options)
    return status, [json.loads(line) for line in content.splitlines()]
