"""The suites `clatter`, `clatter-mini`, `clatter-twins`, `clatter-desk` and `clatter-desk-mini`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from avbench.clip import Clip, Video
from avbench.suite import Sample, Suite, suite

DESCRIPTION = (
    "a procedural world of sounding videos with exact ground truth: in av-tight samples visible contacts make the "
    "sound, in av-loose ones the sound is ambient"
)
TWINS = 32
DESK_SCENES = {"clatter-desk": 256, "clatter-desk-mini": 32}
DESK_DESCRIPTION = (
    "clatter at desk size, for models trained on a CPU: every picture twice, with the sound of its own contacts "
    "(av-tight) and with an ambient one (av-loose)"
)
SHOW = 8
"""A pixel of the desk world is shown as a square of so many, as the reference models' pixel codec shows it."""
TEXTS = ("text", "video_text", "audio_text")


@suite("clatter", "clatter-mini", "clatter-twins")
def clatter(name: str) -> Suite:
    """The embedded suites. `clatter-twins` holds each tight video twice: with its own sound and with an ambient one."""
    from avbench.suites.clatter import CLATTER, SIZES, VERSION, records

    rows = twins() if name == "clatter-twins" else records(SIZES[name])
    return Suite(
        name=name,
        version=str(VERSION),
        samples=tuple(sample(index, row) for index, row in enumerate(rows)),
        description=DESCRIPTION,
        licence="Apache-2.0",
        source="avbench",
        protocol={
            "seconds": CLATTER.seconds, "fps": CLATTER.fps, "width": CLATTER.width, "height": CLATTER.height,
            "sample_rate": CLATTER.rate,
        },
        render=render_sample,
    )  # fmt: skip


@suite("clatter-desk", "clatter-desk-mini")
def desk(name: str) -> Suite:
    """The desk world's suites: tight and loose twins side by side. Places of the truth are in pixels as shown."""
    from avbench.suites.clatter import DESK, VERSION

    return Suite(
        name=name,
        version=str(VERSION),
        samples=tuple(sample(index, row) for index, row in enumerate(desk_rows(DESK_SCENES[name]))),
        description=DESK_DESCRIPTION,
        metrics=("desk",),
        licence="Apache-2.0",
        source="avbench",
        protocol={
            "seconds": DESK.seconds, "fps": DESK.fps, "width": DESK.width * SHOW, "height": DESK.height * SHOW,
            "sample_rate": DESK.rate,
        },
        render=render_desk,
    )  # fmt: skip


def twins() -> Iterator[dict[str, Any]]:
    """Tight scenes and their loose twins: the same pictures, another soundtrack."""
    from avbench.suites.clatter import records

    for sound in ("", "loose"):
        yield from (row for row in records(2 * TWINS, sound=sound) if row["index"] % 2 == 0)


def desk_rows(scenes: int) -> Iterator[dict[str, Any]]:
    """Each of the first desk scenes, tight and loose in turn."""
    from avbench.suites.clatter import DESK, records

    shown = replace(DESK, width=DESK.width * SHOW, height=DESK.height * SHOW)
    for pair in zip(records(scenes, spec=shown, sound="tight"), records(scenes, spec=shown, sound="loose")):
        yield from pair


def sample(index: int, row: Mapping[str, Any]) -> Sample:
    """A record of the world as a sample; its truth is kept in `extra`."""
    tags = (f"av-{row['tags']['sync']}", row["tags"]["event"])
    place = {"split": "test", "scene": row["index"], "sound": row["tags"]["sync"]}
    texts = {name: row[name] for name in TEXTS}
    return Sample(row["id"], index, **texts, tags=tags, extra={**place, "truth": row["truth"]})


def render_sample(sample: Sample) -> Clip:
    """The real clip of a sample."""
    from avbench.suites.clatter import render, scene

    what = sample.extra
    return render(scene(what["split"], what["scene"], sound=what["sound"]))


def render_desk(sample: Sample) -> Clip:
    """The real clip of a desk sample, enlarged for players and for metrics with a least size."""
    from avbench.suites.clatter import DESK, render, scene

    what = sample.extra
    return enlarged(render(scene(what["split"], what["scene"], DESK, sound=what["sound"])))


def enlarged(clip: Clip, times: int = SHOW) -> Clip:
    """Every pixel as a square of `times` by `times`; area averaging gives the pixels back."""
    video = clip.need_video()
    frames = np.repeat(np.repeat(video.frames, times, axis=1), times, axis=2)
    return replace(clip, video=Video(frames, video.times, video.fps))
