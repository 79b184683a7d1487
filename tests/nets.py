"""Small real networks for engine tests, loaded by name as any encoder is."""

from __future__ import annotations

import numpy as np
import torch

from avbench.clip import Video
from avbench.errors import NotApplicable
from avbench.features import Context, Network

CALLS: list[int] = []  # batch sizes seen
LIMIT = 0  # a larger batch is out of memory; 0: none


def conv(context: Context) -> Network:
    """uint8 [B, H, W, 3] -> float32 [B, 16]."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 16),
    ).eval()  # fmt: skip

    def encode(items: torch.Tensor) -> torch.Tensor:
        CALLS.append(len(items))
        if LIMIT and len(items) > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        return net(items.permute(0, 3, 1, 2).float() / 255)

    return encode


def head(context: Context) -> Network:
    """float32 [B, 16] -> float32 [B, 1]: a network on another network's features."""
    return lambda items: items.sum(dim=1, keepdim=True)


def words(context: Context) -> Network:
    """Texts -> their lengths."""
    return lambda texts: torch.tensor([[float(len(text))] for text in texts])


def picky(context: Context) -> Network:
    """A whole-clip encoder that refuses dark clips and breaks on small ones."""

    def encode(video: Video) -> np.ndarray:
        if video.frames.shape[1] < 40:
            raise ZeroDivisionError("too small")
        if video.frames.mean() < 10:
            raise NotApplicable("dark", "nothing to see")
        return np.array([video.frames.mean()])

    return encode


def infinite(context: Context) -> Network:
    """Gives infinity."""
    return lambda items: torch.full((len(items), 2), torch.inf)
