"""What there is to train on: every data set's classes and splits, and how to get it."""

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from segjax.data.datasets import DATASETS
from segjax.data.folder import SegmentationFolder
from segjax.data.isbi_em import IsbiEm
from segjax.data.labels import CAMVID, ISBI_EM
from segjax.data.prepared import prepared_root
from segjax.data.published import PUBLISHED
from segjax.data.street_scenes import StreetScenes, StreetScenesConfig


@dataclasses.dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
      name: a key of `DATASETS`.
      summary: what it is, one line.
      classes: their names; empty where the data say.
      splits: examples by split, as published; empty where the data say.
      get: how to get it: "drawn", "downloads itself", or "needs --data-dir".
      data_dir: what the folder given as `data_dir` holds; "" where there is none.
      prepared: folders of prepared records, one for each state of the files.
      page: layout, classes and licence, as its module says.
    """

    name: str
    summary: str
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    get: str
    data_dir: str
    prepared: tuple[Path, ...]
    page: str


def catalog(prepared_dir: os.PathLike | str | None = None) -> tuple[Entry, ...]:
    """All data sets, in the order of `DATASETS`.

    Args:
      prepared_dir: where the prepared data sets lie; see `open_dataset`.
    """
    root = prepared_root(prepared_dir)
    return tuple(_entry(name, root) for name in DATASETS)


def _entry(name: str, root: Path) -> Entry:
    doc = inspect.getdoc(DATASETS[name]) or ""
    builder, classes, splits = _builder(name)
    needs = "data_dir" in inspect.signature(DATASETS[name]).parameters
    published = PUBLISHED.get(name)
    if published is not None and published.download is not None:
        get = "downloads itself"
    else:
        get = "needs --data-dir" if needs else "drawn"
    return Entry(
        name=name,
        # Without the references, which are for readers of the code.
        summary=re.sub(
            r" \(`.*?`\)|; see `.*?`|\.$",
            "",
            doc.splitlines()[0].removeprefix("Opens "),
        ),
        classes=classes,
        splits=splits,
        get=get,
        data_dir=_argument(doc, "data_dir") if published is None else published.files,
        prepared=tuple(
            path.parent
            for path in sorted(root.glob(f"{builder.name}/*/*/features.json"))
        ),
        page=inspect.getdoc(sys.modules[builder.__module__]) or "",
    )


def _builder(name: str):
    if name in PUBLISHED:
        published = PUBLISHED[name]
        return published.builder, published.table.names, published.splits
    if name == "street_scenes":
        return StreetScenes, CAMVID.names, dict(StreetScenesConfig.counts)
    if name == "isbi_em":
        return IsbiEm, ISBI_EM.names, {"train": 20, "val": 4}
    return SegmentationFolder, (), {}


def _argument(doc: str, name: str) -> str:
    """What a docstring says of an argument, as one line."""
    found: list[str] = []
    for line in doc.splitlines():
        if line.strip().startswith(f"{name}: "):
            found.append(line.strip().removeprefix(f"{name}: "))
        elif found and not line.startswith("    "):
            break
        elif found:
            found.append(line.strip())
    return " ".join(found).replace("`", "").rstrip(".")
