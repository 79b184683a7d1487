"""How metrics agree with one another: over the samples of a model, and over models.

The two questions differ. Within a model, two metrics agree if they pick out the same clips; over models, if they put
models in the same order. Pooling all clips of all models would mix both, so within-model correlations are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from avbench.entries import Entry
from avbench.leaderboard import Boards, column_of

MIN_PAIRS = 10  # clips of a model that both metrics scored
MIN_MODELS = 4


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of two metrics, its sign turned so that positive means agreement on what is better.

    within:  mean over models of the correlation over their samples, None where no model has `MIN_PAIRS` samples.
    between: correlation of the models' means, None below `MIN_MODELS` models.
    """

    first: str
    second: str
    within: float | None
    samples: int
    models: int
    between: float | None
    means: int


def correlations(boards: Boards) -> list[Correlation]:
    """All pairs of sample metrics on a leaderboard that have a direction."""
    columns = []
    for metric in boards.metrics:
        column, entries, _ = column_of(boards.entries, metric, "", [])
        if column.kind == "sample" and column.better != "none":
            sign = 1 if column.better == "higher" else -1
            columns.append((metric, sign, {entry.model: entry for entry in entries}))
    return [pair(*one, *other) for one, other in combinations(columns, 2)]


def pair(
    first: str, sign: int, mine: dict[str, Entry], second: str, other_sign: int, theirs: dict[str, Entry]
) -> Correlation:
    """One pair of metrics."""
    within: list[float] = []
    means: list[tuple[float, float]] = []
    samples = 0
    for model in sorted(mine.keys() & theirs.keys()):
        a, b = mine[model].values(first, ""), theirs[model].values(second, "")
        ids = sorted(a.keys() & b.keys())
        if not ids:
            continue
        x, y = np.array([a[i] for i in ids]), np.array([b[i] for i in ids])
        means.append((float(x.mean()), float(y.mean())))
        found = spearman(x, y) if len(ids) >= MIN_PAIRS else None
        if found is not None:
            within.append(found)
            samples += len(ids)
    turned = sign * other_sign
    between = spearman(*np.array(means).T) if len(means) >= MIN_MODELS else None
    return Correlation(
        first, second, turned * float(np.mean(within)) if within else None, samples, len(within),
        None if between is None else turned * between, len(means),
    )  # fmt: skip


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Correlation of ranks (ties share their mean rank), None where one side is constant."""
    from scipy.stats import rankdata

    if (x == x[0]).all() or (y == y[0]).all():
        return None
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
