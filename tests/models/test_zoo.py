"""Every network: parameters against references, shapes, sizes, types."""

import jax
import jax.numpy as jnp
import pytest

from segjax.errors import InputError
from segjax.models.zoo import MODELS, build_model, count_parameters

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
UNET_ENCODER_BN = UNET_ENCODER + 2 * 2 * (64 + 128 + 256 + 512 + 1024)

PARAMETERS = {
    # Counted on the authors' prototxts, 11 classes, with biases and BN.
    "segnet_basic": 1_416_587,
    "segnet_vgg16_bn": 29_449_355,
    "segnet_vgg16": 29_449_355 - 15_872,
    "unet": UNET,
    # By the arithmetic of their layers.
    "unet_bn": UNET_ENCODER_BN + unet_decoder(UNET_LEVELS, 1024, norm=True),
    "fcn_basic": BASIC + 4 * conv(1, 64, 11) + 4 * 4 * 4 * 11 * 11,
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
}


def test_every_model_has_a_row():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name):
    assert count_parameters(build_model(name, num_classes=CLASSES)) == PARAMETERS[name]


@pytest.mark.parametrize("name", [n for n in MODELS if MODELS[n].parameters])
def test_published_parameters(name):
    assert MODELS[name].parameters == PARAMETERS[name]


def abstract_logits(model, shape, dtype=jnp.float32):
    image = jax.ShapeDtypeStruct(shape, dtype)

    def run(key, image):
        variables = model.init(key, image, train=False)
        return variables, model.apply(variables, image, train=False)["logits"]

    return jax.eval_shape(run, jax.random.key(0), image)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_float32_at_image_resolution(name, dtype):
    model = build_model(
        name, num_classes=5, width=0.05, dropout=0.5, dtype=jnp.dtype(dtype)
    )
    # 48x80 is a multiple of 16 but not of VGG's 32; 45x61 of nothing.
    shapes = [(2, 48, 80, 3)] + ([(1, 45, 61, 3)] if model.multiple == 1 else [])
    for shape in shapes:
        # Flax's BatchNorm subtracts a float32 mean from a bfloat16 map.
        with jax.numpy_dtype_promotion("standard"):
            variables, logits = abstract_logits(model, shape)
        assert logits.shape == (*shape[:3], 5)
        assert logits.dtype == jnp.float32
        for leaf in jax.tree.leaves(variables):
            assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", ["unet", "fcn_unet", "segnet_unet"])
def test_size_that_the_network_cannot_take(name):
    model = build_model(name, num_classes=5, width=0.05)
    with pytest.raises(InputError, match=r"24x40 pixels.*multiples of 16"):
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
