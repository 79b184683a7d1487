"""What does a lower precision change? Features and sample metrics of the same clips, against fp32.

    python -m benchmarks.precision FOLDER [--metrics NAMES] [--precision bf16] [--device cpu] [--keep WEIGHTS]

Run from the repository root, whose tests give the hashed weights: rounding does to them what it does to trained ones of
the same scale, but their features carry less meaning, so a metric's deviation is to be read beside its own spread.
Prints two Markdown tables: per encoder the relative L2 deviation of an item's feature (median and maximum over items)
and the seconds of its forwards in both precisions; per metric the deviation of its value, largest over the clips.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avbench.errors import SampleError
from avbench.execute import PRECISIONS, Executor, Settings
from avbench.plan import Plan
from avbench.registry import metrics
from avbench.score import score
from benchmarks.side_by_side import plan_of, weights

METRICS = "av_ib@javisbench,clip_score@javisbench,desync@javisbench,fvd@javisbench,fad@javisbench"


def computed(plan: Plan, settings: Settings) -> tuple[dict[str, dict[Any, Any]], dict[str, float]]:
    """{clip: {feature: value}} and the seconds of every stage."""
    executor = Executor(plan, settings)
    found: dict[str, dict[Any, Any]] = {}
    for one, outcomes in executor.execute():
        found.setdefault(one.sample.id, {}).update(outcomes)
    return found, executor.counts.seconds


def deviations(exact: dict[Any, Any], other: dict[Any, Any]) -> dict[str, list[float]]:
    """{encoder: relative L2 deviation of each item}."""
    found: dict[str, list[float]] = {}
    for feature, value in exact.items():
        if isinstance(value, np.ndarray) and feature.encoder.weights:
            pairs = zip(value.reshape(len(value), -1), other[feature].reshape(len(value), -1), strict=True)
            gaps = (float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)
            found.setdefault(feature.encoder.name, []).extend(gaps)
    return found


def values(plan: Plan, found: dict[str, dict[Any, Any]]) -> dict[tuple[str, str], float]:
    """{metric, clip: main value} of the sample metrics, where there is one."""

    def value(sample: str, feature: Any) -> Any:
        outcome = found[sample][feature]
        if isinstance(outcome, SampleError):
            raise outcome
        return outcome

    scored = {}
    for metric in plan.metrics:
        for one in plan.subjects if metric.card.kind == "sample" else []:
            (row, *_) = score(metric, one, partial(value, one.sample.id))
            if row.value is not None:
                scored[metric.card.id, one.sample.id] = row.value
    return scored


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metrics", default=METRICS)
    parser.add_argument("--precision", default="bf16", choices=sorted(PRECISIONS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", type=Path, help="folder for the hashed weights, to use them again")
    chosen = parser.parse_args()
    names = tuple(name for name in chosen.metrics.split(",") if metrics.get(name))
    paths = sorted(chosen.folder.glob("*.mp4"))
    with tempfile.TemporaryDirectory() as temporary:
        located = weights(chosen.keep or Path(temporary))
        sides = {}
        for precision in ("fp32", chosen.precision):
            plan = plan_of(names, paths, located, Path(temporary) / precision)
            plan.precision = precision
            sides[precision] = (plan, *computed(plan, Settings(device=chosen.device, precision=precision)))
    (plan, exact, slow), (_, rounded, fast) = sides["fp32"], sides[chosen.precision]
    gaps: dict[str, list[float]] = {}
    for clip, features in exact.items():
        for encoder, found in deviations(features, rounded[clip]).items():
            gaps.setdefault(encoder, []).extend(found)
    print(
        f"{len(paths)} clips, {chosen.device}\n\n| encoder | items | median | maximum | s fp32 | s {chosen.precision} |"
    )
    print("|---|---|---|---|---|---|")
    for encoder, found in gaps.items():
        times = f"{slow[f'forward {encoder}']:.2f} | {fast[f'forward {encoder}']:.2f}"
        print(f"| {encoder} | {len(found)} | {np.median(found):.1e} | {max(found):.1e} | {times} |")
    print(f"\n| metric | clips | values in fp32 | largest deviation in {chosen.precision} |\n|---|---|---|---|")
    before, after = values(plan, exact), values(plan, rounded)
    for name in dict.fromkeys(metric for metric, _ in before):
        clips = [clip for metric, clip in before if metric == name]
        own = [before[name, clip] for clip in clips]
        gap = max(abs(before[name, clip] - after[name, clip]) for clip in clips)
        print(f"| {name} | {len(clips)} | {min(own):.4g} to {max(own):.4g} | {gap:.2g} |")


if __name__ == "__main__":
    main()
