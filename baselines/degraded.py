"""Degraded references: generators whose faults are known, so that a user sees at once that metrics move the right way.

They need the suite's real clips (rendered or local media).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.generator import Request, model

Change = Callable[[Clip, Request], Clip]


@dataclass(frozen=True)
class Degraded:
    """Yields each sample's real clip after one change."""

    change: Change

    def generate(self, requests: Sequence[Request]) -> Iterator[Clip]:
        for request in requests:
            yield self.change(request.reference(request.sample.id), request)


def unchanged(clip: Clip, request: Request) -> Clip:
    """The real clip itself."""
    return clip


def shifted(clip: Clip, request: Request, seconds: float) -> Clip:
    """The sound comes `seconds` later; what falls off the end comes first, so that no silence is made."""
    audio = clip.need_audio()
    samples = np.roll(audio.samples, round(seconds * audio.rate), axis=1)
    return replace(clip, audio=replace(audio, samples=samples))


def shuffled(clip: Clip, request: Request) -> Clip:
    """The sound of another sample: a fixed cyclic shift by half the suite, so that none keeps its own."""
    ids = [sample.id for sample in request.suite.samples]
    other = request.reference(ids[(ids.index(request.sample.id) + max(1, len(ids) // 2)) % len(ids)])
    return replace(clip, audio=other.need_audio())


def frozen(clip: Clip, request: Request) -> Clip:
    """The first frame, held."""
    video = clip.need_video()
    return replace(clip, video=replace(video, frames=np.repeat(video.frames[:1], len(video.frames), axis=0)))


def noisy_video(clip: Clip, request: Request, strength: float = 32.0) -> Clip:
    """Independent Gaussian noise of standard deviation `strength` (of 255) on every pixel."""
    video = clip.need_video()
    noise = np.random.default_rng(request.seed).standard_normal(video.frames.shape, dtype=np.float32)
    frames = np.clip(video.frames + strength * noise, 0, 255).round().astype(np.uint8)
    return replace(clip, video=Video(frames, video.times, video.fps))


def noisy_audio(clip: Clip, request: Request, strength: float = 0.1) -> Clip:
    """White noise of standard deviation `strength` of full scale on every sample."""
    audio = clip.need_audio()
    noise = np.random.default_rng(request.seed).standard_normal(audio.samples.shape, dtype=np.float32)
    samples = np.clip(audio.samples + strength * noise, -1, 1).astype(np.float32)
    return replace(clip, audio=Audio(samples, audio.rate, audio.start))


def mute(clip: Clip, request: Request) -> Clip:
    """An audio track of digital silence."""
    audio = clip.need_audio()
    return replace(clip, audio=replace(audio, samples=np.zeros_like(audio.samples)))


def silent(clip: Clip, request: Request) -> Clip:
    """No audio track: what a video-only model delivers."""
    return replace(clip, audio=None)


CHANGES: dict[str, Change] = {
    "reference": unchanged,
    "audio-shift-200ms": partial(shifted, seconds=0.2),
    "audio-shuffled": shuffled,
    "frozen": frozen,
    "noisy-video": noisy_video,
    "noisy-audio": noisy_audio,
    "mute": mute,
    "silent-video-only": silent,
}


@model(*CHANGES)
def degraded(name: str) -> Degraded:
    """A degraded reference by name."""
    return Degraded(CHANGES[name])
