"""Every table against the PyTorch network it is of, on random weights.

`pip install torch` first; without it these are skipped.
"""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_networks as nets  # noqa: E402
from port_parity import (  # noqa: E402
    TOLERANCE,
    assert_layers_agree,
    maps_of_segjax,
    maps_of_torch,
    normalised_image,
    port_of,
    ported,
)

from segjax.models.decoders.fcn_head import FCNHead  # noqa: E402
from segjax.models.resnet import ResNet  # noqa: E402
from segjax.models.segmenter import Segmenter  # noqa: E402
from segjax.models.zoo import build_model  # noqa: E402
from segjax.port import resnet  # noqa: E402

WIDTH = 1 / 32
# What the release subtracts from 0..255, RGB.
CAFFE_MEAN = np.array([122.67892, 116.66877, 104.00699], np.float32)
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)


def caffe_input(pixels):
    """BGR of 0..255 less the mean colour."""
    return (255 * pixels - CAFFE_MEAN)[..., ::-1]


def compare(
    module, model, image, source_image, *, run=None, norm_is_new=False, port=None
):
    """Logits of both, after all layers that the table names were found equal."""
    size = image.shape[1:3]
    port = port or port_of(module, model, size)
    theirs, their_maps = maps_of_torch(module, run or module, source_image)
    variables = ported(port, module, model, size)
    if norm_is_new:  # a variance that undoes the epsilon: it is the identity then
        variables["batch_stats"] = jax.tree.map(
            lambda x: x - np.float32(1e-5) * x, variables["batch_stats"]
        )
    ours, our_maps = maps_of_segjax(model, variables, image)
    compared = assert_layers_agree(port, their_maps, our_maps)
    return ours, theirs, compared


# One network here serves several tables in one test: compiling it is most of the time.


def test_tables_for_segnet_on_vgg16():
    _, image = normalised_image((64, 96))
    model = build_model("segnet_vgg16_bn", num_classes=5, width=WIDTH)
    for norm, layers in ((False, 13), (True, 26)):
        module = nets.randomize(nets.VGG(WIDTH, norm=norm), 1)
        _, _, compared = compare(module, model, image, image, norm_is_new=not norm)
        assert compared == layers
    for vinceecws in (False, True):
        module = nets.randomize(nets.SegNet(5, WIDTH, vinceecws=vinceecws), 5)
        ours, theirs, compared = compare(module, model, image, image)
        assert compared == 2 * 13 + 2 * 12 + 1
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def release(stride, *, frame=(0.0, 0.0, 0.0)):
    return nets.randomize(nets.FCN(5, stride, WIDTH, frame), 3, first_scale=1 / 64)


# The colour that is zero here, as the release reads it.
FRAME = tuple((255 * IMAGENET_MEAN - CAFFE_MEAN)[::-1].tolist())


def test_tables_for_fcn():
    pixels, image = normalised_image((40, 24))
    model = build_model("fcn8s_learned", num_classes=5, width=WIDTH)
    for head in ("torchvision", "timm"):  # the classifier at every window
        module = nets.randomize(nets.VGG(WIDTH, norm=False, head=head), 2)
        _, _, compared = compare(module, model, image, image, run=module.scan)
        assert compared == 15
    module = release(8, frame=FRAME)
    torch.nn.init.normal_(module.upscore_pool4.weight, std=0.2)
    ours, theirs, compared = compare(module, model, image, caffe_input(pixels))
    assert compared == 13 + 2 + 3 + 2
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert np.ptp(theirs) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "network"), [(16, "fcn16s"), (8, "fcn8s")])
def test_release_with_fixed_upsamplings(stride, network):
    pixels, image = normalised_image((40, 24))
    model = build_model(network, num_classes=5, width=WIDTH)
    module = release(stride, frame=FRAME)
    ours, theirs, compared = compare(module, model, image, caffe_input(pixels))
    assert compared == 13 + 2 + {16: 2, 8: 3}[stride]
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


@pytest.mark.slow
def test_release_of_fcn32s_and_what_its_frame_changes():
    pixels, image = normalised_image((24, 40))
    model = build_model("fcn32s", num_classes=5, width=WIDTH)
    ours, theirs, compared = compare(
        release(32, frame=FRAME), model, image, caffe_input(pixels)
    )
    assert compared == 13 + 2 + 1
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    # As published, with zeros around the image.
    module = release(32)
    _, theirs = maps_of_torch(module, module, caffe_input(pixels))
    variables = ported(port_of(module, model, (24, 40)), module, model, (24, 40))
    _, ours = maps_of_segjax(model, variables, image)
    difference = np.asarray(ours["conv1_1"]) - theirs["conv1_1"]
    # The image begins at row 100 of the frame, which is row 99 of the convolution.
    inside = difference[:, 100 : 100 + 22, 100 : 100 + 38]
    assert np.abs(inside).max() <= TOLERANCE
    # Far outside: what the kernel makes of the two mean colours' difference.
    weight = module.conv1_1.weight.detach().numpy().sum(axis=(2, 3))
    frame = weight @ np.array(FRAME)
    np.testing.assert_allclose(difference[0, 10, 10], frame, atol=TOLERANCE)
    assert np.abs(frame).max() > 10 * TOLERANCE


def test_tables_for_unet():
    pixels, image = normalised_image((48, 32))
    model = build_model("unet_bn", num_classes=2, width=WIDTH)
    module = nets.MilesialUNet(2, WIDTH, tuple(IMAGENET_MEAN.tolist()))
    module = nets.randomize(module, 6)
    ours, theirs, compared = compare(module, model, image, pixels)
    assert compared == 2 * 18 + 4 + 1
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    # As published it sees black around the image: equal but at the border.
    module.frame = (0.0, 0.0, 0.0)
    _, theirs = maps_of_torch(module, module, pixels)
    variables = ported(port_of(module, model, (48, 32)), module, model, (48, 32))
    _, ours = maps_of_segjax(model, variables, image)
    theirs = theirs["inc.double_conv.0"]
    difference = np.abs(np.asarray(ours["encoder/conv1_1/conv"]) - theirs)
    assert difference[:, 1:-1, 1:-1].max() <= TOLERANCE
    assert difference[:, 0].max() > 10 * TOLERANCE

    module = nets.randomize(nets.MateuszbudaUNet(2), 7)
    ours, theirs, compared = compare(module, model, image, image)
    assert compared == 2 * 18 + 4 + 1
    # One logit against nothing.
    probability = np.exp(ours[..., 1:]) / np.exp(ours).sum(-1, keepdims=True)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-theirs)), atol=TOLERANCE)

    # And what a failure says.
    port = port_of(module, model, (48, 32))
    variables = ported(port, module, model, (48, 32))
    layer = variables["params"]["encoder"]["conv3_2"]["conv"]
    layer["kernel"] = layer["kernel"] * 1.01  # not in place: it is the module's memory
    _, theirs = maps_of_torch(module, module, image)
    _, ours = maps_of_segjax(model, variables, image)
    first = r"first layer that differs: encoder3\.enc3conv2 of .*, here encoder/conv3_2"
    with pytest.raises(AssertionError, match=first):
        assert_layers_agree(port, theirs, ours)


def compare_fcn_on_resnet(model, blocks, fcn_table=None, trunk_table=None):
    _, image = normalised_image((45, 33))  # odd sides at every stride
    module = nets.randomize(nets.FCNResNet(blocks, WIDTH, 5), 9)
    ours, theirs, compared = compare(module, model, image, image, port=fcn_table)
    trunk = 2 * (1 + 3 * sum(blocks) + 4)
    assert compared == trunk + 3
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert np.ptp(theirs) > 0.1
    # A classifier's trunk alone, at the same output stride.
    module = nets.randomize(nets.ResNet(blocks, WIDTH, 8, fc=True), 10)
    _, _, compared = compare(module, model, image, image, port=trunk_table)
    assert compared == trunk


def test_tables_for_a_short_resnet():
    blocks = (1, 1, 2, 2)  # the second block of a layer has its dilation
    compare_fcn_on_resnet(
        Segmenter(ResNet(blocks, 8, WIDTH), FCNHead(5)),
        blocks,
        resnet.fcn_port("FCN", blocks),
        resnet.trunk_port("trunk", blocks),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "blocks"),
    [("fcn_resnet50", (3, 4, 6, 3)), ("fcn_resnet101", (3, 4, 23, 3))],
)
def test_tables_for_fcn_on_resnet(network, blocks):
    model = build_model(network, num_classes=5, width=WIDTH)
    compare_fcn_on_resnet(model, blocks)


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [32, 16])
def test_resnet_at_other_strides(output_stride):
    _, image = normalised_image((45, 70))
    blocks = (3, 4, 6, 3)
    model = Segmenter(ResNet(blocks, output_stride, WIDTH), FCNHead(5))
    module = nets.ResNet(blocks, WIDTH, output_stride, fc=True)
    _, _, compared = compare(nets.randomize(module, 11), model, image, image)
    assert compared == 2 * (1 + 48 + 4)
