"""The page's server over real connections: labels, limits, refusals, headers."""

import asyncio
import base64
import dataclasses
import io
import json
import threading
import time

import numpy as np
import pytest
from page_server import LIMITS, MARKUP, ask, post, served_run, served_runs, serving
from PIL import Image

from segjax.inference.label_files import read_label
from segjax.inference.predictor import predict_image
from segjax.serve import labeller
from segjax.serve.server import bind, url

RUNS = served_runs()
# Every red twice, in 16 x 32 pixels.
IMAGE = np.zeros((16, 32, 3), np.uint8)
IMAGE[..., 0] = (np.arange(512) // 2).reshape(16, 32)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def port():
    with serving(RUNS, names={"workstation"}) as port:
        yield port


def label_of(event, tmp_path):
    path = tmp_path / "label.png"
    path.write_bytes(base64.b64decode(event["label"]))
    return read_label(path)


def test_labels_are_those_of_predict_image(port, tmp_path):
    status, (size, *events) = post(port, png(IMAGE), run=(0, 1))
    assert status == 200
    assert size == {"height": 16, "width": 32, "picture": None}
    assert [
        (event["run"], event["state"]) for event in events if event["run"] == 0
    ] == [
        (0, "waiting"),
        (0, "compiling"),
        (0, "done"),
    ]
    done = [event for event in events if event["state"] == "done"]
    assert [event["run"] for event in done] == [0, 1]
    np.testing.assert_array_equal(
        label_of(done[0], tmp_path), np.digitize(IMAGE[..., 0], (85, 170))
    )
    for event in done:
        predictor = RUNS[event["run"]].predictor
        expected = predict_image(predictor, IMAGE, image_size=predictor.image_size)
        np.testing.assert_array_equal(
            label_of(event, tmp_path), expected.argmax(axis=-1)
        )
        assert event["seconds"] >= 0
        assert event["compiled"]
    # The size is known now; the own size of the second is another one.
    _, (_, *events) = post(port, png(IMAGE), run=(1,))
    assert [event["state"] for event in events] == ["waiting", "predicting", "done"]
    assert not events[-1]["compiled"]
    _, (_, *events) = post(port, png(IMAGE), run=(1,), native_size=True)
    assert events[1]["state"] == "compiling"
    np.testing.assert_array_equal(
        label_of(events[-1], tmp_path), np.digitize(IMAGE[..., 0], (128, 250))
    )


def test_what_the_browser_cannot_show_comes_with_a_picture(port):
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, format="TIFF")
    _, (size, *_) = post(port, file.getvalue())
    with Image.open(io.BytesIO(base64.b64decode(size["picture"]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), IMAGE)


@pytest.mark.parametrize(
    ("body", "options", "status", "message"),
    [
        (b"", {}, 400, "image: the file is empty"),
        (b"no image", {}, 400, "image: not a readable image"),
        (png(IMAGE)[:70], {}, 400, "image: not a readable image"),
        (png(IMAGE), {"run": (2,)}, 400, "run '2': expected a number in 0..1"),
        (png(IMAGE), {"run": ("0x0",)}, 400, "run '0x0'"),
        (png(np.zeros((201, 200, 3), np.uint8)), {}, 400, "201x200 pixels"),
        (
            png(np.zeros((101, 100, 3), np.uint8)),
            {"native_size": True},
            400,
            "image at its own size: 101x100 pixels",
        ),
        (bytes(LIMITS.bytes + 1), {}, 413, "more than 0.06 MB"),
        (b"", {"headers": {"Content-Length": "9000000000"}}, 413, "more than 0.06 MB"),
        (
            png(IMAGE),
            {"headers": {"Origin": "https://evil.example"}},
            403,
            "origin 'https://evil.example'",
        ),
        (png(IMAGE), {"host": "evil.example"}, 403, "host 'evil.example'"),
    ],
)
def test_bad_requests_get_one_line_and_the_server_lives(
    port, body, options, status, message
):
    answered, answers = post(port, body, **options)
    assert (answered, len(answers)) == (status, 1)
    assert message in answers[0]["error"]
    assert "\n" not in answers[0]["error"]
    assert post(port, png(IMAGE[:4]))[0] == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(port):
    chunk = b"2710\r\n" + bytes(10_000) + b"\r\n"
    status, _, content = ask(
        port,
        "/predict",
        method="POST",
        body=chunk * 7 + b"0\r\n\r\n",
        headers={"Transfer-Encoding": "chunked"},
    )
    assert status == 413
    assert b"more than 0.06 MB" in content


def test_what_a_network_cannot_take_is_one_line(port, caplog):
    for rows, reason in ((13, "cannot take it: 13 rows"), (17, "not enough memory")):
        _, answers = post(port, png(np.zeros((rows, 20, 3), np.uint8)), run=(0, 1))
        failed, done = answers[3], answers[-1]
        assert failed["state"] == "failed"
        assert failed["error"].startswith(f"image of {rows}x20 pixels: ")
        assert failed["error"].endswith(reason)
        # The second run sees 12 rows.
        assert (done["run"], done["state"]) == (1, "done")
    assert "13 rows" in caplog.text


def test_answers_forbid_what_the_page_does_not_need(port):
    for path, kind in {
        "/": "text/html",
        "/serve.js": "text/javascript",
        "/report.css": "text/css",
        "/about.json": "application/json",
        "/nothing": "application/json",
    }.items():
        status, headers, _ = ask(port, path)
        assert status == (404 if path == "/nothing" else 200)
        assert headers["Content-Type"].startswith(kind)
        policy = dict(
            part.split(maxsplit=1)
            for part in headers["Content-Security-Policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Access-Control-Allow-Origin"] is None
        assert "uvicorn" not in str(headers)


def test_names_by_which_the_page_is_asked_for(port):
    assert ask(port, host=f"localhost:{port}")[0] == 200
    assert ask(port, host="workstation")[0] == 200
    status, headers, content = ask(port, host="evil.example")
    assert status == 403
    assert b"html" not in content
    assert "Content-Security-Policy" in headers


def test_other_methods_and_paths_are_refused(port):
    assert ask(port, "/predict")[0] == 405
    assert ask(port, "/", method="POST", body=b"")[0] == 405
    assert ask(port, "/../serve.py")[0] == 404
    assert ask(port, "/%2e%2e/app.py")[0] == 404


def test_the_page_has_no_script_and_no_style_of_its_own(port):
    """What the policy would block, and what could come from elsewhere."""
    page = ask(port)[2].decode()
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in page
    assert "style=" not in page
    assert "<style" not in page
    assert " on" not in page.replace(" one", "").replace(" only", "").replace(
        " on ", ""
    )
    script = ask(port, "/serve.js")[2].decode()
    for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert markup not in script


def test_names_travel_as_data(port):
    status, _, content = ask(port, "/about.json")
    assert status == 200
    about = json.loads(content)
    assert about["classes"][1] == {"name": MARKUP, "color": [10, 200, 30]}
    assert about["runs"] == [
        {"title": "thirds", "folder": f"runs/{MARKUP}", "step": 7, "size": None},
        {"title": "late<b>", "folder": "runs/late", "step": 7, "size": [12, 16]},
    ]
    assert about["max_bytes"] == LIMITS.bytes
    assert MARKUP.encode() not in ask(port)[2]


def test_one_image_at_a_time_and_not_too_many():
    going, most, running = threading.Event(), [], []

    def slow(images, size):
        running.append(1)
        most.append(len(running))
        going.wait(60)
        running.pop()
        return run.predictor.probabilities(images, size)

    run = served_run("slow", "runs/slow", (85, 170))
    predictor = dataclasses.replace(run.predictor, probabilities=slow)
    waiting = dataclasses.replace(run, predictor=predictor)
    with serving([waiting]) as port:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(port, png(IMAGE))))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while (answer := post(port, b""))[0] != 503 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answer == (
            503,
            [{"error": "8 images are being labelled or waiting; try again"}],
        )
        # Reading the page does not wait for the network.
        assert ask(port)[0] == 200
        going.set()
        for thread in threads:
            thread.join()
        assert post(port, png(IMAGE))[0] == 200
    assert [(status, lines[-1]["state"]) for status, lines in answers] == [
        (200, "done")
    ] * 8
    assert max(most) == 1


def test_a_server_that_ends_breaks_off_its_answers():
    """And does not wait for the network to say so."""
    going, begun = threading.Event(), threading.Event()

    def slow(images, size):
        begun.set()
        going.wait(60)
        return run.predictor.probabilities(images, size)

    run = served_run("slow", "runs/slow", (85, 170))
    predictor = dataclasses.replace(run.predictor, probabilities=slow)

    async def cut_off():
        labels = labeller.Labeller([dataclasses.replace(run, predictor=predictor)])
        states = []
        async for event in labels.events([0, 0], IMAGE, native_size=True):
            states.append(event["state"])
            if event["state"] == "compiling":
                labels.stop()
        going.set()
        labels.close()
        return states

    assert asyncio.run(cut_off()) == ["waiting", "compiling"]
    assert begun.is_set()


def test_compiled_programs_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(labeller, "_PROGRAMS", 3)
    cleared = []
    monkeypatch.setattr(labeller.jax, "clear_caches", lambda: cleared.append(1))
    with serving(served_runs()[:1]) as port:

        def state(rows):
            return post(port, png(IMAGE[:rows]))[1][2]["state"]

        assert [state(rows) for rows in (1, 2, 3, 1, 3)] == [
            *["compiling"] * 3,
            *["predicting"] * 2,
        ]
        # The fourth size drops the others.
        assert [state(rows) for rows in (4, 4, 1, 2)] == [
            "compiling",
            "predicting",
            "compiling",
            "compiling",
        ]
    assert cleared == [1]


def test_the_address_is_a_browsers():
    with bind("127.0.0.1", 0) as listener:
        assert url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}/"
