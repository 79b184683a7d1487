"""The painter: anti-aliased shapes by signed distance, over a backdrop, through a camera.

A picture is float32 [T, 3, H, W] in [0, 1] (sRGB values), made with elementwise IEEE operations only (see `exact`).
Shapes are painted in windows just large enough, all frames at once. Any field of a shape that can move is either a
constant or a `Track`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from avbench.suites.clatter.exact import Draws, clamp, cos_sin, wave
from avbench.suites.clatter.world import Camera, Stage, Track, WorldSpec

Colour = tuple[float, float, float]
Point = tuple[float, float]
Layer = tuple[np.ndarray, Colour, Any, Any]
"""Coverage [T, h, w], colour, brightness factor, added white."""

PIXELS_AT_ONCE = 4_000_000
LIGHT = (-0.45, 0.62, 0.64)


class Noise:
    """Smooth random texture in [-1, 1]: a 64 x 64 table of uniforms, interpolated, repeating every 64 units."""

    def __init__(self, draws: Draws) -> None:
        self.table = (2.0 * draws.units(64, 64) - 1.0).astype(np.float32)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        column, row = np.floor(x), np.floor(y)
        fx, fy = x - column, y - row
        fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
        i, j = row.astype(np.int32) & 63, column.astype(np.int32) & 63
        k, m = (i + 1) & 63, (j + 1) & 63
        low = self.table[i, j] * (1 - fx) + self.table[i, m] * fx
        high = self.table[k, j] * (1 - fx) + self.table[k, m] * fx
        return low * (1 - fy) + high * fy


def _grain(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return 1.0 + 0.16 * noise(u * 7.0, v * 55.0) + 0.06 * noise(u * 20.0, v * 140.0)


def _gloss(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return 0.96 + 0.2 * wave(2.2 * (u + 1.4 * v) + 0.2) + 0.05 * noise(u * 4.0, v * 90.0)


def _speckle(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return 1.0 + 0.22 * noise(u * 70.0, v * 70.0) + 0.12 * noise(u * 16.0, v * 16.0)


TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, Noise], np.ndarray]] = {
    "grain": _grain,
    "gloss": _gloss,
    "speckle": _speckle,
}


def value(quantity: Any, times: np.ndarray) -> np.ndarray:
    """A constant or a `Track`, at the times: [T] or [T, 2]."""
    if callable(quantity):
        return np.asarray(quantity(times), dtype=np.float64)
    constant = np.asarray(quantity, dtype=np.float64)
    return np.broadcast_to(constant, (len(times), *constant.shape))


def column(quantity: Any, times: np.ndarray) -> np.ndarray:
    """As `value`, float32 [T, 1, 1]."""
    return value(quantity, times).astype(np.float32)[:, None, None]


def rim(depth: np.ndarray, width: float) -> np.ndarray:
    """Brightness that darkens towards the edge. depth: distance inside the edge."""
    return 0.62 + 0.38 * clamp(depth * (1.0 / width))


class Shape(Protocol):
    """Something to paint. `plain` pictures skip what is not `solid`."""

    @property
    def solid(self) -> bool: ...

    @property
    def alpha(self) -> float | Track: ...

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre [T, 2] and half extents [T, 2], world units."""

    def layers(self, u: np.ndarray, v: np.ndarray, times: np.ndarray, ink: Ink) -> Iterator[Layer]:
        """What to blend, in order. u, v: world offsets of the window's pixels from the centre, [T, h, w]."""


@dataclass(frozen=True)
class Ink:
    """What shapes need to know of the picture: pixels per world unit, the clip's noise, and whether it is plain."""

    scale: float
    noise: Noise
    plain: bool

    def cover(self, distance: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """Coverage from signed distance (negative inside), over one pixel or the softness, whichever is more."""
        return clamp(0.5 - distance * (1.0 / max(1.0 / self.scale, soft)))

    def texture(self, name: str, u: np.ndarray, v: np.ndarray) -> Any:
        return TEXTURES[name](u, v, self.noise) if name in TEXTURES and not self.plain else 1.0


@dataclass(frozen=True)
class Disc:
    """A disc, ball or ellipse. flat: height over width. soft: width of a blurred edge. ball: shade as a sphere.

    band, spin: colour and angle of a stripe across a ball. hollow: width of the line of a ring (0: filled).
    """

    at: Point | Track
    radius: float | Track
    colour: Colour
    alpha: float | Track = 1.0
    flat: float = 1.0
    soft: float = 0.0
    ball: bool = False
    band: Colour | None = None
    spin: float | Track = 0.0
    hollow: float = 0.0
    solid: bool = True

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        radius = value(self.radius, times)[:, None] + self.soft + self.hollow
        return value(self.at, times), radius * np.array([1.0, max(self.flat, 0.05)])

    def layers(self, u: np.ndarray, v: np.ndarray, times: np.ndarray, ink: Ink) -> Iterator[Layer]:
        radius = column(self.radius, times)
        v = v * (1.0 / self.flat)
        distance = np.sqrt(u * u + v * v) - radius
        if self.hollow:
            distance = abs(distance) - 0.5 * self.hollow
        if self.flat != 1.0 and not self.hollow:
            distance = distance * min(1.0, 2 * self.flat)
        alpha = ink.cover(distance, self.soft) * column(self.alpha, times)
        if ink.plain or not self.ball:
            yield alpha, self.colour, 1.0, 0.0
            return
        over = 1.0 / np.maximum(radius, 1e-6)
        x, y = u * over, v * over
        z = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.0))
        facing = x * LIGHT[0] + y * LIGHT[1] + z * LIGHT[2]
        tone = 0.42 + 0.68 * np.maximum(facing, 0.0)
        gloss = 0.75 * clamp((facing - 0.93) * 16.0)
        yield alpha, self.colour, tone, gloss
        if self.band is not None:
            c, s = (part.astype(np.float32)[:, None, None] for part in cos_sin(value(self.spin, times)))
            across = abs(u * c + v * s) - 0.24 * radius
            yield np.minimum(alpha, ink.cover(across)), self.band, tone, gloss


@dataclass(frozen=True)
class Capsule:
    """A thick line with round ends from a to b. round: shade as a rod."""

    a: Point | Track
    b: Point | Track
    radius: float
    colour: Colour
    alpha: float | Track = 1.0
    round: bool = True
    solid: bool = True

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = value(self.a, times), value(self.b, times)
        return 0.5 * (a + b), 0.5 * abs(b - a) + self.radius

    def layers(self, u: np.ndarray, v: np.ndarray, times: np.ndarray, ink: Ink) -> Iterator[Layer]:
        half = (0.5 * (value(self.b, times) - value(self.a, times))).astype(np.float32)
        hx, hy = half[:, 0, None, None], half[:, 1, None, None]
        along = clamp((u * hx + v * hy) * (1.0 / np.maximum(hx * hx + hy * hy, 1e-9)), -1.0, 1.0)
        x, y = u - along * hx, v - along * hy
        distance = np.sqrt(x * x + y * y)
        tone: Any = 1.0
        if self.round and not ink.plain:
            tone = 0.55 + 0.5 * clamp(1.0 - distance * (0.9 / self.radius)) + (0.15 / self.radius) * (y - x)
        yield ink.cover(distance - self.radius) * column(self.alpha, times), self.colour, tone, 0.0


@dataclass(frozen=True)
class Poly:
    """A convex polygon. points: counter-clockwise, relative to `at`. angle: radians, counter-clockwise.

    texture: name in `TEXTURES`. edge: width of the darkened rim. lit: brightness gained per unit upwards.
    """

    points: tuple[Point, ...]
    colour: Colour
    at: Point | Track = (0.0, 0.0)
    angle: float | Track = 0.0
    alpha: float | Track = 1.0
    texture: str = "plain"
    edge: float = 0.012
    lit: float = 0.6
    soft: float = 0.0
    solid: bool = True

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s = cos_sin(value(self.angle, times))
        x = np.stack([c * px - s * py for px, py in self.points], 1)
        y = np.stack([s * px + c * py for px, py in self.points], 1)
        low, high = np.stack([x.min(1), y.min(1)], 1), np.stack([x.max(1), y.max(1)], 1)
        return value(self.at, times) + 0.5 * (low + high), 0.5 * (high - low) + self.soft

    def layers(self, u: np.ndarray, v: np.ndarray, times: np.ndarray, ink: Ink) -> Iterator[Layer]:
        offset = (self.place(times)[0] - value(self.at, times)).astype(np.float32)
        u, v = u + offset[:, 0, None, None], v + offset[:, 1, None, None]
        if callable(self.angle) or self.angle:
            c, s = (part.astype(np.float32)[:, None, None] for part in cos_sin(value(self.angle, times)))
            u, v = u * c + v * s, v * c - u * s
        distance: Any = -1e9
        for (ax, ay), (bx, by) in zip(self.points, self.points[1:] + self.points[:1]):
            length = math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
            nx, ny = (by - ay) / length, (ax - bx) / length
            distance = np.maximum(distance, u * nx + v * ny - (ax * nx + ay * ny))
        tone: Any = 1.0
        if not ink.plain:
            tone = ink.texture(self.texture, u, v) * (1.0 + self.lit * v)
            if self.edge:
                tone = tone * rim(-distance, self.edge)
        yield ink.cover(distance, self.soft) * column(self.alpha, times), self.colour, tone, 0.0


@dataclass(frozen=True)
class Drift:
    """A see-through layer of streaks over a rectangle, all moving alike: rain, flowing water.

    box: left, bottom, right, top. velocity: world units / s. grid: streaks per world unit, across and along x and y.
    amount: share of the area that is streak.
    """

    box: tuple[float, float, float, float]
    velocity: Point
    grid: Point
    colour: Colour
    alpha: float
    amount: float
    slant: float = 0.0
    solid: bool = False

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, bottom, right, top = self.box
        centre = value(((left + right) / 2, (bottom + top) / 2), times)
        return centre, value(((right - left) / 2, (top - bottom) / 2), times)

    def layers(self, u: np.ndarray, v: np.ndarray, times: np.ndarray, ink: Ink) -> Iterator[Layer]:
        moved = [(times * speed).astype(np.float32)[:, None, None] for speed in self.velocity]
        x, y = u - moved[0], v - moved[1]
        field = ink.noise((x - self.slant * y) * self.grid[0], y * self.grid[1])
        left, bottom, right, top = self.box
        inside = np.maximum(abs(u) - (right - left) / 2, abs(v) - (top - bottom) / 2)
        alpha = clamp((field - (1.0 - 2.0 * self.amount)) * 2.5) * ink.cover(inside) * self.alpha
        yield alpha, self.colour, 1.0, 0.0


def paint_shape(canvas: np.ndarray, shape: Shape, times: np.ndarray, look: np.ndarray, ink: Ink) -> None:
    """Blend a shape into canvas [T, 3, H, W]. look: the world point at the middle of the canvas, [T, 2]."""
    shown = np.flatnonzero(value(shape.alpha, times) > 0.0)
    if (ink.plain and not shape.solid) or not len(shown):
        return
    times, look = times[shown], look[shown] if len(look) > 1 else look
    height, width = canvas.shape[2:]
    centre, extent = shape.place(times)
    cx = (width - 1) / 2 + (centre[:, 0] - look[:, 0]) * ink.scale
    cy = (height - 1) / 2 - (centre[:, 1] - look[:, 1]) * ink.scale
    reach = np.ceil(extent.max(axis=0) * ink.scale).astype(int) + 1
    w, h = min(width, 2 * int(reach[0]) + 1), min(height, 2 * int(reach[1]) + 1)
    left = clamp(np.floor(cx + 0.5) - w // 2, 0, width - w).astype(int)
    top = clamp(np.floor(cy + 0.5) - h // 2, 0, height - h).astype(int)
    u = ((left[:, None] + np.arange(w)) - cx[:, None]) / ink.scale
    v = (cy[:, None] - (top[:, None] + np.arange(h))) / ink.scale
    window = (len(times), h, w)
    u32 = np.broadcast_to(u.astype(np.float32)[:, None, :], window)
    v32 = np.broadcast_to(v.astype(np.float32)[:, :, None], window)
    for alpha, colour, tone, gloss in shape.layers(u32, v32, times, ink):
        targets = [np.broadcast_to(c * tone + gloss, window) for c in colour]
        for k, frame in enumerate(shown):
            view = canvas[frame, :, top[k] : top[k] + h, left[k] : left[k] + w]
            for c in range(3):
                view[c] += alpha[k] * (targets[c][k] - view[c])


def paint(stage: Stage, camera: Camera, spec: WorldSpec, noise: Noise, times: np.ndarray) -> np.ndarray:
    """Film a stage at the given times: float32 [T, 3, height, width]."""
    ink = Ink(spec.unit * camera.zoom, noise, spec.plain)
    look = camera.look(times)
    home = np.array([camera.centre])
    margin = 0 if camera.still else int(np.ceil(abs(look - home).max() * ink.scale)) + 1
    height, width = spec.height + 2 * margin, spec.width + 2 * margin
    x = (home[0, 0] + (np.arange(width) - (width - 1) / 2) / ink.scale).astype(np.float32)
    y = (home[0, 1] - (np.arange(height) - (height - 1) / 2) / ink.scale).astype(np.float32)
    x, y = np.broadcast_to(x[None, :], (height, width)), np.broadcast_to(y[:, None], (height, width))
    still = np.ascontiguousarray(stage.backdrop(x, y, noise))[None]
    for prop in stage.props:
        paint_shape(still, prop, np.zeros(1), home, ink)
    if margin:
        canvas = follow(still[0], (look - home) * ink.scale, margin)
    else:
        canvas = np.repeat(still, len(times), axis=0)
    for actor in stage.actors:
        paint_shape(canvas, actor, times, look, ink)
    return canvas


def follow(still: np.ndarray, shift: np.ndarray, margin: int) -> np.ndarray:
    """Crops of a wide still [3, H, W], moved by `shift` pixels ([T, 2], y up), bilinear: [T, 3, H - 2m, W - 2m]."""
    height, width = still.shape[1] - 2 * margin, still.shape[2] - 2 * margin
    frames = np.empty((len(shift), 3, height, width), dtype=np.float32)
    for k, (x, y) in enumerate(zip(margin + shift[:, 0], margin - shift[:, 1])):
        i, j = int(np.floor(y)), int(np.floor(x))
        fy, fx = float(y - i), float(x - j)
        rows = still[:, i : i + height + 1, j : j + width + 1]
        rows = rows[:, :-1] * (1 - fy) + rows[:, 1:] * fy
        frames[k] = rows[:, :, :-1] * (1 - fx) + rows[:, :, 1:] * fx
    return frames


def quantise(picture: np.ndarray, channels: int) -> np.ndarray:
    """float32 [T, 3, H, W] to uint8 [T, H, W, channels]; grey by the BT.601 weights."""
    if channels == 1:
        picture = (0.299 * picture[:, :1] + 0.587 * picture[:, 1:2]) + 0.114 * picture[:, 2:3]
    levels = np.floor(clamp(picture) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def film(stage: Stage, camera: Camera, spec: WorldSpec, draws: Draws) -> np.ndarray:
    """All frames of a clip, uint8 [T, H, W, channels], painted in runs of frames that bound the memory."""
    noise, times = Noise(draws), spec.times
    step = max(1, PIXELS_AT_ONCE // (spec.width * spec.height))
    runs = [paint(stage, camera, spec, noise, times[k : k + step]) for k in range(0, len(times), step)]
    return np.concatenate([quantise(run, spec.channels) for run in runs])
