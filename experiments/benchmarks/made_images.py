"""Images that compress and decode as photographs do, drawn on the spot."""

import numpy as np
from PIL import Image


def photo_like(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Draws random maps of every scale, the coarser the stronger, and sensor noise.

    The amplitude falls with the scale, as that of natural images does. With this noise
    a PNG file of level 1 takes what CamVid's images take, about half of the pixels.

    Args:
      seed: of the random numbers.
      size: height and width.

    Returns:
      uint8 `[*size 3]`.
    """
    height, width = size
    rng = np.random.default_rng(seed)
    light = np.zeros(size, np.float32)
    colour = np.zeros((*size, 3), np.float32)
    cell = max(size)
    amplitude = 90.0
    while cell >= 2:
        shape = (height // cell + 2, width // cell + 2)
        light += amplitude * _smooth(rng.normal(size=shape), size)
        if cell > 16:  # colours of things, hardly of their texture
            for channel in range(3):
                drawn = _smooth(rng.normal(size=shape), size)
                colour[..., channel] += 0.3 * amplitude * drawn
        cell, amplitude = cell // 2, 0.6 * amplitude
    # Most of the noise is common to the channels, as after a camera's demosaicing.
    noise = 2 * rng.normal(size=(*size, 1)) + 0.5 * rng.normal(size=(*size, 3))
    image = 110 + colour + light[..., None] + noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def label_like(seed: int, size: tuple[int, int], *, classes: int = 19) -> np.ndarray:
    """Draws regions with smooth outlines: uint8 `[*size]`, some of it void (255)."""
    rng = np.random.default_rng(seed)
    shape = (max(3, size[0] // 128), max(3, size[1] // 128))
    height = _smooth(rng.normal(size=shape), size)
    ranks = np.clip((height + 2) / 4, 0, 0.999)
    label = (ranks * (classes + 1)).astype(np.uint8)
    label[label == classes] = 255
    return label


def _smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))
