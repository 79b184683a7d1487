"""Write docs/distribution.md: faults of published set metrics, reproduced by our code, and the defaults beside them.

    python tools/distribution_page.py [--cost]

Every experiment below is a function that returns the numbers its section prints; they are written to
docs/data/distribution.json and put into tools/distribution_page.md. `--cost` also measures benchmarks/set_metrics.py
anew (docs/data/set_metrics.json).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from avbench.metrics import distances as d

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
PAGE = ROOT / "docs" / "distribution.md"
TEMPLATE = Path(__file__).with_suffix(".md")
Numbers = dict[str, Any]


# Sets with known answers ---------------------------------------------------------------------------------------------


def spectrum(dims: int, trace: float) -> np.ndarray:
    """Variances that fall as 1/k, as those of deep features do, and sum to `trace`."""
    found = 1.0 / np.arange(1, dims + 1)
    return np.asarray(trace * found / found.sum())


def draw(n: int, variances: np.ndarray, seed: int, shift: float = 0.0) -> np.ndarray:
    """float32 rows of a Gaussian, moved along its largest axis by `shift` standard deviations."""
    rows = np.random.default_rng(seed).standard_normal((n, len(variances))) * np.sqrt(variances)
    rows[:, 0] += shift * np.sqrt(variances[0])
    return rows.astype(np.float32)


def known_pair(n: int, dims: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Two sets whose sample moments are exactly known, with the exact distance between them.

    Rows are whitened and then given diagonal covariances and means, so that the closed form holds for the samples
    themselves: |m|^2 + sum (s1 - s2)^2.
    """
    sides = []
    first = np.sqrt(spectrum(dims, 2000.0))
    second = 1.02 * first
    for seed, deviations in ((1, first), (2, second)):
        x = np.random.default_rng(seed).standard_normal((n, dims))
        q, _ = np.linalg.qr(x - x.mean(axis=0))
        sides.append(q * np.sqrt(n - 1) * deviations)
    return sides[0] + 0.02, sides[1], float(dims * 0.02**2 + np.square(first - second).sum())


# Experiments ---------------------------------------------------------------------------------------------------------


def self_distance(cases: tuple[tuple[int, int, float], ...] = ((500, 256, 2.5e-3), (1000, 1024, 7e-3))) -> Numbers:
    """FAD of a set with itself: published arithmetic, the same without its threshold, ours."""
    rows = []
    for n, dims, trace in cases:
        x = draw(n, spectrum(dims, trace), seed=0)
        published, free, ours = d.frechet_thresholded(x, x), d.frechet_thresholded(x, x, 0.0), d.frechet_distance(x, x)
        rows.append({"n": n, "dims": dims, "trace": trace, "published": 1e4 * published, "free": 1e4 * free,
                     "ours": 1e4 * ours})  # fmt: skip
    return {"rows": rows}


def thresholded_model() -> Numbers:
    """What the threshold does to a comparison: a real improvement, and what is left of it."""
    variances = spectrum(256, 2.5e-3)
    real = draw(500, variances, seed=0)
    rows = []
    for name, share in (("real clips themselves", 0.0), ("a tenth of the variance lost", 0.1), ("a fifth lost", 0.2)):
        made = real * np.float32(np.sqrt(1.0 - share))
        rows.append({"model": name, "published": 1e4 * d.frechet_thresholded(made, real),
                     "ours": 1e4 * d.frechet_distance(made, real)})  # fmt: skip
    return {"rows": rows}


def mean_shift() -> Numbers:
    """KVD of sets that differ by a shift alone."""
    variances = spectrum(400, 400.0)
    real = draw(500, variances, seed=0)
    rows = []
    for shift in (0.0, 0.5, 1.0, 2.0):
        made = draw(500, variances, seed=1, shift=shift)
        rows.append({"shift": shift, "published": d.kvd_centred(made, real), "ours": d.polynomial_mmd(made, real)})
    return {"rows": rows}


def pixel_range() -> Numbers:
    """What I3D is shown of a black-to-white ramp, and of a real clip, under each protocol."""
    from fractions import Fraction

    import torch

    from avbench.clip import Clip, Video
    from avbench.metric import features
    from avbench.metrics.encoders.i3d import prepare
    from avbench.registry import metrics
    from avbench.suites.clatter import render, scene

    ramp = np.zeros((24, 224, 224, 3), np.uint8)
    ramp[...] = np.linspace(0, 255, 224).round()[:, None]
    clips = {"ramp": Clip(Video(ramp, np.arange(24) / 24, Fraction(24))), "clatter": render(scene("test", 0))}
    found: Numbers = {}
    for name in ("fvd", "fvd@javisbench"):
        view = features(metrics.get(name))["video"].view
        seen = {clip: prepare(torch.from_numpy(view(one)), torch.float32).numpy() for clip, one in clips.items()}
        found[name] = {
            "black": float(seen["ramp"].min()), "white": float(seen["ramp"].max()),
            "contrast": float(seen["clatter"].std()), "mean": float(seen["clatter"].mean()),
        }  # fmt: skip
    return found


def precision(n: int = 2048, dims: int = 400) -> Numbers:
    """Each arithmetic against the exact distance of sets whose moments are exactly known."""
    a, b, exact = known_pair(n, dims)
    return {
        "n": n, "dims": dims, "exact": exact, "ours": d.frechet_distance(a, b),
        "scipy": d.frechet_sqrtm(a, b), "population": d.frechet_sqrtm(a, b, ddof=0),
        "float32": d.frechet_thresholded(a, b),
    }  # fmt: skip


def divisor() -> Numbers:
    """Dividing by N or by N - 1, two conventions of published evaluators, by N."""
    variances = spectrum(400, 400.0)
    rows = []
    for n in (100, 500, 2048):
        made, real = draw(n, variances, seed=3, shift=0.5), draw(n, variances, seed=4)
        rows.append(
            {"n": n, "unbiased": d.frechet_distance(made, real), "population": d.frechet_distance(made, real, 0)}
        )
    return {"rows": rows}


def small_sets() -> Numbers:
    """Two samples of one distribution: the true distance is 0 at every N."""
    variances = spectrum(400, 400.0)
    pool, real = draw(2000, variances, seed=5), draw(2000, variances, seed=6)
    rows = []
    for n in (100, 250, 500, 1000, 2000):
        halves = d.halves(n)
        floor = d.frechet_distance(*(real[:n][part] for part in halves))
        rows.append({"n": n, "frechet": d.frechet_distance(pool[:n], real[:n]), "floor": floor,
                     "kernel": d.polynomial_mmd(pool[:n], real[:n])})  # fmt: skip
    return {"rows": rows, "infinity": d.frechet_infinity(pool, real).value}


def first_clips() -> Numbers:
    """Only the first min(N, N_ref) clips count: the same clips in two orders of their names."""
    variances = spectrum(64, 64.0)
    made, real = draw(1000, variances, seed=7), draw(500, variances, seed=8)
    made[500:] *= np.float32(1.5)
    sides = {"as named": made, "renamed": made[::-1]}
    return {
        "rows": [
            {
                "order": name,
                "published": d.frechet_thresholded(rows[:500], real),
                "ours": d.frechet_distance(rows, real),
            }
            for name, rows in sides.items()
        ]
    }


def sigmoid_kl() -> Numbers:
    """The "sigmoid" KL of two public tools keeps the positive class only: no divergence, and below 0."""
    rng = np.random.default_rng(9)
    real = rng.normal(-4.0, 1.0, (200, 527))
    louder = real + 1.0
    return {
        "self": d.paired_kl_sigmoid_positive(real, real), "published": d.paired_kl_sigmoid_positive(louder, real),
        "ours": d.paired_kl_sigmoid(louder, real),
    }  # fmt: skip


def inception() -> Numbers:
    """Ten splits after a permutation of file names: order matters, and few clips score 1 whatever they are."""
    logits = np.random.default_rng(10).normal(0.0, 3.0, (200, 527))
    renamed = logits[np.random.default_rng(11).permutation(200)]
    published = [d.inception_score(x, splits=10, seed=2020)[0] for x in (logits, renamed, logits[:10])]
    ours = [d.inception_score(x)[0] for x in (logits, renamed, logits[:10])]
    return {"published": published, "ours": ours}


def quantised() -> Numbers:
    """Levels that AudioCLIP's input map leaves of sound in [-1, 1], and of the 16-bit scale it was trained on."""
    sound = np.linspace(-1, 1, 65536, dtype=np.float32)
    quiet = sound * np.float32(0.003)

    def levels(samples: np.ndarray) -> int:
        offset = samples + np.float32(32768.0)
        return len(np.unique(offset * np.float32(2.0) / np.float32(65535.0) - np.float32(1.0)))

    scale = np.float32(32768.0)
    return {
        "published": levels(sound), "published_quiet": levels(quiet),
        "ours": levels(sound * scale), "ours_quiet": levels(quiet * scale),
    }  # fmt: skip


def repeated_frames() -> Numbers:
    """Clips shorter than the window: repeated frames in one protocol, an error in the default."""
    from fractions import Fraction

    from avbench.clip import Video
    from avbench.errors import SampleError
    from avbench.metrics.fvd import InTime
    from avbench.views import Linspace

    video = Video(np.zeros((5, 8, 8, 3), np.uint8), np.arange(5) / 24, Fraction(24))
    try:
        said = f"{len(set(InTime(24)(video).tolist()))} frames"
    except SampleError as error:
        said = str(error)
    picked = Linspace(24)(video)
    return {"shown": len(picked), "distinct": len(set(picked.tolist())), "ours": said}


EXPERIMENTS: dict[str, Callable[[], Numbers]] = {
    one.__name__: one
    for one in (
        self_distance, thresholded_model, mean_shift, pixel_range, precision, divisor, small_sets, first_clips,
        sigmoid_kl, inception, quantised, repeated_frames,
    )
}  # fmt: skip


# Page ----------------------------------------------------------------------------------------------------------------


def table(head: str, rows: list[list[str]]) -> str:
    """A Markdown table from a head "a | b | c"."""
    names = head.split(" | ")
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [names, ["---"] * len(names), *rows])


def number(value: float) -> str:
    """Four significant digits; what is below 1e-9 is called 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.4g}"


def sections(x: Numbers) -> dict[str, str]:
    """The tables of the page by the experiment they print."""
    return {
        "self_distance": table(
            "N | dimensions | trace of the covariance | published x 10,000 | without its threshold | `fad` x 10,000",
            [[f"{r['n']:,}", f"{r['dims']:,}", f"{r['trace']:g}", number(r["published"]), number(r["free"]),
              number(r["ours"])] for r in x["self_distance"]["rows"]],
        ),
        "thresholded_model": table(
            "generated set | published x 10,000 | `fad` x 10,000",
            [[r["model"], number(r["published"]), number(r["ours"])] for r in x["thresholded_model"]["rows"]],
        ),
        "mean_shift": table(
            "shift along one axis, standard deviations | `kvd@javisbench` | `kvd`",
            [[f"{r['shift']:g}", number(r["published"]), number(r["ours"])] for r in x["mean_shift"]["rows"]],
        ),
        "pixel_range": table(
            "protocol | black | white | mean of a clip | its standard deviation",
            [[f"`{name}`", *(f"{r[key]:.3f}" for key in ("black", "white", "mean", "contrast"))]
             for name, r in x["pixel_range"].items()],
        ),
        "precision": table(
            "arithmetic | distance | error",
            [[name, f"{x['precision'][key]:.6f}", f"{x['precision'][key] - x['precision']['exact']:+.1e}"]
             for key, name in (("exact", "closed form"), ("ours", "ours, float64"), ("scipy", "SciPy `sqrtm`, float64"),
                               ("population", "SciPy `sqrtm`, dividing by N"), ("float32", "published, float32 SVD"))],
        ),
        "divisor": table(
            "N | dividing by N - 1 | dividing by N",
            [[f"{r['n']:,}", number(r["unbiased"]), number(r["population"])] for r in x["divisor"]["rows"]],
        ),
        "small_sets": table(
            "N | Fréchet distance | floor (real halves) | kernel distance",
            [[f"{r['n']:,}", number(r["frechet"]), number(r["floor"]), number(r["kernel"])]
             for r in x["small_sets"]["rows"]],
        ),
        "first_clips": table(
            "1,000 clips against 500 | published | ours",
            [[r["order"], number(r["published"]), number(r["ours"])] for r in x["first_clips"]["rows"]],
        ),
        "inception": table(
            "clips | 10 splits | `is_panns`",
            [[name, f"{a:.4f}", f"{b:.4f}"] for name, a, b in
             zip(("200", "the same 200 under other names", "10 of them"), *x["inception"].values())],
        ),
    }  # fmt: skip


def responses() -> Numbers:
    """What must be said of the figure of tools/response_curves.py."""
    document = json.loads((DATA / "responses.json").read_text(encoding="utf-8"))
    odd = ", ".join(f"{name} ({damage})" for name, damage in wavering(document)) or "none"
    return {"random": ", ".join(f"`{name}`" for name in document["random"]), "clips": document["clips"], "odd": odd}


def wavering(document: Numbers) -> list[tuple[str, str]]:
    """(metric, damage) of curves that turn back, by more than 0.2 % of their rise, as the damage grows."""
    found = []
    for name, one in document["curves"].items():
        scale = max(abs(value) for points in one.values() for value in np.atleast_1d(points))
        for damage in document["strengths"]:
            steps = np.diff([one["undamaged"], *one.get(damage, [])])
            sign = np.sign(steps.sum())
            if len(steps) and np.ptp(one[damage]) > 1e-6 * scale and (sign * steps).min() < -0.002 * abs(steps.sum()):
                found.append((f"`{name}`", damage))
    return found


def cost() -> str:
    """The table of benchmarks/set_metrics.py."""
    document = json.loads((DATA / "set_metrics.json").read_text(encoding="utf-8"))
    rows = [
        [
            one["case"],
            f"{one['dims']:,}",
            f"{one['seconds']:.1f}",
            f"{one['cpu_seconds']:.1f}",
            f"{one['features_mb']:,}",
            f"{one['extra_mb']:,}",
        ]
        for one in document["rows"]
    ]
    head = "10,000 clips and 10,000 | dimensions | seconds | of the processor | features, MB | memory beyond them, MB"
    return f"From cached features; {document['machine']}. `python benchmarks/set_metrics.py`.\n\n{table(head, rows)}"


def measure_cost() -> None:
    """Run the benchmark and keep its lines."""
    words = [sys.executable, str(ROOT / "benchmarks" / "set_metrics.py"), "--dims", "400,1024"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    import scipy

    machine = (
        f"one core of a shared {platform.machine()} server with other jobs on it, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, SciPy {scipy.__version__}"
    )
    write("set_metrics", {"machine": machine, "rows": [json.loads(line) for line in lines]})


def write(name: str, document: Numbers) -> None:
    """Keep a document below docs/data."""
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def page(x: Numbers) -> str:
    """The whole page from the numbers."""

    class Both(dict):  # type: ignore[type-arg]
        """A table where it is printed whole, a number where it is asked for by name."""

        def __format__(self, spec: str) -> str:
            return str(self[""])

    tables = sections(x)
    values = {name: Both({**numbers, "": tables.get(name, "")}) for name, numbers in x.items()}
    return TEMPLATE.read_text(encoding="utf-8").format(**values, responses=responses(), cost=cost())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cost", action="store_true")
    if parser.parse_args().cost:
        measure_cost()
    numbers = {name: experiment() for name, experiment in EXPERIMENTS.items()}
    write("distribution", numbers)
    PAGE.write_text(page(numbers), encoding="utf-8")


if __name__ == "__main__":
    main()
