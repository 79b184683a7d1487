"""`clatter`: a deterministic world of sounding videos with exact ground truth, made on the spot.

    from avbench.suites.clatter import CLATTER, render, scene
    hit = scene("test", 4)            # what happens, its captions, tags and truth
    clip = render(hit)                # frames and samples: an avbench Clip
    twin = hit.with_sound("loose")    # the same frames, another soundtrack

Everything follows from (split, index) and the world's laws, in any order, on any machine: the same bits (see `exact`).
Even indices of the standard world are tight events, odd ones loose; 16 in a row hold each event once.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.suites.clatter import paint
from avbench.suites.clatter import sound as sounds
from avbench.suites.clatter.captions import captions
from avbench.suites.clatter.events import BUILDERS
from avbench.suites.clatter.exact import Draws
from avbench.suites.clatter.suite import clatter, desk
from avbench.suites.clatter.world import (
    CLATTER,
    DESK,
    EVENTS,
    FAULTS,
    LOOSE,
    MATERIALS,
    TIGHT,
    Body,
    Camera,
    Contact,
    Laws,
    Scene,
    Stage,
    WorldSpec,
)

__all__ = [
    "CLATTER", "DESK", "EVENTS", "FAULTS", "LOOSE", "MATERIALS", "SIZES", "TIGHT", "VERSION", "Body", "Camera",
    "Contact", "Laws", "Scene", "Stage", "WorldSpec", "audio", "clatter", "desk", "frames", "records", "render",
    "scene",
]  # fmt: skip

VERSION = 1
"""Raised whenever any pixel, sample, caption or truth of the standard world changes."""

SIZES = {"clatter": 512, "clatter-mini": 64}
"""Samples of the two suites: the first of the split "test"."""


def scene(
    split: str, index: int, spec: WorldSpec = CLATTER, *, event: str = "", sound: str = "", fault: str = ""
) -> Scene:
    """The scene of this place in this split.

    event: one of `EVENTS` (default: dealt out by index). sound: "tight" or "loose" (default: the event's own kind;
    a tight event can be given a loose soundtrack, not the other way round). fault: one of `FAULTS`, for `bounce`.
    Raises ValueError for names and combinations that do not exist.
    """
    event = event or spec.events[index % len(spec.events)]
    if event not in EVENTS:
        raise ValueError(f"no event {event!r} in clatter; there are {', '.join(EVENTS)}")
    own = "tight" if event in TIGHT else "loose"
    sound = sound or own
    if sound not in ("tight", "loose") or (sound, own) == ("tight", "loose"):
        raise ValueError(
            f"a {event} scene has no {sound!r} soundtrack; use {'tight or ' if own == 'tight' else ''}loose"
        )
    if fault and (fault not in FAULTS or event != "bounce"):
        raise ValueError(f"no fault {fault!r} for {event}; bounce scenes have {', '.join(FAULTS)}")
    name = ("clatter", VERSION, split, index)
    stage = BUILDERS[event](Draws(*name, event, "scene"), spec, FAULTS[fault] if fault else Laws())
    ambience = ""
    if sound == "loose":
        ambience = event if own == "loose" else Draws(*name, "ambience").choice(LOOSE)
    look, heard, both = captions(event, ambience, stage.words, Draws(*name, "words"))
    camera = Camera() if spec.plain else _camera(Draws(*name, "camera"), stage, own)
    return Scene(split, index, event, sound, fault, spec, stage, camera, ambience, look, heard, both)


def _camera(d: Draws, stage: Stage, kind: str) -> Camera:
    """A camera a little off the middle; some pan slowly, some stand on the table that is struck."""
    centre, zoom = (0.5 + d.between(-0.03, 0.03), 0.5 + d.between(-0.025, 0.025)), d.between(0.92, 1.02)
    pan = (d.between(-0.012, 0.012), d.between(-0.004, 0.004)) if kind == "loose" and d.chance(0.4) else (0.0, 0.0)
    shaken = d.chance(0.5) and stage.jolt > 0
    shake = tuple((c.time, stage.jolt * c.strength) for c in stage.contacts) if shaken else ()
    return Camera(centre, zoom, pan, shake)


def frames(what: Scene, spec: WorldSpec | None = None) -> np.ndarray:
    """The pictures: uint8 [T, H, W, channels], frame k as the world is at k / fps seconds."""
    spec = spec or what.spec
    return paint.film(what.stage, what.camera, spec, Draws("clatter", VERSION, what.split, what.index, "paint"))


def audio(what: Scene, spec: WorldSpec | None = None) -> np.ndarray:
    """The sound: float32 [N], multiples of 2**-15 in (-1, 1)."""
    spec = spec or what.spec
    draws = Draws("clatter", VERSION, what.split, what.index, what.sound)
    if what.ambience:
        return sounds.ambience(what.ambience, spec.samples, spec.rate, draws)
    return sounds.finish(sounds.clatter(what.stage.bodies, what.contacts, spec.samples, spec.rate, draws))


def render(what: Scene, spec: WorldSpec | None = None) -> Clip:
    """Film and record a scene: a clip of RGB frames (grey ones repeated in three channels) and mono sound.

    spec: another size, frame rate or sample rate than the scene's own; its seconds and gravity must be the same.
    """
    spec = spec or what.spec
    if (spec.seconds, spec.gravity, spec.plain) != (what.spec.seconds, what.spec.gravity, what.spec.plain):
        raise ValueError("render: seconds, gravity and plain belong to the scene; make the scene with this spec")
    pictures = frames(what, spec)
    if spec.channels == 1:
        pictures = np.repeat(pictures, 3, axis=3)
    video = Video(pictures, spec.times, Fraction(spec.fps))
    return Clip(
        video, Audio(audio(what, spec)[None], spec.rate), {"id": what.id, "suite": "clatter", "version": VERSION}
    )


def records(n: int, split: str = "test", spec: WorldSpec = CLATTER, *, sound: str = "") -> Iterator[dict[str, Any]]:
    """The first n samples of a split: id, text, video_text, audio_text, tags, truth, and the index that makes the clip.

    sound: "loose" for the loose twins of tight scenes (scenes of loose events are as they are).
    """
    for index in range(n):
        what = scene(split, index, spec, sound=sound)
        yield {
            "id": what.id,
            "index": index,
            "text": what.text,
            "video_text": what.video_text,
            "audio_text": what.audio_text,
            "tags": what.tags,
            "truth": what.truth(),
        }
