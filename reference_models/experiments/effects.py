"""Effects over training seeds: the unit that counts is a training, not a prompt.

A training's seed decides weights, order and noises, and twins of one seed share them. So b - a is taken seed by seed
over the same prompts, and the interval is Student's over these differences: it says what another seed would show. The
interval over prompts, of differences averaged over the seeds at hand, says what other prompts would show for these
very models, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from avbench.run import Run
from avbench.stats import ALPHA, POWER, Interval, holm, paired

Key = tuple[str, str]
"""A metric and one of its fields ("": its main value)."""
Values = dict[str, float]
"""sample -> value; of a set metric, one value under ""."""
Measures = dict[str, dict[Key, Values]]
"""subset -> metric and field -> values of a run."""


@dataclass(frozen=True)
class Spread:
    """What differences over seeds say of another seed: Student's 95 % interval and p, and the smallest difference that
    so many seeds of this spread show with a power of 80 %. None where one seed, or equal differences, say nothing."""

    low: float | None = None
    high: float | None = None
    p: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Effect:
    """Variant b against variant a on one metric and subset.

    a, b, difference: means over seeds. seeds: difference of each; over: what they say of another seed. prompts:
    interval of the difference over prompts, for these models; None for set metrics. holm: p adjusted over the secondary
    contrasts of the primary metric; None elsewhere. n: prompts, at least.
    """

    contrast: str
    metric: str
    field: str
    subset: str
    better: str
    a: float
    b: float
    difference: float
    seeds: tuple[float, ...]
    n: int
    over: Spread = Spread()
    prompts: Interval | None = None
    holm: float | None = None

    @property
    def relative(self) -> float | None:
        """Difference as a share of a's value."""
        return self.difference / abs(self.a) if self.a else None

    @property
    def shown(self) -> bool:
        """Whether the interval over seeds leaves out 0."""
        return self.over.low is not None and self.over.high is not None and (self.over.low > 0 or self.over.high < 0)

    @property
    def gain(self) -> float:
        """The difference, positive where b is better."""
        return -self.difference if self.better == "lower" else self.difference


def measured(run: Run, subsets: Sequence[str]) -> Measures:
    """Every value of a run, by subset."""
    tags = {row["sample"]: row["tags"] for row in run.records("samples")}
    scores = [row for row in run.records("scores") if row["status"] == "ok"]
    sets = [row for row in run.records("sets") if row["value"] is not None]
    found: Measures = {}
    for subset in subsets:
        values = found.setdefault(subset, {})
        for row in scores:
            if not subset or subset in tags[row["sample"]]:
                values.setdefault((row["metric"], row["field"]), {})[row["sample"]] = row["value"]
        for row in sets:
            if row["subset"] == subset:
                values[row["metric"], row["field"]] = {"": row["value"]}
    return found


def effect(
    contrast: str, key: Key, subset: str, better: str, a: Mapping[int, Values], b: Mapping[int, Values]
) -> Effect | None:
    """The effect of a contrast from seed -> values of its two sides; None where they share no prompt of any seed."""
    pairs = []
    for seed in sorted(a.keys() & b.keys()):
        ids = sorted(a[seed].keys() & b[seed].keys())
        if ids:
            pairs.append((ids, np.array([a[seed][i] for i in ids]), np.array([b[seed][i] for i in ids])))
    if not pairs:
        return None
    seeds = tuple(float((y - x).mean()) for _, x, y in pairs)
    first, second = (float(np.mean([side.mean() for side in sides])) for sides in zip(*[(x, y) for _, x, y in pairs]))
    return Effect(
        contrast, *key, subset, better, first, second, float(np.mean(seeds)), seeds, min(len(i) for i, _, _ in pairs),
        over_seeds(seeds), over_prompts(pairs),
    )  # fmt: skip


def over_seeds(seeds: Sequence[float]) -> Spread:
    """Student's interval and p of the mean difference, and the detectable difference."""
    from scipy import stats

    n = len(seeds)
    spread = float(np.std(seeds, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    if not spread:
        return Spread()
    mean, wide = float(np.mean(seeds)), float(stats.t.ppf(1 - ALPHA / 2, n - 1))
    p = float(2 * stats.t.sf(abs(mean) / spread, n - 1))
    least = (wide + float(stats.t.ppf(POWER, n - 1))) * spread
    return Spread(mean - wide * spread, mean + wide * spread, p, least)


def over_prompts(pairs: Sequence[tuple[list[str], np.ndarray, np.ndarray]]) -> Interval | None:
    """Interval over prompts of the difference averaged over seeds, on the prompts that every seed has."""
    common = sorted(set.intersection(*(set(ids) for ids, _, _ in pairs)))
    if common in ([], [""]):
        return None
    both = []
    for ids, x, y in pairs:
        at = [ids.index(i) for i in common]
        both.append((x[at], y[at]))
    a, b = (np.mean(side, axis=0) for side in zip(*both))
    return paired(a, b, seed=0).interval


def between(tight: Effect, loose: Effect) -> Effect:
    """Difference of differences: what a contrast does on one subset beyond what it does on another, seed by seed."""
    seeds = tuple(x - y for x, y in zip(tight.seeds, loose.seeds, strict=True))
    return replace(
        tight, subset=f"{tight.subset} − {loose.subset}", a=loose.difference, b=tight.difference,
        difference=float(np.mean(seeds)), seeds=seeds, over=over_seeds(seeds), prompts=None, holm=None,
        n=min(tight.n, loose.n),
    )  # fmt: skip


def corrected(effects: Sequence[Effect], primary: Effect | None) -> list[Effect]:
    """Holm over the secondary contrasts of the primary metric and subset; others are exploratory and stay."""
    family = [
        one for one in effects
        if primary is not None and one is not primary and one.over.p is not None
        and (one.metric, one.field, one.subset) == (primary.metric, primary.field, primary.subset)
    ]  # fmt: skip
    adjusted = (
        dict(zip(map(id, family), holm([one.over.p for one in family if one.over.p is not None]))) if family else {}
    )
    return [replace(one, holm=adjusted[id(one)]) if id(one) in adjusted else one for one in effects]


def collect(
    models: Mapping[str, Mapping[int, Measures]], sides: Sequence[tuple[str, str, str]], subsets: Sequence[str],
    cards: Mapping[str, Any],
) -> list[Effect]:  # fmt: skip
    """Effects of every contrast (name, a, b) on every metric, field and subset.

    models: variant -> seed -> what its run measured. cards: metric id -> its card.
    """
    found = []
    for subset in subsets:
        for contrast, *names in sides:
            a, b = ({seed: one[subset] for seed, one in models.get(name, {}).items()} for name in names)
            for key in dict.fromkeys(key for one in (*a.values(), *b.values()) for key in one):
                first, second = ({seed: one[key] for seed, one in side.items() if key in one} for side in (a, b))
                better = cards[key[0]].better if not key[1] else "none"
                if one := effect(contrast, key, subset, better, first, second):
                    found.append(one)
    return found


def verdict(primary: Effect | None, information: Effect | None) -> str:
    """The answer in words: what was found, how sure it is, and whether it is what is heard that does it."""
    if primary is None:
        return "No answer: the primary contrast has no value."
    count = len(primary.seeds)
    if count < 2 or primary.over.low is None:
        return (
            "No answer: one training of each arm says nothing of another one. This scale shows that every step works."
            if count < 2
            else "No difference: both arms gave the same values in every training."
        )
    span = f"{primary.difference:+.3g} [{primary.over.low:+.3g}, {primary.over.high:+.3g}] over {count} trainings"
    if not primary.shown:
        least = f"; a true difference of {primary.over.detectable:.2g} would have been shown four times in five"
        return f"No difference shown: {span}{least}."
    if primary.gain < 0:
        return f"Hearing hurt here: {span}."
    if information is None or information.over.low is None:
        return f"The joint model is better: {span}. No control tells whether that is what it hears."
    against = f"{information.difference:+.3g} [{information.over.low:+.3g}, {information.over.high:+.3g}]"
    if information.shown and information.gain > 0:
        return f"Hearing helped here: {span}; and it is what is heard, for against foreign sound it is {against}."
    return (
        f"The joint model is better, {span}, but that it is by what it hears is not shown: against foreign sound "
        f"the difference is {against}."
    )
