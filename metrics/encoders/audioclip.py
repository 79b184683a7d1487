"""AudioCLIP's audio head: ESResNeXt-FBSP, 1024 raw features of a waveform.

Guzhov et al. 2021 (ESResNe(X)t-fbsp, AudioCLIP), AndreyGuzhov/AudioCLIP 611d974. Trained on 44.1 kHz samples in the
scale of 16-bit integers; MM-Diffusion and JavisBench feed it samples in [-1, 1]. The scale is the view's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

FFT, WINDOW, HOP = 2048, 1654, 561
BINS, BANDS = FFT // 2 + 1, 3
FLOOR = 1e-18  # stands for a power of exactly zero
EPS = 1e-8


class FBSP(nn.Module):
    """Frequency B-spline wavelets: BINS complex filters of FFT taps from three numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.fb, self.fc = (nn.Parameter(torch.empty(BINS)) for _ in range(3))

    def filters(self, dtype: torch.dtype) -> Tensor:
        """[BINS, FFT, 2]: real and imaginary parts of sqrt(fb) sinc(fb t / m)^m exp(-i fc t), over sqrt(FFT)."""
        m, fb, fc = (p.to(dtype).reshape(-1, 1) for p in (self.m, self.fb, self.fc))
        t = math.pi * torch.linspace(-1.0, 1.0, FFT, dtype=dtype, device=m.device) + EPS
        x = fb * t / (m + EPS)
        sinc = torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)
        size, angle = (sinc**2) ** (0.5 * m), torch.where(sinc < 0, math.pi * m, torch.zeros_like(m))
        window = torch.stack([size * torch.cos(angle), size * torch.sin(angle)], dim=-1)
        wave = torch.stack([torch.cos(fc * t), -torch.sin(fc * t)], dim=-1)
        real = window[..., 0] * wave[..., 0] - window[..., 1] * wave[..., 1]
        imaginary = window[..., 0] * wave[..., 1] + window[..., 1] * wave[..., 0]
        return fb.sqrt()[..., None] * torch.stack([real, imaginary], dim=-1) / FFT**0.5


class Attention(nn.Module):
    """Sigmoid map for a stage: the stage's input pooled to its output's size, depthwise and pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(inputs, inputs, kernel, padding=padding, groups=inputs)
        self.conv_point = nn.Conv2d(inputs, outputs, 1)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        x = F.adaptive_max_pool2d(x, like.shape[-2:])
        return self.bn(self.conv_point(self.conv_depth(x))).sigmoid()


class Bottleneck(nn.Module):
    """ResNeXt bottleneck, 32 groups; `width` channels inside, `outputs` outside."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=32, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """One ResNeXt stage: `blocks` bottlenecks of 2 x width channels."""
    first = Bottleneck(inputs, width, 2 * width, stride)
    return nn.Sequential(first, *(Bottleneck(2 * width, width, 2 * width, 1) for _ in range(blocks - 1)))


class ESResNeXt(nn.Module):
    """float [B, N] samples -> [B, 1024], not normalised.

    front: precision of the spectrogram. Quiet frames have bins 150 dB below their loudest one, where single precision
    holds nothing but rounding, which differs from one processor to the next and, in decibels, reaches the features.
    """

    window: Tensor
    front: torch.dtype = torch.float64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.empty(WINDOW))
        self.fbsp = FBSP()
        self.conv1, self.bn1 = nn.Conv2d(BANDS, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.att1 = stage(64, 128, 3, 1), Attention(64, 256, (3, 1))
        self.layer2, self.att2 = stage(256, 256, 4, 2), Attention(256, 512, (1, 5))
        self.layer3, self.att3 = stage(512, 512, 6, 2), Attention(512, 1024, (3, 1))
        self.layer4, self.att4 = stage(1024, 1024, 3, 2), Attention(1024, 2048, (1, 5))
        self.att5 = Attention(2048, 2048, (3, 5))
        self.fc = nn.Linear(2048, 1024)

    def spectrogram(self, samples: Tensor) -> Tensor:
        """Decibels [B, 3, 341, frames]; the affine map from 16-bit range and all sums are in the reference's order."""
        y = (samples.to(self.front) + 32768.0) * 2.0 / 65535.0 - 1.0
        frames = windows(y) * self.window.to(self.front)
        left = (FFT - WINDOW) // 2
        frames = F.pad(frames, (left, FFT - WINDOW - left))
        filters = self.fbsp.filters(self.front)
        power = F.linear(frames, filters[..., 0]) ** 2 + F.linear(frames, filters[..., 1]) ** 2
        power = power[..., : BINS // BANDS * BANDS]
        power = torch.where(power > 0, power, torch.full_like(power, FLOOR))
        return power.log10().mul(10.0).transpose(1, 2).unflatten(1, (BANDS, -1))

    def forward(self, samples: Tensor) -> Tensor:
        x = self.spectrogram(samples).to(self.conv1.weight.dtype)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        stages = (
            (self.layer1, self.att1),
            (self.layer2, self.att2),
            (self.layer3, self.att3),
            (self.layer4, self.att4),
        )
        for layer, attention in stages:
            y = layer(x)
            x = y * attention(x, y)
        y = F.adaptive_avg_pool2d(x, 1)
        return self.fc((y * self.att5(x, y)).flatten(1))


def windows(samples: Tensor) -> Tensor:
    """[B, N] -> [B, frames, WINDOW], every HOP samples; zeros are added on both sides to fill the last frame."""
    n = samples.shape[-1]
    count = 1 + max(math.ceil((n - WINDOW) / HOP), 0)
    lack = (count - 1) * HOP + WINDOW - n
    return F.pad(samples, (lack // 2, lack - lack // 2)).unfold(-1, WINDOW, HOP)


def blackman_harris() -> Tensor:
    """Periodic four-term Blackman-Harris window, float32 [WINDOW]."""
    phase = 2.0 * math.pi * torch.arange(WINDOW, dtype=torch.float64) / WINDOW
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    return sum((a * torch.cos(k * phase) for k, a in enumerate(terms)), torch.zeros(WINDOW)).float()


def front_end() -> dict[str, Tensor]:
    """The constructed values of the front end's tensors, by checkpoint key, as before training."""
    return {
        "audio.fbsp.m": torch.zeros(BINS), "audio.fbsp.fb": torch.ones(BINS),
        "audio.fbsp.fc": torch.arange(BINS, dtype=torch.float32), "audio.window": blackman_harris(),
    }  # fmt: skip


def build(state: Mapping[str, Tensor]) -> ESResNeXt:
    """The audio head of an AudioCLIP state dict: keys under `audio.`; those of the other towers are not looked at.

    The window is a constant, and is filled in where a file does not carry it.
    """
    state = {"audio.window": blackman_harris(), **state}
    return fill(ESResNeXt, state, what="AudioCLIP's audio head", prefix="audio.")


def network(context: Context, front: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Samples [B, N] -> float32 [B, 1024]. The spectrogram keeps its precision whatever that of the rest."""
    module = build(read_state(context.weights["audioclip"])).to(context.device)
    module.front = front
    for name, part in module.named_children():
        if name != "fbsp":
            part.to(context.dtype)
    return lambda items: module(items).float()


def audio(context: Context) -> Callable[[Tensor], Tensor]:
    """The spectrogram in float64."""
    return network(context, torch.float64)


def audio_float32(context: Context) -> Callable[[Tensor], Tensor]:
    """The spectrogram in float32, as the published evaluators run it."""
    return network(context, torch.float32)
