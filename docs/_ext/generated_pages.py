"""Pages that nobody writes: results as they are, notebooks with their figures, the API.

They are made before Sphinx looks for pages, below `docs/_generated`, which git ignores.
`result-pages` is the list of the results.
"""

import pkgutil
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
_RESULTS = """\
```{{include}} /../{path}
:relative-images:
:relative-docs: .
```
"""
_MODULES = """\
API reference
=============

Every module with its docstrings, as they are in the code.

Packages
--------

.. autosummary::
   :toctree: api
   :recursive:

   {packages}

Modules
-------

.. autosummary::
   :toctree: api

   {modules}
"""


def result_files(root: Path = ROOT) -> list[Path]:
    """The results, and the notes on what was tried for speed."""
    notes = root / "experiments/benchmarks/NOTES.md"
    return [*sorted((root / "experiments/results").glob("*.md")), notes]


def pages(root: Path = ROOT) -> dict[str, str | Path]:
    """Path below `docs/_generated` -> its text, or the file that it is a copy of."""
    made: dict[str, str | Path] = {}
    for path in result_files(root):
        text = _RESULTS.format(path=path.relative_to(root).as_posix())
        made[f"results/{path.stem}.md"] = text
    for path in sorted((root / "colabs").glob("*.ipynb")):
        made[f"colabs/{path.name}"] = path
    found: dict[bool, list[str]] = {True: [], False: []}
    for module in pkgutil.iter_modules([str(root / "segjax")]):
        if not module.name.startswith("_"):
            found[module.ispkg].append(f"segjax.{module.name}")
    made["modules.rst"] = _MODULES.format(
        packages="\n   ".join(found[True]), modules="\n   ".join(found[False])
    )
    return made


def module_names(root: Path = ROOT) -> set[str]:
    """Every module below `segjax`, by the files that there are."""
    paths = (path.relative_to(root).parts for path in (root / "segjax").rglob("*.py"))
    names = {".".join(path).removesuffix(".py") for path in paths}
    return {name.removesuffix(".__init__") for name in names} - {
        "segjax",
        "segjax.__main__",
    }


def write_pages(folder: Path, made: dict[str, str | Path]) -> None:
    """Makes `folder` hold these pages and no others; what is the same is not touched.

    The modules' pages, which autosummary writes after this, stay.
    """
    kept = {*made, *(f"api/{name}.rst" for name in module_names())}
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for name, content in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content.read_bytes()
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)


def _make(app, config):
    write_pages(Path(app.srcdir) / "_generated", pages())


class ResultPages(SphinxDirective):
    """A list of the result pages, by title; those of one title with their names."""

    def run(self):
        titles = {
            path.stem: path.read_text(encoding="utf-8").partition("\n")[0].strip("# ")
            for path in result_files()
        }
        entries = [
            f"{title}{f' ({stem})' if again else ''} </_generated/results/{stem}>"
            for stem, title in titles.items()
            for again in [list(titles.values()).count(title) > 1]
        ]
        lines = ["```{toctree}", ":maxdepth: 1", "", *entries, "```"]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    """Makes the pages."""
    app.add_directive("result-pages", ResultPages)
    app.connect("config-inited", _make)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
