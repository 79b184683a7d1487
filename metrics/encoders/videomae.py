"""VideoMAE v2 giant, fine-tuned on Something-Something v2: the features of content-debiased FVD.

Wang et al. 2023 (OpenGVLab/VideoMAEv2); used by Ge et al. 2024 (songweige/content-debiased-fvd a1e037a), whose
choice it is to scale pixels to [0, 1] only. Written out because the public file's key names (`q_bias`, `v_bias`, fused
`qkv`) are not those of transformers' VideoMAE, whose last norm also has another epsilon; a test shows the rest equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_tensors, unwrap
from avbench.errors import SampleError
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

SIZE, PATCH, TUBELET = 224, 14, 2
GIANT = {"dim": 1408, "depth": 40, "heads": 16, "hidden": 6144}


class Attention(nn.Module):
    """Self-attention with biases for queries and values, none for keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Tubelets of 2 frames x 14 x 14 pixels, in the order time, row, column."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        size = (TUBELET, PATCH, PATCH)
        self.proj = nn.Conv3d(3, dim, size, stride=size)

    def forward(self, video: Tensor) -> Tensor:
        return self.proj(video).flatten(2).transpose(1, 2)


class VideoMAE(nn.Module):
    """float [B, 3, T, 224, 224] in [0, 1], T even -> [B, dim]: LayerNorm of the mean token."""

    def __init__(self, dim: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.fc_norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, video: Tensor) -> Tensor:
        x = self.patch_embed(video)
        x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(dim=1))


def sinusoids(positions: int, dim: int) -> Tensor:
    """Fixed position table [1, positions, dim]: sine at even j, cosine at odd, of p / 10000^(2 floor(j / 2) / dim)."""
    j = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / 10000.0 ** (2.0 * (j // 2) / dim)
    return torch.where(j % 2 == 0, angle.sin(), angle.cos()).float()[None]


def build(state: Mapping[str, Tensor], heads: int = GIANT["heads"]) -> VideoMAE:
    """The network with the tensors of a state dict, whose shapes give its sizes; the classification head is ignored."""
    weight, fc1 = state.get("patch_embed.proj.weight"), state.get("blocks.0.mlp.fc1.weight")
    sizes = dict(GIANT)
    if weight is not None and fc1 is not None:
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
        sizes = {"dim": len(weight), "depth": depth, "heads": heads, "hidden": len(fc1)}
    return fill(lambda: VideoMAE(**sizes), state, what="VideoMAE v2 giant", ignore=(r"head\..*",))


def giant_ssv2(context: Context) -> Callable[[Tensor], Tensor]:
    """`vit_g_hybrid_pt_1200e_ssv2_ft.pth`. Frames [B, T, H, W, 3] in 0..255 -> float32 [B, 1408].

    Frames of other sizes are squashed to 224 x 224, bilinear without antialias.
    """
    path = context.weights["videomae_giant_ssv2"]
    loaded = read_tensors(path)
    module = build(unwrap(loaded.get("module", loaded) if isinstance(loaded, Mapping) else loaded, path))
    module = module.to(context.device, context.dtype)

    def embed(items: Tensor) -> Tensor:
        if items.shape[1] % TUBELET:
            raise SampleError("video.odd_frames", f"VideoMAE takes an even number of frames, got {items.shape[1]}")
        frames = items.permute(0, 1, 4, 2, 3).to(torch.float32) / 255.0
        if frames.shape[-2:] != (SIZE, SIZE):
            flat = F.interpolate(frames.flatten(0, 1), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
            frames = flat.unflatten(0, frames.shape[:2])
        return module(frames.transpose(1, 2).to(context.dtype)).float()

    return embed
