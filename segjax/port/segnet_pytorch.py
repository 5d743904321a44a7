"""SegNet (VGG16 with batch normalisation) of two PyTorch ports, for `segnet_vgg16_bn`.

github.com/delta-onera/segnet_pytorch and github.com/vinceecws/SegNet_PyTorch have the
layers of the authors' `segnet_train.prototxt` in its order and differ in names only. The
second one has a batch normalisation after the classifier that its network does not
apply; it is not taken, nor is the softmax at its end. Logits are equal for images whose
sides are multiples of 32; at others PyTorch's poolings round down and ours up.

Neither publishes weights or fixes a normalisation of the image, so that kernels are
taken as they are: they fit if the image was normalised as ImageNet's are (RGB,
`segjax.ops.normalization`), otherwise the first batch statistics in training mend it.
"""

from segjax.port.layers import BATCH_NORM_COUNTERS, batch_norm, convolution
from segjax.port.table import Port

# Stage and place of a convolution in it, as both count; the decoder counts down.
_ENCODER = (
    *("11", "12"),
    *("21", "22"),
    *("31", "32", "33"),
    *("41", "42", "43"),
    *("51", "52", "53"),
)
_DECODER = {
    "53": "conv16_1",
    "52": "conv16_2",
    "51": "conv16_3",
    "43": "conv8_1",
    "42": "conv8_2",
    "41": "conv8_3",
    "33": "conv4_1",
    "32": "conv4_2",
    "31": "conv4_3",
    "22": "conv2_1",
    "21": "conv2_2",
    "12": "conv1_1",
}


def _port(name: str, *, encoder, decoder, unused: tuple[str, ...] = ()) -> Port:
    """`encoder` and `decoder`: names of a convolution and of its normalisation."""
    rows = []
    for place in _ENCODER:
        layer = f"encoder/conv{place[0]}_{place[1]}"
        rows += convolution(encoder[0].format(place), f"{layer}/conv")
        rows += batch_norm(encoder[1].format(place), f"{layer}/bn")
    for place, layer in _DECODER.items():
        rows += convolution(decoder[0].format(place), f"decoder/{layer}/conv")
        rows += batch_norm(decoder[1].format(place), f"decoder/{layer}/bn")
    rows += convolution(decoder[0].format("11"), "decoder/classifier", classes=True)
    return Port(name, tuple(rows), unused=(*unused, *BATCH_NORM_COUNTERS))


PORTS = (
    _port(
        "SegNet of delta-onera/segnet_pytorch",
        encoder=("conv{}", "bn{}"),
        decoder=("conv{}d", "bn{}d"),
    ),
    _port(
        "SegNet of vinceecws/SegNet_PyTorch",
        encoder=("ConvEn{}", "BNEn{}"),
        decoder=("ConvDe{}", "BNDe{}"),
        unused=("BNDe11.*",),
    ),
)
