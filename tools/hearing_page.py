"""Writes docs/hearing-helps-seeing.md from a finished experiment.

    python tools/hearing_page.py RUNS [--scale cpu]

RUNS is the folder given to `avbench reproduce hearing-helps-seeing --out RUNS`. Numbers come from its runs and from
`effects.json`; pictures from its clips. What the numbers mean is in tools/hearing_page.md, where a person wrote it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avbench.media import decode
from avbench.reference_models.experiments import conduct, page, plan
from avbench.reference_models.experiments.conduct import Results
from avbench.reference_models.experiments.effects import Effect
from avbench.results import arrow, number
from avbench.run import Run, runs_in

ROOT = Path(__file__).resolve().parent.parent
TEXT = Path(__file__).with_suffix(".md")
REST_COLUMNS = (
    "physics@clatter",
    "clip_score@clatter",
    "fvd@clatter",
    "contact_sync@clatter",
    "av_ib@clatter",
    "clap_score@clatter",
    "fad@clatter",
)
SIDE, SHOWN = 44, 8  # pixels of a frame in the contact sheet, frames of a clip


def gather(experiment: plan.Experiment, scale: plan.Scale, folder: Path) -> tuple[list[plan.Job], Results]:
    """The jobs that have a run, and their results."""
    runs: dict[str, Run] = {}
    for run in runs_in(folder / "runs", scale.suite):
        runs[run.model] = run
    todo = plan.jobs(experiment, scale)
    done = [job for job in todo if job.name in runs or job.variant.role == "check"]
    return done, conduct.results(experiment, scale, done, runs, folder)


def span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:+.3g}, {high:+.3g}]"


def lines(head: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> str:
    """A Markdown table, columns from `right` on aligned right."""
    rule = ["---" if at < right else "---:" for at in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def part(experiment: plan.Experiment, rest: bool) -> plan.Experiment:
    """The experiment's twins and controls alone, or the rest alone: ablations and other systems."""
    variants = tuple(one for one in experiment.variants if (one.role in plan.REST) == rest)
    names = {one.name for one in variants}
    kept = tuple(one for one in experiment.contrasts if {one.a, one.b} <= names)
    return experiment.model_copy(update={"variants": variants, "contrasts": kept})


def contrasts(experiment: plan.Experiment, found: Results, subset: str) -> str:
    """Every contrast on the primary metric and a subset."""
    effects = [(one.name, found.find(one.name, subset=subset)) for one in experiment.contrasts]
    rows = [[name, *effect_cells(effect)] for name, effect in effects if effect]
    head = ["contrast", "a", "b", "b − a", "95 % over seeds", "p", "Holm", "95 % over prompts", "seeds"]
    return lines(head, rows)


def single(experiment: plan.Experiment, found: Results) -> str:
    """Contrasts of one training each on the primary metric, which has no interval over seeds."""
    rows = []
    for one in experiment.contrasts:
        tight, loose = (found.find(one.name, subset=subset) for subset in ("av-tight", "av-loose"))
        if tight and loose:
            cells = [(number(e.a), number(e.b), f"{e.difference:+.3g}", prompts(e)) for e in (tight, loose)]
            rows.append([one.name, one.asks, *cells[0], *cells[1][2:]])
    head = ["contrast", "asks", "a", "b", "b − a", "95 % over prompts", "b − a, AV-Loose", "95 % over prompts"]
    return lines(head, rows, 2)


def prompts(one: Effect) -> str:
    return span(one.prompts.low, one.prompts.high) if one.prompts else ""


def effect_cells(one: Effect) -> list[str]:
    p, holm = ("" if value is None else f"{value:.3f}" for value in (one.over.p, one.holm))
    each = " ".join(f"{value:+.3f}" for value in one.seeds)
    return [
        number(one.a),
        number(one.b),
        f"{one.difference:+.3g}",
        span(one.over.low, one.over.high),
        p,
        holm,
        prompts(one),
        each,
    ]


def beyond(one: Effect | None) -> str:
    """The difference of differences."""
    return f"{one.difference:+.3g} {span(one.over.low, one.over.high)}" if one else ""


def values(table: dict[str, Any], subsets: Sequence[str] = tuple(page.NAMES.values()), baselines: bool = True) -> str:
    """A table of values, a block for every subset."""
    rows: list[list[str]] = []
    for subset, block in table["blocks"]:
        for label, role, cells in block:
            if subset in subsets and (baselines or role != "baseline"):
                rows.append([subset, label, *map(cell_text, cells)])
    return lines(
        ["subset", "model", *(f"{name} {arrow(better)}".strip() for name, better, _ in table["columns"])], rows, 2
    )


def cell_text(one: page.Cell) -> str:
    if one.value is None:
        return "–"
    spread = f" ± {one.spread:.2g}" if one.spread is not None else ""
    change = f" ({one.change:+.1f} %)" if one.change is not None else ""
    return f"{page.plain(one.value)}{spread}{change}"


def fields(experiment: plan.Experiment, found: Results) -> str:
    """T2AV - T2V by field of the primary metric."""

    def wanted(one: Effect) -> bool:
        return page.belongs(one, experiment)

    rows = [
        [e.field or e.metric, page.NAMES[e.subset], number(e.a), number(e.b), f"{e.difference:+.3g}",
         span(e.over.low, e.over.high), prompts(e)]
        for e in sorted(filter(wanted, found.effects), key=lambda e: page.place(e, experiment))
    ]  # fmt: skip
    return lines(["measure", "subset", "T2V", "T2AV", "difference", "95 % over seeds", "95 % over prompts"], rows, 2)


# Pictures ------------------------------------------------------------------------------------------------------------


def sheet(experiment: plan.Experiment, found: Results, path: Path) -> None:
    """Four prompts, each a row per model: frames in time, and the log-mel sound where there is one."""
    shown = {"reference": found.baselines["reference"]}
    for name in ("t2v", "t2av", "shuffled-audio"):
        if name in found.models:
            shown[experiment.variant(name).label] = found.models[name][0]
    records = {label: {row["sample"]: row for row in run.records("samples")} for label, run in shown.items()}
    tight = [row for row in records["reference"].values() if "av-tight" in row["tags"]]
    of = {event: [row["sample"] for row in tight if event in row["tags"]] for event in ("bounce", "collide", "stick")}
    picked = [
        of[event][at % len(of[event])] for event, at in (("bounce", 1), ("collide", 1), ("stick", 1), ("bounce", 2))
    ]
    blocks = [np.concatenate([strip(label, rows[sample]) for label, rows in records.items()]) for sample in picked]
    gap = np.full((blocks[0].shape[0], 14, 3), 255, np.uint8)
    rows = [np.concatenate([blocks[i], gap, blocks[i + 1]], 1) for i in (0, 2)]
    between = np.full((10, rows[0].shape[1], 3), 255, np.uint8)
    cv2.imwrite(str(path), np.concatenate([rows[0], between, rows[1]]), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def strip(label: str, row: dict[str, Any]) -> np.ndarray:
    """One clip: its name, some of its frames, its sound."""
    clip = decode(Path(row["path"]), Path(row["audio_path"]) if row["audio_path"] else None)
    frames = clip.need_video().frames
    index = np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)
    images = [cv2.resize(frames[i], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in index]
    name = np.full((SIDE, 84, 3), 255, np.uint8)
    cv2.putText(name, label, (2, SIDE // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([name, *images, sound(clip.audio)], 1)


def sound(audio: Any) -> np.ndarray:
    """Log-mel picture [SIDE, 2 SIDE, 3]; white where there is no sound."""
    if audio is None:
        return np.full((SIDE, 2 * SIDE, 3), 255, np.uint8)
    import librosa

    mel = librosa.feature.melspectrogram(y=audio.mono, sr=audio.rate, n_fft=512, hop_length=128, n_mels=32)
    level = np.clip((librosa.power_to_db(mel, ref=1.0) + 50) / 60, 0, 1)[::-1]
    grey = cv2.resize((level * 255).astype(np.uint8), (2 * SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--scale", default="cpu")
    chosen = parser.parse_args()
    experiment = plan.load("hearing-helps-seeing")
    scale = experiment.scales[chosen.scale]
    folder = chosen.runs / experiment.name / chosen.scale
    done, found = gather(experiment, scale, folder)
    main_part, rest = part(experiment, rest=False), part(experiment, rest=True)
    images = ROOT / "docs" / "images"
    sheet(experiment, found, images / "hearing-clips.png")
    (images / "hearing-loss.svg").write_text(page.curves(done, folder / "training"), encoding="utf-8")
    text = TEXT.read_text(encoding="utf-8")
    parts = {
        "answer": found.answer,
        "equal": {True: "It does.", False: "**It does not.**", None: "Not trained here."}[found.equal],
        "interaction": beyond(found.interaction),
        "tight": contrasts(main_part, found, "av-tight"),
        "loose": contrasts(main_part, found, "av-loose"),
        "seen": values(page.table(main_part, found, experiment.seen)),
        "heard": values(page.table(main_part, found, experiment.heard)),
        "rest": single(rest, found),
        "rest_values": values(page.table(rest, found, REST_COLUMNS), ("AV-Tight",), baselines=False),
        "fields": fields(experiment, found),
        "trainings": str(len(done)),
        "prompts": str(len(found.baselines["reference"].samples)),
    }
    for name, value in parts.items():
        text = text.replace(f"<!-- {name} -->", value)
    (ROOT / "docs" / "hearing-helps-seeing.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
