"""The drawn road scenes: same seed, same bytes; shares and classes in bounds."""

import numpy as np
import pytest

from segjax.data.datasets import open_dataset
from segjax.data.labels import CAMVID, VOID
from segjax.data.street_scenes import StreetScenesConfig, draw_example, render_scene
from segjax.errors import InputError

SIZE = (64, 96)


def draw(index, *, seed=0, split="train", size=SIZE):
    return draw_example(seed=seed, split=split, index=index, size=size)


@pytest.fixture(scope="module")
def scenes():
    return [draw(index) for index in range(60)]


def test_scene_has_the_size_and_types_asked_for():
    image, label = render_scene(np.random.default_rng(0), size=(40, 72))
    assert image.shape == (40, 72, 3)
    assert label.shape == (40, 72)
    assert image.dtype == label.dtype == np.uint8


def test_label_holds_train_ids_and_void_only(scenes):
    values = np.unique(np.concatenate([label.ravel() for _, label in scenes]))
    np.testing.assert_array_equal(values, [*range(CAMVID.num_classes), VOID])


def test_shares_are_those_of_a_street(scenes):
    labels = np.stack([label for _, label in scenes])
    shares = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert 0.01 < shares[VOID] < 0.08
    assert shares[:11].max() < 0.5
    assert shares[:11].min() > 0.003
    order = [CAMVID.names[i] for i in np.argsort(-shares[:11])]
    assert set(order[:2]) == {"Road", "Building"}


def test_image_tells_light_from_dark(scenes):
    # An image that is black, white or flat would teach nothing.
    for image, _ in scenes:
        assert 10 < image.mean() < 245
        assert image.std() > 8


def test_same_seed_gives_the_same_bytes():
    for first, second in zip(draw(3), draw(3), strict=True):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"split": "val"}, {"index": 4}], ids=str
)
def test_seed_split_and_index_each_give_another_scene(other):
    arguments = {"index": 3, **other}
    assert (draw(**arguments)[0] != draw(3)[0]).any()


def test_a_pole_can_be_one_pixel_wide(scenes):
    pole = CAMVID.names.index("Pole")
    thin = 0
    for _, label in scenes:
        middle = label[:, 1:-1] == pole
        thin += (middle & (label[:, :-2] != pole) & (label[:, 2:] != pole)).sum()
    assert thin > 0


def test_small_version_is_the_start_of_the_large_one(tmp_path):
    counts = {"train": 3, "val": 1}
    dataset = open_dataset(
        "street_scenes", prepared_dir=tmp_path, size=(32, 48), counts=counts, seed=5
    )
    assert {split: len(source) for split, source in dataset.splits.items()} == counts
    assert dataset.table is CAMVID
    for index in range(3):
        image, label = draw(index, seed=5, size=(32, 48))
        example = dataset.splits["train"][index]
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], label)
        assert example["id"] == f"train-{index:05d}"


def test_config_name_tells_all_that_changes_the_pictures():
    base = {"size": (64, 96), "counts": (("train", 4),), "seed": 0}
    others = [
        {},
        {"size": (96, 64)},
        {"counts": (("train", 5),)},
        {"counts": (("val", 4),)},
        {"seed": 1},
    ]
    names = {StreetScenesConfig(**{**base, **other}).name for other in others}
    assert len(names) == len(others)
    default = StreetScenesConfig()
    assert default.size == (64, 96)
    assert default.counts == (("train", 480), ("val", 96), ("test", 96))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (16, 64)}, "at least 32"),
        ({"counts": {"train": 0}}, "split 'train' has 0 examples"),
        ({"counts": {}}, "no split"),
        ({"counts": {"a/b": 1}}, "is not a word"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        open_dataset("street_scenes", prepared_dir=tmp_path, **options)
    assert not list(tmp_path.iterdir())
