"""Turns a painted canvas into a photograph and a label."""

import numpy as np
from PIL import Image, ImageFilter

from segjax.data.labels import VOID
from segjax.data.scenes.canvas import (
    BICYCLIST,
    BUILDING,
    CAR,
    FENCE,
    PAVEMENT,
    PEDESTRIAN,
    POLE,
    ROAD,
    SCALE,
    SIGN,
    SKY,
    TREE,
    Scene,
    smooth_noise,
)

# Texture strength per class: single pixels, grains of 2 pixels, patches of 6 pixels.
_TEXTURE = np.zeros((256, 3), np.float32)
_TEXTURE[[SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR]] = [
    (0.01, 0.01, 0.03),
    (0.03, 0.04, 0.05),
    (0.03, 0.02, 0.02),
    (0.035, 0.03, 0.04),
    (0.03, 0.04, 0.04),
    (0.12, 0.20, 0.10),
    (0.02, 0.02, 0.02),
    (0.04, 0.03, 0.03),
    (0.02, 0.03, 0.03),
]
_TEXTURE[[PEDESTRIAN, BICYCLIST, VOID]] = (0.06, 0.08, 0.04)


def photograph(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Adds texture, shadows, lens, sensor, and boundaries without a label."""
    rng = scene.rng
    label = np.asarray(scene.label)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    shape = label.shape
    color = np.asarray(scene.color.reduce(SCALE), np.float32) / 255.0
    shadow = scene.shadow.reduce(SCALE).filter(ImageFilter.BoxBlur(0.7))
    fine, grain, patch = np.moveaxis(_TEXTURE[label], -1, 0)
    light = (
        1.0 + grain * smooth_noise(rng, shape, 2) + patch * smooth_noise(rng, shape, 6)
    )
    light += fine * rng.standard_normal(shape, np.float32)
    light *= np.asarray(shadow, np.float32) / 255.0
    color = (color * light[..., None]).clip(0, 1)
    if rng.random() < 0.3:  # out of focus, or moving
        blur = ImageFilter.GaussianBlur(rng.uniform(0.3, 0.6))
        color = Image.fromarray((color * 255).astype(np.uint8)).filter(blur)
        color = np.asarray(color, np.float32) / 255.0

    stops = rng.normal(-0.05, 0.12 if scene.sunny else 0.18)
    exposure = np.exp(np.clip(stops, -0.8, 0.4))
    tint = np.exp(rng.normal(0.0, 0.05, 3))
    gamma = rng.uniform(0.85, 1.15)
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    vignette = 1.0 - rng.uniform(0.0, 0.25) * (rows**2 + columns**2) / 2
    image = color**gamma * (exposure * tint) * vignette[..., None]
    image = image / (1.0 + 0.2 * image**2)  # highlights saturate softly
    sigma = rng.uniform(0.004, 0.014)
    image = image + sigma * rng.standard_normal(image.shape, np.float32)
    image = (image * 255.0).clip(0, 255).astype(np.uint8)
    return image, np.where(_unsure(rng, label), np.uint8(VOID), label)


def _unsure(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """Marks boundaries that an annotator would have left open, bool `[h w]`.

    Thin things keep all of their few pixels.
    """
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[:, :-1] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    edge[:-1] |= label[1:] != label[:-1]
    open_here = smooth_noise(rng, label.shape, 8) > 0.6
    thin = np.isin(label, (POLE, SIGN, PEDESTRIAN, BICYCLIST))
    return edge & open_here & ~thin
