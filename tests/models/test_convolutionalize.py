"""The map of scores against every window classified on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax.errors import InputError
from segjax.models.convolutionalize import convolutionalize, convolutionalize_classifier
from segjax.models.fcn import FCN

# A classifier of 18x14 windows at stride 4. Sides: 16x12 after conv1, 8x6 pooled, 6x4
# after conv2, 3x2 pooled, which fc3 flattens.
WINDOW, STRIDE, FLATTENED = (18, 14), 4, (3, 2)
IMAGE = (30, 22)  # 4x3 windows


class Classifier(nn.Module):
    dense: bool
    order: str = "hwc"

    @nn.compact
    def __call__(self, x):
        for name, features in (("conv1", 4), ("conv2", 5)):
            x = nn.relu(nn.Conv(features, (3, 3), padding="VALID", name=name)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        if self.dense:
            if self.order == "chw":
                x = x.transpose(0, 3, 1, 2)
            x = x.reshape(x.shape[0], -1)
            x = nn.relu(nn.Dense(6, name="fc3")(x))
            return nn.Dense(2, name="fc4")(x)
        x = nn.relu(nn.Conv(6, FLATTENED, padding="VALID", name="fc3")(x))
        return nn.Conv(2, (1, 1), name="fc4")(x)


def classifier_params(dense):
    shapes = jax.eval_shape(
        lambda: dense.init(jax.random.key(0), jnp.zeros((1, *WINDOW, 3)))
    )["params"]
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes
    )


@pytest.mark.parametrize("order", ["hwc", "chw"])
def test_map_of_scores_is_every_window_classified(order):
    dense = Classifier(dense=True, order=order)
    params = classifier_params(dense)
    converted = convolutionalize_classifier(params, {"fc3": FLATTENED}, order=order)
    image = np.random.default_rng(1).normal(size=(2, *IMAGE, 3)).astype(np.float32)
    scores = jax.jit(Classifier(dense=False).apply)({"params": converted}, image)
    assert scores.shape == (2, 4, 3, 2)
    classify = jax.jit(dense.apply)
    for i, j in np.ndindex(4, 3):
        window = image[
            :,
            STRIDE * i : STRIDE * i + WINDOW[0],
            STRIDE * j : STRIDE * j + WINDOW[1],
        ]
        np.testing.assert_allclose(
            scores[:, i, j],
            classify({"params": params}, window),
            rtol=1e-4,
            atol=1e-4,
        )


def multiplications(function, *args, of=("conv_general_dilated", "dot_general")):
    """Multiplications of the traced program's convolutions and matrix products."""

    def of_equations(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            weights = equation.invars[1].aval.shape if len(equation.invars) > 1 else ()
            if equation.primitive.name in of:
                # All kernels here are [... inputs outputs].
                total += equation.outvars[0].aval.size * int(np.prod(weights[:-1]))
                continue
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")
            ):
                inner = getattr(inner, "jaxpr", inner)
                total += of_equations(inner) if hasattr(inner, "eqns") else 0
        return total

    return of_equations(jax.make_jaxpr(function)(*args).jaxpr)


def test_operations_saved():
    dense = Classifier(dense=True)
    params = classifier_params(dense)
    converted = convolutionalize_classifier(params, {"fc3": FLATTENED})
    of_window = multiplications(
        dense.apply, {"params": params}, jnp.zeros((1, *WINDOW, 3))
    )
    of_map = multiplications(
        Classifier(dense=False).apply,
        {"params": converted},
        jnp.zeros((1, *IMAGE, 3)),
    )
    # By hand: pixels of the output x its channels x inputs of one output.
    assert of_window == 16 * 12 * 4 * 27 + 6 * 4 * 5 * 36 + 30 * 6 + 6 * 2 == 25_248
    assert of_map == 28 * 20 * 4 * 27 + 12 * 8 * 5 * 36 + 12 * (180 + 12) == 80_064
    # Twelve windows one by one cost 3.8 times the map.
    assert 12 * of_window / of_map == pytest.approx(3.78, abs=0.005)


def test_operations_saved_on_vgg16():
    stages = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)

    def convolutions(sides):
        total, c_in = 0, 3
        for side, stage in zip(sides, stages, strict=True):
            for c_out in stage:
                total += side**2 * 9 * c_in * c_out
                c_in = c_out
        return total

    dense = 7 * 7 * 512 * 4096 + 4096 * 4096
    of_window = convolutions((224, 112, 56, 28, 14)) + dense
    of_map = convolutions((698, 349, 175, 88, 44)) + 16 * 16 * dense

    model = FCN(21, 32)
    image = jax.ShapeDtypeStruct((1, 500, 500, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )
    # Of the convolutions only: the upsampling comes after the classifier's layers.
    traced = multiplications(
        lambda v, x: model.apply(v, x, train=False),
        variables,
        image,
        of=("conv_general_dilated",),
    )
    assert traced == of_map + 16 * 16 * 4096 * 21  # score_fr
    assert 16 * 16 * of_window / of_map == pytest.approx(21.9, abs=0.05)


def test_orders_worked_by_hand():
    # Two rows, one column, three channels, one output: inputs numbered 0 to 5.
    kernel = np.arange(6.0).reshape(6, 1)
    np.testing.assert_array_equal(
        convolutionalize(kernel, (2, 1))[:, 0, :, 0], [[0, 1, 2], [3, 4, 5]]
    )
    np.testing.assert_array_equal(
        convolutionalize(kernel, (2, 1), order="chw")[:, 0, :, 0],
        [[0, 2, 4], [1, 3, 5]],
    )


def test_vgg16_becomes_the_release():
    """Dense weights of a narrow VGG16, nested and named as the release's are."""
    model = FCN(3, 32, width=0.02)
    image = jax.ShapeDtypeStruct((1, 1, 1, 3), jnp.float32)
    target = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False)["params"], image
    )
    classifier = {
        name: {
            key: np.zeros(
                (int(np.prod(leaf.shape[:-1])), leaf.shape[-1])
                if name.startswith("fc") and key == "kernel"
                else leaf.shape,
                np.float32,
            )
            for key, leaf in layer.items()
        }
        for name, layer in target.items()
        if name != "score_fr"
    }
    before = jax.tree.map(np.shape, classifier)
    converted = convolutionalize_classifier(classifier, {"fc6": (7, 7)})
    assert converted.keys() == target.keys() - {"score_fr"}
    for name, layer in converted.items():
        for key, leaf in layer.items():
            assert leaf.shape == target[name][key].shape
    assert jax.tree.map(np.shape, classifier) == before


def test_nested_layers_are_named_by_their_path():
    params = {
        "features": {"bn": {"scale": np.ones(3)}},
        "head": {"fc": {"kernel": np.ones((12, 5)), "bias": np.ones(5)}},
    }
    converted = convolutionalize_classifier(params, {"head/fc": (2, 2)})
    assert converted["head"]["fc"]["kernel"].shape == (2, 2, 3, 5)
    assert converted["head"]["fc"]["bias"].shape == (5,)
    assert converted["features"]["bn"]["scale"].shape == (3,)


def test_what_cannot_be_converted():
    kernel = np.ones((12, 5))
    with pytest.raises(InputError, match=r"\(12, 5\).*windows of 5x1"):
        convolutionalize(kernel, (5, 1))
    with pytest.raises(InputError, match=r"windows of 0x2"):
        convolutionalize(kernel, (0, 2))
    with pytest.raises(InputError, match=r"order 'cwh': expected hwc or chw"):
        convolutionalize(kernel, (2, 2), order="cwh")
    params = {"conv": {"kernel": np.ones((3, 3, 2, 2))}, "fc": {"kernel": kernel}}
    with pytest.raises(InputError, match=r"windows name conv, fc6, .* are fc$"):
        convolutionalize_classifier(params, {"fc6": (7, 7), "conv": (1, 1)})
    with pytest.raises(InputError, match=r"layer fc: .*windows of 7x7"):
        convolutionalize_classifier(params, {"fc": (7, 7)})
