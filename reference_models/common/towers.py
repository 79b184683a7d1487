"""diffusers' transformers taken apart at the seams where two of them are joined.

Every function calls the sub-modules of the transformer it is given, in the order and with the casts of its own forward,
so a tower run through these pieces gives the very bits that it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from avbench.reference_models.common.attention import heads, sdpa
from avbench.reference_models.common.rope import Table, half_split_table, rope_table, rotate, video_ids, wan_axes

Grid = tuple[int, int, int]
Three = tuple[Tensor, Tensor, Tensor]
Part = Any  # a transformer of diffusers, or a piece of one: its types do not tell what sub-modules it has


class Embedded(NamedTuple):
    """Tokens [B, N, C], text context, time embedding, modulation and rotary table of a tower."""

    tokens: Tensor
    context: Tensor
    temb: Tensor
    modulation: Tensor
    rope: Table | None = None


def wan_grid(wan: Part, x: Tensor) -> Grid:
    """Tokens along time, height and width of latents x [B, C, F, H, W]."""
    (pt, ph, pw), (frames, height, width) = wan.config.patch_size, x.shape[2:]
    if frames % pt or height % ph or width % pw:
        raise ValueError(f"video latents of {frames}x{height}x{width} do not divide into patches of {pt}x{ph}x{pw}")
    return frames // pt, height // ph, width // pw


def wan_condition(wan: Part, t: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """t [B] or per token [B, N] in 0 ... 1, text [B, M, D] -> context, temb, modulation [B, (N,) 6, C]."""
    count = t.shape[1] if t.ndim == 2 else None
    temb, modulation, context, _ = wan.condition_embedder(1000 * t.flatten(), text, None, timestep_seq_len=count)
    return context, temb, modulation.unflatten(-1, (6, -1))


def wan_rope(wan: Part, grid: Grid, time_scale: float = 1.0) -> Table:
    """Wan's own table; `time_scale` stretches its time ids (AVFullDiT's "expand video")."""
    ids = video_ids(*grid, device=wan.proj_out.weight.device)
    ids[:, 0] *= time_scale
    return rope_table(ids, wan_axes(wan.config.attention_head_dim))


def wan_patchify(wan: Part, x: Tensor) -> Tensor:
    """Latents [B, C, F, H, W] -> tokens [B, N, D]."""
    return wan.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()


def wan_embed(wan: Part, x: Tensor, t: Tensor, text: Tensor, time_scale: float = 1.0) -> Embedded:
    """Everything before the first block."""
    rope = wan_rope(wan, wan_grid(wan, x), time_scale)
    tokens = wan_patchify(wan, x)
    return Embedded(tokens, *wan_condition(wan, t, text), rope)


def rows(table: Tensor, modulation: Tensor) -> tuple[Tensor, ...]:
    """Learned rows [1, R, C] plus time modulation [B, R, C] or [B, N, R, C] -> R tensors that broadcast over tokens."""
    if modulation.ndim == 4:
        return tuple((table.unsqueeze(0) + modulation.float()).unbind(2))
    return tuple((table + modulation.float()).chunk(table.shape[1], dim=1))


def modulated(norm: nn.Module, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise in float32, scale and shift."""
    return (norm(h.float()) * (1 + scale) + shift).type_as(h)


def gated(h: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """h + gate * update in float32."""
    return (h.float() + update * gate).type_as(h)


def wan_qkv(attn: Part, x: Tensor, rope: Table | None, context: Tensor | None = None) -> Three:
    """Normalised, rotated q, k, v, [B, N, H, D] each; keys and values from `context` where given."""
    source = x if context is None else context
    q, k, v = attn.norm_q(attn.to_q(x)), attn.norm_k(attn.to_k(source)), attn.to_v(source)
    q, k, v = (heads(y, attn.heads) for y in (q, k, v))
    return rotate(q, rope), rotate(k, rope), v


def project(attn: Part, x: Tensor) -> Tensor:
    """The output projection of a Wan attention."""
    return attn.to_out[1](attn.to_out[0](x))


def wan_cross(block: Part, h: Tensor, context: Tensor) -> Tensor:
    """Text cross-attention with its residual."""
    return h + block.attn2(block.norm2(h.float()).type_as(h), context, None, None)


def wan_ffn(
    block: Part, h: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, *, ffn: nn.Module | None = None
) -> Tensor:
    """Feed-forward with its residual; `ffn` replaces the block's own."""
    return gated(h, (ffn or block.ffn)(modulated(block.norm3, h, shift, scale)).float(), gate)


def wan_block(block: Part, h: Tensor, e: Embedded, interact: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """A whole block; `interact` sees the tokens between text cross-attention and feed-forward."""
    if interact is None:
        return block(h, e.context, e.modulation, e.rope)
    shift, scale, gate, shift2, scale2, gate2 = rows(block.scale_shift_table, e.modulation)
    h = gated(h, block.attn1(modulated(block.norm1, h, shift, scale), None, None, e.rope), gate)
    return wan_ffn(block, interact(wan_cross(block, h, e.context)), shift2, scale2, gate2)


def wan_self(block: Part, h: Tensor, e: Embedded) -> tuple[Tensor, Three]:
    """Self-attention with its residual -> tokens and the feed-forward's modulation rows."""
    shift, scale, gate, shift2, scale2, gate2 = rows(block.scale_shift_table, e.modulation)
    out = block.attn1(modulated(block.norm1, h, shift, scale), None, None, e.rope)
    return gated(h, out, gate), (shift2, scale2, gate2)


def wan_until_ffn(block: Part, h: Tensor, e: Embedded) -> tuple[Tensor, Three]:
    """Self-attention and text cross-attention."""
    h, rest = wan_self(block, h, e)
    return wan_cross(block, h, e.context), rest


def wan_project(wan: Part, h: Tensor, temb: Tensor) -> Tensor:
    """Final modulation and projection: tokens [B, N, C] -> patches [B, N, P]."""
    if temb.ndim == 3:
        shift, scale = (wan.scale_shift_table.unsqueeze(0) + temb.unsqueeze(2)).unbind(2)
    else:
        shift, scale = (wan.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
    return wan.proj_out(modulated(wan.norm_out, h, shift, scale))


def wan_head(wan: Part, h: Tensor, temb: Tensor, grid: Grid) -> Tensor:
    """Tokens -> latents [B, C, F, H, W]."""
    return unpatchify(wan_project(wan, h, temb), grid, wan.config.patch_size)


def unpatchify(patches: Tensor, grid: tuple[int, ...], patch: tuple[int, ...]) -> Tensor:
    """Patches [B, prod(grid), prod(patch) C], channel fastest -> [B, C, grid_0 patch_0, ...]."""
    axes = len(grid)
    x = patches.unflatten(-1, (*patch, -1)).unflatten(1, grid)
    order = [0, 2 * axes + 1, *(axis for i in range(axes) for axis in (1 + i, 1 + axes + i))]
    x = x.permute(order)
    return x.reshape(*x.shape[:2], *(g * p for g, p in zip(grid, patch)))


class FluxEmbedded(NamedTuple):
    """Audio tokens [B, L, C], text tokens [B, M, C], conditioning vector [B, C]."""

    tokens: Tensor
    text: Tensor
    temb: Tensor


def flux_embed(flux: Part, x: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> FluxEmbedded:
    """x [B, L, C_a], t [B] in 0 ... 1, text [B, M, D], pooled [B, P]."""
    tokens = flux.x_embedder(x)
    temb = flux.time_text_embed(t.to(tokens.dtype) * 1000, pooled)
    return FluxEmbedded(tokens, flux.context_embedder(text), temb)


def flux_table(rope: Table) -> Table:
    """A table as Flux blocks take it: [N, D] each."""
    return rope[0][0, :, 0], rope[1][0, :, 0]


def flux_head(flux: Part, h: Tensor, temb: Tensor) -> Tensor:
    """Audio tokens -> [B, L, C_a]."""
    return flux.proj_out(flux.norm_out(h, temb))


class SAOEmbedded(NamedTuple):
    """Tokens [B, 1 + L, C] with the global token first, text context, time embedding [B, C], rotary table."""

    tokens: Tensor
    context: Tensor
    temb: Tensor
    rope: Table


def sao_embed(sao: Part, x: Tensor, t: Tensor, text: Tensor, glob: Tensor) -> SAOEmbedded:
    """x [B, L, C_a], t [B] in 0 ... 1, text [B, M, D], glob [B, 1, G]."""
    context = sao.cross_attention_proj(text)
    temb = sao.timestep_proj(sao.time_proj(t.to(x.dtype)))
    first = sao.global_proj(glob) + temb.unsqueeze(1)
    x = x.transpose(1, 2)
    tokens = torch.cat([first, sao.proj_in((sao.preprocess_conv(x) + x).transpose(1, 2))], dim=1)
    width = sao.config.attention_head_dim // 2  # only the first half of a head turns
    return SAOEmbedded(tokens, context, temb, half_split_table(tokens.shape[1], width, x.device))


def sao_block(block: Part, h: Tensor, e: SAOEmbedded) -> Tensor:
    """A whole Stable Audio block."""
    return block(hidden_states=h, encoder_hidden_states=e.context, rotary_embedding=e.rope)


def sao_head(sao: Part, h: Tensor) -> Tensor:
    """Tokens -> [B, L, C_a], the global token dropped."""
    x = sao.proj_out(h).transpose(1, 2)[:, :, 1:]
    return (sao.postprocess_conv(x) + x).transpose(1, 2)


class ConvMLP(nn.Module):
    """Gated feed-forward with 1-D convolutions over time: w2(silu(w1 x) * w3 x), [B, L, C] in and out.

    The hidden width is 2/3 of `hidden`, rounded up to a multiple of `multiple` (MMAudio, Ovi).
    """

    def __init__(self, dim: int, hidden: int, kernel: int, multiple: int = 256) -> None:
        super().__init__()
        hidden = -(-int(2 * hidden / 3) // multiple) * multiple
        self.w1 = nn.Conv1d(dim, hidden, kernel, padding=kernel // 2, bias=False)
        self.w2 = nn.Conv1d(hidden, dim, kernel, padding=kernel // 2, bias=False)
        self.w3 = nn.Conv1d(dim, hidden, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x)).transpose(1, 2)


class ChannelLastConv1d(nn.Conv1d):
    """A convolution over time of [B, L, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def audio_patch(channels: int, dim: int, multiple: int = 256) -> nn.Sequential:
    """The embedding of the 1-D Wan audio tower (Ovi): convolution of 7, SiLU, gated convolution of 7."""
    first = ChannelLastConv1d(channels, dim, 7, padding=3)
    return nn.Sequential(first, nn.SiLU(), ConvMLP(dim, dim * 4, 7, multiple))


def reader(dim: int, source: int, count: int) -> WanAttention:
    """A cross-attention of `count` heads from `source` to `dim` whose output starts at 0."""
    attn: Part = WanAttention(dim, count, dim // count, eps=1e-6, cross_attention_dim_head=dim // count)
    attn.to_k, attn.to_v = nn.Linear(source, dim), nn.Linear(source, dim)
    nn.init.zeros_(attn.to_out[0].weight)
    nn.init.zeros_(attn.to_out[0].bias)
    return attn


def full_cross(attn: Part, q_source: Tensor, context: Tensor) -> Tensor:
    """Cross-attention of a `WanAttention` over all of `context`, output projection included."""
    return project(attn, sdpa(*wan_qkv(attn, q_source, None, context)))
