"""The runs that one page serves: their networks, loaded, with titles of their own."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segjax.errors import InputError
from segjax.inference.predictor import Predictor, load_predictor


@dataclasses.dataclass(frozen=True)
class ServedRun:
    """A run on the page.

    Attributes:
      title: the network's name, with what tells it from its namesakes; unique.
      folder: of the run, as it was given.
      predictor: the network with its weights.
    """

    title: str
    folder: str
    predictor: Predictor


def load_runs(folders: Sequence[Path]) -> tuple[ServedRun, ...]:
    """Loads the runs, which must agree on their classes: the page has one legend.

    The colours are those of the first run.

    Raises:
      InputError: there is no run, one is given twice, cannot be loaded, or has other
        classes than the first.
    """
    if not folders:
        raise InputError("run: expected at least one folder")
    resolved = [folder.resolve() for folder in folders]
    for position, folder in enumerate(resolved):
        if folder in resolved[:position]:
            raise InputError(f"run {folders[position]}: given twice")
    predictors = [load_predictor(folder) for folder in folders]
    first = predictors[0].table
    for folder, predictor in zip(folders[1:], predictors[1:], strict=True):
        if predictor.table.names != first.names:
            raise InputError(
                f"run {folder}: has the classes {', '.join(predictor.table.names)}, "
                f"expected those of {folders[0]}: {', '.join(first.names)}; "
                "serve it on another port"
            )
    titles = unique_titles([predictor.name for predictor in predictors], resolved)
    return tuple(
        ServedRun(title, str(folder), dataclasses.replace(predictor, table=first))
        for title, folder, predictor in zip(titles, folders, predictors, strict=True)
    )


def unique_titles(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names, with as much of the end of their folder's path as namesakes need.

    Args:
      names: of the networks.
      folders: one per name; no two are equal.
    """
    titles = list(names)
    depth = 0
    while len(set(titles)) < len(titles):
        depth += 1
        counts = Counter(titles)
        titles = [
            f"{name} ({'/'.join(folder.parts[-depth:])})"
            if counts[title] > 1
            else title
            for title, name, folder in zip(titles, names, folders, strict=True)
        ]
    return titles
