"""SegNet on 360x480 pixels: 45 rows pool to 23, and unpool to 45 again.

Caffe pools 2x2 windows to ceil((n - 2) / 2) + 1 rows; the last window of an odd
side is cut by the border. The decoder's sizes are those of the authors'
`segnet_train.prototxt`: upsample_w and upsample_h for pool5 and pool4, twice the size
for the others.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.encoders import PooledEncoder
from segjax.models.zoo import build_model
from segjax.ops.pooling import max_pool_with_switches, max_unpool


def caffe_side(side):
    return -(-(side - 2) // 2) + 1


# Stride -> size of the pooled map, and of what is unpooled from it.
POOLED = {2: (180, 240), 4: (90, 120), 8: (45, 60), 16: (23, 30), 32: (12, 15)}
UNPOOLED = {1: (360, 480), 2: (180, 240), 4: (90, 120), 8: (45, 60), 16: (23, 30)}


def test_sizes_are_caffes():
    size = (360, 480)
    for expected in POOLED.values():
        size = tuple(caffe_side(side) for side in size)
        assert size == expected


@pytest.mark.parametrize(
    ("name", "strides"),
    [("segnet_vgg16_bn", (2, 4, 8, 16, 32)), ("segnet_basic", (2, 4, 8, 16))],
)
def test_every_size_on_the_way_down_and_up(name, strides):
    model = build_model(name, num_classes=11, width=0.05)

    def run(image):
        variables = model.init(jax.random.key(0), image, train=False)
        outputs, state = model.apply(
            variables,
            image,
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        return outputs["logits"], state["intermediates"]

    logits, modules = jax.eval_shape(
        run, jax.ShapeDtypeStruct((1, 360, 480, 3), jnp.float32)
    )
    features = modules["encoder"]["__call__"][0]
    for stride in strides:
        assert features.pooled[stride].shape[1:3] == POOLED[stride]
        assert features.switches[stride].shape[1:3] == POOLED[stride]
    assert set(features.pooled) == set(strides)

    decoded = {leaf.shape[1:3] for leaf in jax.tree.leaves(modules["decoder"])}
    assert decoded == {UNPOOLED[stride // 2] for stride in strides}
    assert logits.shape == (1, 360, 480, 11)


def check_unpooled(x, pooled, unpooled):
    """Every window of `x` [h w c]: its maximum where it was, zero elsewhere."""
    height, width, channels = x.shape
    expected = np.zeros_like(x)
    for top in range(0, height, 2):
        for left in range(0, width, 2):
            window = x[top : top + 2, left : left + 2]
            for c in range(channels):
                y, x_ = np.unravel_index(window[..., c].argmax(), window.shape[:2])
                value = window[y, x_, c]
                assert pooled[top // 2, left // 2, c] == value
                expected[top + y, left + x_, c] = value
    np.testing.assert_array_equal(unpooled, expected)


@pytest.mark.parametrize(
    ("size", "pooled_size"), [((45, 60), (23, 30)), ((23, 30), (12, 15))]
)
def test_unpooling_holds_every_value_at_its_switch(size, pooled_size):
    # Negative: zero padding, or a switch outside the image, would show.
    x = -1 - jax.random.uniform(jax.random.key(0), (1, *size, 3))
    pooled, switches = max_pool_with_switches(x)
    assert pooled.shape == (1, *pooled_size, 3)
    # The windows of the last row hold one row of pixels only.
    assert set(np.unique(switches[:, -1])) == {0, 1}
    assert set(np.unique(switches[:, :-1])) == {0, 1, 2, 3}
    unpooled = max_unpool(pooled, switches, size=size)
    assert np.count_nonzero(unpooled) == pooled.size
    check_unpooled(np.asarray(x[0]), np.asarray(pooled[0]), np.asarray(unpooled[0]))


def test_encoder_and_decoder_agree_on_the_odd_border():
    # 360x480 at stride 8 and below: 45x60 pools to 23x30, then to 12x15.
    encoder = PooledEncoder(stages=((5,), (6,)))
    image = jax.random.normal(jax.random.key(0), (1, 45, 60, 3))

    @jax.jit
    def run(image):
        variables = encoder.init(jax.random.key(1), image, train=False)
        features = encoder.apply(variables, image, train=False)
        return features, {s: features.unpool(features.pooled[s], s) for s in (2, 4)}

    features, unpooled = run(image)
    for stride, size in {2: (23, 30), 4: (12, 15)}.items():
        assert features.size(stride) == size
        check_unpooled(
            np.asarray(features.maps[stride // 2][0]),
            np.asarray(features.pooled[stride][0]),
            np.asarray(unpooled[stride][0]),
        )
