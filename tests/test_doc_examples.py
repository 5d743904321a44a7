"""The documentation's examples, executed, and its command lines, parsed.

Each page's Python blocks run one after the other in one namespace, in an empty folder
from which `experiments` can be seen; a `text` block behind one is what it prints.
"""

import contextlib
import functools
import importlib
import io
import runpy
import sys

import jax
import pytest
from doc_pages import DOCS, ROOT, blocks, commands, written_pages

from segjax import __main__, cli
from segjax.training import processes

pytestmark = pytest.mark.slow
PAGES = written_pages()


def name(page):
    return page.relative_to(ROOT).as_posix()


def with_python(page):
    return any(block.language == "python" for block in blocks(page))


@pytest.mark.parametrize("page", list(filter(with_python, PAGES)), ids=name)
def test_examples_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    # As a user's: the tests' own strictness is not the examples' subject.
    strict = {
        "jax_numpy_dtype_promotion": "standard",
        "jax_numpy_rank_promotion": "allow",
    }
    namespace = {"__name__": "example"}
    with settings(strict):
        for block, following in zip(
            blocks(page), [*blocks(page)[1:], None], strict=True
        ):
            if block.language != "python":
                continue
            # Padded, so that a traceback has the page's line numbers.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(code, namespace)
            if following is not None and following.language == "text":
                assert said.getvalue() == following.text


@contextlib.contextmanager
def settings(values):
    before = {key: getattr(jax.config, key) for key in values}
    for key, value in values.items():
        jax.config.update(key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            jax.config.update(key, value)


def parse_verb(verb, options, monkeypatch):
    """Parses the options of a verb; its function does nothing."""
    module = importlib.import_module(f"segjax.commands.{verb.replace('-', '_')}")
    real = getattr(module, verb.replace("-", "_"))

    @functools.wraps(real)
    def nothing(*args, **kwargs):
        pass

    monkeypatch.setattr(module, real.__name__, nothing)
    __main__.main([verb, *options])


def parse_script(script, options, monkeypatch):
    """Parses the options of a script in experiments/, which runs nothing."""
    real = cli.main

    def parse_only(run, default, *, presets=None):
        real(lambda config: None, default, presets=presets, args=options)

    monkeypatch.setattr(cli, "main", parse_only)
    monkeypatch.setattr(processes, "start", lambda launch: None)
    monkeypatch.setattr(processes, "keep_compiled_programs", lambda launch: None)
    monkeypatch.setattr(sys, "argv", [script, *options])
    runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines_are_understood(page):
    for line, words in commands(page):
        if words[0].startswith("experiments/launch/"):
            words = ["python", *(word for word in words[1:] if not word.isdigit())]
        if words[0] != "python" or "--help" in words:
            continue
        with pytest.MonkeyPatch.context() as patch:
            try:
                if words[1:3] == ["-m", "segjax"]:
                    parse_verb(words[3], words[4:], patch)
                elif "/benchmarks/" not in words[1]:
                    parse_script(words[1], words[2:], patch)
            except SystemExit as stop:
                pytest.fail(f"{name(page)}, line {line}: {words}: status {stop.code}")


@pytest.mark.skipif(
    not (DOCS / "_build/html").is_dir(), reason="the pages are not built: make docs"
)
def test_every_module_has_a_page():
    built = {page.stem for page in (DOCS / "_build/html/_generated/api").glob("*.html")}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "segjax").rglob("*.py")
        if path.name != "__main__.py"
    }
    assert modules - {"segjax"} == built
