"""Run folders made without an evaluation: what a leaderboard reads, with values of the test's choosing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avbench.run import write_table
from avbench.store import write_json

Scores = Mapping[str, Mapping[str, float | None]]


def synthetic_run(
    out: Path,
    model: str,
    scores: Scores,
    *,
    suite: str = "made",
    sets: Sequence[Mapping[str, Any]] = (),
    tags: Mapping[str, Sequence[str]] | None = None,
    stamp: int = 0,
    suite_digest: str = "d" * 64,
    model_digest: str = "m",
    **changes: Any,
) -> Path:
    """A run folder. scores: {metric or metric.field: {sample: value, None for n/a}}; changes: of the manifest."""
    folder = out / suite / model / f"{stamp:08d}-0123456789"
    folder.mkdir(parents=True)
    samples = list(dict.fromkeys(sample for values in scores.values() for sample in values))
    rows = [
        {
            "sample": sample, "metric": name.partition(".")[0], "field": name.partition(".")[2], "value": value,
            "status": "ok" if value is not None else "not_applicable",
            "reason": "" if value is not None else "no_audio: the clip has no sound",
        }
        for name, values in scores.items()
        for sample, value in values.items()
    ]  # fmt: skip
    described = [
        {
            "sample": s, "index": i, "status": "ok", "reason": "", "sha256": f"{s}{model}",
            "tags": [*(tags or {}).get(s, ())],
        }
        for i, s in enumerate(samples)
    ]  # fmt: skip
    write_table(folder / "scores.parquet", "scores", rows)
    write_table(folder / "samples.parquet", "samples", described)
    write_table(folder / "sets.parquet", "sets", sets)
    ids = dict.fromkeys([*(name.partition(".")[0] for name in scores), *(row["metric"] for row in sets)])
    manifest = {
        "schema": 1, "status": "complete", "started": f"2026-01-01T00:00:{stamp:02d}Z", "digest": "0123456789abcdef",
        "suite": {"name": suite, "version": "1", "digest": suite_digest, "samples": len(samples), "licence": ""},
        "model": {"name": model, "digest": model_digest, "config": {"kind": "folder"}},
        "metrics": [{"id": name, "version": 1} for name in ids],
        "weights": [], "unverified_weights": [], "precision": "fp32", "seed": 0, "limit": None,
        "environment": {"decoder": "made", "avbench": "0", "device": "cpu", "python": "3", "packages": {}},
        "counts": {"expected": len(samples), "ok": len(samples), "failed": 0, "missing": 0, "not_applicable": 0},
    }  # fmt: skip
    write_json(folder / "run.json", {**manifest, **changes})
    return folder
