"""Ensembles, samples, windows, tiles and views, on networks of a few operations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.labels import LabelTable
from segjax.errors import InputError
from segjax.inference.maps import predict_maps
from segjax.inference.members import Views, make_members
from segjax.inference.predictor import Predictor

TABLE = LabelTable(
    names=("dark", "bright"),
    colors=((0, 0, 200), (200, 0, 0)),
    raw_ids={0: 0, 1: 1},
)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), np.uint8)


def pixelwise(share=1.0, margin=0, multiple=1):
    """Class 1's probability is `share` of the brightness (and of a random factor)."""

    def tile(images, key=None):
        assert all(
            (side - 2 * margin) % multiple == 0 and side > 2 * margin
            for side in images.shape[1:3]
        )
        middle = slice(margin, -margin or None)
        bright = jnp.mean(jnp.asarray(images)[:, middle, middle] / 255, axis=-1) * share
        if key is not None:
            bright = bright * jax.random.uniform(key)
        return jnp.stack([1 - bright, bright], axis=-1)

    def probabilities(images, size, key=None):
        shape = (len(images), *size, 2)
        padding = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
        scores = tile(np.pad(images, padding, mode="symmetric"), key)
        return jax.image.resize(scores, shape, "nearest")

    return Predictor(
        name="pixelwise",
        step=1,
        table=TABLE,
        image_size=(6, 5),
        margin=margin,
        input_size=lambda size: tuple(
            -(-side // multiple) * multiple + 2 * margin for side in size
        ),
        probabilities=probabilities,
        tile=tile,
    )


def expected(images=IMAGES, share=1.0):
    bright = images.astype(np.float64).mean(axis=-1) / 255 * share
    return np.stack([1 - bright, bright], axis=-1)


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize(
    "views",
    [
        Views(native_size=True),
        Views(native_size=True, flip=True),
        Views(window=(5, 4)),
        Views(window=(5, 4), blend="cosine", overlap=0.25, flip=True),
        Views(tile=(5, 4)),
        Views(tile=(5, 4), context=3),
    ],
)
def test_a_pixelwise_network_gives_the_same_however_it_looks(views, margin):
    predictor = pixelwise(margin=margin, multiple=3 if views.window else 1)
    (member,) = make_members([predictor], views)
    np.testing.assert_allclose(np.asarray(member(IMAGES)), expected(), atol=1e-6)


def test_trained_size_is_what_the_network_sees():
    seen = []
    predictor = pixelwise()

    def probabilities(images, size, key=None):
        seen.append((images.shape, size))
        return predictor.probabilities(images, size, key)

    spy = dataclasses.replace(predictor, probabilities=probabilities)
    make_members([spy], Views())[0](IMAGES)
    make_members([spy], Views(scales=(1.0, 2.0)))[0](IMAGES[:1])
    assert seen == [
        ((3, 6, 5, 3), (12, 10)),
        ((1, 6, 5, 3), (12, 10)),
        ((1, 6, 5, 3), (24, 20)),
    ]


def test_an_ensemble_is_the_mean_of_its_members():
    members = make_members([pixelwise(1.0), pixelwise(0.6)], Views(native_size=True))
    assert len(members) == 2
    maps = predict_maps(IMAGES, members, with_probabilities=True, with_uncertainty=True)
    one, two = expected(), expected(share=0.6)
    mean = (one + two) / 2
    np.testing.assert_array_equal(maps["label"], mean.argmax(axis=-1))
    np.testing.assert_allclose(maps["probabilities"], mean, atol=1e-3)

    def entropy(p):
        return -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0), axis=-1)

    np.testing.assert_allclose(maps["entropy"], entropy(mean), atol=1e-5)
    np.testing.assert_allclose(
        maps["mutual_information"],
        entropy(mean) - (entropy(one) + entropy(two)) / 2,
        atol=1e-5,
    )


def test_one_member_has_an_entropy_and_nothing_to_disagree_with():
    members = make_members([pixelwise()], Views(native_size=True))
    assert set(predict_maps(IMAGES, members)) == {"label"}
    maps = predict_maps(IMAGES, members, with_uncertainty=True)
    assert set(maps) == {"label", "entropy"}


def test_samples_differ_and_do_not_depend_on_the_batch():
    options = {"dropout_samples": 3, "seed": 1}
    members = make_members([pixelwise()], Views(native_size=True), **options)
    together = [member(IMAGES) for member in members]
    alone = [member(IMAGES[2:]) for member in members]
    for whole, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(whole[2:], one)
    factors = [sample[..., 1].sum() for sample in together]
    assert len(set(factors)) == 3
    again = make_members([pixelwise()], Views(native_size=True), **options)
    np.testing.assert_array_equal(again[0](IMAGES), together[0])
    two = make_members([pixelwise(), pixelwise()], Views(), **options)
    assert len(two) == 6


def test_refused():
    other = dataclasses.replace(
        pixelwise(), table=dataclasses.replace(TABLE, names=("dark", "light"))
    )
    with pytest.raises(InputError, match=r"same classes: .* knows dark, bright, but"):
        make_members([pixelwise(), other], Views())
    with pytest.raises(InputError, match="dropout_samples -1"):
        make_members([pixelwise()], Views(), dropout_samples=-1)
    (member,) = make_members([pixelwise(margin=2)], Views(tile=(4, 4), context=1))
    with pytest.raises(InputError, match="context 1: the network needs 2 pixels"):
        member(IMAGES)
