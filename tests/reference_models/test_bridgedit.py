"""BridgeDiT: specs' invariants B1 ... B5, its key map, and its captions."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avbench.errors import UserError
from avbench.reference_models.catalogue import build, names
from avbench.reference_models.common.attention import sdpa
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.flow import PATHS, flow_loss
from avbench.reference_models.common.keymap import rename
from avbench.reference_models.common.rope import half_split_table, rope_table
from avbench.reference_models.systems import bridgedit
from avbench.reference_models.systems.bridgedit import KEYS, KINDS, READS, Bridge, BridgeDiT, frozen, load_released
from tests.hashed import hashed_state_dict
from tests.reference_models.parts import COND, GOLDENS, X_V, T, close, draw, given
from tests.reference_models.parts import X_TOKENS as X_A

MEETING = (*READS, "add")


def nano(**over: Any) -> BridgeDiT:
    model = build("bridgedit-nano", seed=3, **over)
    assert isinstance(model, BridgeDiT)
    return model.eval()


def stirred(model: BridgeDiT) -> BridgeDiT:
    """Give the bridges' zero projections weights, as training would."""
    with torch.no_grad():
        for name, p in model.bridges.named_parameters():
            if not p.any():
                p.copy_(0.3 * draw(name, *p.shape))
    return model


def run(model: BridgeDiT, x_v: Tensor | None = X_V, x_a: Tensor | None = X_A, **options: Any) -> tuple[Any, Any]:
    with torch.no_grad():
        return tuple(model(x_v, x_a, T, T, COND, **options))


def alone(model: BridgeDiT) -> tuple[Tensor, Tensor]:
    """Both towers by diffusers' own forward passes."""
    assert COND.text_a is not None and COND.seconds is not None
    with torch.no_grad():
        video = model.video(X_V, 1000 * T, COND.text_v).sample
        out = model.audio_text(COND.text_a, torch.zeros(2), COND.seconds)
        begin, end = out.seconds_start_hidden_states, out.seconds_end_hidden_states
        audio = model.audio(
            X_A.transpose(1, 2),
            timestep=T,
            encoder_hidden_states=torch.cat([out.text_hidden_states, begin, end], dim=1),
            global_hidden_states=torch.cat([begin, end], dim=2),
            rotary_embedding=half_split_table(17, 16, torch.device("cpu")),
        ).sample
    return video, audio.transpose(1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_new_bridges_change_nothing(kind: str) -> None:  # B1, B3
    model = nano(kind=kind)
    video, audio = run(model)
    wanted = alone(model)
    assert torch.equal(video, wanted[0]) and torch.equal(audio, wanted[1])


def test_towers_apart_are_the_separate_model_bit_for_bit() -> None:
    joint, separate = stirred(nano()), nano(kind="none")
    assert all(torch.equal(x, y) for x, y in zip(run(joint, isolate=True), run(separate)))
    assert not any(torch.equal(x, y) for x, y in zip(run(joint), run(separate)))
    video, none = run(joint, x_a=None)
    assert none is None and torch.equal(video, run(separate)[0])
    none, audio = run(joint, x_v=None)
    assert none is None and torch.equal(audio, run(separate)[1])


@pytest.mark.parametrize(
    "kind, hears, sees", [("dca", 1, 1), ("full", 1, 1), ("add", 1, 1), ("a2v", 1, 0), ("v2a", 0, 1)]
)
def test_who_reads_whom(kind: str, hears: bool, sees: bool) -> None:  # B2
    model = stirred(nano(kind=kind))
    x_v, x_a = X_V.clone().requires_grad_(), X_A.clone().requires_grad_()
    for one, source, reads in ((0, x_a, hears), (1, x_v, sees)):
        out = model(x_v, x_a, T, T, COND)[one]
        (gradient,) = torch.autograd.grad(out.square().sum(), source)
        assert bool(gradient.any()) is bool(reads)


@pytest.mark.parametrize("kind", ["a2v", "v2a"])
def test_the_stream_that_does_not_read_attends_to_itself(kind: str) -> None:
    one, two = stirred(nano(kind=kind)), run(nano(kind="none"))
    assert not any(torch.allclose(x, y) for x, y in zip(run(one), two))


def test_full_attention_without_its_own_half_is_dual_cross_attention(monkeypatch: pytest.MonkeyPatch) -> None:  # B4
    dca, full = stirred(nano()), nano(kind="full")
    full.load_state_dict(dca.state_dict())
    assert not torch.allclose(run(dca)[0], run(full)[0])

    def crossed(streams: Any, reads: Any) -> tuple[Tensor, ...]:
        q, k, v = (torch.cat(x, dim=1) for x in zip(*streams))
        side = torch.cat([torch.full((x[0].shape[1],), i) for i, x in enumerate(streams)])
        return sdpa(q, k, v, side[:, None] != side[None]).split([x[0].shape[1] for x in streams], dim=1)

    wanted = run(dca)
    monkeypatch.setattr(bridgedit, "joint_sdpa", crossed)
    for x, y in zip(run(full), wanted):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_each_tower_has_its_own_scale_of_the_one_time() -> None:  # B5
    model, seen = nano(), {}
    model.video.condition_embedder.register_forward_pre_hook(lambda m, args: seen.update(video=args[0]))
    model.audio.time_proj.register_forward_pre_hook(lambda m, args: seen.update(audio=args[0]))
    run(model)
    assert torch.equal(seen["audio"], T) and torch.equal(seen["video"], 1000 * T)
    assert model.audio_path == "cosine"


def test_released_double_scale_is_a_smaller_query() -> None:
    plain, twice = (Bridge("full", 64, 64, 64, 2, double) for double in (False, True))
    assert plain.scale == 1 and twice.scale == pytest.approx(32**-0.5)
    assert Bridge("dca", 64, 64, 64, 2, True).scale == 1
    outs = [run(stirred(nano(kind="full", double_scale=double)))[0] for double in (False, True)]
    assert not torch.allclose(*outs)


def test_positions_in_the_bridge() -> None:
    video, audio = nano(rope="time").ropes((4, 2, 2), 33)
    assert video is not None and audio is not None
    assert torch.equal(audio[0][:, 1::8], video[0][:, ::4])  # latent 8 k is frame k, four tokens a frame
    assert torch.equal(audio[0][:, 0], audio[0][:, 1])  # the global token stands at 0
    flat = nano(rope="flat").ropes((4, 2, 2), 33)
    assert flat[0] is not None and flat[1] is not None and torch.equal(flat[0][0], flat[1][0][:, :16])
    assert nano(rope="none").ropes((4, 2, 2), 33) == (None, None)
    outs = [run(stirred(nano(rope=rope)))[0] for rope in ("flat", "time", "none")]
    assert not torch.allclose(outs[0], outs[1]) and not torch.allclose(outs[1], outs[2])


def test_duration_tokens_join_the_caption_if_told() -> None:
    assert not torch.allclose(*(run(nano(duration_tokens=flag))[1] for flag in (True, False)))


def test_an_index_equal_to_the_depth_means_the_last_block() -> None:
    assert nano(after=[[1, 0], [4, 3]]).stops == nano(after=[[1, 0], [3, 2]]).stops
    for after in ([[1, 0], [1, 1]], [[2, 1], [1, 2]], [[5, 1]]):
        with pytest.raises(ValueError, match="BridgeDiT: "):
            nano(after=after)
    for wrong in ({"kind": "sum"}, {"rope": "wan"}):
        with pytest.raises(ValueError, match="unknown"):
            nano(**wrong)


def test_paper_size() -> None:
    with torch.device("meta"):
        model, released = build("bridgedit-paper"), build("bridgedit-released")
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.video, model.audio, model.bridges)]
    assert counts == [1_418_996_800, 1_056_939_136, 339_922_944]
    assert model.stops == [[4, 3], [8, 6], [12, 9], [16, 12]]
    assert (released.rope, released.duration_tokens, model.rope, model.duration_tokens) == ("flat", False, "time", True)


def as_released(model: BridgeDiT, blocks: int, prefixes: tuple[str, str, str] = ("", "", "")) -> dict[str, Tensor]:
    """The trained part under the released names: the first blocks of both towers and the bridges."""
    state = {}
    for name, value in model.state_dict().items():
        if found := re.match(r"(video|audio)\.((?:transformer_)?blocks\.(\d+)\..*)", name):
            if int(found[3]) < blocks:
                state[prefixes[found[1] == "audio"] + found[2]] = value
        elif found := re.match(r"bridges\.(\d+)\.(video|audio)\.(\w+?)([12]?)\.(weight|bias)", name):
            index, number, part, layer, leaf = found[1], "12"[found[2] == "audio"], found[3], found[4], found[5]
            key = {
                "fc": f"mlp_{number}.fc{layer}",
                "adaln": f"adaln_modulation_{number}.1",
            }.get(part, f"attn.{part}_proj_{number}")
            state[f"{prefixes[2]}{index}.{key}.{leaf}"] = value
    return state


@pytest.mark.parametrize("prefixes", [("", "", ""), ("video_diffusion.", "audio_diffusion.", "dual_dit_blocks.")])
def test_released_names(prefixes: tuple[str, str, str]) -> None:
    trained, model = stirred(nano()), nano()
    with torch.no_grad():
        for name, p in trained.named_parameters():
            if re.match(r"(video|audio)\.(transformer_)?blocks\.0\.", name):
                p.add_(0.1)
    state = as_released(trained, 1, prefixes)
    filled = load_released(model, {**state, **({"video_vae.conv.weight": torch.zeros(1)} if prefixes[0] else {})})
    assert len(filled) == len(state) and all(torch.equal(x, y) for x, y in zip(run(model), run(trained)))
    del state[next(key for key in state if "fc1" in key)]
    with pytest.raises(UserError, match="lacks 1 parameters of the bridges"):
        load_released(nano(), state)
    with pytest.raises(UserError, match="do not fit"):
        load_released(nano(kind="add"), as_released(trained, 1, prefixes))
    with pytest.raises(UserError, match="unknown"):
        load_released(nano(), {"tokens.weight": torch.zeros(1)})


def test_released_additive_names() -> None:
    model = nano(kind="add")
    state = as_released(stirred(nano(kind="add")), 0)
    swap = {"attn.o_proj_1": "audio_to_video_proj", "attn.o_proj_2": "video_to_audio_proj"}
    theirs = {re.sub(r"attn\.o_proj_[12]", lambda m: swap[m[0]], key): value for key, value in state.items()}
    load_released(model, theirs)
    assert torch.equal(model.bridges[0].video.o.weight, theirs["0.audio_to_video_proj.weight"])


@pytest.mark.parametrize("kind", MEETING)
def test_bridge_is_the_released_one(kind: str) -> None:
    """Weights under the released names, outputs of the released blocks, positions counted flat."""
    keys = json.loads((GOLDENS / "bridgedit_bridge_keys.json").read_text())[kind]
    with np.load(GOLDENS / "bridgedit_bridge.npz") as file:
        wanted = [file[f"{kind}_{stream}"] for stream in ("video", "audio")]
    bridge = Bridge(kind, 48, 32, 64, 2, double_scale=True).eval()
    state = hashed_state_dict(keys)
    named = rename(state, KEYS)
    bridge.load_state_dict({name.removeprefix("bridges.0."): state[key] for key, name in named.items()})
    ropes = tuple(rope_table(torch.arange(n)[:, None].float(), (32,)) for n in (12, 7))
    temb = given("temb_v", 2, 48), given("temb_a", 2, 32)
    with torch.no_grad():
        found = bridge(given("video", 2, 12, 48), given("audio", 2, 7, 32), temb, ropes)
    for ours, theirs in zip(found, wanted):
        close(ours, theirs)


@pytest.mark.parametrize("which, trains", [("first", "0"), ("last", "3")])
def test_what_is_frozen(which: str, trains: str) -> None:
    model = nano()
    patterns = frozen(model, which, count=1)
    free = {name for name, _ in model.named_parameters() if not any(re.match(p, name) for p in patterns)}
    assert {name.split(".")[2] for name in free if name.startswith("video.")} == {trains}
    assert {name.split(".")[0] for name in free} == {"video", "audio", "bridges"}
    with pytest.raises(ValueError, match="first or last"):
        frozen(model, "middle")


@pytest.mark.parametrize("kind", KINDS)
def test_learns(kind: str) -> None:
    """The loss on one batch falls, with audio on its own path, and every bridge takes part."""
    torch.manual_seed(0)
    model = nano(kind=kind, init_seed=1).train()
    eps = draw("eps_v", *X_V.shape), draw("eps_a", *X_A.shape)
    x_v, x_a = PATHS["linear"].noised(X_V, eps[0], T), PATHS["cosine"].noised(X_A, eps[1], T)
    wanted = PATHS["linear"].target(X_V, eps[0], T), PATHS["cosine"].target(X_A, eps[1], T)
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for _ in range(25):
        optimiser.zero_grad()
        out = model(x_v, x_a, T, T, COND)
        loss = sum((flow_loss(x, y).mean() for x, y in zip(out, wanted)), torch.zeros(()))
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]
    outputs = [m for name, m in model.bridges.named_modules() if name.endswith(".o")]
    assert len(outputs) == (0 if kind == "none" else 4)
    assert all(isinstance(m, nn.Linear) and bool(m.weight.any()) for m in outputs)


def test_names_of_the_catalogue() -> None:
    ablations = {f"bridgedit-{name}-tiny" for name in ("full", "additive", "v2a", "a2v", "separate")}
    assert ablations | {"bridgedit-tiny", "bridgedit-t2v-tiny", "bridgedit-paper"} <= set(names())
    assert isinstance(build("bridgedit-additive-nano"), BridgeDiT)


def test_conditions_are_asked_for() -> None:
    with pytest.raises(ValueError, match="seconds is needed"):
        nano()(X_V, X_A, T, T, Conditions(text_v=COND.text_v, text_a=COND.text_a))
