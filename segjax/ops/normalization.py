"""From stored pixels to what a network reads."""

import chex
import jax
import jax.numpy as jnp

# Means and standard deviations of ImageNet's channels (RGB, of values in 0..1), as
# every public set of pretrained weights uses them; kept for nets from scratch too, so
# that one checkpoint format holds.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(
    image: jax.Array,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> jax.Array:
    """Scales uint8 `[b h w 3]` to float32 with about zero mean and unit variance.

    `(image / 255 - mean) / std` per channel. Runs on the device, inside the jitted
    step, so that a quarter of the bytes of a float image travel.
    """
    chex.assert_rank(image, 4)
    chex.assert_type(image, jnp.uint8)
    mean = jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, -1)
    std = jnp.asarray(std, jnp.float32).reshape(1, 1, 1, -1)
    return (image.astype(jnp.float32) / 255.0 - mean) / std
