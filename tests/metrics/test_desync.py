"""DeSync: its blocks and offsets, the time both streams share, and JavisBench's numbers on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip
from avbench.errors import NotApplicable, SampleError
from avbench.features import Context
from avbench.metric import features
from avbench.metrics import desync
from avbench.metrics.encoders import synchformer
from avbench.registry import metrics
from tests.hashed import close
from tests.metrics.alignment import decode, synthetic
from tests.metrics.synchrony import VALUES, arrays, like, weights

NAMES = ("desync", "desync@javisbench", "desync@av-benchmark")


def one_hot(*classes: int) -> np.ndarray:
    """Logits that are sure of a class in each block."""
    found = np.zeros((len(classes), 21), dtype=np.float32)
    found[np.arange(len(classes)), classes] = 50.0
    return found


# Offsets ------------------------------------------------------------------------------------------------------------


def test_the_grid_of_offsets() -> None:
    assert np.array_equal(desync.GRID, arrays()["synchformer.class_grid"])
    assert np.abs(desync.GRID).mean() == pytest.approx(1.0476191, abs=1e-6)


def test_magnitudes_are_averaged_not_signed_offsets() -> None:
    found = desync.DeSync().score(one_hot(8, 12))  # -0.4 and 0.4 s
    assert found[""] == pytest.approx(0.4) and found["expected"] == pytest.approx(0.4)
    assert found["blocks"] == 2
    assert desync.DeSyncJavisBench().score(one_hot(8, 12)) == pytest.approx(0.4)


def test_the_expected_offset_is_finer_than_the_likeliest() -> None:
    scores = np.full((1, 21), -50.0)
    scores[0, 10], scores[0, 11] = np.log(0.6), np.log(0.4)
    found = desync.DeSync().score(scores)
    assert found[""] == 0.0 and found["expected"] == pytest.approx(0.08)
    assert (found["offset"], found["confidence"]) == (pytest.approx(0.0), pytest.approx(0.6))


def test_knowing_nothing_is_chance() -> None:
    assert desync.DeSync().score(np.zeros((1, 21)))["expected"] == pytest.approx(1.0476191, abs=1e-6)


def test_variants_name_what_they_do_otherwise() -> None:
    for name in NAMES:
        card = metrics.get(name).card
        assert bool(card.differs) == bool(card.protocol)


# Blocks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segments", "starts"),
    [(5, [0]), (11, [0]), (14, [0]), (15, [0, 1]), (24, [0, 10]), (28, [0, 14]), (30, [0, 14, 16])],
)
def test_blocks_cover_every_segment(segments: int, starts: list[int]) -> None:
    assert desync.block_starts(segments) == starts


def numbered(segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Features that say which segment they are of."""
    places = np.arange(segments, dtype=np.float32)[:, None, None]
    return np.broadcast_to(places, (segments, 8, 768)), np.broadcast_to(-places, (segments, 6, 768))


def test_a_short_clip_is_filled_with_its_own_segments() -> None:
    view = metrics.get("desync@javisbench").logits.view
    found = view(None, *numbered(11))
    assert found.shape == (1, 14, 14, 768)
    assert found[0, :, 0, 0].tolist() == [*range(11), 0, 1, 2]
    assert (found[0, :, 8:, 0] == -found[0, :, :1, 0]).all()  # sound stays beside its picture


def test_av_benchmark_looks_at_both_ends() -> None:
    found = metrics.get("desync@av-benchmark").logits.view(None, *numbered(24))
    assert found[:, :, 0, 0].tolist() == [[*range(14)], [*range(10, 24)]]


# What it is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "segments"), [(1.92, 5), (4.0, 11), (5.0, 14), (8.0, 24)])
def test_segments_by_length(seconds: float, segments: int) -> None:
    clip = synthetic(48, 64, frames=round(seconds * 25), fps=25, seconds=seconds)
    assert desync.SharedFrames()(clip).shape == (segments, 16, 224, 224, 3)
    assert desync.SharedSound()(clip).shape == (segments, 10240)


def test_streams_are_compared_by_their_times() -> None:
    """A sound that starts late is judged beside the pictures of its time, not beside the first ones."""
    late = synthetic(48, 64, frames=125, fps=25, seconds=4.0, start=1.0)
    index, wave = desync.shared_span(late)
    assert index.tolist() == list(range(25, 125))
    assert late.audio is not None and np.array_equal(wave, late.audio.samples[0])
    early = Clip(late.video, Audio(late.audio.samples, 16000, -0.2))
    index, wave = desync.shared_span(early)
    assert index.tolist() == list(range(95)) and np.array_equal(wave, late.audio.samples[0, 3200:])


def test_other_rates_come_to_one_clock() -> None:
    for fps, rate in ((24, 48000), (30, 44100), (10, 22050)):
        clip = synthetic(48, 64, frames=4 * fps, fps=fps, rate=rate, channels=2)
        index, wave = desync.shared_span(clip)
        assert (len(index), len(wave)) == (100, 64000)


def test_too_little_in_common() -> None:
    with pytest.raises(NotApplicable, match=r"too_short: picture and sound share 1\.00 s; 1\.92 s are needed"):
        desync.SharedFrames()(synthetic(48, 64, frames=100, fps=25, start=3.0))
    with pytest.raises(NotApplicable, match="no_audio"):
        desync.SharedSound()(Clip(synthetic(48, 64).video, None))
    with pytest.raises(NotApplicable, match="no_video"):
        desync.SharedFrames()(Clip(None, synthetic(48, 64).audio))


def test_javisbench_fills_with_black_and_silence() -> None:
    clip = synthetic(48, 64, frames=75, fps=25, seconds=3.0)
    frames, sound = desync.FirstFrames(4.0, pad=True)(clip), desync.FirstSound(4.0, pad=True)(clip)
    assert len(frames) == len(sound) == 11
    assert not frames[-1, -1].any() and frames[0].any()
    assert not sound[-1, -5120:].any() and sound[0].any()


def test_av_benchmark_needs_eight_seconds() -> None:
    clip = synthetic(48, 64, frames=100, fps=25)
    for view in (desync.FirstFrames(8.0, pad=False), desync.FirstSound(8.0, pad=False)):
        with pytest.raises(SampleError, match="too_short"):
            view(clip)


def test_features_share_the_trunks() -> None:
    """Every protocol asks the same three networks, so equal segments are encoded once."""
    asked = {
        one.encoder.name for name in NAMES for f in features(metrics.get(name)).values() for one in f.view.requires
    }
    assert asked == {"synchformer.video", "synchformer.audio"}


# Real clips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize(("name", "seconds"), [("ovi", 4.0), ("3qes", 8.0)])
def test_segments_of_real_clips(name: str, seconds: float) -> None:
    clip, expected = decode(name), VALUES["desync"][f"{name}:{seconds:g}s"]
    frames = desync.FirstFrames(seconds, pad=True)(clip)
    assert len(frames) == expected["segments"]
    scaled = np.moveaxis((frames.astype(np.float32) / 255 - 0.5) / 0.5, -1, 2)
    assert like(scaled[:, None], expected["segment_video"], 2e-6)
    sound = desync.FirstSound(seconds, pad=True)(clip)
    assert like(synchformer.log_mel(torch.device("cpu"))(torch.from_numpy(sound.copy())).numpy(), expected["mel"], 2e-5)


@pytest.mark.parity
@pytest.mark.heavy
def test_javisbench_on_a_real_clip(tmp_path: Path) -> None:
    """Features of the first segment, logits and value; 11 segments of video, about half a minute of one core."""
    from safetensors.torch import save_file

    clip, golden, expected = decode("ovi"), arrays(), VALUES["desync"]["ovi:4s"]
    save_file(weights("synchformer"), tmp_path / "synchformer.safetensors")
    context = Context(torch.device("cpu"), torch.float32, {"synchformer": tmp_path / "synchformer.safetensors"})
    metric = metrics.get("desync@javisbench")
    with torch.inference_mode():
        trunks = [synchformer.video(context), synchformer.audio(context)]
        views = [torch.from_numpy(feature.view(clip).copy()) for feature in metric.logits.view.requires]
        seen, heard = (torch.cat([trunk(one) for one in items.split(4)]).numpy() for trunk, items in zip(trunks, views))
        assert close(seen[0], golden["desync_vfeat_seg0_ovi_4s"])
        assert close(heard[0], golden["desync_afeat_seg0_ovi_4s"])
        logits = synchformer.head(context)(torch.from_numpy(metric.logits.view(None, seen, heard))).numpy()
    assert close(logits, golden["desync_logits_ovi_4s"])
    assert metric.score(logits) == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.parametrize("clip", ["ovi:4s", "00000:4s", "00000:8s", "3qes:8s"])
def test_values_from_the_reference_logits(clip: str) -> None:
    found = metrics.get("desync@javisbench").score(arrays()[f"desync_logits_{clip.replace(':', '_')}"])
    assert found == pytest.approx(VALUES["desync"][clip]["score"], abs=1e-6)


def test_av_benchmark_mean_from_the_reference_logits() -> None:
    metric = metrics.get("desync@av-benchmark")
    values = [metric.score(arrays()[f"desync_logits_av-benchmark_{name}"]) for name in ("3qes", "ovi")]
    assert np.mean(values) == pytest.approx(VALUES["av_benchmark"]["mean"], abs=1e-6)
