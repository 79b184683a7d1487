"""Write docs/physics.md and docs/images/physics.png: what the desk world's physics metrics make of known faults.

    python tools/physics_page.py [--scenes 256] [--made NAME=FOLDER ...] [--draw]

Clips are those of `clatter-desk`; faults are put into bounce scenes, into their laws, their pictures or their sound.
`--made` adds the clips of a generator on `clatter-desk-mini` (`avbench generate`). Values go to docs/data/physics.json;
`--draw` makes page and figure again from them (without the made clips themselves the figure leaves theirs out).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from avbench.clip import Audio, Clip
from avbench.errors import SampleError
from avbench.features import Context
from avbench.metrics.encoders import motion
from avbench.metrics.physics import ContactSync, Physics, contacts, read
from avbench.stats import mean_intervals
from avbench.suite import load_suite
from avbench.suites.clatter import DESK, VERSION, Laws, Scene, frames, render, scene
from avbench.suites.clatter.events import BUILDERS
from avbench.suites.clatter.exact import Draws

ROOT = Path(__file__).resolve().parent.parent
DATA, PAGE, FIGURE = (ROOT / "docs" / place for place in ("data/physics.json", "physics.md", "images/physics.png"))
EVENTS = ("bounce", "collide", "stick")
SEED, BOUNCES = 0, 86
SEEN = ("", "permanence", "continuity", "solidity", "contact", "gravity_error", "restitution_error")
HEARD = ("", "lag")
TITLES = ("score", "permanence", "continuity", "solidity", "contact", "gravity error", "restitution error")
MOVED = {"": 0.05, "lag": 0.02}
"""By how much a field must move for bold type; 0.1 for the others."""

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
Fields = dict[str, dict[str, float]]
Summary = dict[str, tuple[float, float, float, int]]


def ruled(laws: Laws) -> Callable[[Scene], Clip]:
    """The scene under other laws."""

    def make(what: Scene) -> Clip:
        draws = Draws("clatter", VERSION, what.split, what.index, what.event, "scene")
        return render(replace(what, stage=BUILDERS[what.event](draws, what.spec, laws)))

    return make


def painted(change: Change) -> Callable[[Scene], Clip]:
    """The scene's grey frames [T, 16, 16] changed, given them and the empty scene [16, 16]."""

    def make(what: Scene) -> Clip:
        clip = render(what)
        video = clip.need_video()
        empty = frames(replace(what, stage=replace(what.stage, actors=())))[0, ..., 0].astype(float)
        grey = np.clip(np.rint(change(video.frames[..., 0].astype(float), empty)), 0, 255).astype(np.uint8)
        return replace(clip, video=replace(video, frames=np.repeat(grey[..., None], 3, axis=3)))

    return make


def sounding(change: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Scene], Clip]:
    """The scene's samples [N] changed, given them and their rate."""

    def make(what: Scene) -> Clip:
        clip = render(what)
        audio = clip.need_audio()
        return replace(clip, audio=Audio(change(audio.samples[0], audio.rate)[None].astype(np.float32), audio.rate))

    return make


def vanish(count: int) -> Change:
    return lambda seen, empty: np.concatenate([seen[: len(seen) - count], np.repeat(empty[None], count, axis=0)])


def fade(end: float) -> Change:
    return lambda seen, empty: empty + (seen - empty) * np.linspace(1, end, len(seen))[:, None, None]


def split(pixels: int) -> Change:
    return lambda seen, empty: empty + np.maximum(*(np.roll(seen - empty, side * pixels, axis=2) for side in (-1, 1)))


def leap(pixels: int) -> Change:
    """From the middle on, everything that moves is so many pixels nearer to the other side."""

    def change(seen: np.ndarray, empty: np.ndarray) -> np.ndarray:
        ball, half = seen - empty, len(seen) // 2
        place = (ball[half].sum(axis=0) * np.arange(16)).sum() / ball[half].sum()
        return empty + np.concatenate([ball[:half], np.roll(ball[half:], pixels if place < 8 else -pixels, axis=2)])

    return change


def grain(size: float) -> Change:
    return lambda seen, empty: seen + np.random.default_rng(SEED).normal(0, size, seen.shape)


def late(seconds: float) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda samples, rate: np.roll(samples, round(seconds * rate))


FAULTS: dict[str, Callable[[Scene], Clip]] = {
    "none": render,
    **{f"turns {gap:.2f} above the floor": ruled(Laws(gap=gap)) for gap in (0.03, 0.06, 0.12)},
    **{f"sinks in by {gap:.2f}": ruled(Laws(gap=-gap)) for gap in (0.03, 0.06, 0.09)},
    **{f"restitution {keep:g}": ruled(Laws(restitution=keep)) for keep in (0.4, 1.1)},
    **{f"gravity x {pull:g}": ruled(Laws(gravity=pull)) for pull in (0.7, 0.35, 0)},
    **{f"gone for the last {count} of 16 frames": painted(vanish(count)) for count in (2, 4, 8)},
    **{f"fades to {end:.0%}".replace("%", " %"): painted(fade(end)) for end in (0.7, 0.4)},
    **{f"in two, {2 * pixels} pixels apart": painted(split(pixels)) for pixels in (2, 3)},
    **{f"leaps {pixels} pixels": painted(leap(pixels)) for pixels in (3, 5)},
    "frozen": painted(lambda seen, empty: np.repeat(seen[:1], len(seen), axis=0)),
    **{f"grain of {size}/255": painted(grain(size)) for size in (5, 13)},
    "noise alone": painted(lambda seen, empty: np.random.default_rng(SEED).uniform(0, 255, seen.shape)),
    "black": painted(lambda seen, empty: 0 * seen),
    **{f"sound {seconds * 1000:.0f} ms late": sounding(late(seconds)) for seconds in (0.05, 0.1, 0.2)},
    "silent track": sounding(lambda samples, rate: 0 * samples),
}

grid_of, onsets_of = motion.load_grid(Context(None, None)), motion.load_onsets(Context(None, None))


def judged(clip: Clip, truth: Mapping[str, Any]) -> Fields:
    """{"seen": fields of physics@clatter, "heard": those of contact_sync@clatter, empty where not applicable}."""
    grid, tags = grid_of(clip.need_video()), (f"av-{truth['sync']}", truth["event"])
    try:
        heard = ContactSync().score(grid, onsets_of(clip.need_audio()), tags, truth)
    except SampleError:
        heard = {}
    return {"seen": Physics().score(grid, tags, truth), "heard": heard}


def summary(rows: Iterable[Mapping[str, float]]) -> Summary:
    """{field: (mean, low, high, clips)} with 95 % intervals over clips."""
    found, every = {}, list(rows)
    for name in sorted({name for row in every for name in row}):
        values = np.array([row[name] for row in every if name in row])
        (one,) = mean_intervals([values], SEED)
        low, high = (one.low, one.high) if one else (values.mean(), values.mean())
        found[name] = (round(float(values.mean()), 5), round(float(low), 5), round(float(high), 5), len(values))
    return found


def both(rows: list[Fields]) -> dict[str, Summary]:
    return {side: summary(row[side] for row in rows) for side in ("seen", "heard")}


def measure_own(scenes: int) -> dict[str, Any]:
    """The world's own clips, by event, and milliseconds per clip."""
    rows: dict[str, list[Fields]] = {event: [] for event in EVENTS}
    spent = 0.0
    for index in range(scenes):
        what = scene("test", index, DESK)
        clip, truth = render(what), what.truth()
        start = time.perf_counter()
        rows[what.event].append(judged(clip, truth))
        spent += time.perf_counter() - start
    return {"events": {event: both(found) for event, found in rows.items()}, "ms": round(1000 * spent / scenes, 1)}


def measure_faults() -> dict[str, dict[str, Summary]]:
    whats = [what for k in range(3 * BOUNCES) if (what := scene("test", k, DESK)).event == "bounce"]
    return {name: both([judged(make(what), what.truth()) for what in whats]) for name, make in FAULTS.items()}


def measure_made(made: Mapping[str, Path]) -> dict[str, Any]:
    """Clips that generators made for clatter-desk-mini: values by event, and what changes from each to the next."""
    truths = {sample.id: sample.extra["truth"] for sample in load_suite("clatter-desk-mini").samples}
    rows = {name: [judged(made_clip(path, id), truth) for id, truth in truths.items()] for name, path in made.items()}
    events = [truth["event"] for truth in truths.values()]
    by_event = {
        name: {event: both([row for row, its in zip(found, events) if its == event]) for event in EVENTS}
        for name, found in rows.items()
    }
    changes = {f"{one} to {two}": paired(rows[one], rows[two]) for one, two in pairwise(rows)}
    return {"values": by_event, "changes": changes}


def paired(before: list[Fields], after: list[Fields]) -> dict[str, tuple[float, float, int]]:
    """{field: (mean change, its standard deviation over clips, clips)} where both have the field."""
    found = {}
    for name in (*SEEN, "avoidance", "mass_cv"):
        steps = [
            b["seen"][name] - a["seen"][name] for a, b in zip(before, after) if {name} <= {*a["seen"]} & {*b["seen"]}
        ]
        found[name] = (round(float(np.mean(steps)), 5), round(float(np.std(steps, ddof=1)), 5), len(steps))
    return found


def made_clip(folder: Path, name: str) -> Clip:
    from avbench.media import decode

    return decode(folder / f"{name}.mp4")


# the page


def cell(value: tuple[float, float, float, int], digits: int = 2) -> str:
    mean, low, high, _ = value
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def ideal_table(events: Mapping[str, Any]) -> str:
    lines = ["| | " + " | ".join(EVENTS) + " |", "|---" * (1 + len(EVENTS)) + "|"]
    lines.append("| scenes | " + " | ".join(str(events[event]["seen"][""][3]) for event in EVENTS) + " |")
    rows = [("seen", name, title) for name, title in zip(SEEN, TITLES)]
    rows += [("seen", "avoidance", "avoidance"), ("seen", "energy_gain", "energy gain")]
    rows += [("heard", "", "`contact_sync` (F1)"), ("heard", "lag", "lag (s)")]
    for side, name, title in rows:
        cells = [cell(found[name], 3) if name in (found := events[event][side]) else "" for event in EVENTS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fault_table(faults: Mapping[str, Any]) -> str:
    """Means; bold where they differ clearly from those without a fault."""
    lines = ["| fault | " + " | ".join([*TITLES, "sync F1", "lag (s)"]) + " |", "|---" + "|---:" * 9 + "|"]
    plain = faults["none"]
    for fault, found in faults.items():
        cells = []
        for side, name in [*(("seen", name) for name in SEEN), *(("heard", name) for name in HEARD)]:
            if name not in found[side]:
                cells.append("")
                continue
            value, usual = found[side][name][0], plain[side][name][0]
            text = f"{value:.2f}" if name != "lag" else f"{value:.3f}"
            cells.append(f"**{text}**" if abs(value - usual) > MOVED.get(name, 0.1) else text)
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def made_table(made: Mapping[str, Any]) -> str:
    head = ["clips of", "event", *TITLES, "avoidance", "sync F1"]
    lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * (len(head) - 2) + "|"]
    for name, events in made.items():
        for event in EVENTS:
            found = events[event]
            cells = [cell(found["seen"][""])]
            cells += [
                f"{found['seen'][key][0]:.2f}" if key in found["seen"] else "" for key in (*SEEN[1:], "avoidance")
            ]
            cells.append(cell(found["heard"][""]) if "" in found["heard"] else "")
            lines.append(f"| {name} | {event} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def change_table(changes: Mapping[str, Any]) -> str:
    """Mean change over its standard error: how surely a field sees the difference."""
    lines = ["| field | " + " | ".join(changes) + " |", "|---" + "|---:" * len(changes) + "|"]
    for name, title in zip((*SEEN, "avoidance", "mass_cv"), (*TITLES, "avoidance", "variation of area")):
        cells = []
        for found in changes.values():
            mean, deviation, count = found[name]
            cells.append(f"{mean:+.3f} ({mean / max(deviation, 1e-9) * count**0.5:+.1f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(record: Mapping[str, Any]) -> str:
    text = (ROOT / "tools" / "physics_page.md").read_text(encoding="utf-8")
    for name, value in (
        ("IDEAL", ideal_table(record["own"]["events"])),
        ("FAULTS", fault_table(record["faults"])),
        ("MADE", made_table(record["made"]["values"])),
        ("CHANGES", change_table(record["made"]["changes"])),
        ("MS", f"{record['own']['ms']:.0f}"),
        ("BOUNCES", str(record["faults"]["none"]["seen"][""][3])),
    ):
        text = text.replace(f"<{name}>", value)
    return text


# the figure


def draw(made: Mapping[str, Path]) -> None:
    """Six clips: where the thing was followed, the gap over time with its turns, the sound with its onsets."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    own = [scene("test", index, DESK) for index in (9, 8, 7)]
    shown = [(what.event, render(what), what.truth()) for what in own]
    what = own[0]
    shown.append(("turns 0.12 above the floor", FAULTS["turns 0.12 above the floor"](what), what.truth()))
    samples = {sample.id: sample for sample in load_suite("clatter-desk-mini").samples}
    for name, folder in [*made.items()][-1:]:
        for id in ("test-00021-bounce", "test-00029-collide"):
            shown.append((f"made after {name}", made_clip(folder, id), samples[id].extra["truth"]))
    figure = plt.figure(figsize=(9.6, 2.35 * ((len(shown) + 1) // 2)), constrained_layout=True)
    panels: Any = figure.subfigures((len(shown) + 1) // 2, 2)
    for panel, (title, clip, truth) in zip(panels.ravel(), shown):
        draw_clip(panel, title, clip, truth)
    figure.savefig(FIGURE, dpi=100, pil_kwargs={"optimize": True})
    plt.close(figure)


def draw_clip(panel: Any, title: str, clip: Clip, truth: Mapping[str, Any]) -> None:
    grid = grid_of(clip.need_video())
    reading = read(truth["event"], grid["grid"], grid["times"])
    motion_, times = reading.motion, grid["times"]
    score = Physics().score(grid, ("av-tight", truth["event"]), truth)
    cells = panel.add_gridspec(2, 5)
    picture, gaps, sound = (panel.add_subplot(place) for place in (cells[:, :2], cells[0, 2:], cells[1, 2:]))
    picture.imshow(grid["grid"].max(axis=0), cmap="gray", vmin=0, vmax=1.3, extent=(0, 1, 0, 1))
    for path in motion_.paths:
        picture.plot(*path.T, color="#ff9d3b", linewidth=0.8)
        picture.scatter(*path.T, c=times, cmap="autumn", s=9, zorder=3)
    if truth["event"] != "collide":
        picture.axhline(motion_.ground, color="#5ec8ff", linewidth=0.8)
    picture.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    gaps.set_title(f"{title}: {score['']:.2f}", fontsize=8.5, loc="left")
    gaps.axhspan(-1 / 16, 1 / 16, color="#5ec8ff", alpha=0.25, linewidth=0)
    gaps.plot(times, motion_.gap, ".-", color="#1f5a92", linewidth=0.9, markersize=4)
    turns = [(turn.time, turn.gap) for turn in reading.turns]
    if turns:
        gaps.plot(*np.array(turns).T, "v", color="#c0392b", markersize=5)
    gaps.set(xlim=(0, 2), xticklabels=[], ylabel="gap")
    audio = clip.need_audio()
    loudest = max(float(np.abs(audio.mono).max()), 1e-6)
    sound.plot(np.arange(audio.samples.shape[1]) / audio.rate, audio.mono / loudest, color="0.6", linewidth=0.3)
    for onset in onsets_of(audio)["times"]:
        sound.axvline(onset, color="#2e8b57", linewidth=1)
    seen = contacts(reading)
    sound.plot(seen, np.full(len(seen), 0.85), "v", color="#c0392b", markersize=5)
    sound.set(xlim=(0, 2), ylim=(-1.1, 1.1), yticks=[], ylabel="sound")


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--made", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--draw", action="store_true", help="page and figure alone, from docs/data/physics.json")
    chosen = parser.parse_args()
    made = {name: Path(folder) for name, _, folder in (one.rpartition("=") for one in chosen.made)}
    if not chosen.draw:
        record = {
            "own": measure_own(chosen.scenes),
            "faults": measure_faults(),
            "made": measure_made(made),
        }
        DATA.parent.mkdir(parents=True, exist_ok=True)
        DATA.write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")
    record = json.loads(DATA.read_text(encoding="utf-8"))
    draw(made)
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
