"""VGGish: 128 features of each 0.96 s of 16 kHz audio.

Hershey et al. 2017; PyTorch port harritaylor/torchvggish v0.1, whose key names these are. As av-benchmark,
audioldm_eval and fadtk use it: without the last ReLU, without PCA whitening and without 8-bit quantisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

LAYERS = {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256), 11: (256, 512), 13: (512, 512)}
POOL_AFTER = (0, 3, 8, 13)


class VGGish(nn.Module):
    """Log-mel examples [B, 96, 64] (time, mel) -> [B, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({str(i): nn.Conv2d(a, b, 3, padding=1) for i, (a, b) in LAYERS.items()})
        sizes = {"0": (512 * 6 * 4, 4096), "2": (4096, 4096), "4": (4096, 128)}
        self.embeddings = nn.ModuleDict({name: nn.Linear(a, b) for name, (a, b) in sizes.items()})

    def forward(self, examples: Tensor) -> Tensor:
        x = examples.unsqueeze(1)
        for index in LAYERS:
            x = F.relu(self.features[str(index)](x))
            if index in POOL_AFTER:
                x = F.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the order of TensorFlow: time, mel, channel
        x = F.relu(self.embeddings["2"](F.relu(self.embeddings["0"](x))))
        return self.embeddings["4"](x)


def build(state: Mapping[str, Tensor]) -> VGGish:
    """The network with the tensors of a state dict; PCA tensors (`pproc.*`) are ignored."""
    return fill(VGGish, state, what="VGGish", ignore=(r"pproc\..*",))


def mel_matrix() -> np.ndarray:
    """float64 [257, 64]: triangles linear in mel between 125 and 7500 Hz, without area normalisation, DC row zero."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(hertz / 700.0)

    bins = mel(np.linspace(0.0, 8000.0, 257))[:, None]
    edges = np.linspace(mel(np.array(125.0)), mel(np.array(7500.0)), 66)
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall))
    weights[0] = 0.0
    return weights


def examples(samples: np.ndarray) -> np.ndarray:
    """Log-mel examples of 16 kHz mono samples [N]: float32 [E, 96, 64], 0.96 s each, without overlap.

    Frames of 25 ms every 10 ms without padding, periodic Hann, 512-point magnitude spectrum, log(mel + 0.01); float64
    inside. A tail shorter than an example is dropped; E is 0 below 15,600 samples (0.975 s).
    """
    samples = np.asarray(samples, dtype=np.float64)
    if len(samples) < 400:
        return np.zeros((0, 96, 64), dtype=np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(400) / 400)
    spectrum = np.abs(np.fft.rfft(frames * hann, 512))
    log_mel = np.log(spectrum @ mel_matrix() + 0.01)
    count = len(log_mel) // 96
    return log_mel[: count * 96].reshape(count, 96, 64).astype(np.float32)


def embed(context: Context) -> Callable[[Tensor], Tensor]:
    """Log-mel examples [B, 96, 64] -> float32 [B, 128]."""
    module = build(read_state(context.weights["vggish"])).to(context.device, context.dtype)
    return lambda items: module(items.to(context.dtype)).float()
