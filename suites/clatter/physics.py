"""Motion: event-driven flight with exact contact times, swings, strokes.

There is no integrator: between contacts a path is a closed formula, and the contacts are roots of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avbench.suites.clatter.exact import TAU, clamp, cos_sin
from avbench.suites.clatter.world import Track


@dataclass(frozen=True)
class Arc:
    """Free flight from `time` on: position, velocity, and the constant acceleration of the whole arc."""

    time: float
    position: tuple[float, float]
    velocity: tuple[float, float]
    acceleration: tuple[float, float]


@dataclass(frozen=True)
class Hit:
    """A contact of a flight: when, on what, with what normal speed, and where the centre was."""

    time: float
    surface: str
    speed: float
    at: tuple[float, float]


@dataclass(frozen=True)
class Flight:
    """Arcs in order of time."""

    arcs: tuple[Arc, ...]

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Positions [T, 2]; before the first arc, where it starts."""
        starts = np.array([arc.time for arc in self.arcs])
        k = np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)
        since = np.maximum(times - starts[k], 0.0)[:, None]
        position, velocity, acceleration = (
            np.array([getattr(arc, name) for arc in self.arcs])[k] for name in ("position", "velocity", "acceleration")
        )
        return position + velocity * since + 0.5 * acceleration * since * since


def fall_time(height: float, up: float, gravity: float) -> float:
    """Seconds until something `height` above a surface, moving up at `up`, reaches it. Infinite if it never does."""
    if gravity <= 0.0:
        return height / -up if up < 0.0 else math.inf
    return (up + math.sqrt(up * up + 2.0 * gravity * max(height, 0.0))) / gravity


@dataclass(frozen=True)
class Box:
    """Where a ball's centre may be: between left and right, above floor. No wall: minus or plus infinity."""

    floor: float
    left: float = -math.inf
    right: float = math.inf


def bounce(
    start: tuple[float, float],
    velocity: tuple[float, float],
    gravity: float,
    restitution: float,
    box: Box,
    seconds: float,
    release: float = 0.0,
    rest: float = 0.10,
    friction: float = 0.12,
) -> tuple[Flight, list[Hit]]:
    """A ball thrown at `release`, bouncing in the box until `seconds`.

    restitution: of the floor; walls use it too. Each floor contact takes the share `friction` of the speed along it.
    Slower than `rest` after a bounce, the ball stays on the floor, and rolls to a halt.
    """
    time, (x, y), (vx, vy), lift = release, start, velocity, gravity
    arcs, hits = [Arc(time, (x, y), (vx, vy), (0.0, -gravity))], list[Hit]()
    while time < seconds and len(hits) < 200:
        wall = (box.right - x) / vx if vx > 0 else (box.left - x) / vx if vx < 0 else math.inf
        floor = fall_time(y - box.floor, vy, lift) if lift > 0 or vy < 0 else math.inf
        step = min(wall, floor)
        if time + step >= seconds:
            break
        time, x, y, vy = time + step, x + vx * step, y + vy * step - 0.5 * lift * step * step, vy - lift * step
        if wall <= floor:
            x = box.right if vx > 0 else box.left
            hits.append(Hit(time, "right wall" if vx > 0 else "left wall", abs(vx), (x, y)))
            vx = -restitution * vx
        else:
            y = box.floor
            hits.append(Hit(time, "floor", -vy, (x, y)))
            vx, vy = (1.0 - friction) * vx, -restitution * vy
            if vy < rest and gravity > 0.0:
                vx, vy, lift = 0.0, 0.0, 0.0
        arcs.append(Arc(time, (x, y), (vx, vy), (0.0, -lift)))
    return Flight(tuple(arcs)), hits


@dataclass(frozen=True)
class Strokes:
    """Raise and strike, again and again: 0 at each contact, 1 at rest above it.

    A stroke falls with constant acceleration for `down` seconds, so that it is fastest when it lands; it recoils for
    `up` seconds, slowing down all the way, and waits.
    """

    times: tuple[float, ...]
    down: float
    up: float

    def __call__(self, times: np.ndarray) -> np.ndarray:
        height = np.ones_like(times)
        for contact in self.times:
            fall = clamp(1.0 - (contact - times) / self.down)
            rise = clamp((times - contact) / self.up)
            near = np.where(times < contact, 1.0 - fall * fall, rise * (2.0 - rise))
            height = np.where((times > contact - self.down) & (times < contact + self.up), near, height)
        return height

    def speed(self, distance: float) -> float:
        """Landing speed of a stroke over `distance`."""
        return 2.0 * distance / self.down


@dataclass(frozen=True)
class Steps:
    """A value per contact, moving to the next one while the stroke recoils, as fast as the stroke does."""

    times: tuple[float, ...]
    values: tuple[float, ...]
    up: float

    def __call__(self, times: np.ndarray) -> np.ndarray:
        place = np.full(len(times), self.values[0])
        for contact, here, there in zip(self.times, self.values, self.values[1:]):
            rise = clamp((times - contact) / self.up)
            place = np.where(times >= contact, here + (there - here) * rise * (2.0 - rise), place)
        return place


@dataclass(frozen=True)
class Swing:
    """A pendulum of small angles that meets an obstacle at the bottom: half sine swings between contacts.

    times: contacts, half a period apart. sizes: amplitude of the swing before each contact and, last, after it
    (signed: the side it swings on). period: of the free pendulum, seconds.
    """

    times: tuple[float, ...]
    sizes: tuple[float, ...]
    period: float

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Angle, radians [T]."""
        angle = self.part(self.sizes[0], self.times[0] - 0.5 * self.period, times)
        angle = np.where(times < self.times[0] - 0.25 * self.period, self.sizes[0], angle)
        for contact, size in zip(self.times, self.sizes[1:]):
            angle = np.where(times >= contact, self.part(size, contact, times), angle)
        return angle

    def part(self, size: float, start: float, times: np.ndarray) -> np.ndarray:
        return size * cos_sin(TAU * (times - start) / self.period)[1]


def swing_contacts(first: float, period: float, seconds: float) -> tuple[float, ...]:
    """Contacts every half period from `first` on, within the clip."""
    count = int((seconds - first) / (0.5 * period)) + 1
    return tuple(t for k in range(count) if (t := first + 0.5 * period * k) < seconds)


def hang(pivot: tuple[float, float], length: float, angle: Track) -> Track:
    """Where the bob of a pendulum is."""

    def bob(times: np.ndarray) -> np.ndarray:
        c, s = cos_sin(angle(times))
        return np.stack([pivot[0] + length * s, pivot[1] - length * c], 1)

    return bob
