"""`avbench report`: one self-contained HTML page of a run.

Summary, per-subset table, the distribution of every metric, and the best and worst clips with players, waveform,
spectrogram and whatever the metrics can draw over time. Captions and names are escaped; the page loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from avbench.report.clips import ClipCard, clip_cards
from avbench.report.figures import histogram
from avbench.results import Summary, arrow, number, summarise
from avbench.run import Run
from avbench.store import write_atomic


@dataclass(frozen=True)
class MetricSection:
    """One sample metric on the page, with (sample, value) of its extremes; none where all clips are equal."""

    id: str
    anchor: str
    title: str
    better: str
    constant: bool
    summary: Summary
    figure: str
    best: list[tuple[str, str]]
    worst: list[tuple[str, str]]


def write_report(run: Run, path: Path, clips: int = 3) -> Path:
    """Render the page to `path`. `clips`: how many of the best and of the worst clips of each metric to show."""
    from jinja2 import Environment

    folder = files("avbench.report")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.filters["arrow"] = arrow
    page = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    html = page.render(
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=(folder / "script.js").read_text(encoding="utf-8"),
        **context(run, clips),
    )
    write_atomic(path, html.encode())
    return path


def context(run: Run, clips: int) -> dict[str, Any]:
    """What the template shows."""
    subsets = sorted({tag for tags in run.samples["tags"] for tag in tags})
    overall = summarise(run)
    sections = [section(run, row, clips) for row in overall if row.kind == "sample" and not row.field and row.n]
    shown = list(dict.fromkeys(name for s in sections for name, _ in [*s.worst, *s.best]))
    return {
        "manifest": run.manifest,
        "counts": run.manifest["counts"],
        "summary": overall,
        "subsets": subset_table(run, overall, subsets),
        "subset_names": subsets,
        "sections": sections,
        "clips": clip_cards(run, shown),
        "problems": problems(run),
    }


def subset_table(run: Run, overall: list[Summary], subsets: list[str]) -> list[tuple[Summary, list[Summary | None]]]:
    """One row per metric, one cell per subset."""
    cells = {name: {(r.metric, r.field): r for r in summarise(run, name)} for name in subsets}
    return [(row, [cells[name].get((row.metric, row.field)) for name in subsets]) for row in overall if not row.field]


def section(run: Run, row: Summary, clips: int) -> MetricSection:
    """Distribution and extremes of one metric."""
    from avbench.registry import metrics

    scores = run.scores
    ok = scores[(scores["metric"] == row.metric) & (scores["field"] == "") & (scores["status"] == "ok")]
    ordered = ok.sort_values(["value", "sample"], ascending=row.better == "lower")
    pairs = [(str(name), number(value)) for name, value in zip(ordered["sample"], ordered["value"])]
    best = pairs[:clips]
    worst = [pair for pair in reversed(pairs[-clips:]) if pair not in best]
    figure = histogram(ok["value"].to_numpy(), row.value or 0.0, row.low, row.high)
    anchor = "m-" + "".join(c if c.isalnum() else "-" for c in row.metric)
    title, constant = metrics.get(row.metric).card.title, bool(ok["value"].min() == ok["value"].max())
    best, worst = ([], []) if constant else (best, worst)
    return MetricSection(row.metric, anchor, title, row.better, constant, row, figure, best, worst)


def problems(run: Run) -> list[dict[str, str]]:
    """Samples that are not ok, with their reason."""
    bad = [row for row in run.records("samples") if row["status"] != "ok"]
    return [{name: row[name] for name in ("sample", "status", "reason")} for row in bad]


__all__ = ["ClipCard", "write_report"]
