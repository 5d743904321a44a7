"""One road scene, from an empty canvas to image and label."""

import numpy as np

from segjax.data.scenes.canvas import SCALE, Scene
from segjax.data.scenes.photograph import photograph
from segjax.data.scenes.street_objects import draw_hood, draw_street_objects
from segjax.data.scenes.surroundings import (
    draw_ground,
    draw_sky,
    draw_skyline,
    draw_street_side,
    draw_sunlight_edge,
)


def render_scene(
    rng: np.random.Generator, *, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one road scene.

    Args:
      rng: the only source of randomness.
      size: height and width in pixels, at least 32 each.

    Returns:
      image uint8 `[h w 3]` and label uint8 `[h w]`: train ids of `labels.CAMVID`,
      `VOID` on the own car's hood, on clutter and along some boundaries.
    """
    height, width = size
    scene = Scene(rng, height * SCALE, width * SCALE)
    draw_sky(scene)
    draw_skyline(scene)
    draw_ground(scene)
    for side in (-1, 1):
        draw_street_side(scene, side)
    draw_sunlight_edge(scene)
    draw_street_objects(scene)
    draw_hood(scene)
    return photograph(scene)
