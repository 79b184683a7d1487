"""BridgeDiT: a video tower and an audio tower that exchange tokens through a few bridge blocks.

Source: "Taming Text-to-Sounding Video Generation via Advanced Modality Condition and Interaction" (arXiv 2510.03117);
released code and checkpoint: guankaisi/BridgeDiT 1290cc6 (no licence file), Guan123/BridgeDiT. Video is Wan2.1-1.3B on
the straight path, audio Stable Audio Open 1.0 on the cosine path (v-prediction), both at one time t.

Where paper, released code and the reading here part ways (the settings of `BridgeDiT` choose):
positions in the bridge - the paper has none, the code counts tokens (`rope="flat"`), which does not align them in time;
the ablation of full attention - the code scales the query twice (`double_scale`); the additive ablation - the code adds
the mean of the other stream (kept) and does not start as the identity (it does here); the last blocks train (paper)
or the first (code) - `frozen`; the duration tokens join the caption (Stable Audio) or are left out (the code);
t_V is 1000 t here and floor(999 t) in the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import StableAudioDiTModel, WanTransformer3DModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from torch import Tensor, nn

from avbench.errors import UserError
from avbench.reference_models.common import towers
from avbench.reference_models.common.attention import Stream, heads, joint_sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.keymap import Rules, rename
from avbench.reference_models.common.rope import Table, rope_table, rotate
from avbench.reference_models.common.streams import seeded

# which streams (0: video, 1: audio) the queries of video and of audio read
READS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "dca": ((1,), (0,)),
    "full": ((0, 1), (0, 1)),
    "a2v": ((1,), (1,)),
    "v2a": ((0,), (0,)),
}
KINDS = (*READS, "add", "none")
ROPES = ("flat", "time", "none")

# The released state is a flat merge: trained blocks of both towers under diffusers' names, bridges under their index,
# 1 for video and 2 for audio. Under DeepSpeed each part has the prefix of its module.
BRIDGE_KEYS: Rules = tuple(
    (prefix + pattern, target)
    for prefix in ("", r"dual_dit_blocks\.")
    for number, stream in ((1, "video"), (2, "audio"))
    for pattern, target in (
        (rf"(\d+)\.attn\.([qkvo])_proj_{number}\.", rf"bridges.\1.{stream}.\2."),
        (rf"(\d+)\.mlp_{number}\.fc([12])\.", rf"bridges.\1.{stream}.fc\2."),
        (rf"(\d+)\.adaln_modulation_{number}\.1\.", rf"bridges.\1.{stream}.adaln."),
    )
) + tuple(
    (prefix + pattern, target)
    for prefix in ("", r"dual_dit_blocks\.")
    for pattern, target in (
        (r"(\d+)\.audio_to_video_proj\.", r"bridges.\1.video.o."),
        (r"(\d+)\.video_to_audio_proj\.", r"bridges.\1.audio.o."),
    )
)
KEYS: Rules = (
    *BRIDGE_KEYS,
    (r"video_diffusion\.", "video."),
    (r"audio_diffusion\.", "audio."),
    (r"blocks\.", "video.blocks."),
    (r"transformer_blocks\.", "audio.transformer_blocks."),
)


class BridgeStream(nn.Module):
    """One stream's half of a bridge: projections, feed-forward (GELU, 4 times as wide), modulation by its tower's time.

    q, k, v start at Xavier's values with zero biases; `o` and the second layer of the feed-forward at 0, so a new
    bridge is the identity. Without attention there are no q, k, v, and `o` projects the other stream's mean.
    """

    def __init__(self, dim: int, other: int, width: int, attends: bool) -> None:
        super().__init__()
        self.rows = 6 if attends else 4
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        if attends:
            self.q, self.k, self.v = (nn.Linear(dim, width) for _ in range(3))
            for linear in (self.q, self.k, self.v):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)
        self.o = nn.Linear(width if attends else other, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.adaln = nn.Linear(dim, self.rows * dim)
        for linear in (self.o, self.fc2):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def modulation(self, temb: Tensor) -> tuple[Tensor, ...]:
        """Time embedding [B, C] -> rows [B, 1, C]: (shift, scale, gate) twice, or (gate) and (shift, scale, gate)."""
        return self.adaln(nn.functional.silu(temb)).unsqueeze(1).chunk(self.rows, dim=-1)

    def qkv(self, h: Tensor, shift: Tensor, scale: Tensor, count: int, rope: Table | None) -> Stream:
        """Heads of the modulated tokens, queries and keys rotated."""
        n = self.norm(h) * (1 + scale) + shift
        q, k, v = (heads(linear(n), count) for linear in (self.q, self.k, self.v))
        return rotate(q, rope), rotate(k, rope), v

    def feed_forward(self, h: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        """With its residual."""
        n = self.norm(h) * (1 + scale) + shift
        return h + gate * self.fc2(nn.functional.gelu(self.fc1(n), approximate="tanh"))


class Bridge(nn.Module):
    """A bridge block. kind: a key of `READS`, or "add".

    dca: each stream attends to the other, both from the state before the bridge. full: one attention over both.
    a2v, v2a: one stream attends to the other, which attends to itself. add: the mean of the other stream's tokens,
    projected and gated, is added to every token. K and V of a stream serve whoever reads it.
    """

    def __init__(self, kind: str, video: int, audio: int, width: int, count: int, double_scale: bool = False) -> None:
        super().__init__()
        self.kind, self.count = kind, count
        self.scale = (width // count) ** -0.5 if double_scale and kind == "full" else 1.0
        self.video, self.audio = (
            BridgeStream(dim, other, width, kind != "add") for dim, other in ((video, audio), (audio, video))
        )

    def forward(
        self, h: Tensor, a: Tensor, temb: tuple[Tensor, Tensor], ropes: tuple[Table | None, Table | None]
    ) -> tuple[Tensor, Tensor]:
        """h [B, N, C_v], a [B, M, C_a] -> the same, after attention and feed-forward."""
        sides = (self.video, self.audio)
        rows = [side.modulation(t) for side, t in zip(sides, temb)]
        gates = [row[0] if self.kind == "add" else row[2] for row in rows]
        updates = self.added(h, a) if self.kind == "add" else self.attended(h, a, rows, ropes)
        out = [
            side.feed_forward(x + gate * update, *row[-3:])
            for side, x, gate, update, row in zip(sides, (h, a), gates, updates, rows)
        ]
        return out[0], out[1]

    def added(self, h: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Projected means [B, 1, C]."""
        return self.video.o(a.mean(1, keepdim=True)), self.audio.o(h.mean(1, keepdim=True))

    def attended(
        self, h: Tensor, a: Tensor, rows: list[tuple[Tensor, ...]], ropes: tuple[Table | None, Table | None]
    ) -> tuple[Tensor, Tensor]:
        """What each stream reads, projected."""
        streams = [
            side.qkv(x, row[0], row[1], self.count, rope)
            for side, x, row, rope in zip((self.video, self.audio), (h, a), rows, ropes)
        ]
        streams = [(self.scale * q, k, v) for q, k, v in streams]
        out_v, out_a = joint_sdpa(streams, READS[self.kind])
        return self.video.o(out_v), self.audio.o(out_a)


class BridgeDiT(nn.Module):
    """Wan and Stable Audio with a bridge after each pair of blocks in `after`.

    video, audio: configurations of `WanTransformer3DModel` and `StableAudioDiTModel`.
    after: [[video block, audio block], ...], counted from 0 and rising; the bridge stands after both. The paper's table
    counts up to the towers' depths (30 and 24), so an index equal to the depth also means the last block.
    kind: "dca" (the paper's), its ablations "full", "add", "v2a", "a2v", or "none": two towers that never meet.
    width, count: attention width and heads of a bridge. text_dim: of audio captions. max_seconds: of the duration.
    rope: "flat" counts tokens, as the released weights want; "time" gives tokens of equal times equal angles; "none".
    tau: audio latents per video latent for rope="time"; None: of the call (count by count).
    duration_tokens: start and end join the caption's tokens as in Stable Audio; the released code forgot them.
    double_scale: the released full attention's queries, scaled twice.
    """

    audio_path = "cosine"
    audio_layout = "tokens"
    video: Any  # transformers of diffusers, whose types do not tell what sub-modules they have
    audio: Any

    def __init__(
        self,
        video: dict[str, Any],
        audio: dict[str, Any],
        after: Sequence[Sequence[int]],
        width: int,
        count: int,
        kind: str = "dca",
        rope: str = "time",
        tau: float | None = None,
        duration_tokens: bool = True,
        double_scale: bool = False,
        text_dim: int = 768,
        max_seconds: float = 512.0,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, known in (("kind", kind, KINDS), ("rope", rope, ROPES)):
            if value not in known:
                raise ValueError(f"BridgeDiT: {name} {value!r} is unknown; use one of {', '.join(known)}")
        self.kind, self.rope, self.tau = kind, rope, tau
        self.head_dim, self.duration_tokens = width // count, duration_tokens
        with seeded(init_seed, "init_video"):
            self.video = WanTransformer3DModel(**video)
        with seeded(init_seed, "init_a"):
            self.audio = StableAudioDiTModel(**audio)
            self.audio_text = StableAudioProjectionModel(text_dim, audio["cross_attention_input_dim"], 0, max_seconds)
            dims = self.video.proj_out.in_features, self.audio.inner_dim
            self.bridges = nn.ModuleList(
                Bridge(kind, *dims, width, count, double_scale) for _ in (after if kind != "none" else ())
            )
        depths = len(self.video.blocks), len(self.audio.transformer_blocks)
        self.stops = [[min(index + 1, depth) for index, depth in zip(pair, depths)] for pair in after]
        if any(index > depth for pair in after for index, depth in zip(pair, depths)):
            raise ValueError(f"BridgeDiT: a bridge of {list(after)} stands beyond the towers of {depths} blocks")
        if self.stops != [list(pair) for pair in zip(*(sorted(set(column)) for column in zip(*self.stops)))]:
            raise ValueError(f"BridgeDiT: bridges after {list(after)} do not follow each other in both towers")

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
        """x_v [B, C, F, H, W], x_a [B, L, C_a], times [B] in 0 ... 1 -> eps - x0 of video, the cosine v of audio.

        One of them may be None: then the other tower runs alone. isolate: both run and no bridge does.
        """
        ev = None if x_v is None or t_v is None else towers.wan_embed(self.video, x_v, t_v, cond.need("text_v"))
        ea = None if x_a is None or t_a is None else self._audio_embed(x_a, t_a, cond)
        h: Tensor | None = None
        a: Tensor | None = None
        if ev is not None and ea is not None and x_v is not None and not isolate:
            h, a = self._bridged(ev, ea, towers.wan_grid(self.video, x_v))
        else:
            h = None if ev is None else self._video_blocks(ev.tokens, ev)
            a = None if ea is None else self._audio_blocks(ea.tokens, ea)
        video = None
        if ev is not None and h is not None and x_v is not None:
            video = towers.wan_head(self.video, h, ev.temb, towers.wan_grid(self.video, x_v))
        return JointPrediction(video, None if a is None else towers.sao_head(self.audio, a))

    def _audio_embed(self, x_a: Tensor, t_a: Tensor, cond: Conditions) -> towers.SAOEmbedded:
        """Caption and duration as Stable Audio takes them: tokens to attend to, and the global token."""
        seconds = cond.need("seconds")
        out = self.audio_text(cond.need("text_a"), torch.zeros_like(seconds), seconds)
        begin, end = out.seconds_start_hidden_states, out.seconds_end_hidden_states
        duration = [begin, end] if self.duration_tokens else []
        text = torch.cat([out.text_hidden_states, *duration], dim=1)
        return towers.sao_embed(self.audio, x_a, t_a, text, torch.cat([begin, end], dim=2))

    def _video_blocks(self, h: Tensor, ev: towers.Embedded, first: int = 0, stop: int | None = None) -> Tensor:
        for block in self.video.blocks[first:stop]:
            h = towers.wan_block(block, h, ev)
        return h

    def _audio_blocks(self, a: Tensor, ea: towers.SAOEmbedded, first: int = 0, stop: int | None = None) -> Tensor:
        for block in self.audio.transformer_blocks[first:stop]:
            a = towers.sao_block(block, a, ea)
        return a

    def _bridged(self, ev: towers.Embedded, ea: towers.SAOEmbedded, grid: towers.Grid) -> tuple[Tensor, Tensor]:
        """Both towers, segment by segment, with a bridge after each but the last."""
        h, a, at = ev.tokens, ea.tokens, [0, 0]
        ropes = self.ropes(grid, a.shape[1])
        for bridge, stop in zip(self.bridges, self.stops):
            h, a = self._video_blocks(h, ev, at[0], stop[0]), self._audio_blocks(a, ea, at[1], stop[1])
            h, a = bridge(h, a, (ev.temb, ea.temb), ropes)
            at = stop
        return self._video_blocks(h, ev, at[0]), self._audio_blocks(a, ea, at[1])

    def ropes(self, grid: towers.Grid, length: int) -> tuple[Table | None, Table | None]:
        """Tables of the video tokens of this grid and of `length` audio tokens, the global one (at 0) first."""
        frames, count = grid[0], grid[0] * grid[1] * grid[2]
        device = self.video.proj_out.weight.device
        if self.rope == "none":
            return None, None
        i, j = (torch.arange(n, device=device, dtype=torch.float32) for n in (count, length))
        if self.rope == "time":
            tau = self.tau or (length - 1) / frames
            i, j = (i // (count // frames)), (j - 1).clamp(min=0) / tau
        one, other = (rope_table(x[:, None], (self.head_dim,)) for x in (i, j))
        return one, other


def load_released(model: BridgeDiT, state: Mapping[str, Tensor]) -> list[str]:
    """Put the released trained part over towers that hold their own public weights; the names it filled.

    Every key has a place and every bridge is complete, or `UserError`. Of DeepSpeed's states, the frozen autoencoders
    and text encoders are left out.
    """
    frozen = ("video_vae.", "audio_vae.", "video_text_encoder.", "audio_text_encoder.")
    kept = [key for key in state if not key.startswith(frozen)]
    named, own = rename(kept, KEYS), model.state_dict()
    wrong = [key for key, name in named.items() if name not in own or own[name].shape != state[key].shape]
    if wrong:
        raise UserError(f"{len(wrong)} keys of the checkpoint do not fit this BridgeDiT, such as {wrong[0]}")
    lacks = [name for name in own if name.startswith("bridges.") and name not in set(named.values())]
    if lacks:
        raise UserError(f"the checkpoint lacks {len(lacks)} parameters of the bridges, such as {lacks[0]}")
    model.load_state_dict({name: state[key] for key, name in named.items()}, strict=False)
    return list(named.values())


def frozen(model: BridgeDiT, which: str = "last", count: int = 5) -> tuple[str, ...]:
    """What does not train, as a training's `freeze` wants it: all but the bridges and `count` blocks of each tower.

    which: the "last" blocks, as in the paper, or the "first", as in the released code and weights.
    """
    if which not in ("first", "last"):
        raise ValueError(f"BridgeDiT: which {which!r} is unknown; use first or last")
    found = [r"audio_text\."]
    for tower, blocks in (("video", "blocks"), ("audio", "transformer_blocks")):
        depth = len(getattr(getattr(model, tower), blocks))
        trains = range(count) if which == "first" else range(depth - count, depth)
        still = "|".join(str(i) for i in range(depth) if i not in trains)
        found += [rf"{tower}\.(?!{blocks}\.)"] + ([rf"{tower}\.{blocks}\.(?:{still})\."] if still else [])
    return tuple(found)
