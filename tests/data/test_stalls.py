"""A stall is reported with its stage, while it lasts."""

import threading

import numpy as np
import pytest

from segjax.data import pipeline, records, transforms
from segjax.data.pipeline import eval_batches, train_batches
from segjax.data.stalls import StallWatch
from segjax.errors import InputError

OPTIONS = {
    "batch_size": 1,
    "crop_size": (4, 4),
    "scale_range": (1.0, 1.0),
    "flip": False,
    "photometric": 0.0,
    "seed": 0,
}


class Reports(list):
    """Collects reports; `first` is set with the first one."""

    def __init__(self):
        super().__init__()
        self.first = threading.Event()

    def __call__(self, text):
        self.append(text)
        self.first.set()


class Source:
    """Four equal examples; reading waits for `reading` where that is given."""

    def __init__(self, *, reading=None, decoding=False):
        self.reading = reading
        self.decoding = decoding
        label = np.zeros((6, 8), np.uint8)
        self.record = {
            "image": records.encode_png(np.zeros((6, 8, 3), np.uint8)),
            "label": records.encode_png(label),
            "id": b"x",
        }

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.reading is not None:
            assert self.reading.wait(20)
        return records.decode(self.record)


def watched(batches, reports):
    """Takes one batch under a watch; the stall ends when it is reported."""
    with StallWatch(0.05, reports) as watch:
        next(watch.batches(batches))
    batches.close()
    return reports[0]


@pytest.mark.parametrize("num_threads", [0, 2])
def test_slow_reading(num_threads):
    reports = Reports()
    source = Source(reading=reports.first)
    batches = eval_batches(
        source, batch_size=1, pad_size=(6, 8), num_threads=num_threads
    )
    text = watched(batches, reports)
    assert text.startswith("no batch for 0 s: reading example 0 (in wait, ")
    assert "threading.py:" in text


def test_slow_decoding(monkeypatch):
    reports = Reports()
    monkeypatch.setattr(
        records, "_decode_image", lambda data: reports.first.wait(20) and np.zeros(0)
    )
    batches = train_batches(Source(), **OPTIONS)
    with (
        StallWatch(0.05, reports) as watch,
        pytest.raises(InputError, match="image is"),
    ):
        next(watch.batches(batches))
    batches.close()
    assert "decoding example" in reports[0]


def test_slow_augmentation(monkeypatch):
    reports = Reports()
    crop = transforms.random_scale_crop

    def slow(*args, **options):
        assert reports.first.wait(20)
        return crop(*args, **options)

    monkeypatch.setattr(pipeline.transforms, "random_scale_crop", slow)
    assert "augmenting" in watched(train_batches(Source(), **OPTIONS), reports)


def test_slow_transfer():
    reports = Reports()
    with StallWatch(0.05, reports) as watch, watch.stage("transfer to the device"):
        assert reports.first.wait(20)
    assert reports[0] == "stalled for 0 s: transfer to the device"


def test_readers_that_are_gone():
    reports = Reports()

    def nothing():
        assert reports.first.wait(20)
        yield 1

    with StallWatch(0.05, reports) as watch:
        assert list(watch.batches(nothing())) == [1]
    assert "no thread prepares a batch" in reports[0]


def test_what_flows_is_not_reported():
    reports = Reports()
    batches = train_batches(Source(), **OPTIONS)
    with StallWatch(20.0, reports) as watch:
        stream = watch.batches(batches)
        for _ in range(20):
            next(stream)
            with watch.stage("transfer"):
                pass
    batches.close()
    assert reports == []
    assert "stall watch" not in [thread.name for thread in threading.enumerate()]


def test_a_watch_needs_a_time():
    with pytest.raises(InputError, match="stall_seconds is 0, expected > 0"):
        StallWatch(0, print)
