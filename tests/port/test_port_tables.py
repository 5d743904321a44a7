"""The tables without PyTorch: names, shapes, published counts, and what a misfit says."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from segjax.errors import InputError
from segjax.models.zoo import build_model
from segjax.port import fcn_release, resnet, segnet_pytorch, unet_pytorch, vgg16
from segjax.port.input_normalization import fold_normalization
from segjax.port.load import PORTS, load
from segjax.port.table import CONV, CONV_TRANSPOSED, Row, fit

WIDTH = 1 / 32


@functools.cache
def variables_of(network, *, num_classes=2, width=WIDTH):
    """Nested shapes of a network."""
    model = build_model(network, num_classes=num_classes, width=width)
    image = jax.ShapeDtypeStruct((1, *model.input_size((1, 1)), 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def shapes_of(network, **options):
    leaves = traverse_util.flatten_dict(variables_of(network, **options), sep="/")
    return {path: leaf.shape for path, leaf in leaves.items()}


def source_shapes(port, targets):
    return {
        row.source: row.layout.source_shape(targets[row.target]) for row in port.rows
    }


def checkpoint(port, targets, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in source_shapes(port, targets).items()
    }


def named(ports, name, network, **options):
    return next(
        port
        for port in ports
        if port.name.startswith(name)
        and port.targets <= shapes_of(network, **options).keys()
    )


@pytest.mark.parametrize(
    "port", PORTS, ids=lambda port: f"{port.name}-{len(port.rows)}"
)
def test_every_tensor_is_taken_once(port):
    sources = [row.source for row in port.rows]
    targets = [row.target for row in port.rows] + list(port.zeros)
    assert len(set(sources)) == len(sources)
    assert len(set(targets)) == len(targets)
    assert not any(map(port.is_unused, sources))


# Trainable numbers of the published networks: torchvision documents its own, the others
# were counted on the implementations. (table, network, options, what the table leaves out)
FULL = {"width": 1.0, "num_classes": 21}
COUNTS = {
    "VGG16 of torchvision": (vgg16, "fcn8s", FULL, 1000 * 4096 + 1000, 138_357_544),
    "VGG16 of timm": (vgg16, "fcn8s", FULL, 1000 * 4096 + 1000, 138_357_544),
    "VGG16-BN of torchvision": (
        vgg16,
        "deconvnet",
        FULL,
        1000 * 4096 + 1000,
        138_365_992,
    ),
    "FCN-8s": (
        fcn_release,
        "fcn8s",
        FULL,
        21 * 21 * (4 * 4 + 4 * 4 + 16 * 16),
        134_489_759,
    ),
    "SegNet of delta-onera": (
        segnet_pytorch,
        "segnet_vgg16_bn",
        FULL,
        0,
        29_455_125,
    ),
    "U-Net of mateuszbuda": (
        unet_pytorch,
        "unet_bn",
        {"width": 0.5},
        0,
        7_763_041,
    ),
    "ResNet-50": (resnet, "fcn_resnet50", FULL, 2048 * 1000 + 1000, 25_557_032),
    "FCN on ResNet-50": (
        resnet,
        "fcn_resnet50",
        FULL,
        9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21,
        35_322_218,
    ),
    "ResNet-101": (resnet, "fcn_resnet101", FULL, 2048 * 1000 + 1000, 44_549_160),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if COUNTS[name][1] in ("deconvnet", "fcn_resnet101")
        else name
        for name in COUNTS
    ],
)
def test_published_numbers_of_parameters(name):
    module, network, options, left_out, published = COUNTS[name]
    targets = shapes_of(network, **options)
    port = next(
        p
        for p in module.PORTS
        if p.name.startswith(name) and p.targets <= targets.keys()
    )
    source = source_shapes(port, targets)
    trained = {
        n: s for n, s in source.items() if not n.rpartition(".")[2].startswith("run")
    }
    assert sum(map(math.prod, trained.values())) + left_out == published
    assert not fit(port, source, targets).mismatches


@pytest.mark.parametrize(
    ("network", "name", "tensor", "shape"),
    [
        ("fcn8s", "VGG16 of torchvision", "classifier.0.weight", (4096, 25088)),
        ("fcn8s", "VGG16 of torchvision", "features.28.bias", (512,)),
        ("fcn8s", "VGG16 of timm", "pre_logits.fc1.weight", (4096, 512, 7, 7)),
        ("segnet_vgg16_bn", "VGG16-BN", "features.41.running_var", (512,)),
        ("fcn8s", "FCN-8s", "score_pool3.weight", (21, 256, 1, 1)),
        ("segnet_vgg16_bn", "SegNet of vincee", "ConvDe31.weight", (128, 256, 3, 3)),
        ("segnet_vgg16_bn", "SegNet of delta", "conv11d.weight", (21, 64, 3, 3)),
        ("unet_bn", "U-Net of milesial", "up1.up.weight", (1024, 512, 2, 2)),
        (
            "unet_bn",
            "U-Net of milesial",
            "down4.maxpool_conv.1.double_conv.3.weight",
            (1024, 1024, 3, 3),
        ),
        ("fcn_resnet50", "ResNet-50", "layer3.5.conv2.weight", (256, 256, 3, 3)),
        (
            "fcn_resnet50",
            "FCN on ResNet-50",
            "backbone.layer4.0.downsample.0.weight",
            (2048, 1024, 1, 1),
        ),
    ],
)
def test_names_and_shapes_of_the_sources(network, name, tensor, shape):
    targets = shapes_of(network, **FULL)
    port = named(PORTS, name, network, **FULL)
    assert source_shapes(port, targets)[tensor] == shape


def test_layouts_against_their_definitions():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 4, 3, 2)).astype(np.float32)
    conv, transposed = CONV.convert(weight), CONV_TRANSPOSED.convert(weight)
    assert conv[2, 1, 3, 4] == weight[4, 3, 2, 1]
    assert transposed[2, 1, 4, 3] == weight[4, 3, 2, 1]
    # A dense layer over 7x7 maps of 3 channels, channels first.
    port = named(vgg16.PORTS, "VGG16 of torchvision", "fcn8s")
    layout = next(r.layout for r in port.rows if r.source == "classifier.0.weight")
    weight = rng.normal(size=(2, 3 * 7 * 7)).astype(np.float32)
    maps = rng.normal(size=(3, 7, 7)).astype(np.float32)
    kernel = layout.convert(weight)
    assert layout.source_shape(kernel.shape) == weight.shape
    np.testing.assert_allclose(
        np.einsum("chw,hwcn->n", maps, kernel), weight @ maps.reshape(-1), atol=1e-5
    )


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_folded_normalization_sees_what_the_source_saw(order):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)
    mean, std = (0.4, 0.5, 0.1), (1 / 255, 0.5, 2.0)
    patch = rng.random((3, 3, 3))
    theirs = (patch - mean) / std
    if order == "bgr":
        theirs = theirs[..., ::-1]
    expected = np.einsum("hwc,hwcn->n", theirs, kernel) + bias
    ours = (patch - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    folded, added = fold_normalization(kernel, bias, mean=mean, std=std, order=order)
    got = np.einsum("hwc,hwcn->n", ours, folded) + added
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_logit_becomes_two_classes_and_halves_change_places():
    port = named(unet_pytorch.PORTS, "U-Net of mateuszbuda", "unet_bn")
    targets = shapes_of("unet_bn")
    tensors = checkpoint(port, targets)
    loaded = load(tensors, variables_of("unet_bn"), network="unet_bn", file="f")
    classifier = loaded["params"]["decoder"]["classifier"]
    np.testing.assert_array_equal(classifier["kernel"][..., 0], 0)
    np.testing.assert_array_equal(
        classifier["kernel"][0, 0, :, 1], tensors["conv.weight"][0, :, 0, 0]
    )
    assert classifier["bias"].tolist() == [0, tensors["conv.bias"][0]]
    kernel = loaded["params"]["decoder"]["conv8_1"]["conv"]["kernel"]
    weight = tensors["decoder4.dec4conv1.weight"]
    half = weight.shape[1] // 2
    np.testing.assert_array_equal(kernel[1, 2, :half, 3], weight[3, half:, 1, 2])
    np.testing.assert_array_equal(kernel[1, 2, half:, 3], weight[3, :half, 1, 2])
    assert not loaded["params"]["decoder"]["conv8_1"]["conv"]["bias"].any()


@pytest.mark.parametrize(
    ("name", "network", "classes", "left"),
    [
        ("FCN-8s", "fcn8s", 5, ["score_fr", "score_pool3", "score_pool4"]),
        ("SegNet of delta", "segnet_vgg16_bn", 5, ["decoder/classifier"]),
        ("U-Net of milesial", "unet_bn", 5, ["decoder/classifier"]),
        ("U-Net of mateuszbuda", "unet_bn", 5, ["decoder/classifier"]),
    ],
)
def test_layers_for_other_classes_are_left(name, network, classes, left):
    tensors = checkpoint(named(PORTS, name, network), shapes_of(network))
    others = variables_of(network, num_classes=classes)
    loaded = load(tensors, others, network=network, file="f")
    paths = traverse_util.flatten_dict(loaded["params"], sep="/").keys()
    missing = traverse_util.flatten_dict(others["params"], sep="/").keys() - paths
    assert sorted({path.rpartition("/")[0] for path in missing}) == left


def test_a_coarser_release_starts_a_finer_network():
    tensors = checkpoint(named(PORTS, "FCN-32s", "fcn32s"), shapes_of("fcn32s"))
    loaded = load(tensors, variables_of("fcn8s"), network="fcn8s", file="f")
    assert "score_fr" in loaded["params"]
    assert "score_pool4" not in loaded["params"]
    np.testing.assert_array_equal(
        loaded["params"]["fc7"]["kernel"][0, 0, 3, 1], tensors["fc7.weight"][1, 3, 0, 0]
    )


def test_vgg16_without_normalisation_fits_a_network_with_it():
    network = "segnet_vgg16_bn"
    port = named(vgg16.PORTS, "VGG16 of torchvision or timm", network)
    tensors = checkpoint(port, shapes_of(network))
    loaded = load(tensors, variables_of(network), network=network, file="f")
    assert loaded.keys() == {"params"}
    assert loaded["params"]["encoder"]["conv1_1"].keys() == {"conv"}


def wrong(tensors, network):
    with pytest.raises(InputError) as raised:
        load(tensors, variables_of(network), network=network, file="w.safetensors")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_every_kind_of_mismatch_is_told_at_once():
    port = named(vgg16.PORTS, "VGG16 of torchvision or timm", "segnet_vgg16_bn")
    tensors = checkpoint(port, shapes_of("segnet_vgg16_bn"))
    for name in ("features.0.weight", "features.0.bias", "features.2.bias"):
        del tensors[name]
    tensors |= {f"extra.{i}": np.zeros(2, np.float32) for i in range(5)}
    tensors["features.5.weight"] = np.zeros((4, 9, 3, 3), np.float32)
    message = wrong(tensors, "segnet_vgg16_bn")
    # Two channels of 64, four of 128.
    assert message.startswith(
        "w.safetensors does not fit segnet_vgg16_bn; tried "
        "VGG16 of torchvision or timm: 3 missing (features.0.weight, features.0.bias, "
        "features.2.bias), 5 unexpected (extra.0, extra.1, extra.2, ...), 1 of another "
        "shape (features.5.weight [4, 9, 3, 3] instead of [4, 2, 3, 3]); "
    )
    assert "SegNet of vinceecws/SegNet_PyTorch: " in message


def test_a_checkpoint_of_another_architecture_is_named():
    source = named(vgg16.PORTS, "VGG16-BN of torchvision or", "segnet_vgg16_bn")
    tensors = checkpoint(source, shapes_of("segnet_vgg16_bn"))
    message = wrong(tensors, "fcn_vgg16")
    assert "(it is a VGG16-BN of torchvision or timm) does not fit fcn_vgg16" in message
    assert re.search(r"tried VGG16 of torchvision or timm: \d+ missing \(", message)
    assert "there is no table for this network's layers" in wrong(
        tensors, "segnet_basic"
    )
    assert "tried " in wrong({"weight": np.zeros(3, np.float32)}, "fcn8s")


def test_another_width_is_another_shape():
    port = named(vgg16.PORTS, "VGG16 of torchvision or timm", "fcn_vgg16")
    tensors = checkpoint(port, shapes_of("fcn_vgg16"))
    with pytest.raises(InputError, match=r"26 of another shape \(features\.0\.weight "):
        load(tensors, variables_of("fcn_vgg16", width=1 / 16), network="n", file="f")


def test_values_that_are_not_finite_are_refused():
    port = named(vgg16.PORTS, "VGG16 of torchvision or timm", "fcn_vgg16")
    tensors = checkpoint(port, shapes_of("fcn_vgg16"))
    # As torchvision's weights of the features alone have it.
    tensors["classifier.0.weight"] = np.full((3, 3), np.nan, np.float32)
    assert "classifier.0.weight has values that are not finite" in wrong(
        tensors, "fcn_vgg16"
    )


def test_learned_upsampling_does_not_fit_where_it_is_fixed():
    learned = named(PORTS, "FCN-8s", "fcn8s_learned")
    assert Row(
        "upscore2.weight", "params/upscore2/kernel", CONV_TRANSPOSED, (-2, -1)
    ) in (learned.rows)
    tensors = checkpoint(learned, shapes_of("fcn8s_learned"))
    message = wrong(tensors, "fcn8s")
    assert "upscore2.weight is not the bilinear interpolation" in message
    # Upsampling by 2 of two classes, as FCN's authors make it.
    tent = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    fixed = np.zeros((2, 2, 4, 4), np.float32)
    fixed[0, 0] = fixed[1, 1] = np.outer(tent, tent)
    tensors |= {"upscore2.weight": fixed, "upscore_pool4.weight": fixed}
    load(tensors, variables_of("fcn8s"), network="fcn8s", file="f")
