"""The canvas of one scene: camera, layers, colours and light."""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw

# Train ids, in the order of `labels.CAMVID`.
(
    SKY,
    BUILDING,
    POLE,
    ROAD,
    PAVEMENT,
    TREE,
    SIGN,
    FENCE,
    CAR,
    PEDESTRIAN,
    BICYCLIST,
) = range(11)

SCALE = 3  # odd, so that a block of pixels has a middle one
FAR = 90.0  # metres; the road ends here

WALLS = (
    (164, 84, 62),
    (138, 70, 54),
    (198, 166, 122),
    (214, 190, 154),
    (176, 122, 86),
    (190, 152, 112),
    (150, 104, 80),
)
PAINTS = (
    (30, 32, 36),
    (58, 60, 66),
    (120, 124, 130),
    (178, 182, 186),
    (222, 222, 220),
    (110, 24, 26),
    (34, 52, 104),
    (24, 58, 44),
    (150, 130, 96),
)


@dataclasses.dataclass(frozen=True)
class Camera:
    """Pinhole camera above the road; the road bends by `curvature` (1 / metre)."""

    focal: float
    center: float
    horizon: float
    roll: float
    above: float
    curvature: float

    def __call__(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Projects a point of the world to canvas pixels (column, row)."""
        column = self.focal * (x / z + 0.5 * self.curvature * z)
        row = self.horizon + self.focal * (self.above - y) / z
        return self.center + column, row + self.roll * column


class Scene:
    """The canvas (colour, label, shadow) and what all things in one scene share.

    Attributes:
      rng: the only source of randomness.
      height: of the canvas, pixels; likewise `width`.
      color: RGB layer, without texture and shadow.
      label: train ids.
      shadow: light that is left, 255 = lit.
      camera: projects the world on the canvas.
      lane: width of a lane, metres.
      drives_left: the own lane is the left one.
      kerb: side (-1 left, 1 right) -> x of the edge of the road.
      pavement: side -> width of the pavement.
      kerb_height: metres.
      sunny: the sun casts shadows.
      sun_side: side on which the sun stands; its walls are dark.
      sky_color: colour near the horizon; distance fades to it.
      haze: 1 / metre.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self.height, self.width = height, width
        self.color = Image.new("RGB", (width, height))
        self.label = Image.new("L", (width, height), SKY)
        self.shadow = Image.new("L", (width, height), 255)
        self._color = ImageDraw.Draw(self.color)
        self._label = ImageDraw.Draw(self.label)
        self._shadow = ImageDraw.Draw(self.shadow)
        self.camera = Camera(
            focal=width * rng.uniform(0.75, 1.05),
            center=width * rng.uniform(0.36, 0.64),
            horizon=height * rng.uniform(0.40, 0.54),
            roll=rng.normal(0.0, 0.015),
            above=rng.uniform(1.2, 1.9),
            curvature=rng.normal(0.0, 0.0035),
        )
        # The camera drives in one lane: the road is wider on the other side.
        lane = rng.uniform(2.7, 3.6)
        other = lane * rng.choice([1.0, 2.0, 2.0, 3.0])
        own = lane * 0.5 + rng.uniform(0.0, 2.2)
        self.drives_left = bool(rng.random() < 0.5)
        self.lane = lane
        left, right = (own, other) if self.drives_left else (other, own)
        self.kerb = {-1: -left, 1: right}
        self.pavement = {side: rng.uniform(1.4, 3.6) for side in (-1, 1)}
        self.kerb_height = rng.uniform(0.08, 0.18)
        self.sunny = bool(rng.random() < 0.55)
        self.sun_side = int(rng.choice([-1, 1]))
        self.sky_color = mix(
            (236, 238, 240),
            (150, 178, 214) if rng.random() < 0.6 else (150, 154, 160),
            rng.random(),
        )
        self.haze = 1.0 / rng.uniform(60.0, 400.0)

    def tone(self, color, z: float, light: float = 1.0) -> tuple[int, int, int]:
        """Lights a colour and fades it towards the sky with distance."""
        fade = 1.0 - math.exp(-z * self.haze)
        return mix([value * light for value in color], self.sky_color, fade)

    def face(self, side: int) -> float:
        """Light on a wall that stands on `side` and faces the road."""
        if not self.sunny:
            return 0.9
        return 0.62 if side == self.sun_side else 1.1

    def sees(self, x: float, z: float, margin: float = 0.0) -> bool:
        """Tells whether a point, or one `margin` metres beside it, is in the picture."""
        column = self.camera(x, 0.0, z)[0]
        reach = margin * self.camera.focal / z
        return -reach < column < self.width + reach

    def polygon(self, points, color, train_id: int | None):
        """Paints a thing; `train_id` None paints the colour only."""
        self._color.polygon(points, fill=color)
        if train_id is not None:
            self._label.polygon(points, fill=train_id)
            self._shadow.polygon(points, fill=255)

    def ellipse(self, box, color, train_id: int | None):
        """Paints an ellipse in the box (left, top, right, bottom)."""
        self._color.ellipse(box, fill=color)
        if train_id is not None:
            self._label.ellipse(box, fill=train_id)
            self._shadow.ellipse(box, fill=255)

    def line(self, points, color, width: float, train_id: int | None):
        """Paints a line `width` canvas pixels wide."""
        width = max(1, round(width))
        self._color.line(points, fill=color, width=width)
        if train_id is not None:
            self._label.line(points, fill=train_id, width=width)
            self._shadow.line(points, fill=255, width=width)

    def area(self, points, train_id: int):
        """Labels an area without painting it."""
        self._label.polygon(points, fill=train_id)

    def shade(self, points, light: int):
        """Casts a shadow polygon; light 0..255 is what is left."""
        self._shadow.polygon(points, fill=light)

    def shade_ellipse(self, box, light: int):
        """Casts an elliptic shadow."""
        self._shadow.ellipse(box, fill=light)


def mix(a, b, share: float) -> tuple[int, int, int]:
    """Blends two colours: `share` 0 gives `a`, 1 gives `b`."""
    return (
        min(255, max(0, int(a[0] + (b[0] - a[0]) * share))),
        min(255, max(0, int(a[1] + (b[1] - a[1]) * share))),
        min(255, max(0, int(a[2] + (b[2] - a[2]) * share))),
    )


def vary(rng: np.random.Generator, color, spread: float) -> tuple[int, int, int]:
    """Draws a similar colour; `spread` is relative and applies to light and hue."""
    light, *hue = rng.normal(0.0, spread, 4)
    return tuple(
        int(min(255, max(0, value * (1.0 + light) + 40 * shift)))
        for value, shift in zip(color, hue, strict=True)
    )


def pick(rng: np.random.Generator, colors, spread: float = 0.1):
    """Draws one of `colors` and varies it."""
    return vary(rng, colors[rng.integers(len(colors))], spread)


def wall(scene: Scene, xs, ys, z: float, color, train_id: int | None):
    """Paints an upright rectangle, (left, right) x (bottom, top), facing the camera."""
    cam = scene.camera
    corners = [(xs[0], ys[0]), (xs[0], ys[1]), (xs[1], ys[1]), (xs[1], ys[0])]
    scene.polygon([cam(x, y, z) for x, y in corners], color, train_id)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], grain: int
) -> np.ndarray:
    """Draws smooth noise float32 `shape` with grains of `grain` pixels."""
    height, width = shape
    small = rng.standard_normal((height // grain + 2, width // grain + 2), np.float32)
    large = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(large)
