"""How much a frame differs from the one before it: no network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from avbench.clip import Video
from avbench.errors import NotApplicable
from avbench.features import Context, Network


def load(context: Context) -> Network:
    """Video -> {"differences": float64 [T - 1], "times": float64 [T - 1]}.

    The mean absolute difference of neighbouring frames over all pixels and channels, in 0...255, exact; and the time in
    seconds at which the later frame is shown.
    """
    import cv2

    def encode(video: Video) -> dict[str, np.ndarray]:
        frames = video.frames
        if len(frames) < 2:
            raise NotApplicable("too_few_frames", f"{len(frames)} frame(s) hold no two to compare")
        sums = [cv2.norm(before, after, cv2.NORM_L1) for before, after in pairwise(frames)]
        return {"differences": np.array(sums) / frames[0].size, "times": video.times[1:]}

    return encode
