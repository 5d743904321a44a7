"""FCN-8s on VGG16, in plain Flax."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from side_by_side.plain_layers import VGG16, scale_channels
from side_by_side.plain_pooling import max_pool


class FCN8s(nn.Module):
    """FCN-8s of the authors' release, with its padding by 100 and its crops."""

    num_classes: int
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        del train  # dropout has rate 0 in the benchmark

        def convolve(x, features, side, padding, name):
            (features,) = scale_channels((features,), self.width)
            conv = partial(nn.Conv, padding=padding, dtype=self.dtype, name=name)
            return nn.relu(conv(features, (side, side))(x))

        def score(x, name):
            conv = nn.Conv(self.num_classes, (1, 1), name=name)
            return conv(x.astype(jnp.float32))

        def crop(x, like, offset):
            _, height, width, _ = like.shape
            return x[:, offset : offset + height, offset : offset + width]

        x, pooled = image.astype(self.dtype), []
        for i, stage in enumerate(VGG16, start=1):
            for j, features in enumerate(stage, start=1):
                x = convolve(x, features, 3, 100 if i == j == 1 else 1, f"conv{i}_{j}")
            x = max_pool(x)
            pooled.append(x)
        x = convolve(x, 4096, 7, 0, "fc6")
        x = convolve(x, 4096, 1, 0, "fc7")

        scores = _bilinear_upsampling(score(x, "score_fr"), 2)
        scores += crop(score(pooled[3], "score_pool4"), scores, 5)
        scores = _bilinear_upsampling(scores, 2)
        scores += crop(score(pooled[2], "score_pool3"), scores, 9)
        return crop(_bilinear_upsampling(scores, 8), image, 31)


def _bilinear_upsampling(x, stride):
    """The release's fixed deconvolution: bilinear weights, class to class."""
    size, classes = 2 * stride, x.shape[-1]
    tent = 1 - np.abs(np.arange(size) - (size - 1) / 2) / stride
    window = np.outer(tent, tent).reshape(size, size, 1, 1)
    kernel = jnp.asarray(
        window * np.eye(classes).reshape(1, 1, classes, classes), x.dtype
    )
    return jax.lax.conv_transpose(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
