"""Degraded references: each changes what it says and nothing else, and the metrics see it."""

from pathlib import Path

import numpy as np
import pytest

import avbench
from avbench.baselines.degraded import CHANGES, degraded
from avbench.clip import Clip
from avbench.generator import Request
from avbench.suite import Sample, Suite
from tests.conftest import bouncing

SUITE = Suite("two", "1", tuple(Sample(f"s{i}", i, "x") for i in range(4)))


def make(name: str, index: int = 0) -> tuple[Clip, Clip]:
    """(real clip, what the baseline makes of it)."""
    clips = {sample.id: bouncing(sample.index) for sample in SUITE.samples}
    request = Request(SUITE.samples[index], SUITE, 7, clips.__getitem__)
    (made,) = degraded(name).generate([request])
    return clips[f"s{index}"], made


@pytest.mark.parametrize("name", CHANGES)
def test_generation_is_deterministic_and_keeps_shapes(name: str) -> None:
    (real, first), (_, second) = make(name), make(name)
    assert np.array_equal(first.need_video().frames, second.need_video().frames)
    assert first.need_video().frames.shape == real.need_video().frames.shape
    if name != "silent-video-only":
        assert np.array_equal(first.need_audio().samples, second.need_audio().samples)
        assert first.need_audio().samples.shape == real.need_audio().samples.shape


@pytest.mark.parametrize("name", CHANGES)
def test_only_the_named_stream_changes(name: str) -> None:
    real, made = make(name)
    same_video = np.array_equal(made.need_video().frames, real.need_video().frames)
    same_audio = made.audio is not None and np.array_equal(made.audio.samples, real.need_audio().samples)
    assert same_video == (name not in ("frozen", "noisy-video"))
    assert same_audio == (name in ("reference", "frozen", "noisy-video"))


def test_the_shift_is_200_ms_and_the_shuffle_leaves_none_its_own() -> None:
    real, late = make("audio-shift-200ms")
    assert np.array_equal(np.roll(real.need_audio().samples, 1600), late.need_audio().samples)
    for index in range(4):
        real, foreign = make("audio-shuffled", index)
        assert not np.array_equal(real.need_audio().samples, foreign.need_audio().samples)


@pytest.mark.heavy
def test_metrics_move_the_right_way_on_clatter(cache: Path) -> None:
    """What a new user sees: synchrony falls on tight samples and not on loose ones; mute is n/a; frozen is caught."""
    from avbench.compare import compare
    from avbench.results import summarise

    whole = ("reference", "audio-shift-200ms", "audio-shuffled")
    part = ("frozen", "noisy-video", "mute", "silent-video-only")
    runs = {name: avbench.evaluate(name, "clatter-mini", "fast", device="cpu") for name in whole}
    runs |= {name: avbench.evaluate(name, "clatter-mini", "fast", device="cpu", limit=16) for name in part}

    def value(name: str, metric: str, subset: str = ""):
        return next(r for r in summarise(runs[name], subset) if r.metric == metric and not r.field)

    for name in ("audio-shift-200ms", "audio-shuffled"):
        real, worse = value("reference", "av_align", "av-tight"), value(name, "av_align", "av-tight")
        assert worse.high < real.low, f"{name}: intervals overlap on tight samples"
        loose = [value(one, "av_align", "av-loose") for one in ("reference", name)]
        assert loose[0].low < loose[1].high and loose[1].low < loose[0].high
        verdicts = {
            (r.metric, r.subset): r.verdict for r in compare(runs["reference"], runs[name], ["av-tight", "av-loose"])
        }
        assert verdicts["av_align", "av-tight"] == "worse"
        assert verdicts["av_align", "av-loose"] == "no difference shown"
    for name in ("mute", "silent-video-only"):
        assert value(name, "av_align").value is None and value(name, "av_align").not_applicable == 16
    assert value("reference", "integrity").value == 1.0
    assert value("frozen", "integrity").value == 0.0 and value("mute", "integrity").value == 0.0
    assert value("frozen", "temporal_flickering").value == pytest.approx(1.0, abs=1e-4)
    assert value("noisy-video", "temporal_flickering").high < value("reference", "temporal_flickering").low - 0.05
