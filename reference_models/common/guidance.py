"""Guidance of joint predictions: classifier-free for both modalities at once, and Harmony's SyncCFG.

`torch.lerp(a, b, s)` is exact at s = 1, which a + s (b - a) is not.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from avbench.reference_models.common.conditioning import Conditions, JointPrediction, concat


class Denoiser(Protocol):
    """A joint model."""

    def __call__(
        self, x_v: Tensor | None, x_a: Tensor | None, t_v: Tensor | None, t_a: Tensor | None, cond: Conditions
    ) -> JointPrediction: ...


def lerp(low: Tensor | None, high: Tensor | None, scale: float) -> Tensor | None:
    """low + scale (high - low)."""
    return None if low is None or high is None else torch.lerp(low, high, scale)


def twice(x: Tensor | None) -> Tensor | None:
    return None if x is None else torch.cat([x, x])


def joint_cfg(
    model: Denoiser,
    x_v: Tensor | None,
    x_a: Tensor | None,
    t_v: Tensor | None,
    t_a: Tensor | None,
    cond: Conditions,
    null: Conditions,
    s_v: float,
    s_a: float,
) -> JointPrediction:
    """Classifier-free guidance whose negative knows neither caption, in one forward of twice the batch.

    Where no scale in use differs from 1 the negative is not computed.
    """
    scales = [s for s, x in ((s_v, x_v), (s_a, x_a)) if x is not None]
    if all(s == 1.0 for s in scales):
        return model(x_v, x_a, t_v, t_a, cond)
    out = model(twice(x_v), twice(x_a), twice(t_v), twice(t_a), concat([cond, null]))
    (pos_v, neg_v), (pos_a, neg_a) = (x.chunk(2) if x is not None else (None, None) for x in out)
    return JointPrediction(lerp(neg_v, pos_v, s_v), lerp(neg_a, pos_a, s_a))


def sync_cfg(
    model: Denoiser,
    x_v: Tensor,
    x_a: Tensor,
    t_v: Tensor,
    t_a: Tensor,
    cond: Conditions,
    mute: Tensor,
    static: Tensor,
    s_v: float,
    s_a: float,
) -> JointPrediction:
    """Harmony's SyncCFG: away from video made for clean silence, and from audio made for a clean still video.

    mute, static: latents in the shapes of x_a and x_v, given at time 0. Captions stay in all three branches. At s = 1
    it is the joint prediction. A model that was not trained on driven tasks knows no clean partner.
    """
    if s_v == s_a == 1.0:
        return model(x_v, x_a, t_v, t_a, cond)
    zero = torch.zeros_like(t_v)
    out = model(
        torch.cat([x_v, x_v, static]),
        torch.cat([x_a, mute, x_a]),
        torch.cat([t_v, t_v, zero]),
        torch.cat([t_a, zero, t_a]),
        concat([cond] * 3),
    )
    assert out.video is not None and out.audio is not None
    v, a = out.video.chunk(3), out.audio.chunk(3)
    return JointPrediction(lerp(v[1], v[0], s_v), lerp(a[2], a[0], s_a))
