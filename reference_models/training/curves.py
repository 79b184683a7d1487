"""Loss curves of a training folder as one SVG. No plotting library, no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOG, FIGURE = "loss.jsonl", "loss.svg"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 64, 170, 34, 44
COLOURS = ("#1f6f8b", "#c8553d", "#5b8c3a", "#7a4f9a")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}"
    ".grid{stroke:#ddd}.raw{fill:none;stroke-opacity:.25}.line{fill:none;stroke-width:1.8}"
)
Curve = tuple[np.ndarray, np.ndarray]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a loss log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def curve(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """Steps and values of a quantity where it was logged."""
    pairs = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
    steps, values = np.array(pairs, float).reshape(-1, 2).T
    return steps, values


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over the last `width` values, but over no more than the last fifth: the steep beginning stays steep."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    end = np.arange(1, len(values) + 1)
    begin = end - np.clip(end // 5, 1, width)
    found: np.ndarray = (total[end] - total[begin]) / (end - begin)
    return found


def write_curves(folder: Path) -> None:
    """`loss.svg` from `loss.jsonl`: training losses thin as logged and thick smoothed, held-out ones dashed."""
    from avbench.reference_models.training.checkpoint import replace_file

    if not (folder / LOG).is_file():
        return
    text = draw_curves(read_log(folder / LOG), folder.resolve().name)
    if text:
        replace_file(folder / FIGURE, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def draw_curves(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """The curves of one training; "" where nothing was logged."""
    names = [n for n in ("video", "audio", "audio_driven", "video_driven") if any(n in row for row in rows)]
    lines: list[tuple[str, str, str, Curve]] = []
    for name, colour in zip(names, COLOURS):
        steps, values = curve(rows, name)
        lines.append((name, "raw", colour, (steps, values)))
        lines.append((name, "line", colour, (steps, smooth(values, 20))))
        held = curve(rows, f"valid_{name}")
        if len(held[0]):
            lines.append((f"{name}, held out", "held", colour, held))
    return draw_lines(lines, f"{title}: loss")


def draw_lines(lines: Sequence[tuple[str, str, str, Curve]], title: str, low_step: float = 0.0) -> str:
    """An SVG document of lines (name, kind "raw", "line" or "held", colour, curve); "" where they are all empty."""
    drawn = [one for one in lines if len(one[3][0])]
    if not drawn:
        return ""
    values = np.concatenate([c[1][c[0] >= low_step] for *_, c in drawn])
    values = values[np.isfinite(values) & (values > 0)]
    last = max(float(c[0].max()) for *_, c in drawn) or 1.0
    low, high = math.log10(values.min()) - 0.03, math.log10(values.max()) + 0.03

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        part = (math.log10(max(value, 1e-12)) - low) / max(high - low, 1e-9)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(part, 0.0), 1.0)

    body = [axes(x, y, last, low, high), f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>']
    body += [path(kind, colour, c, x, y) for _, kind, colour, c in drawn]
    body.append(legend([(name, kind, colour, c) for name, kind, colour, c in drawn if kind in ("line", "held")]))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return f'{head}<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'


def path(kind: str, colour: str, points: Curve, x: Any, y: Any) -> str:
    """One curve; the held-out one dashed, with a dot at each measurement."""
    xy = [(x(s), y(v)) for s, v in zip(*points) if math.isfinite(v)]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in xy)
    if kind != "held":
        return f'<polyline class="{kind}" stroke="{colour}" points="{line}"/>'
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.4" fill="{colour}"/>' for a, b in xy)
    return f'<polyline fill="none" stroke="{colour}" stroke-dasharray="4 3" points="{line}"/>{dots}'


def axes(x: Any, y: Any, last: float, low: float, high: float) -> str:
    """Grid and labels: steps across, the loss upwards on a logarithmic scale."""
    parts = []
    for value in ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for step in np.arange(0, last + 1e-9, round_step(last)):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join(parts) + f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">step</text>'


def round_step(last: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are four to ten steps up to `last`."""
    unit = 10.0 ** math.floor(math.log10(last))
    return next(unit * part for part in (0.1, 0.2, 0.5, 1.0) if last / (unit * part) <= 10)


def ticks(low: float, high: float) -> list[float]:
    """Round values between 10**low and 10**high: 1, 2 and 5 of each decade, and more where these are too few."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(10, 100) / 10)):
        decades = range(math.floor(low), math.ceil(high) + 1)
        found = [d * 10.0**k for k in decades for d in digits if low <= math.log10(d * 10.0**k) <= high]
        if len(found) >= 4:
            return [float(f"{v:.3g}") for v in found[:: max(1, len(found) // 8)]]
    return [float(f"{10**v:.3g}") for v in np.linspace(low, high, 5)]


def legend(lines: Sequence[tuple[str, str, str, Curve]]) -> str:
    """Names and last values beside the curves."""
    parts = []
    for row, (name, kind, colour, (_, values)) in enumerate(lines):
        at, dash = TOP + 14 + 20 * row, ' stroke-dasharray="4 3"' if kind == "held" else ""
        parts.append(
            f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 34}" y1="{at - 4}" y2="{at - 4}" '
            f'stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{WIDTH - RIGHT + 40}" y="{at}">{escape(name)} {values[-1]:.3g}</text>'
        )
    return "".join(parts)


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
