"""Views of motion, and of other features, for the metrics of visual quality.

Frames one after the other as Vchitect/VBench (45e79ec) and Verse-Bench (5645a09) hand them to optical flow and to frame
interpolation. Still frames are views of `avbench.views`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable, SampleError
from avbench.features import Feature, View
from avbench.views import StrideToFps

SMALLEST = 128  # padded; a smaller frame leaves one cell in the coarsest correlation map of RAFT and AMT: 0 / 0
HALVED = 640
AT_ABOUT_8_FPS = StrideToFps(8)


@dataclass(frozen=True)
class Of(View):
    """A feature as the input of a further network; needs no clip."""

    feature: Feature = field(repr=False)  # its identity is in `requires`
    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.feature,)

    def __call__(self, clip: Clip | None, *inputs: Any) -> np.ndarray:
        return inputs[0]


def windows(frames: np.ndarray, length: int, step: int) -> np.ndarray:
    """Runs of `length` frames, one every `step`, as a read-only view that copies nothing: [P, length, H, W, 3]."""
    frames = np.ascontiguousarray(frames)
    count = (len(frames) - length) // step + 1
    strides = (step * frames.strides[0], *frames.strides)
    return np.lib.stride_tricks.as_strided(frames, (count, length, *frames.shape[1:]), strides, writeable=False)


def check_size(frames: np.ndarray, multiple: int) -> None:
    """Refuse frames [T, H, W, 3] that are too small once their sides are padded to multiples of a number."""
    if min(-(-side // multiple) * multiple for side in frames.shape[1:3]) < SMALLEST:
        size = "x".join(map(str, frames.shape[1:3]))
        raise SampleError(
            "video.too_small", f"frames are {size}; sides must be longer than {SMALLEST - multiple} pixels"
        )


def halved(frames: np.ndarray) -> np.ndarray:
    """uint8: sides halved, rounding down, until none is over 640; OpenCV's bilinear."""
    import cv2

    height, width = frames.shape[1:3]
    while max(height, width) > HALVED:
        height, width = height // 2, width // 2
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in frames])


def picked(video: Video, every: str) -> np.ndarray | slice:
    """Which frames pairs are made of."""
    return AT_ABOUT_8_FPS(video) if every == "8fps" else slice(None)


@dataclass(frozen=True)
class Pairs(View):
    """Frames and the ones after them: uint8 [P, 2, H, W, 3].

    every: "frame"; "8fps" for VBench's stride to about eight frames a second; "wrap" for (first, last), (last, first).
    small: halve frames until no side is over 640 pixels (Verse-Bench).
    """

    every: Literal["frame", "8fps", "wrap"] = "frame"
    small: bool = False

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        video = clip.need_video()
        frames = video.frames[picked(video, self.every)]
        if len(frames) < 2:
            raise NotApplicable("too_few_frames", f"{len(video.frames)} frame(s) hold no two to compare")
        if self.every == "wrap":
            frames = frames[[0, -1, 0]]
        if self.small:
            frames = halved(frames)
        check_size(frames, 8)
        return windows(frames, 2, 1)


@dataclass(frozen=True)
class Spacing(View):
    """Seconds between the frames of each of `Pairs`: float64 [P]."""

    every: Literal["frame", "8fps"] = "frame"

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        video = clip.need_video()
        return np.diff(video.times[picked(video, self.every)])


@dataclass(frozen=True)
class Triples(View):
    """Every even frame, the one after it, and the next even frame, at native size: uint8 [P, 3, H, W, 3]."""

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        frames = clip.need_video().frames
        if len(frames) < 3:
            raise NotApplicable("too_few_frames", f"{len(frames)} frame(s) leave none between two others")
        check_size(frames, 16)
        return windows(frames, 3, 2)
