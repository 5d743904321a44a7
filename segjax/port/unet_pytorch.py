"""U-Net with batch normalisation of two PyTorch ports, for `unet_bn`.

github.com/milesial/Pytorch-UNet, built with `bilinear=False` (as its released Carvana
weights are): the layers of `unet_bn`. It reads RGB of 0..1, which is folded into the
first convolution (`segjax.port.input_normalization`: exact but for the outermost pixels,
where zeros are black there and ImageNet's mean colour here). One built with
`bilinear=True` has no transposed convolutions and does not fit.

github.com/mateuszbuda/brain-segmentation-pytorch (32 channels: `--width 0.5`): without
biases before batch normalisation, here zeros; it concatenates the upsampled map before
the skip, here after it, so that the kernels that read both have their halves swapped. It
ends in the logit of one class: with two classes here, background's logit is 0 and the
softmax is its sigmoid. It reads three sections of a scan, each normalised by the mean and
deviation of the whole scan, which no constants express: kernels are taken as they are.

Logits are equal for every image that `unet_bn` takes.
"""

import numpy as np

from segjax.port.input_normalization import fold_normalization
from segjax.port.layers import BATCH_NORM_COUNTERS, batch_norm, convolution
from segjax.port.table import CONV, CONV_TRANSPOSED, Arrays, Layout, Port, Row

# Both convolutions of: encoder stage here -> the block there.
_MILESIAL_ENCODER = {
    1: "inc.double_conv",
    2: "down1.maxpool_conv.1.double_conv",
    3: "down2.maxpool_conv.1.double_conv",
    4: "down3.maxpool_conv.1.double_conv",
    5: "down4.maxpool_conv.1.double_conv",
}
# Stride of a decoder level here -> the block there.
_MILESIAL_DECODER = {8: "up1", 4: "up2", 2: "up3", 1: "up4"}
# Stage or stride here -> module and prefix of its layers there.
_MATEUSZBUDA_ENCODER = {
    1: ("encoder1", "enc1"),
    2: ("encoder2", "enc2"),
    3: ("encoder3", "enc3"),
    4: ("encoder4", "enc4"),
    5: ("bottleneck", "bottleneck"),
}
_MATEUSZBUDA_DECODER = {
    8: ("upconv4", "decoder4", "dec4"),
    4: ("upconv3", "decoder3", "dec3"),
    2: ("upconv2", "decoder2", "dec2"),
    1: ("upconv1", "decoder1", "dec1"),
}


def _swap_halves(x: np.ndarray) -> np.ndarray:
    """`[kh kw c n]` of maps [upsampled, skip] to one of [skip, upsampled]."""
    upsampled, skip = np.split(x.transpose(2, 3, 1, 0), 2, axis=2)
    return np.concatenate([skip, upsampled], axis=2)


_CONV_SWAPPED = Layout(_swap_halves, CONV.source_shape)


def _against_zero(x: np.ndarray) -> np.ndarray:
    """Adds a first output of zeros along the last axis."""
    return np.concatenate([np.zeros_like(x), x], axis=-1)


def _one_of(classes: int) -> int:
    # One logit is two classes; whatever else there is has no counterpart.
    return 1 if classes == 2 else -1


_LOGIT_KERNEL = Layout(
    lambda x: _against_zero(x.transpose(2, 3, 1, 0)),
    lambda s: (_one_of(s[3]), s[2], s[0], s[1]),
)
_LOGIT_BIAS = Layout(_against_zero, lambda s: (_one_of(s[0]),))


def _fold(arrays: Arrays) -> Arrays:
    layer = "params/encoder/conv1_1/conv"
    kernel, bias = fold_normalization(
        arrays[f"{layer}/kernel"],
        arrays[f"{layer}/bias"],
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        order="rgb",
    )
    return {**arrays, f"{layer}/kernel": kernel, f"{layer}/bias": bias}


def _milesial() -> Port:
    rows = []

    def double(source, target):
        for j, (conv, norm) in enumerate(((0, 1), (3, 4)), start=1):
            layer = f"{target}_{j}"
            rows.extend(convolution(f"{source}.{conv}", f"{layer}/conv"))
            rows.extend(batch_norm(f"{source}.{norm}", f"{layer}/bn"))

    for stage, block in _MILESIAL_ENCODER.items():
        double(block, f"encoder/conv{stage}")
    for stride, block in _MILESIAL_DECODER.items():
        up = f"decoder/up{stride}"
        rows += convolution(f"{block}.up", up, layout=CONV_TRANSPOSED)
        double(f"{block}.conv.double_conv", f"decoder/conv{stride}")
    rows += convolution("outc.conv", "decoder/classifier", classes=True)
    return Port(
        "U-Net of milesial/Pytorch-UNet (bilinear=False)",
        tuple(rows),
        unused=BATCH_NORM_COUNTERS,
        finish=_fold,
    )


def _mateuszbuda() -> Port:
    rows, zeros = [], []

    def double(source, prefix, target, first=CONV):
        for j, layout in ((1, first), (2, CONV)):
            layer, name = f"{target}_{j}", f"{source}.{prefix}"
            rows.extend(
                convolution(
                    f"{name}conv{j}", f"{layer}/conv", layout=layout, bias=False
                )
            )
            rows.extend(batch_norm(f"{name}norm{j}", f"{layer}/bn"))
            zeros.append(f"params/{layer}/conv/bias")

    for stage, (module, prefix) in _MATEUSZBUDA_ENCODER.items():
        double(module, prefix, f"encoder/conv{stage}")
    for stride, (up, module, prefix) in _MATEUSZBUDA_DECODER.items():
        rows += convolution(up, f"decoder/up{stride}", layout=CONV_TRANSPOSED)
        double(module, prefix, f"decoder/conv{stride}", _CONV_SWAPPED)
    classifier = "params/decoder/classifier"
    rows += [
        Row("conv.weight", f"{classifier}/kernel", _LOGIT_KERNEL, (-1,)),
        Row("conv.bias", f"{classifier}/bias", _LOGIT_BIAS, (-1,)),
    ]
    return Port(
        "U-Net of mateuszbuda/brain-segmentation-pytorch",
        tuple(rows),
        unused=BATCH_NORM_COUNTERS,
        zeros=tuple(zeros),
    )


PORTS = (_milesial(), _mateuszbuda())
