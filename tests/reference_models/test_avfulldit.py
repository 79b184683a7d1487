"""AVFullDiT and its T2V-only twin: specs' invariants A1 ... A12."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from avbench.errors import UserError
from avbench.reference_models.catalogue import build, names
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.flow import flow_loss
from avbench.reference_models.common.rope import rope_table, time_ids, wan_axes
from avbench.reference_models.systems.avfulldit import AVFullDiT, load_tangoflux
from tests.reference_models.parts import draw

X_V, X_A = draw("x_v", 2, 1, 4, 8, 8), draw("x_a", 2, 17, 16)
T = torch.tensor([0.3, 0.8])
COND = Conditions(text_v=draw("text_v", 2, 5, 32), text_a=draw("text_a", 2, 4, 32), seconds=torch.tensor([2.0, 1.5]))


def nano(**over: Any) -> AVFullDiT:
    model = build("avfulldit-nano", seed=3, **over)
    assert isinstance(model, AVFullDiT)
    return model


def wan(model: AVFullDiT) -> Tensor:
    return model.video(X_V, 1000 * T, COND.text_v).sample


def flux(model: AVFullDiT, tau: float) -> Tensor:
    """The audio tower by its own forward, ids p / tau on every axis."""
    assert isinstance(model.audio, FluxTransformer2DModel)
    assert COND.text_a is not None and COND.seconds is not None
    text, pooled = model.audio_text(COND.text_a, torch.ones(2, 4, dtype=torch.bool), COND.seconds)
    ids = (torch.arange(17.0) / tau)[:, None].expand(-1, 3)
    return model.audio(
        X_A, text, pooled, timestep=T, img_ids=ids, txt_ids=torch.zeros(text.shape[1], 3), return_dict=False
    )[0]


def widen(model: AVFullDiT) -> None:
    """Give the new output projections weights."""
    with torch.no_grad():
        for i, link in enumerate(model.interaction):
            link.out.weight.copy_(0.1 * draw(f"out{i}", *link.out.weight.shape))


@pytest.mark.parametrize("attention", ["full", "cross"])
def test_isolated_towers_are_the_towers(attention: str) -> None:  # A1, A4
    model = nano(attention=attention).eval()
    with torch.no_grad():
        assert torch.equal(model(X_V, X_A, T, T, COND, isolate=True).video, wan(model))
        assert torch.equal(model(X_V, None, T, None, COND).video, wan(model))


@pytest.mark.parametrize("tau", [1.0, 3.589, 8.0])
def test_new_heads_leave_the_audio_tower_as_it_was(tau: float) -> None:  # A2
    model = nano(tau=tau, rope_layout="native").eval()
    with torch.no_grad():
        assert torch.equal(model(X_V, X_A, T, T, COND, isolate=True).audio, flux(model, tau))


def test_tau_one_is_vanilla() -> None:  # A3
    shrink, vanilla = (
        nano(tau=tau, rope=rope).audio_rope(3, 9) for tau, rope in ((1.0, "shrink_audio"), (8.0, "vanilla"))
    )
    assert all(torch.equal(a, b) for a, b in zip(shrink, vanilla))


def test_equal_times_have_equal_phases_in_the_shared_layout() -> None:  # A5
    audio = nano(tau=4.0).audio_rope(0, 17)
    video = rope_table(time_ids(torch.arange(5.0)), wan_axes(32))
    assert all(torch.equal(a[:, ::4], v) for a, v in zip(audio, video))


def test_new_heads_change_audio_and_not_isolated_video() -> None:  # A6
    model = nano().eval()
    with torch.no_grad():
        before = model(X_V, X_A, T, T, COND, isolate=True)
        widen(model)
        after = model(X_V, X_A, T, T, COND, isolate=True)
    assert torch.equal(before.video, after.video) and not torch.equal(before.audio, after.audio)


def test_zero_outputs_do_not_block_learning() -> None:  # A7
    model = nano()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model(X_V, X_A, T, T, COND).audio.square().mean().backward()
        optimiser.step()
    link = model.interaction[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (link.q.weight, link.k.weight, link.v.weight))


def test_without_audio_loss_isolated_audio_learns_nothing() -> None:  # A8
    model = nano()
    out = model(X_V, X_A, T, T, COND, isolate=True)
    (out.video.square().mean() + 0.0 * out.audio.square().mean()).backward()
    audio = [p for name, p in model.named_parameters() if not name.startswith("video.")]
    assert all(p.grad is None or not p.grad.any() for p in audio)


def steps(model: AVFullDiT, x_a: Tensor | None, count: int = 3) -> dict[str, Tensor]:
    """Optimiser steps with gradients clipped per tower; the video tower's weights after them."""
    towers: list[list[nn.Parameter]] = [[], []]
    for name, p in model.named_parameters():
        if p.requires_grad:
            towers[not name.startswith("video.")].append(p)
    optimiser = torch.optim.AdamW([{"params": t} for t in towers], lr=1e-2)
    for _ in range(count):
        optimiser.zero_grad()
        out = model(X_V, x_a, T, None if x_a is None else T, COND, isolate=True)
        loss = flow_loss(out.video, X_V).mean()
        if out.audio is not None and x_a is not None:
            loss = loss + flow_loss(out.audio, x_a).mean()
        loss.backward()
        for tower in towers:
            nn.utils.clip_grad_norm_(tower, 0.1)
        optimiser.step()
    return {name: p for name, p in model.named_parameters() if name.startswith("video.")}


def test_twin_identity() -> None:  # A9
    alone, joint = steps(nano(), None), steps(nano(), X_A)
    assert all(torch.equal(alone[name], joint[name]) for name in alone)
    assert not torch.equal(alone["video.proj_out.weight"], nano().video.proj_out.weight)


def test_paper_size() -> None:  # A10
    with torch.device("meta"):
        model = build("avfulldit-paper")
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.video, model.audio, model.interaction)]
    assert counts == [4_999_787_712, 516_695_616, 151_105_536]


@pytest.mark.parametrize("attention", ["full", "cross"])
def test_video_hears_only_when_it_interacts(attention: str) -> None:  # A11
    model = nano(attention=attention).eval()
    if attention == "cross":
        with torch.no_grad():
            for link in model.interaction:
                link.video.to_out[0].weight.fill_(0.1)
    other = Conditions(
        text_v=COND.text_v, text_a=COND.text_v[:, :4] if COND.text_v is not None else None, seconds=COND.seconds
    )
    with torch.no_grad():
        outs = {
            isolate: [model(X_V, a, T, T, c, isolate=isolate).video for a, c in ((X_A, COND), (-X_A, other))]
            for isolate in (True, False)
        }
    assert torch.equal(*outs[True]) and not torch.allclose(*outs[False])


@pytest.mark.parametrize("reads", [False, True])
def test_video_reads_the_audio_caption_only_if_told(reads: bool) -> None:  # A12
    from avbench.reference_models.common import towers
    from avbench.reference_models.systems.avfulldit import joint_block

    model = nano(video_reads_audio_text=reads).eval()
    ev = towers.wan_embed(model.video, X_V, T, COND.need("text_v"))
    a, temb = draw("a", 2, 20, 64), draw("temb", 2, 64)
    rope, outs = model.audio_rope(3, 17), []
    for text in (a[:, :3], -a[:, :3]):
        tokens = torch.cat([text, a[:, 3:]], 1)
        layer = model.video.blocks[0], model.audio.single_transformer_blocks[0], model.interaction[0]
        outs.append(joint_block(*layer, ev.tokens, tokens, ev, temb, rope, 3, False, reads)[0])
    assert torch.equal(*outs) is not reads


def test_variants_differ_and_wrong_ones_are_refused() -> None:
    with torch.no_grad():
        outs = [
            nano(rope=rope, rope_layout="native").eval()(X_V, X_A, T, T, COND).video
            for rope in ("vanilla", "shrink_audio", "expand_video")
        ]
    assert not torch.allclose(outs[0], outs[1]) and not torch.allclose(outs[0], outs[2])
    for wrong in ({"rope": "none"}, {"rope_layout": "both"}, {"attention": "none"}, {"joint_layers": 9}):
        with pytest.raises(ValueError, match="AVFullDiT"):
            nano(**wrong)


def test_tangoflux_fills_the_audio_side() -> None:
    source, model = nano(), build("avfulldit-nano", seed=4)
    assert isinstance(model, AVFullDiT)
    state = {f"transformer.{name}": value for name, value in source.audio.state_dict().items()}
    state |= dict(source.audio_text.state_dict()) | {"text_encoder.shared.weight": torch.ones(1)}
    assert {"fc.0.weight", "fc.0.bias"} <= set(state)
    load_tangoflux(model, state)
    with torch.no_grad():
        outs = [m.eval()(X_V, X_A, T, T, COND, isolate=True) for m in (source, model)]
    assert torch.equal(outs[0].audio, outs[1].audio) and not torch.equal(outs[0].video, outs[1].video)
    with pytest.raises(UserError, match="lacks 1"):
        load_tangoflux(model, {key: value for key, value in state.items() if key != "fc.0.bias"})
    with pytest.raises(UserError, match="no place"):
        load_tangoflux(model, {**state, "more": torch.ones(1)})


def test_names() -> None:
    assert {"avfulldit-tiny", "avfulldit-t2v-tiny", "avfulldit-cross-nano", "avfulldit-paper"} <= set(names())
