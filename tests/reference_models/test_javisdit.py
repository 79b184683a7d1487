"""JavisDiT++: specs' invariants J1 ... J9, and the released model's numbers."""

from __future__ import annotations

import re
from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.errors import UserError
from avbench.reference_models.catalogue import build
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.flow import flow_loss
from avbench.reference_models.common.keymap import load, rename
from avbench.reference_models.common.lora import adapters, inject, load_peft, merge, save_peft, silenced
from avbench.reference_models.common.preference import (
    REWARDS,
    Preference,
    av_dpo_loss,
    av_dpo_pairs,
    modality_scores,
    pareto_pairs,
    preferences,
    zscore,
)
from avbench.reference_models.common.rope import TA_ROPE, ta_rope_ids, video_ids
from avbench.reference_models.systems.javisdit import (
    BETA,
    KEYS,
    LORA,
    JavisDiTPP,
    begin_stage,
    load_released,
    released_shift,
)
from tests.reference_models.parts import COND, X_GRID, X_V, T, close, draw, given, golden

RELEASED = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 16, "out_channels": 16,
    "text_dim": 24, "freq_dim": 32, "ffn_dim": 96, "num_layers": 2,
}  # fmt: skip


def nano(**over: Any) -> JavisDiTPP:
    model = build("javisdit-nano", seed=1, **over)
    assert isinstance(model, JavisDiTPP)
    torch.nn.init.normal_(model.audio_proj_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parity
def test_released_model() -> None:
    state, outputs = golden("javisdit_v1_tiny")
    model = JavisDiTPP(RELEASED, 8).eval()
    load(model, state, KEYS)
    cond = Conditions(text_v=given("javisdit.text", 2, 6, 24))
    t = torch.tensor([0.3, 0.8])
    with torch.no_grad():
        out = model(given("javisdit.video", 2, 16, 3, 8, 8), given("javisdit.audio", 2, 8, 20, 16), t, t, cond)
    close(-out.video, outputs["video"])  # the released model returns x0 - eps
    close(-out.audio, outputs["audio"])


def test_released_adapter() -> None:  # J9
    state, _ = golden("javisdit_v1_tiny")
    plain, tuned = JavisDiTPP(RELEASED, 8), JavisDiTPP(RELEASED, 8)
    layers = [key.removesuffix(".weight") for key in state if re.search(r"(attn\.[qkvo]|ffn\.[02])\.weight$", key)]
    adapter = {}
    for layer in layers:
        wide, deep = state[f"{layer}.weight"].shape
        adapter[f"base_model.model.{layer}.lora_A.weight"] = draw(f"{layer}.A", 64, deep)
        adapter[f"base_model.model.{layer}.lora_B.weight"] = draw(f"{layer}.B", wide, 64)
    load_released(plain, state)
    load_released(tuned, state, adapter)
    for theirs, ours in (
        ("blocks.1.cross_attn.o", "video.blocks.1.attn2.to_out.0"),
        ("blocks.0.audio_ffn.2", "audio_ffn.0.net.2"),
    ):
        a, b = (adapter[f"base_model.model.{theirs}.lora_{side}.weight"] for side in "AB")
        change = (tuned.get_submodule(ours).weight - plain.get_submodule(ours).weight) * (64 / 16)
        torch.testing.assert_close(change, b @ a, atol=1e-4, rtol=1e-4)
    assert not list(adapters(tuned)) and len(layers) == 2 * (4 + 4 + 2 + 2)
    with pytest.raises(UserError, match="differ"):
        load_released(JavisDiTPP(RELEASED, 8), state, dict(list(adapter.items())[:-1]))


def test_checkpoints_that_do_not_fit_are_refused() -> None:  # J9
    state, _ = golden("javisdit_v1_tiny")
    model = JavisDiTPP(RELEASED, 8)
    named = rename(state, KEYS)
    assert sorted(named.values()) == sorted(model.state_dict())
    with pytest.raises(UserError, match=r"unknown here: more\.weight"):
        load(model, {**state, "more.weight": torch.ones(1)}, KEYS)
    with pytest.raises(UserError, match="lacks 1"):
        load(model, {k: v for k, v in state.items() if k != "head.head.bias"}, KEYS)
    with pytest.raises(UserError, match="another shape"):
        load(model, {**state, "head.head.bias": torch.ones(1)}, KEYS)
    with pytest.raises(UserError, match="no place"):
        load(model, {**state, "blocks.7.modulation": torch.ones(1)}, KEYS)


def test_offset_ids_meet_no_video_token() -> None:  # J1
    rng = np.random.default_rng(0)
    for _ in range(20):
        video, audio = tuple(rng.integers(1, 9, 3)), tuple(rng.integers(1, 12, 2))
        seen = {tuple(row) for row in video_ids(*video).tolist()}
        overlap = {
            variant: sum(tuple(row) in seen for row in ta_rope_ids(variant, video, audio).tolist())
            for variant in TA_ROPE
        }
        assert overlap["interleave_offset"] == 0
        frames, height, width = video
        vanilla = sum(t < frames and t < height and m < width for t, m in product(range(audio[0]), range(audio[1])))
        assert overlap["vanilla"] == vanilla


def test_overlap_at_240p_four_seconds() -> None:
    seen = {tuple(row) for row in video_ids(17, 15, 26).tolist()}
    counts = [sum(tuple(r) in seen for r in ta_rope_ids(v, (17, 15, 26), (52, 8)).tolist()) for v in TA_ROPE]
    assert counts == [120, 8, 120, 0]


def test_order_of_tokens_does_not_matter() -> None:  # J2
    from avbench.reference_models.common.attention import sdpa
    from avbench.reference_models.common.rope import rope_table, wan_axes
    from avbench.reference_models.common.towers import wan_qkv

    attn, ids = nano().video.blocks[0].attn1, video_ids(2, 3, 4)
    x, order = draw("x", 1, 24, 96), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    straight = sdpa(*wan_qkv(attn, x, rope_table(ids, wan_axes(32))))
    shuffled = sdpa(*wan_qkv(attn, x[:, order], rope_table(ids[order], wan_axes(32))))
    torch.testing.assert_close(straight[:, order], shuffled, atol=1e-6, rtol=1e-5)


def test_copied_feed_forward_is_the_shared_one() -> None:  # J3
    own, shared = nano().eval(), nano(shared_ffn=True).eval()
    with torch.no_grad():
        a, b = (model(X_V, X_GRID, T, T, COND) for model in (own, shared))
    assert torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio)


def test_without_audio_it_is_wan() -> None:  # J4
    model = nano().eval()
    with torch.no_grad():
        wan = model.video(X_V, 1000 * T, COND.text_v).sample
        assert torch.equal(model(X_V, None, T, None, COND).video, wan)
        assert torch.equal(model(X_V, X_GRID, T, T, COND, isolate=True).video, wan)
        assert not torch.allclose(model(X_V, X_GRID, T, T, COND).video, wan)


@pytest.mark.parametrize("ta_rope", TA_ROPE)
def test_variants_run(ta_rope: str) -> None:
    out = nano(ta_rope=ta_rope)(X_V, X_GRID, T, T, COND)
    assert out.video.shape == X_V.shape and out.audio.shape == X_GRID.shape


def losses() -> dict[str, Preference]:
    won, lost = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])
    return {name: Preference(won, lost, won, lost) for name in ("video", "audio")}


def test_dpo_at_the_start() -> None:  # J5
    pairs = losses()
    assert av_dpo_loss(pairs, BETA, "joint", half=False, flow_weight=0).item() == pytest.approx(log(2))
    assert av_dpo_loss(pairs, BETA, "separate", flow_weight=0).item() == pytest.approx(2 * log(2))
    assert av_dpo_loss(pairs, BETA, "separate").item() == pytest.approx(2 * log(2) + 0.1 * 3.0)
    with pytest.raises(ValueError, match="coupling"):
        av_dpo_loss(pairs, BETA, "both")


@pytest.mark.parametrize("coupling", ["joint", "separate"])
def test_dpo_prefers_the_winner(coupling: str) -> None:  # J6
    policy = {name: [torch.tensor([1.0], requires_grad=True) for _ in "wl"] for name in BETA}
    fixed = torch.tensor([1.0])
    pairs = {name: Preference(won, lost, fixed, fixed) for name, (won, lost) in policy.items()}
    av_dpo_loss(pairs, BETA, coupling, flow_weight=0).backward()
    for won, lost in policy.values():
        assert won.grad is not None and lost.grad is not None and won.grad.item() > 0 > lost.grad.item()
    better = Preference(torch.tensor([0.5, 1.0]), torch.tensor([1.0, 0.5]), torch.ones(2), torch.ones(2))
    assert better.accuracy.item() == 0.5


def test_pairs_lead_on_every_modality() -> None:  # J7
    scores = {
        "video": np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]),
        "audio": np.array([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]),
        "av": np.array([[9.0, 1.0, 0.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
    }
    assert pareto_pairs(scores) == [(0, 0, 1)]  # 0 over 2 leads by 11, 0 over 1 by 12
    pool = {"good": np.array([[1.0, 2.0], [3.0, 4.0]]), "desync": np.array([[0.1, 0.2], [0.4, 0.3]])}
    micro = modality_scores(pool, {"av": ("good", "-desync")})["av"]
    np.testing.assert_allclose(micro, (zscore(pool["good"]) - zscore(pool["desync"])) / 2)
    assert modality_scores(pool, {"av": ("good", "-desync")}, "macro")["av"].tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert not zscore(np.ones(3)).any()


def test_paper_size() -> None:  # J8
    with torch.device("meta"):
        model = build("javisdit-paper")
    total, video = (sum(p.numel() for p in part.parameters()) for part in (model, model.video))
    assert (total, total - video) == (2_252_388_960, 833_392_160)
    inject(model, **LORA)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 127_795_200


def outputs(model: JavisDiTPP) -> Tensor:
    with torch.no_grad():
        return model(X_V, X_GRID, T, T, COND).video


def test_adapters_start_silent_and_merge() -> None:
    model = nano().eval()
    plain = outputs(model)
    inject(model, **{**LORA, "rank": 4})
    assert torch.equal(outputs(model), plain)
    state = {key: 0.1 * draw(key, *value.shape) for key, value in save_peft(model).items()}
    load_peft(model, state)
    adapted = outputs(model)
    assert not torch.allclose(adapted, plain)
    merge(model)
    assert not list(adapters(model))
    torch.testing.assert_close(outputs(model), adapted, atol=1e-5, rtol=1e-4)
    inject(model, **{**LORA, "rank": 4})
    with pytest.raises(UserError, match="differ"):
        load_peft(model, dict(list(state.items())[1:]))
    with pytest.raises(ValueError, match="no linear"):
        inject(model, "none", 1, 1)


def test_adapters_learn() -> None:
    model = nano()
    inject(model, **{**LORA, "rank": 4})
    flow_loss(model(X_V, X_GRID, T, T, COND).audio, X_GRID).mean().backward()
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())
    assert any(layer.lora_B.weight.grad.any() for _, layer in adapters(model))


def test_stages() -> None:
    model = nano().eval()
    begin_stage(model, "audio")
    assert all(p.requires_grad != name.startswith("video.") for name, p in model.named_parameters())
    begin_stage(model, "sft", rank=4)
    for _, layer in adapters(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    tuned = outputs(model)
    begin_stage(model, "dpo", rank=2)
    # the tuned model is what the last stage starts at, and what it is compared with
    torch.testing.assert_close(outputs(model), tuned, atol=1e-5, rtol=1e-4)
    assert {layer.lora_A.out_features for _, layer in adapters(model)} == {2}
    for _, layer in adapters(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(outputs(model), tuned, atol=1e-3)
    with silenced(model):
        torch.testing.assert_close(outputs(model), tuned, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="stage"):
        begin_stage(model, "rl")


def test_preference_optimisation_of_the_model() -> None:  # J5, J6
    model = nano()
    begin_stage(model, "dpo", rank=4, dropout=0.0)
    won, lost, noise = ((draw(f"{n}_v", *X_V.shape), draw(f"{n}_a", *X_GRID.shape)) for n in ("won", "lost", "noise"))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses, accuracies = [], []
    for _ in range(8):
        pairs = preferences(model, won, lost, noise, T, COND, as_reference=lambda: silenced(model))
        loss = av_dpo_loss(pairs, {"video": 30.0, "audio": 10.0}, "joint", half=False, flow_weight=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        accuracies.append({name: pair.accuracy.item() for name, pair in pairs.items()})
    assert losses[0] == pytest.approx(log(2), abs=1e-6) and losses[-1] < 0.6 * losses[0]
    assert accuracies[-1] == {"video": 1.0, "audio": 1.0}
    assert not pairs["video"].reference_w.requires_grad


def test_rewards_of_table_4() -> None:
    rng = np.random.default_rng(0)
    names = ("visual_quality", "motion_quality", "tv_ib", "audiobox", "ta_ib", "av_ib", "desync")
    pool = {name: rng.normal(size=(50, 4)) for name in names}
    found = {strategy: av_dpo_pairs(pool, strategy) for strategy in REWARDS}
    assert len({tuple(pairs) for pairs in found.values()}) == len(REWARDS)
    # over all metrics at once every prompt has a best and a worst; three modalities seldom agree
    assert len(found["average-micro"]) == 50 > len(found["modality-micro"]) > 0
    for prompt, winner, loser in found["modality-micro"]:
        scores = modality_scores(pool)
        assert all(table[prompt, winner] > table[prompt, loser] for table in scores.values())
    assert max(max(pair[1:]) for pair in found["without-ground-truth"]) == 2
    loud = {name: values * (1000 if name == "audiobox" else 1) for name, values in pool.items()}
    assert av_dpo_pairs(loud) == found["modality-micro"]
    assert av_dpo_pairs(loud, "without-normalisation") != found["without-normalisation"]
    with pytest.raises(ValueError, match="reward"):
        av_dpo_pairs(pool, "mean")


def test_shift_of_the_release() -> None:
    assert released_shift(240, 426, 65) == pytest.approx(2.42, abs=0.005)
    assert released_shift(480, 854, 81) == pytest.approx(5.6, abs=0.02)
    assert released_shift(480, 854, 81, training=True) == pytest.approx(28, abs=0.1)
