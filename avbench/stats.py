"""Intervals, paired tests and rank groups: pure functions of arrays, seeded, the same in whatever order samples come.

docs/statistics.md explains the choices and shows their measured coverage and false-positive rates.

Values are sorted before anything is drawn, so a result depends on the values (or pairs) and the seed alone. NaN and
infinity are refused: a sample without a value is left out by the caller, who also says how many were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from avbench.metric import Direction, Rows

MIN_SAMPLES = 10  # below this no interval is given
RESAMPLES = 10_000
BUDGET = 40_000_000  # values drawn for one interval or test; large sets get fewer resamples, never fewer than 2,000
CHUNK = 1 << 20  # values in memory at once
ALPHA = 0.05
POWER = 0.8
LOOK = 1_000  # resamples between looks at which pairs of a large table are decided
CLEAR = 0.25  # a p estimated above this is not small, however many more resamples are drawn
TIE = 1e-9  # of the spread
EXACT = 13  # up to this many nonzero differences, all sign flips are enumerated

Method = Literal["bca", "wilson", "paired proportions", "constant", "joint half-samples"]
Verdict = Literal["better", "worse", "higher", "lower", "no difference shown"]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval and how it was made."""

    low: float
    high: float
    method: Method = "bca"
    level: float = 0.95


@dataclass(frozen=True)
class PairedResult:
    """Two systems on the samples both have a value for; differences are b - a.

    n:               pairs (items, where takes were averaged).
    interval:        95 % interval of the mean difference, None below `MIN_SAMPLES`.
    relative_change: difference / |mean_a|, None where mean_a is 0.
    p:               two-sided sign-flip permutation test of "no difference".
    win_rate:        share of pairs in which b is better (larger, where no direction is better), ties count half.
    error:           standard error of the mean difference, None for one pair; `detectable` makes a size of it.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval | None
    relative_change: float | None
    p: float
    win_rate: float
    error: float | None


@dataclass(frozen=True)
class JointResult:
    """Two systems by a set metric on the same samples; differences are b - a.

    difference: without the bias that a set of this size has, of either sign; reduce(b) - reduce(a) has it.
    interval:   95 % interval of `difference`.
    error:      standard error of it.
    p:          two-sided, of "no difference", by Student's distribution.
    """

    n: int
    difference: float
    interval: Interval
    error: float
    p: float


def mean_interval(
    values: Sequence[float] | np.ndarray,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    clusters: Sequence[Hashable] | None = None,
    proportion: bool | None = None,
) -> Interval | None:
    """Interval of a mean over samples: BCa bootstrap, or Wilson's for a proportion.

    values:     one number per sample.
    clusters:   the item each value belongs to; values of one item (takes) are averaged first and items are resampled.
    proportion: whether values are successes (1) and failures (0); None: if all values are 0 or 1.
    Returns None below `MIN_SAMPLES` values (or items); `reason(n)` says so in words. Equal values that are no
    proportion give an interval of width 0 marked "constant": the data hold no information on their spread.
    Efron 1987 (BCa); Hesterberg 2015, section 3.2 (levels widened for small n); Wilson 1927.
    """
    values = np.sort(_items(values, clusters))
    if len(values) < MIN_SAMPLES:
        return None
    if proportion is None:
        proportion = bool(np.isin(values, (0, 1)).all())
    if proportion:
        return wilson(float(values.sum()), len(values), level)
    if values[0] == values[-1]:
        return Interval(float(values[0]), float(values[-1]), "constant", level)
    return _bca(values, np.random.default_rng(seed), level, resamples)


def mean_intervals(
    columns: Sequence[Sequence[float] | np.ndarray], seed: int, shares: bool = True
) -> list[Interval | None]:
    """`mean_interval` of many sets of values at once; sets of one size share their resamples, as they do one by one.

    shares: whether values that are all 0 or 1 are successes and failures.
    """
    found: dict[int, Interval | None] = {}
    sizes: dict[int, dict[int, np.ndarray]] = {}
    for index, column in enumerate(columns):
        values = np.sort(_finite(column))
        outcomes = shares and bool(np.isin(values, (0, 1)).all())
        if len(values) < MIN_SAMPLES or values[0] == values[-1] or outcomes:
            found[index] = mean_interval(values, seed, proportion=outcomes)
        else:
            sizes.setdefault(len(values), {})[index] = values
    for n, members in sizes.items():
        resamples, rng, matrix = _affordable(RESAMPLES, n), np.random.default_rng(seed), np.stack([*members.values()]).T
        means = np.concatenate([_counts(rng, k, n) @ matrix / n for k in _chunks(resamples, n)])
        found |= {index: _bca_of(members[index], means[:, at], 0.95) for at, index in enumerate(members)}
    return [found[index] for index in range(len(columns))]


def _counts(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    """How often each resample takes each value: float64 [resamples, n]."""
    drawn = rng.integers(0, n, (resamples, n), dtype=np.int32) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def reason(n: int) -> str:
    """Why a mean over n samples carries no interval, "" where it does."""
    return "" if n >= MIN_SAMPLES else f"n = {n}: no interval below {MIN_SAMPLES}"


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion. Wilson 1927."""
    z = _normal_quantile((1 + level) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high, "wilson", level)


def paired(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    seed: int,
    better: Direction = "higher",
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    shares: bool = True,
) -> PairedResult:
    """Compare b with a; a[i] and b[i] are of the same sample. At least one pair.

    Where both hold only 0 and 1 and these are failures and successes (`shares`), the interval is Bonett and Price's for
    paired proportions (2012), otherwise BCa.
    """
    a, b = _items(a, clusters), _items(b, clusters)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired samples must be as many on both sides and at least one, got {len(a)} and {len(b)}")
    order = np.lexsort((a, b - a))
    a, b = a[order], b[order]
    d, n, mean_a = b - a, len(a), float(a.mean())
    wins = d < 0 if better == "lower" else d > 0
    difference = float(d.mean())
    binary = shares and bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    return PairedResult(
        n=n,
        mean_a=mean_a,
        mean_b=float(b.mean()),
        difference=difference,
        interval=_paired_proportions(d, level) if binary else mean_interval(d, seed, level, resamples, None, False),
        relative_change=difference / abs(mean_a) if mean_a else None,
        p=sign_flip(d, seed, resamples),
        win_rate=float((wins.sum() + 0.5 * (d == 0).sum()) / n),
        error=float(d.std(ddof=1)) / math.sqrt(n) if n > 1 else None,
    )


def sign_flip(differences: Sequence[float] | np.ndarray, seed: int, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the mean of paired differences under random signs, never 0.

    Exact by enumeration up to `EXACT` nonzero differences, otherwise (1 + hits) / (1 + resamples). A p below what the
    resamples can resolve is replaced by Hoeffding's upper bound on it, 2 exp(-sum(d)^2 / (2 sum(d^2))), so that Holm
    over many tests can still reject.
    """
    d = np.sort(_finite(differences))
    d = d[d != 0]
    if not len(d):
        return 1.0
    total = abs(d.sum()) - 1e-9 * np.abs(d).sum()  # a flip that ties but for rounding counts as a tie
    if len(d) <= EXACT:
        flips = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float((np.abs((1 - 2 * flips) @ d) >= total).mean())
    resamples = _affordable(resamples, len(d))
    bound = 2 * math.exp(-(total**2) / (2 * float(d @ d)))
    if bound * (1 + resamples) < 1:
        return max(bound, np.finfo(float).tiny)
    rng, hits = np.random.default_rng(seed), 0
    for count in _chunks(resamples, len(d)):
        flips = rng.integers(0, 2, (count, len(d)), dtype=np.int8).astype(np.float64)
        hits += int((np.abs(d.sum() - 2 * (flips @ d)) >= total).sum())
    return (1 + hits) / (1 + resamples)


def detectable(n: int, error: float, tests: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest mean difference that a two-sided t test of n values finds with this power.

    error: the standard error of the mean difference. tests: how many share alpha; at its strictest step Holm tests at
    alpha / tests. The usual approximation: (t quantiles of both errors) x standard error. At least two values.
    """
    from scipy.special import stdtrit

    return float((stdtrit(n - 1, 1 - alpha / tests / 2) + stdtrit(n - 1, power)) * error)


def fewest(tests: int = 1, alpha: float = ALPHA) -> int:
    """Pairs below which sign flips reach alpha / tests by no difference, however large: the least p is 2 / 2^n."""
    return math.floor(1 + math.log2(tests / alpha)) + 1


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm-adjusted p values in the given order: controls the chance of any false finding in the family. Holm 1979."""
    p = _finite(pvalues)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted.tolist()


def verdict(p: float, difference: float, better: Direction, alpha: float = ALPHA) -> Verdict:
    """What a comparison shows, in words. `p` is adjusted by the caller; `difference` is b - a and the word is b's."""
    if p >= alpha or difference == 0:
        return "no difference shown"
    if better == "none":
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def rank_groups(
    scores: Mapping[str, Mapping[str, float]], seed: int, better: Direction, alpha: float = ALPHA
) -> dict[str, int]:
    """Groups of systems that the data do not separate: {system: group}, 1 is the best, systems in order of their means.

    scores: {system: {sample: value}}; two systems are compared on the samples both have.
    A group is its best system (by mean) and every system not shown worse than it, by paired tests with Holm over all
    pairs of the column; the rest form the next groups in the same way. Systems that share no sample are not separated.
    A wide-spread system may so stand in a group above one of a better mean: it was not shown worse, the other was.
    """
    if better == "none":
        raise ValueError("a metric without a direction cannot rank")
    sign = 1 if better == "higher" else -1
    means = {name: sign * float(np.sort(_finite(list(found.values()))).mean()) for name, found in scores.items()}
    names = sorted(scores, key=lambda name: (-means[name], name))
    tests = _pair_tests(scores, names, seed, sign)
    adjusted = holm([p for p, _ in tests.values()])
    worse = {pair for pair, p, (_, difference) in zip(tests, adjusted, tests.values()) if p < alpha and difference < 0}
    groups: dict[str, int] = {}
    while len(groups) < len(names):
        rest = [name for name in names if name not in groups]
        number = max(groups.values(), default=0) + 1
        groups.update({name: number for name in rest if (rest[0], name) not in worse})
    return {name: groups[name] for name in names}


def _shared(first: Mapping[str, float], second: Mapping[str, float], seed: int, sign: int) -> tuple[float, float]:
    """(p, signed mean difference second - first) on the samples both have; (1, 0) where there are none."""
    ids = sorted(first.keys() & second.keys())
    if not ids:
        return 1.0, 0.0
    d = np.array([sign * (second[id] - first[id]) for id in ids])
    return sign_flip(d, seed), float(d.mean())


def _pair_tests(
    scores: Mapping[str, Mapping[str, float]], names: Sequence[str], seed: int, sign: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """(p, signed mean difference) of every pair of systems, in the order of `names`."""
    same: dict[frozenset[str], list[str]] = {}
    for name in names:
        same.setdefault(frozenset(scores[name]), []).append(name)
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for ids, members in same.items():
        if len(members) > 2 and len(ids) > EXACT:
            found |= _common_tests(scores, sorted(ids), members, seed, sign)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    return {pair: found.get(pair) or _shared(scores[pair[0]], scores[pair[1]], seed, sign) for pair in pairs}


def _common_tests(
    scores: Mapping[str, Mapping[str, float]], ids: Sequence[str], names: Sequence[str], seed: int, sign: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """`_shared` of all pairs of systems with values for the same samples, for the price of one test per system.

    A flipped sum of differences is a difference of flipped sums, so all pairs share one set of random signs. A pair is
    done early once its p is far above any level of interest. Pairs with few differences are left to `sign_flip`, which
    enumerates their signs (and are not in the result).
    """
    values = np.array([[sign * scores[name][id] for id in ids] for name in names]).T  # (samples, systems)
    n, resamples = len(ids), _affordable(RESAMPLES, len(ids))
    totals, hits, drawn, p = np.zeros((4, len(names), len(names)))
    waiting: dict[int, np.ndarray] = {}
    for i in range(len(names) - 1):
        d = values[:, i + 1 :] - values[:, i : i + 1]
        total = np.abs(d.sum(0)) - 1e-9 * np.abs(d).sum(0)
        squares = np.maximum((d**2).sum(0), np.finfo(float).tiny)
        many, bound = (d != 0).sum(0) > EXACT, 2 * np.exp(-(total**2) / (2 * squares))
        decided = bound * (1 + resamples) < 1
        p[i, i + 1 :] = np.where(many & decided, np.maximum(bound, np.finfo(float).tiny), 0)
        totals[i, i + 1 :], waiting[i] = total, i + 1 + np.flatnonzero(many & ~decided)
    rng, done = np.random.default_rng(seed), 0
    while done < resamples and any(map(len, waiting.values())):
        count = min(LOOK, resamples - done)
        flipped = (1.0 - 2 * rng.integers(0, 2, (count, n), dtype=np.int8)) @ values
        done += count
        for i, others in waiting.items():
            hits[i, others] += (np.abs(flipped[:, others] - flipped[:, i : i + 1]) >= totals[i, others]).sum(0)
            drawn[i, others] = done
            waiting[i] = others[hits[i, others] < CLEAR * done]
    p, means = np.where(drawn > 0, (1 + hits) / (1 + drawn), p), values.mean(0)
    return {(names[i], names[j]): (float(p[i, j]), float(means[j] - means[i])) for i, j in np.argwhere(p)}


def joint_difference(
    reduce: Callable[[Rows, Rows | None], float],
    a_rows: Rows,
    b_rows: Rows,
    reference_rows: Rows | None,
    seed: int,
    resamples: int = 200,
    level: float = 0.95,
) -> JointResult | None:
    """The *difference* reduce(b) - reduce(a) of a set metric with an interval; there is none for one set's value.

    Both sets hold the same samples in one order. Each resample takes one random half of the samples, without
    replacement, for a and b alike (and for the reference where it is of the same samples, else it stays whole).
    Half-samples' differences have the spread of the full difference's error. What a set of n adds to a Fréchet distance
    falls as 1 / n and grows with the set's own spread, so it does not cancel between sets of different spread: halves
    have twice as much of it, and it is taken off as 2 x whole - mean of halves. That holds where there are more samples
    than dimensions. Drawing with replacement would inflate a Fréchet distance beyond its own interval.
    Returns None below 2 x `MIN_SAMPLES` samples. Politis, Romano and Wolf 1999 (subsampling); Quenouille 1956 (bias).
    """
    from scipy.special import stdtr, stdtrit

    if a_rows.ids != b_rows.ids:
        raise ValueError("a joint interval needs the same samples in the same order on both sides")
    n = len(a_rows)
    if n < 2 * MIN_SAMPLES:
        return None
    tied = reference_rows is not None and reference_rows.ids == a_rows.ids
    rng = np.random.default_rng(seed)

    def half_difference() -> float:
        taken = np.sort(rng.permutation(n)[: n // 2]).tolist()
        reference = reference_rows.take(taken) if reference_rows is not None and tied else reference_rows
        return reduce(b_rows.take(taken), reference) - reduce(a_rows.take(taken), reference)

    whole = reduce(b_rows, reference_rows) - reduce(a_rows, reference_rows)
    halves = np.array([half_difference() for _ in range(resamples)])
    difference, error = float(2 * whole - halves.mean()), float(halves.std(ddof=1))
    wide = float(stdtrit(n - 1, (1 + level) / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(difference) / error)) if error else float(difference == 0)
    return JointResult(
        n, difference, Interval(difference - wide, difference + wide, "joint half-samples", level), error, p
    )


def half_split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random halves of range(n), each sorted and of n // 2: what a metric's floor is computed between."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 : 2 * (n // 2)])


def _bca(values: np.ndarray, rng: np.random.Generator, level: float, resamples: int) -> Interval:
    """BCa interval of the mean of sorted values that are not all equal."""
    n = len(values)
    resamples = _affordable(resamples, n)
    means = np.concatenate([values[rng.integers(0, n, (k, n), dtype=np.int32)].mean(1) for k in _chunks(resamples, n)])
    return _bca_of(values, means, level)


def _bca_of(values: np.ndarray, means: np.ndarray, level: float) -> Interval:
    """BCa interval from the means of the resamples."""
    from scipy.special import ndtr, ndtri, stdtrit

    n, mean, resamples = len(values), values.mean(), len(means)
    tied = np.abs(means - mean) <= TIE * (values[-1] - values[0])  # or rounding would decide on which side they are
    below = ((means < mean) & ~tied).sum() / resamples + 0.5 * tied.mean()
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    centred = values - mean
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)  # jackknife of a mean, in closed form
    z = math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + level) / 2)
    shifted = bias + np.array([-z, z])
    levels = ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
    low, high = np.quantile(means, levels)
    return Interval(float(low), float(high), "bca", level)


def _paired_proportions(d: np.ndarray, level: float) -> Interval | None:
    """Interval of the mean of differences in {-1, 0, 1}: Wald with one success and failure added to each discord."""
    n = len(d)
    if n < MIN_SAMPLES:
        return None
    gained, lost = ((d > 0).sum() + 1) / (n + 2), ((d < 0).sum() + 1) / (n + 2)
    half = _normal_quantile((1 + level) / 2) * math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2))
    centre = gained - lost
    return Interval(float(max(centre - half, -1)), float(min(centre + half, 1)), "paired proportions", level)


def _items(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray:
    """One value per item: the values themselves, or the mean of each cluster, in order of the clusters' names."""
    values = _finite(values)
    if clusters is None:
        return values
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    members: dict[Hashable, list[float]] = {}
    for name, value in zip(clusters, values):
        members.setdefault(name, []).append(value)
    return np.array([np.sort(members[name]).mean() for name in sorted(members, key=str)])


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """float64 vector; NaN and infinity are refused."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError("statistics need finite values; leave out the samples that have none")
    return array


def _affordable(resamples: int, n: int) -> int:
    """As many resamples of n values as asked for and as `BUDGET` allows."""
    return min(resamples, max(2_000, BUDGET // n))


def _chunks(resamples: int, n: int) -> Iterator[int]:
    """Sizes of portions of the resamples, so that no more than `CHUNK` values are drawn at once."""
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(level))
