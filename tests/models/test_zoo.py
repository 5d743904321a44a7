"""Every network: parameters against references, shapes, sizes, types."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from segjax.errors import InputError
from segjax.models.decoders.strategies import SKIPS, UPSAMPLINGS
from segjax.models.encoders import PooledEncoder
from segjax.models.zoo import ENCODERS, MODELS, build_model, count_parameters

CLASSES = 11


def conv(kernel, c_in, c_out, norm=False):
    """Weights and bias of a convolution, scale and offset of its BN."""
    return kernel * kernel * c_in * c_out + c_out + (2 * c_out if norm else 0)


def unet_decoder(channels, deepest, norm):
    """Channels: of the levels, deepest first."""
    total, c_in = 0, deepest
    for c in channels:
        total += conv(2, c_in, c) + conv(3, 2 * c, c, norm) + conv(3, c, c, norm)
        c_in = c
    return total + conv(1, c_in, CLASSES)


# SegNet-Basic's encoder: 611,520 weights (counted on the prototxt), biases, BN.
BASIC = 611_520 + 4 * 64 + 4 * 2 * 64
# VGG16's 13 convolutions with biases; published as 14.7 M.
VGG = 14_714_688
VGG_BN = VGG + 2 * (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512)
VGG_LEVELS = (512, 512, 256, 128, 64)
# U-Net with 3 channels and 11 classes, counted on a replica of the paper's figure.
UNET = 31_032_395
UNET_LEVELS = (512, 256, 128, 64)
UNET_ENCODER = UNET - unet_decoder(UNET_LEVELS, 1024, norm=False)
# FCN's 21 classes cost 21 / 11 of their score layers.
FCN_16S = 134_357_354 - (21 - 11) * (4096 + 1 + 512 + 1)
FCN_8S = 134_362_751 - (21 - 11) * (4096 + 1 + 512 + 1 + 256 + 1)
UNET_ENCODER_BN = UNET_ENCODER + 2 * 2 * (64 + 128 + 256 + 512 + 1024)

# Counted on the reference implementations, with what is trained.
REFERENCES = {
    # name: (classes, channels of the image, parameters)
    "segnet_basic": (11, 3, 1_416_587),
    "segnet_vgg16_bn": (11, 3, 29_449_355),
    "fcn32s": (21, 3, 134_346_581),
    "fcn16s": (21, 3, 134_357_354),
    "fcn8s": (21, 3, 134_362_751),
    "fcn8s_at_once": (21, 3, 134_362_751),
    "unet_valid": (2, 1, 31_030_658),
    "unet": (11, 3, UNET),
    "deconvnet": (21, 3, 251_805_653),
    # torchvision documents 35,322,218 and 54,314,346 with the second head, which has
    # 256 maps from 1024 and their normalisation, and 21 classes from these.
    "fcn_resnet50": (21, 3, 35_322_218 - (9 * 1024 * 256 + 512 + 256 * 21 + 21)),
    "fcn_resnet101": (21, 3, 54_314_346 - (9 * 1024 * 256 + 512 + 256 * 21 + 21)),
}
# By the arithmetic of their layers, at 11 classes and 3 channels.
DECONV = 8 * 8 * 11 * 11  # from and to one map per class
WIDE_DECONV = 8 * 8 * 64 * 64
PARAMETERS = {
    "bilinear_basic": BASIC + conv(1, 64, 11),
    "segnet_basic_encoder_addition": 1_416_587,
    "segnet_basic_single_channel": BASIC
    + 4 * (7 * 7 * 64 + 64 + 2 * 64)
    + conv(1, 64, 11),
    "fcn_basic": BASIC + 4 * conv(1, 64, 11) + 4 * DECONV,
    "fcn_basic_no_addition": BASIC + conv(1, 64, 11) + 4 * DECONV,
    "fcn_basic_no_dim_reduction": BASIC + 4 * WIDE_DECONV + conv(1, 64, 11),
    "fcn_basic_no_addition_no_dim_reduction": BASIC + 4 * WIDE_DECONV + conv(1, 64, 11),
    "segnet_vgg16": 29_449_355 - 15_872,
    "unet_bn": UNET_ENCODER_BN + unet_decoder(UNET_LEVELS, 1024, norm=True),
    "fcn_basic_4x4": BASIC + 4 * conv(1, 64, 11) + 4 * 4 * 4 * 11 * 11,
    "unet_basic": BASIC + unet_decoder((64,) * 4, 64, norm=True),
    "fcn_vgg16_bn": VGG_BN
    + 2 * conv(1, 512, 11)
    + conv(1, 256, 11)
    + (2 * 4 * 4 + 16 * 16) * 11 * 11,
    "fcn_vgg16": VGG
    + 2 * conv(1, 512, 11)
    + conv(1, 256, 11)
    + (2 * 4 * 4 + 16 * 16) * 11 * 11,
    "unet_vgg16_bn": VGG_BN + unet_decoder(VGG_LEVELS, 512, norm=True),
    "unet_vgg16": VGG + unet_decoder(VGG_LEVELS, 512, norm=False),
    "fcn_unet": UNET_ENCODER_BN
    # Scored: the bottleneck and the maps that stages 3, 2 and 1 pool.
    + sum(conv(1, c, 11) for c in (1024, 256, 128, 64))
    + 4 * 4 * 4 * 11 * 11,
    "segnet_unet": UNET_ENCODER_BN
    + conv(1, 1024, 512, True)
    + conv(3, 512, 512, True)
    + conv(3, 512, 256, True)
    + conv(3, 256, 256, True)
    + conv(3, 256, 128, True)
    + conv(3, 128, 128, True)
    + conv(3, 128, 64, True)
    + 2 * conv(3, 64, 64, True)
    + conv(3, 64, 11),
    # Patches of 32 pixels lose 2 a side in each of two stages' two convolutions and
    # are halved twice: 32, 28, 14, 10, 5.
    "patch_classifier": conv(3, 3, 32, True)
    + conv(3, 32, 32, True)
    + conv(3, 32, 64, True)
    + conv(3, 64, 64, True)
    + conv(5, 64, 128, True)
    + conv(1, 128, 11),
    "full_resolution": conv(3, 3, 64, True)
    + 7 * conv(3, 64, 64, True)
    + conv(1, 64, 11),
    # FCN's learned 2x upsampling, from the classes to the classes, no bias.
    "fcn16s_learned": FCN_16S + 4 * 4 * 11 * 11,
    "fcn8s_learned": FCN_8S + 2 * 4 * 4 * 11 * 11,
    "fcn8s_at_once_learned": FCN_8S + 2 * 4 * 4 * 11 * 11,
}


def test_every_model_has_a_row():
    assert set(PARAMETERS) | set(REFERENCES) == set(MODELS)


# Tracing a hundred layers takes its time; the one of fifty has the same parts.
def but_the_deepest(names):
    return [
        pytest.param(name, marks=pytest.mark.slow) if name == "fcn_resnet101" else name
        for name in names
    ]


@pytest.mark.parametrize("name", but_the_deepest(REFERENCES))
def test_reference_parameters(name):
    classes, channels, expected = REFERENCES[name]
    model = build_model(name, num_classes=classes)
    assert count_parameters(model, channels=channels) == expected
    assert dataclasses.astuple(MODELS[name].reference) == REFERENCES[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert count_parameters(build_model(name, num_classes=CLASSES)) == PARAMETERS[name]
    assert MODELS[name].reference is None


def abstract_logits(model, shape, dtype=jnp.float32):
    """Shapes of the variables and of the logits that the same call gives."""
    image = jax.ShapeDtypeStruct(shape, dtype)

    def run(key, image):
        outputs, variables = model.init_with_output(key, image, train=False)
        return variables, outputs["logits"]

    return jax.eval_shape(run, jax.random.key(0), image)


# In float32 nothing else could come; that strict promotion lets every network pass is
# seen where its parameters are counted.
@pytest.mark.parametrize("name", but_the_deepest(MODELS))
def test_logits_are_float32_at_image_resolution(name):
    model = build_model(
        name, num_classes=5, width=0.05, dropout=0.5, dtype=jnp.bfloat16
    )
    # Of the sizes that it takes: one that is a multiple of nothing, if it takes any.
    height, width = model.input_size((45, 61))
    # Flax's BatchNorm subtracts a float32 mean from a bfloat16 map.
    with jax.numpy_dtype_promotion("standard"):
        variables, logits = abstract_logits(model, (1, height, width, 3))
    lost = 2 * model.margin
    assert logits.shape == (1, height - lost, width - lost, 5)
    assert height - lost >= 45
    assert width - lost >= 61
    assert logits.dtype == jnp.float32
    for leaf in jax.tree.leaves(variables):
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", ["unet", "fcn_unet", "segnet_unet"])
def test_size_that_the_network_cannot_take(name):
    model = build_model(name, num_classes=5, width=0.05)
    with pytest.raises(InputError, match=r"24x40 pixels"):
        abstract_logits(model, (1, 24, 40, 3))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((48, 80, 3), jnp.float32), ((1, 48, 80, 3), jnp.uint8)]
)
def test_image_of_wrong_rank_or_type(shape, dtype):
    model = build_model("segnet_basic", num_classes=5, width=0.05)
    with pytest.raises(InputError, match="normalised float array"):
        abstract_logits(model, shape, dtype)


def test_unknown_model_lists_the_known():
    with pytest.raises(InputError, match=r"unknown model 'resnet'.*segnet_basic"):
        build_model("resnet", num_classes=2)


def test_width_scales_every_channel():
    # Half of SegNet-Basic's 64: 7x7x3x32, 7 x 7x7x32x32 and the 1x1 classifier.
    weights = 49 * (3 * 32 + 7 * 32 * 32) + 32 * 11
    biases_and_norm = 8 * 32 * 3 + 11
    model = build_model("segnet_basic", num_classes=11, width=0.5)
    assert count_parameters(model) == weights + biases_and_norm


STRATEGIES = [f"unet_bn:{u}+{s}" for u in UPSAMPLINGS for s in SKIPS]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_on_an_encoder_with_a_wider_bottleneck(name):
    # Of two levels and not of four: what is decoded at one of them is the same.
    encoder = PooledEncoder(((3,), (4,)), bottleneck=(6,), ceil_mode=False)
    model = build_model(name, num_classes=5).clone(encoder=encoder)
    _, logits = abstract_logits(model, (1, 48, 80, 3))
    assert logits.shape == (1, 48, 80, 5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_strategies_fit_every_encoder(encoder):
    for strategy in ("bilinear+sum", "pixel_shuffle+concat", "nearest+reduced_sum"):
        model = build_model(f"{encoder}:{strategy}", num_classes=5, width=0.05)
        height, width = model.input_size((45, 61))
        _, logits = abstract_logits(model, (1, height, width, 3))
        assert logits.shape == (1, height, width, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet:bilinear+sum", "unknown encoder 'resnet'.*segnet_basic"),
        ("unet:cubic+sum", "unknown upsampling 'cubic'.*bilinear"),
        ("unet:bilinear+product", "unknown skip 'product'.*concat"),
        ("unet:bilinear", "unknown skip ''"),
    ],
)
def test_unknown_parts_of_a_strategy_are_named(name, message):
    with pytest.raises(InputError, match=message):
        build_model(name, num_classes=2)


def test_unpooling_needs_an_encoder_with_switches():
    model = build_model("segnet_basic_strided:max_unpool+none", num_classes=2)
    message = "stride 16 needs the encoder's pooling switches.*has none"
    with pytest.raises(InputError, match=message):
        abstract_logits(model, (1, 32, 32, 3))
