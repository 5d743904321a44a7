"""The notebooks of colabs/ without running them: `colabs/build.py --check` does that."""

import ast
import base64
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.__main__ import VERBS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for p in (ROOT / "colabs").glob("*.py") if p.stem != "build")
KEEP = "keep-output"


def test_there_are_five_each_with_its_notebook():
    names = ["ablation", "own_data", "pods", "quickstart", "upsampling"]
    assert [source.stem for source in SOURCES] == names
    assert sorted(p.stem for p in (ROOT / "colabs").glob("*.ipynb")) == names


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_notebook_has_the_cells_of_its_source(source):
    written = [
        (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in _notebook(source)["cells"]
    ]
    assert written == _percent_cells(source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_only_final_figures_are_kept(source):
    figures = []
    for cell in _notebook(source)["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["execution_count"] is None
        if KEEP not in cell["metadata"].get("tags", []):
            assert cell["outputs"] == []
            continue
        (output,) = cell["outputs"]
        assert list(output["data"]) == ["image/png"]
        data = base64.b64decode(output["data"]["image/png"])
        assert len(data) < 400_000
        figures.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert figures
    for pixels in figures:
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_first_cell_is_the_same_everywhere():
    first = {_percent_cells(source.read_text())[0][:2] for source in SOURCES}
    assert len(first) == 1
    assert first.pop()[0] == "code"


def test_first_cell_does_nothing_where_segjax_is(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("installs"))
    exec(_first_cell(), {})


@pytest.mark.parametrize(
    ("folder", "expected"),
    [(ROOT / "colabs", ".."), (Path("/"), "git+https://github.com/segjax/segjax")],
)
@pytest.mark.parametrize(("gpu", "jax"), [(None, "jax"), ("/bin/x", "jax[cuda12]")])
def test_first_cell_installs_segjax_where_it_is_not(
    monkeypatch, folder, expected, gpu, jax
):
    commands = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: gpu)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: commands.append(command)
    )
    monkeypatch.chdir(folder)
    exec(_first_cell(), {})
    ((_, *command),) = commands
    assert command == ["-m", "pip", "install", "-q", expected, jax]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_nothing_of_the_library_is_defined_again(source):
    kinds = (ast.FunctionDef, ast.ClassDef)
    defined = {
        node.name
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    }
    # Looked for in the text, which is sooner than parsing all of the library.
    library = {
        name
        for path in (ROOT / "segjax").rglob("*.py")
        for name in re.findall(
            r"^(?:def|class) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert {"max_unpool", "Segmenter"} <= library
    assert not defined & library


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_the_device_is_the_users_and_verbs_exist(source):
    text = source.read_text(encoding="utf-8")
    assert not re.search(r"jax_platforms?", text, re.IGNORECASE)
    assert set(re.findall(r"python -m segjax ([\w-]+)", text)) <= set(VERBS)


def _first_cell() -> str:
    return _percent_cells(SOURCES[0].read_text(encoding="utf-8"))[0][1]


def _notebook(source: Path) -> dict:
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def _percent_cells(text: str) -> list[tuple[str, str, list[str]]]:
    """Kind, source and tags of the cells of a file in jupytext's percent format."""
    _, *parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    cells = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        tags = re.search(r"tags=(\[.*?\])", head)
        body = body.strip("\n")
        is_markdown, is_bash = "[markdown]" in head, 'language="bash"' in head
        if is_markdown or is_bash:
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        cells.append(
            (
                "markdown" if is_markdown else "code",
                f"%%bash\n{body}" if is_bash else body,
                json.loads(tags[1]) if tags else [],
            )
        )
    return cells
