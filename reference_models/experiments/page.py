"""The page of an experiment: the answer, the tables in the form of the paper's, effects, curves, clips side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avbench.reference_models.experiments.effects import Effect, Key
from avbench.reference_models.experiments.plan import Experiment, Job, chosen, contrasts, jobs
from avbench.results import arrow, number
from avbench.store import write_atomic

if TYPE_CHECKING:
    from avbench.reference_models.experiments.conduct import Results

PROMPTS = 8  # shown side by side
NAMES = {"": "all", "av-tight": "AV-Tight", "av-loose": "AV-Loose"}
COLOURS = {"twin": ("#c8553d", "#1f6f8b"), "control": ("#8a8f98", "#b08d3c", "#7a4f9a")}
ROW = 26


@dataclass(frozen=True)
class Cell:
    """A value in a table: mean and standard deviation over seeds, and the change against the twin, in percent."""

    value: float | None = None
    spread: float | None = None
    change: float | None = None
    good: bool | None = None


def write_page(experiment: Experiment, scale_name: str, found: Results, folder: Path) -> Path:
    """Render `report.html`; returns its path."""
    from jinja2 import Environment

    scale = experiment.scales[scale_name]
    todo = jobs(experiment, scale)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "arrow": arrow, "signed": signed, "plain": plain}
    template = environment.from_string((files(__package__) / "page.html").read_text(encoding="utf-8"))
    asked = {one.name: one.asks for one in contrasts(experiment, scale)}
    headline = [e for name in asked if (e := found.find(name))]
    html = template.render(
        style=(files("avbench.report") / "style.css").read_text(encoding="utf-8"),
        experiment=experiment, scale=scale, scale_name=scale_name, found=found, asked=asked, names=NAMES,
        trainings=len(todo), config=todo[0].config, seeds=scale.seeds[0],
        seen=table(experiment, found, experiment.seen), heard=table(experiment, found, experiment.heard),
        variants=chosen(experiment, scale), headline=headline, forest=forest(headline),
        fields=sorted((e for e in found.effects if belongs(e, experiment)), key=lambda e: place(e, experiment)),
        curves=curves(todo, folder / "training"),
        prompts=prompts(experiment, found), manifest=next(iter(found.baselines.values())).manifest,
        command=f"avbench reproduce {experiment.name} --scale {scale_name}",
    )  # fmt: skip
    path = folder / "report.html"
    write_atomic(path, html.encode())
    return path


def signed(value: float | None) -> str:
    """Three significant digits with a sign."""
    return "" if value is None else f"{value:+.3g}"


def place(one: Effect, experiment: Experiment) -> tuple[int, int, str]:
    """Order of a measure: as the experiment names subsets and metrics, fields after their metric's main value."""
    return experiment.subsets.index(one.subset), experiment.metrics.index(one.metric), one.field


def plain(value: float) -> str:
    """As elsewhere, but rounding errors of a distance from a set to itself are 0."""
    return number(value if abs(value) > 1e-9 else 0.0)


def belongs(one: Effect, experiment: Experiment) -> bool:
    """Whether an effect of the primary contrast stands in the table of measures: every metric on every subset, and the
    fields of the primary one."""
    shown = not one.field or one.metric == experiment.primary.metric
    return one.contrast == experiment.primary.contrast and one.subset != "" and shown


# Tables --------------------------------------------------------------------------------------------------------------


def table(experiment: Experiment, found: Results, metrics: Sequence[str]) -> dict[str, Any]:
    """Columns with directions, and per subset one row for every baseline and variant."""
    from avbench.registry import metrics as registry

    cards = {name: registry.get(name).card for name in metrics}
    blocks = []
    for subset in experiment.subsets:
        values = {name: {seed: one[subset] for seed, one in by.items()} for name, by in found.values.items()}
        rows = [
            (name, "baseline", [Cell(mean(one[subset].get((m, ""), {}))) for m in metrics])
            for name, one in found.plain.items()
        ]
        for variant in experiment.variants:
            if variant.name not in values:
                continue
            twin = values.get(against(experiment, variant.name), {})
            cells = [cell(values[variant.name], twin, (m, ""), cards[m].better) for m in metrics]
            if any(one.value is not None for one in cells):
                rows.append((variant.label, variant.role, cells))
        blocks.append((NAMES.get(subset, subset), rows))
    return {"columns": [(name, cards[name].better, cards[name].title) for name in metrics], "blocks": blocks}


def against(experiment: Experiment, variant: str) -> str:
    """What a variant's values are shown relative to: the first side of a contrast in which it is the second."""
    return next((one.a for one in experiment.contrasts if one.b == variant), "")


def cell(
    values: Mapping[int, Mapping[Key, dict[str, float]]], twin: Mapping[int, Mapping[Key, dict[str, float]]],
    key: Key, better: str,
) -> Cell:  # fmt: skip
    """Mean and spread over seeds; the change against the twin's mean over its seeds."""
    own, other = ([m for one in side.values() if (m := mean(one.get(key, {}))) is not None] for side in (values, twin))
    if not own:
        return Cell()
    value, spread = float(np.mean(own)), float(np.std(own, ddof=1)) if len(own) > 1 else None
    if not other or not np.mean(other):
        return Cell(value, spread)
    change = 100 * (value - float(np.mean(other))) / abs(float(np.mean(other)))
    good = None if better == "none" or not change else (change > 0) == (better == "higher")
    return Cell(value, spread, change, good)


def mean(values: Mapping[str, float]) -> float | None:
    """The mean, None of nothing."""
    return float(np.mean(list(values.values()))) if values else None


# Figures -------------------------------------------------------------------------------------------------------------


def forest(effects: Sequence[Effect]) -> str:
    """Difference of every contrast with its interval over seeds, thin, and a dot for each seed."""
    if not effects:
        return ""
    ends = [x for e in effects for x in (e.over.low, e.over.high, *e.seeds, 0.0) if x is not None]
    seen = [x for e in effects for x in (*e.seeds, 0.0)]
    reach = 2.5 * max(max(seen) - min(seen), 1e-9)  # three seeds may have intervals that dwarf all else: cut those
    low, high = max(min(ends), min(seen) - reach), min(max(ends), max(seen) + reach)
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)

    def x(value: float) -> float:
        return 190 + 500 * (min(max(value, low), high) - low) / (high - low)

    height = ROW * len(effects) + 30
    parts = [f'<line class="tick" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{height - 24}"/>']
    for row, one in enumerate(effects):
        y = ROW * row + 18
        parts.append(f'<text x="180" y="{y + 4}" text-anchor="end">{one.contrast}</text>')
        if one.over.low is not None and one.over.high is not None:
            parts.append(
                f'<line class="mean" x1="{x(one.over.low):.1f}" x2="{x(one.over.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts += [f'<circle class="seed" cx="{x(value):.1f}" cy="{y}" r="3"/>' for value in one.seeds]
        parts.append(f'<rect class="wave" x="{x(one.difference) - 1.5:.1f}" y="{y - 8}" width="3" height="16"/>')
    for value in (low, 0.0, high):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle">{value:.2g}</text>')
    body = "".join(parts)
    return f'<svg viewBox="0 0 720 {height}" role="img" aria-label="effects" class="figure">{body}</svg>'


def curves(todo: Sequence[Job], training: Path) -> str:
    """Held-out video loss of twins and controls, every seed a line."""
    from avbench.reference_models.training.curves import Curve, curve, draw_lines, read_log

    lines: list[tuple[str, str, str, Curve]] = []
    shades = {role: list(colours) for role, colours in COLOURS.items()}
    colour: dict[str, str] = {}
    for job in todo:
        path = training / job.name / "loss.jsonl"
        if job.variant.role not in shades or not path.is_file():
            continue
        new = job.variant.name not in colour
        if new:
            colour[job.variant.name] = shades[job.variant.role].pop(0)
        found = curve(read_log(path), "valid_video")
        lines.append((job.variant.label, "held" if new else "other", colour[job.variant.name], found))
    return draw_lines(lines, "held-out video loss, every seed", low_step=lines[0][3][0][-1] / 4 if lines else 0)


# Clips ---------------------------------------------------------------------------------------------------------------


def prompts(experiment: Experiment, found: Results) -> list[dict[str, Any]]:
    """Prompts spread evenly over the suite with the clip of each model, the first seed of each variant."""
    shown = {"reference": (found.baselines["reference"], found.plain["reference"])}
    for variant in experiment.variants:
        if variant.name in found.models and variant.role in ("twin", "control", "system"):
            seed = min(found.models[variant.name])
            shown[variant.label] = found.models[variant.name][seed], found.values[variant.name][seed]
    rows = {name: {row["sample"]: row for row in run.records("samples")} for name, (run, _) in shown.items()}
    scores = {name: values[""].get((experiment.primary.metric, ""), {}) for name, (_, values) in shown.items()}
    every = list(next(iter(rows.values())).values())
    picked = [every[(2 * i + 1) * len(every) // (2 * PROMPTS)] for i in range(min(PROMPTS, len(every)))]
    return [
        {
            "text": row["text"], "tags": row["tags"],
            "clips": [
                {"name": name, "score": scores[name].get(row["sample"]), **playable(rows[name][row["sample"]])}
                for name in shown
            ],
        }
        for row in picked
    ]  # fmt: skip


def playable(row: Mapping[str, Any]) -> dict[str, str]:
    """A clip as data addresses, or why there is none."""
    from avbench.errors import SampleError
    from avbench.media import decode
    from avbench.report.clips import poster, preview

    if not row["path"]:
        return {"error": row["reason"] or "no clip"}
    try:
        clip = decode(Path(row["path"]), Path(row["audio_path"]) if row["audio_path"] else None)
    except (SampleError, OSError) as error:
        return {"error": str(error)}
    return {"video": preview(clip), "poster": poster(clip), "silent": "" if clip.audio else "no sound"}
