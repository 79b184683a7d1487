"""Square 224-pixel stills of a video, as image encoders of the CLIP family expect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.features import View

SIDE = 224


def spread(length: int, count: int) -> np.ndarray:
    """`count` indices from the first to the last of `length` frames, equally spaced, half to even; may repeat."""
    return np.rint(np.linspace(0, length - 1, count, dtype=np.float32)).astype(int)


def middle(length: int, count: int) -> np.ndarray:
    """The middle frame of each of `count` equal parts of `length` frames; short clips repeat the last one (VBench)."""
    parts = min(count, length)
    bounds = np.floor(np.linspace(0, length, parts + 1)).astype(int)
    centres = (bounds[:-1] + bounds[1:] - 1) // 2
    return np.concatenate([centres, np.full(count - parts, centres[-1])])


def short_side(height: int, width: int) -> tuple[int, int]:
    """(h, w) with the short side 224 and the long side rounded down."""
    if height <= width:
        return SIDE, int(SIDE * width / height)
    return int(SIDE * height / width), SIDE


def centre(length: int) -> int:
    """Where torchvision's centre crop of 224 begins, half to even."""
    return round((length - SIDE) / 2)


def pil_stills(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] to uint8 [T, 224, 224, 3]: OpenAI's transform, PIL's antialiased bicubic, then centre crop."""
    from PIL import Image

    height, width = short_side(*frames.shape[1:3])
    top, left = centre(height), centre(width)
    box = (left, top, left + SIDE, top + SIDE)
    out = np.empty((len(frames), SIDE, SIDE, 3), dtype=np.uint8)
    for target, frame in zip(out, frames):
        target[:] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC).crop(box))
    return out


def aliased_stills(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] to uint8 [T, 224, 224, 3]: bicubic without antialias, rounded, then centre crop (VBench)."""
    import torch
    from torchvision.transforms.functional import InterpolationMode, center_crop, resize

    out = np.empty((len(frames), SIDE, SIDE, 3), dtype=np.uint8)
    for target, frame in zip(out, frames):
        x = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
        x = resize(x, [SIDE], InterpolationMode.BICUBIC, antialias=False)
        target[:] = center_crop(x, [SIDE]).permute(1, 2, 0).numpy()
    return out


@dataclass(frozen=True)
class Stills(View):
    """Frames as uint8 [T, 224, 224, 3].

    count: how many (None: every frame); pick: "spread" over the clip with both ends, or the "middle" of equal parts.
    repeat: False leaves out frames that a short clip would only repeat.
    resize: "pil" (antialiased bicubic) or "aliased" (VBench's); bgr: red and blue exchanged.
    """

    count: int | None = None
    pick: Literal["spread", "middle"] = "spread"
    repeat: bool = True
    resize: Literal["pil", "aliased"] = "pil"
    bgr: bool = False

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        frames = clip.need_video().frames
        if not len(frames):
            raise SampleError("video.empty", "the video has no frames")
        if self.count is not None:
            indices = (spread if self.pick == "spread" else middle)(len(frames), self.count)
            frames = frames[indices if self.repeat else np.unique(indices)]
        stills = (pil_stills if self.resize == "pil" else aliased_stills)(frames)
        return stills[..., ::-1] if self.bgr else stills
