"""ViCLIP-L/14: eight frames and a text in one space, for text consistency.

Wang et al., "InternVid: A Large-scale Video-Text Dataset for Multimodal Understanding and Generation", ICLR 2024; the
network as VBench (Vchitect/VBench 45e79ec) runs it. Parameters carry the names of `ViClip-InternVid-10M-FLT.pth`, whose
tensors lie under "model"; `temp`, the temperature of training, is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.clip import MEAN, STD, causal, tokenize
from avbench.metrics.encoders.loading import fill

FRAMES = 8
TOKENS = 32  # context of the text tower; CLIP's own is 77
EMBED = 768


def transformer(width: int, layers: int, heads: int) -> Transformer:
    """CLIP's pre-norm transformer with quick GELU, batch first."""
    return Transformer(width, layers, heads, act_layer=QuickGELU, batch_first=True)


class VisionTower(nn.Module):
    """Frames [N, 8, 3, 224, 224] to [N, 768]: all patches of all frames attend to each other."""

    def __init__(
        self, width: int = 1024, layers: int = 24, heads: int = 16, patch: int = 14, patches: int = 256
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(patches + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, FRAMES, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, EMBED))

    def forward(self, frames: Tensor) -> Tensor:
        cells = self.conv1(frames.transpose(1, 2)).flatten(3).movedim(1, 3)  # [N, 8, 256, 1024]
        places = self.positional_embedding[1:] + self.temporal_positional_embedding[0, :, None]
        start = (self.class_embedding + self.positional_embedding[0]).expand(len(frames), 1, -1)
        tokens = torch.cat([start, (cells + places).flatten(1, 2)], dim=1)
        return self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0]) @ self.proj


class TextTower(nn.Module):
    """Token ids [N, 32] to [N, 768], read at the end token (the largest id)."""

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = 49408) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(TOKENS, width))
        self.transformer = transformer(width, layers, heads)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, EMBED))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.positional_embedding
        x = self.transformer(x, attn_mask=causal(TOKENS).to(x))
        return self.ln_final(x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]) @ self.text_projection


def build_vision(state: Mapping[str, Tensor]) -> VisionTower:
    """The vision tower of the checkpoint."""
    return fill(VisionTower, state, what="ViCLIP-L/14", prefix="vision_encoder.")


def build_text(state: Mapping[str, Tensor]) -> TextTower:
    """The text tower of the checkpoint."""
    return fill(TextTower, state, what="ViCLIP-L/14", prefix="text_encoder.")


def vision(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: eight frames, uint8 RGB [N, 8, 224, 224, 3]. Features: float32 [N, 768], not normalised."""
    model = build_vision(read_state(context.weights["viclip"])).to(context.device, context.dtype)
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        frames = ((items.float() / 255 - mean) / std).movedim(-1, 2)
        return model(frames.to(context.dtype)).float()

    return encode


def text(context: Context) -> Callable[[Sequence[str]], Tensor]:
    """Items: strings, cut to 30 tokens between start and end. Features: float32 [N, 768], not normalised."""
    model = build_text(read_state(context.weights["viclip"])).to(context.device, context.dtype)
    return lambda texts: model(tokenize(texts, context=TOKENS).to(context.device)).float()
