"""What is minimised, for any system: random draws that twins share, and losses from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from avbench.reference_models.common.conditioning import Conditions, JointPrediction, blanked, concat
from avbench.reference_models.common.flow import PATHS, flow_loss, sample_t
from avbench.reference_models.common.streams import generator
from avbench.reference_models.training.config import Loss

Losses = dict[str, Tensor]


class Model(Protocol):
    """A joint generator, as the systems are."""

    def __call__(
        self,
        x_v: Tensor | None,
        x_a: Tensor | None,
        t_v: Tensor | None,
        t_a: Tensor | None,
        cond: Conditions,
        *,
        isolate: bool = False,
    ) -> JointPrediction: ...


@dataclass(frozen=True)
class Batch:
    """Clean latents (None where a modality is absent), conditions, times and noises, [B, ...]."""

    video: Tensor | None
    audio: Tensor | None
    cond: Conditions
    t: Tensor
    eps_v: Tensor | None
    eps_a: Tensor | None

    def to(self, device: torch.device) -> Batch:
        moved = [None if x is None else x.to(device) for x in (self.video, self.audio, self.t, self.eps_v, self.eps_a)]
        video, audio, t, eps_v, eps_a = moved
        assert t is not None
        return Batch(video, audio, self.cond.to(device), t, eps_v, eps_a)


def order(seed: int, count: int, step: int, batch: int) -> list[int]:
    """Indices of the clips of a step: every epoch is a permutation of its own, and none depends on an earlier step."""
    found: list[int] = []
    while len(found) < batch:
        epoch, at = divmod(step * batch + len(found), count)
        permutation = torch.randperm(count, generator=generator(seed, "order", epoch))
        found += permutation[at : at + batch - len(found)].tolist()
    return found


def draw(
    video: Tensor | None, audio: Tensor | None, cond: Conditions, null: Conditions, loss: Loss, seed: int, step: int,
    at: int = 0, whole: int = 0,
) -> Batch:  # fmt: skip
    """A training batch: times, noises and dropped captions of this step, on the CPU.

    The clips are those from `at` on of a batch of `whole` (0: all of it). Draws are of the whole, so that how many
    processes share it changes nothing, and video's do not know whether there is audio.
    """
    count = len(video if video is not None else audio)  # type: ignore[arg-type]
    whole, part = whole or count, slice(at, at + count)

    def noise(like: Tensor | None, stream: str) -> Tensor | None:
        """Standard normal numbers in a tensor's shape, from a stream of their own."""
        if like is None:
            return None
        return torch.randn((whole, *like.shape[1:]), generator=generator(seed, stream, step))[part]

    t = sample_t(whole, loss.t, loss.shift, generator(seed, "t", step))[part]
    dropped = [torch.rand(whole, generator=generator(seed, f"drop_{s}", step))[part] < loss.drop for s in ("v", "a")]
    return Batch(video, audio, blanked(cond, null, *dropped), t, noise(video, "eps_v"), noise(audio, "eps_a"))


def errors(model: Model, batch: Batch, audio_path: str, isolate: bool = False) -> Losses:
    """Mean squared velocity error of each sample and modality, {"video": [B], "audio": [B]}."""
    x, target = noised(batch, audio_path)
    t_v, t_a = (None if one is None else batch.t for one in x)
    return score(model(*x, t_v, t_a, batch.cond, isolate=isolate), target)


def noised(
    batch: Batch, audio_path: str
) -> tuple[tuple[Tensor | None, Tensor | None], tuple[Tensor | None, Tensor | None]]:
    """Inputs and targets of video and of audio."""
    video, audio = PATHS["linear"], PATHS[audio_path]
    triples = ((video, batch.video, batch.eps_v), (audio, batch.audio, batch.eps_a))
    found = [
        (None, None) if x0 is None or eps is None else (path.noised(x0, eps, batch.t), path.target(x0, eps, batch.t))
        for path, x0, eps in triples
    ]
    return (found[0][0], found[1][0]), (found[0][1], found[1][1])


def score(out: JointPrediction, target: tuple[Tensor | None, Tensor | None]) -> Losses:
    """Errors [B] of the modalities that are predicted and have a target."""
    triples = zip(("video", "audio"), out, target)
    return {name: flow_loss(v, wanted) for name, v, wanted in triples if v is not None and wanted is not None}


def flow(model: Model, batch: Batch, audio_path: str, isolate: bool, loss: Loss) -> Losses:
    """Joint denoising at one time."""
    found = {name: value.mean() for name, value in errors(model, batch, audio_path, isolate).items()}
    return weighted(found, {"video": loss.video, "audio": loss.audio})


def cts(model: Model, batch: Batch, audio_path: str, isolate: bool, loss: Loss) -> Losses:
    """Harmony's cross-task synergy: joint denoising, video driven by clean audio, audio driven by clean video.

    One forward pass over three times the batch. For video alone it is `flow`.
    """
    if batch.video is None or batch.audio is None:
        return flow(model, batch, audio_path, isolate, loss)
    (x_v, x_a), (to_v, to_a) = noised(batch, audio_path)
    assert x_v is not None and x_a is not None and to_v is not None and to_a is not None
    t, zero = batch.t, torch.zeros_like(batch.t)
    out = model(
        torch.cat([x_v, x_v, batch.video]),
        torch.cat([x_a, batch.audio, x_a]),
        torch.cat([t, t, zero]),
        torch.cat([t, zero, t]),
        concat([batch.cond] * 3),
        isolate=isolate,
    )
    assert out.video is not None and out.audio is not None
    v, a = out.video.chunk(3), out.audio.chunk(3)
    found = {"video": (v[0], to_v), "audio": (a[0], to_a), "audio_driven": (v[1], to_v), "video_driven": (a[2], to_a)}
    weights = {n: getattr(loss, n) for n in found}
    return weighted({name: flow_loss(*pair).mean() for name, pair in found.items()}, weights)


def weighted(found: Losses, weights: Mapping[str, float]) -> Losses:
    """The parts and, as "loss", their weighted sum."""
    terms = [weights[name] * value for name, value in found.items()]
    return {"loss": torch.stack(terms).sum(), **found}


OBJECTIVES = {"flow": flow, "cts": cts}
