"""How fast is `avbench eval`? Clips per second, decodes per clip, forward passes and peak memory, from an empty store.

    python benchmarks/evaluate.py FOLDER SUITE [METRICS] [--threads N] [--repeat N]
    python benchmarks/evaluate.py --clatter 64

The first form scores a folder of clips; the second renders clips of the embedded suite first. Each repetition runs in
a fresh process with an empty feature store. Not a test: these figures belong to one machine on one day.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any


def once(model: str, suite: str, metrics: str, limit: int | None, threads: int, cache: str, queue: Any) -> None:
    """One evaluation in this process; puts its figures in the queue."""
    os.environ["AVBENCH_CACHE"] = cache
    import avbench

    began, used = time.perf_counter(), time.process_time()
    run = avbench.evaluate(
        model, suite, metrics, device="cpu", limit=limit, threads=threads, out=Path(cache) / "runs", allow_failed="100%"
    )
    seconds, used = time.perf_counter() - began, time.process_time() - used
    work, clips = run.manifest["work"], run.manifest["counts"]["ok"]
    queue.put(
        {
            "clips": clips,
            "seconds": seconds,
            "cpu_seconds": used,
            "clips_per_second": clips / seconds,
            "decodes_per_clip": work["decodes"] / max(1, clips),
            "forwards": work["forwards"],
            "items": work["items"],
            "distinct": work["distinct"],
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )


def measure(model: str, suite: str, metrics: str, limit: int | None, threads: int) -> dict[str, Any]:
    """`once` in a process of its own, with an empty store."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as cache:
        process = context.Process(target=once, args=(model, suite, metrics, limit, threads, cache, queue))
        process.start()
        found = queue.get()
        process.join()
    return found


def clatter(count: int, folder: Path) -> None:
    """Render the first clips of the embedded suite into a folder."""
    from avbench.encode import write_clip
    from avbench.suite import load_suite

    suite = load_suite("clatter")
    assert suite.render is not None
    for sample in suite.samples[:count]:
        write_clip(folder / f"{sample.id}.mp4", suite.render(sample))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("suite", nargs="?")
    parser.add_argument("metrics", nargs="?", default="fast")
    parser.add_argument("--clatter", type=int, metavar="N")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    if not chosen.clatter and not (chosen.model and chosen.suite):
        parser.error("give FOLDER and SUITE, or --clatter N")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.clatter:
            clatter(chosen.clatter, Path(folder))
            chosen.model, chosen.suite = folder, "clatter"
        runs = [
            measure(chosen.model, chosen.suite, chosen.metrics, chosen.clatter, chosen.threads)
            for _ in range(chosen.repeat)
        ]
    rates = [run["clips_per_second"] for run in runs]
    summary = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "metrics": chosen.metrics,
        "threads": chosen.threads,
        **{key: runs[0][key] for key in ("clips", "decodes_per_clip", "forwards", "items", "distinct")},
        "clips_per_second": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "peak_mb": max(run["peak_mb"] for run in runs),
    }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
