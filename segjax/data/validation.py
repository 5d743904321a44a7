"""Looks a data set over before a run does: every file, every label, every copy."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segjax.data import datasets, isbi_em, records
from segjax.data.folder import SegmentationFolder
from segjax.data.labels import ISBI_EM, VOID, LabelTable
from segjax.data.paired_images import Pair, read_pair
from segjax.data.perceptual_hash import NEAR, near_pairs, perceptual_hash
from segjax.data.prepared import prepared_root
from segjax.data.published import PUBLISHED, needs_data_dir
from segjax.data.source import Example, checked
from segjax.errors import InputError

Readers = Mapping[str, list[tuple[str, Callable[[], Example]]]]
"""Split -> (what to call an example in messages, how to read it)."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with a data set.

    Attributes:
      severity: an "error" makes training impossible or its scores meaningless, a
        "warning" is to be looked at.
      message: one line that names file or split.
    """

    severity: Literal["error", "warning"]
    message: str


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """What one split holds, of the examples that could be read.

    Attributes:
      examples: how many there are, unreadable ones included.
      unreadable: of them.
      sizes: (height, width) -> examples.
      pixels: labelled pixels by class, int64 `[k]`.
      images: examples in which a class occurs, int64 `[k]`.
      void: unlabelled pixels.
    """

    examples: int
    unreadable: int
    sizes: dict[tuple[int, int], int]
    pixels: np.ndarray
    images: np.ndarray
    void: int


@dataclasses.dataclass(frozen=True)
class Validation:
    """Of a whole data set: its classes, its splits, what is wrong."""

    table: LabelTable
    splits: dict[str, SplitSummary]
    findings: list[Finding]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def validate(
    name: str,
    *,
    data_dir: Path | None = None,
    prepared_dir: Path | None = None,
    near: int = NEAR,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Validation:
    """Reads every example of a data set as published and says what is wrong.

    Nothing is prepared, except for drawn data, whose records are what is looked at.

    Errors are files that cannot be read, label values outside the class list, labels
    of another size than their image, and images that two splits have in common pixel
    by pixel. Warnings are pictures that look the same in two splits
    (`perceptual_hash`), the same image twice in one, examples that are all void,
    classes that are missing from a split.

    Args:
      name: of the data set, a key of `segjax.data.datasets.DATASETS`.
      data_dir: its folder, as in `open_dataset`.
      prepared_dir: where data sets are downloaded to, or drawn data lie.
      near: bits in which two images' hashes may differ to look the same.
      progress: called with the examples done, and all.

    Raises:
      InputError: unknown name; no such data set in the folder, or its lists and files
        do not go together.
    """
    table, readers = _readers(name, data_dir=data_dir, prepared_dir=prepared_dir)
    return validate_examples(table, readers, near=near, progress=progress)


def validate_examples(
    table: LabelTable,
    readers: Readers,
    *,
    near: int = NEAR,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Validation:
    """As `validate`, of examples that come from anywhere."""
    total, done = sum(map(len, readers.values())), itertools.count(1)
    findings: list[Finding] = []
    splits, looks = {}, {}
    for split, examples in readers.items():
        read = []
        for look in _look_at_all(examples):
            progress(next(done), total)
            if isinstance(look, InputError):
                findings.append(Finding("error", f"{split}: {look}"))
            else:
                read.append(look)
        findings += [
            Finding("warning", f"{split}: {look.name}: all of it is void")
            for look in read
            if not look.counts[:VOID].any()
        ]
        counts = np.array([look.counts for look in read], np.int64).reshape(-1, 256)
        classes = counts[:, : table.num_classes]
        splits[split] = SplitSummary(
            examples=len(examples),
            unreadable=len(examples) - len(read),
            sizes=dict(collections.Counter(look.size for look in read)),
            pixels=classes.sum(axis=0),
            images=(classes > 0).sum(axis=0),
            void=int(counts[:, VOID].sum()),
        )
        looks[split] = read
    findings += _missing_classes(table, splits)
    findings += _repeated(looks)
    for one, two in itertools.combinations(looks, 2):
        findings += _shared(one, looks[one], two, looks[two], near=near)
    findings.sort(key=lambda finding: finding.severity != "error")
    return Validation(table, splits, findings)


@dataclasses.dataclass(frozen=True)
class _Look:
    """What is kept of an example."""

    name: str
    size: tuple[int, int]
    counts: np.ndarray
    digest: bytes
    hash: np.uint64


def _look_at_all(examples) -> Iterator[_Look | InputError]:
    """One by one, in order, read by two threads."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # Not all at once: what is read waits in memory for its turn.
        for start in range(0, len(examples), 64):
            yield from pool.map(_look_at, examples[start : start + 64])


def _look_at(example) -> _Look | InputError:
    name, read = example
    try:
        content = checked(read())
    except InputError as error:
        return error
    image, label = content["image"], content["label"]
    return _Look(
        name=name,
        size=label.shape,
        counts=np.bincount(label.ravel(), minlength=256),
        digest=hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest(),
        hash=perceptual_hash(image),
    )


def _missing_classes(table, splits) -> Iterator[Finding]:
    for split, summary in splits.items():
        missing = [
            name
            for name, count in zip(table.names, summary.pixels, strict=True)
            if not count
        ]
        if missing:
            yield Finding("warning", f"{split}: no pixel of {', '.join(missing)}")


def _repeated(looks: Mapping[str, list[_Look]]) -> Iterator[Finding]:
    for split, read in looks.items():
        first: dict[bytes, str] = {}
        for look in read:
            other = first.setdefault(look.digest, look.name)
            if other != look.name:
                yield Finding(
                    "warning", f"{split}: {look.name} is the same image as {other}"
                )


def _shared(one, first, two, second, *, near) -> Iterator[Finding]:
    pairs = near_pairs(
        np.array([look.hash for look in first], np.uint64),
        np.array([look.hash for look in second], np.uint64),
        most=near,
    )
    for i, j, bits in pairs:
        a, b = first[i], second[j]
        if a.digest == b.digest:
            yield Finding(
                "error", f"{one} and {two}: {a.name} and {b.name} are the same image"
            )
        else:
            yield Finding(
                "warning",
                f"{one} and {two}: {a.name} and {b.name} look the same "
                f"({bits} of 64 bits differ)",
            )


def _readers(name, *, data_dir, prepared_dir) -> tuple[LabelTable, Readers]:
    if name not in datasets.DATASETS:
        raise InputError(
            f"unknown data set {name!r}; known: {', '.join(datasets.DATASETS)}"
        )
    if name == "street_scenes":
        if data_dir is not None:
            raise InputError("data set 'street_scenes' takes no 'data_dir'")
        drawn = datasets.open_dataset(name, prepared_dir=prepared_dir)
        return drawn.table, {
            split: [
                (source.where(i), partial(source.__getitem__, i))
                for i in range(len(source))
            ]
            for split, source in drawn.splits.items()
        }
    published = PUBLISHED.get(name)
    if data_dir is None and published is not None and published.download is not None:
        data_dir = published.download(prepared_root(prepared_dir))
    if data_dir is None:
        raise needs_data_dir(name)
    data_dir = Path(data_dir).expanduser()
    if name == "isbi_em":
        table, read = ISBI_EM, isbi_em.read
        items: Mapping[str, list[Any]] = isbi_em.IsbiEm.config(data_dir).splits
    else:
        builder = SegmentationFolder if published is None else published.builder
        config = builder.config(data_dir)
        table, items = config.table, config.splits
        read = partial(read_pair, table=table, read_label=config.read_label)
    return table, {
        split: [(_name(item), partial(_decoded, read, item)) for item in chosen]
        for split, chosen in items.items()
    }


def _name(item) -> str:
    if isinstance(item, Pair):
        return str(item.image)
    return f"{item.volume}, slice {item.index}"


def _decoded(read, item) -> Example:
    return records.decode(
        {name: x.encode() if name == "id" else x for name, x in read(item).items()}
    )
