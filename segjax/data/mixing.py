"""A file that mixes several data sets into one: `--dataset mix.toml`.

    taxonomy = "urban.csv"       # not needed where all have the same classes

    [[data]]
    dataset = "cityscapes"
    data_dir = "/data/cityscapes"
    weight = 2                   # two of three training images are drawn from it

    [[data]]
    dataset = "camvid"
    weight = 1

Paths are relative to the file. `name` says what a data set is called where one occurs
twice, `column` which column of the taxonomy is its own (default: its name in `dataset`),
and `options` what else the data set's `open_` function takes. The weights are relative;
1 is the default.

Split 'train' is mixed by the weights (`mixed_order.py`). Split 'val' is all
validation images one after the other, each once, and 'test' likewise if every data set
has one; scores of one data set are those of the splits 'val_NAME' and 'test_NAME'.
"""

import dataclasses
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segjax.data.labels import LabelTable
from segjax.data.mixture import Joined, Part
from segjax.data.source import Source
from segjax.data.taxonomy import shipped
from segjax.errors import InputError

_KEYS = ("dataset", "name", "data_dir", "weight", "column", "options")


@dataclasses.dataclass(frozen=True)
class Member:
    """A data set of a mixture, as the file has it."""

    dataset: str
    name: str
    data_dir: Path | None
    weight: float
    column: str
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Mix:
    """What a file says: `taxonomy` is a file or the name of a shipped one, or None."""

    taxonomy: str | None
    members: tuple[Member, ...]


def read_mix(path: Path) -> Mix:
    """Reads a mixture.

    Raises:
      InputError: the file cannot be read, or says something that is not expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{path}: mixture cannot be read ({error}); expected a TOML file with "
            "[[data]] tables"
        ) from error
    _check_keys(content, ("taxonomy", "data"), str(path))
    tables = content.get("data")
    if not isinstance(tables, list) or not tables:
        raise InputError(f"{path}: no [[data]]; expected one for each data set")
    members = tuple(_member(path, n, each) for n, each in enumerate(tables, start=1))
    for index, member in enumerate(members):
        if member.name in [other.name for other in members[:index]]:
            raise InputError(
                f"{path}: data set {member.name!r} is there twice; expected another "
                "'name' for one of them"
            )
    taxonomy = content.get("taxonomy")
    if taxonomy is not None:
        if not isinstance(taxonomy, str):
            raise InputError(f"{path}: taxonomy {taxonomy!r}; expected a file")
        if taxonomy not in shipped():
            taxonomy = str(path.parent / Path(taxonomy).expanduser())
    return Mix(taxonomy, members)


def _member(path: Path, number: int, table: Any) -> Member:
    where = f"{path}: [[data]] number {number}"
    if not isinstance(table, dict):
        raise InputError(f"{where}: {table!r}; expected a table")
    _check_keys(table, _KEYS, where)
    for key in ("dataset", "name", "data_dir", "column"):
        if not isinstance(table.get(key, ""), str):
            raise InputError(f"{where}: {key} {table[key]!r}; expected text")
    if not table.get("dataset"):
        raise InputError(f"{where}: no 'dataset'; expected the name of a data set")
    weight = table.get("weight", 1)
    number_like = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number_like or not 0 < weight < math.inf:
        raise InputError(f"{where}: weight {weight!r}; expected a number above 0")
    options = table.get("options", {})
    if not isinstance(options, dict):
        raise InputError(f"{where}: options {options!r}; expected a table")
    name = table.get("name", table["dataset"])
    if not name.replace("-", "_").isidentifier():
        raise InputError(f"{where}: name {name!r}; expected letters, digits and '_'")
    folder = table.get("data_dir")
    return Member(
        dataset=table["dataset"],
        name=name,
        data_dir=None if folder is None else path.parent / Path(folder).expanduser(),
        weight=float(weight),
        column=table.get("column", table["dataset"]),
        options=options,
    )


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise InputError(f"{where}: unknown {key!r}; expected {', '.join(known)}")


def mixed_splits(
    path: Path, members: list[tuple[Member, LabelTable, Mapping[str, Source]]]
) -> tuple[dict[str, Source], tuple[Part, ...]]:
    """Splits of a mixture, and the parts of its split 'train'.

    Args:
      path: names the mixture in messages.
      members: with their tables and splits.

    Raises:
      InputError: the classes differ, or a data set has no split 'train'.
    """
    first, table, _ = members[0]
    for member, other, splits in members:
        if other.names != table.names:
            raise InputError(
                f"{path}: {member.name} has the classes {_few(other)}, {first.name} has "
                f"{_few(table)}; expected a taxonomy that maps them to common ones"
            )
        if "train" not in splits:
            raise InputError(
                f"{path}: {member.name} has no split 'train', only {', '.join(splits)}"
            )
    joined: dict[str, Source] = {}
    for split in ("train", "val", "test"):
        found = [(m.name, splits[split]) for m, _, splits in members if split in splits]
        if split == "test" and len(found) < len(members):
            continue
        if found:
            joined[split] = Joined(found)
    for split in ("val", "test"):
        for member, _, splits in members:
            if split in splits:
                joined[f"{split}_{member.name}"] = splits[split]
    parts = tuple(
        Part(member.name, len(splits["train"]), member.weight)
        for member, _, splits in members
    )
    return joined, parts


def _few(table: LabelTable) -> str:
    more = ", ..." if table.num_classes > 5 else ""
    return f"{', '.join(table.names[:5])}{more} ({table.num_classes})"


def open_mixture(
    path: Path,
    open_one: Callable[..., Any],
    *,
    prepared_dir: os.PathLike | str | None = None,
) -> tuple[LabelTable, dict[str, Source], tuple[Part, ...]]:
    """Opens the data sets of a mixture in its taxonomy.

    Args:
      path: of the file.
      open_one: `segjax.data.datasets.open_dataset`.
      prepared_dir: where the prepared data sets lie.

    Returns:
      the classes, the splits, and the parts of the split 'train'.

    Raises:
      InputError: see `read_mix`, `mixed_splits` and `open_one`.
    """
    mix = read_mix(path)
    members = []
    for member in mix.members:
        if member.dataset.endswith(".toml"):
            raise InputError(f"{path}: {member.dataset}: a mixture within a mixture")
        dataset = open_one(
            member.dataset,
            data_dir=member.data_dir,
            prepared_dir=prepared_dir,
            taxonomy=mix.taxonomy,
            column=member.column,
            **member.options,
        )
        members.append((member, dataset.table, dataset.splits))
    splits, parts = mixed_splits(path, members)
    table = members[0][1]
    thin = {name for _, other, _ in members for name in other.thin}
    thin = tuple(name for name in table.names if name in thin)
    return dataclasses.replace(table, thin=thin), splits, parts
