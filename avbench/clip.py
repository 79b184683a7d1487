"""The decoded clip: what every view is cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from avbench.errors import NotApplicable


@dataclass(frozen=True, eq=False)
class Video:
    """Decoded frames.

    frames: uint8 [T, H, W, 3], RGB, rotation applied.
    times:  float64 [T], seconds, presentation time of each frame, first frame at 0 unless the stream starts late.
    fps:    average frame rate of the stream as the container declares it (frames / duration where it is silent).
    """

    frames: np.ndarray
    times: np.ndarray
    fps: Fraction

    @property
    def seconds(self) -> float:
        """Duration: the last frame is shown for one average frame period."""
        return float(len(self.frames) / self.fps)


@dataclass(frozen=True, eq=False)
class Audio:
    """Decoded samples at their native rate.

    samples: float32 [C, N], in [-1, 1] for integer formats; more than 2 channels are kept.
    rate:    samples per second.
    start:   seconds by which the audio starts after the video (negative: before it).
    """

    samples: np.ndarray
    rate: int
    start: float = 0.0

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.rate

    @property
    def mono(self) -> np.ndarray:
        """float32 [N]: the mean over channels."""
        return self.samples.mean(axis=0, dtype=np.float32) if len(self.samples) > 1 else self.samples[0]


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip: video, audio, or both, with what the container says of itself in `info`."""

    video: Video | None = None
    audio: Audio | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def need_video(self) -> Video:
        """The video, or `NotApplicable("no_video")`."""
        if self.video is None:
            raise NotApplicable("no_video", "the clip has no video stream")
        return self.video

    def need_audio(self) -> Audio:
        """The audio, or `NotApplicable("no_audio")`."""
        if self.audio is None:
            raise NotApplicable("no_audio", "the clip has no audio stream")
        return self.audio
