"""How set metrics answer to known damage: docs/data/responses.json and docs/images/responses.png.

    python tools/response_curves.py [--clips 24] [--weights NAME=FILE ...] [--cache DIR] [--draw]

Real clips of `clatter-mini` against the same clips after blur, noise, frame drop, time reversal, audio low-pass or
audio swap, at five strengths. Networks whose published weights are not given get *hashed* ones (`tests/hashed.py`):
they are random, and the figure says so. `--draw` only draws again what was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avbench.clip import Clip
from avbench.features import Context, Feature
from avbench.metric import Rows, features
from avbench.registry import metrics

ROOT = Path(__file__).resolve().parent.parent
DATA, FIGURE = ROOT / "docs" / "data" / "responses.json", ROOT / "docs" / "images" / "responses.png"
HASHED = {"i3d_k400": "i3d", "audioclip": "audioclip", "vggish": "vggish", "panns_cnn14_16k": "panns"}
METRICS = ("fvd", "kvd", "fad", "fd_vgg", "fd_panns", "kl_panns", "temporal_flickering", "av_align")


# Damage --------------------------------------------------------------------------------------------------------------


def blur(clip: Clip, sigma: float, seed: int) -> Clip:
    """Gaussian blur of every frame, sigma in pixels."""
    from scipy.ndimage import gaussian_filter

    video = clip.need_video()
    frames = gaussian_filter(video.frames.astype(np.float32), (0, sigma, sigma, 0)).round().astype(np.uint8)
    return replace(clip, video=replace(video, frames=frames))


def noise(clip: Clip, deviation: float, seed: int) -> Clip:
    """Independent Gaussian noise on every pixel, its standard deviation in units of 255."""
    video = clip.need_video()
    drawn = np.random.default_rng(seed).standard_normal(video.frames.shape, dtype=np.float32)
    frames = np.clip(video.frames + deviation * drawn, 0, 255).round().astype(np.uint8)
    return replace(clip, video=replace(video, frames=frames))


def hold(clip: Clip, count: float, seed: int) -> Clip:
    """Every frame is held for `count` frames: a lower frame rate in the same time."""
    video = clip.need_video()
    kept = np.arange(len(video.frames)) // int(count) * int(count)
    return replace(clip, video=replace(video, frames=video.frames[kept]))


def backwards(clip: Clip, share: float, seed: int) -> Clip:
    """The frames in reverse, the sound as it was."""
    video = clip.need_video()
    return replace(clip, video=replace(video, frames=np.ascontiguousarray(video.frames[::-1])))


def low_pass(clip: Clip, cutoff: float, seed: int) -> Clip:
    """Sound above `cutoff` Hz removed (Butterworth, 8th order, both ways)."""
    from scipy.signal import butter, sosfiltfilt

    audio = clip.need_audio()
    samples = sosfiltfilt(butter(8, cutoff, fs=audio.rate, output="sos"), audio.samples, axis=1)
    return replace(clip, audio=replace(audio, samples=np.ascontiguousarray(samples, dtype=np.float32)))


@dataclass(frozen=True)
class Damage:
    """A kind of damage at rising strengths.

    streams: what it changes. share: the strength is the share of clips that are damaged, the rest stay as they are.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    streams: frozenset[str]
    apply: Callable[[Clip, float, int], Clip] | None = None
    share: bool = False


SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
VIDEO, AUDIO = frozenset({"video"}), frozenset({"audio"})
DAMAGES = (
    Damage("blur", "sigma, pixels", (0.5, 1.0, 2.0, 4.0, 8.0), VIDEO, blur),
    Damage("noise", "deviation, of 255", (4.0, 8.0, 16.0, 32.0, 64.0), VIDEO, noise),
    Damage("frame drop", "frames held", (2, 4, 8, 16, 32), VIDEO, hold),
    Damage("time reversal", "share of clips", SHARES, VIDEO, backwards, share=True),
    Damage("audio low-pass", "cutoff, Hz", (6000.0, 4000.0, 2000.0, 1000.0, 500.0), AUDIO, low_pass),
    Damage("audio swap", "share of clips", SHARES, AUDIO, share=True),
)


def damaged(which: np.ndarray, share: float) -> np.ndarray:
    """The first round(share x N) of a fixed order of the clips."""
    return which[: round(share * len(which))]


# Features ------------------------------------------------------------------------------------------------------------


class Networks:
    """Encoders, loaded once, with the weights given or hashed ones."""

    def __init__(self, weights: dict[str, Path], scratch: Path) -> None:
        self.weights, self.scratch = weights, scratch
        self.loaded: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """The checkpoint of this name; a hashed one is written where none is given."""
        if name in self.weights:
            return self.weights[name]
        sys.path.insert(0, str(ROOT))  # the tests are no part of the package
        from tests.metrics.distribution import checkpoint

        return checkpoint(HASHED[name], self.scratch)

    def value(self, feature: Feature, clip: Clip) -> Any:
        """A feature of a clip."""
        import torch

        encoder = feature.encoder
        if encoder.name not in self.loaded:
            paths = {name: self.path(name) for name in encoder.weights}
            at = (torch.device("cpu"), torch.float32) if paths or encoder.unit == "item" else (None, None)
            self.loaded[encoder.name] = encoder.loader()(Context(*at, paths))
        view = feature.view(clip, *(self.value(need, clip) for need in feature.view.requires))
        with torch.inference_mode():
            if encoder.unit == "clip":
                return self.loaded[encoder.name](view)
            return np.concatenate([np.asarray(self.loaded[encoder.name](torch.from_numpy(one[None]))) for one in view])


@dataclass
class Study:
    """Clips, networks, and the features that were computed."""

    clips: list[Clip]
    networks: Networks
    scratch: Path

    def features(self, feature: Feature, damage: Damage | None, strength: float) -> list[Any]:
        """The feature of every clip after a damage, kept in the scratch folder; what it does not touch is unchanged."""
        import pickle

        if damage is not None and (damage.apply is None or not damage.streams & feature.view.media):
            return self.features(feature, None, 0.0)
        label = "real" if damage is None else f"{damage.name}-{1.0 if damage.share else strength:g}".replace(" ", "-")
        path = self.scratch / f"{feature.key[:16]}-{label}-{len(self.clips)}.pickle"
        if not path.is_file():
            made = []
            for seed, clip in enumerate(self.clips):
                changed = clip if damage is None or damage.apply is None else damage.apply(clip, strength, seed)
                made.append(self.networks.value(feature, changed))
            path.write_bytes(pickle.dumps(made))
            print(path.name, flush=True)
        return list(pickle.loads(path.read_bytes()))

    def rows(self, metric: Any, damage: Damage | None, strength: float) -> Rows:
        """The clips as a metric sees them. Swapped sound is the sound of the next damaged clip."""
        ids = [f"c{index:03d}" for index in range(len(self.clips))]
        which = np.random.default_rng(0).permutation(len(ids))
        columns = {}
        for name, feature in features(metric).items():
            real, changed = self.features(feature, None, 0.0), self.features(feature, damage, strength)
            if damage is not None and damage.share:
                hit = damaged(which, strength)
                source = changed if damage.apply is not None else real
                taken = dict(zip(hit, hit if damage.apply is not None else np.roll(hit, 1)))
                if damage.streams & feature.view.media:
                    changed = [source[taken[i]] if i in taken else real[i] for i in range(len(ids))]
            columns[name] = changed
        return Rows(ids, columns)

    def value(self, metric: Any, damage: Damage | None, strength: float) -> float:
        """The metric of the damaged set against the real one, or the mean of a sample metric over it."""
        rows = self.rows(metric, damage, strength)
        if metric.card.kind == "set":
            return float(metric.reduce(rows, self.rows(metric, None, 0.0)))
        columns = {name: getattr(rows, name) for name in features(metric)}
        scores = [metric.score(**dict(zip(columns, one))) for one in zip(*columns.values())]
        return float(np.mean([score[""] if isinstance(score, dict) else score for score in scores]))


def measure(study: Study, names: Sequence[str]) -> dict[str, Any]:
    """All curves: {metric: {undamaged, halves, damage: [five values]}}."""
    found: dict[str, Any] = {}
    for name in names:
        metric = metrics.get(name)
        one: dict[str, Any] = {"undamaged": study.value(metric, None, 0.0)}
        if hasattr(metric, "floor"):
            one["halves"] = float(metric.floor(study.rows(metric, None, 0.0)))
        media = frozenset().union(*(feature.view.media for feature in features(metric).values()))
        for damage in DAMAGES:
            if damage.streams & media:
                one[damage.name] = [study.value(metric, damage, strength) for strength in damage.strengths]
        found[name] = one
        print(name, json.dumps(one), flush=True)
    return found


# Figure --------------------------------------------------------------------------------------------------------------


def draw(document: dict[str, Any], path: Path) -> None:
    """Small multiples: a row for each metric, a column for each damage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = document["curves"]
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(len(curves), len(DAMAGES), figsize=(11, 1.25 * len(curves)), squeeze=False)
    for row, (name, one) in zip(axes, curves.items()):
        shown = [value for key, value in one.items() for value in (value if isinstance(value, list) else [value])]
        low, high = min(shown), max(shown)
        for axis, damage in zip(row, DAMAGES):
            if damage.name not in one:
                axis.axis("off")
                continue
            points = [one["undamaged"], *one[damage.name]]
            axis.plot(range(len(points)), points, "o-", color="#1f5a92", markersize=2.5, linewidth=1.2)
            if "halves" in one:
                axis.axhline(one["halves"], color="#b0592a", linewidth=0.8, linestyle=":")
            axis.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
            axis.set_xticks(range(len(points)), ["–", *map(tick, damage.strengths)], fontsize=6)
            axis.tick_params(axis="y", labelsize=6)
        row[0].axis("on")
        row[0].set_ylabel(label(name, document), fontsize=8)
        if DAMAGES[0].name not in one:
            row[0].set(xticks=[], yticks=[])
            row[0].spines[["left", "bottom"]].set_visible(False)
    for axis, damage in zip(axes[0], DAMAGES):
        axis.set_title(f"{damage.name}\n({damage.unit})", fontsize=8)
        axis.title.set_visible(True)
    hide_bare_titles(axes)
    figure.suptitle(document["title"], fontsize=9, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def tick(strength: float) -> str:
    """A strength under an axis: thousands as k."""
    return f"{strength / 1000:g}k" if strength >= 1000 else f"{strength:g}"


def label(name: str, document: dict[str, Any]) -> str:
    """Name of a metric with its direction; an asterisk marks a random network."""
    arrow = {"lower": "↓", "higher": "↑"}.get(metrics.get(name).card.better, "")
    return f"{name}{'*' if name in document['random'] else ''} {arrow}"


def hide_bare_titles(axes: np.ndarray) -> None:
    """An axis that is off still shows its title, which heads the column."""
    for axis in axes[0]:
        if not axis.axison:
            axis.text(0.5, 1.0, axis.get_title(), transform=axis.transAxes, ha="center", va="bottom", fontsize=8)
            axis.set_title("")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and draw."""
    import tempfile

    from avbench.cli.common import parse_weights
    from avbench.suite import load_suite

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--cache", type=Path, help="keeps features, so that an interrupted run continues")
    parser.add_argument("--metrics", default=",".join(METRICS), type=lambda text: text.split(","))
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args(arguments)
    if not options.draw:
        suite = load_suite("clatter-mini").limit(options.clips)
        assert suite.render is not None
        with tempfile.TemporaryDirectory() as temporary:
            scratch = options.cache or Path(temporary)
            scratch.mkdir(parents=True, exist_ok=True)
            networks = Networks(parse_weights(options.weights), scratch)
            study = Study([suite.render(sample) for sample in suite.samples], networks, scratch)
            curves = measure(study, options.metrics)
        used = {name: {w for f in features(metrics.get(name)).values() for w in f.encoder.weights} for name in curves}
        random = [name for name in curves if used[name] & set(HASHED) - set(networks.weights)]
        title = f"{options.clips} clips of clatter-mini. Dotted: real halves against each other."
        title += "  * random (hashed) weights, not the published ones" if random else ""
        strengths = {one.name: list(one.strengths) for one in DAMAGES}
        document = {"title": title, "clips": options.clips, "random": random, "strengths": strengths, "curves": curves}
        DATA.parent.mkdir(parents=True, exist_ok=True)
        DATA.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(json.loads(DATA.read_text(encoding="utf-8")), FIGURE)


if __name__ == "__main__":
    main()
