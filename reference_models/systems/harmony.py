"""Harmony: two Wan towers that meet in windows of time, trained on three tasks at once.

Source: "Harmony: Harmonizing Audio and Video Generation through Cross-Task Synergy" (arXiv 2511.21579) and its
supplement. Re-implementation from description: its repository holds no code. `interaction="ovi"` is the paper's own
baseline, Ovi's fusion (character-ai/Ovi 5b69b25), whose public weights load by `OVI_KEYS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from avbench.reference_models.common import towers
from avbench.reference_models.common.attention import heads, sdpa, window_index, windowed_cross
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.keymap import WAN, Rules, load, under
from avbench.reference_models.common.rope import Table, rope_table, rotate, time_ids, wan_axes
from avbench.reference_models.common.streams import seeded

FUSION = (("k_fusion", "k"), ("v_fusion", "v"), ("pre_attn_norm_fusion", "norm_ctx"), ("norm_k_fusion", "norm_k"))
OVI_KEYS: Rules = tuple(
    rule
    for tower in ("video", "audio")
    for rule in (
        *(
            (rf"{tower}_model\.blocks\.(\d+)\.cross_attn\.{theirs}\.", rf"interaction.{tower}.\1.{ours}.")
            for theirs, ours in FUSION
        ),
        *under(f"{tower}.", WAN, f"{tower}_model."),
    )
)


class Local(nn.Module):
    """One direction of the frame-wise attention: queries of one tower, keys and values of the other.

    LayerNorm before, RMSNorm on q and k, rotary positions on the querying tower's clock, output projection at 0.
    """

    def __init__(self, dim: int, source: int, count: int) -> None:
        super().__init__()
        self.attn = towers.reader(dim, source, count)
        self.norm, self.norm_ctx = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(source, eps=1e-6)

    def forward(
        self,
        h: Tensor,
        other: Tensor,
        groups: tuple[int, int],
        tables: tuple[Table, Table],
        index: Tensor,
        valid: Tensor,
    ) -> Tensor:
        """h [B, N, C] in groups[0] groups, other [B, M, C'] in groups[1]; the update [B, N, C]."""
        q, k, v = towers.wan_qkv(self.attn, self.norm(h), None, self.norm_ctx(other))
        q, k = rotate(q, tables[0]), rotate(k, tables[1])
        q = q.unflatten(1, (groups[0], -1))
        k, v = (x.unflatten(1, (groups[1], -1)) for x in (k, v))
        return towers.project(self.attn, windowed_cross(q, k, v, index, valid).flatten(1, 2))


class GLDILayer(nn.Module):
    """Global-local decoupled interaction: both local directions, and reference tokens that read the whole video."""

    def __init__(self, video: dict[str, Any], audio: dict[str, Any]) -> None:
        super().__init__()
        (hv, dv), (ha, da) = ((c["num_attention_heads"], c["attention_head_dim"]) for c in (video, audio))
        self.a2v, self.v2a = Local(hv * dv, ha * da, hv), Local(ha * da, hv * dv, ha)
        self.style = Local(ha * da, hv * dv, ha)

    def read_style(self, ref: Tensor, video: Tensor) -> Tensor:
        """The update of reference tokens [B, L_r, C_a] from all video tokens."""
        return towers.full_cross(self.style.attn, self.style.norm(ref), self.style.norm_ctx(video))


class Fusion(nn.Module):
    """What Ovi adds to a tower's text cross-attention: keys and values from the other tower's tokens."""

    def __init__(self, dim: int, source: int) -> None:
        super().__init__()
        self.k, self.v = nn.Linear(source, dim), nn.Linear(source, dim)
        self.norm_ctx, self.norm_k = nn.LayerNorm(source, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)

    def forward(self, block: towers.Part, h: Tensor, e: towers.Embedded, other: Tensor, rope_other: Table) -> Tensor:
        """Text and fused cross-attention share q and the output projection; their results are added."""
        attn, other = block.attn2, self.norm_ctx(other)
        q, k, v = towers.wan_qkv(attn, block.norm2(h.float()).type_as(h), None, e.context)
        k2, v2 = heads(self.norm_k(self.k(other)), attn.heads), heads(self.v(other), attn.heads)
        return h + towers.project(attn, sdpa(q, k, v) + sdpa(rotate(q, e.rope), rotate(k2, rope_other), v2))


class Harmony(nn.Module):
    """A Wan video tower and a Wan audio tower, a GLDI layer (or Ovi's fusion) in every block.

    video, audio: configurations of `WanTransformer3DModel`, as many blocks each. The audio tower has patch (1, 1, 1)
    and Ovi's convolutional embedding; only its time band turns, by `audio_scale` per latent (None: T_v / T_a of the
    call; Ovi's weights: 0.19676).
    window: reach of the local attention in video latents, in both directions: |j T_v / T_a - i| <= window. The paper
    does not give it. ref_tokens: learned tokens that stand for a reference where none is given.
    align: rotary positions of both streams on one clock in the local attention; False (the supplement's ablation): each
    counts its own latents. interaction: "gldi", or "ovi" for the paper's baseline. multiple: rounding of the
    convolutional embedding's width. transcript_dim: width of `cond.transcript`, a speech encoder's embeddings of the
    spoken words, which join the audio caption's tokens (0: none are read; which encoder, the paper leaves open).

    Choices where nothing decides: GLDI stands after text cross-attention and before the feed-forward, has no gate, and
    its output projections start at 0; reference ids are -L_r ... -1, so the target starts at 0 with or without one.
    """

    audio_path = "linear"
    audio_layout = "tokens"
    video: towers.Part
    audio: towers.Part

    def __init__(
        self,
        video: dict[str, Any],
        audio: dict[str, Any],
        window: float = 1.0,
        ref_tokens: int = 8,
        audio_scale: float | None = None,
        align: bool = True,
        interaction: str = "gldi",
        multiple: int = 256,
        transcript_dim: int = 0,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        if interaction not in ("gldi", "ovi"):
            raise ValueError(f"Harmony: interaction {interaction!r} is unknown; use gldi or ovi")
        if video["num_layers"] != audio["num_layers"]:
            raise ValueError("Harmony: both towers need as many blocks")
        self.window, self.audio_scale, self.align, self.kind = window, audio_scale, align, interaction
        with seeded(init_seed, "init_video"):
            self.video = WanTransformer3DModel(**video)
        with seeded(init_seed, "init_a"):
            self.audio = WanTransformer3DModel(**{**audio, "patch_size": (1, 1, 1)})
            dim_v, dim_a = self.video.proj_out.in_features, self.audio.proj_out.in_features
            self.audio.patch_embedding = towers.audio_patch(audio["in_channels"], dim_a, multiple)
            self.transcript = nn.Linear(transcript_dim, audio["text_dim"]) if transcript_dim else None
            count = video["num_layers"]
            if interaction == "ovi":
                pairs = {"video": (dim_v, dim_a), "audio": (dim_a, dim_v)}
                self.interaction: nn.Module = nn.ModuleDict(
                    {name: nn.ModuleList(Fusion(*dims) for _ in range(count)) for name, dims in pairs.items()}
                )
            else:
                self.interaction = nn.ModuleList(GLDILayer(video, audio) for _ in range(count))
                self.no_reference = nn.Parameter(0.02 * torch.randn(1, ref_tokens, audio["in_channels"]))

    def forward(
        self,
        x_v: Tensor,
        x_a: Tensor | None,
        t_v: Tensor,
        t_a: Tensor | None,
        cond: Conditions,
        *,
        isolate: bool = False,
    ) -> JointPrediction:
        """x_v [B, C, F, H, W], x_a [B, L, C_a] or None, times [B] -> eps - x0 of each.

        Audio-driven video: t_a = 0 with clean x_a; video-driven audio: t_v = 0 with clean x_v. isolate: no interaction.
        """
        grid = towers.wan_grid(self.video, x_v)
        ev = towers.wan_embed(self.video, x_v, t_v, cond.need("text_v"))
        if x_a is None or t_a is None:
            h = ev.tokens
            for block in self.video.blocks:
                h = towers.wan_block(block, h, ev)
            return JointPrediction(towers.wan_head(self.video, h, ev.temb, grid), None)
        ref = self._reference(cond, len(x_a))
        skip = 0 if ref is None else ref.shape[1]
        ea = self._audio_embed(x_a, t_a, ref, self._audio_text(cond), grid[0])
        run = self._ovi if self.kind == "ovi" else self._gldi
        h, a = run(ev, ea, grid, skip, isolate)
        prediction = towers.wan_project(self.audio, a, ea.temb)[:, skip:]
        return JointPrediction(towers.wan_head(self.video, h, ev.temb, grid), prediction)

    def _reference(self, cond: Conditions, batch: int) -> Tensor | None:
        """Clean reference latents [B, L_r, C_a], learned ones where none are given; Ovi has none."""
        if self.kind == "ovi":
            return None
        return self.no_reference.expand(batch, -1, -1) if cond.ref_a is None else cond.ref_a

    def _audio_text(self, cond: Conditions) -> Tensor:
        """Tokens of the audio caption, then of the spoken words."""
        text = cond.need("text_a")
        if self.transcript is None or cond.transcript is None:
            return text
        return torch.cat([text, self.transcript(cond.transcript)], dim=1)

    def _audio_embed(self, x_a: Tensor, t_a: Tensor, ref: Tensor | None, text: Tensor, frames: int) -> towers.Embedded:
        """Reference (time 0, ids below 0) and target in one sequence."""
        length, skip = x_a.shape[1], 0 if ref is None else ref.shape[1]
        scale = frames / length if self.audio_scale is None else self.audio_scale
        at = torch.arange(-skip, length, device=x_a.device, dtype=torch.float32) * scale
        rope = rope_table(time_ids(at), wan_axes(self.audio.config.attention_head_dim))
        tokens = self.audio.patch_embedding(x_a)
        if ref is None:
            return towers.Embedded(tokens, *towers.wan_condition(self.audio, t_a, text), rope)
        # embedded apart: the convolutions would leak the reference into the target
        tokens = torch.cat([self.audio.patch_embedding(ref), tokens], dim=1)
        t = torch.cat([t_a.new_zeros(len(t_a), skip), t_a[:, None].expand(-1, length)], dim=1)
        return towers.Embedded(tokens, *towers.wan_condition(self.audio, t, text), rope)

    def _gldi(
        self, ev: towers.Embedded, ea: towers.Embedded, grid: towers.Grid, skip: int, isolate: bool
    ) -> tuple[Tensor, Tensor]:
        h, a = ev.tokens, ea.tokens
        frames, length = grid[0], a.shape[1] - skip
        link = Windows(grid, length, self.window, self.align, self.video, self.audio)
        assert isinstance(self.interaction, nn.ModuleList)
        layers: zip[tuple[Any, Any, Any]] = zip(self.video.blocks, self.audio.blocks, self.interaction)
        for video, audio, layer in layers:
            h, rows_v = towers.wan_until_ffn(video, h, ev)
            a, rows_a = towers.wan_until_ffn(audio, a, ea)
            if not isolate:
                ref, target = a[:, :skip], a[:, skip:]
                # all three read the state before any of them has changed it
                to_v = layer.a2v(h, target, (frames, length), link.on_video, *link.a2v)
                to_a = layer.v2a(target, h, (length, frames), link.on_audio, *link.v2a)
                to_ref = layer.read_style(ref, h)
                h, a = h + to_v, torch.cat([ref + to_ref, target + to_a], dim=1)
            h, a = towers.wan_ffn(video, h, *rows_v), towers.wan_ffn(audio, a, *rows_a)
        return h, a

    def _ovi(
        self, ev: towers.Embedded, ea: towers.Embedded, grid: towers.Grid, skip: int, isolate: bool
    ) -> tuple[Tensor, Tensor]:
        h, a = ev.tokens, ea.tokens
        assert ev.rope is not None and ea.rope is not None and isinstance(self.interaction, nn.ModuleDict)
        both = [self.interaction[name] for name in ("video", "audio")]
        fusions: zip[tuple[Fusion, Fusion]] = zip(*both)
        for video, audio, (to_v, to_a) in zip(self.video.blocks, self.audio.blocks, fusions):
            if isolate:
                h, a = towers.wan_block(video, h, ev), towers.wan_block(audio, a, ea)
                continue
            h, rows_v = towers.wan_self(video, h, ev)
            a, rows_a = towers.wan_self(audio, a, ea)
            heard = a  # video reads audio as it was before its own cross-attention
            a = towers.wan_ffn(audio, to_a(audio, a, ea, h, ev.rope), *rows_a)
            h = towers.wan_ffn(video, to_v(video, h, ev, heard, ea.rope), *rows_v)
        return h, a


def load_ovi(model: Harmony, state: Mapping[str, Tensor]) -> None:
    """Put Ovi's public weights into a model of its sizes (and `audio_scale=0.19676`), or `UserError`.

    Of a "gldi" model they fill both towers, which is how it may begin; Ovi's fusion has no place there.
    """
    if model.kind == "ovi":
        load(model, state, OVI_KEYS)
        return
    fusion = re.compile("|".join(rf"\.cross_attn\.{theirs}\." for theirs, _ in FUSION))
    for tower in ("video", "audio"):
        own = {key: value for key, value in state.items() if key.startswith(f"{tower}_model.")}
        kept = {key: value for key, value in own.items() if not fusion.search(key)}
        load(getattr(model, tower), kept, under("", WAN, f"{tower}_model."))


class Windows:
    """Who reads whom, and on which clock, for one grid of video tokens and one length of audio.

    a2v: windows of audio latents for every video frame; v2a: windows of video frames for every audio latent.
    on_video: tables of video queries and audio keys on the video's clock; on_audio: the mirror. Not aligned, every
    latent is where its own count puts it.
    """

    def __init__(
        self, grid: towers.Grid, length: int, reach: float, align: bool, video: towers.Part, audio: towers.Part
    ) -> None:
        device, frames = video.proj_out.weight.device, grid[0]
        # how wide the windows are decides shapes, so they are laid out on the CPU
        i, j = (torch.arange(n, dtype=torch.float32) for n in (frames, length))
        on_video, on_audio = (j * frames / length, i * length / frames)
        self.a2v, self.v2a = (
            (index.to(device), valid.to(device))
            for index, valid in (window_index(i, on_video, reach), window_index(on_video, i, reach))
        )
        if not align:
            on_video, on_audio = j, i
        axes_v, axes_a = (wan_axes(tower.config.attention_head_dim) for tower in (video, audio))
        tokens = grid[1] * grid[2]

        def table(at: Tensor, axes: tuple[int, int, int], each: int = 1) -> Table:
            return rope_table(time_ids(at.repeat_interleave(each).to(device)), axes)

        self.on_video = (table(i, axes_v, tokens), table(on_video, axes_v))
        self.on_audio = (table(j, axes_a), table(on_audio, axes_a, tokens))
