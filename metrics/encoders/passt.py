"""PaSST: 768 features and 527 AudioSet logits of 10 s of 32 kHz audio.

Koutini et al. 2022, `passt_s_swa_p16_128_ap476` as hear21passt 0.0.26 evaluates it (kkoutini/passt_hear21); key names
of kkoutini/PaSST v0.0.1-audioset. Written out here because the library fetches its own weights and pins an old timm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

RATE = 32000
FFT, WINDOW, HOP, MELS = 1024, 800, 320, 128
LOW, HIGH = 0.0, 15000.0
DIM, HEADS, DEPTH, CLASSES = 768, 12, 12, 527


class Attention(nn.Module):
    """Self-attention with fused projections."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM, eps=1e-6), Attention()
        self.norm2, self.mlp = nn.LayerNorm(DIM, eps=1e-6), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, DIM, 16, stride=10)

    def forward(self, mel: Tensor) -> Tensor:
        return self.proj(mel)


class PaSST(nn.Module):
    """Log-mel [B, 128, 1000] -> [B, 768 + 527]: the mean of class and distillation tokens, then the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.dist_token = (nn.Parameter(torch.empty(1, 1, DIM)) for _ in range(2))
        self.new_pos_embed = nn.Parameter(torch.empty(1, 2, DIM))
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, DIM, 12, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, DIM, 1, 99))
        self.patch_embed = PatchEmbed()
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES))
        self.head_dist = nn.Linear(DIM, CLASSES)  # in the checkpoint, not in the output

    def forward(self, mel: Tensor) -> Tensor:
        x = self.patch_embed(mel[:, None])
        x = x + self.time_new_pos_embed[..., : x.shape[-1]] + self.freq_new_pos_embed
        tokens = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        x = torch.cat([tokens.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        features = self.norm(x)[:, :2].mean(dim=1)
        return torch.cat([features, self.head(features)], dim=1)


def build(state: Mapping[str, Tensor]) -> PaSST:
    """The network with the tensors of a state dict."""
    return fill(PaSST, state, what="PaSST (passt_s_swa_p16_128_ap476)")


def mel_matrix() -> Tensor:
    """float32 [128, 513]: Kaldi triangles, linear in mel between 0 and 15 kHz, not area-normalised; last bin zero."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(hertz / 700.0)

    low, high = mel(np.array(LOW)), mel(np.array(HIGH))
    corners = (low + (high - low) / (MELS + 1) * np.arange(MELS + 2))[:, None]
    bins = mel(np.arange(FFT // 2) * RATE / FFT)
    rise = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return F.pad(torch.from_numpy(np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)), (0, 1))


def log_mel(samples: Tensor) -> Tensor:
    """Samples [B, 320000] at 32 kHz, float32 -> [B, 128, 1000], normalised."""
    x = samples[:, 1:] - 0.97 * samples[:, :-1]
    window = torch.hann_window(WINDOW, periodic=False, device=x.device)
    spectrum = torch.stft(x, FFT, HOP, WINDOW, window, center=True, pad_mode="reflect", return_complex=True)
    power = spectrum.real**2 + spectrum.imag**2
    return ((mel_matrix().to(x.device) @ power + 1e-5).log() + 4.5) / 5.0


def embed(context: Context) -> Callable[[Tensor], Tensor]:
    """Samples [B, 320000] -> float32 [B, 1295]. The spectrogram is float32 whatever the precision."""
    module = build(read_state(context.weights["passt_s_swa"])).to(context.device, context.dtype)
    return lambda items: module(log_mel(items.float()).to(context.dtype)).float()
