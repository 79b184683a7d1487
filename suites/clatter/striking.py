"""Tight scenes of things that are struck: by a stick, a hammer, a metronome's arm, mallets, each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from avbench.suites.clatter import physics
from avbench.suites.clatter.exact import TAU, Draws, clamp, cos_sin
from avbench.suites.clatter.falling import strength
from avbench.suites.clatter.paint import Capsule, Colour, Disc, Poly, Shape
from avbench.suites.clatter.physics import Steps, Strokes
from avbench.suites.clatter.scenery import (
    backdrop,
    block,
    hsv,
    offset,
    puff,
    rectangle,
    shade,
    stack,
    tint,
)
from avbench.suites.clatter.world import MATERIALS, Body, Contact, Laws, Stage, Track, WorldSpec

HARD = ("wood", "metal", "glass", "stone", "ceramic")


SKIN = ((0.93, 0.76, 0.65), (0.82, 0.62, 0.48), (0.62, 0.43, 0.31), (0.42, 0.28, 0.20))


def beats(d: Draws, spec: WorldSpec, gap: tuple[float, float], jitter: float = 0.05) -> tuple[float, ...]:
    """Times of blows: nearly regular, clear of both ends of the clip."""
    step, time, times = d.between(*gap) * spec.pace, d.between(0.4, 0.95) * spec.pace, list[float]()
    time = min(time, 0.5 * spec.seconds)
    while time < spec.seconds - 0.3 or not times:
        times.append(time)
        time += step + d.between(-jitter, jitter)
    return tuple(times)


def per_blow(times: Sequence[float], sizes: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """The size of the coming blow at any time (of the last one, after it)."""
    edges, values = np.array(times), np.array([*sizes, sizes[-1]])
    return lambda t: values[np.searchsorted(edges, t, side="right")]


def jump(times: Sequence[float], size: float, seconds: float = 0.22) -> Callable[[np.ndarray], np.ndarray]:
    """What a struck thing does: a sudden offset of `size` at each blow that springs back."""

    def offset_at(t: np.ndarray) -> np.ndarray:
        out = np.zeros_like(t)
        for time in times:
            age = (t - time) / seconds
            out = np.where((age >= 0) & (age < 1), size * (1 - age) * (1 - age), out)
        return out

    return offset_at


def arm(hand: Track, elbow: Track, sleeve: Colour, skin: Colour, size: float = 0.05) -> tuple[Shape, ...]:
    """A forearm in a sleeve, and a fist."""
    return Capsule(hand, elbow, size * 0.95, sleeve), Disc(hand, size, skin, ball=True)


def nudged(dip: Track, x: float, y: float) -> Track:
    """A place that is pushed up and down."""
    return lambda times: np.stack([np.full(len(times), x), y + dip(times)], 1)


def stick(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A wooden stick strikes blocks of several materials, one after another."""
    stuffs = d.shuffled(HARD)[:3]
    top, table = d.between(0.34, 0.42), d.between(0.10, 0.15)
    times = beats(d, spec, (0.66, 0.86))
    down, up = 0.26 * spec.pace, 0.34 * spec.pace
    order = [d.below(3)]
    while len(order) < len(times):
        order.append(d.choice([k for k in range(3) if k != order[-1]] + [order[-1]]))
    centres, lifts = (0.2, 0.5, 0.8), [d.between(0.24, 0.40) for _ in times]
    blow = Strokes(times, down, up)
    place = Steps(times, tuple(centres[k] for k in order), up)
    size = per_blow(times, lifts)
    thick = 0.026

    def height(t: np.ndarray) -> np.ndarray:
        return blow(t) * size(t)

    tip = stack(place, lambda t: top + thick + height(t))

    def hand(t: np.ndarray) -> np.ndarray:
        c, s = cos_sin(0.45 + 0.5 * height(t))
        return tip(t) + np.stack([0.40 * c, 0.40 * s], 1)

    cloth, skin = hsv(d.unit(), 0.55, 0.6), d.choice(SKIN)
    bodies = [Body(stuff, d.between(0.09, 0.13), 0.75) for stuff in stuffs] + [Body("wood", 0.05, 0.12)]
    blocks = list[Shape]()
    for k, (x, stuff) in enumerate(zip(centres, stuffs)):
        colour, _ = tint(stuff, d, spec.plain)
        tall = (top - table) / 2
        dip = jump([t for t, which in zip(times, order) if which == k], -0.014)
        points = rectangle(-0.125, -tall, 0.125, tall)
        blocks.append(Poly(points, colour, nudged(dip, x, table + tall), texture=MATERIALS[stuff].texture))
    contacts = tuple(
        Contact(t, f"{stuffs[k]} block", stuffs[k], blow.speed(lift), strength(lift, 0.40), (k, 3), (centres[k], top))
        for t, k, lift in zip(times, order, lifts)
    )
    return Stage(
        backdrop(d, spec, table),
        tuple(Disc((x + 0.01, table), 0.15, (0.04, 0.03, 0.03), 0.5, 0.22, 0.03, solid=False) for x in centres),
        (*blocks, Capsule(tip, offset(hand, 0.03, 0.02), thick, (0.86, 0.70, 0.45)),
         *arm(hand, offset(hand, 0.7, 0.35), cloth, skin)),
        tuple(bodies),
        contacts,
        {"tip": (tip, thick)},
        {"order": [stuffs[k] for k in order], "top": top},
        {"material": "wood", "surface": stuffs[order[0]], "first": stuffs[0], "second": stuffs[1], "third": stuffs[2]},
        jolt=0.004,
    )  # fmt: skip


ANVIL = (
    ((-0.10, -0.02), (0.10, -0.02), (0.14, 0.05), (-0.14, 0.05)),
    ((-0.07, 0.05), (0.07, 0.05), (0.07, 0.13), (-0.07, 0.13)),
    ((-0.20, 0.13), (0.20, 0.13), (0.20, 0.21), (-0.20, 0.21)),
    ((-0.33, 0.205), (-0.19, 0.13), (-0.19, 0.21)),
)
"""Foot, waist, body and horn."""


def hammer(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A hammer drives a nail into wood, or beats a bar on an anvil."""
    anvil = d.chance(0.5)
    times = beats(d, spec, (0.72, 0.95))
    lifts = [d.between(0.55, 0.95) for _ in times]
    down, up = 0.27 * spec.pace, 0.40 * spec.pace
    blow, size = Strokes(times, down, up), per_blow(times, lifts)
    reach, drop = 0.42, 0.115
    top, x = d.between(0.30, 0.36), d.between(0.33, 0.40)
    depths = [0.0] if anvil else [0.15 - 0.13 * k / max(len(times), 1) for k in range(len(times) + 1)]
    levels = tuple(top + (0.03 if anvil else depths[min(k, len(depths) - 1)]) for k in range(len(times) + 1))
    level = Steps((*times,), levels[: len(times)], up)
    pivot = stack(lambda t: np.full(len(t), x + reach), lambda t: level(t) + drop)

    def angle(t: np.ndarray) -> np.ndarray:
        return -blow(t) * size(t)

    steel, handle = hsv(0.6, 0.12, 0.55), hsv(0.08, 0.55, 0.62)
    tool: list[Shape] = [
        Poly(rectangle(-reach, -0.019, 0.06, 0.019), handle, pivot, angle, texture="grain"),
        Poly(rectangle(-reach - 0.042, -drop + 0.03, -reach + 0.042, 0.10), steel, pivot, angle, texture="gloss"),
        Poly(rectangle(-reach - 0.055, -drop, -reach + 0.055, -drop + 0.05), shade(steel, 1.2), pivot, angle, lit=0.0),
        Poly(rectangle(-reach - 0.052, 0.065, -reach + 0.052, 0.11), shade(steel, 1.1), pivot, angle, lit=0.0),
    ]
    props: list[Shape] = []
    actors: list[Shape] = []
    if anvil:
        iron = hsv(0.62, 0.10, 0.33)
        props += [Poly(part, iron, (x, top - 0.21), texture="gloss") for part in ANVIL]
        props.append(block(-0.6, -0.6, 1.6, top - 0.20, hsv(0.07, 0.45, 0.35), "grain"))
        actors.append(Capsule((x - 0.17, top + 0.014), (x + 0.02, top + 0.014), 0.018, (1.0, 0.50, 0.12), round=False))
        for t, lift in zip(times, lifts):
            actors += sparks(d, t, (x, top + 0.03), lift)
    else:
        colour, _ = tint("wood", d, spec.plain)
        props.append(block(-0.6, -0.6, 1.6, top, colour, "grain"))
        sunk = Steps(times, levels, 0.03)
        head = stack(lambda t: np.full(len(t), x), lambda t: sunk(t) - 0.008)
        actors.append(Capsule(head, (x, top), 0.011, (0.72, 0.73, 0.76)))
        actors.append(Poly(rectangle(-0.032, -0.008, 0.032, 0.008), (0.80, 0.81, 0.84), head))
        for t, lift in zip(times, lifts):
            c = Contact(t, "", "", 0, 0.5 * lift, (), (x, top))
            actors += puff(c, top, shade(colour, 1.25), 0.09)
    cloth, skin = hsv(d.unit(), 0.5, 0.5), d.choice(SKIN)
    hand = offset(pivot, 0.02, 0.0)
    bodies = (
        Body("metal", 0.17 if anvil else 0.045, 0.8 if anvil else 0.35),
        Body("wood", 0.15, 0.25 if anvil else 0.75),
    )
    what = "anvil" if anvil else "nail"
    contacts = tuple(
        Contact(t, what, "metal", blow.speed(reach * lift), strength(lift, 0.95), (0, 1), (x, level_at))
        for t, lift, level_at in zip(times, lifts, levels)
    )
    return Stage(
        backdrop(d, spec, top),
        tuple(props),
        (*actors, *tool, *arm(hand, offset(hand, 0.5, -0.25), cloth, skin, 0.055)),
        bodies,
        contacts,
        {"head": (lambda t: pivot(t) + reach_of(angle(t), -reach, -drop), 0.06)},
        {"target": what},
        {"material": "metal", "surface": "anvil" if anvil else "nail in wood", "target": what},
        jolt=0.012,
    )


def reach_of(angle: np.ndarray, x: float, y: float) -> np.ndarray:
    """The offset (x, y) turned by the angle, [T, 2]."""
    c, s = cos_sin(angle)
    return np.stack([c * x - s * y, s * x + c * y], 1)


def sparks(d: Draws, time: float, at: tuple[float, float], power: float) -> list[Shape]:
    """Glowing specks that fly off a blow and die within a fifth of a second."""
    pieces: list[Shape] = []
    for _ in range(7):
        vx, vy, life = d.between(-1.3, 1.3) * power, d.between(0.3, 1.5) * power, d.between(0.14, 0.26)

        def path(t: np.ndarray, vx: float = vx, vy: float = vy) -> np.ndarray:
            age = np.maximum(t - time, 0.0)
            return np.stack([at[0] + vx * age, at[1] + vy * age - 1.5 * age * age], 1)

        def glow(t: np.ndarray, life: float = life) -> np.ndarray:
            return np.where(t >= time, clamp(1.5 * (1.0 - (t - time) / life)), 0.0)

        pieces.append(Disc(path, 0.012, (1.0, 0.82, 0.35), glow, soft=0.008, solid=False))
    return pieces


def metronome(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """A metronome: at each pass through the middle its arm flicks a metal tongue on the case."""
    beat = d.between(0.60, 0.82) * spec.pace
    first = d.between(0.4, 0.97) * beat
    times = physics.swing_contacts(first, 2 * beat, spec.seconds)
    swing, table, x = d.between(0.36, 0.46), d.between(0.12, 0.16), d.between(0.46, 0.54)
    colour, _ = tint("wood", d, spec.plain)
    side = d.choice((-1.0, 1.0))
    pivot, length = (x, table + 0.10), 0.60

    def angle(t: np.ndarray) -> np.ndarray:
        return side * swing * cos_sin(TAU * (t - first) / (2 * beat))[1]

    def flick(t: np.ndarray) -> np.ndarray:
        out, way = np.zeros_like(t), side
        for k, time in enumerate(times):
            age = (t - time) / 0.3
            kick = way * (1.0 if k % 2 == 0 else -1.0) * 0.9 * (1 - age) * (1 - age)
            out = np.where((age >= 0) & (age < 1), kick, out)
        return out

    weight = d.between(0.34, 0.46)
    dark = shade(colour, 0.45)
    arm_parts: list[Shape] = [
        Poly(rectangle(-0.014, -0.02, 0.014, length), (0.80, 0.78, 0.70), pivot, angle, texture="gloss"),
        Disc(physics.hang((pivot[0], pivot[1]), -weight, angle), 0.09, hsv(0.12, 0.65, 0.85), ball=True),
    ]
    tongue = Poly(rectangle(-0.012, -0.10, 0.012, 0.015), (0.86, 0.87, 0.9), (x, table + 0.82), flick)
    case = Poly(((-0.23, 0), (0.23, 0), (0.10, 0.66), (-0.10, 0.66)), colour, (x, table), texture="grain", edge=0.02)
    face = Poly(((-0.17, 0.06), (0.17, 0.06), (0.075, 0.61), (-0.075, 0.61)), dark, (x, table))
    bracket = block(x - 0.04, table + 0.81, x + 0.04, table + 0.85, colour, "grain")
    posts = [
        block(x + k * 0.04 - 0.008, table + 0.6, x + k * 0.04 + 0.008, table + 0.82, shade(colour, 0.8))
        for k in (-1, 1)
    ]
    contacts = tuple(
        Contact(t, "metal tongue", "metal", swing * math.pi / beat * length, 0.8, (0, 1), (x, table + 0.72))
        for t in times
    )
    return Stage(
        backdrop(d, spec, table),
        (Disc((x, table), 0.27, (0.04, 0.03, 0.03), 0.5, 0.15, 0.03, solid=False), *posts, case, face, bracket),
        (tongue, *arm_parts),
        (Body("wood", 0.055, 0.7), Body("metal", 0.045, 0.10)),
        contacts,
        {"weight": (lambda t: np.array(pivot) + reach_of(angle(t), 0.0, weight), 0.09)},
        {"beat": beat, "swing": swing},
        {"material": "wood", "surface": "metal", "tempo": str(int(60 / beat + 0.5))},
        jolt=0.005,
    )


def drums(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Two sticks drum two pads of different size, mostly in turn."""
    times = beats(d, spec, (0.50, 0.68), 0.03)
    hands = [0]
    while len(hands) < len(times):
        hands.append(1 - hands[-1] if d.chance(0.8) else hands[-1])
    lifts = [d.between(0.15, 0.26) for _ in times]
    sizes = d.shuffled((d.between(0.09, 0.11), d.between(0.14, 0.17)))
    table = d.between(0.06, 0.12)
    hue, felt = d.unit(), hsv(d.unit(), d.between(0.2, 0.7), d.between(0.5, 0.8))
    shells, sticks, props = list[Shape](), list[Shape](), list[Shape]()
    tracks: dict[str, tuple[Track, float]] = {}
    top = [table + (0.26 if s < 0.12 else 0.34) for s in sizes]
    down, up = 0.24 * spec.pace, 0.26 * spec.pace
    for k, (x, size) in enumerate(zip((0.27, 0.73), sizes)):
        mine = [(t, lift) for t, lift, hand in zip(times, lifts, hands) if hand == k] or [(1e6, 0.25)]
        own, rise = tuple(t for t, _ in mine), [lift for _, lift in mine]
        blow, high = Strokes(own, down, up), per_blow(own, rise)
        wide, shell = 0.15 + 0.35 * (size - 0.09), hsv(hue + 0.11 * k, 0.7, 0.65)
        dip = jump(own, 1.0, 0.25)
        head_y = top[k]
        props += [
            Disc((x, table), wide * 1.15, (0.04, 0.03, 0.03), 0.5, 0.25, 0.03, solid=False),
            block(x - wide, table, x + wide, head_y, shell),
            Disc((x, table), wide, shade(shell, 0.8), flat=0.25),
            block(x - wide, table, x + wide, head_y, shell),
            *[
                block(x + wide * a - 0.006, table, x + wide * a + 0.006, head_y, shade(shell, 0.6))
                for a in (-0.6, 0.0, 0.6)
            ],
        ]
        shells.append(Disc((x, head_y), wide + 0.012, (0.75, 0.75, 0.78), flat=0.27))
        shells.append(Disc((x, head_y), wide - 0.006, (0.93, 0.91, 0.86), flat=0.25))
        glow = lambda t, dip=dip: 0.55 * dip(t)  # noqa: E731
        ripple = lambda t, dip=dip, wide=wide: wide * (0.25 + 0.6 * (1 - dip(t)))  # noqa: E731
        shells.append(Disc((x, head_y), ripple, (0.45, 0.42, 0.40), glow, flat=0.25, hollow=0.03, solid=False))
        way = -1.0 if k == 0 else 1.0

        def tip(t: np.ndarray, x: float = x, y: float = head_y, blow: Strokes = blow, high: Track = high) -> np.ndarray:
            return np.stack([np.full(len(t), x), y + 0.045 + blow(t) * high(t)], 1)

        def butt(t: np.ndarray, tip: Track = tip, way: float = way, blow: Strokes = blow) -> np.ndarray:
            c, s = cos_sin(0.75 + 0.35 * blow(t))
            return tip(t) + 0.42 * np.stack([way * c, s], 1)

        sticks += [Capsule(tip, butt, 0.018, (0.88, 0.72, 0.47)), Disc(tip, 0.05, felt, ball=True)]
        tracks["left tip" if k == 0 else "right tip"] = (tip, 0.05)
    contacts = tuple(
        Contact(
            t,
            ("left drum", "right drum")[k],
            "skin",
            2 * lift / down,
            strength(lift, 0.26),
            (k,),
            ((0.27, 0.73)[k], top[k]),
        )
        for t, lift, k in zip(times, lifts, hands)
    )
    return Stage(
        backdrop(d, spec, table + 0.02),
        tuple(props),
        (*shells, *sticks),
        tuple(Body("skin", s, 0.85) for s in sizes),
        contacts,
        tracks,
        {"order": ["left" if k == 0 else "right" for k in hands]},
        {"material": "wood", "surface": "skin"},
        jolt=0.004,
    )


def clap(d: Draws, spec: WorldSpec, laws: Laws) -> Stage:
    """Two blocks held in two hands are clapped together."""
    stuff = d.choice(("wood", "stone", "metal", "plastic", "ceramic"))
    times = beats(d, spec, (0.70, 0.95))
    gaps = [d.between(0.15, 0.24) for _ in times]
    blow, size = Strokes(times, 0.26 * spec.pace, 0.38 * spec.pace), per_blow(times, gaps)
    wide, tall, y = d.between(0.055, 0.075), d.between(0.15, 0.19), d.between(0.46, 0.56)
    colour, word = tint(stuff, d, spec.plain)
    other = shade(colour, 0.85)
    cloth, skin = hsv(d.unit(), 0.55, 0.55), d.choice(SKIN)
    shapes: list[Shape] = []
    tracks: dict[str, tuple[Track, float]] = {}
    for way, shade_ in ((-1.0, colour), (1.0, other)):

        def centre(t: np.ndarray, way: float = way) -> np.ndarray:
            return np.stack([0.5 + way * (wide + blow(t) * size(t)), np.full(len(t), y)], 1)

        hand = offset(centre, way * (wide + 0.015), -0.02)
        shapes += arm(hand, offset(hand, way * 0.8, -0.22), cloth, skin, 0.075)
        shapes.append(Poly(rectangle(-wide, -tall, wide, tall), shade_, centre, texture=MATERIALS[stuff].texture))
        fingers = [offset(hand, -way * 0.03, dy) for dy in (-0.055, 0.0, 0.055)]
        shapes += [Capsule(f, offset(f, -way * 0.035, 0.0), 0.022, skin) for f in fingers]
        tracks["left block" if way < 0 else "right block"] = (centre, wide)
    for t, gap in zip(times, gaps):
        c = Contact(t, "", "", 0, gap / 0.24, (), (0.5, y))
        shapes += puff(c, y + tall, (0.9, 0.88, 0.82), 0.05) + puff(c, y - tall - 0.03, (0.9, 0.88, 0.82), 0.05)
    contacts = tuple(
        Contact(t, "block", stuff, blow.speed(2.0 * gap), strength(gap, 0.24), (0, 1), (0.5, y))
        for t, gap in zip(times, gaps)
    )
    return Stage(
        backdrop(d, spec, d.between(0.05, 0.15)),
        (),
        tuple(shapes),
        (Body(stuff, 0.085, 0.65), Body(stuff, 0.094, 0.5)),
        contacts,
        tracks,
        {"material": stuff},
        {"material": stuff, "surface": stuff, "colour": word},
        jolt=0.0,
    )
