"""Folding another input normalisation into a network's first convolution."""

from typing import Literal

import numpy as np

from segjax.ops.normalization import IMAGENET_MEAN, IMAGENET_STD


def fold_normalization(
    kernel: np.ndarray,
    bias: np.ndarray,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    order: Literal["rgb", "bgr"],
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a convolution of `(pixel - mean) / std` one of segjax's normalised image.

    With `p` the pixel's value in 0..1, the source reads `s = (p - mean) / std` and
    segjax `z = (p - m) / d` (`segjax.ops.normalization`), so `s = z * d / std +
    (m - mean) / std`: the factor goes into the kernel and the rest, summed over the
    kernel, into the bias. That is exact for every pixel of the image. It is not where the
    convolution reads zeros that it pads with: those are the source's mean colour there
    and ImageNet's here, so values differ next to the border by what the kernel makes of
    `(m - mean) / std`. No kernel and bias can do better, as the convolution is the same
    everywhere.

    Args:
      kernel: `[kh kw 3 n]` of the source, channels in its order.
      bias: `[n]`.
      mean: The source's, of values in 0..1, in RGB order.
      std: Likewise; 1/255 where it reads 0..255.
      order: Of the source's channels.

    Returns:
      Kernel and bias for RGB normalised by segjax, float32.
    """
    kernel = kernel.astype(np.float64)
    if order == "bgr":
        kernel = kernel[:, :, ::-1]
    scale = np.array(IMAGENET_STD) / np.array(std)
    offset = (np.array(IMAGENET_MEAN) - np.array(mean)) / np.array(std)
    added = np.einsum("hwcn,c->n", kernel, offset)
    folded = kernel * scale[None, None, :, None]
    return folded.astype(np.float32), (bias + added).astype(np.float32)
