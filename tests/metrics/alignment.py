"""Shared by the tests of ImageBind, CLIP and CLAP: real clips, synthetic clips, goldens of the public pipelines."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avbench.clip import Audio, Clip, Video

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
MEDIA = ROOT.parent / "shared" / "media"
CLIPS = {
    "00000": "universe1/00000.mp4",
    "00041": "universe1/00041.mp4",
    "01083": "universe1/01083.mp4",
    "419": "universe1/419.mp4",
    "3qes": "real/vggsound_3qesirWAGt4.mp4",
    "ZYc4": "real/vggsound_ZYc410CE4Rg.mp4",
    "ovi": "ovi/basketball.mp4",
}


@cache
def arrays() -> dict[str, np.ndarray]:
    """Embeddings the reference code gave for the real clips with hashed weights."""
    with np.load(GOLDENS / "alignment.npz") as file:
        return dict(file)


def golden(name: str) -> np.ndarray:
    return arrays()[name]


@cache
def scores() -> dict[str, Any]:
    """Scores and settings that go with `arrays`."""
    return json.loads((GOLDENS / "alignment.json").read_text())


def clip_path(name: str) -> Path:
    path = MEDIA / CLIPS[name]
    if not path.is_file():
        pytest.skip(f"the real clip {CLIPS[name]} is not in ../shared/media")
    return path


def decode(name: str, video: bool = True, audio: bool = True) -> Clip:
    """A real clip; its audio rounded to 16 bits, as the wav files are that the goldens were made from."""
    from avbench.media import decode as read

    media = {kind for kind, wanted in (("video", video), ("audio", audio)) if wanted}
    clip = read(clip_path(name), media=media)
    if clip.audio is None:
        return clip
    rounded = np.clip(np.rint(clip.audio.samples * 32768), -32768, 32767) / np.float32(32768)
    return replace(clip, audio=replace(clip.audio, samples=rounded))


def synthetic(
    height: int = 240, width: int = 426, frames: int = 96, fps: int = 24, seconds: float = 4.0, rate: int = 16000,
    channels: int = 1, start: float = 0.0,
) -> Clip:  # fmt: skip
    """Noise that moves and sounds: cheap, and every frame and every window differs."""
    rng = np.random.default_rng(height * 7 + frames)
    base = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    video = np.stack([np.roll(base, 3 * index, axis=1) for index in range(frames)])
    samples = (0.1 * rng.standard_normal((channels, round(seconds * rate)))).astype(np.float32)
    return Clip(Video(video, np.arange(frames) / fps, Fraction(fps)), Audio(samples, rate, start))
