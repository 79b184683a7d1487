"""Farneback optical flow, reduced to its mean magnitude per frame.

OpenCV's recipe with the constants of TempoTokens and JavisBench: pyramid scale 0.5, 3 levels, window 15, 3 iterations,
poly_n 5, poly_sigma 1.2, no flags, on 8-bit grey frames at native size.
"""

from __future__ import annotations

import numpy as np

from avbench.clip import Video
from avbench.errors import NotApplicable
from avbench.features import Context, Network

RECIPE = {
    "pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0,
}  # fmt: skip


def magnitudes(frames: np.ndarray) -> np.ndarray:
    """Mean flow magnitude in pixels between neighbours: uint8 [T, H, W, 3] -> float64 [T - 1]."""
    import cv2

    found = []
    last = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    for frame in frames[1:]:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        flow = cv2.calcOpticalFlowFarneback(last, grey, None, **RECIPE)  # type: ignore[call-overload]
        found.append(cv2.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))[0])
        last = grey
    return np.array(found, dtype=np.float64)


def load(context: Context) -> Network:
    """Video -> {"flow": float64 [T], "fps": float64 [1]}; the first value is that of the first pair, twice."""

    def encode(video: Video) -> dict[str, np.ndarray]:
        if len(video.frames) < 2:
            raise NotApplicable("one_frame", "optical flow needs two frames")
        flow = magnitudes(video.frames)
        return {"flow": np.concatenate([flow[:1], flow]), "fps": np.array([float(video.fps)])}

    return encode
