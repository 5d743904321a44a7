"""The axis of the ablation: each way to upsample and to skip, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.decoders.strategies import (
    SKIPS,
    UPSAMPLINGS,
    SkipNeck,
    StrategyDecoder,
)
from segjax.models.encoders import PooledEncoder
from segjax.models.features import Features
from segjax.models.segmenter import Segmenter
from segjax.ops.pooling import pack_switches

RNG = np.random.default_rng(0)


def features_of(size, channels, switches=None):
    """Stride 1 of `size`, stride 2 of half of it, rounded up."""
    half = tuple(-(-side // 2) for side in size)
    if switches is None:
        switches = np.zeros((1, *half, channels), np.uint8)
    return Features(
        maps={1: jnp.zeros((1, *size, channels)), 2: jnp.zeros((1, *half, channels))},
        pooled={2: jnp.zeros((1, *half, channels))},
        switches={2: pack_switches(jnp.asarray(switches))},
    )


def upsampled(name, x, features, params=None):
    """The function in a module's scope, with its parameters replaced by `params`."""

    class Scope(nn.Module):
        @nn.compact
        def __call__(self, x):
            return UPSAMPLINGS[name](x, features, 2)

    variables = Scope().init(jax.random.key(0), x)
    if params is not None:
        shapes = jax.tree.map(jnp.shape, variables["params"]["up2"])
        assert shapes == jax.tree.map(jnp.shape, params)
        variables = {"params": {"up2": params}}
    return np.asarray(Scope().apply(variables, x))


def test_nearest():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    out = upsampled("nearest", x, features_of((4, 4), 1))
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(out[0, :, :, 0], expected)


@pytest.mark.parametrize("name", ["bilinear", "transposed"])
def test_bilinear_and_its_learned_start_interpolate_between_window_centres(name):
    ramp = jnp.tile(jnp.arange(4, dtype=jnp.float32).reshape(1, 1, 4, 1), (1, 4, 1, 1))
    out = upsampled(name, ramp, features_of((8, 8), 1))
    # Window i covers pixels 2i and 2i + 1, its centre lies between them.
    np.testing.assert_allclose(
        out[0, 4, 1:7, 0], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75], rtol=1e-6
    )


def test_transposed_keeps_channels_apart_at_the_start():
    x = jnp.asarray(RNG.normal(size=(1, 3, 3, 2)), jnp.float32)
    both = upsampled("transposed", x, features_of((6, 6), 2))
    one = upsampled("transposed", x[..., 1:], features_of((6, 6), 1))
    np.testing.assert_allclose(both[..., 1:], one, rtol=1e-6)


def test_random_start_is_not_bilinear():
    x = jnp.ones((1, 4, 4, 1))
    features = features_of((8, 8), 1)
    inside = np.s_[0, 2:6, 2:6, 0]
    bilinear = upsampled("transposed", x, features)[inside]
    np.testing.assert_allclose(bilinear, 1.0, rtol=1e-6)
    assert np.ptp(upsampled("transposed_random", x, features)[inside]) > 0.1


def test_resize_convolution_is_nearest_then_a_convolution():
    x = jnp.asarray(RNG.normal(size=(1, 3, 3, 1)), jnp.float32)
    features = features_of((6, 6), 1)
    # A kernel that takes the pixel on the left.
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 0].set(1.0)
    params = {"kernel": kernel, "bias": jnp.zeros(1)}
    out = upsampled("resize_conv", x, features, params)
    shifted = upsampled("nearest", x, features)[:, :, :-1]
    np.testing.assert_allclose(out[:, :, 1:], shifted, rtol=1e-6)
    np.testing.assert_array_equal(out[:, :, 0], 0)


def test_pixel_shuffle_lays_channels_out_as_pixels():
    # The four new channels are 1, 2, 3 and 4 times the pixel: row-major 2x2 blocks.
    x = jnp.asarray([[1.0, 10.0]]).reshape(1, 1, 2, 1)
    kernel = jnp.zeros((3, 3, 1, 4)).at[1, 1, 0].set(jnp.arange(1.0, 5.0))
    params = {"kernel": kernel, "bias": jnp.zeros(4)}
    out = upsampled("pixel_shuffle", x, features_of((2, 4), 1), params)
    np.testing.assert_allclose(out[0, :, :, 0], [[1, 2, 10, 20], [3, 4, 30, 40]])


def test_max_unpool_goes_where_the_maximum_was():
    switches = np.array([[3, 0]], np.uint8).reshape(1, 1, 2, 1)
    x = jnp.asarray([[5.0, 7.0]]).reshape(1, 1, 2, 1)
    out = upsampled("max_unpool", x, features_of((2, 4), 1, switches))
    np.testing.assert_array_equal(out[0, :, :, 0], [[0, 0, 7, 0], [0, 5, 0, 0]])


@pytest.mark.parametrize("name", UPSAMPLINGS)
def test_odd_sizes_lose_what_pooling_had_rounded_up(name):
    x = jnp.asarray(RNG.normal(size=(1, 3, 4, 8)), jnp.float32)
    even = upsampled(name, x, features_of((6, 8), 8))
    odd = upsampled(name, x, features_of((5, 7), 8))
    assert odd.shape == (1, 5, 7, 8)
    # A convolution after the crop sees zeros beyond it.
    np.testing.assert_array_equal(odd[:, :4, :6], even[:, :4, :6])


def strategy(upsampling, skip, num_classes=3):
    keep = SKIPS[skip].keep is not None
    return Segmenter(
        PooledEncoder(stages=((4,), (6,)), bottleneck=(8,)),
        StrategyDecoder(num_classes, UPSAMPLINGS[upsampling], SKIPS[skip]),
        SkipNeck(num_classes, SKIPS[skip]) if keep else None,
    )


@pytest.mark.parametrize(
    ("skip", "channels"),
    [("none", None), ("sum", (4, 6)), ("concat", (4, 6)), ("reduced_sum", (3, 3))],
)
def test_what_crosses_for_a_skip_and_that_it_is_read(skip, channels):
    model = strategy("nearest", skip)
    image = jax.random.normal(jax.random.key(0), (1, 12, 16, 3))

    @jax.jit
    def run(image):
        variables = model.init(jax.random.key(1), image, train=False)
        features = model.apply(variables, image, train=False, method="encode")

        def loss(maps):
            outputs = model.apply(
                variables, features.replace(maps=maps), train=False, method="decode"
            )
            return jnp.sum(outputs["logits"] ** 2)

        return jax.grad(loss)(features.maps)

    grads = run(image)
    assert np.any(grads[4])  # the deepest map, always
    for stride, expected in zip((1, 2), channels or (None, None), strict=True):
        assert np.any(grads[stride]) == (expected is not None)
        if expected is not None:
            assert grads[stride].shape[-1] == expected


def test_a_strategy_of_ones_own_is_a_function():
    def zeros_between(x, features, stride):
        out = jnp.zeros((1, *features.size(stride // 2), x.shape[-1]))
        return out.at[:, ::2, ::2].set(x)

    model = Segmenter(
        PooledEncoder(stages=((4,), (4,))),
        StrategyDecoder(3, zeros_between, SKIPS["none"]),
    )
    image = jnp.ones((1, 7, 9, 3))
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)
    logits = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])(image)
    assert logits.shape == (1, 7, 9, 3)


def test_maps_that_cannot_be_added_are_both_named():
    def loses_a_row(x, features, stride):
        return UPSAMPLINGS["nearest"](x, features, stride)[:, 1:]

    image = jnp.ones((1, 8, 8, 3))
    for skip, expected in (("sum", "shape"), ("concat", "height and width")):
        model = Segmenter(
            PooledEncoder(stages=((4,),)),
            StrategyDecoder(3, loses_a_row, SKIPS[skip]),
        )
        message = (
            r"skip at stride 1: the decoder's map is \[1, 7, 8, 4\], the encoder's "
            rf"\[1, 8, 8, 4\]; expected the same {expected}"
        )
        with pytest.raises(InputError, match=message):
            jax.eval_shape(
                lambda x, m=model: m.init(jax.random.key(0), x, train=False), image
            )


def test_unpooling_other_channels_names_both():
    features = features_of((4, 4), 6)
    with pytest.raises(
        InputError, match="5 channels, but the encoder's switches have 6"
    ):
        features.unpool(jnp.zeros((1, 2, 2, 5)), 2)
