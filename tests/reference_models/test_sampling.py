"""Guidance and the sampling loop: specs' invariants C2, C3, B5, and what twins share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avbench.reference_models.catalogue import build
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.flow import PATHS
from avbench.reference_models.common.guidance import joint_cfg
from avbench.reference_models.common.sampling import SamplerSpec, sample
from tests.reference_models.parts import COND, X_TOKENS, X_V, T, draw

NULL = COND.map(torch.zeros_like)


class Oracle:
    """Knows the clean latents; its answers are exact, but for the caption's mean."""

    def __init__(self, video: Tensor, audio: Tensor, path: str = "linear") -> None:
        self.video, self.audio, self.path, self.seen = video, audio, path, []

    def velocity(self, path: str, x: Tensor, clean: Tensor, t: Tensor) -> Tensor:
        angle = t.double().reshape(-1, *[1] * (x.ndim - 1))
        if path == "linear":
            return ((x - clean) / angle).float()
        angle = angle * torch.pi / 2
        eps = (x - angle.cos() * clean) / angle.sin()
        return (angle.cos() * eps - angle.sin() * clean).float()

    def __call__(
        self, x_v: Tensor | None, x_a: Tensor | None, t_v: Tensor | None, t_a: Tensor | None, cond: Conditions
    ) -> JointPrediction:
        self.seen.append([None if t is None else float(t[0]) for t in (t_v, t_a)])
        out_v = None if x_v is None or t_v is None else self.velocity("linear", x_v, self.video, t_v)
        out_a = None if x_a is None or t_a is None else self.velocity(self.path, x_a, self.audio, t_a)
        return JointPrediction(out_v, out_a)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("grid", ["shared", "released"])
def test_exact_velocities_lead_to_the_data(path: str, grid: str) -> None:
    clean = draw("clean_v", *X_V.shape), draw("clean_a", *X_TOKENS.shape)
    spec = SamplerSpec(steps=5, shift=3.0, guidance="none", grid=grid)
    out = sample(Oracle(*clean, path), COND, NULL, spec, X_V, X_TOKENS, path)
    torch.testing.assert_close(out.video, clean[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.audio, clean[1], atol=1e-4, rtol=1e-4)


def test_one_clock_or_the_released_two() -> None:  # B5
    apart = {}
    for grid in ("shared", "released"):
        oracle = Oracle(X_V, X_TOKENS, "cosine")
        spec = SamplerSpec(steps=50, shift=3.0, guidance="none", grid=grid)
        sample(oracle, COND, NULL, spec, X_V, X_TOKENS, "cosine")
        apart[grid] = [abs(v - a) for v, a in oracle.seen]
    assert len(apart["shared"]) == 50 and max(apart["shared"]) == 0
    assert sum(apart["released"]) / 50 == pytest.approx(0.122, abs=0.001)
    assert max(apart["released"]) == pytest.approx(0.215, abs=0.001)


def test_guidance_at_one_and_zero() -> None:  # C2
    model = build("avfulldit-nano", seed=1).eval()
    with torch.no_grad():
        pos, neg = (model(X_V, X_TOKENS, T, T, cond) for cond in (COND, NULL))
        both = model(torch.cat([X_V] * 2), torch.cat([X_TOKENS] * 2), T.repeat(2), T.repeat(2), twice())
        mixed = joint_cfg(model, X_V, X_TOKENS, T, T, COND, NULL, 1.0, 0.0)
        one = joint_cfg(model, X_V, X_TOKENS, T, T, COND, NULL, 1.0, 1.0)
    assert torch.equal(one.video, pos.video) and torch.equal(one.audio, pos.audio)
    assert torch.equal(mixed.video, both.video[:2]) and torch.equal(mixed.audio, both.audio[2:])
    torch.testing.assert_close(mixed.audio, neg.audio)
    assert not torch.allclose(mixed.video, neg.video)


def twice() -> Conditions:
    from avbench.reference_models.common.conditioning import concat

    return concat([COND, NULL])


@pytest.mark.parametrize("name", ["avfulldit-nano", "bridgedit-nano", "harmony-nano"])
def test_twins_sample_the_same_video_where_nothing_interacts(name: str) -> None:
    model: Any = build(name, seed=1).eval()
    spec = SamplerSpec(steps=3, shift=2.0, s_v=2.0, s_a=3.0)

    def isolated(*inputs: Any) -> JointPrediction:
        out: JointPrediction = model(*inputs, isolate=True)
        return out

    joint = sample(isolated, COND, NULL, spec, X_V, X_TOKENS, model.audio_path)
    alone = sample(model, COND, NULL, spec, X_V, None, model.audio_path)
    assert torch.equal(joint.video, alone.video) and joint.audio is not None and alone.audio is None


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"steps": 0}, {"shift": 0.0}, {"guidance": "both"}, {"grid": "two"}):
        with pytest.raises(ValueError, match="sampler"):
            SamplerSpec(**wrong)
