"""MMAudio: sound for a video and a caption, VisioSonic's nearest kin with public weights.

Source: "MMAudio: Taming Multimodal Joint Training for High-Quality Video-to-Audio Synthesis" (arXiv 2412.15322);
hkchengrex/MMAudio 974010a. Modules bear the names of the public checkpoints (`mmaudio_*.pth`), which load strictly.
Its final layer is modulated by the global condition alone, a slip that its authors name and its weights were trained
with. Its time runs from noise (0) to data (1); here, as everywhere in this package, 1 is noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from avbench.reference_models.common.attention import Stream, sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.keymap import load
from avbench.reference_models.common.rope import Table, rope_table, rotate
from avbench.reference_models.common.streams import seeded
from avbench.reference_models.common.towers import ChannelLastConv1d, ConvMLP

SEGMENT = 8
"""Features of one Synchformer segment; each of its places has a learned position."""
BUFFERS = ("t_embed.freqs", "latent_rot", "clip_rot")
"""Of older checkpoint files: tables that follow from the configuration."""


class MLP(nn.Module):
    """Gated feed-forward w2(silu(w1 x) * w3 x); 2/3 of `hidden` wide, rounded up to a multiple of `multiple`."""

    def __init__(self, dim: int, hidden: int, multiple: int = 256) -> None:
        super().__init__()
        hidden = -(-int(2 * hidden / 3) // multiple) * multiple
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(silu(self.w1(x)) * self.w3(x))


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time [B] in 0 ... 1, then two layers. Frequencies are scaled by 10000 / period."""

    def __init__(self, dim: int, width: int = 256, period: float = 10000.0) -> None:
        super().__init__()
        self.width, self.period = width, period
        first, second = nn.Linear(width, dim), nn.Linear(dim, dim)
        nn.init.normal_(first.weight, std=0.02)
        nn.init.normal_(second.weight, std=0.02)
        self.mlp = nn.Sequential(first, nn.SiLU(), second)

    def forward(self, t: Tensor) -> Tensor:
        steps = torch.arange(0, self.width, 2, dtype=torch.float32, device=t.device) / self.width
        angles = t[:, None].float() * (10000 / self.period * (1.0 / 10000**steps))
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(next(self.parameters()).dtype))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def adaln(dim: int, rows: int) -> nn.Sequential:
    """Condition -> `rows` modulation vectors, at 0 at first."""
    linear = nn.Linear(dim, rows * dim)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


class PackedAttention(nn.Module):
    """Projections in one matrix whose rows run (head, channel, {q, k, v}), q k v fastest; RMSNorm per head."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = nn.RMSNorm(dim // count), nn.RMSNorm(dim // count)

    def forward(self, x: Tensor, rope: Table | None) -> Stream:
        """[B, N, C] -> q, k, v, [B, N, H, D] each; q and k rotated."""
        q, k, v = self.qkv(x).unflatten(-1, (self.count, -1, 3)).unbind(-1)
        return rotate(self.q_norm(q), rope), rotate(self.k_norm(k), rope), v


class Block(nn.Module):
    """A stream's half of a joint block, or a whole block of one stream. kernel: of its convolutions; 1: linear layers.

    last: the stream is only read (its own update would be used by nobody).
    """

    def __init__(self, dim: int, count: int, kernel: int, ratio: float = 4.0, last: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = PackedAttention(dim, count)
        self.adaLN_modulation = adaln(dim, 2 if last else 6)
        if not last:
            hidden = int(dim * ratio)
            self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
            self.linear1: nn.Module = (
                nn.Linear(dim, dim) if kernel == 1 else ChannelLastConv1d(dim, dim, kernel, padding=kernel // 2)
            )
            self.ffn: nn.Module = MLP(dim, hidden) if kernel == 1 else ConvMLP(dim, hidden, kernel)

    def before(self, x: Tensor, c: Tensor, rope: Table | None) -> tuple[Stream, tuple[Tensor, ...]]:
        """q, k, v and the modulation of what follows. c [B, 1 or N, C]."""
        shift, scale, *rest = self.adaLN_modulation(c).chunk(6 if hasattr(self, "ffn") else 2, dim=-1)
        return self.attn(modulate(self.norm1(x), shift, scale), rope), tuple(rest)

    def after(self, x: Tensor, out: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """Output projection and feed-forward with their residuals; of a last block, x."""
        if not rest:
            return x
        gate, shift, scale, gate2 = rest
        x = x + self.linear1(out) * gate
        return x + self.ffn(modulate(self.norm2(x), shift, scale)) * gate2

    def forward(self, x: Tensor, c: Tensor, rope: Table | None) -> Tensor:
        qkv, rest = self.before(x, c, rope)
        return self.after(x, sdpa(*qkv), rest)


class JointBlock(nn.Module):
    """Audio, video and text in one attention, each with its own projections."""

    def __init__(self, dim: int, count: int, last: bool) -> None:
        super().__init__()
        self.latent_block = Block(dim, count, 3)
        self.clip_block = Block(dim, count, 3, last=last)
        self.text_block = Block(dim, count, 1, last=last)

    def forward(
        self, x: tuple[Tensor, ...], c: tuple[Tensor, ...], ropes: tuple[Table | None, ...]
    ) -> tuple[Tensor, ...]:
        """x, c, ropes: of (audio, video, text)."""
        blocks: tuple[Block, ...] = (self.latent_block, self.clip_block, self.text_block)
        parts = [block.before(y, e, rope) for block, y, e, rope in zip(blocks, x, c, ropes)]
        q, k, v = (torch.cat([stream[i] for stream, _ in parts], dim=1) for i in range(3))
        outs = sdpa(q, k, v).split([y.shape[1] for y in x], dim=1)
        return tuple(block.after(y, out, rest) for block, y, out, (_, rest) in zip(blocks, x, outs, parts))


class FinalBlock(nn.Module):
    """Modulated norm and a convolution of 7 to the latents, at 0 at first."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.adaLN_modulation = adaln(dim, 2)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.conv = ChannelLastConv1d(dim, out, 7, padding=3)
        nn.init.zeros_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.conv(modulate(self.norm(x), *self.adaLN_modulation(c).chunk(2, dim=-1)))


def conv_in(channels: int, dim: int, kernel: int, act: nn.Module, multiple: int = 256) -> nn.Sequential:
    """A convolution of 7, an activation, a gated convolution of `kernel`."""
    first = ChannelLastConv1d(channels, dim, 7, padding=3)
    return nn.Sequential(first, act, ConvMLP(dim, 4 * dim, kernel, multiple))


def positioned(sync: Tensor, places: Tensor) -> Tensor:
    """Add the learned position within its segment to each synchrony feature: sync [B, 8 S, D], places [1, 1, 8, D]."""
    return (sync.unflatten(1, (-1, SEGMENT)) + places).flatten(1, 2)


def stretched(x: Tensor, length: int) -> Tensor:
    """[B, T, D] -> [B, length, D], each the nearest of the T."""
    return interpolate(x.transpose(1, 2), size=length, mode="nearest-exact").transpose(1, 2)


class MMAudio(nn.Module):
    """Joint blocks over audio, video and text, then blocks of audio alone.

    depth counts both kinds, `fused` of them the second. second: the layout of large_44k_v2 (SiLU for SELU, another time
    embedding). Latents come and go normalised by `latent_mean` and `latent_std`, which the checkpoint holds.
    """

    audio_path = "linear"
    audio_layout = "tokens"

    def __init__(
        self,
        latent_dim: int = 40,
        dim: int = 448,
        count: int = 7,
        depth: int = 12,
        fused: int = 8,
        clip_dim: int = 1024,
        sync_dim: int = 768,
        text_dim: int = 1024,
        text_tokens: int = 77,
        second: bool = False,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        self.head_dim = dim // count
        with seeded(init_seed, "init_a"):
            act = nn.SiLU if second else nn.SELU
            between = [nn.SiLU()] if second else []
            self.audio_input_proj = conv_in(latent_dim, dim, 7, act())
            self.clip_input_proj = nn.Sequential(nn.Linear(clip_dim, dim), *between, ConvMLP(dim, 4 * dim, 3))
            self.sync_input_proj = conv_in(sync_dim, dim, 3, act())
            self.text_input_proj = nn.Sequential(nn.Linear(text_dim, dim), *between, MLP(dim, 4 * dim))
            self.clip_cond_proj, self.text_cond_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.global_cond_mlp = MLP(dim, 4 * dim)
            self.t_embed = TimeEmbedding(dim, dim, 1.0) if second else TimeEmbedding(dim)
            joint = depth - fused
            self.joint_blocks = nn.ModuleList(JointBlock(dim, count, last=i == joint - 1) for i in range(joint))
            self.fused_blocks = nn.ModuleList(Block(dim, count, 3) for _ in range(fused))
            self.final_layer = FinalBlock(dim, latent_dim)
        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SEGMENT, sync_dim))
        self.latent_mean = nn.Parameter(torch.zeros(1, 1, latent_dim), requires_grad=False)
        self.latent_std = nn.Parameter(torch.ones(1, 1, latent_dim), requires_grad=False)
        self.empty_string_feat = nn.Parameter(torch.zeros(text_tokens, text_dim), requires_grad=False)
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, sync_dim))

    def forward(
        self,
        x_v: Tensor | None,
        x_a: Tensor | None,
        t_v: Tensor | None,
        t_a: Tensor | None,
        cond: Conditions,
        *,
        isolate: bool = False,
    ) -> JointPrediction:
        """x_a [B, L, C_a], t_a [B] in 0 ... 1 -> eps - x0 of the audio. x_v and t_v are not looked at.

        cond.look, cond.sync and cond.text_a: of CLIP, Synchformer and CLIP's text; the learned empty ones where None.
        """
        if x_a is None or t_a is None:
            raise ValueError("MMAudio makes audio: x_a and t_a are needed")
        look, sync, text = self.conditions(cond, len(x_a))
        length = x_a.shape[1]
        sync = stretched(self.sync_input_proj(positioned(sync, self.sync_pos_emb)), length)
        look, text = self.clip_input_proj(look), self.text_input_proj(text)
        c = self.global_cond_mlp(self.clip_cond_proj(look.mean(1)) + self.text_cond_proj(text.mean(1)))
        c = (self.t_embed(1 - t_a) + c).unsqueeze(1)
        ropes = self.ropes(length, look.shape[1])
        x: tuple[Tensor, ...] = (self.audio_input_proj(x_a), look, text)
        for block in self.joint_blocks:
            x = block(x, (c + sync, c, c), (*ropes, None))
        h = x[0]
        for block in self.fused_blocks:
            h = block(h, c + sync, ropes[0])
        return JointPrediction(None, -self.final_layer(h, c))

    def conditions(self, cond: Conditions, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, synchrony and text; 8 s of the empty ones where there are none."""
        look = self.empty_clip_feat.expand(batch, 64, -1) if cond.look is None else cond.look
        sync = self.empty_sync_feat.expand(batch, 192, -1) if cond.sync is None else cond.sync
        text = self.empty_string_feat.expand(batch, -1, -1) if cond.text_a is None else cond.text_a
        return look, sync, text

    def ropes(self, length: int, frames: int) -> tuple[Table, Table]:
        """Audio counts its latents; video's ids are stretched to the same clock."""
        device = self.latent_mean.device
        j, i = (torch.arange(n, device=device, dtype=torch.float32) for n in (length, frames))
        tables = [rope_table(at[:, None], (self.head_dim,)) for at in (j, i * length / frames)]
        return tables[0], tables[1]


def load_released(model: MMAudio, state: Mapping[str, Tensor]) -> None:
    """Fill from a public checkpoint: every key in its place, or `UserError`. Tables of older files are left out."""
    load(model, {key: value for key, value in state.items() if key not in BUFFERS}, (("", ""),))
