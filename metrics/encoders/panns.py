"""PANNs Cnn14: 2048 features and 527 AudioSet logits of a waveform, at 16 or 32 kHz.

Kong et al. 2020 (qiuqiangkong/audioset_tagging_cnn), Zenodo 3987831. The logits, not their sigmoid, enter KL and IS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.errors import SampleError
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

WIDTHS = (64, 128, 256, 512, 1024, 2048)
FEATURES, CLASSES = 2048, 527
MIN_FRAMES = 32  # five halvings


@dataclass(frozen=True)
class FrontEnd:
    """Sizes of the log-mel front end, in samples and hertz."""

    rate: int
    window: int
    hop: int
    low: float
    high: float


AT_16K = FrontEnd(16000, 512, 160, 50.0, 8000.0)
AT_32K = FrontEnd(32000, 1024, 320, 50.0, 14000.0)


class STFT(nn.Module):
    """The checkpoint's Fourier kernels: windowed cosines and (negative) sines as convolutions."""

    def __init__(self, sizes: FrontEnd) -> None:
        super().__init__()
        self.sizes = sizes
        bins = sizes.window // 2 + 1
        self.conv_real = nn.Conv1d(1, bins, sizes.window, sizes.hop, bias=False)
        self.conv_imag = nn.Conv1d(1, bins, sizes.window, sizes.hop, bias=False)

    def forward(self, samples: Tensor) -> Tensor:
        x = F.pad(samples[:, None], (self.sizes.window // 2,) * 2, mode="reflect")
        power = self.conv_real(x) ** 2 + self.conv_imag(x) ** 2
        return power.transpose(1, 2)


class Spectrogram(nn.Module):
    """Power spectrogram [B, N] -> [B, frames, bins], centred, reflected at the ends."""

    def __init__(self, sizes: FrontEnd) -> None:
        super().__init__()
        self.stft = STFT(sizes)

    def forward(self, samples: Tensor) -> Tensor:
        return self.stft(samples)


class LogMel(nn.Module):
    """Decibels of the mel bands, floor 1e-10, no top."""

    def __init__(self, sizes: FrontEnd) -> None:
        super().__init__()
        self.melW = nn.Parameter(torch.empty(sizes.window // 2 + 1, 64))

    def forward(self, power: Tensor) -> Tensor:
        return 10.0 * (power @ self.melW).clamp_min(1e-10).log10()


class Block(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Cnn14(nn.Module):
    """float [B, N] samples in [-1, 1] -> [B, 2048 + 527]: the embedding, then the logits."""

    def __init__(self, sizes: FrontEnd) -> None:
        super().__init__()
        self.spectrogram_extractor = Spectrogram(sizes)
        self.logmel_extractor = LogMel(sizes)
        self.bn0 = nn.BatchNorm2d(64)
        for index, (inputs, outputs) in enumerate(zip((1, *WIDTHS), WIDTHS), start=1):
            self.add_module(f"conv_block{index}", Block(inputs, outputs))
        self.fc1 = nn.Linear(FEATURES, FEATURES)
        self.fc_audioset = nn.Linear(FEATURES, CLASSES)

    def log_mel(self, samples: Tensor) -> Tensor:
        """[B, frames, 64] decibels, float32."""
        return self.logmel_extractor(self.spectrogram_extractor(samples.float()))

    def forward(self, samples: Tensor) -> Tensor:
        x = self.log_mel(samples)
        if x.shape[1] < MIN_FRAMES:
            raise SampleError("audio.too_short", f"Cnn14 needs {MIN_FRAMES} spectrogram frames, got {x.shape[1]}")
        x = x.to(self.fc1.weight.dtype)
        x = self.bn0(x[:, None].transpose(1, 3)).transpose(1, 3)
        for index in range(1, len(WIDTHS) + 1):
            x = getattr(self, f"conv_block{index}")(x)
            x = F.avg_pool2d(x, 2) if index < len(WIDTHS) else x
        x = x.mean(dim=3)
        features = F.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))
        return torch.cat([features, self.fc_audioset(features)], dim=1)


def stft_kernels(sizes: FrontEnd) -> tuple[Tensor, Tensor]:
    """Real and imaginary kernels float32 [bins, 1, window] under a periodic Hann window."""
    n = np.arange(sizes.window)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * n / sizes.window)
    angle = 2.0 * np.pi * np.outer(np.arange(sizes.window // 2 + 1), n) / sizes.window
    kernels = (np.cos(angle) * hann, -np.sin(angle) * hann)
    return tuple(torch.from_numpy(k[:, None].astype(np.float32)) for k in kernels)  # type: ignore[return-value]


def slaney_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    step = math.log(6.4) / 27.0
    return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, 15.0 + np.log(np.maximum(hertz, 1.0) / 1000.0) / step)


def slaney_hertz(mel: np.ndarray) -> np.ndarray:
    """Inverse of `slaney_mel`."""
    step = math.log(6.4) / 27.0
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp(step * (mel - 15.0)))


def mel_matrix(sizes: FrontEnd) -> Tensor:
    """float32 [bins, 64]: triangles linear in hertz between Slaney-spaced corners, each of unit area."""
    low, high = slaney_mel(np.array([sizes.low, sizes.high]))
    corners = slaney_hertz(np.linspace(low, high, 66))
    bins = np.linspace(0.0, sizes.rate / 2, sizes.window // 2 + 1)[:, None]
    rise = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (corners[2:] - corners[:-2])
    return torch.from_numpy(weights.astype(np.float32))


def front_end(sizes: FrontEnd) -> dict[str, Tensor]:
    """The front end's tensors by checkpoint key, computed; the public checkpoints carry their own."""
    real, imaginary = stft_kernels(sizes)
    return {
        "spectrogram_extractor.stft.conv_real.weight": real,
        "spectrogram_extractor.stft.conv_imag.weight": imaginary,
        "logmel_extractor.melW": mel_matrix(sizes),
    }


def build(state: Mapping[str, Tensor], sizes: FrontEnd = AT_16K) -> Cnn14:
    """The network with the tensors of a state dict; front-end tensors it does not carry are computed."""
    return fill(lambda: Cnn14(sizes), {**front_end(sizes), **state}, what=f"PANNs Cnn14 at {sizes.rate} Hz")


def network(context: Context, module: Cnn14) -> Callable[[Tensor], Tensor]:
    """Samples [B, N] -> float32 [B, 2575]. The spectrogram stays float32 whatever the precision."""
    module = module.to(context.device)
    for name, part in module.named_children():
        if name not in ("spectrogram_extractor", "logmel_extractor"):
            part.to(context.dtype)
    return lambda items: module(items).float()


def cnn14_16k(context: Context) -> Callable[[Tensor], Tensor]:
    """`Cnn14_16k_mAP=0.438.pth`."""
    return network(context, build(read_state(context.weights["panns_cnn14_16k"]), AT_16K))


def cnn14_32k(context: Context) -> Callable[[Tensor], Tensor]:
    """`Cnn14_mAP=0.431.pth`."""
    return network(context, build(read_state(context.weights["panns_cnn14_32k"]), AT_32K))
