"""The documentation's pages, without building them: what they name exists."""

import ast
import re

import pytest
from doc_pages import DOCS, ROOT, blocks, commands, prose, written_pages

PAGES = written_pages()
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A file of the repository in code: a path with a known first folder and a suffix.
_FILE = re.compile(
    r"`(?:python )?((?:docs|experiments|segjax|tests|colabs)/[\w./]+\.(?:py|md|csv|sh))\b"
)


def name(page):
    return page.relative_to(ROOT).as_posix()


def options_of(path, *, holders=None):
    """Options that a file's dataclasses and its functions' parameters give."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if holders is not None and getattr(node, "name", None) not in holders:
            continue
        if isinstance(node, ast.ClassDef):
            found |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
        elif isinstance(node, ast.FunctionDef):
            found |= {argument.arg for argument in node.args.args}
    return found


LAUNCH = options_of("segjax/training/processes.py", holders={"Launch"})
SCRIPT = LAUNCH | options_of("segjax/configuration.py", holders={"Config"})
ABLATION = SCRIPT | options_of("segjax/ablation.py", holders={"Ablation"})


def known_options(words):
    """Names of the options of a command line, or None for another program's."""
    if words[:3] == ["python", "-m", "segjax"] and len(words) > 3:
        verb = words[3].replace("-", "_")
        if words[3] == "--help":
            return set()
        return options_of(f"segjax/commands/{verb}.py")
    if words[0].startswith("experiments/launch/"):
        assert (ROOT / words[0]).is_file()
        words = ["python", *(w for w in words[1:] if not w.isdigit())]
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()
        if "/benchmarks/" in words[1]:
            return None
        return ABLATION if "ablation" in words[1] else SCRIPT
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    for target in _LINK.findall(prose(page)):
        if "://" in target or target.startswith("#"):
            continue
        path = target.partition("#")[0]
        if path == "/_generated/modules.rst":  # made by the build
            continue
        if path.startswith("/_generated/results/"):
            stem = path.rpartition("/")[2]
            places = ("experiments/results", "experiments/benchmarks")
            assert any((ROOT / place / stem).is_file() for place in places), target
        else:
            assert (page.parent / path).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page):
    for path in _FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_that_are_named_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for line, words in commands(page):
        if words[0] == "make":
            assert re.search(rf"(?m)^{words[1]}:", makefile), f"line {line}: {words}"
        known = known_options(words)
        for word in words if known is not None else ():
            if word.startswith("--") and word != "--help":
                option = word[2:].partition("=")[0].replace("-", "_")
                assert option in known, f"line {line}: {word}"


def test_every_network_has_one_page():
    zoo = ast.parse((ROOT / "segjax/models/zoo.py").read_text())
    (table,) = (
        node.value
        for node in zoo.body
        if isinstance(node, ast.AnnAssign) and node.target.id == "MODELS"
    )
    models = sorted(key.value for key in table.keys)
    shown = [
        word
        for page in (DOCS / "models").glob("*.md")
        for block in blocks(page)
        if block.language == "{networks}"
        for word in block.text.split()
    ]
    assert sorted(shown) == models


def test_every_folder_of_modules_is_a_package():
    """The API reference follows packages: what is in none would not be in it."""
    for module in (ROOT / "segjax").rglob("*.py"):
        assert (module.parent / "__init__.py").is_file(), module
        assert not module.parent.name.startswith("_"), module


def test_every_result_says_what_it_is_in_its_first_line():
    """The first heading is the page's title in the navigation."""
    for page in (ROOT / "experiments/results").glob("*.md"):
        assert page.read_text(encoding="utf-8").startswith("# "), page
