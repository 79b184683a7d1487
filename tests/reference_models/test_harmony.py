"""Harmony: specs' invariants H1 ... H7, its guidance and driven modes, and Ovi's fusion by the released numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from avbench.errors import UserError
from avbench.reference_models.catalogue import build, settings
from avbench.reference_models.common import towers
from avbench.reference_models.common.attention import sdpa
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.guidance import sync_cfg
from avbench.reference_models.common.rope import rotate
from avbench.reference_models.common.sampling import SamplerSpec, held_first, sample
from avbench.reference_models.systems.harmony import Harmony, Local, Windows, load_ovi
from avbench.reference_models.training.config import Loss
from avbench.reference_models.training.objectives import Batch, cts, flow
from tests.reference_models.parts import COND, X_TOKENS, X_V, T, close, draw, given, golden

TOWER = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 24, "text_dim": 24, "freq_dim": 32,
    "ffn_dim": 96, "num_layers": 2,
}  # fmt: skip


def nano(loud: bool = False, **over: Any) -> Harmony:
    """The nano model; `loud`: output projections of the interaction are not zero."""
    model = build("harmony-nano", seed=2, **over)
    assert isinstance(model, Harmony)
    if loud:
        with torch.no_grad():
            for name, p in model.interaction.named_parameters():
                if "to_out" in name:
                    p.copy_(0.1 * draw(name, *p.shape))
    return model.eval()


def run(model: Harmony, x_a: Tensor | None = X_TOKENS, cond: Conditions = COND, **over: Any) -> JointPrediction:
    with torch.no_grad():
        return model(X_V, x_a, T, None if x_a is None else T, cond, **over)


@pytest.mark.parity
def test_ovi_as_released() -> None:  # H7
    state, outputs = golden("ovi_fusion_tiny")
    video, audio = ({**TOWER, "in_channels": n, "out_channels": n} for n in (12, 5))
    model = Harmony(video, audio, audio_scale=0.19676, interaction="ovi").eval()
    load_ovi(model, state)
    texts = (given(f"ovi.text_{name}", 6, 24)[None] for name in ("video", "audio"))
    cond, t = Conditions(*texts), torch.tensor([0.3])
    with torch.no_grad():
        out = model(given("ovi.video", 12, 3, 8, 8)[None], given("ovi.audio", 17, 5)[None], t, t, cond)
    close(out.video[0], outputs["video"])
    close(out.audio[0], outputs["audio"])


def test_towers_begin_as_ovis() -> None:
    state, _ = golden("ovi_fusion_tiny")
    video, audio = ({**TOWER, "in_channels": n, "out_channels": n} for n in (12, 5))
    ovi, own = (Harmony(video, audio, audio_scale=0.19676, interaction=kind).eval() for kind in ("ovi", "gldi"))
    for model in (ovi, own):
        load_ovi(model, state)
    cond, t = Conditions(draw("v", 1, 6, 24), draw("a", 1, 6, 24)), torch.tensor([0.3])
    x_v = draw("x_v", 1, 12, 3, 8, 8)
    with torch.no_grad():
        alone = [model(x_v, draw("x", 1, 17, 5), t, t, cond, isolate=True).video for model in (ovi, own)]
    assert torch.equal(*alone)
    with pytest.raises(UserError, match="lacks 1"):
        load_ovi(own, {k: v for k, v in state.items() if k != "audio_model.head.head.bias"})


@pytest.mark.parametrize("reach", [0.5, 1.0, 1e9])
def test_windows_are_masked_attention(reach: float) -> None:  # H1
    grid, length, dims = (4, 2, 2), 13, (96, 64)
    model = nano()
    link = Windows(grid, length, reach, True, model.video, model.audio)
    local = Local(*dims, 3)
    torch.nn.init.normal_(local.attn.to_out[0].weight, generator=torch.Generator().manual_seed(0))
    h, other = draw("h", 2, 16, dims[0]), draw("other", 2, length, dims[1])
    with torch.no_grad():
        ours = local(h, other, (4, length), link.on_video, *link.a2v)
        q, k, v = towers.wan_qkv(local.attn, local.norm(h), None, local.norm_ctx(other))
        frame, sound = torch.arange(16) // 4, torch.arange(length) * 4 / length
        mask = (frame[:, None] - sound[None]).abs() <= reach + 1e-6
        q, k = rotate(q, link.on_video[0]), rotate(k, link.on_video[1])
        dense = towers.project(local.attn, sdpa(q, k, v, None if mask.all() else mask))
    torch.testing.assert_close(ours, dense, atol=2e-6, rtol=1e-5)


def test_clocks_agree_only_where_aligned() -> None:
    model, grid = nano(), (4, 1, 1)
    aligned, free = (Windows(grid, 16, 1.0, align, model.video, model.audio) for align in (True, False))
    for (frames, sounds), step in ((aligned.on_video, 4), (tuple(reversed(aligned.on_audio)), 4)):
        assert torch.equal(frames[0], sounds[0][:, ::step])
    assert not torch.equal(free.on_video[0][0], free.on_video[1][0][:, ::4])
    assert all(torch.equal(a, b) for a, b in zip(aligned.a2v, free.a2v))
    assert not torch.allclose(run(nano(loud=True)).video, run(nano(loud=True, align=False)).video)


def test_new_interaction_leaves_the_towers_as_they_were() -> None:  # H2
    model = nano()
    joint, apart, alone = run(model), run(model, isolate=True), run(model, None)
    with torch.no_grad():
        wan = model.video(X_V, 1000 * T, COND.text_v).sample
    assert torch.equal(apart.video, wan) and torch.equal(alone.video, wan) and alone.audio is None
    assert torch.equal(joint.video, wan) and torch.equal(joint.audio, apart.audio)
    loud = nano(loud=True)
    assert torch.equal(run(loud, isolate=True).video, wan) and not torch.allclose(run(loud).video, wan)
    ovi = nano(interaction="ovi")
    assert torch.equal(run(ovi, isolate=True).video, wan) and not torch.allclose(run(ovi).video, wan)


def trained(x_a: Tensor | None) -> dict[str, Tensor]:
    """The video tower after a few steps of the isolated model, gradients clipped per tower."""
    model = nano().train()
    parameters = dict(model.named_parameters())
    sides = [[p for name, p in parameters.items() if name.startswith("video.") == video] for video in (True, False)]
    optimiser = torch.optim.AdamW([{"params": side} for side in sides], lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        out = model(X_V, x_a, T, None if x_a is None else T, COND, isolate=True)
        sum(v.square().mean() for v in out if v is not None).backward()
        for side in sides:
            torch.nn.utils.clip_grad_norm_(side, 0.1)
        optimiser.step()
    return {name: p.detach() for name, p in parameters.items() if name.startswith("video.")}


def test_twin_identity() -> None:  # A9, for Harmony
    alone, joint, start = trained(None), trained(X_TOKENS), dict(nano().named_parameters())
    assert all(torch.equal(alone[name], joint[name]) for name in alone)
    assert not torch.equal(alone["video.proj_out.weight"], start["video.proj_out.weight"])


def test_frames_hear_only_their_own_window() -> None:
    model = nano(loud=True)
    grid, other = towers.wan_grid(model.video, X_V), X_TOKENS.clone()
    other[:, 12:] = draw("other", 2, 4, 16)  # 16 latents over 2 frame tokens: these lie 0.5 and more after frame 1
    link = Windows(grid, 16, 0.4, True, model.video, model.audio)
    layer = model.interaction[0]
    h = draw("h", 2, grid[0] * grid[1] * grid[2], 96)
    with torch.no_grad():
        near = [
            layer.a2v(h, a @ draw("to", 16, 64), (grid[0], 16), link.on_video, *link.a2v) for a in (X_TOKENS, other)
        ]
    assert torch.equal(*near) and near[0].any()


def test_sync_guidance() -> None:  # H3
    model = nano(loud=True)
    mute, static = draw("mute", *X_TOKENS.shape), draw("static", *X_V.shape)
    zero = torch.zeros(2)
    with torch.no_grad():
        joint = model(X_V, X_TOKENS, T, T, COND)
        one = sync_cfg(model, X_V, X_TOKENS, T, T, COND, mute, static, 1.0, 1.0)
        mixed = sync_cfg(model, X_V, X_TOKENS, T, T, COND, mute, static, 1.0, 2.0)
        full = sync_cfg(model, X_V, X_TOKENS, T, T, COND, mute, static, 3.0, 2.0)
        muted = model(X_V, mute, T, zero, COND).video
        still = model(static, X_TOKENS, zero, T, COND).audio
    assert torch.equal(one.video, joint.video) and torch.equal(one.audio, joint.audio)
    torch.testing.assert_close(mixed.video, joint.video)
    torch.testing.assert_close(full.video, muted + 3 * (joint.video - muted), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(full.audio, still + 2 * (joint.audio - still), atol=1e-5, rtol=1e-4)


def batch(eps_a: Tensor) -> Batch:
    return Batch(draw("clean_v", *X_V.shape), draw("clean_a", *X_TOKENS.shape), COND, T, draw("eps", *X_V.shape), eps_a)


def test_synergy_losses() -> None:  # H4, H5
    model, whole = nano(loud=True), Loss()
    first, second = (batch(draw(name, *X_TOKENS.shape)) for name in ("noise 1", "noise 2"))
    with torch.no_grad():
        a, b = (cts(model, one, "linear", False, whole) for one in (first, second))
        joint = flow(model, first, "linear", False, whole)
        none = cts(model, first, "linear", False, Loss(audio_driven=0.0, video_driven=0.0))
        driven = model(LinearNoised(first).video, first.audio, T, torch.zeros(2), COND).video
    # video driven by clean audio does not know audio's noise, audio driven by clean video does
    assert a["audio_driven"] == b["audio_driven"] and a["video_driven"] != b["video_driven"]
    target = first.eps_v - first.video
    torch.testing.assert_close(a["audio_driven"], (driven - target).square().mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(none["loss"], joint["loss"])
    expected = joint["loss"] + 0.1 * a["audio_driven"] + 0.3 * a["video_driven"]
    torch.testing.assert_close(a["loss"], expected)


class LinearNoised:
    """A batch's noisy video."""

    def __init__(self, one: Batch) -> None:
        t = T.reshape(-1, 1, 1, 1, 1)
        self.video = (1 - t) * one.video + t * one.eps_v


def test_reference_tokens() -> None:  # H6
    model = nano(loud=True)
    reference = draw("reference", 2, 6, 16)
    ea = model._audio_embed(X_TOKENS, T, reference, COND.need("text_a"), 2)
    bare = model._audio_embed(X_TOKENS, T, None, COND.need("text_a"), 2)
    assert ea.rope is not None and bare.rope is not None
    # the target's ids start at 0 with or without a reference, and its embedding does not know the reference
    assert torch.equal(ea.rope[0][:, 6:], bare.rope[0]) and torch.equal(ea.rope[1][:, 6:], bare.rope[1])
    assert torch.equal(ea.tokens[:, 6:], bare.tokens)
    # reference tokens are clean: their modulation is that of time 0
    zero = model._audio_embed(X_TOKENS, torch.zeros(2), None, COND.need("text_a"), 2)
    torch.testing.assert_close(ea.modulation[:, 0], zero.modulation)
    torch.testing.assert_close(ea.modulation[:, 6], bare.modulation)
    out = run(model, cond=replace(COND, ref_a=reference))
    assert out.audio.shape == X_TOKENS.shape and not torch.allclose(out.audio, run(model).audio)


def test_style_changes_reference_tokens_alone() -> None:  # H6
    model = nano()
    layer = model.interaction[-1]
    with torch.no_grad():
        layer.style.attn.to_out[0].weight.copy_(draw("style", 64, 64))
    plain = run(nano())
    # the last layer's style reaches no target token any more; an earlier one's does, through self-attention
    assert torch.equal(run(model).audio, plain.audio) and torch.equal(run(model).video, plain.video)
    with torch.no_grad():
        model.interaction[0].style.attn.to_out[0].weight.copy_(draw("style", 64, 64))
    assert not torch.allclose(run(model).audio, plain.audio) and torch.equal(run(model).video, plain.video)


def test_driven_generation() -> None:
    model, spec = nano(loud=True), SamplerSpec(steps=3, shift=2.0, s_v=2.0, s_a=2.0)
    null = COND.map(torch.zeros_like)
    sound, picture = draw("sound", *X_TOKENS.shape), draw("picture", *X_V.shape)
    out = sample(model, COND, null, spec, X_V, None, given=JointPrediction(None, sound))
    assert torch.equal(out.audio, sound)
    other = sample(model, COND, null, spec, X_V, None, given=JointPrediction(None, -sound))
    assert not torch.allclose(out.video, other.video)
    out = sample(model, COND, null, spec, None, X_TOKENS, given=JointPrediction(picture, None))
    assert torch.equal(out.video, picture) and not torch.equal(out.audio, X_TOKENS)
    sync = replace(spec, guidance="sync")
    mute = torch.zeros_like(sound)
    both = sample(model, COND, null, sync, X_V, X_TOKENS, mute=mute)
    assert both.video.shape == X_V.shape and both.audio.shape == sound.shape
    driven = sample(model, COND, null, sync, X_V, None, mute=mute, given=JointPrediction(None, sound))
    assert torch.equal(driven.audio, sound)
    with pytest.raises(ValueError, match="nothing to sample"):
        sample(model, COND, null, spec, None, None, given=JointPrediction(picture, sound))
    with pytest.raises(ValueError, match="silence"):
        sample(model, COND, null, sync, X_V, X_TOKENS)
    twins = [sample(model, COND, null, one, X_V, None).video for one in (spec, sync)]
    assert torch.equal(*twins)


def test_spoken_words_join_the_caption() -> None:
    model = nano(loud=True, transcript_dim=24)
    words = draw("words", 2, 7, 24)
    silent, told, other = (
        run(model, cond=replace(COND, transcript=one)) for one in (None, words, draw("other words", 2, 7, 24))
    )
    assert not torch.allclose(told.audio, silent.audio) and not torch.allclose(told.audio, other.audio)
    # the video's own caption knows nothing of them: isolated, it does not change
    quiet = [run(model, cond=replace(COND, transcript=one), isolate=True).video for one in (None, words)]
    assert torch.equal(*quiet)


def test_static_anchor() -> None:
    assert not held_first(X_V, None, T).any()
    clean = draw("clean", *X_V.shape)
    eps = draw("noise", *X_V.shape)
    t = T.reshape(-1, 1, 1, 1, 1)
    held = held_first((1 - t) * clean + t * eps, eps - clean, T)
    torch.testing.assert_close(held, clean[:, :, :1].expand_as(clean), atol=1e-5, rtol=1e-5)
    assert torch.equal(held_first(clean, None, 0 * T, clean=True), clean[:, :, :1].expand_as(clean))


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="interaction"):
        nano(interaction="none")
    preset = settings("harmony-nano")
    with pytest.raises(ValueError, match="as many blocks"):
        Harmony(preset["video"], {**preset["audio"], "num_layers": 3})


def test_paper_size() -> None:
    with torch.device("meta"):
        model = build("harmony-ovi-paper")
    fusion = sum(p.numel() for p in model.interaction.parameters())
    # per tower and layer: k and v of 3072 with biases, an affine LayerNorm and an RMSNorm
    assert fusion == 2 * 30 * (2 * (3072 * 3072 + 3072) + 3 * 3072)
