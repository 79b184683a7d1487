"""Which frames: rules that give indices into a clip's frames.

A pick is a frozen dataclass; called with a `Video` it returns int64 indices in the order of time, `BLACK` for a black
frame. It raises `SampleError("video.too_short")` where the clip cannot give what it asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np

from avbench.clip import Video
from avbench.errors import SampleError

BLACK = -1
NUDGE = 1e-6  # slots; times are floats, so that what is a half may come out just below


class Pick(Protocol):
    """A rule that chooses frames."""

    def __call__(self, video: Video) -> np.ndarray: ...


@dataclass(frozen=True)
class AllFrames:
    """Every frame."""

    def __call__(self, video: Video) -> np.ndarray:
        return np.arange(len(video.frames))


@dataclass(frozen=True)
class First:
    """The first `count` frames."""

    count: int

    def __call__(self, video: Video) -> np.ndarray:
        if len(video.frames) < self.count:
            raise SampleError("video.too_short", f"{len(video.frames)} frames, {self.count} are needed")
        return np.arange(self.count)


@dataclass(frozen=True)
class Stride:
    """Every `step`th frame from `start` on; at most `count`."""

    step: int
    start: int = 0
    count: int | None = None

    def __call__(self, video: Video) -> np.ndarray:
        found = np.arange(self.start, len(video.frames), self.step)[: self.count]
        if not len(found):
            raise SampleError("video.too_short", f"{len(video.frames)} frames, none from frame {self.start} on")
        return found


@dataclass(frozen=True)
class StrideToFps:
    """Every nth frame, n = frame rate over `fps`, rounded half to even, at least 1: VBench's dynamic degree."""

    fps: float = 8.0

    def __call__(self, video: Video) -> np.ndarray:
        return np.arange(0, len(video.frames), max(1, round(float(video.fps) / self.fps)))


@dataclass(frozen=True)
class Linspace:
    """`count` frames evenly spaced by index from the first to the last, rounded half to even.

    JavisBench's rule: float32 spacing, computed from both ends as torch does; fewer frames repeat, unless `distinct`.
    """

    count: int
    distinct: bool = False

    def __call__(self, video: Video) -> np.ndarray:
        found = np.rint(linspace32(len(video.frames) - 1, self.count)).astype(np.int64)
        return np.unique(found) if self.distinct else found


def linspace32(last: int, count: int) -> np.ndarray:
    """`torch.linspace(0, last, count)` in float32, without torch."""
    step = np.float32(last) / np.float32(max(count - 1, 1))
    index = np.arange(count, dtype=np.float32)
    return np.where(index < count // 2, step * index, np.float32(last) - step * (count - 1 - index)) * (count > 1)


@dataclass(frozen=True)
class Middle:
    """The middle frame of each of `count` equal parts: VBench's rule for ViCLIP.

    A clip of fewer frames gives them all, the last one repeated.
    """

    count: int = 8

    def __call__(self, video: Video) -> np.ndarray:
        parts = min(len(video.frames), self.count)
        bounds = np.linspace(0, len(video.frames), parts + 1).astype(np.int64)
        found = (bounds[:-1] + bounds[1:] - 1) // 2
        return np.concatenate([found, np.repeat(found[-1:], self.count - parts)])


@dataclass(frozen=True)
class Segments:
    """Half a segment in, then one frame per segment, half to even: mPLUG-Owl-Video's rule, used by VideoPhy."""

    count: int = 32

    def __call__(self, video: Video) -> np.ndarray:
        size = (len(video.frames) - 1) / self.count
        return int(size / 2) + np.rint(size * np.arange(self.count)).astype(np.int64)


@dataclass(frozen=True)
class AtFps:
    """The frames that FFmpeg's filter `fps=rate` (round=near) shows, one per slot of 1 / rate seconds.

    A frame belongs to the slot nearest to its time, halves upwards; a slot shows the last frame at or before it; the
    last slot is nearest to the end of the last frame. `seconds` asks for int(rate * seconds) slots, cut at the end;
    where there are fewer, `pad` decides: "black" or "last" frames, or None for `SampleError("video.too_short")`.
    Frames come by their times, so that clips of any rate, variable ones too, are brought to one clock.
    """

    rate: float | Fraction
    seconds: float | Fraction | None = None
    pad: Literal["black", "last"] | None = None

    def __call__(self, video: Video) -> np.ndarray:
        rate = float(self.rate)
        slots = np.floor(video.times * rate + (0.5 + NUDGE)).astype(np.int64)
        end = int(np.floor((video.times[-1] + float(1 / video.fps)) * rate + (0.5 + NUDGE)))
        found = np.searchsorted(slots, np.arange(slots[0], end), side="right") - 1
        wanted = len(found) if self.seconds is None else int(Fraction(self.rate) * Fraction(self.seconds))
        missing = wanted - len(found)
        if missing > 0 and self.pad is not None:
            filler = BLACK if self.pad == "black" else len(video.frames) - 1
            found = np.concatenate([found, np.full(missing, filler)])
        if (missing > 0 and self.pad is None) or not len(found[:wanted]):
            raise SampleError("video.too_short", f"{video.seconds:.2f} s give {len(found)} frames at {rate:g} fps")
        return found[:wanted]
