"""mPLUG-Owl-Video's eyes: 32 frames to 65 vectors that a LLaMA reads in place of words.

Ye et al., "mPLUG-Owl: Modularization Empowers Large Language Models with Multimodality", 2023; the video model as
Hritikbansal/videophy 01d366c runs it. Parameters carry the checkpoint's names, its sizes come from `config.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class VisionSize:
    """`vision_config` of the checkpoint's config.json."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class AbstractorSize:
    """`visual_abstractor_config` of the checkpoint's config.json."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 6
    num_attention_heads: int = 16
    encoder_hidden_size: int = 1024
    layer_norm_eps: float = 1e-6

    @property
    def gated_size(self) -> int:
        """Inner width of a SwiGLU layer with as many parameters as a plain one, in multiples of 256."""
        return -(-(2 * self.intermediate_size // 3) // 256) * 256


@dataclass(frozen=True)
class Size:
    """Everything that decides the shapes of the front end."""

    vision: VisionSize = VisionSize()
    abstractor: AbstractorSize = AbstractorSize()
    queries: int = 64
    language: int = 4096

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Size:
        """Sizes from a parsed config.json; what it does not name keeps the published value."""
        return cls(
            VisionSize(**known(VisionSize, config.get("vision_config"))),
            AbstractorSize(**known(AbstractorSize, config.get("visual_abstractor_config"))),
            int(config.get("num_query_tokens", 64)),
            int((config.get("text_config") or {}).get("hidden_size", 4096)),
        )


def known(kind: type, table: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries of a table that are fields of a dataclass."""
    names = {one.name for one in fields(kind)}
    return {key: value for key, value in (table or {}).items() if key in names}


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def heads(x: Tensor, count: int) -> Tensor:
    """[N, L, C] to [N, heads, L, C / heads]."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class Temporal(nn.Module):
    """Mixing over time, patch by patch, in a bottleneck. The class token passes through as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.down_proj = nn.Conv3d(width, width // 2, 1)
        self.conv = nn.Conv3d(width // 2, width // 2, (3, 1, 1), padding=(1, 0, 0), groups=width // 2)
        self.up_proj = nn.Conv3d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, L, C] to the same shape."""
        y = F.linear(self.ln(x[:, :, 1:]), self.down_proj.weight.flatten(1), self.down_proj.bias)
        y = F.linear(quick_gelu(self.over_time(y)), self.up_proj.weight.flatten(1), self.up_proj.bias)
        return torch.cat([x[:, :, :1], y], dim=2)

    def over_time(self, x: Tensor) -> Tensor:
        """The depthwise convolution as three shifted products in float32: CUDA has no bfloat16 kernel for it."""
        padded = F.pad(x.float(), (0, 0, 0, 0, 1, 1))
        taps = self.conv.weight.float().flatten(1).T
        y = sum(padded[:, tap : tap + x.shape[1]] * weight for tap, weight in enumerate(taps))
        return (y + self.conv.get_parameter("bias").float()).to(x.dtype)


class VisionAttention(nn.Module):
    """Self-attention; the fused projection interleaves query, key and value of each head."""

    def __init__(self, size: VisionSize) -> None:
        super().__init__()
        self.count = size.num_attention_heads
        self.query_key_value = nn.Linear(size.hidden_size, 3 * size.hidden_size)
        self.dense = nn.Linear(size.hidden_size, size.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x).unflatten(-1, (self.count, 3, -1)).permute(3, 0, 2, 1, 4)
        return self.dense(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    def __init__(self, size: VisionSize) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size.hidden_size, size.intermediate_size)
        self.fc2 = nn.Linear(size.intermediate_size, size.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    """Pre-norm block on the tokens of each frame, after mixing over time where there is more than one frame."""

    def __init__(self, size: VisionSize) -> None:
        super().__init__()
        self.temporal = Temporal(size.hidden_size)
        self.input_layernorm = nn.LayerNorm(size.hidden_size, eps=size.layer_norm_eps)
        self.self_attn = VisionAttention(size)
        self.post_attention_layernorm = nn.LayerNorm(size.hidden_size, eps=size.layer_norm_eps)
        self.mlp = VisionMLP(size)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, L, C] to the same shape."""
        if x.shape[1] > 1:
            x = x + self.temporal(x)  # which doubles the class token: so the reference was trained
        frames = x.flatten(0, 1)
        frames = frames + self.self_attn(self.input_layernorm(frames))
        frames = frames + self.mlp(self.post_attention_layernorm(frames))
        return frames.unflatten(0, x.shape[:2])


class VisionEmbeddings(nn.Module):
    """Patches, class token and positions of every frame."""

    def __init__(self, size: VisionSize) -> None:
        super().__init__()
        width = size.hidden_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, (size.image_size // size.patch_size) ** 2 + 1, width))
        self.patch_embed = nn.Conv2d(3, width, size.patch_size, size.patch_size, bias=False)
        self.pre_layernorm = nn.LayerNorm(width, eps=size.layer_norm_eps)

    def forward(self, frames: Tensor) -> Tensor:
        patches = self.patch_embed(frames).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(frames), -1, -1), patches], dim=1)
        return self.pre_layernorm(tokens + self.position_embedding)


class Layers(nn.Module):
    """Layers one after the other; what else is given goes to each of them."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *others)
        return x


class VisionModel(nn.Module):
    """Frames [N, T, 3, H, W] to tokens [N, T, L, C], class token first."""

    def __init__(self, size: VisionSize) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(size)
        self.encoder = Layers(VisionLayer(size) for _ in range(size.num_hidden_layers))
        self.post_layernorm = nn.LayerNorm(size.hidden_size, eps=size.layer_norm_eps)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.embeddings(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.post_layernorm(self.encoder(x))


class GatedMLP(nn.Module):
    """SwiGLU with a LayerNorm before the last matrix."""

    def __init__(self, size: AbstractorSize) -> None:
        super().__init__()
        self.w1 = nn.Linear(size.hidden_size, size.gated_size)
        self.w2 = nn.Linear(size.gated_size, size.hidden_size)
        self.w3 = nn.Linear(size.hidden_size, size.gated_size)
        self.ffn_ln = nn.LayerNorm(size.gated_size, eps=size.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))


class Projections(nn.Module):
    """Queries, keys and values of the cross-attention."""

    def __init__(self, size: AbstractorSize) -> None:
        super().__init__()
        self.query = nn.Linear(size.hidden_size, size.hidden_size)
        self.key = nn.Linear(size.encoder_hidden_size, size.hidden_size)
        self.value = nn.Linear(size.encoder_hidden_size, size.hidden_size)


class CrossOutput(nn.Module):
    """What follows the attention: its projection and the feed-forward layer."""

    def __init__(self, size: AbstractorSize) -> None:
        super().__init__()
        self.out_proj = nn.Linear(size.hidden_size, size.hidden_size)
        self.norm2 = nn.LayerNorm(size.hidden_size)
        self.mlp = GatedMLP(size)

    def forward(self, attended: Tensor, queries: Tensor) -> Tensor:
        queries = queries + self.out_proj(attended)
        return queries + self.mlp(self.norm2(queries))


class CrossAttention(nn.Module):
    """Queries attend to themselves and to the frames; the residual starts from the normalised queries."""

    def __init__(self, size: AbstractorSize) -> None:
        super().__init__()
        self.count = size.num_attention_heads
        self.attention = Projections(size)
        self.output = CrossOutput(size)
        self.norm1 = nn.LayerNorm(size.hidden_size)
        self.normk = nn.LayerNorm(size.encoder_hidden_size)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        queries = self.norm1(queries)
        sources = torch.cat([queries, self.normk(seen)], dim=1)
        q = heads(self.attention.query(queries), self.count)
        k, v = heads(self.attention.key(sources), self.count), heads(self.attention.value(sources), self.count)
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), queries)


class AbstractorLayer(nn.Module):
    def __init__(self, size: AbstractorSize) -> None:
        super().__init__()
        self.crossattention = CrossAttention(size)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        return self.crossattention(queries, seen)


class Abstractor(nn.Module):
    """Learned queries read all tokens of all frames; halves of them are added up and an end vector follows."""

    def __init__(self, size: AbstractorSize, language: int) -> None:
        super().__init__()
        self.encoder = Layers(AbstractorLayer(size) for _ in range(size.num_hidden_layers))
        self.visual_fc = nn.Linear(size.hidden_size, language)
        self.temporal_visual_fc = nn.Linear(size.hidden_size, language)
        self.vit_eos = nn.Parameter(torch.empty(1, 1, language))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        still, moving = self.encoder(queries, tokens).chunk(2, dim=1)
        words = self.visual_fc(still) + self.temporal_visual_fc(moving)
        return torch.cat([words, self.vit_eos.expand(len(words), -1, -1)], dim=1)


class FrontEnd(nn.Module):
    """Frames [N, T, 3, H, W], T > 1, normalised as for CLIP, to word vectors [N, queries + 1, language]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.abstractor.hidden_size
        self.query_tokens = nn.Parameter(torch.empty(1, size.queries, width))
        self.temporal_query_tokens = nn.Parameter(torch.empty(1, size.queries, width))
        self.vision_model = VisionModel(size.vision)
        self.abstractor = Abstractor(size.abstractor, size.language)

    def forward(self, frames: Tensor) -> Tensor:
        return self.read(self.vision_model(frames))

    def read(self, tokens: Tensor) -> Tensor:
        """From the vision model's tokens [N, T, L, C]."""
        queries = torch.cat([self.query_tokens, self.temporal_query_tokens], dim=1).expand(len(tokens), -1, -1)
        return self.abstractor(queries, tokens.flatten(1, 2))
