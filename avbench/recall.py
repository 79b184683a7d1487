"""Features of a finished run, found again in the store by what the run recorded of its clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from avbench.metric import Metric, features
from avbench.run import Run

TEXTS = ("text", "video_text", "audio_text", "speech_text", "language")


def recall(run: Run, metric: Metric) -> Callable[[str, str], dict[str, Any] | None]:
    """(sample id, digest column) -> the metric's features of that clip, None where one is not in the store.

    The digest column is "sha256" for the generated clip and "reference_sha256" for the real one.
    """
    from avbench.plan import Plan, Subject
    from avbench.store import Store
    from avbench.suite import Sample
    from avbench.weights import Located

    weights = {w["name"]: Located(w["name"], Path(), w["sha256"], w["verified"]) for w in run.manifest["weights"]}
    decoder = run.manifest["environment"]["decoder"]
    plan = Plan([metric], [], Store(), weights, run.manifest["precision"], decoder)
    rows = {row["sample"]: row for row in run.records("samples")}

    def load(id: str, column: str) -> dict[str, Any] | None:
        row = rows[id]
        if not row[column]:
            return None
        texts: dict[str, Any] = {name: row[name] or "" for name in TEXTS}
        one = Subject("generated", Sample(id, int(row["index"]), **texts), None, row[column])
        keys = {name: plan.key(one, feature) for name, feature in features(metric).items()}
        if any(key not in plan.store for key in keys.values()):
            return None
        return {name: plan.store.get(key) for name, key in keys.items()}

    return load
