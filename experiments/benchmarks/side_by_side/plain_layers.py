"""What the plain networks share: a convolution block and an encoder."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from side_by_side.plain_pooling import max_pool_with_indices

VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def scale_channels(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Channels times `width`, at least one."""
    return tuple(max(1, round(c * width)) for c in channels)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation if `norm`, activation if any."""

    features: int
    kernel_size: int = 3
    groups: int = 1
    norm: bool = True
    padding: str = "SAME"
    activation: Callable[[jax.Array], jax.Array] | None = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            padding=self.padding,
            feature_group_count=self.groups,
            dtype=self.dtype,
            name="conv",
        )(x)
        if self.norm:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
                name="bn",
            )(x)
        return x if self.activation is None else self.activation(x)


class Encoder(nn.Module):
    """Stages of convolutions with a pooling after each.

    Returns the last map, the maps before and after every pooling, and its indices.
    """

    stages: tuple[tuple[int, ...], ...]
    bottleneck: tuple[int, ...] = ()
    kernel_size: int = 3
    norm: bool = True
    padding: str = "SAME"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool):
        def convolve(x, i, channels):
            for j, features in enumerate(channels, start=1):
                x = ConvBlock(
                    features,
                    self.kernel_size,
                    norm=self.norm,
                    padding=self.padding,
                    dtype=self.dtype,
                    name=f"conv{i}_{j}",
                )(x, train)
            return x

        x = x.astype(self.dtype)
        maps, pooled, indices = [], [], []
        for i, channels in enumerate(self.stages, start=1):
            x = convolve(x, i, channels)
            maps.append(x)
            # Without a reader of the indices the compiler drops them.
            x, found = max_pool_with_indices(x)
            pooled.append(x)
            indices.append(found)
        x = convolve(x, len(self.stages) + 1, self.bottleneck)
        return x, maps, pooled, indices
