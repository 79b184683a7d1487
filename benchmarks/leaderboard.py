"""How long a large leaderboard takes to open, the first time and again, and its peak memory.

    python -m benchmarks.leaderboard [--models 200] [--samples 1000]

Made run folders with eleven sample metrics, models a hundredth of a deviation apart, and every pair of models tested.
Each opening is the command in a process of its own, timed from its start to its end. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

METRICS = (
    "av_align", "temporal_flickering", "integrity", "tv_ib", "ta_ib", "av_ib", "clip_score", "clap_score",
    "avh_score", "javis_score", "desync",
)  # fmt: skip


def runs(out: Path, models: int, samples: int) -> None:
    """Made run folders; scores share the samples' difficulty, as those of real models do."""
    from tests.synthetic import synthetic_run

    rng = np.random.default_rng(0)
    ids = [f"s{index:05d}" for index in range(samples)]
    shared = rng.normal(0, 1, samples)
    for model in range(models):
        scores = {
            name: dict(zip(ids, (shared + 0.01 * model + rng.normal(0, 0.5, samples)).tolist())) for name in METRICS
        }
        synthetic_run(out, f"m{model:03d}", scores, stamp=model % 60)


def opened(out: Path, cache: Path, *more: str) -> dict[str, Any]:
    """Seconds and peak memory of one opening."""
    words = [sys.executable, "-m", "avbench", "leaderboard", "--suite", "made", "--out", str(out), *more]
    started = time.perf_counter()
    process = subprocess.Popen(words, env={**os.environ, "AVBENCH_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"the command failed: {' '.join(words)}")
    return {"seconds": round(seconds, 1), "CPU seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak MB": round(usage.ru_maxrss / 1024)}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out, cache = Path(temporary) / "runs", Path(temporary) / "cache"
        runs(out, chosen.models, chosen.samples)
        size = {"models": chosen.models, "samples": chosen.samples, "metrics": len(METRICS)}
        for label in ("first", "again"):
            print(json.dumps({**size, "opening": label, **opened(out, cache, "--format", "csv")}), flush=True)


if __name__ == "__main__":
    main()
