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

    def slice(self, part: slice) -> Batch:
        """Some rows."""
        cut = [None if x is None else x[part] for x in (self.video, self.audio, self.t, self.eps_v, self.eps_a)]
        video, audio, t, eps_v, eps_a = cut
        assert t is not None
        return Batch(video, audio, self.cond.map(lambda x: x[part]), t, eps_v, eps_a)

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


def noise(like: Tensor | None, seed: int, stream: str, step: int) -> Tensor | None:
    """Standard normal numbers in a tensor's shape, from a stream of their own."""
    return None if like is None else torch.randn(like.shape, generator=generator(seed, stream, step))


def draw(
    video: Tensor | None, audio: Tensor | None, cond: Conditions, null: Conditions, loss: Loss, seed: int, step: int
) -> Batch:
    """A training batch: times, noises and dropped captions of this step, on the CPU and for the whole batch.

    How many processes share the batch changes nothing, and video's draws do not know whether there is audio.
    """
    count = len(video if video is not None else audio)  # type: ignore[arg-type]
    t = sample_t(count, loss.t, loss.shift, generator(seed, "t", step))
    dropped = {s: torch.rand(count, generator=generator(seed, f"drop_{s}", step)) < loss.drop for s in ("v", "a")}
    cond = blanked(cond, null, dropped["v"], dropped["a"])
    return Batch(video, audio, cond, t, noise(video, seed, "eps_v", step), noise(audio, seed, "eps_a", step))


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
