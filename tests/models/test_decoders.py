"""What each decoder reads: skips are wired, SegNet sees switches and no maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.decoders.fcn import FCNDecoder
from segjax.models.decoders.segnet import SegNetDecoder
from segjax.models.decoders.unet import UNetDecoder
from segjax.models.encoders import PooledEncoder
from segjax.models.zoo import build_model

DECODERS = {
    "fcn": FCNDecoder(3, skips=(4, 2)),
    "unet": UNetDecoder(3),
    "segnet": SegNetDecoder(3),
}


@pytest.fixture(scope="module")
def features():
    encoder = PooledEncoder(stages=((4,), (6,), (5, 8)))
    image = jax.random.normal(jax.random.key(0), (2, 11, 14, 3))

    @jax.jit
    def run(image):
        variables = encoder.init(jax.random.key(1), image, train=False)
        return encoder.apply(variables, image, train=False)

    return run(image)


def init(decoder, features):
    return jax.jit(lambda f: decoder.init(jax.random.key(2), f, train=False))(features)


def test_features_by_stride(features):
    assert {s: m.shape for s, m in features.maps.items()} == {
        1: (2, 11, 14, 4),
        2: (2, 6, 7, 6),
        4: (2, 3, 4, 8),
        8: (2, 2, 2, 8),
    }
    assert {s: m.shape for s, m in features.pooled.items()} == {
        2: (2, 6, 7, 4),
        4: (2, 3, 4, 6),
        8: (2, 2, 2, 8),
    }
    for stride, switches in features.switches.items():
        # Four to a byte.
        *size, channels = features.pooled[stride].shape
        assert switches.shape == (*size, -(-channels // 4))
        assert features.channels(stride) == channels
        assert switches.dtype == jnp.uint8
    assert features.max_stride == 8
    assert features.size(2) == (6, 7)


def read_maps(decoder, features):
    """Which maps the logits depend on: those with a gradient that is not zero."""
    variables = init(decoder, features)

    def loss(maps, pooled):
        logits = decoder.apply(
            variables, features.replace(maps=maps, pooled=pooled), train=False
        )
        assert logits.shape == (2, 11, 14, 3)
        return jnp.sum(logits**2)

    grad = jax.jit(jax.grad(loss, argnums=(0, 1)))
    maps, pooled = grad(features.maps, features.pooled)
    return (
        {stride for stride, g in maps.items() if np.any(g)},
        {stride for stride, g in pooled.items() if np.any(g)},
    )


@pytest.mark.parametrize(
    ("name", "maps", "pooled"),
    [
        ("fcn", {8}, {4, 2}),
        ("unet", {8, 4, 2, 1}, set()),
        ("segnet", {8}, set()),
    ],
)
def test_every_skip_is_wired(features, name, maps, pooled):
    assert read_maps(DECODERS[name], features) == (maps, pooled)


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("name", DECODERS)
def test_only_segnet_reads_switches(features, name, stride):
    decoder = DECODERS[name]
    variables = init(decoder, features)
    moved = features.replace(
        switches={**features.switches, stride: features.switches[stride] ^ 1}
    )
    apply = jax.jit(lambda f: decoder.apply(variables, f, train=False))
    before, after = apply(features), apply(moved)
    assert np.any(before != after) == (name == "segnet")


def test_fcn_starts_as_bilinear_upsampling_of_its_scores():
    # One score map, no skips, stride 2: inside, bilinear interpolation of a ramp is
    # the ramp, at half-pixel offsets -1/4 and +1/4.
    encoder = PooledEncoder(stages=((1,),))
    image = jnp.zeros((1, 8, 8, 3))
    variables = encoder.init(jax.random.key(0), image, train=False)
    features = encoder.apply(variables, image, train=False)
    ramp = jnp.arange(4, dtype=jnp.float32).reshape(1, 1, 4, 1) * jnp.ones((1, 4, 1, 1))
    features = features.replace(maps={**features.maps, 2: ramp})
    decoder = FCNDecoder(1, skips=())
    variables = init(decoder, features)
    score = variables["params"]["score2"]
    score["kernel"] = jnp.ones_like(score["kernel"])
    logits = decoder.apply(variables, features, train=False)
    expected = [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]
    np.testing.assert_allclose(logits[0, 3, 1:7, 0], expected, atol=1e-6)


def test_batch_statistics_are_a_running_mean_with_momentum_nine_tenths():
    model = build_model("segnet_basic", num_classes=3, width=0.05)
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))

    @jax.jit
    def run(image):
        variables = model.init(jax.random.key(1), image, train=False)
        return variables, model.apply(
            variables, image, train=True, mutable=["batch_stats"]
        )

    variables, (_, updated) = run(image)
    conv = variables["params"]["encoder"]["conv1_1"]["conv"]
    maps = jax.lax.conv_general_dilated(
        image,
        conv["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    stats = updated["batch_stats"]["encoder"]["conv1_1"]["bn"]
    mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_dropout_only_in_training():
    model = build_model("segnet_basic", num_classes=3, width=0.1, dropout=0.5)
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))

    @jax.jit
    def train_logits(seed):
        variables = model.init(jax.random.key(1), image, train=False)
        outputs, _ = model.apply(
            variables,
            image,
            train=True,
            rngs={"dropout": jax.random.key(seed)},
            mutable=["batch_stats"],
        )
        return outputs["logits"]

    assert np.array_equal(train_logits(0), train_logits(0))
    assert not np.array_equal(train_logits(0), train_logits(1))
