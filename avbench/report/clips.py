"""The clips a report shows: a small copy to play, its captions, its scores, and what can be drawn over time."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.features import Field
from avbench.metric import Metric, Track, inputs
from avbench.recall import recall
from avbench.report.figures import spectrogram, timeline
from avbench.results import number
from avbench.run import Run

SIDE = 320  # pixels of the longer side of a preview


@dataclass(frozen=True)
class ClipCard:
    """One clip on the page. `video` is a data address, "" where it cannot be played; `error` says why."""

    id: str
    texts: dict[str, str]
    tags: list[str]
    scores: list[tuple[str, str]]
    video: str = ""
    kind: str = "video"
    poster: str = ""
    figure: str = ""
    spectrogram: str = ""
    error: str = ""


def clip_cards(run: Run, names: Sequence[str]) -> list[ClipCard]:
    """Cards of these samples, in this order."""
    rows = {row["sample"]: row for row in run.records("samples")}
    over_time = tracks(run)
    scores: dict[str, list[tuple[str, str]]] = {}
    for row in run.records("scores"):
        if not row["field"]:
            value = number(row["value"]) if row["status"] == "ok" else f"{row['status']}: {row['reason']}"
            scores.setdefault(row["sample"], []).append((row["metric"], value.replace("not_applicable", "n/a")))
    return [clip_card(rows[name], scores[name], over_time) for name in names]


def clip_card(row: dict[str, Any], values: list[tuple[str, str]], over_time: Callable[[str], list[Track]]) -> ClipCard:
    """The card of one sample; a clip that cannot be shown says so and the page goes on."""
    from avbench.media import decode

    names = ("text", "video_text", "audio_text", "speech_text")
    texts = {name.replace("_text", "").replace("text", "prompt"): row[name] for name in names if row[name]}
    card = ClipCard(row["sample"], texts, list(row["tags"]), values)
    try:
        clip = decode(Path(row["path"]), Path(row["audio_path"]) if row["audio_path"] else None)
    except SampleError as error:
        return replace(card, error=str(error))
    seconds = max(clip.video.seconds if clip.video else 0, clip.audio.seconds + clip.audio.start if clip.audio else 0)
    return replace(
        card,
        video=preview(clip),
        poster=poster(clip),
        kind="video" if clip.video else "audio",
        figure=timeline(seconds, clip.audio, over_time(row["sample"])),
        spectrogram=spectrogram(clip.audio, seconds) if clip.audio else "",
    )


def preview(clip: Clip) -> str:
    """A small H.264 copy as a data address."""
    from avbench.encode import write_clip

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preview.mp4"
        write_clip(path, smaller(clip), crf=26)
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


def poster(clip: Clip) -> str:
    """The middle frame as a JPEG data address, "" for sound alone."""
    import cv2

    small = smaller(clip)
    if small.video is None:
        return ""
    frame = small.video.frames[len(small.video.frames) // 2]
    data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def smaller(clip: Clip) -> Clip:
    """The clip with its longer side at most `SIDE` pixels; small clips are kept."""
    import cv2

    if clip.video is None:
        return clip
    height, width = clip.video.frames.shape[1:3]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return clip
    size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.video.frames])
    return replace(clip, video=replace(clip.video, frames=frames))


def tracks(run: Run) -> Callable[[str], list[Track]]:
    """Sample id -> what the run's metrics draw over time, from features still in the store.

    Of a metric's fields `timeline` gets those that runs keep: texts and tags.
    """
    from avbench.registry import metrics

    rows = {row["sample"]: row for row in run.records("samples")}
    found = [metrics.get(one["id"]) for one in run.manifest["metrics"]]
    loaders = [(metric, recall(run, metric)) for metric in found if hasattr(metric, "timeline")]

    def of(sample: str) -> list[Track]:
        drawn: list[Track] = []
        for metric, load in loaders:
            values = load(sample, "sha256")
            if values is not None:
                kept = {name: rows[sample][key] for name, key in fields(metric).items() if key in rows[sample]}
                with suppress(SampleError):
                    drawn += metric.timeline(**values, **kept)
        return drawn

    return of


def fields(metric: Metric) -> dict[str, str]:
    """{attribute: name} of the sample's fields that a metric declares."""
    return {name: need.name for name, need in inputs(metric).items() if isinstance(need, Field)}
