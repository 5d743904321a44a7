"""The patch classifier: sliding equals classifying every patch, and costs less."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import filled

from segjax.errors import InputError
from segjax.models.patch_classifier import PatchClassifier, count_multiply_adds

EVEN = PatchClassifier(3, stages=((4, 5), (6,)), dense=(7, 8), patch=16)
ODD = PatchClassifier(2, stages=((3,), (4,)), dense=(), patch=17, kernel_size=4)
MODELS = pytest.mark.parametrize("model", [EVEN, ODD], ids=["even", "odd"])


def init(model):
    """Variables with biases and batch statistics that are not a fresh network's."""
    return filled(model, (1, model.patch, model.patch, 3), method="classify")


def patches_of(image, patch):
    """Every pixel's patch `[h * w p p c]`, cut out of the mirrored image."""
    height, width, _ = image.shape
    far = patch  # more than any patch reaches
    mirrored = np.pad(image, [(far, far), (far, far), (0, 0)], mode="reflect")
    return np.stack(
        [
            mirrored[top : top + patch, left : left + patch]
            for top in range(far - patch // 2, far - patch // 2 + height)
            for left in range(far - patch // 2, far - patch // 2 + width)
        ]
    )


# Sides shorter than half a patch are mirrored more than once.
@pytest.mark.parametrize("size", [(12, 9), (1, 5)])
@MODELS
def test_sliding_equals_classifying_every_patch(model, size):
    image = np.array(jax.random.normal(jax.random.key(2), (*size, 3)))
    patches = jnp.asarray(patches_of(image, model.patch))

    @jax.jit
    def run(variables, image, patches):
        separate = model.apply(variables, patches, train=False, method="classify")
        return separate, model.apply(variables, image[None], train=False)["logits"]

    separate, logits = run(init(model), image, patches)
    assert separate.shape == (size[0] * size[1], model.num_classes)
    assert logits.dtype == jnp.float32
    assert np.std(separate, axis=0).min() > 1e-3  # not the same answer everywhere
    expected = separate.reshape(1, *size, model.num_classes)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


def test_both_forms_have_the_same_gradient():
    image = np.array(jax.random.normal(jax.random.key(3), (6, 7, 3)))
    patches = jnp.asarray(patches_of(image, ODD.patch))

    @jax.jit
    def run(variables, image, patches):
        def separate(params):
            x = ODD.apply(
                {**variables, "params": params},
                patches,
                train=False,
                method="classify",
            )
            return jnp.mean(jnp.sin(x))

        def sliding(params):
            x = ODD.apply({**variables, "params": params}, image[None], train=False)
            return jnp.mean(jnp.sin(x["logits"]))

        return tuple(jax.grad(f)(variables["params"]) for f in (separate, sliding))

    separate, sliding = run(init(ODD), image, patches)
    for a, b in zip(jax.tree.leaves(separate), jax.tree.leaves(sliding), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@MODELS
def test_logits_depend_on_exactly_the_patch(model):
    size, (y, x) = (2 * model.patch, 2 * model.patch + 3), (model.patch, model.patch)

    @jax.jit
    def gradient(variables, image):
        return jax.grad(
            lambda v: jnp.sum(model.apply(variables, v, train=False)["logits"][0, y, x])
        )(image)

    # Nothing negative: every unit is on, and no gradient is zero by chance.
    variables = jax.tree.map(np.abs, init(model))
    # Of the equal maxima of a constant image each gets a share of the gradient.
    touched = np.any(gradient(variables, jnp.ones((1, *size, 3)))[0], axis=-1)
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    top, left = y - model.patch // 2, x - model.patch // 2
    assert (rows[0], rows[-1]) == (top, top + model.patch - 1)
    assert (columns[0], columns[-1]) == (left, left + model.patch - 1)


def test_multiply_adds_by_hand():
    # Patches of 4: a 3x3 convolution leaves 2x2, pooling 1, then 1 and 2 units.
    tiny = PatchClassifier(2, stages=((1,),), dense=(1,), patch=4)
    counts = count_multiply_adds(tiny, size=(2, 2), channels=1)
    # Four patches of 4 positions x 9 weights, 1 and 2 weights; or the padded 5x5
    # image: 3x3 positions x 9, then 2x2 positions x 1 and x 2.
    assert counts.separate == 4 * (4 * 9 + 1 + 2) == 156
    assert counts.sliding == 9 * 9 + 4 * 1 + 4 * 2 == 93
    assert counts.ratio == pytest.approx(156 / 93)


def test_multiply_adds_of_the_default_on_a_camvid_image():
    # A patch of 32: 30, 28, pooled to 14, 12, 10, pooled to 5, one 5x5 layer.
    separate = (
        30 * 30 * 9 * 3 * 32
        + 28 * 28 * 9 * 32 * 32
        + 12 * 12 * 9 * 32 * 64
        + 10 * 10 * 9 * 64 * 64
        + 25 * 64 * 128
        + 128 * 11
    )
    assert separate == 14_549_760
    # The image padded to 391x511; each layer and pooling takes (k - 1) * dilation.
    sliding = (
        389 * 509 * 9 * 3 * 32
        + 387 * 507 * 9 * 32 * 32
        + 382 * 502 * 9 * 32 * 64
        + 378 * 498 * 9 * 64 * 64
        + 360 * 480 * (25 * 64 * 128 + 128 * 11)
    )
    counts = count_multiply_adds(PatchClassifier(11), size=(360, 480))
    assert counts.separate == 360 * 480 * separate
    assert counts.sliding == sliding
    assert round(counts.ratio, 1) == round(360 * 480 * separate / sliding, 1)


@pytest.mark.parametrize("form", ["image", "patches"])
def test_parameters_are_the_same_in_both_forms(form):
    model = PatchClassifier(11)
    shape, method = {
        "image": ((1, 20, 30, 3), "__call__"),
        "patches": ((2, 32, 32, 3), "classify"),
    }[form]
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False, method=method),
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    shapes = {
        name: layer["kernel"].shape
        for name, layer in variables["params"].items()
        if "kernel" in layer
    }
    assert shapes == {
        "conv1_1": (3, 3, 3, 32),
        "conv1_2": (3, 3, 32, 32),
        "conv2_1": (3, 3, 32, 64),
        "conv2_2": (3, 3, 64, 64),
        "dense1": (5, 5, 64, 128),
        "classifier": (1, 1, 128, 11),
    }


def test_batch_statistics_and_dropout_in_training():
    model = PatchClassifier(3, stages=((4,),), dense=(8,), patch=8, dropout=0.5)
    image = jax.random.normal(jax.random.key(0), (2, 10, 11, 3))

    @jax.jit
    def run(seed):
        variables = model.init(jax.random.key(1), image, train=False)
        outputs, state = model.apply(
            variables,
            image,
            train=True,
            rngs={"dropout": jax.random.key(seed)},
            mutable=["batch_stats"],
        )
        return outputs["logits"], state["batch_stats"]["conv1_1_bn"]["mean"]

    (first, mean), (second, _) = run(0), run(1)
    assert first.shape == (2, 10, 11, 3)
    assert np.any(mean)
    assert not np.array_equal(first, second)


def test_takes_any_size():
    assert EVEN.margin == 0
    assert EVEN.input_size((7, 300)) == (7, 300)


@pytest.mark.parametrize("patch", [15, 17, 8])
def test_patch_that_the_poolings_cannot_halve(patch):
    model = PatchClassifier(3, patch=patch)
    with pytest.raises(InputError, match=rf"patch is {patch} pixels.*16, 20, 24"):
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct((1, 40, 40, 3), jnp.float32),
        )


@pytest.mark.parametrize(
    ("shape", "dtype", "method", "message"),
    [
        ((40, 40, 3), jnp.float32, "__call__", r"\[b h w c\]"),
        ((1, 40, 40, 3), jnp.uint8, "__call__", "normalised float"),
        ((16, 16, 3), jnp.float32, "classify", r"\[n 16 16 c\]"),
        ((1, 20, 16, 3), jnp.float32, "classify", "20x16 pixels.*16x16"),
    ],
)
def test_wrong_input(shape, dtype, method, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(
            lambda x: EVEN.init(jax.random.key(0), x, train=False, method=method),
            jax.ShapeDtypeStruct(shape, dtype),
        )
