"""Loose scenes outdoors: the sound belongs to the place, and nothing seen happens in time with it."""

from __future__ import annotations

import numpy as np

from avbench.suites.clatter.exact import Draws, clamp, cos_sin, wave
from avbench.suites.clatter.paint import Capsule, Colour, Disc, Drift, Noise, Poly, Shape
from avbench.suites.clatter.scenery import (
    DARK,
    blend,
    block,
    flat,
    hills,
    hsv,
    mix,
    offset,
    rgb,
    shade,
    sky,
    tree,
)
from avbench.suites.clatter.world import Laws, Stage, Track, WorldSpec


def house(x: float, ground: float, d: Draws) -> list[Shape]:
    """A gabled house with a door and two windows."""
    wall, roof = hsv(d.between(0.05, 0.14), 0.25, 0.72), hsv(d.between(0.0, 0.05), 0.55, 0.45)
    return [
        block(x - 0.2, ground, x + 0.2, ground + 0.24, wall),
        Poly(((-0.25, 0.0), (0.25, 0.0), (0.0, 0.17)), roof, (x, ground + 0.23)),
        block(x - 0.035, ground, x + 0.035, ground + 0.14, shade(roof, 0.7)),
        *[
            block(x + k * 0.12 - 0.04, ground + 0.1, x + k * 0.12 + 0.04, ground + 0.18, (0.95, 0.86, 0.5))
            for k in (-1, 1)
        ],
    ]


def rain(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Rain over a house or trees, rings in a puddle."""
    ground = d.between(0.26, 0.34)
    grey = hsv(0.6, d.between(0.05, 0.18), d.between(0.42, 0.55))
    base = sky(shade(grey, 0.75), grey, ground, hsv(d.between(0.2, 0.35), 0.3, 0.34), 0.25)
    x = d.between(0.3, 0.7)
    homely = d.chance(0.5)
    props = (
        house(x, ground - 0.02, d)
        if homely
        else tree(x - 0.2, ground - 0.03, 0.75, d) + tree(x + 0.22, ground - 0.02, 0.6, d)
    )
    water = blend(grey, (0.2, 0.25, 0.3), 0.4)
    px, py, wide = d.between(0.3, 0.7), ground * 0.42, d.between(0.26, 0.36)
    props.append(Disc((px, py), wide, water, flat=0.26))
    rings: list[Shape] = []
    for _ in range(int(5 * spec.seconds)):
        start, life = d.between(-0.5, spec.seconds), d.between(0.4, 0.7)
        rx = px + d.between(-0.65, 0.65) * wide
        ry = py + d.between(-0.12, 0.12) * wide

        def radius(t: np.ndarray, start: float = start, life: float = life) -> np.ndarray:
            return 0.012 + 0.075 * clamp((t - start) / life)

        def alpha(t: np.ndarray, start: float = start, life: float = life) -> np.ndarray:
            return np.where(t >= start, 0.7 * clamp(1.0 - (t - start) / life), 0.0)

        rings.append(Disc((rx, ry), radius, (0.85, 0.9, 0.95), alpha, flat=0.3, hollow=0.012, solid=False))
    slant = d.between(-0.25, 0.25)
    speed = d.between(1.5, 1.9)
    far = Drift(
        (-0.6, -0.6, 1.6, 1.6),
        (-slant * speed * 0.7, -speed * 0.7),
        (60.0, 4.5),
        (0.82, 0.87, 0.93),
        0.35,
        0.24,
        -slant,
    )
    near = Drift((-0.6, -0.6, 1.6, 1.6), (-slant * speed, -speed), (30.0, 2.6), (0.92, 0.95, 1.0), 0.5, 0.16, -slant)
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        props=tuple(props),
        actors=(*rings, far, near),
        words={"thing": "house" if homely else "pair of trees", "weather": d.choice(("steady", "heavy", "light"))},
    )


def wind(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Tall grass and a tree bend in gusts."""
    ground = d.between(0.18, 0.28)
    base = sky(hsv(0.58, 0.5, 0.85), hsv(0.56, 0.2, 0.95), ground, hsv(0.25, 0.45, 0.4), 0.9)
    base = hills(base, ground, 0.12, hsv(0.3, 0.35, 0.5), d.between(0, 60))
    gust, lean, pace = d.unit(), d.between(0.16, 0.3), d.between(0.35, 0.6)
    way = d.choice((-1.0, 1.0))

    def push(t: np.ndarray, x: float) -> np.ndarray:
        slow = wave(t * pace + gust - 0.35 * way * x)
        return way * lean * (0.55 + 0.35 * slow + 0.15 * wave(t * pace * 2.7 - 0.8 * x))

    blades: list[Shape] = []
    count = 46
    for k in range(count):
        x, tall = -0.1 + 1.2 * (k + d.unit()) / count, d.between(0.16, 0.34)
        root, green = (
            d.between(-0.04, 0.7 * ground),
            hsv(d.between(0.17, 0.31), d.between(0.45, 0.7), d.between(0.35, 0.75)),
        )

        def middle(t: np.ndarray, x: float = x, root: float = root, tall: float = tall) -> np.ndarray:
            return np.stack([x + 0.35 * tall * 1.6 * push(t, x), np.full(len(t), root + 0.55 * tall)], 1)

        def tip(t: np.ndarray, x: float = x, root: float = root, tall: float = tall) -> np.ndarray:
            bend = push(t, x)
            return np.stack([x + 1.6 * tall * bend, root + tall * (1.0 - 0.8 * bend * bend)], 1)

        blades += [
            Capsule((x, root), middle, 0.011, green, round=False),
            Capsule(middle, tip, 0.007, shade(green, 1.2), round=False),
        ]
    trunk_x, high = d.between(0.25, 0.75), d.between(0.36, 0.44)
    leaves: list[Shape] = []

    def crown(dx: float, dy: float) -> Track:
        return lambda t: np.stack(
            [trunk_x + dx + 0.28 * (0.5 + dy) * push(t, trunk_x + dx), np.full(len(t), ground + high + dy)], 1
        )

    leaves.append(Capsule((trunk_x, ground - 0.02), crown(0.0, 0.0), 0.026, hsv(0.07, 0.5, 0.33)))
    for dx, dy, r in (
        (-0.14, 0.06, 0.12),
        (0.13, 0.05, 0.125),
        (0.0, 0.17, 0.14),
        (-0.03, 0.03, 0.13),
        (0.09, 0.15, 0.1),
    ):
        leaves.append(Disc(crown(dx, dy), r, hsv(d.between(0.26, 0.34), 0.55, d.between(0.38, 0.52)), ball=True))
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        actors=(*leaves, *blades),
        words={"thing": "tree", "side": "left" if way < 0 else "right"},
    )


def waves(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A sea of rolling bands, foam running up a beach."""
    shore, horizon = d.between(0.2, 0.28), d.between(0.62, 0.72)
    dusk = d.chance(0.4)
    sun = (d.between(0.2, 0.8), horizon + d.between(0.1, 0.2))
    above, below = ((0.62, 0.45, 0.55), (0.07, 0.5, 0.95)) if dusk else ((0.57, 0.55, 0.88), (0.55, 0.15, 0.97))
    base = sky(hsv(*above), hsv(*below), horizon, hsv(0.11, 0.35, 0.80), 0.5)
    deep, shallow = hsv(0.57, 0.65, 0.42), hsv(0.50, 0.45, 0.68)
    count, pace = 9, d.between(0.16, 0.26)
    ridges: list[Shape] = []
    phase = d.unit()
    for k in range(count):
        depth = 1.0 - k / (count - 1)  # 1 at the horizon, 0 at the shore
        y = shore + (horizon - shore) * depth * (0.55 + 0.45 * depth) - 0.02
        ridges += swell(y, 0.006 + 0.030 * (1.0 - depth), 1.0 + 3.5 * depth, pace * (1.4 - depth), phase + 0.37 * k,
                        blend(shallow, deep, depth), (horizon - y) + 0.01 if k == 0 else 0.3)  # fmt: skip
    rush = d.between(0.2, 0.3)
    foam: list[Shape] = []
    for k in range(12):
        x = -0.12 + 1.24 * k / 11
        lag, big = d.unit() * 0.12, d.between(0.07, 0.10)

        def at(t: np.ndarray, x: float = x, lag: float = lag) -> np.ndarray:
            return np.stack([x + 0.02 * wave(t * rush + lag), shore - 0.02 + 0.055 * wave(t * rush + lag + phase)], 1)

        foam.append(Disc(at, big, (0.96, 0.98, 0.98), flat=0.32))
        foam.append(Disc(offset(at, 0.0, 0.022), big, blend(shallow, (1.0, 1.0, 1.0), 0.12), flat=0.36))
    disc = Disc(sun, 0.06, (1.0, 0.85, 0.55) if dusk else (1.0, 0.98, 0.85), soft=0.02)
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        props=(disc, block(-0.6, shore - 0.02, 1.6, horizon, deep)),
        actors=(*ridges, *foam),
        words={"thing": "beach", "light": "at dusk" if dusk else "on a bright day"},
    )


def swell(y: float, tall: float, pitch: float, pace: float, phase: float, colour: Colour, depth: float) -> list[Shape]:
    """One rolling band of sea: humps that drift sideways, with pale crests."""
    shapes: list[Shape] = []
    spacing = 0.5 / pitch + 0.14
    count = int(1.7 / spacing) + 3
    drift = 0.10 * pace / 0.2

    def hump(k: int, lift: float) -> Track:
        def at(t: np.ndarray) -> np.ndarray:
            x = -0.35 + spacing * k + spacing * ((phase + t * drift / spacing) - np.floor(phase + t * drift / spacing))
            return np.stack([x, y + tall * 0.6 * wave(t * pace + phase + 0.29 * k) + lift], 1)

        return at

    for k in range(-1, count):
        wide = spacing * 0.62
        shapes.append(Disc(hump(k, 0.006), wide, blend(colour, (1.0, 1.0, 1.0), 0.35), flat=max(0.10, tall * 4)))
        shapes.append(Disc(hump(k, -0.004), wide * 1.05, colour, flat=max(0.10, tall * 4)))
    return shapes


def stream(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Water runs between banks and round stones."""
    green = hsv(d.between(0.22, 0.32), 0.5, 0.42)
    base = sky(hsv(0.3, 0.4, 0.42), hsv(0.27, 0.45, 0.55), 0.72, green)
    way = d.choice((-1.0, 1.0))
    bottom, top = d.between(0.14, 0.2), d.between(0.52, 0.6)
    water = hsv(d.between(0.5, 0.58), 0.45, 0.55)
    speed = d.between(0.35, 0.55)

    def picture(x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        bank = base(x, y, noise)
        edge = 0.03 * noise(x * 3.5, x * 0) + 0.012 * noise(x * 11, x * 0)
        inside = clamp(90 * np.minimum(y - bottom - edge, top + 0.6 * edge - y) + 0.5)
        mud = clamp(30 * np.minimum(y - bottom - edge + 0.03, top + 0.03 + 0.6 * edge - y) + 0.5)
        depth = (y - bottom) / (top - bottom)
        return mix(mix(bank, rgb(hsv(0.09, 0.4, 0.38), x), mud), rgb(water, x) * (1.1 - 0.3 * depth), inside)

    layers: list[Shape] = []
    rows = 6
    for k in range(rows):
        low = bottom + 0.03 + (top - bottom - 0.06) * k / rows
        high = bottom + 0.03 + (top - bottom - 0.06) * (k + 1.25) / rows
        pace = speed * (0.75 + 0.5 * (1.0 - abs(k - 2.5) / 3))
        white = (0.93, 0.97, 1.0) if k % 2 else blend(water, (0.05, 0.15, 0.2), 0.5)
        layers.append(Drift((-0.6, low, 1.6, high), (way * pace, 0.0), (5.0, 38.0 + 5 * k), white, 0.55, 0.32))
    stones: list[Shape] = []
    for _ in range(4):
        x, y, r = d.between(0.05, 0.95), d.between(bottom + 0.06, top - 0.08), d.between(0.05, 0.09)
        stone = hsv(0.09, 0.08, d.between(0.4, 0.6))
        stones += [
            Disc((x, y - 0.02), r * 1.2, (0.93, 0.97, 0.99), 0.75, 0.4, 0.02),
            Disc((x, y), r, stone, flat=0.7, ball=True),
        ]
    plants = tree(d.between(0.05, 0.95), top + 0.06, 0.55, d) + tree(d.between(0.05, 0.95), top + 0.08, 0.45, d)
    return Stage(
        backdrop=flat(DARK) if spec.plain else picture,
        props=tuple(plants),
        actors=(*layers, *stones),
        words={"thing": "stream", "side": "right" if way > 0 else "left"},
    )


def fire(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Flames over crossed logs at night."""
    ground = d.between(0.20, 0.26)
    x0 = d.between(0.44, 0.56)
    night = sky((0.04, 0.05, 0.12), (0.10, 0.09, 0.16), ground + 0.12, (0.16, 0.11, 0.08))

    def picture(x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        dx, dy = x - x0, y - ground - 0.1
        glow = clamp(1.0 - 2.6 * (dx * dx + dy * dy))
        return night(x, y, noise) + rgb((0.42, 0.20, 0.06), x) * (glow * glow)

    logs: list[Shape] = []
    for angle, y in ((0.32, 0.0), (-0.30, 0.01), (0.02, -0.03)):
        c, s = cos_sin(angle)
        hx, hy = 0.24 * float(c), 0.24 * float(s)
        bark = hsv(0.06, 0.55, d.between(0.22, 0.34))
        logs.append(Capsule((x0 - hx, ground + y - hy), (x0 + hx, ground + y + hy), 0.042, bark))
    flames: list[Shape] = []
    for colour, count, tall, big in (
        ((0.85, 0.22, 0.05), 22, 0.42, 0.085),
        ((1.0, 0.55, 0.08), 20, 0.33, 0.068),
        ((1.0, 0.88, 0.4), 16, 0.22, 0.05),
    ):
        for _ in range(count):
            flames.append(flame(x0, ground, colour, tall, big, d))
    stones = [
        Disc(
            (x0 + 0.1 * k, ground - 0.11 + 0.012 * k * k * 0.5),
            0.055,
            hsv(0.08, 0.1, d.between(0.3, 0.45)),
            flat=0.75,
            ball=True,
        )
        for k in range(-3, 4)
    ]
    return Stage(
        backdrop=flat(DARK) if spec.plain else picture,
        props=tuple(logs),
        actors=(*flames, *stones),
        words={"thing": "campfire"},
    )


def flame(x0: float, ground: float, colour: Colour, tall: float, big: float, d: Draws) -> Disc:
    """A tongue of fire that rises, narrows and fades, over and over."""
    life, phase, side, reach = d.between(0.45, 0.8), d.unit(), d.between(-0.16, 0.16), d.between(0.75, 1.1)
    lick = d.between(0.6, 1.4)

    def age(t: np.ndarray) -> np.ndarray:
        x = t / life + phase
        return x - np.floor(x)

    def at(t: np.ndarray) -> np.ndarray:
        a = age(t)
        x = x0 + side * (1.0 - 0.75 * a) + 0.025 * a * wave(t * lick + phase)
        return np.stack([x, ground + 0.03 + reach * tall * a * (1.0 - 2.0 * abs(side))], 1)

    def radius(t: np.ndarray) -> np.ndarray:
        a = age(t)
        return big * (1.05 - 0.85 * a) * clamp(8.0 * a, 0.2, 1.0)

    def alpha(t: np.ndarray) -> np.ndarray:
        return clamp(2.2 * (1.0 - age(t)))

    return Disc(at, radius, colour, alpha, flat=1.5, soft=0.02)
