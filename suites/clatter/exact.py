"""Arithmetic that gives the same bits everywhere.

Pixels and samples of `clatter` must be identical on every machine and with every numpy. IEEE 754 promises that
for +, -, *, /, sqrt, floor, comparisons and conversions of single elements, and for nothing else: numpy's and libm's
sin, exp and pow, BLAS, FFTs and floating-point sums all differ in the last bit between versions and processors. The
world is therefore drawn and sounded with elementwise IEEE operations only; what it needs of sine, exponential and
randomness is built here from them. `numpy.random.PCG64.random_raw` and `SeedSequence` are bit-stable by numpy's
policy (NEP 19); the distributions of `Generator` are not, so none is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
TAU = 2 * math.pi
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""Parts of pi/2, the first two so short that their products with integers below 2**20 are exact."""
LN2 = (0.6931471803691238, 1.9082149292705877e-10)
EXP = [1.0 / math.factorial(k) for k in range(14)]
SIN = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)]
COS = [(-1.0) ** k / math.factorial(2 * k) for k in range(9)]


def polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's rule: sum of coefficients[k] * x**k."""
    value = coefficients[-1] * np.ones_like(x)
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def exp(x: Any) -> Any:
    """e**x for float64 arrays or scalars, within 2 units in the last place, same bits everywhere."""
    x = np.maximum(np.asarray(x, dtype=np.float64), -700.0)
    k = np.floor(x / LN2[0] + 0.5)
    return np.ldexp(polynomial(EXP, (x - k * LN2[0]) - k * LN2[1]), k.astype(np.int32))


def cos_sin(x: Any) -> tuple[Any, Any]:
    """Cosine and sine of float64 radians (|x| < 1e6), within a few 1e-16, same bits everywhere."""
    x = np.asarray(x, dtype=np.float64)
    k = np.floor(x / HALF_PI[0] + 0.5)
    r = ((x - k * HALF_PI[0]) - k * HALF_PI[1]) - k * HALF_PI[2]
    s, c = r * polynomial(SIN, r * r), polynomial(COS, r * r)
    quadrant = k - 4 * np.floor(k / 4)
    odd = (quadrant == 1) | (quadrant == 3)
    sine = np.where(odd, c, s) * np.where(quadrant >= 2, -1.0, 1.0)
    cosine = np.where(odd, s, c) * np.where((quadrant == 1) | (quadrant == 2), -1.0, 1.0)
    return cosine, sine


def sin(x: Any) -> Any:
    return cos_sin(x)[1]


def cos(x: Any) -> Any:
    return cos_sin(x)[0]


def wave(x: Any) -> Any:
    """A cheap smooth wave of period 1 and range [-1, 1] (a cubic through a triangle), any float dtype."""
    triangle = 4.0 * abs((x - np.floor(x)) - 0.5) - 1.0
    return triangle * (1.5 - 0.5 * triangle * triangle)


def smooth(x: Any) -> Any:
    """Smoothstep: 0 below 0, 1 above 1, 3x^2 - 2x^3 between."""
    x = np.minimum(np.maximum(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def clamp(x: Any, low: float = 0.0, high: float = 1.0) -> Any:
    return np.minimum(np.maximum(x, low), high)


def rms(x: np.ndarray) -> float:
    """Root mean square; summed as integers of 2**-20, so that the order of summation cannot matter."""
    grid = np.floor(x * 1048576.0 + 0.5).astype(np.int64)
    return math.sqrt(int((grid * grid).sum()) / max(len(grid), 1)) / 1048576.0


def damped(frequency: np.ndarray, decay: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Damped cosines and sines exp(-decay k) cos/sin(frequency k), k = 0 ... n-1.

    frequency: radians per sample [M]; decay: nepers per sample [M]. Built by doubling: each half is the other turned.
    Returns two float64 arrays [M, n].
    """
    c, s = np.ones((len(frequency), 1)), np.zeros((len(frequency), 1))
    while c.shape[1] < n:
        m = c.shape[1]
        turn_c, turn_s = cos_sin(frequency * m)
        shrink = exp(-decay * m)
        a, b = (shrink * turn_c)[:, None], (shrink * turn_s)[:, None]
        c, s = np.concatenate([c, c * a - s * b], 1), np.concatenate([s, c * b + s * a], 1)
    return c[:, :n], s[:, :n]


def one_pole(x: np.ndarray, pole: float, floor: float = 1e-5) -> np.ndarray:
    """y[n] = x[n] + pole y[n-1], from zero, by the product 1/(1 - a/z) = (1 + a/z)(1 + a^2/z^2)(1 + a^4/z^4) ..."""
    y, a, shift = x.copy(), pole, 1
    while abs(a) > floor and shift < len(y):
        y[shift:] += a * y[:-shift]
        a, shift = a * a, shift * 2
    return y


def resonate(x: np.ndarray, frequency: float, decay: float, nepers: float = 11.5) -> np.ndarray:
    """x through the damped cosine of `frequency` and `decay` (radians and nepers per sample), as `one_pole`."""
    re, im, shift = x.copy(), np.zeros_like(x), 1
    while shift < len(x) and decay * shift < nepers:
        c, s = cos_sin(frequency * shift)
        shrink = float(exp(-decay * shift))
        a, b = shrink * float(c), shrink * float(s)
        low_re, low_im = re[:-shift].copy(), im[:-shift].copy()
        re[shift:] += a * low_re - b * low_im
        im[shift:] += a * low_im + b * low_re
        shift *= 2
    return re


class Draws:
    """Random choices of one scene: a PCG64 stream named by any strings and integers."""

    def __init__(self, *name: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self.bits = np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return (int(self.bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        """An integer in 0 ... n-1."""
        return int(self.unit() * n)

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Fisher-Yates."""
        items = list(options)
        for k in range(len(items) - 1, 0, -1):
            j = self.below(k + 1)
            items[k], items[j] = items[j], items[k]
        return items

    def units(self, *shape: int) -> np.ndarray:
        """float64 array of uniforms in [0, 1)."""
        raw = self.bits.random_raw(math.prod(shape))
        return (raw >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53

    def noise(self, n: int) -> np.ndarray:
        """White noise, uniform in [-1, 1)."""
        return 2.0 * self.units(n) - 1.0
