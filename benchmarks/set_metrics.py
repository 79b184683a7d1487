"""What set metrics cost from cached features: seconds and memory by number of clips and dimensions.

    python benchmarks/set_metrics.py [--n 10000] [--dims 400,1024,2048]

Features are synthetic. Each case runs in its own process, so that its peak memory is its own; the features themselves
are counted apart. One JSON line a case.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np


def cases() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """What is measured: the defaults, and the published arithmetic they replace."""
    from avbench.metrics import distances as d

    return {
        "frechet": d.frechet_distance,
        "frechet from statistics": lambda a, b: d.frechet_distance(d.Moments.of(a), d.Moments.of(b)),
        "kernel": d.polynomial_mmd,
        "frechet, scipy sqrtm": d.frechet_sqrtm,
        "frechet, float32 svd": d.frechet_thresholded,
    }


def features(n: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 sets with a falling spectrum and a small difference."""
    rng = np.random.default_rng(0)
    scale = (1.0 / np.sqrt(np.arange(1, dims + 1))).astype(np.float32)
    a, b = (rng.standard_normal((n, dims), dtype=np.float32) * scale for _ in range(2))
    return a + np.float32(0.01), b


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: str, n: int, dims: int) -> dict[str, object]:
    """Value, seconds by the clock and of the processor, memory beyond the features."""
    function = cases()[case]
    a, b = features(n, dims)
    before, start, used = peak(), time.perf_counter(), time.process_time()
    value = function(a, b)
    seconds = time.perf_counter() - start
    return {
        "case": case, "n": n, "dims": dims, "value": round(value, 6), "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
        "features_mb": round(2 * a.nbytes / 2**20), "extra_mb": round(peak() - before),
    }  # fmt: skip


def main() -> None:
    """Run every case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--dims", default="400,1024,2048")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "DIMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], options.n, int(options.one[1]))))
        return
    for dims in options.dims.split(","):
        for case in cases():
            command = [sys.executable, __file__, "--n", str(options.n), "--one", case, dims]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
