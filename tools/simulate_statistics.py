"""Measure by simulation what the intervals and tests of avbench.stats promise; prints the table of docs/statistics.md.

python tools/simulate_statistics.py [--repetitions 4000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from avbench import stats
from avbench.metric import Rows
from avbench.metrics.distances import frechet_distance

Draw = Callable[[np.random.Generator, int], np.ndarray]
Method = Callable[[np.ndarray, int, int, bool], tuple[float, float]]
SIZES = (20, 50, 200)


@dataclass(frozen=True)
class Population:
    """Something to draw samples from, with its true mean."""

    draw: Draw
    mean: float
    proportion: bool = False


POPULATIONS = {
    "normal": Population(lambda rng, n: rng.normal(0.3, 0.1, n), 0.3),
    "lognormal": Population(lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
    "bounded": Population(lambda rng, n: rng.beta(0.5, 1.5, n), 0.25),
    "proportion 0.1": Population(lambda rng, n: (rng.random(n) < 0.1).astype(float), 0.1, True),
    "proportion 0.5": Population(lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5, True),
}

# Differences of pairs that have no true difference: b - a symmetric about 0, and one that only has mean 0.
NULLS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "heavy tails (t, 3 df)": lambda rng, n: rng.standard_t(3, n),
    "differences of lognormals": lambda rng, n: rng.lognormal(0, 1, n) - rng.lognormal(0, 1, n),
    "differences of bounded scores": lambda rng, n: rng.beta(0.5, 1.5, n) - rng.beta(0.5, 1.5, n),
    "differences of outcomes": lambda rng, n: (rng.random(n) < 0.3).astype(float) - (rng.random(n) < 0.3),
    "skewed with mean 0": lambda rng, n: rng.exponential(1, n) - 1,
}


def ours(values: np.ndarray, seed: int, resamples: int, proportion: bool) -> tuple[float, float]:
    """The interval that avbench prints."""
    interval = stats.mean_interval(values, seed, resamples=resamples, proportion=proportion)
    assert interval is not None
    return interval.low, interval.high


def not_widened(values: np.ndarray, seed: int, resamples: int, proportion: bool) -> tuple[float, float]:
    """BCa with plain normal quantiles: ours at the level where its widened quantiles equal those of 95 %."""
    interval = stats.mean_interval(values, seed, unwidened(0.95, len(values)), resamples, proportion=proportion)
    assert interval is not None
    return interval.low, interval.high


def unwidened(level: float, n: int) -> float:
    """The level at which our widened quantiles equal the plain normal ones of `level`."""
    return 2 * float(stdtr(n - 1, ndtri((1 + level) / 2) / math.sqrt(n / (n - 1)))) - 1


def student(values: np.ndarray, seed: int, resamples: int, proportion: bool) -> tuple[float, float]:
    """Student's interval, for comparison."""
    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


METHODS: dict[str, Method] = {"": ours, ", not widened": not_widened, ", Student's": student}


def coverage(population: Population, n: int, repetitions: int, resamples: int = 2000, method: Method = ours) -> float:
    """How often the 95 % interval of a mean over n samples holds the true mean."""
    rng = np.random.default_rng(n)
    hits = 0
    for seed in range(repetitions):
        low, high = method(population.draw(rng, n), seed, resamples, population.proportion)
        hits += low <= population.mean <= high
    return hits / repetitions


def false_positives(draw: Draw, n: int, repetitions: int, resamples: int = 2000) -> float:
    """How often the paired test finds a difference at 5 % where there is none."""
    rng = np.random.default_rng(n)
    return float(np.mean([stats.sign_flip(draw(rng, n), seed, resamples) < 0.05 for seed in range(repetitions)]))


def power(n: int, tests: int, repetitions: int, resamples: int = 2000) -> float:
    """How often the paired test finds, at 5 % over so many tests, the true difference that `detectable` names."""
    rng = np.random.default_rng(n)
    size, level = stats.detectable(n, 1 / math.sqrt(n), tests), 0.05 / tests
    return float(
        np.mean([stats.sign_flip(rng.normal(size, 1, n), seed, resamples) < level for seed in range(repetitions)])
    )


def frechet(generated: Rows, reference: Rows | None) -> float:
    """Fréchet distance to the standard normal population, so that only the generated side is a sample."""
    x = np.asarray(generated.x)
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(np.cov(x.T)), 0, None))
    return float((x.mean(0) ** 2).sum() + ((roots - 1) ** 2).sum())


def frechet_coverage(n: int, repetitions: int, resamples: int = 200, dimension: int = 16) -> tuple[float, float]:
    """Coverage of the joint interval of a difference of two Fréchet distances, and of a with-replacement bootstrap
    percentile interval around one of them."""
    rng = np.random.default_rng(n)
    spread_a, spread_b, shift_a, shift_b = 0.99, 1.09, 0.3, 0.2
    value_a = dimension * (shift_a**2 + (spread_a - 1) ** 2)
    value_b = dimension * (shift_b**2 + (spread_b - 1) ** 2)
    joint = single = 0
    names = [str(i) for i in range(n)]
    for seed in range(repetitions):
        common = rng.normal(size=(n, dimension)) / math.sqrt(2)
        own = rng.normal(size=(2, n, dimension)) / math.sqrt(2)
        a = Rows(names, {"x": list(shift_a + spread_a * (common + own[0]))})
        b = Rows(names, {"x": list(shift_b + spread_b * (common + own[1]))})
        found = stats.joint_difference(frechet, a, b, None, seed, resamples)
        assert found is not None
        joint += found.interval.low <= value_b - value_a <= found.interval.high
        again = [frechet(a.take(rng.integers(0, n, n).tolist()), None) for _ in range(resamples)]
        low, high = np.quantile(again, [0.025, 0.975])
        single += low <= value_a <= high
    return joint / repetitions, single / repetitions


def distance(generated: Rows, reference: Rows | None) -> float:
    """Fréchet distance to the samples of the reference."""
    assert reference is not None
    return frechet_distance(np.asarray(generated.x), np.asarray(reference.x))


def false_verdicts(dimension: int, n: int, repetitions: int, resamples: int = 100) -> tuple[float, float]:
    """How often one of two models at the same true distance is called better: one has 15 % less spread than the
    reference, the other another mean. Ours, and with the interval around the plain difference."""
    rng = np.random.default_rng(n)
    names, less = [str(i) for i in range(n)], 0.15
    ours = plain = 0
    for seed in range(repetitions):
        real, common, *own = rng.normal(size=(4, n, dimension))
        narrow = Rows(names, {"x": list((1 - less) * (common + own[0]) / math.sqrt(2))})
        moved = Rows(names, {"x": list(less + (common + own[1]) / math.sqrt(2))})
        target = Rows(names, {"x": list(real)})
        found = stats.joint_difference(distance, narrow, moved, target, seed, resamples)
        assert found is not None
        half = found.interval.high - found.difference
        ours += found.p < 0.05
        plain += abs(distance(moved, target) - distance(narrow, target)) > half
    return ours / repetitions, plain / repetitions


def table(repetitions: int) -> Iterator[str]:
    """The tables, line by line."""
    head = " | ".join(f"n = {n}" for n in SIZES)
    rule = "|---|" + "---|" * len(SIZES)
    yield from ("Coverage of the 95 % interval of a mean", "", f"| population | {head} |", rule)
    for name, population in POPULATIONS.items():
        for suffix, method in METHODS.items():
            if not suffix or not population.proportion:
                yield _line(name + suffix, [coverage(population, n, repetitions, method=method) for n in SIZES])
    yield from ("", "False positives of the paired test at 5 %", "", f"| differences | {head} |", rule)
    for name, draw in NULLS.items():
        yield _line(name, [false_positives(draw, n, repetitions) for n in SIZES])
    yield from (
        "",
        "Power at the smallest detectable difference (80 % promised)",
        "",
        f"| differences | {head} |",
        rule,
    )
    for tests in (1, 14):
        yield _line(f"normal, {tests} row{'s' * (tests > 1)}", [power(n, tests, repetitions) for n in SIZES])
    sizes, rounds = (50, 200, 800), max(1, repetitions // 10)
    both = [frechet_coverage(n, rounds) for n in sizes]
    yield from ("", f"Fréchet distance in 16 dimensions, coverage over {rounds} repetitions", "")
    yield from ("| interval | " + " | ".join(f"n = {n}" for n in sizes) + " |", rule)
    yield _line("joint half-samples, of the difference", [joint for joint, _ in both])
    yield _line("bootstrap with replacement, of one distance (not offered)", [single for _, single in both])
    sizes = (100, 200, 400)
    yield from ("", f"False verdicts between models of equal distance, over {rounds} repetitions", "")
    yield from ("| dimensions | " + " | ".join(f"n = {n}" for n in sizes) + " |", rule)
    for dimension in (16, 64):
        found = [false_verdicts(dimension, n, rounds) for n in sizes]
        yield _line(f"{dimension}", [ours for ours, _ in found])
        yield _line(f"{dimension}, around the plain difference (not offered)", [plain for _, plain in found])


def _line(name: str, rates: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{100 * rate:.1f} %" for rate in rates) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=4000)
    for line in table(parser.parse_args().repetitions):
        print(line, flush=True)


if __name__ == "__main__":
    main()
