"""Sounds: modal synthesis of contacts, and ambiences of shaped noise. Elementwise IEEE arithmetic only (see `exact`).

A struck body rings as a sum of damped modes (material: ratios, decay; size: pitch) behind a click of noise. A contact
presses on it with a half-sine pulse: a harder blow is louder and, being shorter, brighter; a soft material presses
longer, and so dulls. The first sample at or after the contact time is the first that can differ from silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from avbench.suites.clatter.exact import TAU, Draws, clamp, cos_sin, damped, exp, one_pole, resonate, rms, smooth, wave
from avbench.suites.clatter.world import MATERIALS, Body, Contact

NEPERS_60DB = 6.907755278982137


def ring(body: Body, rate: int, draws: Draws, longest: int) -> np.ndarray:
    """Impulse response of a body, float64 [n], peak 1 times its gain, at most `longest` samples."""
    stuff = MATERIALS[body.material]
    ratios = np.array(stuff.ratios)
    detune = 1.0 + 0.03 * (2.0 * draws.units(len(ratios)) - 1.0)
    frequency = stuff.pitch * (0.1 / body.size) * ratios * detune
    decay = NEPERS_60DB / stuff.ring * (1.0 + stuff.damping * (ratios - 1.0)) * math.sqrt(0.1 / body.size)
    level = 1.0 / (1.0 + 0.35 * (ratios - 1.0))
    heard = frequency < 0.45 * rate
    n = min(longest, int(1.4 * rate * NEPERS_60DB / float(decay.min())) + 1)
    _, sines = damped(TAU * frequency[heard] / rate, decay[heard] / rate, n)
    sound = np.zeros(n)
    for k, gain in enumerate(level[heard]):
        sound += gain * sines[k]
    m = min(n, int(0.03 * rate))
    sound[:m] += stuff.click * 2.0 * draws.noise(m) * exp(-np.arange(m) / (0.004 * rate))
    return sound * (body.gain / max(float(abs(sound).max()), 1e-9))


def pulse(seconds: float, phase: float, rate: int) -> np.ndarray:
    """A half-sine push of unit sum that starts `phase` (0 ... 1) samples before its first sample."""
    width = max(seconds * rate, 1.2)
    x = (np.arange(int(width) + 2) + phase) / width
    push = clamp(4.0 * x * (1.0 - x)) + 1e-3 * (np.arange(len(x)) == 0)
    total = 0.0
    for p in push.tolist():
        total += p
    return push / total


def clatter(bodies: tuple[Body, ...], contacts: tuple[Contact, ...], n: int, rate: int, draws: Draws) -> np.ndarray:
    """The sound of all contacts, float64 [n]."""
    rings = [ring(body, rate, draws, n) for body in bodies]
    out = np.zeros(n + 1)
    for contact in contacts:
        start = int(np.ceil(contact.time * rate))
        softest = max(MATERIALS[bodies[b].material].pulse for b in contact.bodies)
        push = pulse(softest * (1.6 - 0.9 * contact.strength), start - contact.time * rate, rate)
        for b in contact.bodies:
            for k, p in enumerate((contact.strength * push).tolist()):
                stop = min(start + k + len(rings[b]), n)
                if stop > start + k:
                    out[start + k : stop] += p * rings[b][: stop - start - k]
    return out[:n]


def level(x: np.ndarray, target: float) -> np.ndarray:
    return x * (target / max(rms(x), 1e-6))


def low(x: np.ndarray, hz: float, rate: int) -> np.ndarray:
    """One-pole low-pass with unit gain at 0 Hz."""
    pole = float(exp(-TAU * hz / rate))
    return one_pole(x, pole) * (1.0 - pole)


def band(x: np.ndarray, hz: float, width: float, rate: int) -> np.ndarray:
    """Resonant band-pass around hz with the given bandwidth in Hz."""
    return resonate(x, TAU * hz / rate, 0.5 * TAU * width / rate) * (TAU * width / rate)


def sway(n: int, rate: int, seconds: float, draws: Draws) -> np.ndarray:
    """A slow random curve in [0, 1]: uniforms every `seconds`, joined smoothly."""
    x = np.arange(n) / (rate * seconds) + draws.unit()
    knots = draws.units(int(n / (rate * seconds)) + 4)
    k = np.floor(x).astype(np.int64)
    return knots[k] + (knots[k + 1] - knots[k]) * smooth(x - k)


def grains(
    n: int, rate: int, draws: Draws, per_second: float, hz: tuple[float, float], ring_s: float, even: float = 0.5
) -> np.ndarray:
    """Many short pings at random times, pitches and loudnesses: drops, bubbles. even: least loudness, 0 ... 1."""
    kinds = 60
    spread = draws.units(kinds)
    frequency = TAU * (hz[0] + (hz[1] - hz[0]) * spread * spread) / rate
    length = max(4, int(ring_s * rate * 2))
    decay = np.full(kinds, NEPERS_60DB / (ring_s * rate))
    _, pings = damped(frequency, decay, length)
    out = np.zeros(n + length)
    count = int(per_second * n / rate)
    starts = (draws.units(count) * n).astype(np.int64).tolist()
    gains = (even + (1 - even) * draws.units(count)).tolist()
    for k, (start, gain) in enumerate(zip(starts, gains)):
        out[start : start + length] += gain * pings[k % kinds]
    return out[:n]


def _rain(n: int, rate: int, d: Draws) -> np.ndarray:
    hiss = d.noise(n)
    hiss = low(hiss - low(hiss, 900, rate), 5200, rate)
    drops = grains(n, rate, d, 260, (1500, 0.4 * rate), 0.008)
    return level(hiss, 0.08) * (0.85 + 0.3 * sway(n, rate, 1.1, d)) + level(drops, 0.022)


def _wind(n: int, rate: int, d: Draws) -> np.ndarray:
    white = d.noise(n)
    gust = 0.35 + 0.65 * sway(n, rate, 1.3, d)
    body = level(low(low(white, 350, rate), 700, rate), 0.11)
    whistle = level(band(white, d.between(420, 700), 90, rate), 0.04)
    return gust * body + gust * gust * whistle


def _waves(n: int, rate: int, d: Draws) -> np.ndarray:
    white = d.noise(n)
    t = np.arange(n) / rate
    swell = 0.5 + 0.5 * wave(t / d.between(2.6, 3.6) + d.unit())
    roar = level(low(white, 500, rate), 0.08)
    foam = level(low(white - low(white, 1400, rate), 4200, rate), 0.07)
    return (0.35 + 0.65 * swell) * roar + (0.12 + 0.88 * swell * swell) * foam


def _hum(n: int, rate: int, hz: float, harmonics: int, wobble: float, d: Draws) -> np.ndarray:
    """A buzz: harmonics of a slightly unsteady tone."""
    step = TAU * hz * (1.0 + wobble * (sway(n, rate, 0.35, d) - 0.5)) / rate
    c, s = cos_sin(np.cumsum(step))  # cumsum is a plain left-to-right sum
    out, re, im = np.zeros(n), np.ones(n), np.zeros(n)
    for k in range(1, harmonics + 1):
        re, im = re * c - im * s, re * s + im * c
        out += im * (d.between(0.5, 1.0) / k)
    return out


def _engine(n: int, rate: int, d: Draws) -> np.ndarray:
    firing = d.between(55, 95)
    white = d.noise(n)
    buzz = _hum(n, rate, firing, 14, 0.05, d) + 0.6 * _hum(n, rate, firing / 2, 6, 0.05, d)
    return level(low(buzz, 900, rate), 0.11) + level(low(white, 600, rate), 0.025)


def _stream(n: int, rate: int, d: Draws) -> np.ndarray:
    bubbles = grains(n, rate, d, 190, (380, min(2600.0, 0.4 * rate)), 0.045, 0.3)
    white = d.noise(n)
    rush = low(white - low(white, 500, rate), 2800, rate)
    return level(bubbles, 0.07) + level(rush, 0.04)


def _fire(n: int, rate: int, d: Draws) -> np.ndarray:
    white = d.noise(n)
    roar = level(low(low(white, 160, rate), 400, rate), 0.07) * (0.7 + 0.6 * sway(n, rate, 0.4, d))
    snaps = level(grains(n, rate, d, 26, (900, 0.4 * rate), 0.006, 0.05), 0.03)
    hiss = level(white - low(white, 2500, rate), 0.006)
    return roar + snaps + hiss


def _city(n: int, rate: int, d: Draws) -> np.ndarray:
    white = d.noise(n)
    murmur = level(low(low(white, 220, rate), 500, rate), 0.08)
    passing = level(band(white, d.between(600, 900), 500, rate), 0.035) * sway(n, rate, 1.6, d)
    motor = level(low(_hum(n, rate, d.between(70, 110), 8, 0.03, d), 500, rate), 0.03) * sway(n, rate, 1.9, d)
    return murmur * (0.8 + 0.4 * sway(n, rate, 0.9, d)) + passing + motor


def _fan(n: int, rate: int, d: Draws) -> np.ndarray:
    t = np.arange(n) / rate
    white = d.noise(n)
    chop = 1.0 + 0.25 * wave(t * d.between(17, 26) + d.unit())
    hum = level(_hum(n, rate, d.choice((50.0, 60.0)) * 2, 5, 0.004, d), 0.035)
    return hum + level(low(white - low(white, 120, rate), 1100, rate), 0.07) * chop


AMBIENCES: dict[str, Callable[[int, int, Draws], np.ndarray]] = {
    "rain": _rain,
    "wind": _wind,
    "waves": _waves,
    "car": _engine,
    "stream": _stream,
    "fire": _fire,
    "city": _city,
    "fan": _fan,
}


def finish(x: np.ndarray) -> np.ndarray:
    """Set the recording level (peak between 0.35 and 0.89) and round to 16 bits: float32 [n], multiples of 2**-15."""
    peak = float(abs(x).max())
    y = x * (min(max(peak, 0.35), 0.89) / peak) if peak else x
    return (np.floor(y * 32768.0 + 0.5) / 32768.0).astype(np.float32)


def ambience(name: str, n: int, rate: int, draws: Draws) -> np.ndarray:
    return finish(AMBIENCES[name](n, rate, draws))
