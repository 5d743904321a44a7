"""Skipping bad examples: deterministic, counted, limited."""

import itertools
import re

import numpy as np
import pytest

from segjax.data.bad_records import skip_bad
from segjax.data.pipeline import train_batches
from segjax.errors import InputError


class Source:
    """Eight examples whose label is their index; those in `bad` are damaged."""

    def __init__(self, bad=()):
        self.bad = bad

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index in self.bad:
            raise InputError(f"data.array_record: record {index}: hash mismatch")
        label = np.full((6, 8), index, np.uint8)
        return {"image": np.repeat(label[..., None], 3, -1), "label": label, "id": "x"}


OPTIONS = {
    "batch_size": 4,
    "crop_size": (4, 4),
    "scale_range": (0.5, 2.0),
    "flip": True,
    "photometric": 0.0,
    "seed": 0,
}


def batches(source, count, start_step=0):
    iterator = train_batches(source, start_step=start_step, **OPTIONS)
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return taken


def test_by_default_the_first_bad_record_stops_the_run_and_is_named():
    with pytest.raises(InputError, match="record 3: hash mismatch"):
        batches(Source(bad={3}), 2)


def test_the_next_good_one_stands_in(caplog):
    source = skip_bad(Source(bad={3, 4, 7}), max_bad=3)
    ids = [int(source[index]["label"][0, 0]) for index in range(8)]
    assert ids == [0, 1, 2, 5, 5, 5, 6, 0]
    assert sorted(source.bad) == [3, 4, 7]
    [source[index] for index in range(8)]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"skipped bad record {count} of at most 3: data.array_record: record {index}: "
        "hash mismatch"
        for count, index in ((1, 3), (2, 4), (3, 7))
    ]


def test_one_more_than_allowed_stops_the_run():
    source = skip_bad(Source(bad={1, 5, 6}), max_bad=2)
    message = re.escape("record 6: hash mismatch (bad record number 3, max_bad is 2)")
    with pytest.raises(InputError, match=message):
        [source[index] for index in range(8)]
    with pytest.raises(InputError, match="bad record number"):
        batches(skip_bad(Source(bad={1, 5, 6}), max_bad=2), 4)


def test_resuming_reads_the_same():
    whole = batches(skip_bad(Source(bad={2, 3}), max_bad=2), 7)
    rest = batches(skip_bad(Source(bad={2, 3}), max_bad=2), 3, start_step=4)
    for batch, other in zip(whole[4:], rest, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])
    labels = {int(v) for batch in whole for v in np.unique(batch["label"])}
    assert labels - {255} == {0, 1, 4, 5, 6, 7}


def test_good_examples_are_where_they_were():
    clean, skipping = batches(Source(), 4), batches(skip_bad(Source({2}), max_bad=1), 4)
    for batch, other in zip(clean, skipping, strict=True):
        rows = [2 not in label for label in batch["label"]]
        np.testing.assert_array_equal(batch["image"][rows], other["image"][rows])


def test_malformed_examples_are_bad():
    class Malformed(Source):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            if index == 1:
                example["label"] = example["label"][:3]
            return example

    source = skip_bad(Malformed(), max_bad=1)
    assert source[1]["label"][0, 0] == 2
    assert "label is uint8 (3, 8), expected uint8 (6, 8)" in source.bad[1]


def test_nothing_good_at_all():
    with pytest.raises(InputError, match="every example of the source is bad"):
        skip_bad(Source(bad=set(range(8))), max_bad=8)[0]


def test_negative_limit():
    with pytest.raises(InputError, match="max_bad -1: expected 0 or more"):
        skip_bad(Source(), max_bad=-1)
