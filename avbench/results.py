"""A run in numbers: what `eval` prints, `report` shows and `--json` returns, computed once here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from avbench.run import Run

if TYPE_CHECKING:
    import pandas as pd

PREFIXES = {"P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0}


@dataclass(frozen=True)
class Summary:
    """One metric (or one of its fields) on one subset of a run. `value` is None where no clip has one.

    n_ref, floor, itself: of set metrics: real clips, the distance between their halves, and from them to themselves.
    """

    metric: str
    field: str
    subset: str
    kind: str
    better: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    failed: int
    missing: int
    not_applicable: int
    note: str = ""
    n_ref: int | None = None
    floor: float | None = None
    itself: float | None = None


def summarise(run: Run, subset: str = "") -> list[Summary]:
    """All metrics of a run on one subset ("" for all samples), in the order of the run."""
    from avbench.registry import metrics

    found: list[Summary] = []
    for name in [one["id"] for one in run.manifest["metrics"]]:
        metric = metrics.get(name)
        card, doubt = metric.card, "; ".join(filter(None, (unverified(run, metric), narrow(metric.card))))
        rows = sample_summaries(run, card, subset) if card.kind == "sample" else set_summaries(run, card, subset)
        found += [replace(row, note="; ".join(filter(None, (doubt, row.note)))) for row in rows]
    return found


def unverified(run: Run, metric: Any) -> str:
    """ "unverified weights" where a checkpoint behind this metric is not, or not known to be, the published one."""
    from avbench.metric import features
    from avbench.plan import encoders

    doubtful = set(run.manifest["unverified_weights"])
    used = {name for encoder in encoders(features(metric).values()) for name in encoder.weights}
    return "unverified weights" if doubtful & used else ""


def narrow(card: Any) -> str:
    """Where a metric that means something on some suites alone does."""
    return f"valid on {', '.join(card.suites)} only" if card.suites else ""


def chosen(run: Run, subset: str) -> pd.Series:
    """Ids of the samples of a subset."""
    samples = run.samples
    return samples["sample"] if not subset else samples["sample"][samples["tags"].map(lambda tags: subset in tags)]


def sample_summaries(run: Run, card: Any, subset: str) -> list[Summary]:
    """Mean and interval of each field over the samples that have a value."""
    scores = run.scores[run.scores["metric"] == card.id]
    scores = scores[scores["sample"].isin(chosen(run, subset))]
    status = scores["status"].value_counts()
    bad = {name: int(status.get(name, 0)) for name in ("failed", "missing", "not_applicable")}
    ok = scores[scores["status"] == "ok"]
    fields = list(dict.fromkeys(["", *ok["field"]]))
    return [field_summary(card, field, subset, ok[ok["field"] == field]["value"].to_numpy(), bad) for field in fields]


def field_summary(card: Any, field: str, subset: str, values: np.ndarray, bad: dict[str, int]) -> Summary:
    """Mean, interval and counts of one field."""
    from avbench.stats import mean_interval, reason

    outcomes = card.shares and bool(np.isin(values, (0, 1)).all())
    interval = mean_interval(values, seed=0, proportion=outcomes) if len(values) else None
    note = reason(len(values)) if len(values) else ""
    value = float(values.mean()) if len(values) else None
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Summary(
        card.id, field, subset, "sample", card.better if not field else "none", card.unit if not field else "",
        value, low, high, len(values), note=note, **bad,
    )  # fmt: skip


def set_summaries(run: Run, card: Any, subset: str) -> list[Summary]:
    """The stored value of a set metric with what qualifies it; such values carry no interval."""
    return [
        Summary(
            card.id, row["field"], subset, "set", card.better, card.unit, row["value"], None, None, row["n"],
            **{why: row.get(why) or 0 for why in ("failed", "missing", "not_applicable")}, note=qualified(row),
            n_ref=row["n_ref"], floor=row["floor"], itself=row["self"],
        )
        for row in run.records("sets")
        if (row["metric"], row["subset"]) == (card.id, subset)
    ]  # fmt: skip


def qualified(row: Mapping[str, Any]) -> str:
    """What a reader must know of a set metric's value, most important first: warnings, floor, self-distance."""
    said = [row["notes"] or "", row["reason"] or ""]
    if row["floor"] is not None:
        said.append(f"reference halves {row['floor']:.4g} (n = {row['n_ref'] // 2} each)")
    if row["self"] is not None:
        said.append(f"reference to itself {row['self']:.2g}")
    return "; ".join(filter(None, said))


def document(run: Run) -> dict[str, Any]:
    """The run as one JSON document."""
    subsets = sorted({tag for tags in run.samples["tags"] for tag in tags})
    return {
        "run": str(run.folder),
        **{
            key: run.manifest.get(key) for key in ("status", "suite", "model", "counts", "unverified_weights", "digest")
        },
        "results": [asdict(row) for subset in ["", *subsets] for row in summarise(run, subset)],
    }


def number(value: float | None, digits: int = 4) -> str:
    """A value for people: four significant digits, "n/a" for none."""
    return "n/a" if value is None else f"{value:.{digits}g}"


def quantity(amount: float) -> str:
    """A count with a decimal prefix: 1.2 T, 34 M."""
    power = next((p for p in ("P", "T", "G", "M", "k") if amount >= PREFIXES[p]), "")
    return f"{amount / PREFIXES[power]:.3g} {power}"


def arrow(better: str) -> str:
    """The direction in which a metric is better."""
    return {"higher": "↑", "lower": "↓"}.get(better, " ")
