"""Views that metrics share: which frames of a clip, in which shape; which samples, at which rate.

A view of frames is a *pick* (indices, from the clip's length and times) and a *shape* (what becomes of one frame):

    Frames(Linspace(48), ShortSide(224, "bicubic-pil"))          # uint8 [48, 224, 224, 3]
    Frames(AtFps(25, seconds=8), ShortSide(224, "bicubic-torch-antialias"), together=True)
    Waveform(16000, channels="mean", seconds=8.0)                # float32 [1, 128000]

Picks and shapes are frozen dataclasses, so they are part of a feature's key. A view that needs more than `Frames`
offers uses them alone: `pick(video)` gives indices and `resized(video, shape, indices)` gives frames. Frames that
`resized` has made are kept with the clip, up to `CACHE_BYTES`: views of one clip that share a shape resize a frame
once, whatever their picks. When the clip goes, so do they.
"""

from __future__ import annotations

from avbench.views.audio import AudioClips, Waveform, clip_starts, on_video_time, resample, resampled_length
from avbench.views.frames import Frames, resized
from avbench.views.picks import (
    BLACK,
    AllFrames,
    AtFps,
    First,
    Linspace,
    Middle,
    Pick,
    Segments,
    Stride,
    StrideToFps,
)
from avbench.views.shapes import KERNELS, Fit, Letterbox, Native, Shape, ShortSide, Squash

__all__ = [
    "BLACK", "KERNELS", "AllFrames", "AtFps", "AudioClips", "First", "Fit", "Frames", "Letterbox", "Linspace", "Middle",
    "Native", "Pick", "Segments", "Shape", "ShortSide", "Squash", "Stride", "StrideToFps", "Waveform", "clip_starts",
    "on_video_time", "resample", "resampled_length", "resized",
]  # fmt: skip
