"""Write docs/synchrony.md and docs/images/synchrony.png: what measures of synchrony make of a known shift.

    python tools/synchrony_page.py [--clips 64] [--draw]

The clips are those of `clatter-mini`, whose sound and picture are computed from one scene and so are in step. The sound
is turned against the picture by -1 to 1 s and scored by every measure of synchrony that needs no weights. Values go to
docs/data/synchrony.json; `--draw` makes page and figure again from them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avbench.clip import Audio, Clip
from avbench.features import Context, Feature
from avbench.metric import features
from avbench.registry import metrics
from avbench.stats import Interval, mean_intervals
from avbench.suite import load_suite

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("av_align", "av_align@javisbench")
KINDS = ("av-tight", "av-loose")
SHIFTS = (-1.0, -0.6, -0.4, -0.2, -0.1, -0.06, -0.03, 0.0, 0.03, 0.06, 0.1, 0.2, 0.4, 0.6, 1.0)
IN_TABLE = (-1.0, -0.4, -0.1, -0.06, -0.03, 0.0, 0.03, 0.06, 0.1, 0.4, 1.0)
SEED = 0
DATA, PAGE, FIGURE = (
    ROOT / "docs" / place for place in ("data/synchrony.json", "synchrony.md", "images/synchrony.png")
)
Values = dict[str, dict[str, list[list[float]]]]

HEAD = """# Synchrony

Made by `python tools/synchrony_page.py`.

## Which measure says what

| metric | needs | says |
|---|---|---|
| `desync` | Synchformer | by how many seconds picture and sound lie apart, to 2 s in steps of 0.2 s |
| `sync_c` `sync_d` `lip_offset` | SyncNet, S3FD | how well lips fit a voice, and their offset in frames of 40 ms |
| `javis_score` `avh_score` | ImageBind | how alike picture and sound are over time, in meaning more than in time |
| `av_align` | nothing | whether onsets of sound fall on peaks of motion, to one frame |

Every published protocol stands beside our default and lists on its card what it does otherwise
(`avbench metrics show NAME`): `desync@javisbench` `desync@av-benchmark`, `sync_c@syncnet_python` `sync_c@latentsync`
`sync_c@small-faces`, `av_align@javisbench`. What cannot be scored has a reason instead of a number: `no_audio`,
`silent`, `too_short` (DeSync: 1.92 s in common; Sync-C: 51 frames at 25 fps), `no_face`, `no_track`, `face_too_small`.

Before comparing:

* DeSync looks at 4.8 s at once. A shorter clip is filled up with its own first segments, which leaves a seam where
  sound and picture jump together. Compare clips of one length; the field `expected` is finer than the arg-max.
* Sync-C depends on the length of the track: windows beyond its ends count as silence. The published pipelines give
  other values than ours and than each other: they write the clip to a file first (AVI and MP3: the sound comes 11 to
  15 ms early; MP4 and AAC: in place), ask for longer tracks, and average tracks otherwise.
* Of several faces ours takes the one that fits best; the mean over all of them is in the field `mean`.

"""

READING = """How to read it:

* On tight clips AV-Align tells a shift from none: from 0.1 s on most of the value is gone. It does not tell a small
  shift from a large one, because an onset counts only within one frame of a peak of motion. DeSync is for sizes.
* Its top is not at 0 but at 0.03 s early, in both variants (the intervals overlap): presumably motion between two
  frames is dated to the later one, and onsets come late. One frame between two systems means little.
* The small rises at 0.6 s and beyond are presumably rhythm: many of these scenes repeat, and a shift of a whole period
  meets the next event.
* On loose clips (rain, engines, crowds) there is nothing to be in step with and the curve is flat, yet higher than that
  of a tight clip out of step: steady noise and steady motion have many small peaks. Do not pool tight and loose clips.
"""


def turned(clip: Clip, seconds: float) -> Audio:
    """The sound `seconds` later; what falls off at one end comes in at the other: no onset of silence is made."""
    audio = clip.need_audio()
    return replace(audio, samples=np.roll(audio.samples, round(seconds * audio.rate), axis=1))


class Measures:
    """The values of all metrics for a clip at every shift; what looks at one stream alone is computed once for it."""

    def __init__(self) -> None:
        self.metrics = {name: metrics.get(name) for name in NAMES}
        self.networks: dict[str, Any] = {}

    def feature(self, feature: Feature, clip: Clip) -> Any:
        name = feature.encoder.name
        if name not in self.networks:
            self.networks[name] = feature.encoder.loader()(Context(None, None))
        return self.networks[name](feature.view(clip))

    def values(self, clip: Clip) -> dict[str, list[float]]:
        """{metric: value at each of SHIFTS}."""
        seen: dict[Feature, Any] = {}
        found: dict[str, list[float]] = {name: [] for name in self.metrics}
        for shift in SHIFTS:
            moved = replace(clip, audio=turned(clip, shift))
            for name, metric in self.metrics.items():
                inputs = {}
                for key, feature in features(metric).items():
                    if "audio" in feature.view.media:
                        inputs[key] = self.feature(feature, moved)
                    else:
                        if feature not in seen:
                            seen[feature] = self.feature(feature, clip)
                        inputs[key] = seen[feature]
                found[name].append(round(float(metric.score(**inputs)[""]), 6))
        return found


def measure(clips: int) -> Values:
    """{metric: {kind: values of each clip at each of SHIFTS}}."""
    suite, measures = load_suite("clatter-mini"), Measures()
    assert suite.render is not None
    found: Values = {name: {kind: [] for kind in KINDS} for name in NAMES}
    for sample in suite.samples[:clips]:
        kind = next(tag for tag in sample.tags if tag in KINDS)
        for name, row in measures.values(suite.render(sample)).items():
            found[name][kind].append(row)
    return found


def summary(rows: list[list[float]]) -> tuple[np.ndarray, list[Interval]]:
    """Means over clips at each shift, and their intervals."""
    columns = np.array(rows).T
    return columns.mean(axis=1), [one for one in mean_intervals(columns, SEED) if one]


def draw(values: Values) -> None:
    """One panel a metric: means with their intervals against the shift."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, len(NAMES), figsize=(8.4, 2.9), sharey=True)
    for axis, name in zip(axes, NAMES):
        for kind, colour in zip(KINDS, ("#1f5a92", "#b0592a")):
            means, intervals = summary(values[name][kind])
            axis.plot(SHIFTS, means, "o-", color=colour, markersize=2.5, linewidth=1.2, label=kind.removeprefix("av-"))
            low, high = [one.low for one in intervals], [one.high for one in intervals]
            axis.fill_between(SHIFTS, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_xlabel("sound later by (s)")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    axes[0].set_ylabel("mean over clips")
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)
    plt.close(figure)


def table(values: Values) -> str:
    """Means with intervals, a row for each shift of `IN_TABLE`."""
    columns = {f"`{name}`, {kind.removeprefix('av-')}": summary(values[name][kind]) for name in NAMES for kind in KINDS}
    lines = ["| sound later by | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for shift in IN_TABLE:
        place = SHIFTS.index(shift)
        cells = [f"{means[place]:.3f} [{ci[place].low:.3f}, {ci[place].high:.3f}]" for means, ci in columns.values()]
        lines.append(f"| {shift:+.2f} s | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(values: Values) -> str:
    """The whole page."""
    tight, loose = (len(values[NAMES[0]][kind]) for kind in KINDS)
    return (
        HEAD
        + f"""## What a known shift does

{tight} tight and {loose} loose clips of `clatter-mini` (4 s, 24 fps), in step as they are made, the sound turned
against the picture. Means with 95 % BCa intervals over clips. Measures that need weights are not here: with random
weights they would say nothing.

![AV-Align against the shift of the sound](images/synchrony.png)

{table(values)}

{READING}"""
    )


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--draw", action="store_true", help="page and figure alone, from docs/data/synchrony.json")
    chosen = parser.parse_args()
    if not chosen.draw:
        DATA.parent.mkdir(parents=True, exist_ok=True)
        DATA.write_text(json.dumps({"shifts": SHIFTS, "values": measure(chosen.clips)}), encoding="utf-8")
    values = json.loads(DATA.read_text(encoding="utf-8"))["values"]
    draw(values)
    PAGE.write_text(page(values), encoding="utf-8")


if __name__ == "__main__":
    main()
