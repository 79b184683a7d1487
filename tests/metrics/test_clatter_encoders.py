"""Encoders trained on clatter: arithmetic, the shipped files, what they tell apart, and where they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avbench.cli import app
from avbench.clip import Audio, Clip
from avbench.encode import write_clip
from avbench.features import Context
from avbench.metric import Rows, features
from avbench.metrics import clatter as family
from avbench.metrics.encoders import clatter as nets
from avbench.metrics.views_imagebind import log_mel
from avbench.registry import metrics
from avbench.suites.clatter import DESK, Scene, render, scene
from avbench.views.shapes import resize
from avbench.weights import checkpoint, locate
from tests.metrics.quality import compute, score

BASES = (
    "clip_score", "clap_score", "tv_ib", "ta_ib", "av_ib", "avh_score", "javis_score", "desync", "fvd", "kvd", "fad",
    "background_consistency",
)  # fmt: skip
TIGHT = (0, 2, 4, 6, 10, 12)  # bounce, stick, hammer, metronome, drums, drop


def context(*names: str) -> Context:
    return Context(torch.device("cpu"), torch.float32, {name: checkpoint(name).place for name in names})


@cache
def networks() -> dict:
    """Every shipped network by its encoder."""
    encoders = (
        family.STILL, family.SOUND, family.WORDS, family.WATCH, family.LISTEN, family.OFFSET, family.VIDEO_NET,
        family.AUDIO_NET,
    )  # fmt: skip
    return {one: one.loader()(context(*one.weights)) for one in encoders}


@cache
def made(index: int) -> tuple[Scene, Clip]:
    what = scene("encoder-tests", index)
    return what, render(what)


def texts(what: Scene) -> dict[str, str]:
    return {"text": what.text, "video_text": what.video_text, "audio_text": what.audio_text}


def late(clip: Clip, seconds: float) -> Clip:
    """The sound turned."""
    audio = clip.need_audio()
    return Clip(clip.video, Audio(np.roll(audio.samples, round(seconds * audio.rate), axis=1), audio.rate))


# --- arithmetic ---


def test_a_sound_that_comes_early_has_its_peak_at_a_positive_lag() -> None:
    seen, heard = torch.zeros(1, 8, 100, 8), torch.zeros(1, 8, 100, 8)
    seen[:, :, 40], heard[:, :, 30] = 1, 1
    found = nets.correlate(seen, heard)
    assert found.shape == (1, 8, 105) and int(found[0, 0].argmax()) - nets.LAGS == 10


def test_a_track_of_mels_is_that_of_its_parts() -> None:
    wave = np.random.default_rng(0).standard_normal(64000).astype(np.float32)
    found = family.mel_track(wave, 400)
    assert found.shape == (128, 400)
    np.testing.assert_allclose(found[:, 100:298], log_mel(wave[16000 : 16000 + 32000])[:, :198], rtol=1e-5)
    assert family.mel_track(wave[:1600], 10).shape == (128, 10)


def test_frames_of_any_size_become_64() -> None:
    frames = torch.zeros(2, 3, 128, 96, 3, dtype=torch.uint8)
    assert nets.pixels(frames).shape == (2, 3, 3, 64, 64) and float(nets.pixels(frames).max()) == -1
    assert nets.pixels(torch.ones(1, 16, 16, 3)).mean() == 1


def test_words_are_words_and_pairs() -> None:
    assert len(nets.buckets("A red ball.")) == 5 and nets.buckets("a RED ball") == nets.buckets("A red ball.")
    assert nets.buckets("red ball") != nets.buckets("ball red") and nets.buckets("!") == [0]


# --- the shipped files ---


@pytest.mark.parametrize("name", sorted(nets.NETWORKS))
def test_shipped_files_are_verified_and_small(name: str, cache: Path) -> None:
    found = locate(name, {})
    assert found.verified and found.path.stat().st_size == checkpoint(name).bytes < 2_000_000


@pytest.mark.parametrize("base", BASES)
def test_every_card_says_where_it_is_valid(base: str) -> None:
    card = metrics.get(f"{base}@clatter").card
    assert card.suites == ("clatter*",) and "clatter alone" in card.differs[0]
    assert card.better == metrics.get(base).card.better


# --- what they tell apart, on scenes they have never seen ---


def test_a_scene_fits_its_own_words_and_sound_best() -> None:
    scenes = [made(index) for index in (0, 1, 4, 5, 10, 11)]
    pairs = {"clip_score": ("frames", "text"), "clap_score": ("audio", "text"), "av_ib": ("video", "audio")}
    for name, (first, second) in pairs.items():
        metric = metrics.get(f"{name}@clatter")
        found = {
            one: [compute(features(metric)[one], clip, networks(), texts(what)) for what, clip in scenes]
            for one in (first, second)
        }
        values = np.array([[metric.score(**{first: a, second: b}) for b in found[second]] for a in found[first]])
        assert (values.argmax(axis=1) == np.arange(len(scenes))).mean() >= 5 / 6, (name, values)


def test_offsets_are_found() -> None:
    right = 0
    for index in TIGHT:
        for seconds in (0.0, 0.4, -0.6):
            found = score("desync@clatter", late(made(index)[1], seconds), networks())
            right += abs(found["offset"] + seconds) < 0.21  # positive: sound too early
            assert set(found) >= {"", "expected", "confidence", "blocks"}
    assert right >= 0.8 * 3 * len(TIGHT)


def test_the_small_world_fits_the_same_networks() -> None:
    clip = render(scene("encoder-tests", 0, DESK))
    found = score("desync@clatter", clip, networks())
    assert 0 <= found[""] <= 2 and found["blocks"] == 1
    for name in ("clip_score", "clap_score", "av_ib", "avh_score"):
        value = score(f"{name}@clatter", clip, networks(), **texts(scene("encoder-tests", 0, DESK)))
        assert -1 <= (value[""] if isinstance(value, dict) else value) <= 1


@pytest.mark.parametrize("name", ["fvd@clatter", "fad@clatter"])
def test_distances_grow_as_clips_are_spoilt(name: str) -> None:
    metric = metrics.get(name)
    attribute, feature = ("video", type(metric).video) if name == "fvd@clatter" else ("audio", type(metric).audio)

    def rows(clips: list[Clip]) -> Rows:
        return Rows(
            [str(i) for i in range(len(clips))], {attribute: [compute(feature, c, networks(), {}) for c in clips]}
        )

    def spoilt(clip: Clip, amount: float, seed: int) -> Clip:
        rng = np.random.default_rng(seed)
        video, audio = clip.need_video(), clip.need_audio()
        side = {0.0: 128, 0.5: 20, 1.0: 8}[amount]  # detail is lost
        small = resize(video.frames, side, side, "bilinear-torch-antialias", "uint8")
        soft = resize(small, 128, 128, "bilinear-torch-antialias", "uint8")
        hiss = audio.samples + np.float32(0.1 * amount) * rng.standard_normal(audio.samples.shape).astype(np.float32)
        return Clip(type(video)(soft, video.times, video.fps), Audio(hiss, audio.rate))

    clean = [made(index)[1] for index in range(16)]
    others = [made(index)[1] for index in range(16, 32)]
    values = [
        metric.reduce(rows([spoilt(clip, amount, i) for i, clip in enumerate(others)]), rows(clean))
        for amount in (0.0, 0.5, 1.0)
    ]
    assert values[0] < values[1] < values[2]


# --- the profile ---


@pytest.fixture
def reference(tmp_path: Path) -> Callable[[str], list[str]]:
    def words(suite: str) -> list[str]:
        wanted = "clip_score,desync,av_ib,temporal_flickering"
        return [
            "eval",
            "--model",
            "reference",
            "--suite",
            suite,
            "--limit",
            "2",
            "--metrics",
            wanted,
            "--device",
            "cpu",
        ]

    return words


def test_the_profile_from_clips_to_table(cache: Path, reference: Callable[[str], list[str]]) -> None:
    result = CliRunner().invoke(app, [*reference("clatter-mini"), "--profile", "clatter"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for name in ("clip_score@clatter", "desync@clatter", "av_ib@clatter"):
        assert "valid on clatter* only" in rows[name]
    assert "valid on" not in rows["temporal_flickering"] and "UNVERIFIED" not in result.stdout


def test_the_profile_is_refused_elsewhere(cache: Path, tmp_path: Path, reference: Callable[[str], list[str]]) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "a", "text": "a dog"}))
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4", made(0)[1])
    words = ["eval", "--model", str(tmp_path / "clips"), "--suite", str(tmp_path / "prompts.jsonl")]
    result = CliRunner().invoke(app, [*words, "--metrics", "clip_score", "--profile", "clatter", "--device", "cpu"])
    assert result.exit_code == 2 and "clip_score@clatter is valid on clatter* only" in result.output
    result = CliRunner().invoke(app, ["score", str(tmp_path / "clips" / "a.mp4"), "--metrics", "desync@clatter"])
    assert result.exit_code == 2 and "not on a single clip" in result.output
