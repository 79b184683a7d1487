"""Loose scenes of machines: steady noises whose source is in the picture, without a single event in time with it."""

from __future__ import annotations

import numpy as np

from avbench.suites.clatter.exact import TAU, Draws, cos_sin
from avbench.suites.clatter.paint import Capsule, Colour, Disc, Poly, Shape
from avbench.suites.clatter.scenery import (
    DARK,
    Backdrop,
    blend,
    block,
    flat,
    hills,
    hsv,
    line,
    rectangle,
    room,
    shade,
    sky,
    tree,
)
from avbench.suites.clatter.world import Laws, Stage, Track, WorldSpec


def car(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A car or van drives steadily past fields and hills."""
    ground = d.between(0.30, 0.36)
    base = sky(hsv(0.58, 0.45, 0.9), hsv(0.54, 0.12, 0.97), ground, hsv(d.between(0.2, 0.3), 0.45, 0.5), 0.8)
    base = hills(base, ground, 0.16, hsv(d.between(0.25, 0.35), 0.3, 0.45), d.between(0, 60))
    way = d.choice((-1.0, 1.0))
    speed = d.between(0.10, 0.2) * 4.0 / spec.seconds
    hue, van = d.unit(), d.chance(0.4)
    paint_, glass = hsv(hue, 0.7, 0.75), (0.62, 0.78, 0.88)
    road = ground * 0.5
    start = (0.5 - way * speed * spec.seconds * 0.5, road + 0.075)
    body = line(start, (way * speed, 0.0))

    def part(points: tuple[tuple[float, float], ...], colour: Colour) -> Poly:
        ordered = points if way > 0 else tuple((-x, y) for x, y in reversed(points))
        return Poly(ordered, colour, body)

    cabin = (
        ((-0.22, 0.08), (0.16, 0.08), (0.12, 0.22), (-0.22, 0.22))
        if van
        else ((-0.16, 0.08), (0.13, 0.08), (0.05, 0.18), (-0.10, 0.18))
    )
    rear = ((-0.125, 0.09), (-0.03, 0.09), (-0.03, 0.16), (-0.085, 0.16))
    front = ((-0.01, 0.09), (0.095, 0.09), (0.04, 0.16), (-0.01, 0.16))
    panes = (((-0.02, 0.11), (0.12, 0.11), (0.095, 0.195), (-0.02, 0.195)),) if van else (rear, front)
    shapes: list[Shape] = [
        Disc(lambda t: body(t) + np.array([0.0, -0.075]), 0.26, (0.03, 0.03, 0.04), 0.6, 0.12, 0.03, solid=False),
        part(cabin, paint_),
        part(((-0.23, -0.04), (0.24, -0.04), (0.24, 0.05), (0.2, 0.085), (-0.23, 0.085)), paint_),
        *[part(pane, glass) for pane in panes],
        part(rectangle(0.205, 0.01, 0.24, 0.045), (1.0, 0.95, 0.7)),
        part(rectangle(-0.23, 0.01, -0.205, 0.045), (0.85, 0.15, 0.12)),
    ]
    for x in (-0.135, 0.135):
        hub = lambda t, x=x: body(t) + np.array([x, -0.03])  # noqa: E731
        shapes += [Disc(hub, 0.052, (0.1, 0.1, 0.11)), Disc(hub, 0.028, (0.75, 0.76, 0.78))]
        for turn in (0.0, 0.5 * TAU / 3, TAU / 3):
            spoke = wheel(hub, way * speed / 0.052, turn, 0.026)
            shapes.append(Capsule(spoke[0], spoke[1], 0.006, (0.35, 0.36, 0.38), round=False))
    props: list[Shape] = [block(-0.6, road - 0.11, 1.6, road + 0.07, (0.30, 0.30, 0.32), "speckle")]
    props += [block(-0.45 + 0.28 * k, road - 0.03, -0.31 + 0.28 * k, road - 0.015, (0.92, 0.9, 0.8)) for k in range(8)]
    for _ in range(d.below(3)):
        props = tree(d.between(0.0, 1.0), ground, d.between(0.25, 0.4), d) + props
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        props=tuple(props),
        actors=tuple(shapes),
        tracks={"car": (body, 0.235)},
        words={"thing": "van" if van else "car", "hue": str(hue), "side": "right" if way > 0 else "left"},
    )


def wheel(hub: Track, rate: float, turn: float, radius: float) -> tuple[Track, Track]:
    """The two ends of a spoke through a turning hub (clockwise for a positive rate)."""

    def end(sign: float) -> Track:
        def at(t: np.ndarray) -> np.ndarray:
            c, s = cos_sin(turn - rate * t)
            return hub(t) + sign * radius * np.stack([c, s], 1)

        return at

    return end(1.0), end(-1.0)


def city(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Cars pass both ways before a row of lit buildings."""
    street = d.between(0.2, 0.25)
    dusk = d.chance(0.6)
    above, below = ((0.66, 0.5, 0.30), (0.05, 0.45, 0.75)) if dusk else ((0.58, 0.35, 0.8), (0.55, 0.1, 0.92))
    base = sky(hsv(*above), hsv(*below), street, (0.24, 0.24, 0.27), 0.3)
    props: list[Shape] = []
    x = -0.25
    while x < 1.25:
        wide, tall = d.between(0.12, 0.2), d.between(0.28, 0.62)
        wall = (
            hsv(d.between(0.55, 0.75), 0.2, d.between(0.22, 0.34))
            if dusk
            else hsv(d.between(0.03, 0.12), 0.25, d.between(0.5, 0.7))
        )
        props.append(block(x, street, x + wide - 0.006, street + tall, wall))
        columns, rows = int(wide / 0.045), int(tall / 0.07)
        for i in range(columns):
            for j in range(rows):
                lit = (1.0, 0.86, 0.5) if d.chance(0.55 if dusk else 0.15) else shade(wall, 0.6)
                left, low = x + (i + 0.3) * wide / columns, street + (j + 0.35) * tall / rows
                props.append(Poly(rectangle(0, 0, 0.022, 0.034), lit, (left, low), edge=0.0))
        x += wide
    props.append(block(-0.6, street - 0.02, 1.6, street + 0.012, (0.45, 0.44, 0.44)))
    props += [block(-0.45 + 0.2 * k, 0.095, -0.36 + 0.2 * k, 0.105, (0.85, 0.82, 0.7)) for k in range(11)]
    actors: list[Shape] = []
    for k in range(5):
        way = 1.0 if k % 2 else -1.0
        y, speed = (0.125 if way < 0 else 0.035), way * d.between(0.22, 0.4)
        actors += little_car(d, y, speed, d.between(-0.2, 1.2) - 0.5 * speed * spec.seconds, dusk)
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        props=tuple(props),
        actors=tuple(actors),
        words={"thing": "street", "light": "at dusk" if dusk else "by day"},
    )


def little_car(d: Draws, y: float, speed: float, x: float, lights: bool) -> list[Shape]:
    at = line((x, y), (speed, 0.0))
    colour, way = hsv(d.unit(), 0.6, 0.65), 1.0 if speed > 0 else -1.0
    shapes: list[Shape] = [
        Poly(((-0.085, 0.0), (0.085, 0.0), (0.08, 0.04), (-0.08, 0.04)), colour, at),
        Poly(((-0.055, 0.04), (0.05, 0.04), (0.03, 0.075), (-0.035, 0.075)), shade(colour, 0.8), at),
        Poly(((-0.04, 0.043), (0.036, 0.043), (0.023, 0.066), (-0.027, 0.066)), (0.6, 0.72, 0.8), at, edge=0.0),
    ]
    for dx in (-0.05, 0.05):
        shapes.append(Disc(lambda t, dx=dx: at(t) + np.array([dx, 0.0]), 0.021, (0.08, 0.08, 0.09)))  # type: ignore[misc]
    front, back = (lambda t: at(t) + np.array([way * 0.09, 0.024])), (lambda t: at(t) + np.array([-way * 0.085, 0.024]))
    glow = 0.03 if lights else 0.008
    shapes += [Disc(front, 0.012, (1.0, 0.96, 0.75), soft=glow), Disc(back, 0.010, (0.95, 0.15, 0.1), soft=glow)]
    return shapes


def fan(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A desk fan turns in a room."""
    table = d.between(0.12, 0.16)
    base: Backdrop = room(d, table)
    x, y, r = d.between(0.44, 0.56), table + d.between(0.44, 0.48), d.between(0.27, 0.31)
    shell, blade = hsv(d.unit(), d.between(0.1, 0.5), d.between(0.35, 0.55)), hsv(d.unit(), d.between(0.3, 0.7), 0.85)
    count, rate = d.choice((3, 4)), d.choice((-1.0, 1.0)) * d.between(2.2, 4.2)
    props: list[Shape] = [
        Disc((x, table), 0.2, (0.03, 0.03, 0.03), 0.5, 0.2, 0.03, solid=False),
        Capsule((x, table + 0.04), (x, y), 0.028, shell),
        Disc((x, table + 0.025), 0.14, shell, flat=0.28, ball=True),
        Disc((x, y), r, blend(shell, (0.9, 0.9, 0.95), 0.5), 0.35),
    ]
    blades: list[Shape] = []
    for k in range(count):
        turn = TAU * k / count

        def spin(t: np.ndarray, turn: float = turn) -> np.ndarray:
            return turn + rate * t

        petal = (
            (0.02, -0.02),
            (0.55 * r, -0.10),
            (0.84 * r, -0.085),
            (0.90 * r, 0.0),
            (0.78 * r, 0.055),
            (0.4 * r, 0.04),
        )
        blades.append(Poly(petal, shade(blade, 1.0 if k % 2 else 0.9), (x, y), spin, lit=0.8))
    cage: list[Shape] = [
        Disc((x, y), q * r, (0.82, 0.83, 0.86), hollow=w) for q, w in ((1.0, 0.022), (0.72, 0.006), (0.45, 0.006))
    ]
    for k in range(6):
        c, s = cos_sin(TAU * k / 12)
        cage.append(
            Capsule(
                (x - r * float(c), y - r * float(s)),
                (x + r * float(c), y + r * float(s)),
                0.004,
                (0.8, 0.81, 0.84),
                round=False,
            )
        )
    cage.append(Disc((x, y), 0.05, shell, ball=True))
    return Stage(
        backdrop=flat(DARK) if spec.plain else base,
        props=tuple(props),
        actors=(*blades, *cage),
        words={"thing": "fan", "count": ("three", "four")[count - 3]},
    )
