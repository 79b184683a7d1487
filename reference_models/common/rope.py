"""Rotary position tables for tokens with ids on any number of axes.

One table serves Wan, Flux, AVSyncRoPE, TA-RoPE, Ovi and Harmony: pairs are interleaved and every axis owns a band of
the head. On integer ids it equals diffusers' `WanRotaryPosEmbed` and `FluxPosEmbed` bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

Table = tuple[Tensor, Tensor]
turns: Any = get_1d_rotary_pos_embed  # its types leave tensors out
TA_ROPE = ("vanilla", "interpolate", "interleave", "interleave_offset")


def wan_axes(head_dim: int) -> tuple[int, int, int]:
    """Bands (time, height, width) of a Wan head: (44, 42, 42) for 128."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def rope_table(ids: Tensor, axes: Sequence[int], theta: float = 1e4) -> Table:
    """ids float [N, A], band widths [A] -> cosines and sines, float32 [1, N, 1, sum(axes)] each.

    Frequencies and angles are float64, ids float32, as in diffusers.
    """
    bands = [
        turns(width, ids[:, axis].float(), theta, use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float64)
        for axis, width in enumerate(axes)
    ]
    cos = torch.cat([cos for cos, _ in bands], dim=1)[None, :, None]
    sin = torch.cat([sin for _, sin in bands], dim=1)[None, :, None]
    return cos, sin


def half_split_table(length: int, width: int, device: torch.device) -> Table:
    """Stable Audio's table over positions 0 ... length - 1: [length, width] each, halves instead of pairs."""
    ids = torch.arange(length, device=device, dtype=torch.float32)
    table: Table = turns(width, ids, use_real=True, repeat_interleave_real=False)
    return table


def rotate(x: Tensor, table: Table | None) -> Tensor:
    """Rotate interleaved pairs of x [B, N, H, D] by a table [1, N, 1, D]; None leaves x as it is."""
    if table is None:
        return x
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table[0][..., 0::2], table[1][..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


def join(*tables: Table) -> Table:
    """Tables of several streams, one after the other."""
    return torch.cat([cos for cos, _ in tables], dim=1), torch.cat([sin for _, sin in tables], dim=1)


def video_ids(frames: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(t, h, w) of every video token, float32 [F H W, 3]."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in (frames, height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def time_ids(positions: Tensor, axes: int = 3) -> Tensor:
    """(position, 0, ..., 0): only the first band turns. float32 [N, axes]."""
    ids = positions.new_zeros(len(positions), axes, dtype=torch.float32)
    ids[:, 0] = positions
    return ids


def ta_rope_ids(
    variant: str,
    video: tuple[int, int, int],
    audio: tuple[int, int],
    rule: str = "released",
    device: torch.device | None = None,
) -> Tensor:
    """Ids of JavisDiT++'s audio tokens (time, band), float32 [T_a M, 3] (arXiv 2602.19163, TA-RoPE).

    variant: vanilla (t, t, m); interpolate (t T_v / T_a, same, m), fractional; interleave (r(t), t, m);
    interleave_offset (r(t), t + H, m + W), which no video token shares.
    video: (T_v, H, W), audio: (T_a, M), both after patching.
    rule: r(t) is ceil(linspace(0, T_v - 1, T_a)) as "released", round(t T_v / T_a) as in the "paper".
    """
    if variant not in TA_ROPE:
        raise ValueError(f"TA-RoPE variant {variant!r} is unknown; use one of {', '.join(TA_ROPE)}")
    if rule not in ("released", "paper"):
        raise ValueError(f"TA-RoPE rule {rule!r} is unknown; use released or paper")
    (frames, height, width), (steps, bands) = video, audio
    t = torch.arange(steps, device=device, dtype=torch.float64).repeat_interleave(bands)
    m = torch.arange(bands, device=device, dtype=torch.float64).repeat(steps)
    if rule == "released":
        # in float32, as released: the ceiling depends on how the grid rounds
        frame = torch.linspace(0, frames - 1, steps, device=device).ceil().double().repeat_interleave(bands)
    else:
        frame = torch.round(t * frames / steps)
    stretched = t * frames / steps
    columns = {
        "vanilla": (t, t, m),
        "interpolate": (stretched, stretched, m),
        "interleave": (frame, t, m),
        "interleave_offset": (frame, t + height, m + width),
    }[variant]
    return torch.stack(columns, dim=-1).float()
