"""The network without pooling: what it sees, how large it is, what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.full_resolution import FullResolutionNet


def test_parameters():
    model = FullResolutionNet(11)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False),
        jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32),
    )
    # Eight 3x3 convolutions of 64 with biases and BN; a 1x1 classifier.
    expected = 9 * 3 * 64 + 7 * 9 * 64 * 64 + 8 * 3 * 64 + 64 * 11 + 11
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == expected


def test_sees_exactly_its_receptive_field():
    model = FullResolutionNet(2, channels=(3, 4, 3))
    assert model.receptive_field == 7
    assert FullResolutionNet(2).receptive_field == 17

    @jax.jit
    def gradient(image):
        variables = model.init(jax.random.key(0), image, train=False)
        # Every weight positive and every unit on: no gradient is zero by chance.
        positive = jax.tree.map(jnp.abs, variables)
        return jax.grad(
            lambda v: jnp.sum(model.apply(positive, v, train=False)["logits"][0, 6, 8])
        )(image)

    touched = np.any(gradient(jnp.ones((1, 13, 17, 3)))[0], axis=-1)
    expected = np.zeros((13, 17), bool)
    expected[3:10, 5:12] = True
    np.testing.assert_array_equal(touched, expected)


def test_keeps_image_resolution_in_every_layer():
    # 64 maps of 360x480 in float32: the figures of the docstring, 44.2 and 353.9 MB.
    model = FullResolutionNet(11)

    def outputs(image):
        variables = model.init(jax.random.key(0), image, train=False)
        logits, state = model.apply(
            variables,
            image,
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        return logits["logits"], state["intermediates"]

    logits, maps = jax.eval_shape(
        outputs, jax.ShapeDtypeStruct((1, 360, 480, 3), jnp.float32)
    )
    assert logits.shape == (1, 360, 480, 11)
    sizes = [maps[f"conv{i}"]["conv"]["__call__"][0].size * 4 for i in range(1, 9)]
    assert sizes == [44_236_800] * 8
    assert sum(sizes) == 353_894_400
    # SegNet-Basic: the same maps at 1, 1/2, 1/4 and 1/8, twice (in and out).
    encoder = sum(44_236_800 // 4**i for i in range(4))
    assert (round(encoder / 1e6, 1), round(2 * encoder / 1e6, 1)) == (58.8, 117.5)


def test_any_size_and_dropout():
    model = FullResolutionNet(3, channels=(4, 6), width=0.5, dropout=0.5)
    assert model.margin == 0
    assert model.input_size((5, 7)) == (5, 7)
    image = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))

    @jax.jit
    def run(seed):
        variables = model.init(jax.random.key(1), image, train=False)
        outputs, _ = model.apply(
            variables,
            image,
            train=True,
            rngs={"dropout": jax.random.key(seed)},
            mutable=["batch_stats"],
        )
        return outputs["logits"], variables["params"]["conv2"]["conv"]["kernel"]

    logits, kernel = run(0)
    assert logits.shape == (2, 5, 7, 3)
    assert logits.dtype == jnp.float32
    assert kernel.shape == (3, 3, 2, 3)
    assert not np.array_equal(logits, run(1)[0])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8, 3), jnp.float32), ((1, 8, 8, 3), jnp.uint8)]
)
def test_wrong_input(shape, dtype):
    with pytest.raises(InputError, match="normalised float array"):
        jax.eval_shape(
            lambda x: FullResolutionNet(2).init(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct(shape, dtype),
        )
