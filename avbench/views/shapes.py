"""What becomes of a frame: rules that resize, crop and fill.

A shape is a frozen dataclass; called with uint8 frames [n, H, W, 3] it returns [n, h, w, 3]: uint8, or float32 where 1
is white (bicubic kernels may overshoot) if `dtype` says so. Kernels are named in `KERNELS`. Which one a reference uses
decides its numbers: without antialiasing a large frame becomes an aliased one, and the kernels for bytes of Pillow and
torchvision round between their two passes, which floats do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Kind = Literal["uint8", "float32"]


class Kernel(NamedTuple):
    """A way to resize."""

    library: Literal["pil", "torch"]
    mode: Literal["bilinear", "bicubic"]
    antialias: bool


KERNELS = {
    "bicubic-pil": Kernel("pil", "bicubic", True),
    "bilinear-pil": Kernel("pil", "bilinear", True),
    "bicubic-torch-antialias": Kernel("torch", "bicubic", True),
    "bilinear-torch-antialias": Kernel("torch", "bilinear", True),
    "bicubic-torch": Kernel("torch", "bicubic", False),
    "bilinear-torch": Kernel("torch", "bilinear", False),
}
"""Pillow (uint8 only); torchvision with and without antialiasing (uint8: its transforms v2 with, v1 without)."""

ROUNDINGS: dict[str, Callable[[float], int]] = {"floor": floor, "round": round, "ceil": ceil}


class Shape(Protocol):
    """A rule that reshapes frames."""

    def __call__(self, frames: np.ndarray) -> np.ndarray: ...


def resize(frames: np.ndarray, height: int, width: int, kernel: str, dtype: Kind) -> np.ndarray:
    """uint8 [n, H, W, 3] to [n, height, width, 3], uint8 or float32 in which 1 is white."""
    chosen = KERNELS[kernel]
    if chosen.library == "pil":
        if dtype != "uint8":
            raise ValueError(f"{kernel} gives uint8, not {dtype}")
        return resize_pil(frames, height, width, chosen.mode)
    return resize_torch(frames, height, width, chosen, dtype)


def resize_pil(frames: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Pillow's resize, frame by frame."""
    from PIL import Image

    how = Image.Resampling[mode.upper()]
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames])


def resize_torch(frames: np.ndarray, height: int, width: int, kernel: Kernel, dtype: Kind) -> np.ndarray:
    """torchvision's resize of bytes, or of floats in [0, 1]."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as v1
    from torchvision.transforms.v2 import functional as v2

    x = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1)
    if dtype == "float32":
        x = x.float() / 255
    function: Any = v2.resize if kernel.antialias else v1.resize
    y = function(x, [height, width], InterpolationMode(kernel.mode), antialias=kernel.antialias)
    return np.ascontiguousarray(y.movedim(1, -1).numpy())


def centre(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of [n, H, W, 3]; offsets are rounded half to even, as torchvision does."""
    top, left = round((frames.shape[1] - height) / 2), round((frames.shape[2] - width) / 2)
    return frames[:, top : top + height, left : left + width]


@dataclass(frozen=True)
class Native:
    """The frame as it is, uint8."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return frames


@dataclass(frozen=True)
class ShortSide:
    """Short side to `size`, long side in proportion and rounded to whole pixels by `long`; then the central square.

    crop: "center", or None for the whole frame.
    """

    size: int
    kernel: str
    crop: Literal["center"] | None = "center"
    dtype: Kind = "uint8"
    long: Literal["floor", "round", "ceil"] = "floor"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        short = min(height, width)
        to = [
            self.size if side == short else ROUNDINGS[self.long](self.size * side / short) for side in (height, width)
        ]
        found = resize(frames, to[0], to[1], self.kernel, self.dtype)
        return centre(found, self.size, self.size) if self.crop == "center" else found


@dataclass(frozen=True)
class Letterbox:
    """Long side to `size`, short side in proportion and rounded down; centred on a black square (offsets down)."""

    size: int
    kernel: str = "bilinear-torch-antialias"
    dtype: Kind = "float32"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        long = max(height, width)
        inner = resize(frames, self.size * height // long, self.size * width // long, self.kernel, self.dtype)
        box = np.zeros((len(frames), self.size, self.size, 3), dtype=self.dtype)
        top, left = (self.size - inner.shape[1]) // 2, (self.size - inner.shape[2]) // 2
        box[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
        return box


@dataclass(frozen=True)
class Squash:
    """To exactly `height` x `width`, whatever the proportions."""

    height: int
    width: int
    kernel: str
    dtype: Kind = "uint8"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return resize(frames, self.height, self.width, self.kernel, self.dtype)


@dataclass(frozen=True)
class Fit:
    """A longer side beyond `size` is brought down to it, both sides rounded down; smaller frames stay as they are."""

    size: int
    kernel: str
    dtype: Kind = "float32"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        scale = self.size / max(height, width)
        if scale >= 1:
            return frames if self.dtype == "uint8" else frames.astype(np.float32) / np.float32(255)
        return resize(frames, int(scale * height), int(scale * width), self.kernel, self.dtype)
