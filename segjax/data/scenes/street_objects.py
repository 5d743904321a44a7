"""What is on road and pavement: cars, people, posts, and the own hood."""

from typing import NamedTuple

import numpy as np

from segjax.data.labels import VOID
from segjax.data.scenes.canvas import (
    BICYCLIST,
    CAR,
    PAINTS,
    PEDESTRIAN,
    POLE,
    SCALE,
    SIGN,
    WALLS,
    Scene,
    mix,
    pick,
    vary,
    wall,
)
from segjax.data.scenes.surroundings import draw_fence, draw_tree

_CLOTHES = (
    (150, 36, 112),
    (176, 48, 136),
    (112, 40, 128),
    (206, 84, 150),
    (92, 44, 150),
    (40, 34, 60),
)
# Riders mostly wear what drivers see.
_RIDER_COATS = ((236, 132, 30), (222, 232, 50), (244, 156, 40))
_SKIN = ((214, 170, 140), (168, 120, 92), (108, 74, 56))


class _Vehicle(NamedTuple):
    """Shape of a vehicle, metres."""

    half: float  # of the width
    length: float
    top: float
    belt: float  # height of the lower edge of the windows
    slope: float  # how far the roof stands back from the face
    tuck: float  # how much narrower than the body the roof is, each side


_VEHICLES = (
    _Vehicle(half=0.86, length=4.2, top=1.45, belt=0.9, slope=0.75, tuck=0.18),
    _Vehicle(half=0.95, length=4.8, top=2.1, belt=1.15, slope=0.15, tuck=0.1),
    _Vehicle(half=1.2, length=9.0, top=3.0, belt=1.2, slope=0.05, tuck=0.02),
)


def draw_street_objects(scene: Scene):
    """Places everything that stands on road and pavement; paints far to near."""
    things = [*_place_traffic(scene)]
    for side in (-1, 1):
        things += _place_on_pavement(scene, side)
    for z, draw, args in sorted(things, key=lambda thing: -thing[0]):
        draw(scene, z, *args)


def _depth(rng: np.random.Generator, near: float, far: float) -> float:
    """Draws a distance, evenly in the picture rather than in the world."""
    return float(np.exp(rng.uniform(np.log(near), np.log(far))))


def _place_traffic(scene: Scene) -> list[tuple]:
    """Places what is on the road as (distance, draw, arguments)."""
    rng = scene.rng
    own, other = (-1, 1) if scene.drives_left else (1, -1)
    things, taken = [], []

    def add(z, x, length, draw, *args):
        """Adds a thing unless it would stand in another."""
        for x1, z1, length1 in taken:
            if abs(x - x1) < 2.2 and z < z1 + length1 + 0.5 and z1 < z + length + 0.5:
                return
        taken.append((x, z, length))
        things.append((z, draw, (x, *args)))

    def add_vehicle(z, x, seen_from_behind, shares):
        vehicle = _VEHICLES[rng.choice(3, p=shares)]
        add(z, x, vehicle.length, _draw_vehicle, vehicle, seen_from_behind)

    moving = (0.74, 0.18, 0.08)
    if rng.random() < 0.7:  # the one ahead
        add_vehicle(_depth(rng, 6.0, 25.0), rng.normal(0.0, 0.3), True, moving)
    for lane in np.arange(scene.lane, abs(scene.kerb[other]) - 0.8, scene.lane):
        for _ in range(rng.poisson(1.2)):  # oncoming
            ahead = rng.random() < 0.25
            add_vehicle(_depth(rng, 7.0, 40.0), other * lane, ahead, moving)
    for side in (-1, 1):
        if rng.random() < 0.55:  # parked along the kerb
            x = scene.kerb[side] - side * 1.0
            z = rng.uniform(6.0, 14.0)
            for _ in range(rng.integers(1, 6)):
                if abs(x) > 1.9 or z > 14.0:
                    add_vehicle(z, x, side == own, (0.8, 0.2, 0.0))
                z += rng.uniform(5.5, 9.0)
    for _ in range(rng.poisson(1.2)):
        side = own if rng.random() < 0.65 else other
        x = scene.kerb[side] - side * rng.uniform(0.5, 1.3)
        add(_depth(rng, 5.0, 12.0), x, 0.5, _draw_bicyclist)
    if rng.random() < 0.15:  # crossing the road
        x = rng.uniform(scene.kerb[-1], scene.kerb[1])
        add(_depth(rng, 9.0, 28.0), x, 0.5, _draw_pedestrian)
    return things


def _place_on_pavement(scene: Scene, side: int) -> list[tuple]:
    """Places what is on one pavement as (distance, draw, arguments)."""
    rng = scene.rng
    things = []
    kerb, width = scene.kerb[side], scene.pavement[side]
    middle, post = kerb + side * width * 0.5, kerb + side * rng.uniform(0.3, 0.8)

    def add(z, draw, *args):
        things.append((z, draw, args))

    for _ in range(rng.poisson(2.2)):
        x = middle + rng.uniform(-0.4, 0.4) * width
        add(_depth(rng, 5.0, 14.0), _draw_pedestrian, x)
    if rng.random() < 0.75:  # a row of lamp posts
        z, step = rng.uniform(7.0, 18.0), rng.uniform(12.0, 25.0)
        lamp = (rng.uniform(4.5, 8.0), side, rng.uniform(0.09, 0.15))
        gray = vary(rng, (206, 208, 200), 0.08)
        while z < 60.0:
            add(z, _draw_lamp, post, *lamp, gray)
            z += step
    for _ in range(rng.poisson(1.2)):
        add(_depth(rng, 6.0, 15.0), _draw_sign_post, post)
    if rng.random() < 0.25:
        add(_depth(rng, 7.0, 20.0), _draw_traffic_light, post)
    if rng.random() < 0.3:  # trees between road and pavement
        z, step = rng.uniform(8.0, 20.0), rng.uniform(9.0, 20.0)
        while z < 60.0:
            add(z, _draw_tree_at, post, rng.uniform(4.0, 8.0))
            z += step
    if rng.random() < 0.25:  # a railing at the kerb
        near = rng.uniform(6.0, 14.0)
        add(near, _draw_railing, kerb + side * 0.2, near + rng.uniform(6.0, 20.0))
    for _ in range(rng.poisson(0.4)):
        add(_depth(rng, 6.0, 25.0), _draw_clutter, middle)
    return things


def _draw_tree_at(scene, z, x, height):
    draw_tree(scene, x, z, height)


def _draw_railing(scene, z, x, far):
    draw_fence(scene, x, z, far)


def _draw_vehicle(
    scene: Scene, z: float, x: float, vehicle: _Vehicle, seen_from_behind: bool
):
    rng, cam = scene.rng, scene.camera
    half = vehicle.half * rng.uniform(0.95, 1.05)
    top = vehicle.top * rng.uniform(0.95, 1.08)
    length, belt, slope = vehicle.length, vehicle.belt, vehicle.slope
    tuck = half - vehicle.tuck
    paint = pick(rng, PAINTS, 0.12)
    glass = vary(rng, (44, 50, 58), 0.2)
    light = 1.0 if scene.sunny else 0.9
    face = scene.tone(paint, z, 0.85 * light)
    far = z + length
    # Shadow under the car, a bit wider than it.
    ground = [(x - half - 0.15, z - 0.2), (x + half + 0.15, z - 0.2)]
    ground += [(x + half + 0.15, far), (x - half - 0.15, far)]
    scene.shade([cam(a, 0.0, b) for a, b in ground], 85)
    tyre = scene.tone((24, 24, 26), z)
    flank = -1 if x > 0 else 1  # the side that shows
    if abs(x) > half * 0.6:
        edge, roof = x + flank * half, x + flank * tuck
        body = [(edge, 0.28, z), (edge, belt, z), (edge, belt, far), (edge, 0.28, far)]
        flank_light = scene.face(-flank) * 0.95
        color = scene.tone(paint, z + 2, flank_light)
        scene.polygon([cam(*p) for p in body], color, CAR)
        cabin = [(edge, belt, z + 0.1), (roof, top, z + slope)]
        cabin += [(roof, top, far - slope * 1.3), (edge, belt, far - 0.3 - slope)]
        scene.polygon([cam(*p) for p in cabin], color, CAR)
        window = [(edge, belt + 0.06, z + 0.4), (roof, top - 0.12, z + slope + 0.15)]
        window += [(roof, top - 0.12, far - slope * 1.4 - 0.2)]
        window += [(edge, belt + 0.06, far - slope - 0.7)]
        scene.polygon([cam(*p) for p in window], scene.tone(glass, z), None)
        for wheel in (z + length * 0.18, far - length * 0.2):
            row = cam(edge, 0.32, wheel)
            high = 0.33 * cam.focal / wheel
            wide = max(1.0, abs(cam(edge, 0, wheel - 0.32)[0] - row[0]))
            box = (row[0] - wide, row[1] - high, row[0] + wide, row[1] + high)
            scene.ellipse(box, tyre, CAR)
    for s in (-1, 1):
        outer, inner = sorted((x + s * half * 0.95, x + s * half * 0.65))
        wall(scene, (outer, inner), (0.0, 0.4), z, tyre, CAR)
    wall(scene, (x - half, x + half), (0.25, belt), z, face, CAR)
    cabin = [(x - half, belt, z), (x - tuck, top, z + slope)]
    cabin += [(x + tuck, top, z + slope), (x + half, belt, z)]
    scene.polygon([cam(*p) for p in cabin], face, CAR)
    window = [(x - half * 0.9, belt + 0.05, z), (x - tuck * 0.9, top - 0.12, z + slope)]
    window += [(x + tuck * 0.9, top - 0.12, z + slope)]
    window += [(x + half * 0.9, belt + 0.05, z)]
    sheen = mix(glass, scene.sky_color, rng.uniform(0.0, 0.5))
    scene.polygon([cam(*p) for p in window], scene.tone(sheen, z), None)
    lamp = (176, 30, 26) if seen_from_behind else (240, 236, 214)
    for s in (-1, 1):
        xs = sorted((x + s * half * 0.96, x + s * half * 0.7))
        ys = (belt - 0.32, belt - 0.08) if seen_from_behind else (0.55, 0.75)
        wall(scene, xs, ys, z, scene.tone(lamp, z), None)
    wall(scene, (x - half, x + half), (0.25, 0.42), z, mix(face, (0, 0, 0), 0.5), None)
    plate = scene.tone((214, 206, 150), z)
    wall(scene, (x - 0.26, x + 0.26), (0.45, 0.57), z, plate, None)


def _person(scene, foot, meter, height, colors, train_id, *, stride, lean):
    """Paints a standing figure; returns the position of the hands."""
    skin, coat, trousers = colors
    x, y = foot
    hip = (x, y - 0.5 * height * meter)
    neck = (x + lean * meter, y - 0.84 * height * meter)
    leg = max(SCALE, 0.14 * meter)
    for s in (-1, 1):
        scene.line([hip, (x + s * stride * meter, y)], trousers, leg, train_id)
    wide = 0.2 * meter
    torso = [(hip[0] - wide * 0.8, hip[1] + 0.06 * meter), (neck[0] - wide, neck[1])]
    torso += [(neck[0] + wide, neck[1]), (hip[0] + wide * 0.8, hip[1] + 0.06 * meter)]
    scene.polygon(torso, coat, train_id)
    head = max(SCALE * 0.6, 0.115 * meter)
    top = (neck[0] + lean * 0.2 * meter, neck[1] - head * 1.1)
    box = (top[0] - head * 0.85, top[1] - head, top[0] + head * 0.85, top[1] + head)
    scene.ellipse(box, skin, train_id)
    box = (box[0], box[1], box[2], box[1] + head * 0.9)
    scene.ellipse(box, mix(skin, (20, 16, 14), 0.8), None)
    return neck


def _draw_pedestrian(scene: Scene, z: float, x: float):
    rng, cam = scene.rng, scene.camera
    on_road = scene.kerb[-1] < x < scene.kerb[1]
    foot = cam(x, 0.0 if on_road else scene.kerb_height, z)
    meter = cam.focal / z
    box = (foot[0] - 0.4 * meter, foot[1] - 0.06 * meter)
    scene.shade_ellipse((*box, foot[0] + 0.4 * meter, foot[1] + 0.06 * meter), 120)
    light = rng.uniform(0.75, 1.1)
    colors = [pick(rng, _SKIN), pick(rng, _CLOTHES, 0.2), pick(rng, _CLOTHES, 0.2)]
    colors = [scene.tone(color, z, light) for color in colors]
    neck = _person(
        scene,
        foot,
        meter,
        rng.uniform(1.5, 1.9),
        colors,
        PEDESTRIAN,
        stride=rng.uniform(0.03, 0.24),
        lean=rng.normal(0.0, 0.03),
    )
    for s in (-1, 1):
        shoulder = (neck[0] + s * 0.2 * meter, neck[1] + 0.05 * meter)
        hand = (shoulder[0] + rng.normal(s * 0.08, 0.08) * meter, neck[1] + 0.6 * meter)
        scene.line([shoulder, hand], colors[1], max(2, 0.1 * meter), PEDESTRIAN)


def _draw_bicyclist(scene: Scene, z: float, x: float):
    rng, cam = scene.rng, scene.camera
    (column, row), meter = cam(x, 0.0, z), cam.focal / z
    turn = int(rng.choice([-1, 1]))
    light = rng.uniform(0.75, 1.1)
    frame = scene.tone(pick(rng, PAINTS, 0.2), z, light)
    tyre = scene.tone((28, 28, 30), z)
    # Half the distance of the wheels as it shows: long across, short along the road.
    half = 0.55 * (rng.uniform(0.5, 1.0) if rng.random() < 0.6 else 0.06)
    reach = (half + 0.4) * meter
    shadow = (column - reach, row - 0.05 * meter, column + reach, row + 0.05 * meter)
    scene.shade_ellipse(shadow, 120)

    def wheel(middle):
        wide = max(SCALE * 0.6, 0.34 * meter * min(1.0, half / 0.5))
        box = (middle - wide, row - 0.68 * meter, middle + wide, row)
        scene.ellipse(box, tyre, BICYCLIST)
        if wide > 5:  # the road is seen through the spokes; the label is whole
            inner = (box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2)
            scene.ellipse(inner, scene.tone((104, 104, 104), z), None)

    for s in (-1, 1):
        wheel(column + s * half * meter)
    saddle = (column - turn * half * 0.3 * meter, row - 0.95 * meter)
    crank = (column, row - 0.3 * meter)
    bar = (column + turn * half * 0.85 * meter, row - 1.05 * meter)
    for path in ([saddle, crank, bar], [saddle, bar]):
        scene.line(path, frame, max(2, 0.05 * meter), BICYCLIST)
    colors = [
        pick(rng, _SKIN),
        pick(rng, _RIDER_COATS, 0.1),
        vary(rng, (44, 48, 66), 0.2),
    ]
    colors = [scene.tone(color, z, light) for color in colors]
    foot = (saddle[0], row - 0.25 * meter)
    lean = turn * half * 0.5
    neck = _person(scene, foot, meter, 1.5, colors, BICYCLIST, stride=0.12, lean=lean)
    scene.line([neck, bar], colors[1], max(2, 0.1 * meter), BICYCLIST)
    if half < 0.1:  # seen along the road: wheel before the legs, wide handlebar
        wheel(column)
        ends = [(bar[0] - 0.3 * meter, bar[1]), (bar[0] + 0.3 * meter, bar[1])]
        scene.line(ends, tyre, max(2, 0.07 * meter), BICYCLIST)


def _post(scene: Scene, z: float, x: float, height: float, radius: float, gray):
    """Paints an upright post; returns its top, pixels per metre and its colour."""
    cam = scene.camera
    meter = cam.focal / z
    foot, top = cam(x, scene.kerb_height, z), cam(x, height, z)
    color = scene.tone(gray, z, scene.rng.uniform(0.8, 1.15))
    width = min(3.5 * SCALE, max(1.5 * SCALE, 2 * radius * meter))
    scene.line([foot, top], color, width, POLE)
    return top, meter, color


def _draw_lamp(scene, z, x, height, side, radius, gray):
    top, meter, color = _post(scene, z, x, height, radius, gray)
    tip = (top[0] - side * 1.3 * meter, top[1] - 0.15 * meter)
    scene.line([top, tip], color, SCALE, POLE)
    box = (tip[0] - 0.25 * meter, tip[1] - 0.1 * meter)
    scene.ellipse((*box, tip[0] + 0.25 * meter, tip[1] + 0.12 * meter), color, POLE)


def _draw_sign_post(scene: Scene, z: float, x: float):
    rng = scene.rng
    height = rng.uniform(2.0, 3.2)
    gray = vary(rng, (206, 208, 200), 0.08)
    (column, row), meter, _ = _post(scene, z, x, height, 0.05, gray)
    radius = rng.uniform(0.36, 0.56) * meter
    white, red = scene.tone((232, 230, 224), z), scene.tone((178, 36, 34), z)
    blue = scene.tone((36, 70, 150), z)
    box = (column - radius, row - radius, column + radius, row + radius)
    inner = tuple(np.add(box, np.multiply(radius * 0.32, (1, 1, -1, -1))))
    kind = rng.integers(3)
    if kind == 0:
        scene.ellipse(box, red, SIGN)
        scene.ellipse(inner, white, None)
    elif kind == 1:
        for scale, color, train_id in ((1.15, red, SIGN), (0.65, white, None)):
            size = radius * scale
            points = [(column - size, row + size * 0.8)]
            points += [(column + size, row + size * 0.8), (column, row - size)]
            scene.polygon(points, color, train_id)
    else:
        wide, high = radius * rng.uniform(0.8, 1.5), radius * rng.uniform(0.6, 1.3)
        plate = [blue, red, scene.tone((236, 200, 40), z)]
        color = plate[rng.integers(3)]
        points = [(column - wide, row - high), (column + wide, row - high)]
        points += [(column + wide, row + high), (column - wide, row + high)]
        scene.polygon(points, color, SIGN)
        line = [(column - wide * 0.6, row), (column + wide * 0.6, row)]
        scene.line(line, mix(color, white, 0.8), max(1, 0.25 * high), None)


def _draw_traffic_light(scene: Scene, z: float, x: float):
    rng = scene.rng
    (column, row), meter, _ = _post(scene, z, x, 3.0, 0.06, (206, 208, 200))
    half, high = 0.24 * meter, 0.95 * meter
    points = [(column - half, row), (column + half, row)]
    points += [(column + half, row + high), (column - half, row + high)]
    scene.polygon(points, scene.tone((28, 30, 30), z), SIGN)
    burning = rng.integers(3)
    for i, color in enumerate(((226, 52, 40), (236, 172, 60), (64, 214, 140))):
        center = row + high * (0.2 + 0.3 * i)
        radius = 0.13 * meter
        box = (column - radius, center - radius, column + radius, center + radius)
        color = color if i == burning else mix(color, (20, 20, 20), 0.8)
        scene.ellipse(box, color, None)


def _draw_clutter(scene: Scene, z: float, x: float):
    """Paints a bin, a box or a prop of no class: void."""
    rng = scene.rng
    color = scene.tone(pick(rng, (*WALLS, *_CLOTHES), 0.2), z)
    half, top = rng.uniform(0.2, 0.5), rng.uniform(0.7, 1.4)
    wall(scene, (x - half, x + half), (scene.kerb_height, top), z, color, VOID)
    lid = mix(color, (0, 0, 0), 0.35)
    wall(scene, (x - half, x + half), (top - 0.15, top), z, lid, None)


def draw_hood(scene: Scene):
    """Paints the own car at the lower edge: void."""
    rng = scene.rng
    if rng.random() > 0.4:
        return
    width, height = scene.width, scene.height
    rise = height * rng.uniform(0.03, 0.10)
    middle = width * rng.uniform(0.3, 0.7)
    half = width * rng.uniform(0.55, 0.95)
    color = pick(rng, PAINTS, 0.15)
    box = (middle - half, height - rise, middle + half, height + 3 * rise)
    scene.ellipse(box, color, VOID)
    gleam = (box[0], box[1] + rise * 0.35, box[2], box[3])
    scene.ellipse(gleam, mix(color, scene.sky_color, rng.uniform(0.05, 0.4)), None)
