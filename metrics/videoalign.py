"""VideoAlign: visual and motion quality as a reward model learnt them from people's preferences.

Liu et al., "Improving Video Generation with Human Feedback", 2025; KwaiVGI/VideoAlign 219ab9d, whose VideoReward
JavisBench uses. Read off the code; the loading path has never met the published checkpoint (see `encoders.videoalign`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any

import numpy as np

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable, SampleError
from avbench.features import Encoder, Feature, View
from avbench.metric import sample_metric
from avbench.views import Linspace

SOURCE = "Liu et al. 2025, KwaiVGI/VideoAlign 219ab9d"
CELL = 28  # pixels of a token's side
SMALLEST, LARGEST = 128 * CELL * CELL, 200_704  # pixels of a frame
MOST = 768  # frames
VQ, MQ = 0, 1

JUDGE = Encoder(
    "videoalign", "avbench.metrics.encoders.videoalign:judge", unit="clip",
    weights=("videoreward", "qwen2_vl_2b", "videoalign_prompts"),
)  # fmt: skip


def frame_count(video: Video, fps: float = 2.0) -> int:
    """How many frames are shown: an even number near `fps` a second, at least four where there are so many."""
    total = len(video.frames)
    wanted = min(max(total / float(video.fps) * fps, 4), floor(min(MOST, total) / 2) * 2)
    count = min(round(wanted / 2) * 2, total)
    if count < 2:
        raise SampleError("video.too_short", f"{total} frame(s), 2 are needed")
    return count


def frame_size(height: int, width: int) -> tuple[int, int]:
    """Sides in multiples of 28, the area between `SMALLEST` and `LARGEST`, proportions about kept."""
    to = [max(CELL, round(side / CELL) * CELL) for side in (height, width)]
    if to[0] * to[1] > LARGEST:
        shrink = sqrt(height * width / LARGEST)
        to = [floor(side / shrink / CELL) * CELL for side in (height, width)]
    elif to[0] * to[1] < SMALLEST:
        grow = sqrt(SMALLEST / (height * width))
        to = [ceil(side * grow / CELL) * CELL for side in (height, width)]
    if not min(to):
        raise SampleError("video.too_narrow", f"{height}x{width} leaves no token of {CELL} pixels")
    return to[0], to[1]


@dataclass(frozen=True)
class Question(View):
    """What the judge is shown: (frames uint8 [T, H, W, 3], prompt)."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ("text",)

    def __call__(self, clip: Clip, *inputs: Any) -> Any:
        import torch
        from torchvision.transforms.functional import InterpolationMode, resize

        video, (prompt,) = clip.need_video(), inputs
        if not prompt:
            raise NotApplicable("no_text", "the sample has no text")
        frames = torch.from_numpy(video.frames[Linspace(frame_count(video))(video)]).movedim(-1, 1)
        size = frame_size(frames.shape[2], frames.shape[3])
        small = [resize(frame, size, InterpolationMode.BICUBIC, antialias=True) for frame in frames]
        return torch.stack(small).movedim(1, -1).contiguous().numpy(), prompt


ANSWER = Feature(JUDGE, Question())


@sample_metric("videoalign_vq", version=1, better="higher", unit="standard deviations", source=SOURCE)
class VisualQuality:
    """Visual quality by VideoAlign's reward model: clearness, detail, composition, safety.

    Calibrated by the authors' mean and standard deviation, so 0 is an average video of theirs. About two frames a
    second; the judge reads the prompt (`text`) too. The published checkpoint has never been loaded here: see the notes.
    """

    answer = ANSWER

    def score(self, answer: dict[str, np.ndarray]) -> float:
        return float(answer["calibrated"][VQ])


@sample_metric("videoalign_mq", version=1, better="higher", unit="standard deviations", source=SOURCE)
class MotionQuality:
    """Motion quality by VideoAlign's reward model: stability, naturalness, fluency; a still video is marked down.

    Calibrated as `videoalign_vq`.
    """

    answer = ANSWER

    def score(self, answer: dict[str, np.ndarray]) -> float:
        return float(answer["calibrated"][MQ])


RAW = ["the raw reward, not calibrated", "the reference runs flash-attention in batches of 8"]
JAVIS = "JavisVerse/JavisDiT b505b37, eval/javisbench"


@sample_metric("videoalign_vq@javisbench", version=1, better="higher", source=JAVIS, differs=RAW)
class VisualQualityJavisBench:
    """Visual quality as JavisBench's released evaluator computes it."""

    answer = ANSWER

    def score(self, answer: dict[str, np.ndarray]) -> float:
        return float(answer["raw"][VQ])


@sample_metric("videoalign_mq@javisbench", version=1, better="higher", source=JAVIS, differs=RAW)
class MotionQualityJavisBench:
    """Motion quality as JavisBench's released evaluator computes it."""

    answer = ANSWER

    def score(self, answer: dict[str, np.ndarray]) -> float:
        return float(answer["raw"][MQ])
