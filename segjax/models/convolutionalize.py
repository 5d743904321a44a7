"""A classifier's dense layers as convolutions: its scores for every window at once."""

from collections.abc import Mapping
from typing import Any, Literal

import chex
import jax
from flax import traverse_util

from segjax.errors import InputError


def convolutionalize(
    kernel: jax.Array,
    window: tuple[int, int],
    *,
    order: Literal["hwc", "chw"] = "hwc",
) -> jax.Array:
    """Turns a dense layer's weights into the kernel of the equivalent convolution.

    A valid convolution with it gives, at each position, what the dense layer gives
    for the flattened `window` of maps there (FCN, arXiv 1411.4038, section 3.1). The
    bias is the same for both.

    Args:
      kernel: Weights `[h * w * c, n]` as in `nn.Dense`: inputs first. Caffe and
        PyTorch keep them as `[n, c * h * w]`: transpose that, and say `order="chw"`.
      window: Height `h` and width `w` of the maps that the dense layer flattens, in
        their pixels; (1, 1) for a dense layer after a dense layer.
      order: In which order the maps were flattened: `hwc` (JAX and TensorFlow, maps
        `[h w c]`) or `chw` (Caffe and PyTorch, maps `[c h w]`).

    Returns:
      A kernel `[h w c n]` in the type of `kernel`.

    Raises:
      InputError: The number of inputs is not a multiple of the window's pixels, or
        the order is unknown.
    """
    chex.assert_rank(kernel, 2)
    height, width = window
    inputs, outputs = kernel.shape
    if min(window) < 1 or inputs % (height * width):
        raise InputError(
            f"a dense kernel of shape {kernel.shape} cannot have seen windows of "
            f"{height}x{width}: expected a number of inputs that they divide"
        )
    channels = inputs // (height * width)
    if order == "hwc":
        return kernel.reshape(height, width, channels, outputs)
    if order == "chw":
        return kernel.reshape(channels, height, width, outputs).transpose(1, 2, 0, 3)
    raise InputError(f"unknown order {order!r}: expected hwc or chw")


def convolutionalize_classifier(
    params: Mapping[str, Any],
    windows: Mapping[str, tuple[int, int]],
    *,
    order: Literal["hwc", "chw"] = "hwc",
) -> dict[str, Any]:
    """Turns a classifier's parameters into those of its fully convolutional net.

    Dense kernels become convolution kernels; everything else stays. A net of the
    same layers with valid convolutions in place of the dense ones then maps an image
    of any size to the scores of every window of the classifier's input size, at the
    stride of the classifier's poolings. The scores are those of the windows cut out
    and classified one by one, if the classifier's convolutions do not pad and its
    poolings divide evenly; where they pad, as VGG's do, a window cut out has zeros
    around it at every layer and a window of the map has its neighbours.

    Every layer is computed once for all windows that share it. FCN-32s on a
    500x500 image scores 16x16 positions; 256 windows of 224x224 classified one by
    one take 21.9 times as many multiplications (up to `fc7`).

    Args:
      params: Nested dict of layers with `kernel` `[kh kw c n]` (convolution) or
        `[inputs, n]` (dense), and `bias`.
      windows: Path of a dense layer, levels joined by "/" -> height and width of the
        maps that it flattens, e.g. `{"fc6": (7, 7)}` for VGG16. Dense layers not
        named here follow dense layers and become 1x1 convolutions.
      order: In which order the maps were flattened; see `convolutionalize`.

    Returns:
      Parameters with the same paths, all kernels of rank 4.

    Raises:
      InputError: A layer in `windows` is no dense layer of `params`, or its number
        of inputs is not a multiple of the window's pixels.
    """
    leaves = traverse_util.flatten_dict(dict(params), sep="/")
    dense = {
        path.removesuffix("/kernel")
        for path, leaf in leaves.items()
        if path.endswith("/kernel") and leaf.ndim == 2
    }
    if unknown := sorted(set(windows) - dense):
        raise InputError(
            f"windows name {', '.join(unknown)}, but the classifier's dense layers are "
            f"{', '.join(sorted(dense)) or 'none'}"
        )
    for layer in dense:
        path = f"{layer}/kernel"
        try:
            leaves[path] = convolutionalize(
                leaves[path], windows.get(layer, (1, 1)), order=order
            )
        except InputError as error:
            raise InputError(f"layer {layer}: {error}") from error
    return traverse_util.unflatten_dict(leaves, sep="/")
