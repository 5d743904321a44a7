"""A predictor gives the same on several devices; pytest's process has two."""

import jax
import numpy as np
import pytest

from segjax.data.labels import LabelTable
from segjax.inference.predictor import make_predictor
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.training import parallel

TABLE = LabelTable(
    names=("a", "b", "c"),
    colors=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
    raw_ids={0: 0, 1: 1, 2: 2},
)


@pytest.fixture(scope="module")
def make():
    model = Segmenter(PooledEncoder(((4,), (6,)), dropout=0.5), SegNetDecoder(3))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32) - 0.8, shapes
    )
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])

    def make(mesh):
        return make_predictor(
            model,
            variables,
            name="net",
            step=1,
            table=TABLE,
            image_size=None,
            mesh=mesh,
        )

    return make


# Neither three images nor 35 rows split evenly.
@pytest.mark.parametrize("axes", [{"data": 2}, {"data": 1, "space": 2}])
def test_on_two_devices(make, axes):
    images = np.random.default_rng(1).integers(0, 256, (3, 35, 40, 3), np.uint8)
    key = jax.random.key(3)
    one, two = make(None), make(parallel.make_mesh(**axes))
    for options in ({}, {"key": key}):
        expected = one.probabilities(images, (35, 40), **options)
        found = two.probabilities(images, (35, 40), **options)
        assert expected.shape == found.shape == (3, 35, 40, 3)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert np.ptp(expected) > 0.5
    size = one.input_size((20, 20))
    tiles = images[:1, : size[0], : size[1]]
    np.testing.assert_allclose(two.tile(tiles), one.tile(tiles), atol=2e-6)
