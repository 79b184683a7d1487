"""The static site: leaderboards with drill-down by subset, radar, correlations, and clips played side by side.

A folder of plain files, one page per suite: it opens from a disk, works on any static host and asks no other server for
anything. Previews are named by the digest of their clip, so writing the site again makes only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from avbench.correlation import MIN_MODELS, MIN_PAIRS, correlations
from avbench.entries import Entry
from avbench.leaderboard import Board, Boards, Cell
from avbench.results import arrow, number
from avbench.run import safe
from avbench.site.radar import radar
from avbench.store import write_atomic

SUBSETS = 60  # beyond this a drill-down is a list nobody reads


def write_site(
    out: Path,
    suites: Sequence[str],
    folder: Path,
    metrics: Sequence[str] = (),
    published: bool = False,
    clips: int = 12,
    say: Callable[[str], None] = lambda line: None,
    partial: bool = False,
) -> Path:
    """Write the pages of these suites; returns the front page. `clips`: prompts in the browser of clips."""
    pages = []
    for suite in suites:
        say(f"page of {suite}")
        boards = Boards(out, suite, metrics, partial)
        overall = boards.board(published=published)
        tables = [overall, *(boards.board(tag, published=published) for tag in list(boards.subsets)[:SUBSETS])]
        name = f"{safe(suite.replace('/', '+'))}.html"
        shown = browser(boards, [row.model for row in overall.rows], folder, clips, say)
        html = render(
            "page.html", board=overall, boards=tables, radar=radar(overall), correlations=correlations(boards),
            least=(MIN_PAIRS, MIN_MODELS), browser=shown,
        )  # fmt: skip
        write_atomic(folder / name, html.encode())
        pages.append((name, overall))
    write_atomic(folder / "index.html", render("index.html", pages=pages).encode())
    return folder / "index.html"


def render(template: str, **values: Any) -> str:
    """A template with the style and script of all pages inside; everything but those is escaped."""
    from jinja2 import DictLoader, Environment

    sources = {name: text(name) for name in ("page.html", "index.html", "table.html")}
    environment = Environment(loader=DictLoader(sources), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "arrow": arrow}
    environment.globals["no_cell"] = Cell()
    return environment.get_template(template).render(style=text("style.css"), script=text("script.js"), **values)


def text(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


# Clips side by side ---------------------------------------------------------------------------------------------------


def browser(
    boards: Boards, models: Sequence[str], folder: Path, count: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Prompts spread evenly over the suite, with each model's clip and scores."""
    rows = {entry.model: {row["sample"]: row for row in entry.runs[0].records("samples")} for entry in boards.entries}
    if count < 1:
        return {"models": [], "samples": []}
    every = list(next(iter(rows.values())).values())
    chosen = [every[i * len(every) // min(count, len(every))] for i in range(min(count, len(every)))]
    samples = []
    for place, row in enumerate(chosen):
        say(f"clips {place + 1}/{len(chosen)}: {row['sample']}")
        texts = {name: row[f"{name}_text"] for name in ("video", "audio", "speech") if row[f"{name}_text"]}
        clips = {e.model: clip(rows[e.model][row["sample"]], e, boards, folder) for e in boards.entries}
        samples.append({"id": row["sample"], "text": row["text"], "texts": texts, "tags": row["tags"], "clips": clips})
    return {"models": list(models), "samples": samples}


def clip(row: dict[str, Any], entry: Entry, boards: Boards, folder: Path) -> dict[str, Any]:
    """A clip as the script shows it: preview and poster as relative addresses, or why it cannot be played."""
    scores = []
    for metric in boards.metrics:
        value = entry.values(metric, "").get(row["sample"])
        if value is not None:
            scores.append([metric, number(value)])
    return {**media(row, folder), "scores": scores}


def media(row: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write the preview and poster of a clip, unless they are there."""
    from avbench.errors import SampleError
    from avbench.media import decode
    from avbench.report.clips import poster, preview

    if not row.get("path") or not row.get("sha256"):
        return {"error": row["reason"] or "no clip"}
    video, image = (folder / "media" / f"{row['sha256'][:24]}.{kind}" for kind in ("mp4", "jpg"))
    if not video.is_file():
        try:
            found = decode(Path(row["path"]), Path(row["audio_path"]) if row["audio_path"] else None)
        except (SampleError, OSError) as error:
            return {"error": str(error)}
        if address := poster(found):
            write_atomic(image, payload(address))
        write_atomic(video, payload(preview(found)))
    return {"video": f"media/{video.name}", "poster": f"media/{image.name}" if image.is_file() else ""}


def payload(address: str) -> bytes:
    """The bytes of a data address."""
    import base64

    return base64.b64decode(address.partition(",")[2])


__all__ = ["Board", "write_site"]
