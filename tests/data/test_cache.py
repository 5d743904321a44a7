"""The cache changes how often examples are decoded, and nothing else."""

import dataclasses
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segjax import configuration, experiment
from segjax.configuration import Config
from segjax.data import cache, host_memory, records
from segjax.data.bad_records import skip_bad
from segjax.data.cache import Cached, cached_splits
from segjax.data.datasets import open_street_scenes
from segjax.data.pipeline import eval_batches, train_batches
from segjax.errors import InputError

SIZE = 6 * 8 * 3 + 6 * 8


class Counting:
    """Five random examples; counts how often each is read. Example `bad` is not one."""

    def __init__(self, bad=None):
        rng = np.random.default_rng(0)
        self.examples = [
            {
                "image": rng.integers(0, 256, (6, 8, 3), np.uint8),
                "label": rng.integers(0, 3, (6, 8), np.uint8),
                "id": str(i),
            }
            for i in range(5)
        ]
        self.reads = [0] * 5
        self.bad = bad
        self.lock = threading.Lock()

    def __len__(self):
        return 5

    def __getitem__(self, index):
        with self.lock:
            self.reads[index] += 1
        if index == self.bad:
            raise InputError(f"example {index} is bad")
        return {
            name: value if name == "id" else value.copy()
            for name, value in self.examples[index].items()
        }

    def decoded_bytes(self):
        return 5 * SIZE


def stream(source, **options):
    """Twelve training batches, more than three epochs."""
    batches = train_batches(
        source,
        **{"batch_size": 2, "num_threads": 2, "start_step": 1} | options,
        crop_size=(5, 7),
        scale_range=(0.5, 2.0),
        flip=True,
        photometric=0.3,
        elastic=1.0,
        seed=3,
    )
    found = [next(batches) for _ in range(12)]
    batches.close()
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("limit", [5 * SIZE, 2 * SIZE, 0])
def test_batches_are_those_without_it(limit, num_threads):
    cached = Cached(Counting(), limit=limit)
    expected = stream(Counting(), num_threads=0)
    assert_same(stream(cached, num_threads=num_threads), expected)
    assert cached.nbytes == limit
    options = {"batch_size": 2, "num_threads": num_threads}
    assert_same(
        list(eval_batches(cached, **options)), list(eval_batches(Counting(), **options))
    )


def test_every_example_is_decoded_once():
    source = Counting()
    cached = Cached(source, limit=5 * SIZE)
    for _ in range(3):
        for index in (*range(5), -1, np.int64(2)):
            example = cached[index]
            assert example["id"] == str(index % 5)
            assert not example["image"].flags.writeable
            assert not example["label"].flags.writeable
            example["image"] = None  # the caller's own dict
    assert source.reads == [1] * 5


def test_of_what_does_not_fit_nothing_is_kept():
    source = Counting()
    cached = Cached(source, limit=2 * SIZE + SIZE - 1)
    for _ in range(2):
        for index in range(5):
            cached[index]
    assert source.reads == [1, 1, 2, 2, 2]
    assert cached.nbytes == 2 * SIZE


def test_many_threads_count_every_example_once():
    cached = Cached(Counting(), limit=5 * SIZE)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: cached[i % 5]["image"], range(400)))
    assert cached.nbytes == 5 * SIZE
    for index, image in enumerate(found):
        expected = Counting().examples[index % 5]["image"]
        np.testing.assert_array_equal(image, expected)


def test_a_bad_example_is_bad_every_time_and_can_be_skipped():
    source = Counting(bad=1)
    cached = Cached(source, limit=5 * SIZE)
    for _ in range(2):
        with pytest.raises(InputError, match="example 1 is bad"):
            cached[1]
    assert source.reads[1] == 2
    assert_same(
        stream(skip_bad(cached, max_bad=1)),
        stream(skip_bad(Counting(bad=1), max_bad=1)),
    )


def test_splits_are_cached_where_they_fit_and_it_is_said(caplog):
    splits = {"train": Counting(), "val": Counting(), "test": Counting()}
    with caplog.at_level(logging.INFO, logger="segjax.data.cache"):
        found = cached_splits(splits, ("train", "val"), available=10 * SIZE)
    assert [type(source) for source in found.values()] == [Cached, Cached, Counting]
    size = f"{10 * SIZE / 1e6:.1f} MB"
    assert caplog.messages == [
        f"cache: 5 of train + 5 of val take {size} of {size} of memory"
    ]
    with pytest.raises(InputError, match=r"5 of train \+ 5 of val take .* available"):
        cached_splits(splits, ("train", "val"), available=10 * SIZE - 1)


def test_memory_must_be_known(monkeypatch):
    monkeypatch.setattr(cache, "available_memory", lambda: None)
    with pytest.raises(InputError, match="does not say how much memory"):
        cached_splits({"train": Counting()}, ("train",))


def test_bytes_are_known_before_decoding(tmp_path):
    size, counts = (32, 40), {"train": 3}
    source = open_street_scenes(prepared_dir=tmp_path, size=size, counts=counts)
    train = source.splits["train"]
    decoded = [train[index] for index in range(3)]
    expected = sum(e["image"].nbytes + e["label"].nbytes for e in decoded)
    assert train.decoded_bytes() == expected == 3 * 4 * 32 * 40
    record = {
        "image": records.encode_png(np.zeros((2, 5, 3), np.uint8)),
        "label": records.encode_png(np.zeros((2, 5), np.uint8)),
        "id": b"x",
    }
    assert records.decoded_bytes(record) == 2 * 5 * 4


def test_the_option_gives_the_same_batches(tmp_path, monkeypatch):
    scenes = {"size": (32, 40), "counts": {"train": 4, "val": 1}}
    monkeypatch.setattr(configuration, "SMOKE_DATA", scenes)
    plain = Config(
        name="x",
        dataset="street_scenes",
        model="fcn_basic",
        prepared_dir=tmp_path,
        crop_size=(24, 24),
        batch_size=3,
        scale_range=(0.5, 2.0),
        smoke=True,
    )
    caching = dataclasses.replace(plain, cache="memory")
    found = []
    for config in (plain, caching):
        source = experiment.open_data(config).splits["train"]
        assert isinstance(source, Cached) == (config is caching)
        batches = experiment.train_batches(config, source)
        found.append([next(batches) for _ in range(5)])
        batches.close()
    assert_same(*found)
    monkeypatch.setattr(cache, "available_memory", lambda: 1)
    with pytest.raises(InputError, match=r"4 of train \+ 1 of val take 0.0 MB and"):
        experiment.open_data(caching)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_available_memory(tmp_path):
    assert host_memory.available_memory(tmp_path) is None
    write(
        tmp_path / "proc/meminfo",
        "MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable:     500 kB\n",
    )
    assert host_memory.available_memory(tmp_path) == 500 * 1024
    group = tmp_path / "sys/fs/cgroup"
    write(group / "memory.max", "max\n")
    write(group / "memory.current", "70000\n")
    assert host_memory.available_memory(tmp_path) == 500 * 1024
    write(group / "memory.max", "100000\n")
    write(group / "memory.stat", "anon 9\ninactive_file 20000\nactive_file 7\n")
    assert host_memory.available_memory(tmp_path) == 100000 - (70000 - 20000)
    older = tmp_path / "sys/fs/cgroup/memory"
    write(older / "memory.limit_in_bytes", "40000")
    write(older / "memory.usage_in_bytes", "50000")
    write(older / "memory.stat", "total_inactive_file 15000\n")
    assert host_memory.available_memory(tmp_path) == 40000 - (50000 - 15000)


def test_this_machine_has_memory():
    assert host_memory.available_memory() > 0
