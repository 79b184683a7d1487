"""VisioSonic and MMAudio: specs' invariants V1 ... V5, STAR-DPO, and MMAudio's released networks as goldens."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.errors import UserError
from avbench.reference_models.catalogue import build, names
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.flow import PATHS, flow_loss
from avbench.reference_models.common.preference import star_pairs
from avbench.reference_models.common.sampling import SamplerSpec, sample
from avbench.reference_models.systems.mmaudio import MMAudio, load_released
from avbench.reference_models.systems.visiosonic import VisioSonic, seen, star_loss
from tests.reference_models.parts import T, close, draw, given, golden

X_A = draw("x_a", 2, 20, 16)
COND = Conditions(look=draw("look", 2, 8, 64), sync=draw("sync", 2, 24, 64), text_a=draw("text_a", 2, 8, 32))


def nano(**over: Any) -> VisioSonic:
    model = build("visiosonic-nano", seed=3, **over)
    assert isinstance(model, VisioSonic)
    return model.eval()


def stirred(model: VisioSonic, text: bool = True) -> VisioSonic:
    """Give the zero modulations and outputs weights; `text`: gamma too."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.any() and (text or not name.endswith("gamma")):
                p.copy_(0.2 * draw(name, *p.shape))
    return model


def heard(model: Any, cond: Conditions, x_a: Tensor = X_A, **options: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(None, x_a, None, T, cond, **options).audio
    return out


def test_text_is_not_attended_to_at_first() -> None:  # V1
    model = stirred(nano(conditioner=False), text=False)
    other = replace(COND, text_a=-draw("other", 2, 8, 32))
    assert torch.equal(heard(model, COND), heard(model, other))
    assert not torch.allclose(heard(stirred(model), COND), heard(model, other))


def test_aligned_frames() -> None:  # V2
    model = nano()
    held = draw("one", 2, 1, 64).expand(-1, 8, -1)
    audio = draw("audio", 2, 20, 64)
    tokens = model.aligned(audio, held)
    assert torch.allclose(tokens[:, :, :32], tokens[:, :1, :32].expand(-1, 20, -1), atol=1e-6)
    assert torch.equal(tokens[:, :, 32:], model.align_audio(audio)) and tokens.shape == (2, 20, 64)
    assert nano(aligner=False).aligned(audio, held).shape == (2, 20, 64)


def test_rewards_and_their_ratio() -> None:  # V3
    semantic, temporal = np.array([[0.0, 1.0, 3.0], [1.0, 1.0, 1.0]]), np.array([[3.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert star_pairs(semantic, temporal, (1, 2)) == [(0, 0, 2)]  # timing decides; a prompt of ties has no pair
    assert star_pairs(semantic, temporal, (2, 1)) == [(0, 2, 0)]  # meaning decides
    assert star_pairs(np.array([[1.0, 1.0, 0.0, 0.0]]), np.zeros((1, 4))) == [(0, 0, 2)]  # ties: the first


def test_paper_sizes() -> None:  # V4
    with torch.device("meta"):
        models = build("visiosonic-paper"), build("mmaudio-small-44k")
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models]
    assert counts == [151_921_256, 157_330_216]


@pytest.mark.parametrize("name, second", [("mmaudio_tiny", False), ("mmaudio_v2_tiny", True)])
def test_mmaudio_is_the_released_network(name: str, second: bool) -> None:  # V5
    state, wanted = golden(name)
    model = build("mmaudio-nano", second=second).eval()
    assert isinstance(model, MMAudio)
    load_released(model, {**state, "latent_rot": torch.zeros(1)})
    latent, t = given("latent", 2, 20, 16), torch.tensor([0.3, 0.8])
    cond = Conditions(look=given("clip", 2, 8, 64), sync=given("sync", 2, 24, 64), text_a=given("text", 2, 8, 32))
    null = Conditions(
        look=model.empty_clip_feat.expand(2, 8, -1),
        sync=model.empty_sync_feat.expand(2, 24, -1),
        text_a=model.empty_string_feat.expand(2, -1, -1),
    )
    with torch.no_grad():
        close(-model(None, latent, None, 1 - t, cond).audio, wanted["flow"])
        close(-model(None, latent, None, 1 - t, null).audio, wanted["empty"])
        # the native direction runs from 0 to 1, ours from 1 to 0: the same sample
        spec = SamplerSpec(steps=4, shift=1.0, s_a=4.5)
        close(sample(model, cond, null, spec, None, latent).audio, wanted["sampled"])
    del state["latent_mean"]
    with pytest.raises(UserError, match="latent_mean"):
        load_released(model, state)


def test_mmaudio_without_a_video() -> None:
    model = build("mmaudio-nano").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02)
    assert not torch.allclose(heard(model, COND), heard(model, Conditions(text_a=COND.text_a)))


def test_what_a_clip_lacks_is_learned() -> None:
    model = stirred(nano())
    zeros = COND.map(torch.zeros_like)
    one = COND.map(lambda x: torch.cat([x[:1], torch.zeros_like(x[:1])]))
    torch.testing.assert_close(heard(model, one)[1], heard(model, zeros)[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(heard(model, one)[0], heard(model, COND)[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(heard(model, zeros), heard(model, COND))
    blind = replace(zeros, text_a=COND.text_a)
    assert torch.equal(heard(model, COND, isolate=True), heard(model, blind))
    assert heard(model, Conditions()).isfinite().all()
    with pytest.raises(ValueError, match="makes audio"):
        model(None, None, None, None, COND)


@pytest.mark.parametrize("part", ["conditioner", "aligner", "synchformer"])
def test_ablations_take_a_part_away(part: str) -> None:
    whole, less = nano(), nano(**{part: False})
    counts = [sum(p.numel() for p in model.parameters()) for model in (less, whole)]
    assert counts[0] == counts[1] if part == "aligner" else counts[0] < counts[1]
    assert not torch.allclose(heard(stirred(whole), COND), heard(stirred(less), COND))
    if part == "synchformer":
        assert torch.equal(heard(less, COND), heard(less, replace(COND, sync=-draw("sync", 2, 24, 64))))


def test_features_of_pixels() -> None:
    video = draw("video", 2, 1, 5, 16, 16)
    found = seen(Conditions(), video)
    assert found.look is not None and found.look.shape == (2, 5, 64) and found.sync is not None
    assert found.sync.shape == (2, 8, 64) and not found.sync[:, 0].any() and not found.sync[:, 5:].any()
    torch.testing.assert_close(found.sync[:, 1], found.look[:, 1] - found.look[:, 0])
    assert not seen(Conditions(), torch.zeros(1, 1, 5, 16, 16)).need("look").any()


def test_star_dpo() -> None:
    policy, reference = stirred(nano()), stirred(nano())
    winner, loser, eps = X_A, draw("loser", 2, 20, 16), draw("eps", 2, 20, 16)
    loss, pair = star_loss(policy, reference, winner, loser, eps, T, COND)
    assert float((loss - pair.policy_w.mean()).detach()) == pytest.approx(math.log(2), abs=1e-6)
    before = pair
    optimiser = torch.optim.SGD(policy.parameters(), lr=1e-5)
    (loss - pair.policy_w.mean()).backward()
    assert all(p.grad is None for p in reference.parameters())
    optimiser.step()
    _, after = star_loss(policy, reference, winner, loser, eps, T, COND)
    assert bool((after.gap.mean() < before.gap.mean()).item()) and float(after.accuracy) >= 0.5


@pytest.mark.parametrize("over", [{}, {"aligner": False}, {"conditioner": False}, {"synchformer": False}])
def test_learns_the_sound_of_a_video(over: dict[str, Any]) -> None:
    """Bright frames sound: the loss falls, and the video is worth something to it."""
    video = torch.rand(8, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).round()[:, :, :, :1, :1] * 2 - 1
    x0 = video[:, 0, :, 0, 0].repeat_interleave(5, dim=1)[:, :, None].expand(-1, -1, 16)
    cond = seen(Conditions(text_a=torch.ones(8, 2, 32)), video.expand(-1, -1, -1, 16, 16))
    model, path = nano(**over).train(), PATHS["linear"]
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for step in range(40):
        eps = draw(f"eps{step % 4}", *x0.shape)
        t = torch.linspace(0.6, 1, 8)
        loss = flow_loss(model(None, path.noised(x0, eps, t), None, t, cond).audio, path.target(x0, eps, t)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    if over:
        return
    spec = SamplerSpec(steps=6, shift=1.0, s_a=1.0, guidance="none")
    made = [sample(model.eval(), c, c, spec, None, draw("z", *x0.shape)).audio for c in (cond, Conditions())]
    assert made[0] is not None and made[1] is not None
    assert float(flow_loss(made[0], x0).mean()) < 0.7 * float(flow_loss(made[1], x0).mean())


def test_names_of_the_catalogue() -> None:
    ablations = {f"visiosonic-no-{part}-tiny" for part in ("conditioner", "token-aligner", "synchformer")}
    known = set(names())
    assert ablations | {"visiosonic-tiny", "visiosonic-paper", "mmaudio-large-44k-v2"} <= known
    assert "visiosonic-t2v-tiny" not in known
    assert not copy.deepcopy(build("visiosonic-no-synchformer-nano")).synchformer
