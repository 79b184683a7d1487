"""JavisDiT++: one Wan transformer over video and audio tokens, with a feed-forward of its own for each.

Source: "JavisDiT++: Unified Modeling and Optimization for Joint Audio-Video Generation" (arXiv 2602.19163); released
as JavisDiT-v1.0 (JavisVerse/JavisDiT b505b37). Audio is AudioLDM2's mel latent. Where paper and release differ, the
release is the default and the paper an argument. The released model returns x0 - eps; here it is eps - x0, as
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from avbench.reference_models.common import towers
from avbench.reference_models.common.attention import sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.keymap import WAN, Rules, load, rename, under
from avbench.reference_models.common.lora import inject, load_peft, merge
from avbench.reference_models.common.rope import join, rope_table, ta_rope_ids, wan_axes
from avbench.reference_models.common.streams import seeded

KEYS: Rules = (
    (r"audio_patch_embedding\.", r"audio_patch."),
    (r"audio_time_projection\.1\.", r"audio_time_proj."),
    (r"audio_head\.head\.", r"audio_proj_out."),
    (r"audio_head\.modulation$", r"audio_out_table"),
    (r"blocks\.(\d+)\.audio_ffn\.0\.", r"audio_ffn.\1.net.0.proj."),
    (r"blocks\.(\d+)\.audio_ffn\.2\.", r"audio_ffn.\1.net.2."),
    (r"blocks\.(\d+)\.audio_modulation\.param$", r"audio_tables.\1"),
    *under("video.", WAN),
)
# every linear layer that stages 2 (SFT) and 3 (DPO) adapt: attentions and both feed-forwards
LORA_TARGETS = (
    r"video\.blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))|audio_ffn\.\d+\.net\.(0\.proj|2)"
)
LORA: dict[str, Any] = {"targets": LORA_TARGETS, "rank": 64, "alpha": 16, "dropout": 0.05}
STAGES = {"audio": 1e-4, "sft": 1e-4, "dpo": 1e-5}
"""Training stages and their learning rates."""
BETA = {"video": 3000.0, "audio": 1000.0}
"""Of AV-DPO, as released; the paper's appendix argues for these and then names them the other way round, and its text
says 500 for both."""


class JavisDiTPP(nn.Module):
    """Shared attention, text and time; per modality: patch embedding, feed-forward with its modulation, head.

    video: configuration of `WanTransformer3DModel`. audio_channels, audio_patch: of the mel latent [B, C, T, M].
    ta_rope: where audio tokens stand ("vanilla", "interpolate", "interleave", "interleave_offset"); ta_rule: their
    frame index as "released" or as in the "paper". shared_ffn: audio uses video's feed-forward (ablation).
    """

    audio_path = "linear"
    audio_layout = "grid"
    one_prompt = True
    video: towers.Part

    def __init__(
        self,
        video: dict[str, Any],
        audio_channels: int = 8,
        audio_patch: tuple[int, int] = (2, 2),
        ta_rope: str = "interleave_offset",
        ta_rule: str = "released",
        shared_ffn: bool = False,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        self.patch = (audio_patch[0], audio_patch[1])
        self.ta_rope, self.ta_rule, self.shared_ffn = ta_rope, ta_rule, shared_ffn
        ta_rope_ids(ta_rope, (1, 1, 1), (1, 1), ta_rule)  # refuses unknown choices
        with seeded(init_seed, "init_video"):
            self.video = WanTransformer3DModel(**video)
        dim, count = self.video.proj_out.in_features, len(self.video.blocks)
        with seeded(init_seed, "init_a"):
            self.audio_patch = nn.Conv2d(audio_channels, dim, self.patch, self.patch)
            nn.init.xavier_uniform_(self.audio_patch.weight.view(dim, -1))
            nn.init.zeros_(self.audio_patch.get_parameter("bias"))
            self.audio_proj_out = nn.Linear(dim, audio_channels * self.patch[0] * self.patch[1])
            nn.init.zeros_(self.audio_proj_out.weight)
            nn.init.zeros_(self.audio_proj_out.bias)
            self.audio_out_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.audio_time_proj = nn.Linear(dim, 3 * dim)
        self.audio_tables = nn.ParameterList(torch.zeros(1, 3, dim) for _ in range(count))
        ffn = video["ffn_dim"]
        make = (
            (lambda: nn.Identity())
            if shared_ffn
            else (lambda: FeedForward(dim, inner_dim=ffn, activation_fn="gelu-approximate"))
        )
        self.audio_ffn = nn.ModuleList(make() for _ in range(count))
        if not self.audio_patch.weight.is_meta:
            self.copy_from_video()

    @torch.no_grad()
    def copy_from_video(self) -> None:
        """Audio's feed-forwards and their modulation start as the video's: weights, rows 3 to 5, time projection."""
        for i, block in enumerate(self.video.blocks):
            if not self.shared_ffn:
                self.audio_ffn[i].load_state_dict(block.ffn.state_dict())
            self.audio_tables[i].copy_(block.scale_shift_table[:, 3:])
        proj = self.video.condition_embedder.time_proj
        half = proj.out_features // 2
        self.audio_time_proj.weight.copy_(proj.weight[half:])
        self.audio_time_proj.bias.copy_(proj.bias[half:])

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
        """x_v [B, C, F, H, W], x_a [B, C_a, T, M] or None, t_v = t_a [B] -> eps - x0 of each.

        One prompt serves both: `cond.text_v`. The shared layers take the video's time. isolate: two attentions.
        """
        grid = towers.wan_grid(self.video, x_v)
        ev = towers.wan_embed(self.video, x_v, t_v, cond.need("text_v"))
        if x_a is None:
            h = ev.tokens
            for block in self.video.blocks:
                h = towers.wan_block(block, h, ev)
            return JointPrediction(towers.wan_head(self.video, h, ev.temb, grid), None)
        bands = x_a.shape[2] // self.patch[0], x_a.shape[3] // self.patch[1]
        ids = ta_rope_ids(self.ta_rope, grid, bands, self.ta_rule, x_a.device)
        table_a = rope_table(ids, wan_axes(self.video.config.attention_head_dim))
        audio_rows = self.audio_time_proj(self.video.condition_embedder.act_fn(ev.temb)).unflatten(1, (3, -1))
        a = self.audio_patch(x_a).flatten(2).transpose(1, 2)
        h, count = torch.cat([ev.tokens, a], dim=1), ev.tokens.shape[1]
        assert ev.rope is not None
        ropes = (ev.rope, table_a)
        for i, block in enumerate(self.video.blocks):
            h = self._block(i, block, h, count, ev, ropes, audio_rows, isolate)
        video = towers.wan_head(self.video, h[:, :count], ev.temb, grid)
        return JointPrediction(video, self._audio_head(h[:, count:], ev.temb, bands))

    def _block(
        self,
        i: int,
        block: towers.Part,
        h: Tensor,
        count: int,
        ev: towers.Embedded,
        ropes: tuple[Any, Any],
        audio_rows: Tensor,
        isolate: bool,
    ) -> Tensor:
        shift, scale, gate, *video_rows = towers.rows(block.scale_shift_table, ev.modulation)
        n = towers.modulated(block.norm1, h, shift, scale)
        if isolate:
            parts = zip(n.split([count, n.shape[1] - count], dim=1), ropes)
            out = torch.cat([sdpa(*towers.wan_qkv(block.attn1, part, rope)) for part, rope in parts], dim=1)
        else:
            out = sdpa(*towers.wan_qkv(block.attn1, n, join(*ropes)))
        h = towers.wan_cross(block, towers.gated(h, towers.project(block.attn1, out), gate), ev.context)
        ffn = None if self.shared_ffn else self.audio_ffn[i]
        video = towers.wan_ffn(block, h[:, :count], *video_rows)
        audio = towers.wan_ffn(block, h[:, count:], *towers.rows(self.audio_tables[i], audio_rows), ffn=ffn)
        return torch.cat([video, audio], dim=1)

    def _audio_head(self, a: Tensor, temb: Tensor, bands: tuple[int, int]) -> Tensor:
        shift, scale = (self.audio_out_table + temb.unsqueeze(1)).chunk(2, dim=1)
        patches = self.audio_proj_out(towers.modulated(self.video.norm_out, a, shift, scale))
        return towers.unpatchify(patches, bands, self.patch)


def load_released(model: JavisDiTPP, state: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None = None) -> None:
    """Put JavisDiT-v1.0 into a model of its sizes: every key has a place and every place a key, or `UserError`.

    adapter: the release's low-rank adapter in peft's format, under its own layers' names; it is folded in.
    """
    load(model, state, KEYS)
    if adapter is None:
        return
    inject(model, **LORA)
    prefix = "base_model.model."
    layers = sorted({key.removeprefix(prefix).partition(".lora_")[0] + "." for key in adapter})
    named = rename(layers, KEYS)
    renamed = {}
    for key, value in adapter.items():
        layer, _, side = key.removeprefix(prefix).partition(".lora_")
        renamed[f"{prefix}{named[layer + '.']}lora_{side}"] = value
    load_peft(model, renamed)
    merge(model)


def begin_stage(model: JavisDiTPP, stage: str, **over: Any) -> None:
    """Leave trainable what a stage trains: "audio" the audio parts, "sft" and "dpo" fresh low-rank adapters.

    Adapters of an earlier stage are folded in first, so that the "dpo" stage's reference is its own model with the new
    adapters silenced. over: changes of `LORA`.
    """
    if stage not in STAGES:
        raise ValueError(f"JavisDiT++: stage {stage!r} is unknown; use one of {', '.join(STAGES)}")
    merge(model)
    if stage == "audio":
        for name, p in model.named_parameters():
            p.requires_grad_(not name.startswith("video."))
    else:
        inject(model, **{**LORA, **over})


def released_shift(height: int, width: int, frames: int, training: bool = False) -> float:
    """The release's shift of the time grid for a clip in pixels and frames; training uses five times as much."""
    ratio = sqrt(height * width / 512**2) * sqrt(frames // 17 * 5)
    return 5 * ratio if training else ratio
