import itertools
import time

import numpy as np
import pytest

from segjax.data.border_weights import border_weights
from segjax.data.labels import VOID
from segjax.data.pipeline import eval_batches, max_size, train_batches
from segjax.errors import InputError


class Source:
    """Examples whose label is their index everywhere; counts what is read."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.reads = []

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.reads.append(index)
        height, width = self.sizes[index]
        rng = np.random.default_rng(index)
        return {
            "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
            "label": np.full((height, width), index, np.uint8),
            "id": f"example-{index}",
        }


class Unreadable(Source):
    def __getitem__(self, index):
        if index == 2:
            raise InputError("two.png: not an image")
        return super().__getitem__(index)


class Broken(Source):
    """One field of example 0 is replaced."""

    def __init__(self, **fields):
        super().__init__([(6, 8)])
        self.fields = fields

    def __getitem__(self, index):
        return super().__getitem__(index) | self.fields


PLAIN = {
    "crop_size": (6, 8),
    "scale_range": (1.0, 1.0),
    "flip": False,
    "photometric": 0.0,
    "seed": 0,
}
AUGMENTED = {
    "crop_size": (5, 5),
    "scale_range": (0.5, 2.0),
    "flip": True,
    "photometric": 0.4,
    "elastic": 1.5,
    "border_weight": (10.0, 5.0, 3),
    "seed": 0,
}


def source_of(count):
    return Source([(6, 8)] * count)


def take(iterator, count):
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


def indices(batches):
    return [int(label[0, 0]) for batch in batches for label in batch["label"]]


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


@pytest.mark.parametrize("border_weight", [None, (10.0, 5.0, 1)])
def test_train_batch_contract(border_weight):
    options = AUGMENTED | {"border_weight": border_weight}
    (batch,) = take(train_batches(source_of(7), batch_size=3, **options), 1)
    weight = {} if border_weight is None else {"weight": ((3, 5, 5), np.float32)}
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        "image": ((3, 5, 5, 3), np.uint8),
        "label": ((3, 5, 5), np.uint8),
        "valid": ((3,), np.bool_),
        **weight,
    }
    assert batch["valid"].all()


def test_weights_are_those_of_the_augmented_label():
    class Cells(Source):
        """Cells of two pixels a side, three apart."""

        def __getitem__(self, index):
            rows, columns = (np.arange(side) % 5 < 2 for side in self.sizes[index])
            label = (rows[:, None] & columns).astype(np.uint8)
            return super().__getitem__(index) | {"label": label}

    options = AUGMENTED | {"crop_size": (24, 20), "border_weight": (7.0, 2.0, 1)}
    source = Cells([(30, 30)] * 2)
    (batch,) = take(train_batches(source, batch_size=4, **options), 1)
    for label, weight in zip(batch["label"], batch["weight"], strict=True):
        expected = border_weights(label, cell_class=1, w0=7.0, sigma=2.0)
        np.testing.assert_array_equal(weight, expected)
    assert batch["weight"].max() > 3


def test_elastic_bends_the_examples():
    source = Source([(40, 40)])
    (straight,) = take(
        train_batches(source, batch_size=2, **PLAIN | {"crop_size": (40, 40)}), 1
    )
    (bent,) = take(
        train_batches(
            source, batch_size=2, elastic=4.0, **PLAIN | {"crop_size": (40, 40)}
        ),
        1,
    )
    assert np.array_equal(straight["image"][0], straight["image"][1])
    assert not np.array_equal(bent["image"][0], straight["image"][0])
    # Every example is bent in its own way, and void comes in from outside.
    assert not np.array_equal(bent["image"][0], bent["image"][1])
    assert set(np.unique(bent["label"])) == {0, VOID}


def test_train_without_augmentation_yields_the_examples():
    source = source_of(4)
    for batch in take(train_batches(source, batch_size=2, **PLAIN), 4):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            example = source[int(label[0, 0])]
            np.testing.assert_array_equal(image, example["image"])
            np.testing.assert_array_equal(label, example["label"])


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (8, 4), (3, 5), (1, 4)])
def test_every_epoch_covers_each_example_once(count, batch_size):
    steps = -(-6 * count // batch_size)
    batches = take(
        train_batches(source_of(count), batch_size=batch_size, **PLAIN), steps
    )
    stream = indices(batches)[: 6 * count]
    epochs = [stream[i : i + count] for i in range(0, 6 * count, count)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    if count >= 7:
        assert len({tuple(epoch) for epoch in epochs}) == 6


def test_order_and_augmentation_follow_the_seed():
    options = AUGMENTED | {"seed": 1}
    first = take(train_batches(source_of(9), batch_size=9, **AUGMENTED), 2)
    again = take(train_batches(source_of(9), batch_size=9, **AUGMENTED), 2)
    other = take(train_batches(source_of(9), batch_size=9, **options), 2)
    assert_same(first, again)
    assert not np.array_equal(first[0]["image"], other[0]["image"])
    plain = take(train_batches(source_of(9), batch_size=9, **PLAIN), 2)
    shifted = take(train_batches(source_of(9), batch_size=9, **PLAIN | {"seed": 1}), 1)
    # The next seed's first epoch is not this seed's second.
    assert indices(shifted) not in [indices([batch]) for batch in plain]


def test_augmentation_differs_between_epochs():
    # One example: every row is the same image, cropped anew.
    source = Source([(40, 40)])
    batches = take(train_batches(source, batch_size=1, **AUGMENTED), 6)
    assert len({batch["image"].tobytes() for batch in batches}) == 6


@pytest.mark.parametrize("start_step", [1, 4, 11])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_resuming_continues_the_uninterrupted_run(start_step, num_threads):
    # Seven examples in batches of three: step 11 lies in the fifth epoch.
    whole = take(train_batches(source_of(7), batch_size=3, **AUGMENTED), 15)
    resumed = train_batches(
        source_of(7),
        batch_size=3,
        start_step=start_step,
        num_threads=num_threads,
        **AUGMENTED,
    )
    assert_same(take(resumed, 15 - start_step), whole[start_step:])


def test_resuming_reads_only_what_it_yields():
    source = source_of(7)
    iterator = train_batches(
        source, batch_size=3, start_step=10**7, num_threads=0, **AUGMENTED
    )
    take(iterator, 2)
    assert len(source.reads) == 6


@pytest.mark.parametrize(("num_threads", "prefetch"), [(1, 1), (2, 8), (4, 3)])
def test_threads_do_not_change_the_stream(num_threads, prefetch):
    expected = take(
        train_batches(source_of(7), batch_size=3, num_threads=0, **AUGMENTED), 9
    )
    iterator = train_batches(
        source_of(7),
        batch_size=3,
        num_threads=num_threads,
        prefetch=prefetch,
        **AUGMENTED,
    )
    assert_same(take(iterator, 9), expected)


@pytest.mark.parametrize("shard_count", [2, 4])
@pytest.mark.parametrize("start_step", [0, 5])
def test_shards_put_together_are_the_global_batch(shard_count, start_step):
    options = AUGMENTED | {"batch_size": 4, "start_step": start_step}
    whole = take(train_batches(source_of(7), **options), 6)
    shards = [
        take(
            train_batches(
                source_of(7), shard_index=i, shard_count=shard_count, **options
            ),
            6,
        )
        for i in range(shard_count)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shards, strict=True)
    ]
    assert_same(joined, whole)


def test_prefetch_counts_batches():
    source = source_of(50)
    iterator = train_batches(source, batch_size=3, prefetch=2, num_threads=2, **PLAIN)
    next(iterator)
    deadline = time.monotonic() + 5
    while len(source.reads) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # long enough for a hundred such batches
    iterator.close()
    assert len(source.reads) == 3 * (1 + 2)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_input_error_of_a_source_arrives_unchanged(num_threads):
    source = Unreadable([(6, 8)] * 4)
    for iterator in (
        train_batches(source, batch_size=4, num_threads=num_threads, **PLAIN),
        eval_batches(source, batch_size=4, num_threads=num_threads),
    ):
        with pytest.raises(InputError) as caught:
            next(iterator)
        iterator.close()
        assert type(caught.value) is InputError
        assert str(caught.value) == "two.png: not an image"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": np.zeros((6, 8), np.uint8)}, "example-0: image is uint8"),
        ({"image": np.zeros((6, 8, 4), np.uint8)}, "example-0: image is uint8"),
        ({"image": np.zeros((6, 8, 3), np.float32)}, "example-0: image is float32"),
        ({"label": np.zeros((6, 7), np.uint8)}, r"example-0: label is uint8 \(6, 7\)"),
        ({"label": np.zeros((6, 8), np.int32)}, "example-0: label is int32"),
    ],
)
def test_malformed_example_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        next(train_batches(Broken(**fields), batch_size=1, num_threads=0, **PLAIN))
    with pytest.raises(InputError, match=message):
        eval_batches(Broken(**fields), batch_size=1)
    with pytest.raises(InputError, match=message):
        max_size(Broken(**fields))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 3, "shard_count": 2}, "batch_size 3: .* shard_count 2"),
        ({"shard_index": 2, "shard_count": 2}, "shard_index 2"),
        ({"shard_count": 0}, "shard_count 0"),
        ({"crop_size": (0, 8)}, "crop_size"),
        ({"crop_size": (8, 8, 3)}, "crop_size"),
        ({"crop_size": None}, "crop_size"),
        ({"image_size": (8, -1)}, "image_size"),
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"scale_range": (2.0, 1.0)}, "scale_range"),
        ({"photometric": 1.5}, "photometric"),
        ({"elastic": -1.0}, "elastic -1.0"),
        ({"elastic": float("nan")}, "elastic nan"),
        ({"border_weight": (-1.0, 5.0, 1)}, "border_weight"),
        ({"border_weight": (10.0, 0.0, 1)}, "border_weight"),
        ({"border_weight": (10.0, 5.0, VOID)}, "border_weight"),
        ({"start_step": -1}, "start_step"),
        ({"seed": -1}, "seed"),
        ({"num_threads": -1}, "num_threads"),
        ({"prefetch": 0}, "prefetch"),
    ],
)
def test_train_option_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        train_batches(source_of(4), **{"batch_size": 2, **PLAIN, **options})


def test_empty_source():
    with pytest.raises(InputError, match="no examples"):
        train_batches(Source([]), batch_size=2, **PLAIN)
    with pytest.raises(InputError, match="no examples"):
        eval_batches(Source([]), batch_size=2)
    with pytest.raises(InputError, match="no examples"):
        max_size(Source([]))


def test_eval_keeps_the_order_and_pads_the_last_batch():
    source = source_of(5)
    batches = take(eval_batches(source, batch_size=4), 99)
    assert len(batches) == 2
    image, label, valid = (
        np.concatenate([batch[name] for batch in batches])
        for name in ("image", "label", "valid")
    )
    assert (image.dtype, label.dtype, valid.dtype) == (np.uint8, np.uint8, np.bool_)
    assert valid.tolist() == [True] * 5 + [False] * 3
    for index in range(5):
        np.testing.assert_array_equal(image[index], source[index]["image"])
        np.testing.assert_array_equal(label[index], source[index]["label"])
    assert (image[5:] == 0).all()
    assert (label[5:] == VOID).all()


@pytest.mark.parametrize("count", [1, 4, 5, 8])
@pytest.mark.parametrize("shard_count", [2, 4])
def test_eval_shards_put_together_are_the_global_batches(count, shard_count):
    whole = take(eval_batches(source_of(count), batch_size=4), 99)
    shards = [
        take(
            eval_batches(
                source_of(count), batch_size=4, shard_index=i, shard_count=shard_count
            ),
            99,
        )
        for i in range(shard_count)
    ]
    assert {len(shard) for shard in shards} == {-(-count // 4)}
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shards, strict=True)
    ]
    assert_same(joined, whole)


def test_eval_resizes_the_image_but_not_the_label():
    source = source_of(3)
    first, second = take(eval_batches(source, batch_size=2, image_size=(3, 4)), 99)
    assert first["image"].shape == second["image"].shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(first["label"][1], source[1]["label"])
    # Halving a side weighs the nearest four pixels .125 .375 .375 .125.
    weights = np.array([0.125, 0.375, 0.375, 0.125])
    inner = np.einsum(
        "i,j,ijc->c", weights, weights, source[0]["image"][1:5, 1:5].astype(float)
    )
    assert np.abs(first["image"][0, 1, 1] - inner).max() <= 1


def test_eval_pads_at_the_bottom_and_on_the_right():
    source = Source([(6, 8), (4, 5), (5, 9)])
    size = max_size(source)
    assert size == (6, 9)
    (batch,) = take(eval_batches(source, batch_size=3, pad_size=size), 99)
    assert batch["image"].shape == (3, 6, 9, 3)
    for index, (height, width) in enumerate(source.sizes):
        label, image = batch["label"][index], batch["image"][index]
        assert (label[:height, :width] == index).all()
        assert (label != VOID).sum() == height * width
        np.testing.assert_array_equal(image[:height, :width], source[index]["image"])
    image = batch["image"][1]
    np.testing.assert_array_equal(image[4:], image[3:1:-1])
    np.testing.assert_array_equal(image[:, 5:], image[:, 4:0:-1])


def test_eval_of_several_sizes_needs_a_pad_size():
    source = Source([(6, 8), (4, 5)])
    with pytest.raises(InputError, match=r"example-1: 4x5 .* 6x8.* pad_size"):
        list(eval_batches(source, batch_size=2))
    with pytest.raises(InputError, match=r"example-1: 4x5 .* 6x8"):
        list(eval_batches(source, batch_size=2, image_size=(6, 8)))
    with pytest.raises(InputError, match=r"example-0: 6x8 .* pad_size 5x9"):
        list(eval_batches(source, batch_size=2, pad_size=(5, 9)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3, "shard_count": 2}, "batch_size 3"),
        ({"image_size": (0, 1)}, "image_size"),
        ({"pad_size": (1,)}, "pad_size"),
        ({"image_size": (6, 8), "pad_size": (6, 8)}, "exclude each other"),
    ],
)
def test_eval_option_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        eval_batches(source_of(4), **{"batch_size": 2, **options})
