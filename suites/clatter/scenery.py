"""Colours, backdrops and things that several scenes share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avbench.suites.clatter.exact import Draws, clamp, smooth, wave
from avbench.suites.clatter.paint import Colour, Disc, Noise, Point, Poly, Shape
from avbench.suites.clatter.world import MATERIALS, Contact, Track, WorldSpec

Backdrop = Callable[[np.ndarray, np.ndarray, Noise], np.ndarray]

DARK: Colour = (0.07, 0.07, 0.08)

HUES = (
    (0.02, "red"), (0.08, "orange"), (0.15, "yellow"), (0.25, "lime"), (0.42, "green"), (0.53, "turquoise"),
    (0.69, "blue"), (0.80, "purple"), (0.93, "pink"), (1.01, "red"),
)  # fmt: skip


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Colour from hue in turns, saturation and value."""
    hue -= int(hue)

    def channel(n: float) -> float:
        k = (n + 6.0 * hue) % 6.0
        return value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0))

    return channel(5.0), channel(3.0), channel(1.0)


def hue_name(hue: float) -> str:
    """The everyday word for a hue in turns."""
    return next(name for top, name in HUES if hue % 1.0 < top)


def shade(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


GREYS = {"stone": 0.5, "wood": 0.6, "metal": 0.7, "ceramic": 0.75, "plastic": 0.8, "glass": 0.9, "rubber": 1.0}
"""Brightness of materials in plain pictures."""


def tint(material: str, draws: Draws, plain: bool = False) -> tuple[Colour, str]:
    """A colour of a material, and the word for it (empty where the material has one look only)."""
    stuff = MATERIALS[material]
    hue = draws.between(*stuff.hue)
    colour = hsv(hue, draws.between(*stuff.saturation), draws.between(*stuff.value))
    if plain:
        return (GREYS[material],) * 3, ""
    return colour, hue_name(hue) if stuff.saturation[0] > 0.6 else ""


def rectangle(left: float, bottom: float, right: float, top: float) -> tuple[Point, ...]:
    return (left, bottom), (right, bottom), (right, top), (left, top)


def block(left: float, bottom: float, right: float, top: float, colour: Colour, texture: str = "plain") -> Poly:
    """An upright rectangle in world coordinates, its texture about its own middle."""
    x, y = (left + right) / 2, (bottom + top) / 2
    return Poly(rectangle(left - x, bottom - y, right - x, top - y), colour, (x, y), texture=texture)


def rgb(colour: Colour, like: np.ndarray) -> np.ndarray:
    """The colour everywhere: float32 [3, H, W]."""
    return np.stack([np.full_like(like, c) for c in colour])


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * share


def flat(colour: Colour) -> Backdrop:
    return lambda x, y, noise: rgb(colour, x)


def room(draws: Draws, horizon: float) -> Backdrop:
    """A wall, plain, striped or tiled, with a soft light on it, above a floor or table at `horizon`."""
    hue = draws.unit()
    wall = hsv(hue, draws.between(0.12, 0.38), draws.between(0.55, 0.86))
    table = hsv(draws.between(0.05, 0.11), draws.between(0.3, 0.55), draws.between(0.3, 0.5))
    pattern, pitch = draws.choice(("plain", "stripes", "tiles", "panels")), draws.between(5.0, 9.0)
    light = (draws.between(0.15, 0.85), draws.between(0.7, 1.0))

    def picture(x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        dx, dy = x - light[0], y - light[1]
        tone = 1.12 - 0.42 * clamp(dx * dx + dy * dy) + 0.02 * noise(x * 45, y * 45) + 0.03 * noise(x * 5, y * 5)
        if pattern == "stripes":
            tone = tone * (1.0 + 0.05 * clamp(6.0 * wave(x * pitch), -1.0, 1.0))
        elif pattern == "tiles":
            tone = tone * (1.0 - 0.14 * np.maximum(*(clamp(abs(wave(a * pitch / 2)) * 14 - 13) for a in (x, y))))
        elif pattern == "panels":
            tone = tone * (1.0 - 0.2 * clamp(wave(x * pitch * 0.6) * 30 - 29))
        depth = clamp((horizon - y) * 4.0)
        boards = (0.72 + 0.4 * depth) * (1.0 + 0.10 * noise(x * 4.0, y * 60.0))
        edge = clamp((y - horizon) * 300.0 + 0.5)
        return mix(rgb(table, x) * boards, rgb(wall, x) * tone, edge)

    return picture


def sky(top: Colour, bottom: Colour, horizon: float, ground: Colour, clouds: float = 0.0) -> Backdrop:
    """A graded sky with soft clouds over a graded ground."""

    def picture(x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        height = clamp((y - horizon) / max(1.0 - horizon, 0.05))
        air = mix(rgb(bottom, x), rgb(top, x), height)
        puff = smooth(noise(x * 3.0 + 7, y * 7.0) * 0.8 + noise(x * 9.0, y * 20.0) * 0.4 + 0.2)
        air = mix(air, rgb((0.97, 0.97, 0.98), x), puff * clouds * height)
        depth = clamp((horizon - y) / max(horizon, 0.05))
        earth = rgb(ground, x) * (0.8 + 0.3 * depth + 0.09 * noise(x * 40, y * 90) + 0.05 * noise(x * 9, y * 20))
        return mix(earth, air, clamp((y - horizon) * 300.0 + 0.5))

    return picture


def hills(base: Backdrop, height: float, tall: float, colour: Colour, seed: float) -> Backdrop:
    """Rolling hills before another backdrop."""

    def picture(x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        ridge = height + tall * (0.6 * noise(x * 2.2 + seed, x * 0) + 0.4 * noise(x * 5.5 + seed, x * 0))
        inside = clamp((ridge - y) * 120.0 + 0.5) * (y > height - tall - 0.01)
        return mix(base(x, y, noise), rgb(colour, x) * (1.0 + 0.06 * noise(x * 30, y * 30)), inside)

    return picture


def shadow(track: Track, floor: float, size: float) -> Disc:
    """The soft shadow of something above a floor: paler and wider the higher it is."""

    def at(times: np.ndarray) -> np.ndarray:
        points = track(times)
        return np.stack([points[:, 0] + 0.02, np.full(len(times), floor - 0.012)], 1)

    def dark(times: np.ndarray) -> np.ndarray:
        return 0.55 * clamp(1.0 - (track(times)[:, 1] - floor) * 0.9, 0.15)

    return Disc(at, size * 1.05, (0.05, 0.04, 0.05), alpha=dark, flat=0.3, soft=0.035, solid=False)


def puff(contact: Contact, floor: float, colour: Colour = (0.85, 0.8, 0.72), reach: float = 0.11) -> list[Disc]:
    """Dust thrown to both sides by a blow: there at the contact, thinner and slower after."""

    def piece(side: float, rise: float, big: float) -> Disc:
        def age(times: np.ndarray) -> np.ndarray:
            return clamp((times - contact.time) / 0.4)

        def at(times: np.ndarray) -> np.ndarray:
            out = age(times) * (2.0 - age(times))
            return np.stack(
                [contact.at[0] + side * reach * (0.35 + 0.65 * out), floor + 0.012 + rise * out * contact.strength], 1
            )

        def alpha(times: np.ndarray) -> np.ndarray:
            return np.where(times >= contact.time, 0.75 * contact.strength * (1.0 - age(times)), 0.0)

        def radius(times: np.ndarray) -> np.ndarray:
            return big * (0.6 + age(times))

        return Disc(at, radius, colour, alpha=alpha, soft=0.02, solid=False)

    return [piece(side, rise, big) for side in (-1.0, 1.0) for rise, big in ((0.015, 0.018), (0.05, 0.013))]


def offset(track: Track, x: float, y: float) -> Track:
    """A track moved by a constant."""
    return lambda times: track(times) + np.array([x, y])


def stack(x: Callable[[np.ndarray], np.ndarray], y: Callable[[np.ndarray], np.ndarray]) -> Track:
    return lambda times: np.stack([x(times), y(times)], 1)


def backdrop(d: Draws, spec: WorldSpec, horizon: float) -> Backdrop:
    picture = room(d, horizon)
    return flat(DARK) if spec.plain else picture


def line(start: tuple[float, float], velocity: tuple[float, float]) -> Track:
    """Straight and even motion."""
    return lambda t: np.stack([start[0] + velocity[0] * t, start[1] + velocity[1] * t], 1)


def tree(x: float, ground: float, size: float, d: Draws) -> list[Shape]:
    """A trunk and a crown of discs."""
    green, trunk = hsv(d.between(0.22, 0.36), 0.5, d.between(0.28, 0.42)), hsv(0.07, 0.5, 0.3)
    shapes: list[Shape] = [block(x - 0.05 * size, ground, x + 0.05 * size, ground + 0.5 * size, trunk, "grain")]
    for dx, dy, r in ((-0.18, 0.5, 0.17), (0.17, 0.52, 0.18), (0.0, 0.7, 0.2), (-0.05, 0.5, 0.2)):
        shapes.append(
            Disc((x + dx * size, ground + dy * size), r * size, shade(green, d.between(0.85, 1.15)), ball=True)
        )
    return shapes
