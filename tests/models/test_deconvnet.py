"""DeconvNet: the release's layers and parameters, sizes it takes, what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.deconvnet import deconvnet
from segjax.ops.transposed_convolution import conv_transpose

# Counted on DeconvNet_inference_deploy.prototxt, 21 classes.
WEIGHTS, BIASES, NORM = 251_755_520, 16_725, 33_408


def abstract(model, size):
    """Shapes of the variables and of every module's output, without running."""
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)

    def run(key, image):
        variables = model.init(key, image, train=False)
        outputs, state = model.apply(
            variables,
            image,
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        return variables, outputs["logits"], state["intermediates"]

    return jax.eval_shape(run, jax.random.key(0), image)


@pytest.fixture(scope="module")
def release():
    return abstract(deconvnet(21), (224, 224))


def test_parameters_of_the_release(release):
    counts = {"kernel": 0, "bias": 0, "norm": 0}
    leaves = jax.tree_util.tree_leaves_with_path(release[0]["params"])
    for path, leaf in leaves:
        module, name = path[-2].key, path[-1].key
        counts["norm" if module.endswith("bn") else name] += leaf.size
    assert counts == {"kernel": WEIGHTS, "bias": BIASES, "norm": NORM}
    assert WEIGHTS + BIASES + NORM == 251_805_653


def test_layers_of_the_release(release):
    _, logits, outputs = release
    encoder, decoder = outputs["encoder"], outputs["decoder"]
    assert encoder["fc6"]["__call__"][0].shape == (1, 1, 1, 4096)
    assert encoder["fc7"]["__call__"][0].shape == (1, 1, 1, 4096)
    assert decoder["fc6_deconv"]["__call__"][0].shape == (1, 7, 7, 512)
    shapes = {
        name: layer["__call__"][0].shape[1:]
        for name, layer in decoder["unpooling"].items()
        if name.startswith("conv")
    }
    assert shapes == {
        "conv16_1": (14, 14, 512),
        "conv16_2": (14, 14, 512),
        "conv16_3": (14, 14, 512),
        "conv8_1": (28, 28, 512),
        "conv8_2": (28, 28, 512),
        "conv8_3": (28, 28, 256),
        "conv4_1": (56, 56, 256),
        "conv4_2": (56, 56, 256),
        "conv4_3": (56, 56, 128),
        "conv2_1": (112, 112, 128),
        "conv2_2": (112, 112, 64),
        "conv1_1": (224, 224, 64),
        "conv1_2": (224, 224, 64),
    }
    assert logits.shape == (1, 224, 224, 21)
    for name in ("fc6", "fc6_deconv"):
        [layer] = [p[name] for p in release[0]["params"].values() if name in p]
        kernel = layer["conv"]["kernel"] if "conv" in layer else layer["kernel"]
        assert kernel.size == 102_760_448


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ((1, 1), (193, 193)),
        ((100, 300), (193, 300)),
        ((224, 192), (224, 193)),
        ((360, 480), (360, 480)),
    ],
)
def test_any_size_from_193_pixels(wanted, size):
    model = deconvnet(5, width=0.02)
    assert model.margin == 0
    assert model.input_size(wanted) == size
    assert abstract(model, size)[1].shape == (1, *size, 5)


@pytest.mark.parametrize("size", [(192, 224), (224, 192), (32, 32)])
def test_too_small(size):
    needed = f"at least {max(size[0], 193)}x{max(size[1], 193)}"
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]} pixels.*{needed}"):
        abstract(deconvnet(5, width=0.02), size)


def test_trains_through_the_fully_connected_layers_with_dropout():
    model = deconvnet(3, width=0.02, dropout=0.5)
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 193, 225, 3)).astype(np.float32)
    # Filled here, not by `init`, which takes longer to compile than all else to run.
    params = jax.tree.map(
        lambda leaf: (
            random.normal(scale=(2 / leaf[..., 0].size) ** 0.5, size=leaf.shape)
            if leaf.ndim == 4
            else np.ones(leaf.shape)
        ).astype(np.float32),
        jax.tree.map(lambda a: np.zeros(a.shape), abstract(model, (193, 225))[0])[
            "params"
        ],
    )
    vgg = params["encoder"].pop("vgg16")

    @jax.jit
    def run(params, seed):
        def loss(params):
            encoder = {**params["encoder"], "vgg16": vgg}
            outputs, _ = model.apply(
                {"params": {**params, "encoder": encoder}},
                image,
                train=True,
                rngs={"dropout": jax.random.key(seed)},
                mutable=["batch_stats"],
            )
            return jnp.mean(outputs["logits"] ** 2)

        return jax.value_and_grad(loss)(params)

    (first, gradient), (second, _) = run(params, 0), run(params, 1)
    assert set(gradient["encoder"]) == {"fc6", "fc7"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        if path[-1].key == "kernel":
            assert np.any(leaf), path
    assert first != second


def test_stride_1_transposed_convolution_is_a_convolution_with_the_turned_kernel():
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    convolved = jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    transposed = conv_transpose(x, kernel, stride=1, padding=1)
    np.testing.assert_allclose(transposed, convolved, atol=1e-5)
