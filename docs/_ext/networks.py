"""Directives for what pages can be told by the code and the results.

`networks` is a table of networks with their parameters, counted while the pages are
built; `measured` what was measured with the networks of the page; `source` the part
of a docstring that says where something is from and what differs; `strategies` and
`datasets` are tables of what their names say.
"""

import csv
import importlib
import inspect
import re
import statistics
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

from segjax.data.catalog import catalog
from segjax.models.decoders.strategies import SKIPS, UPSAMPLINGS
from segjax.models.zoo import ENCODERS, MODELS, build_model, count_parameters

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs/results/scripts.csv"
_DEFAULT = (11, 3)  # CamVid's classes, RGB
_ARXIV = re.compile(r"\d{4}\.\d{4,5}")
_END = re.compile(r"(?m)^(Args|Attributes|Returns|Raises):$")


def network_rows(names: list[str]) -> list[list[str]]:
    """The table of `networks`, a row each."""
    rows = [["network", "encoder", "decoder", "from", "classes", "parameters"]]
    for name in names:
        entry = MODELS[name]
        reference = entry.reference
        classes, channels = (
            (reference.num_classes, reference.channels) if reference else _DEFAULT
        )
        model = build_model(name, num_classes=classes)
        count = count_parameters(model, channels=channels)
        source = _ARXIV.sub(r"[\g<0>](https://arxiv.org/abs/\g<0>)", entry.source)
        if reference and reference.parameters != count:
            raise ValueError(f"{name}: {count} parameters, not {reference.parameters}")
        number = f"**{count:,}**" if reference else f"{count:,}"
        shown = str(classes) if channels == 3 else f"{classes}, gray image"
        rows.append([f"`{name}`", entry.encoder, entry.decoder, source, shown, number])
    return rows


def ablation_rows(names: list[str]) -> list[list[str]]:
    """What the ablations' tables (`experiments/results/*.csv`) say of `names`."""
    head = ["network", "table", "seeds", "mIoU", "pixel accuracy", "boundary F1"]
    rows = [head]
    for path in sorted((ROOT / "experiments/results").glob("*.csv")):
        with path.open(newline="") as file:
            runs = list(csv.DictReader(file))
        if not {"strategy", "seed", "miou"} <= set(runs[0]):
            continue
        for name in names:
            mine = [run for run in runs if run["strategy"] == name]
            scores = [
                _spread([float(run[key]) for run in mine])
                for key in ("miou", "pixel_accuracy", "boundary_f1")
                if mine
            ]
            if mine:
                page = f"[{path.stem}](/_generated/results/{path.stem}.md)"
                rows.append([f"`{name}`", page, str(len(mine)), *scores])
    return rows


def script_rows(names: list[str]) -> list[list[str]]:
    """The runs of single scripts with networks of `names`."""
    with SCRIPTS.open(newline="") as file:
        head, *rows = csv.reader(file)
    return [head, *(row for row in rows if set(_names(row[1])) & set(names))]


def source_of(path: str) -> str:
    """The docstring's text from `Source:` to the sections, of a dotted name."""
    module, _, name = path.rpartition(".")
    try:
        documented = importlib.import_module(path)
    except ModuleNotFoundError:
        documented = getattr(importlib.import_module(module), name)
    text = inspect.getdoc(documented) or ""
    start = text.find("Source:")
    if start < 0:
        raise ValueError(f"{path}: no 'Source:' in its docstring")
    return _END.split(text[start:])[0].strip()


def _names(cell):
    return re.findall(r"`(\w+)`", cell)


def _spread(values):
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}"


def _markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)


class Networks(SphinxDirective):
    """Its content is names of MODELS; without any, all of them."""

    has_content = True

    def run(self):
        names = " ".join(self.content).split() or list(MODELS)
        self.env.current_document["segjax_networks"] = names
        self.env.note_dependency(str(ROOT / "segjax/models/zoo.py"))
        return self.parse_text_to_nodes(_markdown(network_rows(names)))


class Measured(SphinxDirective):
    """What was measured with the networks of the `networks` above it."""

    def run(self):
        names = self.env.current_document["segjax_networks"]
        self.env.note_dependency(str(SCRIPTS))
        scripts, ablations = script_rows(names), ablation_rows(names)
        text = []
        if len(ablations) > 1:
            text += [_markdown(ablations), ""]
        if len(scripts) > 1:
            text += [_markdown(scripts), ""]
        measured = {name for row in ablations for name in _names(row[0])} | {
            name for row in scripts if row[3] != "not run" for name in _names(row[1])
        }
        missing = [name for name in names if name not in measured]
        if missing:
            text.append(f"Not run: {', '.join(f'`{name}`' for name in missing)}.")
        return self.parse_text_to_nodes("\n".join(text))


class Source(SphinxDirective):
    """Its arguments are dotted names; each one's docstring from `Source:` on."""

    required_arguments = 1
    optional_arguments = 10

    def run(self):
        nodes = []
        for path in self.arguments:
            # The last two names are a link to the whole docstring.
            short = ".".join(path.split(".")[-2:])
            text = f"{{py:obj}}`{short} <{path}>`. {source_of(path)}"
            nodes += self.parse_text_to_nodes(text)
        return nodes


class Strategies(SphinxDirective):
    """The three axes of the strategies."""

    def run(self):
        rows = [["part", "one of"]]
        for part, names in (
            ("ENCODER", ENCODERS),
            ("UPSAMPLING", UPSAMPLINGS),
            ("SKIP", SKIPS),
        ):
            rows.append([part, ", ".join(f"`{name}`" for name in names)])
        return self.parse_text_to_nodes(_markdown(rows))


class Datasets(SphinxDirective):
    """Every data set: classes, examples, and how to get it."""

    def run(self):
        rows = [["name", "what", "classes", "examples", "how to get it"]]
        for entry in catalog(prepared_dir="none"):
            counts = [f"{n:,} {split}" for split, n in entry.splits.items()]
            rows.append(
                [
                    f"`{entry.name}`",
                    entry.summary,
                    str(len(entry.classes) or "yours"),
                    ", ".join(counts) or "as in the files",
                    entry.get,
                ]
            )
        return self.parse_text_to_nodes(_markdown(rows))


def setup(app):
    """Adds the directives."""
    app.add_directive("strategies", Strategies)
    app.add_directive("datasets", Datasets)
    app.add_directive("networks", Networks)
    app.add_directive("measured", Measured)
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
