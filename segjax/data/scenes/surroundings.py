"""What stands still around the street: sky, ground, houses, trees, fences."""

import numpy as np
from PIL import Image

from segjax.data.scenes.canvas import (
    BUILDING,
    FAR,
    FENCE,
    PAINTS,
    PAVEMENT,
    ROAD,
    SCALE,
    SIGN,
    TREE,
    WALLS,
    Scene,
    mix,
    pick,
    smooth_noise,
    vary,
    wall,
)


def draw_sky(scene: Scene):
    """Paints the sky over the whole canvas: a gradient and clouds."""
    rng = scene.rng
    top = mix(
        scene.sky_color, (70, 100, 160), 0.55 * rng.random() * (1 if scene.sunny else 0)
    )
    height, width = scene.height // 8, scene.width // 8  # it is smooth
    rows = np.linspace(0, 1, height)[:, None, None]
    gradient = np.float32(top) * (1 - rows) + np.float32(scene.sky_color) * rows
    clouds = smooth_noise(rng, (height, width), max(2, width // 6))
    cover = np.clip(clouds * 0.5 + rng.uniform(-0.6, 0.5), 0, 1)[..., None]
    cloud = np.float32(vary(rng, (228, 228, 230), 0.06))
    sky = (gradient * (1 - cover) + cloud * cover).clip(0, 255).astype(np.uint8)
    size = (scene.width, scene.height)
    scene.color.paste(Image.fromarray(sky).resize(size, Image.Resampling.BICUBIC))


def draw_skyline(scene: Scene):
    """Paints distant buildings and trees along the horizon."""
    rng, cam = scene.rng, scene.camera
    x = -90.0
    while x < 90.0:
        span = rng.uniform(6.0, 22.0)
        z = FAR + 20.0
        if rng.random() < 0.5:
            color = scene.tone(pick(rng, WALLS), z * 0.6)
            wall(
                scene, (x, x + span), (0.0, rng.uniform(4.0, 16.0)), z, color, BUILDING
            )
        else:
            color = scene.tone(vary(rng, (70, 92, 52), 0.12), z * 0.6)
            base = cam(x + span / 2, 0.0, z)
            radius = cam.focal * span / z / 2
            _crown(scene, (base[0], base[1] - radius * 0.7), radius, color, 8)
            wall(scene, (x, x + span), (0.0, 2.5), z, color, TREE)
        x += span * rng.uniform(0.7, 1.1)


def _strip(scene: Scene, x0: float, x1: float, y: float, near=1.2, far=FAR):
    """Outlines a strip of ground along the road between x0 and x1."""
    depths = np.geomspace(near, far, 14)
    left = [scene.camera(x0, y, z) for z in depths]
    right = [scene.camera(x1, y, z) for z in depths[::-1]]
    return left + right


def draw_ground(scene: Scene):
    """Paints pavements, kerbs and the road with its markings and patches."""
    rng = scene.rng
    tarmac = vary(rng, mix((84, 84, 92), (114, 114, 118), rng.random()), 0.05)
    # Pavements are slabs, some nearly as grey as the road.
    slabs = vary(
        rng,
        mix(
            tarmac,
            mix((172, 156, 138), (194, 174, 150), rng.random()),
            rng.uniform(0.6, 1.0),
        ),
        0.06,
    )
    for side in (-1, 1):
        kerb = scene.kerb[side]
        outer = kerb + side * scene.pavement[side]
        scene.polygon(
            _strip(scene, kerb, kerb + side * 120.0, scene.kerb_height, far=FAR + 40),
            slabs,
            PAVEMENT,
        )
        joints = int(rng.integers(0, 3))
        for z in np.geomspace(2.5, 25.0, 9 * joints):
            scene.line(
                [
                    scene.camera(kerb, scene.kerb_height, z),
                    scene.camera(outer, scene.kerb_height, z),
                ],
                mix(slabs, (0, 0, 0), 0.18),
                1,
                None,
            )
    left, right = scene.kerb[-1], scene.kerb[1]
    scene.polygon(_strip(scene, left, right, 0.0), tarmac, ROAD)
    for side in (-1, 1):  # the face of the kerb
        kerb = scene.kerb[side]
        depths = np.geomspace(1.2, 60.0, 12)
        face = [scene.camera(kerb, 0.0, z) for z in depths]
        face += [scene.camera(kerb, scene.kerb_height, z) for z in depths[::-1]]
        scene.polygon(face, mix(slabs, (0, 0, 0), rng.uniform(0.0, 0.35)), PAVEMENT)
        if rng.random() < 0.5:  # a yellow or white line beside it
            paint = (196, 164, 60) if rng.random() < 0.5 else (200, 200, 196)
            x = kerb - side * 0.3
            line = _strip(scene, x, x - side * 0.12, 0.0, far=50.0)
            scene.polygon(line, mix(tarmac, paint, rng.uniform(0.4, 0.9)), None)
    _draw_markings(scene, tarmac)
    for _ in range(rng.integers(0, 4)):  # mended patches
        x, z = rng.uniform(left, right), rng.uniform(3.0, 25.0)
        patch = mix(tarmac, (40, 40, 44), rng.uniform(0.1, 0.5))
        corners = [(x, z), (x + 1.5, z), (x + 1.5, z * 1.3), (x, z * 1.3)]
        corners = [(min(max(a, left), right), b) for a, b in corners]
        scene.polygon([scene.camera(a, 0.0, b) for a, b in corners], patch, None)


def _draw_markings(scene: Scene, tarmac):
    rng = scene.rng
    paint = mix(tarmac, (228, 228, 222), rng.uniform(0.35, 1.0))
    toward = 1 if scene.drives_left else -1
    x = toward * scene.lane * 0.5
    while abs(x) < abs(scene.kerb[toward]) - 1.0:
        if rng.random() < 0.25:
            scene.polygon(_strip(scene, x - 0.07, x + 0.07, 0.0, far=60.0), paint, None)
        else:
            dash, gap = rng.uniform(1.5, 4.0), rng.uniform(2.0, 5.0)
            z = 1.5 + rng.uniform(0.0, dash + gap)
            while z < 60.0:
                scene.polygon(
                    [
                        scene.camera(x - 0.07, 0.0, z),
                        scene.camera(x + 0.07, 0.0, z),
                        scene.camera(x + 0.07, 0.0, z + dash),
                        scene.camera(x - 0.07, 0.0, z + dash),
                    ],
                    paint,
                    None,
                )
                z += dash + gap
        x += toward * scene.lane
    if rng.random() < 0.2:  # a zebra crossing
        z = rng.uniform(5.0, 20.0)
        for x in np.arange(scene.kerb[-1] + 0.3, scene.kerb[1] - 0.6, 1.1):
            corners = [(x, z), (x + 0.55, z), (x + 0.55, z + 3), (x, z + 3)]
            scene.polygon([scene.camera(a, 0.0, b) for a, b in corners], paint, None)


def draw_street_side(scene: Scene, side: int):
    """Paints what stands behind the pavement, far to near."""
    rng = scene.rng
    built = rng.choice([0.15, 0.8, 0.95], p=[0.25, 0.35, 0.4])  # park, suburb, town
    edge = scene.kerb[side] + side * scene.pavement[side]
    if built < 0.9 or rng.random() < 0.3:
        _draw_verge(scene, side, edge)
    z = FAR
    while z > 4.0:
        length = rng.uniform(7.0, 18.0) * (0.6 + z / FAR)
        near = max(3.0, z - length)
        setback = rng.uniform(0.0, 1.5 if built > 0.9 else 7.0)
        if rng.random() < built:
            _draw_building(scene, side, edge + side * setback, near, z)
        else:
            for _ in range(rng.integers(1, 4)):
                draw_tree(
                    scene,
                    edge + side * rng.uniform(1.0, 8.0),
                    rng.uniform(near, z),
                    rng.uniform(4.0, 11.0),
                )
            if rng.random() < 0.6:
                _draw_hedge(scene, side, edge, near, z)
        if rng.random() < 0.4:
            draw_fence(scene, edge, max(near, 4.0), z)
        z = near


def _draw_verge(scene: Scene, side: int, edge: float):
    """Paints grass beyond the pavement; like CamVid's 11 classes it is Tree."""
    rng = scene.rng
    grass = vary(rng, mix((84, 112, 52), (108, 122, 62), rng.random()), 0.1)
    strip = _strip(scene, edge, edge + side * 110.0, scene.kerb_height, far=FAR + 15)
    scene.polygon(strip, grass, TREE)


def _draw_building(scene: Scene, side: int, x: float, near: float, far: float):
    rng, cam = scene.rng, scene.camera
    if not scene.sees(x, far):
        return
    brick = pick(rng, WALLS, 0.12)
    floors = int(rng.integers(2, 6))
    floor = rng.uniform(2.6, 3.4)
    top = floors * floor + rng.uniform(0.2, 1.2)
    middle = 0.5 * (near + far)
    light = scene.face(side)
    front = scene.tone(brick, middle, light)
    # The end wall, seen where the next building is lower or stands back.
    end = scene.tone(brick, near, 0.8 if scene.sunny else 0.95)
    wall(scene, sorted((x, x + side * 9.0)), (0.0, top), near, end, BUILDING)
    if rng.random() < 0.45:  # pitched roof
        ridge = top + rng.uniform(1.5, 3.5)
        roof = scene.tone(vary(rng, (92, 72, 66), 0.15), middle, light)
        points = [(x, top, near), (x, top, far)]
        points += [(x + side * 4.0, ridge, far), (x + side * 4.0, ridge, near)]
        scene.polygon([cam(*p) for p in points], roof, BUILDING)
        gable = [(x, top, near), (x + side * 4.0, ridge, near)]
        gable += [(x + side * 8.0, top, near)]
        scene.polygon([cam(*p) for p in gable], end, BUILDING)

    def panel(z0, z1, y0, y1, color, train_id=None):
        corners = [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]
        scene.polygon([cam(*p) for p in corners], color, train_id)

    panel(near, far, 0.0, top, front, BUILDING)
    shop = rng.random() < 0.4
    if shop:
        color = scene.tone(vary(rng, (70, 76, 84), 0.3), middle, light)
        panel(near + 0.4, far - 0.4, 0.3, floor * 0.75, color)
        color = scene.tone(pick(rng, PAINTS, 0.2), middle, light)
        panel(near + 0.2, far - 0.2, floor * 0.78, floor, color)
    glass = vary(rng, mix((50, 58, 70), (150, 166, 184), rng.random() ** 2), 0.1)
    frame = vary(rng, (206, 204, 198), 0.1)
    pitch, wide = rng.uniform(1.8, 3.4), rng.uniform(0.8, 1.4)
    count = max(1, int((far - near - 1.0) / pitch))
    if near < 55.0:
        for level in range(1 if shop else 0, floors):
            y0 = level * floor + 0.9
            y1 = y0 + rng.uniform(1.2, 1.6)
            for i in range(count):
                z0 = near + 0.7 + i * pitch
                if near < 30.0:
                    tone = scene.tone(frame, z0, light)
                    panel(z0 - 0.12, z0 + wide + 0.12, y0 - 0.12, y1 + 0.12, tone)
                lit = 0.75 + 0.5 * rng.random()
                panel(z0, z0 + wide, y0, y1, scene.tone(glass, z0, light * lit))
    if near < 32.0 and rng.random() < 0.2:  # a sign that sticks out of the wall
        z, y = rng.uniform(near, min(far, 32.0)), rng.uniform(2.6, 4.2)
        out = rng.uniform(0.7, 1.3)
        color = scene.tone(pick(rng, ((196, 40, 38), (36, 78, 190), (236, 200, 40))), z)
        wall(scene, sorted((x, x - side * out)), (y, y + out), z, color, SIGN)
        stripe = scene.tone(vary(rng, (226, 222, 210), 0.2), z)
        xs = sorted((x - side * 0.2 * out, x - side * 0.8 * out))
        wall(scene, xs, (y + 0.4 * out, y + 0.6 * out), z, stripe, None)


def _crown(scene: Scene, center, radius: float, color, blobs: int):
    """Paints an irregular cloud of leaves."""
    rng = scene.rng
    angles = rng.uniform(0, 2 * np.pi, blobs)
    reach = np.sqrt(rng.uniform(0.02, 0.85, blobs)) * radius
    sizes = rng.uniform(0.22, 0.48, blobs) * radius
    lights = rng.normal(1.0, 0.14, blobs)
    columns, rows = np.cos(angles) * reach, np.sin(angles) * reach
    spots = zip(columns, rows, sizes, lights, strict=True)
    # Lower leaves are darker and painted first.
    for dx, dy, size, light in sorted(spots, key=lambda spot: -spot[1]):
        light = light * (1.0 - 0.25 * dy / radius)
        x, y = center[0] + dx, center[1] + dy * 0.9
        shade = mix((0, 0, 0), color, min(1.3, light))
        scene.ellipse((x - size, y - size, x + size, y + size), shade, TREE)


def draw_tree(scene: Scene, x: float, z: float, height: float):
    """Paints a tree with its crown of leaves, or of branches with sky between."""
    rng, cam = scene.rng, scene.camera
    if not scene.sees(x, z, margin=0.5 * height):
        return
    leaves = mix((56, 92, 40), (92, 106, 46), rng.random())
    leaves = scene.tone(vary(rng, leaves, 0.1), z)
    meter = cam.focal / z
    foot, top = cam(x, scene.kerb_height, z), cam(x, height * 0.62, z)
    bark = scene.tone(vary(rng, (84, 72, 62), 0.15), z, 0.9)
    scene.line([foot, top], bark, max(SCALE, rng.uniform(0.2, 0.45) * meter), TREE)
    radius = height * rng.uniform(0.28, 0.4) * meter
    if rng.random() < 0.12:  # few leaves: branches and sky in between
        for _ in range(9):
            angle = rng.uniform(-1.2, 1.2)
            tip = (
                top[0] + np.sin(angle) * radius,
                top[1] - np.cos(angle) * radius * 1.1,
            )
            scene.line([top, tip], bark, max(2, 0.1 * meter), TREE)
        _crown(scene, top, radius, leaves, 9)
    else:
        _crown(scene, top, radius, leaves, 22)


def _draw_hedge(scene: Scene, side: int, edge: float, near: float, far: float):
    rng, cam = scene.rng, scene.camera
    color = scene.tone(vary(rng, (58, 88, 42), 0.12), near)
    height = rng.uniform(1.0, 2.4)
    x = edge + side * 0.6
    top = [
        cam(x, height + rng.uniform(-0.2, 0.2), z) for z in np.geomspace(near, far, 7)
    ]
    scene.polygon([cam(x, 0.0, near), *top, cam(x, 0.0, far)], color, TREE)


def draw_fence(scene: Scene, x: float, near: float, far: float):
    """Paints a fence along the road. What is seen through it is Fence, too."""
    rng, cam = scene.rng, scene.camera
    height = rng.uniform(0.9, 1.8)
    light = rng.uniform(0.7, 1.1)
    color = pick(rng, ((62, 88, 138), (84, 112, 150), (48, 70, 118)))
    outline = [(x, 0.0, near), (x, height, near), (x, height, far), (x, 0.0, far)]
    outline = [cam(*p) for p in outline]
    if rng.random() < 0.65:  # planks
        scene.polygon(outline, scene.tone(color, near, light), FENCE)
        pitch, width = rng.uniform(0.25, 0.6), 1
        color = mix(color, (0, 0, 0), 0.4)
    else:
        scene.area(outline, FENCE)
        pitch, width = rng.uniform(0.18, 0.4), 2
        for y in (0.15, height):
            ends = [cam(x, y, near), cam(x, y, far)]
            scene.line(ends, scene.tone(color, near, light), 3, None)
    # Bars closer than the canvas can show are left out.
    z = near
    while z < far:
        scene.line(
            [cam(x, 0.05, z), cam(x, height, z)],
            scene.tone(color, z, light),
            max(width, 0.04 * cam.focal / z),
            None,
        )
        z += max(pitch, 4.5 * z * z / (cam.focal * max(1.0, abs(x))))


def draw_sunlight_edge(scene: Scene):
    """Casts the shadow of the houses on the sunny side across the road."""
    if not scene.sunny or scene.rng.random() < 0.35:
        return
    rng, side = scene.rng, scene.sun_side
    light = int(rng.uniform(105, 165))
    start = scene.kerb[side] + side * scene.pavement[side]
    reach = rng.uniform(1.0, 9.0)
    depths = np.geomspace(2.0, FAR, 16)
    steps = reach * (1 + 0.25 * rng.standard_normal(16)).clip(0.3)
    lit = [
        scene.camera(start - side * step, 0.0, z)
        for step, z in zip(steps, depths, strict=True)
    ]
    dark = [scene.camera(start, scene.kerb_height, z) for z in depths[::-1]]
    # Only the ground: walls behind the pavement keep their light.
    before = np.asarray(scene.shadow).copy()
    scene.shade(lit + dark, light)
    label = np.asarray(scene.label)
    ground = (label == ROAD) | (label == PAVEMENT)
    after = np.where(ground, np.asarray(scene.shadow), before)
    scene.shadow.paste(Image.fromarray(after))
