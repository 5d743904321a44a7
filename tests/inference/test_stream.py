"""The stream: order, batches, what is given before an error."""

import threading

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.stream import predict_stream


def sources(*sizes):
    """Images named by their number and filled with it; None cannot be read."""

    def read(number, size):
        if size is None:
            raise InputError(f"{number}: broken")
        return np.full((*size, 3), number, np.uint8)

    return [
        (str(number), lambda number=number, size=size: read(number, size))
        for number, size in enumerate(sizes)
    ]


class Network:
    """The mean of every image, and the batches that it was asked for."""

    def __init__(self):
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape[:3])
        return {"mean": images.mean(axis=-1)}


@pytest.mark.parametrize("read_ahead", [0, 1, 3, 100])
def test_every_image_once_and_in_order(read_ahead):
    sizes = [(2, 3)] * 7 + [(3, 2)] + [(2, 3)] * 2
    network = Network()
    seen = list(
        predict_stream(sources(*sizes), network, batch_size=4, read_ahead=read_ahead)
    )
    assert [name for name, _, _ in seen] == [str(i) for i in range(10)]
    for number, (_, image, maps) in enumerate(seen):
        assert image.shape == (*sizes[number], 3)
        np.testing.assert_array_equal(maps["mean"], np.full(sizes[number], number))
    # 4 + 3 of one size, filled to 4; 1 of another; 2.
    assert network.shapes == [(4, 2, 3), (4, 2, 3), (1, 3, 2), (2, 2, 3)]


def test_what_can_be_read_is_given_before_the_error():
    images = sources((1, 1), (1, 1), (1, 1), None, (1, 1))
    stream = predict_stream(images, Network(), batch_size=2, read_ahead=8)
    assert [next(stream)[0] for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(InputError, match="3: broken"):
        next(stream)


def test_the_next_batch_is_started_before_the_last_one_is_looked_at():
    events = []

    class Lazy:
        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            events.append(f"look {self.number}")
            return np.zeros(1)

    def predict(images):
        number = int(images[0, 0, 0, 0])
        events.append(f"start {number}")
        return {"x": Lazy(number)}

    images = sources((1, 1), (1, 1), (1, 1))
    list(predict_stream(images, predict, batch_size=1, read_ahead=0))
    assert events == ["start 0", "start 1", "look 0", "start 2", "look 1", "look 2"]


def test_a_camera_is_not_read_ahead():
    read = []

    def camera():
        for number in range(100):
            yield str(number), lambda number=number: read.append(number) or image

    image = np.zeros((1, 1, 3), np.uint8)
    stream = predict_stream(camera(), Network(), batch_size=1, read_ahead=0)
    next(stream)
    assert read == [0, 1]  # the one that is given, and the one on the device


def test_threads_end_with_the_stream():
    before = set(threading.enumerate())
    stream = predict_stream(
        sources(*[(1, 1)] * 50), Network(), batch_size=2, read_ahead=8
    )
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()
    assert not set(threading.enumerate()) - before


def test_batch_size_is_positive():
    with pytest.raises(InputError, match="batch_size 0: expected at least 1"):
        next(predict_stream([], Network(), batch_size=0, read_ahead=1))
