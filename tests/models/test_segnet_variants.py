"""The SegNet paper's table 1: weights counted, and what each decoder reads."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import filled

from segjax.models.decoders.segnet_variants import FCNBasicDecoder, ScoreNeck
from segjax.models.encoders import PooledEncoder
from segjax.models.segmenter import Segmenter
from segjax.models.zoo import build_model
from segjax.report.published import ARITHMETIC

# Weights of convolutions at 11 classes, no biases, no batch normalisation.
ENCODER = 7 * 7 * 3 * 64 + 3 * 7 * 7 * 64 * 64
WEIGHTS = {
    "bilinear_basic": ENCODER + 64 * 11,
    "segnet_basic": 1_415_040,
    "segnet_basic_encoder_addition": 1_415_040,
    "segnet_basic_single_channel": 624_768,
    "fcn_basic": 645_312,
    "fcn_basic_no_addition": 643_200,
    "fcn_basic_no_dim_reduction": 1_660_800,
    "fcn_basic_no_addition_no_dim_reduction": 1_660_800,
}
# Strides of the maps and of the pooled maps that decoder and neck read. The deepest
# map is the deepest pooled map.
READS = {
    "bilinear_basic": ({16}, set(), False),
    "segnet_basic": ({16}, set(), True),
    "segnet_basic_encoder_addition": ({16, 8, 4, 2, 1}, set(), True),
    "segnet_basic_single_channel": ({16}, set(), True),
    "fcn_basic": (set(), {16, 8, 4, 2}, False),
    "fcn_basic_no_addition": (set(), {16}, False),
    "fcn_basic_no_dim_reduction": (set(), {16, 8, 4, 2}, False),
    "fcn_basic_no_addition_no_dim_reduction": (set(), {16}, False),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_table_1(name):
    model = build_model(name, num_classes=11)
    image = jax.ShapeDtypeStruct((1, 360, 480, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    kernels = [leaf.size for path, leaf in leaves if path[-1].key == "kernel"]
    assert sum(kernels) == WEIGHTS[name] == ARITHMETIC[name].parameters


@pytest.mark.parametrize("name", READS)
def test_what_a_decoder_reads(name):
    model = build_model(name, num_classes=3, width=0.05)
    image = jax.random.normal(jax.random.key(0), (1, 23, 30, 3))

    @jax.jit
    def run(variables, image):
        features = model.apply(
            variables,
            image,
            train=False,
            method=lambda m, x, train: m.encoder(x, train=train),
        )

        def loss(maps, pooled, flip):
            known = features.replace(
                maps=maps,
                pooled=pooled,
                switches={s: x ^ flip for s, x in features.switches.items()},
            )

            def rest(m, f):
                kept = f if m.neck is None else m.neck(f, train=False)
                return m.decode(kept, train=False)

            return jnp.sum(model.apply(variables, known, method=rest)["logits"] ** 2)

        grads = jax.grad(loss, argnums=(0, 1))(
            features.maps, features.pooled, jnp.uint8(0)
        )
        # All switches moved: 0b01010101 changes each of the four in a byte.
        as_they_are, moved = jax.lax.map(
            partial(loss, features.maps, features.pooled),
            jnp.array([0, 0b01010101], jnp.uint8),
        )
        return *grads, moved != as_they_are

    maps, pooled, reads_switches = run(filled(model, image.shape), image)
    read = tuple({s for s, g in group.items() if np.any(g)} for group in (maps, pooled))
    assert (*read, bool(reads_switches)) == READS[name]


def test_single_channel_filters_do_not_mix_channels():
    model = build_model("segnet_basic_single_channel", num_classes=3, width=0.125)
    image = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(
        lambda key: model.init(key, image, train=False), jax.random.key(0)
    )
    for level in (8, 4, 2, 1):
        conv = variables["params"]["decoder"][f"conv{level}_1"]["conv"]
        assert conv["kernel"].shape == (7, 7, 1, 8)


def test_fcn_basic_starts_as_interpolation_of_its_scores():
    # One level: a ramp of scores at stride 2 is a ramp of half the slope, at
    # half-pixel offsets; the 8x8 kernel reaches two scores to either side.
    model = Segmenter(
        PooledEncoder(stages=((1,),)), FCNBasicDecoder(1), ScoreNeck(1, (2,))
    )
    image = jnp.zeros((1, 16, 20, 3))

    @jax.jit
    def run(image, ramp):
        variables = model.init(jax.random.key(0), image, train=False)
        features = model.apply(variables, image, train=False, method="encode")
        features = features.replace(pooled={2: ramp})
        outputs = model.apply(variables, features, train=False, method="decode")
        return outputs["logits"]

    ramp = jnp.tile(
        jnp.arange(10, dtype=jnp.float32).reshape(1, 1, 10, 1), (1, 8, 1, 1)
    )
    logits = run(image, ramp)
    assert logits.shape == (1, 16, 20, 1)
    expected = (np.arange(20) - 0.5) / 2
    np.testing.assert_allclose(logits[0, 8, 4:16, 0], expected[4:16], rtol=1e-5)
