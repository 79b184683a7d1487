"""VisioSonic: sound for a video, by attention of aligned audio-video tokens among themselves and to the text.

Source: the supplement of "VisioSonic" (CVPR 2026) for its ablations and STAR-DPO; the architecture follows secondary
notes on the main paper, so this is a re-implementation from description, and no weights are public. What they leave
open was filled from MMAudio, its nearest kin: input projections, rounding of the feed-forward, time embedding. So read,
the paper's size has 151.9 M parameters, and 151 M are reported.

Open, and chosen here: without the conditioner, time and synchrony features still modulate (`conditioner=False` takes
the pooled video and text away); without the token aligner, audio tokens alone are projected; the last layer is
modulated by every token's own condition, unlike MMAudio's; STAR-DPO's beta (2000 with the factor 0.5, as TangoFlux's)
and what its rewards are normalised over (the whole pool), see `avbench.reference_models.common.preference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, interpolate

from avbench.reference_models.common.attention import heads, sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.flow import PATHS, flow_loss
from avbench.reference_models.common.preference import Preference, star_dpo_loss
from avbench.reference_models.common.rope import Table, rope_table, rotate
from avbench.reference_models.common.streams import seeded
from avbench.reference_models.common.towers import ConvMLP
from avbench.reference_models.systems.mmaudio import (
    MLP,
    SEGMENT,
    FinalBlock,
    TimeEmbedding,
    adaln,
    conv_in,
    modulate,
    positioned,
    stretched,
)


class CoBlock(nn.Module):
    """Audio-video tokens attend to themselves, rotated over time, and to the text, unrotated; then a gated ConvMLP.

    One query serves both; `gamma` weighs what the text gives, channel by channel, and starts at 0. Text is only read.
    """

    def __init__(self, dim: int, count: int, multiple: int) -> None:
        super().__init__()
        self.count = count
        self.q, self.k, self.v, self.o, self.k_text, self.v_text = (nn.Linear(dim, dim) for _ in range(6))
        self.q_norm, self.k_norm, self.k_text_norm = (nn.RMSNorm(dim // count) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.norm1, self.norm2 = (nn.LayerNorm(dim, elementwise_affine=False) for _ in range(2))
        self.ffn = ConvMLP(dim, 4 * dim, 3, multiple)
        self.adaln = adaln(dim, 6)

    def forward(self, x: Tensor, text: Tensor, e: Tensor, rope: Table) -> Tensor:
        """x [B, N, C], text [B, M, C], e [B, N, C]: condition of every token."""
        shift, scale, gate, shift2, scale2, gate2 = self.adaln(e).chunk(6, dim=-1)
        n = modulate(self.norm1(x), shift, scale)
        q = self.q_norm(heads(self.q(n), self.count))
        k, v = self.k_norm(heads(self.k(n), self.count)), heads(self.v(n), self.count)
        k_text, v_text = self.k_text_norm(heads(self.k_text(text), self.count)), heads(self.v_text(text), self.count)
        seen = sdpa(rotate(q, rope), rotate(k, rope), v) + self.gamma * sdpa(q, k_text, v_text)
        x = x + gate * self.o(seen)
        return x + gate2 * self.ffn(modulate(self.norm2(x), shift2, scale2))


class VisioSonic(nn.Module):
    """The audio of a video: conditioner, token aligner, and blocks of co-attention.

    latent_dim: channels. dim, count, depth: width, heads, number of blocks. multiple: rounding of feed-forwards.
    clip_dim, sync_dim, text_dim: widths of cond.look, cond.sync and cond.text_a. conditioner, aligner, synchformer: the
    supplement's ablations. Features that are missing, or 0 throughout for a clip, mean that the clip has none: a
    learned vector stands for them. That is what is dropped in training and guided away from in sampling.
    """

    audio_path = "linear"
    audio_layout = "tokens"

    def __init__(
        self,
        latent_dim: int = 40,
        dim: int = 448,
        count: int = 7,
        depth: int = 16,
        clip_dim: int = 1024,
        sync_dim: int = 768,
        text_dim: int = 1024,
        multiple: int = 256,
        conditioner: bool = True,
        aligner: bool = True,
        synchformer: bool = True,
        init_seed: int = 0,
    ) -> None:
        super().__init__()
        self.head_dim = dim // count
        self.conditioner, self.aligner, self.synchformer = conditioner, aligner, synchformer
        with seeded(init_seed, "init_a"):
            self.audio_in = conv_in(latent_dim, dim, 7, nn.SELU(), multiple)
            self.clip_in = nn.Sequential(nn.Linear(clip_dim, dim), ConvMLP(dim, 4 * dim, 3, multiple))
            self.text_in = nn.Sequential(nn.Linear(text_dim, dim), MLP(dim, 4 * dim, multiple))
            self.time = TimeEmbedding(dim)
            if conditioner:
                self.clip_pool, self.text_pool = nn.Linear(dim, dim), nn.Linear(dim, dim)
                self.pooled = MLP(dim, 4 * dim, multiple)
            if synchformer:
                self.sync_in = conv_in(sync_dim, dim, 3, nn.SELU(), multiple)
                self.sync_places = nn.Parameter(torch.zeros(1, 1, SEGMENT, sync_dim))
                self.no_sync = nn.Parameter(torch.zeros(1, 1, sync_dim))
            if aligner:
                self.align_video, self.align_audio = nn.Linear(dim, dim // 2), nn.Linear(dim, dim - dim // 2)
            else:
                self.align_audio = nn.Linear(dim, dim)
            self.blocks = nn.ModuleList(CoBlock(dim, count, multiple) for _ in range(depth))
            self.final = FinalBlock(dim, latent_dim)
            self.no_look = nn.Parameter(0.02 * torch.randn(1, 1, clip_dim))
            self.no_text = nn.Parameter(0.02 * torch.randn(1, 1, text_dim))

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
        """x_a [B, N, C_a], t_a [B] in 0 ... 1 -> eps - x0 of the audio. x_v and t_v are not looked at.

        cond.look [B, T, D]: of frames (CLIP at 8 per second); cond.sync [B, 8 S, D]: of Synchformer's segments;
        cond.text_a [B, M, D]. isolate: the video is not used, its learned empty features are.
        """
        if x_a is None or t_a is None:
            raise ValueError("VisioSonic makes audio: x_a and t_a are needed")
        batch, length = x_a.shape[:2]
        if isolate:
            cond = replace(cond, **{n: v * 0 for n in ("look", "sync") if (v := getattr(cond, n)) is not None})
        look = self.clip_in(present(cond.look, self.no_look, batch))
        text = self.text_in(present(cond.text_a, self.no_text, batch))
        e = self.time(1 - t_a).unsqueeze(1).expand(-1, length, -1)
        if self.conditioner:
            e = e + self.pooled(self.clip_pool(look.mean(1)) + self.text_pool(text.mean(1))).unsqueeze(1)
        if self.synchformer:
            sync = present(cond.sync, self.no_sync, batch, SEGMENT)
            e = e + stretched(self.sync_in(positioned(sync, self.sync_places)), length)
        x = self.aligned(self.audio_in(x_a), look)
        rope = rope_table(torch.arange(length, device=x.device)[:, None].float(), (self.head_dim,))
        for block in self.blocks:
            x = block(x, text, e, rope)
        return JointPrediction(None, -self.final(x, e))

    def aligned(self, audio: Tensor, look: Tensor) -> Tensor:
        """Audio-video tokens [B, N, C]: half the channels from the frames, stretched in time, half from the audio."""
        if not self.aligner:
            return self.align_audio(audio)
        frames = interpolate(look.transpose(1, 2), size=audio.shape[1], mode="linear").transpose(1, 2)
        return torch.cat([self.align_video(frames), self.align_audio(audio)], dim=-1)


def present(features: Tensor | None, empty: Tensor, batch: int, length: int = 1) -> Tensor:
    """Features [B, T, D] with `empty` [1, 1, D] in the place of every clip whose features are 0 throughout."""
    if features is None:
        return empty.expand(batch, length, -1)
    return torch.where(features.flatten(1).any(1)[:, None, None], features, empty)


def seen(cond: Conditions, video: Tensor) -> Conditions:
    """Conditions with features of clean video latents [B, C, F, H, W], for worlds too small for CLIP and Synchformer.

    look [B, F, 64 C]: 8 x 8 means of every frame. sync [B, 8 S, 64 C]: differences of successive frames, the last
    segment filled with zeros. No weights.
    """
    grid = adaptive_avg_pool3d(video.float(), (video.shape[2], 8, 8)).transpose(1, 2).flatten(2)
    change = torch.diff(grid, dim=1, prepend=grid[:, :1])
    fill = -change.shape[1] % SEGMENT
    return replace(cond, look=grid, sync=torch.cat([change, change.new_zeros(len(change), fill, change.shape[2])], 1))


Denoiser = Callable[..., JointPrediction]


def star_loss(
    policy: Denoiser,
    reference: Denoiser,
    winner: Tensor,
    loser: Tensor,
    eps: Tensor,
    t: Tensor,
    cond: Conditions,
    beta: float = 2000.0,
) -> tuple[Tensor, Preference]:
    """STAR-DPO on pairs of latents [B, N, C] that share noise, time and conditions -> loss, flow errors.

    reference: the model that made the candidates, frozen. Pairs come from `common.preference.star_pairs`.
    """
    path = PATHS["linear"]

    def error(model: Denoiser, x0: Tensor) -> Tensor:
        audio = model(None, path.noised(x0, eps, t), None, t, cond).audio
        assert audio is not None
        return flow_loss(audio, path.target(x0, eps, t))

    with torch.no_grad():
        before = error(reference, winner), error(reference, loser)
    pair = Preference(error(policy, winner), error(policy, loser), *before)
    return star_dpo_loss(pair, beta), pair
