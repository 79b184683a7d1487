"""Tight scenes of things that fall, bounce and collide under gravity. Each builder draws one scene of its event."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from avbench.suites.clatter import physics
from avbench.suites.clatter.exact import TAU, Draws, cos_sin
from avbench.suites.clatter.paint import Capsule, Colour, Disc, Poly, Shape
from avbench.suites.clatter.physics import Swing
from avbench.suites.clatter.scenery import (
    DARK,
    backdrop,
    blend,
    block,
    hsv,
    offset,
    puff,
    rectangle,
    shade,
    shadow,
    tint,
)
from avbench.suites.clatter.world import MATERIALS, Body, Contact, Laws, Stage, Track, WorldSpec


def strength(speed: float, full: float) -> float:
    return min(1.0, max(0.04, speed / full))


def soil(material: str, d: Draws, spec: WorldSpec) -> Colour:
    """The colour of a floor: in plain pictures darker than any ball."""
    colour, _ = tint(material, d, spec.plain)
    return shade(colour, 0.5) if spec.plain else colour


def bounce(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A ball is let fall or thrown, and bounces on a floor and off walls."""
    stuff, ground = (
        d.choice(("rubber", "plastic", "glass", "metal", "wood", "stone")),
        d.choice(("wood", "stone", "metal")),
    )
    radius, floor, side = d.between(0.095, 0.13), d.between(0.13, 0.18), d.choice((-1.0, 1.0))
    colour, colour_word = tint(stuff, d, spec.plain)
    earth = soil(ground, d, spec)
    restitution = MATERIALS[stuff].restitution * d.between(0.97, 1.03)
    restitution = laws.restitution or restitution
    start = (0.5 - side * d.between(0.12, 0.26), d.between(0.58, 0.9))
    velocity = (side * d.between(0.10, 0.30), d.between(-0.3, 0.3) if laws.gravity else -0.2)
    release = d.between(0.0, 0.06) * spec.seconds
    home = physics.Box(floor + radius + laws.gap, 0.04 + radius, 0.96 - radius)
    path, hits = physics.bounce(
        start, velocity, spec.gravity * laws.gravity, restitution, home, spec.seconds, release, 0.12
    )
    full = math.sqrt(2.0 * spec.gravity * 0.7)
    contacts = tuple(
        Contact(hit.time, hit.surface, ground, hit.speed, strength(hit.speed, full), (0, 1), hit.at) for hit in hits
    )
    band = blend(colour, (1.0, 1.0, 1.0), 0.75) if stuff in ("rubber", "plastic") else shade(colour, 0.72)

    def spin(times: np.ndarray) -> np.ndarray:
        return -path(times)[:, 0] / radius + 0.6

    slab = block(-0.6, -0.6, 1.6, floor, earth, MATERIALS[ground].texture)
    walls = [block(*sides, shade(earth, 0.8), MATERIALS[ground].texture) for sides in
             ((-0.6, floor, 0.04, 1.6), (0.96, floor, 1.6, 1.6))]  # fmt: skip
    dust = [piece for c in contacts if c.surface == "floor" and c.strength > 0.3 for piece in puff(c, floor)]
    ball = Disc(path, radius, colour, ball=True, band=band, spin=spin)
    board = block(-0.6, -0.6, 1.6, floor + 0.9 * radius, blend(earth, DARK, 0.5), "grain")
    return Stage(
        backdrop(d, spec, floor),
        (slab, *walls),
        (shadow(path, floor, radius), ball, *dust, *[board] * spec.occluder),
        (Body(stuff, 0.6 * radius / 0.11 * 0.1, 0.5), Body(ground, 0.16, 0.55)),
        contacts,
        {"ball": (path, radius)},
        {"gravity": spec.gravity * laws.gravity, "restitution": restitution, "floor": floor,
         "radius": radius, "material": stuff, "surface": ground},
        {"material": stuff, "surface": ground, "colour": colour_word, "thing": "ball"},
        jolt=0.008,
    )  # fmt: skip


LOSS = {"metal": 0.96, "glass": 0.95, "wood": 0.84, "stone": 0.88, "plastic": 0.86}
"""Restitution of two balls of the same material."""


def collide(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Balls collide: in a cradle of strings, or rolling down the two sides of a valley."""
    stuff = d.choice(tuple(LOSS))
    restitution = min(0.98, LOSS[stuff] * d.between(0.98, 1.01))
    return valley(d, spec, stuff, restitution) if d.chance(0.5) or spec.plain else cradle(d, spec, stuff, restitution)


def cradle(d: Draws, spec: WorldSpec, stuff: str, restitution: float) -> Stage:
    """Two to four balls on strings: the first falls against the row and the last flies off, to and fro."""
    count = d.choice((2, 3, 4))
    radius = d.between(0.095, 0.115) if count < 4 else d.between(0.08, 0.09)
    length = d.between(0.32, 0.40)
    period = TAU * math.sqrt(length / spec.gravity)
    size = d.between(0.65, 0.80)
    times = physics.swing_contacts(0.25 * period + d.between(0.02, 0.5) * 0.25 * spec.seconds, period, spec.seconds)
    bar, side = 0.80 + d.between(0.0, 0.05), d.choice((-1.0, 1.0))
    pivots = [(0.5 + side * radius * 2 * (k - (count - 1) / 2), bar) for k in range(count)]
    power = [size]
    for _ in times:
        power.append(power[-1] * restitution)
    first = tuple(-side * p if k % 2 == 0 else 0.0 for k, p in enumerate(power))
    last = tuple(side * p if k % 2 == 1 else 0.0 for k, p in enumerate(power))
    still = tuple(0.0 for _ in power)
    swings = [Swing(times, sizes, period) for sizes in (first, *[still] * (count - 2), last)]
    bobs = [physics.hang(pivot, length, swing) for pivot, swing in zip(pivots, swings)]
    colour, word = tint(stuff, d, spec.plain)
    frame = hsv(d.unit(), 0.2, 0.35)
    floor = bar - length - radius - d.between(0.06, 0.1)
    strings = [Capsule(pivot, bob, 0.007, (0.92, 0.9, 0.85), round=False) for pivot, bob in zip(pivots, bobs)]
    balls = [Disc(bob, radius, colour, ball=True) for bob in bobs]
    top_speed = TAU / period * length
    contacts = tuple(
        Contact(t, "ball", stuff, top_speed * p, strength(p, 0.8), (0, 1), (0.5, bar - length))
        for t, p in zip(times, power)
    )
    wide = 0.40
    return Stage(
        backdrop(d, spec, floor),
        (
            Disc((0.5, floor - 0.01), 0.34, (0.04, 0.03, 0.03), 0.4, 0.14, 0.04, solid=False),
            block(0.5 - wide, floor - 0.03, 0.5 + wide, floor, frame, "grain"),
            *[block(x - 0.016, floor, x + 0.016, bar + 0.02, frame, "gloss") for x in (0.5 - wide, 0.5 + wide)],
            block(0.5 - wide - 0.02, bar, 0.5 + wide + 0.02, bar + 0.035, frame, "gloss"),
        ),
        (*[shadow(bob, floor, radius * 0.8) for bob in bobs], *strings, *balls),
        ball_bodies(stuff, radius),
        contacts,
        {f"ball{k}": (bob, radius) for k, bob in enumerate(bobs)},
        {
            "gravity": spec.gravity,
            "restitution": restitution,
            "radius": radius,
            "length": length,
            "period": period,
            "material": stuff,
        },
        {
            "material": stuff,
            "surface": stuff,
            "count": ("two", "three", "four")[count - 2],
            "colour": word,
            "kind": "cradle",
        },
        jolt=0.006,
    )


def ball_bodies(stuff: str, radius: float) -> tuple[Body, Body]:
    """Two like balls, a little out of tune with each other."""
    size = 0.6 * radius / 1.1
    return Body(stuff, size, 0.6), Body(stuff, 1.08 * size, 0.5)


def valley(d: Draws, spec: WorldSpec, stuff: str, restitution: float) -> Stage:
    """Two equal balls roll down the sides of a valley, collide at the bottom, roll back up and down again.

    A solid ball that rolls down a slope gains 5/7 of the speed of one that slides.
    """
    radius, slope = d.between(0.105, 0.13), d.between(0.50, 0.62)
    c, s = (float(part) for part in cos_sin(slope))
    pull = 5.0 / 7.0 * spec.gravity * s
    start = d.between(0.20, 0.34)
    along, hits = physics.bounce(
        (0.0, start),
        (0.0, 0.0),
        pull,
        restitution,
        physics.Box(0.0),
        spec.seconds,
        d.between(0.0, 0.08) * spec.seconds,
        0.04,
    )
    ground = d.choice(("wood", "stone", "metal"))
    bottom, reach = d.between(0.14, 0.2), radius * (1.0 + s) / c
    contact = (reach * c - radius * s, bottom + reach * s + radius * c)
    earth = soil(ground, d, spec)
    colour, word = tint(stuff, d, spec.plain)
    other, _ = tint(stuff, d, spec.plain)

    def path(side: float) -> Track:
        def at(times: np.ndarray) -> np.ndarray:
            q = along(times)[:, 1]
            return np.stack([0.5 + side * (contact[0] + q * c), contact[1] + q * s], 1)

        return at

    def spin(side: float) -> Track:
        return lambda times: -side * along(times)[:, 1] / radius

    sides = (-1.0, 1.0)
    balls = [
        Disc(path(side), radius, tone, ball=True, band=blend(tone, (1.0, 1.0, 1.0), 0.6), spin=spin(side))
        for side, tone in zip(sides, (colour, other))
    ]
    ramps = [
        Poly(((0.0, -0.7), (1.1, -0.7), (1.1, 1.1 * s / c), (0.0, 0.0)), earth, (0.5, bottom), lit=0.2,
             texture=MATERIALS[ground].texture),
        Poly(((0.0, -0.7), (0.0, 0.0), (-1.1, 1.1 * s / c), (-1.1, -0.7)), earth, (0.5, bottom), lit=0.2,
             texture=MATERIALS[ground].texture),
    ]  # fmt: skip
    full = 2.0 * math.sqrt(2.0 * pull * 0.34)
    contacts = tuple(
        Contact(h.time, "ball", stuff, 2.0 * h.speed, strength(2.0 * h.speed, full), (0, 1), (0.5, contact[1]))
        for h in hits
    )
    return Stage(
        backdrop(d, spec, bottom),
        tuple(ramps),
        tuple(balls),
        ball_bodies(stuff, radius),
        contacts,
        {"left ball": (path(-1.0), radius), "right ball": (path(1.0), radius)},
        {
            "gravity": spec.gravity,
            "restitution": restitution,
            "radius": radius,
            "slope": slope,
            "acceleration": pull,
            "material": stuff,
            "surface": ground,
        },
        {"material": stuff, "surface": stuff, "ground": ground, "colour": word, "kind": "valley"},
        jolt=0.006,
    )


def _crate(colour: Colour, x: float, y: float) -> list[tuple[tuple[tuple[float, float], ...], Colour, str]]:
    bars = [
        rectangle(-x, -y, x, -y + 0.03),
        rectangle(-x, y - 0.03, x, y),
        rectangle(-x, -y, -x + 0.03, y),
        rectangle(x - 0.03, -y, x, y),
    ]
    return [(rectangle(-x, -y, x, y), colour, "grain")] + [(bar, shade(colour, 0.75), "grain") for bar in bars]


def _can(colour: Colour, x: float, y: float) -> list[tuple[tuple[tuple[float, float], ...], Colour, str]]:
    return [
        (rectangle(-x, -y, x, y), (0.75, 0.77, 0.8), "gloss"),
        (rectangle(-x, -y + 0.035, x, y - 0.035), colour, "gloss"),
        (rectangle(-x, -0.015, x, 0.015), (0.95, 0.95, 0.9), "plain"),
    ]


def _brick(colour: Colour, x: float, y: float) -> list[tuple[tuple[tuple[float, float], ...], Colour, str]]:
    return [(rectangle(-x, -y, x, y), colour, "speckle")]


THINGS = {
    "wooden crate": ("wood", _crate, (0.12, 0.115), 0.15),
    "tin can": ("metal", _can, (0.075, 0.115), 0.11),
    "stone brick": ("stone", _brick, (0.145, 0.08), 0.10),
    "plastic toy block": ("plastic", _crate, (0.095, 0.095), 0.10),
    "ceramic tile": ("ceramic", _brick, (0.14, 0.06), 0.09),
}


def drop(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Things fall on a table one after another, bounce once and settle."""
    names = d.shuffled(sorted(THINGS))
    ground = d.choice(("wood", "stone", "metal"))
    earth, _ = tint(ground, d, spec.plain)
    floor = d.between(0.16, 0.22)
    xs = d.shuffled((0.19, 0.5, 0.81))
    props: list[Shape] = [block(-0.6, -0.6, 1.6, floor, earth, MATERIALS[ground].texture)]
    actors: list[Shape] = []
    bodies = [Body(ground, 0.17, 0.5)]
    contacts: list[Contact] = []
    tracks: dict[str, tuple[Track, float]] = {}
    release, used = d.between(0.0, 0.5), []
    full = math.sqrt(2.0 * spec.gravity * 1.05)
    for k, (name, x) in enumerate(zip(names, xs)):
        stuff, parts, (wide, tall), size = THINGS[name]
        start = (x, 1.12 + tall)
        path, hits = physics.bounce(
            start,
            (0.0, 0.0),
            spec.gravity,
            d.between(0.24, 0.34),
            physics.Box(floor + tall),
            spec.seconds,
            release,
            0.4,
        )
        if not hits:
            break
        used.append(name)
        colour, _ = tint(stuff, d, spec.plain)
        if name == "tin can":
            colour = hsv(d.unit(), 0.75, 0.75)
        mine = [
            Contact(h.time, "table", ground, h.speed, strength(h.speed, full), (0, k + 1), (x, floor)) for h in hits
        ]
        contacts += mine
        actors.append(shadow(offset(path, 0.0, -tall), floor, wide * 1.05))
        actors += [Poly(points, c, path, texture=texture) for points, c, texture in parts(colour, wide, tall)]
        dust = (0.85, 0.8, 0.72)
        actors += [p for c in mine for p in puff(c, floor, dust, wide + 0.05)]
        bodies.append(Body(stuff, size * 0.8, 0.6))
        tracks[name] = (path, wide)
        release = hits[0].time + d.between(0.10, 0.25)
    contacts.sort(key=lambda contact: contact.time)
    return Stage(
        backdrop(d, spec, floor),
        tuple(props),
        tuple(actors),
        tuple(bodies),
        tuple(contacts),
        tracks,
        {"gravity": spec.gravity, "order": used, "surface": ground},
        {"material": THINGS[used[0]][0] if used else "wood", "surface": ground, "things": listing(used)},
        jolt=0.010,
    )


def listing(names: Sequence[str]) -> str:
    """ "a wooden crate, a tin can and a stone brick"."""
    each = [f"a {name}" for name in names]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
