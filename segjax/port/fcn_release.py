"""FCN-32s, -16s and -8s of the authors' release, with its layers' names.

The release is in Caffe's format. What is read here is the same with a tensor `.weight`
and `.bias` for every layer, as github.com/wkentaro/pytorch-fcn publishes it
(`fcn32s_from_caffe.pth`, and so on; `python -m segjax convert-weights` makes safetensors
of it) and trains it anew. Nothing in a file says whether an FCN-8s was trained at once:
choose `fcn8s_at_once` for one that was.

The release's upsamplings are fixed and here constants: those of the file must be
bilinear, and are not taken. `*_learned` networks take those by 2 as they are.

The release reads BGR of 0..255 less a mean colour; that is folded into `conv1_1`
(`segjax.port.input_normalization`). The 100 pixels around the image that the network
pads with have the mean colour in both, but Caffe's mean and ImageNet's differ: by 1.00,
-0.39 and -0.48 of 255 in red, green and blue. The folded network sees that frame so much
brighter; inside of the image it is exact.
"""

from collections.abc import Mapping

import numpy as np

from segjax.ops.resampling import bilinear_kernel
from segjax.port.input_normalization import fold_normalization
from segjax.port.layers import convolution
from segjax.port.table import CONV_TRANSPOSED, Arrays, Port, Row

# Subtracted from 0..255, BGR: `mean` in the release's `voc-fcn*/net.py`.
_MEAN_BGR = (104.00699, 116.66877, 122.67892)

_CONVOLUTIONS = (
    *("conv1_1", "conv1_2"),
    *("conv2_1", "conv2_2"),
    *("conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3"),
    *("conv5_1", "conv5_2", "conv5_3"),
    *("fc6", "fc7"),
)
# Stride -> score layers, upsamplings by 2, the last upsampling.
_HEADS = {
    32: (("score_fr",), (), "upscore"),
    16: (("score_fr", "score_pool4"), ("upscore2",), "upscore16"),
    8: (
        ("score_fr", "score_pool4", "score_pool3"),
        ("upscore2", "upscore_pool4"),
        "upscore8",
    ),
}


def _fold(arrays: Arrays) -> Arrays:
    kernel, bias = "params/conv1_1/kernel", "params/conv1_1/bias"
    folded = fold_normalization(
        arrays[kernel],
        arrays[bias],
        mean=tuple(value / 255 for value in reversed(_MEAN_BGR)),
        std=(1 / 255,) * 3,
        order="bgr",
    )
    return {**arrays, kernel: folded[0], bias: folded[1]}


def _check_fixed(names: tuple[str, ...]):
    """A check that the upsamplings `names` are what FCN's constants are."""

    def check(tensors: Mapping[str, np.ndarray]) -> str | None:
        for name in (f"{name}.weight" for name in names):
            if name not in tensors:
                continue
            if not _is_bilinear(np.asarray(tensors[name], np.float32)):
                return (
                    f"{name} is not the bilinear interpolation that the network has "
                    "there as a constant: it was learned"
                )
        return None

    return check


def _is_bilinear(weight: np.ndarray) -> bool:
    """Whether `[c c k k]` is FCN's interpolation, whatever the number of classes."""
    if weight.ndim != 4 or 0 in weight.shape:
        return False
    fixed = bilinear_kernel(weight.shape[-1], weight.shape[0])
    fixed = np.asarray(fixed).transpose(2, 3, 0, 1)
    return weight.shape == fixed.shape and np.allclose(weight, fixed, atol=1e-5)


def _port(stride: int, *, learned: bool) -> Port:
    scores, doublings, last = _HEADS[stride]
    rows = []
    for layer in _CONVOLUTIONS:
        rows += convolution(layer, layer)
    for layer in scores:
        rows += convolution(layer, layer, classes=True)
    if learned:
        rows += [
            Row(f"{name}.weight", f"params/{name}/kernel", CONV_TRANSPOSED, (-2, -1))
            for name in doublings
        ]
    fixed = (last,) if learned else (*doublings, last)
    return Port(
        f"FCN-{stride}s of the authors' release",
        tuple(rows),
        unused=tuple(f"{name}.weight" for name in fixed),
        finish=_fold,
        check=_check_fixed(fixed),
    )


PORTS = (
    # The most layers first: what has them is not taken for a coarser network.
    _port(8, learned=True),
    _port(16, learned=True),
    _port(8, learned=False),
    _port(16, learned=False),
    _port(32, learned=False),
)
