"""Invariants of the shared parts."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from avbench.reference_models.common.attention import heads, joint_sdpa, sdpa, window_index, windowed_cross
from avbench.reference_models.common.clock import LatentClock
from avbench.reference_models.common.conditioning import Conditions, HashText, blanked, concat
from avbench.reference_models.common.flow import PATHS, flow_loss, sample_t, shift_t, sigma_grid
from avbench.reference_models.common.rope import rope_table, rotate, ta_rope_ids, time_ids, video_ids, wan_axes
from avbench.reference_models.common.streams import AUDIO, VIDEO, generator, seeded


@pytest.mark.parametrize("dim", [24, 32, 128])
def test_table_of_an_integer_grid_is_wans(dim: int) -> None:
    theirs = WanRotaryPosEmbed(dim, (1, 2, 2), 64)(torch.zeros(1, 1, 5, 8, 6))
    ours = rope_table(video_ids(5, 4, 3), wan_axes(dim))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_table_is_flux_even_between_integers() -> None:
    ids = (torch.arange(7) / 3.3)[:, None].expand(-1, 3)
    theirs = FluxPosEmbed(10000, [4, 14, 14])(ids)
    assert torch.equal(rope_table(ids, (4, 14, 14))[0][0, :, 0], theirs[0])


def test_rotated_products_depend_on_time_difference_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 32, generator=generator(0, "qk"))
    products = []
    for start in (0.0, 5.5):
        table = [rope_table(time_ids(torch.tensor([start + shift])), wan_axes(32)) for shift in (0.0, 2.25)]
        products.append((rotate(q, table[0]) * rotate(k, table[1])).sum())
    torch.testing.assert_close(products[0], products[1])


@pytest.mark.parametrize(
    "fps, frames, hz, tau, count, phase",
    [(24, 49, 44100 / 2048, 3.589, 3.308, 0.38), (16, 65, 18.75 / 1.5, 3.125, 2.941, 0.41)],
)
def test_clock(fps: float, frames: int, hz: float, tau: float, count: float, phase: float) -> None:
    clock = LatentClock(fps, frames, hz)
    assert clock.tau == pytest.approx(tau, abs=1e-3)
    assert clock.tau_count == pytest.approx(count, abs=1e-3)
    assert clock.causal_phase == pytest.approx(phase, abs=0.02)
    assert clock.causal_index(1 / fps) == 1 and clock.causal_index(0) == 0


@pytest.mark.parametrize("name", PATHS)
def test_paths_agree_with_themselves(name: str) -> None:
    path = PATHS[name]
    x0, eps = torch.randn(2, 3, 4, 5, generator=generator(0, "x"))
    t, zero = torch.tensor([0.2, 0.7, 1.0]), torch.zeros(3)
    x, v = path.noised(x0, eps, t), path.target(x0, eps, t)
    torch.testing.assert_close(path.clean(x, v, t), x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.step(x, v, t, zero), x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(path.noised(x0, eps, torch.ones(3)), eps, atol=1e-6, rtol=1e-6)
    assert torch.equal(path.noised(x0, eps, zero), x0)


def test_cosine_step_is_ddim() -> None:
    path = PATHS["cosine"]
    x, v = torch.randn(2, 2, 6, generator=generator(0, "x"))
    t, s = torch.tensor([0.9, 0.5]), torch.tensor([0.8, 0.1])
    angle = t[:, None] * torch.pi / 2
    eps = angle.sin() * x + angle.cos() * v
    ddim = path.noised(path.clean(x, v, t), eps, s)
    torch.testing.assert_close(path.step(x, v, t, s), ddim, atol=2e-6, rtol=1e-6)


def test_grid_is_the_schedulers_when_it_is_given_the_sigmas() -> None:
    grid = sigma_grid(40, 5.0)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 40, 40).numpy())
    torch.testing.assert_close(scheduler.sigmas.double(), grid, atol=1e-6, rtol=1e-6)
    assert grid[-2] * 1000 == pytest.approx(113.6, abs=0.1)


def test_times() -> None:
    for kind in ("uniform", "logit_normal", "sobol"):
        t = sample_t(512, kind, 1.0, generator(0, "t"))
        assert torch.equal(t, sample_t(512, kind, 1.0, generator(0, "t")))
        assert t.min() >= 0 and t.max() <= 1 and t.mean() == pytest.approx(0.5, abs=0.05)
    assert shift_t(torch.tensor(0.5), 3.0) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="unknown"):
        sample_t(1, "normal", 1.0, generator(0, "t"))
    assert flow_loss(torch.zeros(2, 3), torch.tensor([[1.0] * 3, [2.0] * 3])).tolist() == [1, 4]


def test_streams_that_do_not_see_each_other_are_alone() -> None:
    q, k, v = torch.randn(3, 2, 9, 2, 8, generator=generator(0, "qkv"))
    one, two = ([x[:, part] for x in (q, k, v)] for part in (slice(0, 4), slice(4, 9)))
    apart = joint_sdpa([tuple(one), tuple(two)], [(0,), (1,)])
    assert torch.equal(apart[0], sdpa(*one)) and torch.equal(apart[1], sdpa(*two))
    assert torch.equal(torch.cat(joint_sdpa([tuple(one), tuple(two)], [(0, 1), (0, 1)]), 1), sdpa(q, k, v))


@pytest.mark.parametrize("reach", [0.5, 1.0, 2.0, 99.0])
def test_windows_are_masked_attention(reach: float) -> None:
    at_q, at_k = torch.arange(4.0), torch.arange(11.0) * 4 / 11
    q = torch.randn(2, 4, 3, 2, 8, generator=generator(0, "q"))
    k, v = torch.randn(2, 2, 11, 1, 2, 8, generator=generator(0, "kv"))
    windows = windowed_cross(q, k, v, *window_index(at_q, at_k, reach)).flatten(1, 2)
    mask = ((at_q[:, None] - at_k[None]).abs() <= reach + 1e-6).repeat_interleave(3, 0)
    dense = heads(sdpa(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), mask[None, None]), 2)
    torch.testing.assert_close(windows.flatten(2), dense.flatten(2), atol=1e-6, rtol=1e-5)


def test_a_query_without_a_window_reads_its_nearest_key() -> None:
    index, valid = window_index(torch.tensor([0.0, 5.0]), torch.tensor([0.0, 1.0]), 0.1)
    assert valid.tolist() == [[True], [True]] and index.tolist() == [[0], [1]]


def test_streams_of_random_numbers() -> None:
    assert not any(name.endswith("_a") for name in VIDEO) and all(name.endswith("_a") for name in AUDIO)
    draws = {name: torch.randn(3, generator=generator(1, name, 2)).tolist() for name in VIDEO + AUDIO}
    assert len({tuple(x) for x in draws.values()}) == len(draws)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(1, "init_video"):
        first = torch.nn.Linear(2, 2).weight
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(1, "init_video"):
        assert torch.equal(torch.nn.Linear(2, 2).weight, first)


def test_ta_rope_rules() -> None:
    offset = ta_rope_ids("interleave_offset", (5, 3, 4), (7, 2))
    assert offset[:, 1].min() == 3 and offset[:, 2].min() == 4
    assert offset[:, 0].reshape(7, 2)[:, 0].tolist() == [0, 1, 2, 2, 3, 4, 4]
    paper = ta_rope_ids("interleave", (5, 3, 4), (40, 1), rule="paper")
    released = ta_rope_ids("interleave", (5, 3, 4), (40, 1))
    assert paper[:, 0].max() == 5 and released[:, 0].max() == 4  # the paper's rule runs one past the last frame
    with pytest.raises(ValueError, match="variant"):
        ta_rope_ids("none", (1, 1, 1), (1, 1))


def test_words_have_fixed_vectors() -> None:
    text, mask = HashText(8, 4)(["a red ball", "Ball", ""])
    assert torch.equal(text[0, 2], text[1, 0]) and mask.sum(1).tolist() == [3, 1, 0]
    assert not text[2].any() and not text[0, 3].any()


def test_conditions() -> None:
    cond = Conditions(text_v=torch.ones(2, 1, 1), text_a=torch.ones(2, 1, 1), seconds=torch.ones(2))
    null = Conditions(text_v=torch.zeros(2, 1, 1), text_a=torch.zeros(2, 1, 1), seconds=torch.ones(2))
    mixed = blanked(cond, null, torch.tensor([True, False]), torch.tensor([False, False]))
    assert mixed.need("text_v").flatten().tolist() == [0, 1] and mixed.need("text_a").flatten().tolist() == [1, 1]
    assert concat([cond, null]).need("text_v").shape == (4, 1, 1)
    with pytest.raises(ValueError, match="some parts"):
        concat([cond, Conditions()])
    with pytest.raises(ValueError, match="text_a is needed"):
        Conditions().need("text_a")
