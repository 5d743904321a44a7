"""Which runs one page serves, and by what titles; the command's errors."""

import dataclasses
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from page_server import TABLE, served_runs

from segjax import __main__ as verbs
from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.serve import runs as served
from segjax.serve.server import bind

OTHER = LabelTable(("cat",), ((1, 2, 3),), {0: 0})
RECOLORED = dataclasses.replace(TABLE, colors=((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def test_namesakes_get_what_tells_them_apart():
    paths = [Path(p) for p in ("/r/a/seed0", "/r/a/seed1", "/r/b/seed0", "/q/b/seed0")]
    assert served.unique_titles(["fcn", "unet"], paths[:2]) == ["fcn", "unet"]
    assert served.unique_titles(["fcn", "fcn", "unet"], paths[:3]) == [
        "fcn (seed0)",
        "fcn (seed1)",
        "unet",
    ]
    assert served.unique_titles(["fcn"] * 3, [*paths[:2], paths[2]]) == [
        "fcn (a/seed0)",
        "fcn (seed1)",
        "fcn (b/seed0)",
    ]
    titles = served.unique_titles(["fcn"] * 4, paths)
    assert titles[2:] == ["fcn (r/b/seed0)", "fcn (q/b/seed0)"]


@pytest.fixture
def networks(monkeypatch):
    """Folder name -> class table, in place of what checkpoints say."""
    tables = {"a": TABLE, "b": RECOLORED, "c": OTHER}
    predictor = dataclasses.replace(served_runs()[0].predictor, name="net")
    monkeypatch.setattr(
        served,
        "load_predictor",
        lambda folder: dataclasses.replace(predictor, table=tables[folder.name]),
    )


def test_runs_share_classes_and_the_colours_of_the_first(networks):
    first, second = served.load_runs([Path("b"), Path("a")])
    assert first.predictor.table == second.predictor.table == RECOLORED
    assert (first.title, second.title) == ("net (b)", "net (a)")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "run: expected at least one folder"),
        (["a", "x/../a"], "run x/../a: given twice"),
        (["a", "c"], "run c: has the classes cat, expected those of a: dark, "),
    ],
)
def test_runs_that_do_not_fit_are_named(networks, folders, message):
    with pytest.raises(InputError, match="^" + message):
        served.load_runs([Path(folder) for folder in folders])


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as stop:
            verbs.main(["serve", "--run", str(tmp_path), "--port", port])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: 127.0.0.1 port {port}: cannot be served on: ")
    assert line.endswith("give another --host or --port")


def test_addresses_that_cannot_be_are_named():
    with pytest.raises(InputError, match=r"^port 70000: expected 0..65535$"):
        bind("127.0.0.1", 70000)
    # Reserved for documentation: no machine's.
    with pytest.raises(InputError, match=r"^192.0.2.1 port 0: cannot be served on"):
        bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "0", "--run", "{}"], "{}/checkpoints: no such folder"),
        (["--port", "0"], "run: expected at least one folder"),
        (
            ["--port", "0", "--run", "{}", "--max-megabytes", "0"],
            "max-megabytes is 0.0, expected a positive number",
        ),
    ],
)
def test_the_commands_errors_are_one_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        verbs.main(["serve", *(option.format(tmp_path) for option in options)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + message.format(tmp_path))


PROGRAM = """
import sys
from segjax.serve import runs
from page_server import served_runs
predictors = iter(run.predictor for run in served_runs())
runs.load_predictor = lambda folder: next(predictors)
from segjax.__main__ import main
main(["serve", "--run", "a", "--run", "b", "--port", "0"])
"""


def test_ctrl_c_ends_it_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[:2] == ["thirds: a\n", "late<b>: b\n"]
        address = lines[2].split()[0]
        with urllib.request.urlopen(address) as answer:
            assert b"<title>segjax</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, rest, errors) == (0, "", "")
