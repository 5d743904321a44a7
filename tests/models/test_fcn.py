"""FCN against the release: counts, sizes, and a plain forward pass written here."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.errors import InputError
from segjax.models.fcn import FCN
from segjax.ops.resampling import bilinear_kernel, upsample_bilinear
from segjax.ops.transposed_convolution import conv_transpose

# Options, and the sides of the release's deconvolution kernels.
VARIANTS = {
    "32s": (dict(stride=32), (64,)),
    "16s": (dict(stride=16), (4, 32)),
    "8s": (dict(stride=8), (4, 4, 16)),
    "8s_at_once": (dict(stride=8, at_once=True), (4, 4, 16)),
}
LEARNED = {
    f"{name}_learned": (options | {"learned": True}, kernels)
    for name, (options, kernels) in VARIANTS.items()
    if name != "32s"
}
WIDTH = 0.02
CLASSES = 3


def trace(model, size):
    """Abstract parameters, logits and outputs of all layers."""

    def run(key, image):
        params = model.init(key, image, train=False)["params"]
        outputs, state = model.apply(
            {"params": params}, image, train=False, capture_intermediates=True
        )
        layers = {
            k: v["__call__"][0]
            for k, v in state["intermediates"].items()
            if k != "__call__"
        }
        return params, outputs["logits"], layers

    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), image)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# Counted on the release's prototxts: trainable, and with the fixed kernels.
COUNTS = {
    "32s": (134_346_581, 136_152_917),
    "16s": (134_357_354, 134_815_994),
    "8s": (134_362_751, 134_489_759),
    "8s_at_once": (134_362_751, 134_489_759),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_sizes_of_the_release(name):
    options, kernels = VARIANTS[name]
    params, logits, layers = trace(FCN(21, **options), (500, 500))
    trainable, with_fixed = COUNTS[name]
    assert count(params) == trainable
    assert trainable + sum(k * k * 21 * 21 for k in kernels) == with_fixed
    assert logits.shape == (1, 500, 500, 21)
    # Sides and channels at 500x500.
    expected = {
        "conv1_1": (698, 64),
        "conv1_2": (698, 64),
        "conv2_2": (349, 128),
        "conv3_3": (175, 256),
        "conv4_3": (88, 512),
        "conv5_3": (44, 512),
        "fc6": (16, 4096),
        "fc7": (16, 4096),
        "score_fr": (16, 21),
    }
    expected |= {
        "32s": {"upscore32": (544, 21)},
        "16s": {
            "upscore2": (34, 21),
            "score_pool4": (44, 21),
            "upscore16": (560, 21),
        },
        "8s": {
            "upscore2": (34, 21),
            "score_pool4": (44, 21),
            "upscore_pool4": (70, 21),
            "score_pool3": (88, 21),
            "upscore8": (568, 21),
        },
    }[name.removesuffix("_at_once")]
    sizes = {k: v.shape for k, v in layers.items() if k in expected}
    assert sizes == {k: (1, n, n, c) for k, (n, c) in expected.items()}
    assert layers.keys() - expected.keys() <= {
        *("conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2"),
        *("conv5_1", "conv5_2", "Dropout_0", "Dropout_1"),
    }


@pytest.mark.parametrize("name", LEARNED)
def test_learned_upsampling_adds_its_kernels_only(name):
    options, kernels = LEARNED[name]
    params, _, _ = trace(FCN(21, **options), (1, 1))
    by_two = sum(k * k * 21 * 21 for k in kernels if k == 4)
    assert count(params) == COUNTS[name.removesuffix("_learned")][0] + by_two
    assert set(params) >= {"upscore2"}
    assert "upscore16" not in params
    assert "upscore8" not in params


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_every_size_is_taken(stride):
    model = FCN(CLASSES, stride, width=WIDTH)
    assert model.margin == 0
    # All remainders by 32, and thin and published sizes.
    sizes = [(n, n + 16) for n in range(1, 17)]
    sizes += [(1, 200), (333, 500), (360, 480)]
    params, _, _ = trace(model, (1, 1))
    for size in sizes:
        assert model.input_size(size) == size
        logits = jax.eval_shape(
            lambda params, x: model.apply({"params": params}, x, train=False)["logits"],
            params,
            jax.ShapeDtypeStruct((1, *size, 3), jnp.float32),
        )
        assert logits.shape == (1, *size, CLASSES)
    assert model.input_size((0, -3)) == (1, 1)


def fill(model, seed=0):
    """Parameters with nothing left at zero, so that every layer shows."""
    shapes, _, _ = trace(model, (1, 1))
    random = np.random.default_rng(seed)

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.1
        return (scale * random.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, shapes)


def deconvolve(x, kernel, stride):
    """Transposed convolution: spread the pixels apart, convolve with the flipped."""
    pad = [(kernel.shape[0] - 1,) * 2] * 2
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        pad,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def plain_forward(params, image, *, stride, at_once=False, learned=False):
    """The release's net.py, layer by layer."""

    def conv(x, name, pad):
        return params[name]["bias"].reshape(1, 1, 1, -1) + lax.conv_general_dilated(
            x,
            params[name]["kernel"],
            (1, 1),
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def relu(x):
        return jnp.maximum(x, 0)

    def pool(x):  # 2x2, stride 2, rounding up
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"
        )

    def up(x, name, kernel_size):
        fixed = bilinear_kernel(kernel_size, CLASSES)
        kernel = params[name]["kernel"] if learned and kernel_size == 4 else fixed
        return deconvolve(x, kernel, kernel_size // 2)

    def crop(x, like, offset):
        h, w = like.shape[1:3]
        return x[:, offset : offset + h, offset : offset + w]

    x = relu(conv(image, "conv1_1", 100))
    x = pool(relu(conv(x, "conv1_2", 1)))
    for name in ("conv2_1", "conv2_2"):
        x = relu(conv(x, name, 1))
    x = pool(x)
    for name in ("conv3_1", "conv3_2", "conv3_3"):
        x = relu(conv(x, name, 1))
    pool3 = pool(x)
    x = pool3
    for name in ("conv4_1", "conv4_2", "conv4_3"):
        x = relu(conv(x, name, 1))
    pool4 = pool(x)
    x = pool4
    for name in ("conv5_1", "conv5_2", "conv5_3"):
        x = relu(conv(x, name, 1))
    x = pool(x)
    x = relu(conv(relu(conv(x, "fc6", 0)), "fc7", 0))
    scores = conv(x, "score_fr", 0)
    if stride == 32:
        return crop(up(scores, "upscore", 64), image, 19)
    scale4, scale3 = (0.01, 0.0001) if at_once else (1, 1)
    upscore2 = up(scores, "upscore2", 4)
    fused = upscore2 + crop(conv(pool4 * scale4, "score_pool4", 0), upscore2, 5)
    if stride == 16:
        return crop(up(fused, "upscore16", 32), image, 27)
    upscore4 = up(fused, "upscore_pool4", 4)
    fused = upscore4 + crop(conv(pool3 * scale3, "score_pool3", 0), upscore4, 9)
    return crop(up(fused, "upscore8", 16), image, 31)


@pytest.mark.parametrize("name", VARIANTS | LEARNED)
def test_logits_are_those_of_the_release(name):
    options, _ = (VARIANTS | LEARNED)[name]
    model = FCN(CLASSES, width=WIDTH, **options)
    params = fill(model)
    image = np.float32(np.random.default_rng(1).normal(size=(2, 37, 20, 3)))
    logits = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False))
    plain = jax.jit(lambda p, x: plain_forward(p, x, **options))
    expected = plain(params, image)
    assert np.std(expected, axis=(1, 2)).min() > 1e-3
    np.testing.assert_allclose(
        logits(params, image)["logits"], expected, rtol=1e-4, atol=1e-5
    )


def test_scores_start_at_zero_and_learned_upsampling_bilinear():
    model = FCN(CLASSES, 8, learned=True, width=WIDTH)
    image = jnp.ones((1, 1, 1, 3))
    params = jax.jit(lambda key: model.init(key, image, train=False))(
        jax.random.key(0)
    )["params"]
    for name in ("score_fr", "score_pool4", "score_pool3"):
        assert not np.any(params[name]["kernel"])
    # (1/4, 3/4, 3/4, 1/4) times itself, worked by hand.
    tent = np.float32([1, 3, 3, 1]) / 4
    expected = np.zeros((4, 4, CLASSES, CLASSES), np.float32)
    for c in range(CLASSES):
        expected[:, :, c, c] = np.outer(tent, tent)
    for name in ("upscore2", "upscore_pool4"):
        np.testing.assert_array_equal(params[name]["kernel"], expected)
        assert set(params[name]) == {"kernel"}
    assert np.std(params["fc6"]["kernel"]) == pytest.approx(
        np.sqrt(2 / (49 * 10)), rel=0.1
    )


def test_dropout_follows_fc6_and_fc7():
    model = FCN(CLASSES, 32, width=WIDTH, dropout=0.75)
    params = fill(model)
    image = jnp.ones((1, 1, 1, 3))

    @jax.jit
    def run(key):
        _, state = model.apply(
            {"params": params},
            image,
            train=True,
            rngs={"dropout": key},
            capture_intermediates=True,
        )
        return state["intermediates"]

    layers = run(jax.random.key(0))
    for dropout, layer in (("Dropout_0", "fc6"), ("Dropout_1", "fc7")):
        before = np.maximum(layers[layer]["__call__"][0], 0)
        after = np.asarray(layers[dropout]["__call__"][0])
        survived = after[before > 0] != 0
        assert 0 < survived.mean() < 0.6
        np.testing.assert_allclose(after[after != 0], before[after != 0] * 4)


def test_bfloat16_computes_but_scores_and_parameters_are_float32():
    model = FCN(CLASSES, 8, width=WIDTH, dtype=jnp.bfloat16)
    params, logits, layers = trace(model, (20, 30))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    assert layers["fc7"].dtype == jnp.bfloat16
    assert layers["score_pool3"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(stride=4), r"stride is 4: expected 32, 16 or 8"),
        (dict(stride=32, learned=True), r"FCN-32s has neither .*learned=True"),
        (dict(stride=32, at_once=True), r"FCN-32s has neither .*at_once=True"),
    ],
)
def test_options_that_name_no_network(options, message):
    with pytest.raises(InputError, match=message):
        trace(FCN(CLASSES, width=WIDTH, **options), (8, 8))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((8, 8, 3), jnp.float32), ((1, 8, 8, 3), jnp.uint8), ((1, 0, 8, 3), jnp.float32)],
)
def test_image_that_is_none(shape, dtype):
    model = FCN(CLASSES, 32, width=WIDTH)
    with pytest.raises(InputError, match="normalised float array"):
        jax.eval_shape(
            lambda image: model.init(jax.random.key(0), image, train=False),
            jax.ShapeDtypeStruct(shape, dtype),
        )


@pytest.mark.parametrize("ratio", [1, 2, 3, 16])
def test_fixed_upsampling_is_the_transposed_convolution(ratio):
    random = np.random.default_rng(ratio)
    kernel_size = 2 * ratio - ratio % 2
    kernel = bilinear_kernel(kernel_size, 2)
    for size in ((3, 4), (1, 1)):
        # Whole numbers: where the ratio is a power of two, nothing is rounded.
        x = random.integers(-50, 50, size=(2, *size, 2)).astype(np.float32)
        upsampled = jax.jit(partial(upsample_bilinear, ratio=ratio))(x)
        sides = [(n - 1) * ratio + kernel_size for n in size]
        assert upsampled.shape == (2, *sides, 2)
        for form in (
            jax.jit(partial(deconvolve, stride=ratio))(x, kernel),
            jax.jit(partial(conv_transpose, stride=ratio))(x, kernel),
        ):
            if ratio & (ratio - 1) == 0:
                np.testing.assert_array_equal(upsampled, form)
            else:
                np.testing.assert_allclose(upsampled, form, rtol=1e-5, atol=1e-5)


def test_fixed_upsampling_worked_by_hand():
    row = np.float32([4, 8]).reshape(1, 1, 2, 1)
    by_2 = upsample_bilinear(row, ratio=2)
    # Rows fade as 1/4, 3/4, 3/4, 1/4; columns are interpolated and fade as well.
    expected = np.outer([0.25, 0.75, 0.75, 0.25], [1, 3, 5, 7, 6, 2])
    np.testing.assert_array_equal(by_2[0, :, :, 0], expected)
    with pytest.raises(ValueError, match="ratio of 0"):
        upsample_bilinear(row, ratio=0)


def test_gradient_of_fixed_upsampling_is_that_of_the_transposed_convolution():
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 3, 2, 2)).astype(np.float32)
    kernel = bilinear_kernel(8, 2)
    weights = random.normal(size=(1, 16, 12, 2)).astype(np.float32)
    gradients = [
        jax.jit(jax.grad(lambda x, f=form: jnp.sum(f(x) * weights)))(x)
        for form in (
            lambda x: upsample_bilinear(x, ratio=4),
            lambda x: deconvolve(x, kernel, 4),
        )
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-5)
