"""AVFullDiT: two pretrained towers whose later layers attend over video and audio together.

Source: "Does Hearing Help Seeing? Investigating Audio-Video Joint Denoising for Video Generation" (arXiv 2512.02457).
Video is Wan2.2-TI2V-5B, audio TangoFlux (Flux with 6 double and 18 single blocks). No joint weights are public.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
from torch import Tensor, nn

from avbench.reference_models.common import towers
from avbench.reference_models.common.attention import heads, joint_sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.keymap import load
from avbench.reference_models.common.rope import Table, rope_table, rotate, time_ids, wan_axes
from avbench.reference_models.common.streams import seeded


class WidenedProjection(nn.Module):
    """The heads that audio lacks: projections from C_a to C_v - C_a and back, beside the pretrained ones.

    q, k, v start at N(0, 0.02), the way back at 0, so audio starts as its tower left it. With d = C_v - C_a they are
    3 (C_a + 1) d + d C_a parameters.
    """

    def __init__(self, audio_dim: int, extra: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(audio_dim, extra) for _ in range(3))
        self.out = nn.Linear(extra, audio_dim, bias=False)
        for linear in (self.q, self.k, self.v):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.out.weight)


class CrossPair(nn.Module):
    """The paper's cross-attention ablation: after its self-attention each tower reads the other; outputs start at 0."""

    def __init__(self, video: Mapping[str, int], audio: Mapping[str, int]) -> None:
        super().__init__()
        self.video, self.audio = (
            towers.reader(own["heads"] * own["head_dim"], other["heads"] * other["head_dim"], own["heads"])
            for own, other in ((video, audio), (audio, video))
        )


class TangoText(nn.Module):
    """TangoFlux's conditions: pooled text (mean, linear, ReLU) and one duration token. Key names as published (sic)."""

    def __init__(self, text_dim: int, pooled_dim: int, max_seconds: float) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(text_dim, pooled_dim), nn.ReLU())
        self.duration_emebdder = StableAudioNumberConditioner(text_dim, 0, max_seconds)

    def forward(self, text: Tensor, mask: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, M, D], mask [B, M], seconds [B] -> tokens [B, M + 1, D], pooled [B, P]."""
        count = mask.sum(1, keepdim=True).clamp(min=1)
        pooled = self.fc((text * mask[..., None]).sum(1) / count)
        return torch.cat([text, self.duration_emebdder(seconds)], dim=1), pooled


class AVFullDiT(nn.Module):
    """Dual tower; the last `joint_layers` Wan blocks share one attention with the last Flux single blocks.

    video, audio: configurations of `WanTransformer3DModel` and `FluxTransformer2DModel`, equal in head width.
    tau: audio latents per video latent. rope: "shrink_audio" (AVSyncRoPE: audio index p / tau in all audio attention),
    "expand_video" (video time ids x tau in the joint model) or "vanilla".
    rope_layout: "native" keeps each tower's bands, as a drop-in rescaling of pretrained weights does; then equal times
    share only some of their phases. "shared" puts audio on Wan's time band, which makes them equal: from scratch only.
    rope_phase: added to p / tau; `LatentClock.causal_phase` corrects the causal autoencoder, which the paper does not.
    attention: "full", or "cross" for the paper's ablation.
    video_reads_audio_text: TangoFlux keeps its caption among the attention's tokens; the paper does not say whether
    video reads them. It does not by default.
    """

    audio_path = "linear"
    audio_layout = "tokens"
    video: towers.Part
    audio: towers.Part

    def __init__(
        self,
        video: dict[str, Any],
        audio: dict[str, Any],
        joint_layers: int,
        tau: float,
        rope: str = "shrink_audio",
        rope_layout: str = "native",
        rope_phase: float = 0.0,
        attention: str = "full",
        video_reads_audio_text: bool = False,
        max_seconds: float = 30.0,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        self.tau, self.rope, self.rope_layout, self.rope_phase = tau, rope, rope_layout, rope_phase
        self.joint_layers, self.attention, self.video_reads_audio_text = joint_layers, attention, video_reads_audio_text
        _choice("rope", rope, ("vanilla", "shrink_audio", "expand_video"))
        _choice("rope_layout", rope_layout, ("native", "shared"))
        _choice("attention", attention, ("full", "cross"))
        with seeded(init_seed, "init_video"):
            self.video = WanTransformer3DModel(**video)
        with seeded(init_seed, "init_a"):
            self.audio = FluxTransformer2DModel(**audio)
            self.audio_text = TangoText(audio["joint_attention_dim"], audio["pooled_projection_dim"], max_seconds)
            self.interaction = nn.ModuleList(self._interaction(attention) for _ in range(joint_layers))
        if video["attention_head_dim"] != audio["attention_head_dim"]:
            raise ValueError("AVFullDiT: both towers must have one head width, for audio is widened by whole heads")
        if joint_layers > min(len(self.video.blocks), len(self.audio.single_transformer_blocks)):
            raise ValueError(f"AVFullDiT: {joint_layers} joint layers are more than a tower has")

    def _interaction(self, attention: str) -> nn.Module:
        video, audio = self.video.config, self.audio.config
        if attention == "full":
            extra = (video.num_attention_heads - audio.num_attention_heads) * video.attention_head_dim
            return WidenedProjection(self.audio.inner_dim, extra)
        sizes = [{"heads": c.num_attention_heads, "head_dim": c.attention_head_dim} for c in (video, audio)]
        return CrossPair(*sizes)

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
        """x_v [B, C, F, H, W], x_a [B, L, C_a] or None (T2V only), times [B] in 0 ... 1 -> eps - x0 of each.

        isolate: both towers run, and neither sees the other.
        """
        grid = towers.wan_grid(self.video, x_v)
        stretch = self.tau if self.rope == "expand_video" and x_a is not None and not isolate else 1.0
        ev = towers.wan_embed(self.video, x_v, t_v, cond.need("text_v"), stretch)
        if x_a is None or t_a is None:
            h = ev.tokens
            for block in self.video.blocks:
                h = towers.wan_block(block, h, ev)
            return JointPrediction(towers.wan_head(self.video, h, ev.temb, grid), None)
        h, a = self._towers(ev, *self._audio_embed(x_a, t_a, cond), isolate=isolate)
        return JointPrediction(towers.wan_head(self.video, h, ev.temb, grid), a)

    def _audio_embed(self, x_a: Tensor, t_a: Tensor, cond: Conditions) -> tuple[towers.FluxEmbedded, Table]:
        text = cond.need("text_a")
        mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device) if cond.mask_a is None else cond.mask_a
        tokens, pooled = self.audio_text(text, mask, cond.need("seconds"))
        return towers.flux_embed(self.audio, x_a, t_a, tokens, pooled), self.audio_rope(tokens.shape[1], x_a.shape[1])

    def audio_rope(self, text: int, length: int) -> Table:
        """Table of [text; audio]: text at 0, audio latent p at p / tau (+ phase)."""
        device = self.audio.proj_out.weight.device
        p = torch.arange(length, device=device, dtype=torch.float32)
        if self.rope == "shrink_audio":
            p = p / self.tau + self.rope_phase
        p = torch.cat([p.new_zeros(text), p])
        if self.rope_layout == "shared":
            return rope_table(time_ids(p), wan_axes(self.video.config.attention_head_dim))
        axes = self.audio.config.axes_dims_rope
        return rope_table(p[:, None].expand(-1, len(axes)), axes)

    def _towers(
        self, ev: towers.Embedded, ea: towers.FluxEmbedded, rope_a: Table, isolate: bool
    ) -> tuple[Tensor, Tensor]:
        """All blocks -> video tokens and the audio prediction."""
        joint = self.joint_layers
        h, text, a, flat = ev.tokens, ea.text, ea.tokens, towers.flux_table(rope_a)
        early = list(self.video.blocks)[: len(self.video.blocks) - joint]
        for block in early:
            h = towers.wan_block(block, h, ev)
        for block in self.audio.transformer_blocks:
            text, a = block(a, text, ea.temb, flat)
        singles = list(self.audio.single_transformer_blocks)
        for block in singles[: len(singles) - joint]:
            text, a = block(a, text, ea.temb, flat)
        a, count = torch.cat([text, a], dim=1), text.shape[1]
        layers = zip(self.video.blocks[len(early) :], singles[len(singles) - joint :], self.interaction)
        step = joint_block if self.attention == "full" else cross_block
        for video, audio, link in layers:
            reads_text = self.video_reads_audio_text
            h, a = step(video, audio, link, h, a, ev, ea.temb, rope_a, count, isolate, reads_text)
        return h, towers.flux_head(self.audio, a[:, count:], ea.temb)


def load_tangoflux(model: AVFullDiT, state: Mapping[str, Tensor]) -> None:
    """Put TangoFlux's public weights into the audio tower and its conditions, or `UserError`; video stays as it is.

    Its text encoder, Flan-T5, is left out: that is `Text(kind="t5")` of a training.
    """
    own = {key: value for key, value in state.items() if not key.startswith("text_encoder.")}
    audio = {key: value for key, value in own.items() if key.startswith("transformer.")}
    load(model.audio, audio, ((r"transformer\.", ""),))
    load(model.audio_text, {key: value for key, value in own.items() if key not in audio}, (("", ""),))


def joint_block(
    video: towers.Part,
    audio: towers.Part,
    link: towers.Part,
    h: Tensor,
    a: Tensor,
    ev: towers.Embedded,
    temb_a: Tensor,
    rope_a: Table,
    text: int,
    isolate: bool,
    video_reads_text: bool,
) -> tuple[Tensor, Tensor]:
    """One AVFull-Attention layer. h [B, N, C_v]; a [B, text + L, C_a], caption first."""
    shift, scale, gate, shift2, scale2, gate2 = towers.rows(video.scale_shift_table, ev.modulation)
    qkv_v = towers.wan_qkv(video.attn1, towers.modulated(video.norm1, h, shift, scale), ev.rope)
    n, gate_a = audio.norm(a, emb=temb_a)
    mlp = audio.act_mlp(audio.proj_mlp(n))
    qkv_a = widened_qkv(audio.attn, link, n, rope_a, video.attn1.heads)
    parts = zip(*(x.split([text, x.shape[1] - text], dim=1) for x in qkv_a))
    all_three = (1, 2) if isolate else (0, 1, 2)
    sees = (0,) if isolate else (0, 1, 2) if video_reads_text else (0, 2)
    out_v, out_t, out_a = joint_sdpa([qkv_v, *parts], [sees, all_three, all_three])
    h = towers.gated(h, towers.project(video.attn1, out_v), gate)
    h = towers.wan_ffn(video, towers.wan_cross(video, h, ev.context), shift2, scale2, gate2)
    out = torch.cat([out_t, out_a], dim=1)
    own = audio.attn.inner_dim
    update = audio.proj_out(torch.cat([out[..., :own], mlp], dim=2)) + link.out(out[..., own:])
    return h, a + gate_a.unsqueeze(1) * update


def widened_qkv(attn: towers.Part, link: towers.Part, n: Tensor, rope: Table, count: int) -> towers.Three:
    """Audio's pretrained heads followed by its new ones; both share the tower's per-head norms."""
    q, k, v = (
        heads(torch.cat([old(n), new(n)], dim=-1), count)
        for old, new in ((attn.to_q, link.q), (attn.to_k, link.k), (attn.to_v, link.v))
    )
    return rotate(attn.norm_q(q), rope), rotate(attn.norm_k(k), rope), v


def cross_block(
    video: towers.Part,
    audio: towers.Part,
    link: towers.Part,
    h: Tensor,
    a: Tensor,
    ev: towers.Embedded,
    temb_a: Tensor,
    rope_a: Table,
    text: int,
    isolate: bool,
    video_reads_text: bool,
) -> tuple[Tensor, Tensor]:
    """The ablation's layer: self-attention in each tower, then each reads the other's tokens; same arguments."""
    shift, scale, gate, shift2, scale2, gate2 = towers.rows(video.scale_shift_table, ev.modulation)
    h = towers.gated(h, video.attn1(towers.modulated(video.norm1, h, shift, scale), None, None, ev.rope), gate)
    caption, sound = audio(a[:, text:], a[:, :text], temb_a, towers.flux_table(rope_a))
    a = torch.cat([caption, sound], dim=1)
    if not isolate:
        seen = a if video_reads_text else sound
        h, sound = h + towers.full_cross(link.video, h, seen), sound + towers.full_cross(link.audio, sound, h)
        a = torch.cat([caption, sound], dim=1)
    return towers.wan_ffn(video, towers.wan_cross(video, h, ev.context), shift2, scale2, gate2), a


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"AVFullDiT: {name} {value!r} is unknown; use one of {', '.join(known)}")
