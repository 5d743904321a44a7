"""Prefetching changes when batches are made, not which."""

import signal
import threading
import time

import pytest

from segjax.data.prefetch import Prefetched
from segjax.data.stalls import StallWatch
from segjax.errors import InputError


class Numbers:
    """Counts on from 0; `wait`, if given, is waited for before number `at`."""

    def __init__(self, *, wait=None, at=None, fails_at=None):
        self.given = 0
        self.wait, self.at, self.fails_at = wait, at, fails_at
        self.asked = threading.Event()
        self.closed = threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        if self.given == self.at:
            self.asked.set()
            assert self.wait.wait(20)
        if self.given == self.fails_at:
            raise InputError("number 3 is damaged")
        self.given += 1
        return self.given - 1

    def close(self):
        self.closed.set()


def until(condition):
    """Waits for what another thread does."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_order_and_values(depth):
    with Prefetched(iter(range(40)), lambda x: x * x, depth=depth) as batches:
        assert list(batches) == [x * x for x in range(40)]
        assert list(batches) == []


def test_so_many_are_made_ahead_and_no_more():
    source, put = Numbers(), []
    with Prefetched(source, put.append, depth=2) as batches:
        until(lambda: len(put) == 2)
        time.sleep(0.05)
        assert put == [0, 1]
        next(batches)
        until(lambda: len(put) == 3)
        time.sleep(0.05)
        assert put == [0, 1, 2]
    assert source.closed.wait(20)


@pytest.mark.parametrize("count", [0, 3])
def test_no_more_are_taken_than_asked_for(count):
    source = Numbers()
    with Prefetched(source, lambda x: x, count=count, depth=5) as batches:
        assert source.closed.wait(20)
        assert list(batches) == list(range(count))
    assert source.given == count


def test_what_is_made_ahead_is_made_in_another_thread():
    def put(x):
        return threading.current_thread()

    with Prefetched(Numbers(), put) as batches:
        made_by = next(batches)
        assert made_by is not threading.current_thread()
    until(lambda: not made_by.is_alive())


@pytest.mark.parametrize("fails", ["source", "put"])
def test_an_error_is_raised_when_its_batch_is_due(fails):
    def put(x):
        if fails == "put" and x == 3:
            raise InputError("number 3 is damaged")
        return x

    source = Numbers(fails_at=3 if fails == "source" else None)
    with Prefetched(source, put, depth=5) as batches:
        assert source.closed.wait(20)  # it has failed already
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(InputError, match="number 3 is damaged"):
                next(batches)


def test_leaving_does_not_wait_for_a_batch_that_is_late():
    late = threading.Event()
    source = Numbers(wait=late, at=1)
    with Prefetched(source, lambda x: x) as batches:
        assert next(batches) == 0
        assert source.asked.wait(20)
    assert not source.closed.is_set()
    late.set()
    assert source.closed.wait(20)  # the thread ends by itself


def test_a_signal_interrupts_the_wait():
    class Interrupted(Exception):
        pass

    def hear(*_):
        raise Interrupted

    late = threading.Event()
    source = Numbers(wait=late, at=0)
    before = signal.signal(signal.SIGUSR1, hear)
    try:
        with Prefetched(source, lambda x: x) as batches:
            assert source.asked.wait(20)
            main = threading.get_ident()
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1)).start()
            with pytest.raises(Interrupted):
                next(batches)
    finally:
        signal.signal(signal.SIGUSR1, before)
        late.set()


def test_a_slow_transfer_is_told():
    reports, told = [], threading.Event()

    def report(text):
        reports.append(text)
        told.set()

    def put(x):
        assert told.wait(20)
        return x

    with Prefetched(Numbers(), put) as ahead, StallWatch(0.05, report) as watch:
        assert next(watch.batches(ahead)) == 0
    stage = "no batch for 0 s: transferring to the device (in wait, "
    assert reports[0].startswith(stage)
