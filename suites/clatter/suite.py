"""The suites `clatter`, `clatter-mini` and `clatter-twins`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from avbench.clip import Clip
from avbench.suite import Sample, Suite, suite

DESCRIPTION = (
    "a procedural world of sounding videos with exact ground truth: in av-tight samples visible contacts make the "
    "sound, in av-loose ones the sound is ambient"
)
TWINS = 32
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


def twins() -> Iterator[dict[str, Any]]:
    """Tight scenes and their loose twins: the same pictures, another soundtrack."""
    from avbench.suites.clatter import records

    for sound in ("", "loose"):
        yield from (row for row in records(2 * TWINS, sound=sound) if row["index"] % 2 == 0)


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
