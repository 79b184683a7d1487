"""`compare`: two runs on the samples both have a value for, with statistics that fit.

Sample metrics are paired sample by sample. Set metrics are recomputed on the samples both runs have, and only their
difference carries an interval, by joint resampling. What cannot be compared is refused or left out with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from avbench.errors import NotComparable, SampleError
from avbench.metric import Metric, Rows, features
from avbench.recall import recall
from avbench.references import reopened
from avbench.run import Run
from avbench.stats import MIN_SAMPLES, detectable, fewest, holm, joint_difference, paired, verdict

SEED = 0


@dataclass(frozen=True)
class Comparison:
    """One metric on one subset: B against A, `difference` = B - A.

    a, b:       means over the shared samples (set metrics: values on the shared samples).
    n:          samples both have; only_a, only_b: samples with a value on one side alone.
    estimate:   of set metrics, the difference without the bias of a set of n; what the interval and p are of.
    error:      standard error of the difference (set metrics: of the estimate).
    p, holm:    sign-flip permutation p (set metrics: of joint half-samples), and adjusted over all rows.
    detectable: a true difference of this size would have been shown in four cases of five, among so many rows.
    verdict:    "better", "worse", "no difference shown", "no verdict: reason", or "n/a: reason".
    """

    metric: str
    subset: str
    kind: str
    better: str
    unit: str
    verdict: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    estimate: float | None = None
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    holm: float | None = None
    win_rate: float | None = None
    error: float | None = None
    detectable: float | None = None
    n: int = 0
    only_a: int = 0
    only_b: int = 0
    note: str = ""


def compare(a: Run, b: Run, by: Sequence[str] = ()) -> list[Comparison]:
    """Compare B with A on all samples, or on each subset of `by`; Holm over all rows shown."""
    check_comparable(a, b)
    rows = [one_metric(a, b, name, subset) for subset in (by or [""]) for name in shared_metrics(a, b)]
    return adjusted(rows)


def check_comparable(a: Run, b: Run) -> None:
    """Refuse runs that measure different things."""
    for what, first, second in (
        ("suites", a.manifest["suite"]["digest"], b.manifest["suite"]["digest"]),
        ("precisions", a.manifest["precision"], b.manifest["precision"]),
        ("decoders", a.manifest["environment"]["decoder"], b.manifest["environment"]["decoder"]),
    ):
        if first != second:
            names = f"{a.suite}, digest {first[:12]}; {b.suite}, digest {second[:12]}" if what == "suites" else ""
            raise NotComparable(
                f"cannot compare: different {what} ({names or f'{first}; {second}'})\n"
                "  score both again with one setting; cached features are used"
            )
    if not shared_metrics(a, b):
        raise NotComparable(f"cannot compare: {a.folder} and {b.folder} have no metric in common")


def shared_metrics(a: Run, b: Run) -> list[str]:
    """Metrics of both runs, in A's order; other versions or weights of one metric are refused."""
    other = {one["id"]: one["version"] for one in b.manifest["metrics"]}
    for one in a.manifest["metrics"]:
        if one["id"] in other and other[one["id"]] != one["version"]:
            raise NotComparable(
                f"cannot compare: {one['id']} has version {one['version']} in {a.folder}\n"
                f"  and {other[one['id']]} in {b.folder}\n"
                f"  score both again with --metrics {one['id']}"
            )
    weights = {w["name"]: w["sha256"] for w in b.manifest["weights"]}
    for one in a.manifest["weights"]:
        if weights.get(one["name"], one["sha256"]) != one["sha256"]:
            raise NotComparable(f"cannot compare: the runs used different weights {one['name']!r}")
    return [one["id"] for one in a.manifest["metrics"] if one["id"] in other]


def one_metric(a: Run, b: Run, name: str, subset: str) -> Comparison:
    """One row of the comparison."""
    from avbench.registry import metrics

    metric = metrics.get(name)
    compare_kind = sample_row if metric.card.kind == "sample" else set_row
    return compare_kind(a, b, metric, subset)


def blank(metric: Metric, subset: str, why: str) -> Comparison:
    """A row without values."""
    card = metric.card
    return Comparison(card.id, subset, card.kind, card.better, card.unit, f"n/a: {why}")


def values(run: Run, name: str, subset: str) -> tuple[dict[str, float], str]:
    """{sample: value} of the main field, and the commonest reason of those without one."""
    scores = run.scores
    scores = scores[(scores["metric"] == name) & (scores["field"] == "")]
    if subset:
        members = set(run.samples["sample"][run.samples["tags"].map(lambda tags: subset in tags)])
        scores = scores[scores["sample"].isin(members)]
    ok = scores[scores["status"] == "ok"]
    reasons = scores[scores["status"] != "ok"]["reason"].value_counts()
    return dict(zip(ok["sample"], ok["value"])), str(reasons.index[0]) if len(reasons) else "no samples"


def sample_row(a: Run, b: Run, metric: Metric, subset: str) -> Comparison:
    """Paired statistics of a sample metric."""
    card = metric.card
    (first, why_a), (second, why_b) = values(a, card.id, subset), values(b, card.id, subset)
    ids = sorted(first.keys() & second.keys())
    if not ids:
        apart = f"no sample that both scored (A {len(first)}, B {len(second)}: other prompts)"
        why = f"{a.model}: {why_a}" if not first else f"{b.model}: {why_b}" if not second else apart
        return blank(metric, subset, why)
    found = paired([first[i] for i in ids], [second[i] for i in ids], SEED, card.better, shares=card.shares)
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return Comparison(
        card.id, subset, card.kind, card.better, card.unit, "", found.mean_a, found.mean_b, found.difference,
        relative=found.relative_change, low=low, high=high, p=found.p, win_rate=found.win_rate, error=found.error,
        n=found.n, only_a=len(first) - len(ids), only_b=len(second) - len(ids),
    )  # fmt: skip


def set_row(a: Run, b: Run, metric: Metric, subset: str) -> Comparison:
    """A set metric on the shared samples, its difference with an interval by joint half-samples."""
    card = metric.card
    try:
        rows_a, rows_b, reference = shared_rows(a, b, metric, subset)
        first, second = float(metric.reduce(rows_a, reference)), float(metric.reduce(rows_b, reference))
        open_question = unresolved(metric, rows_a, rows_b, reference)
        found = None if open_question else joint_difference(metric.reduce, rows_a, rows_b, reference, SEED)
    except (SampleError, NotComparable) as error:
        return blank(metric, subset, str(error))
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return blank(metric, subset, f"metric.error: {error}")
    row = Comparison(
        card.id, subset, card.kind, card.better, card.unit, "", first, second, second - first,
        relative=(second - first) / abs(first) if first else None, n=len(rows_a),
        note="; ".join(metric.notes(rows_b, reference)) if hasattr(metric, "notes") else "",
    )  # fmt: skip
    if found is None:
        return replace(row, verdict=f"no verdict: {open_question or f'n = {row.n}, below {2 * MIN_SAMPLES}'}")
    return replace(
        row, estimate=found.difference, low=found.interval.low, high=found.interval.high, p=found.p, error=found.error
    )


def unresolved(metric: Metric, first: Rows, second: Rows, reference: Rows | None) -> str:
    """Why sets of this size cannot be told apart by this metric, "" where they can."""
    if not hasattr(metric, "unresolved"):
        return ""
    return metric.unresolved(first, reference) or metric.unresolved(second, reference)


def shared_rows(a: Run, b: Run, metric: Metric, subset: str) -> tuple[Rows, Rows, Rows | None]:
    """Features of both runs on the samples that both have in the store, and those of the references."""
    loaders = [recall(run, metric) for run in (a, b)]
    ids = [i for i in sample_ids(a, subset) if all(load(i, "sha256") for load in loaders)]
    if not ids:
        raise SampleError(
            "set.empty", "no sample has this metric's features in the store on both sides; score both again"
        )
    found = [stacked(metric, ids, (load(i, "sha256") for i in ids)) for load in loaders]
    if not metric.card.reference:
        return found[0], found[1], None
    reference = real_rows(a, b, metric, subset)
    if not metric.card.paired:
        return found[0], found[1], reference
    from avbench.score import aligned

    first, real = aligned(found[0], reference)
    return first, aligned(found[1], reference)[0], real


def real_rows(a: Run, b: Run, metric: Metric, subset: str) -> Rows:
    """The references of both runs, from a pack or from the store; `NotComparable` where they are not the same."""
    ids = sample_ids(a, subset)
    packs = [reopened(run.manifest, metric.card.id) for run in (a, b)]
    digests = [pack.digest if pack else [media_of(run)[i] for i in ids] for run, pack in zip((a, b), packs)]
    if digests[0] != digests[1]:
        raise NotComparable("the runs used different references; score both again with the same")
    if packs[0] is not None:
        return packs[0].rows(metric, ids)[0]
    load = recall(a, metric)
    real = [(i, value) for i in ids if (value := load(i, "reference_sha256"))]
    if not real:
        raise SampleError("set.no_reference", "the references' features are not in the store; score again")
    return stacked(metric, [i for i, _ in real], (value for _, value in real))


def media_of(run: Run) -> dict[str, str | None]:
    """{sample id: digest of its real clip}."""
    return {row["sample"]: row["reference_sha256"] for row in run.records("samples")}


def sample_ids(run: Run, subset: str) -> list[str]:
    """Sample ids of a subset, in suite order."""
    rows = run.samples
    return list(rows["sample"] if not subset else rows["sample"][rows["tags"].map(lambda tags: subset in tags)])


def stacked(metric: Metric, ids: Sequence[str], found: Iterable[dict[str, np.ndarray] | None]) -> Rows:
    """Per-sample features as rows."""
    columns: dict[str, list[Any]] = {name: [] for name in features(metric)}
    for one in found:
        for name, value in (one or {}).items():
            columns[name].append(value)
    return Rows(ids, columns)


def adjusted(rows: list[Comparison]) -> list[Comparison]:
    """Holm over the p values shown, and what each row deserves by it: a verdict and a detectable difference."""
    tested = [row for row in rows if row.p is not None]
    corrected = dict(zip(map(id, tested), holm([row.p for row in tested if row.p is not None]))) if tested else {}
    return [judged(row, corrected[id(row)], len(tested)) if id(row) in corrected else row for row in rows]


def judged(row: Comparison, p: float, tests: int) -> Comparison:
    """A row with its adjusted p, verdict and detectable difference among so many tests."""
    difference = row.difference if row.estimate is None else row.estimate
    within_reach = row.kind == "set" or row.n >= fewest(tests)
    return replace(
        row, holm=p, verdict=verdict(p, difference or 0.0, row.better),  # type: ignore[arg-type]
        detectable=detectable(row.n, row.error, tests) if row.error and within_reach else None,
    )  # fmt: skip


def document(a: Run, b: Run, rows: Sequence[Comparison]) -> dict[str, Any]:
    """The comparison as one JSON document."""
    return {"a": str(a.folder), "b": str(b.folder), "suite": a.suite, "rows": [asdict(row) for row in rows]}
