"""A radar chart with fixed bounds, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from avbench.leaderboard import Board, Column, knowledge

WIDTH, HEIGHT, RADIUS = 560, 360, 140  # the sides leave room for names
LEAST = 3  # axes of a radar
MODELS = 8  # shown at once; more cannot be told apart


@dataclass(frozen=True)
class Radar:
    """The picture, its models with their colours' numbers, and its bounds in words."""

    svg: str
    models: tuple[str, ...]
    bounds: tuple[tuple[str, float, float], ...]


def bounds(column: Column) -> tuple[float, float] | None:
    """(centre, rim) of a metric's axis, None where nothing fixes them."""
    from avbench.registry import metrics

    name = column.metric.partition("@")[0]
    if column.field or column.better == "none":
        return None
    if name in knowledge()["radar"]:
        centre, rim = knowledge()["radar"][name]
        return float(centre), float(rim)
    low, high = metrics.get(column.metric).card.range
    if low is None or high is None:
        return None
    return (float(low), float(high)) if column.better == "higher" else (float(high), float(low))


def radar(board: Board) -> Radar | None:
    """The board's models on all axes with fixed bounds, None where there are fewer than three."""
    axes = [(column, found) for column in board.columns if (found := bounds(column)) is not None]
    rows = board.rows[:MODELS]
    if len(axes) < LEAST:
        return None
    rings = "".join(
        f'<polygon class="ring" points="{points([share] * len(axes))}"/>' for share in (0.25, 0.5, 0.75, 1.0)
    )
    spokes = "".join(spoke(index, len(axes), column.id) for index, (column, _) in enumerate(axes))
    shapes = []
    for place, row in enumerate(rows):
        shares = [share(row.cells[column.id].value, *found) for column, found in axes]
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
            for x, y in (spot(i, len(axes), s) for i, s in enumerate(shares) if s is not None)
        )
        outline = points([s or 0.0 for s in shares])
        shapes.append(
            f'<g class="shape c{place}" data-model="{escape(row.model)}"><title>{escape(row.model)}</title>'
            f'<polygon points="{outline}"/>{dots}</g>'
        )
    label = escape(f"radar of {len(rows)} models over {len(axes)} metrics")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{rings}{spokes}{"".join(shapes)}</svg>'
    limits = tuple((column.id, *found) for column, found in axes)
    return Radar(svg, tuple(row.model for row in rows), limits)


def share(value: float | None, centre: float, rim: float) -> float | None:
    """How far out a value lies, held between centre and rim."""
    return None if value is None else min(1.0, max(0.0, (value - centre) / (rim - centre)))


def spot(index: int, count: int, out: float) -> tuple[float, float]:
    """Where a share of an axis lies on the picture."""
    angle = 2 * math.pi * index / count - math.pi / 2
    return WIDTH / 2 + RADIUS * out * math.cos(angle), HEIGHT / 2 + RADIUS * out * math.sin(angle)


def points(shares: list[float]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*spot(i, len(shares), s)) for i, s in enumerate(shares))


def spoke(index: int, count: int, name: str) -> str:
    """An axis with its name."""
    (x0, y0), (x1, y1), (x2, y2) = (spot(index, count, out) for out in (0.0, 1.0, 1.1))
    side = "middle" if abs(x2 - x0) < 8 else "start" if x2 > x0 else "end"
    return (
        f'<line class="ring" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
        f'<text x="{x2:.1f}" y="{y2 + 4:.1f}" text-anchor="{side}">{escape(name)}</text>'
    )
