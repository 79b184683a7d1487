"""Copies of clips as published pipelines make them: delays, repeated frames, brightness, the same bytes each time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from avbench.clip import Audio, Clip, Video
from avbench.metrics import reencode
from tests.metrics.alignment import synthetic


def clicks(rate: int, channels: int = 1) -> Clip:
    """Two seconds at 25 fps; a click each half second."""
    clip = synthetic(144, 192, frames=50, fps=25, seconds=2.0, rate=rate, channels=channels)
    samples = np.zeros((channels, 2 * rate), dtype=np.float32)
    for start in range(rate // 4, 2 * rate, rate // 2):
        samples[:, start : start + rate // 100] = 0.5 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    return Clip(clip.video, Audio(samples, rate))


def delay(clip: Clip, kind: reencode.Kind) -> float:
    """By how many samples at 16 kHz the sound of a copy lies behind the clip's own."""
    ours, theirs = (reencode.material(clip, one).wave.astype(np.float64) for one in ("none", kind))
    count = min(len(ours), len(theirs))
    spectrum = np.conj(np.fft.rfft(ours[:count], 2 * count)) * np.fft.rfft(theirs[:count], 2 * count)
    return float(np.fft.irfft(spectrum)[:4000].argmax())


@pytest.mark.parametrize(("rate", "late", "more"), [(44100, 401, 1), (16000, 1105, 2)])
def test_an_avi_is_late_and_begins_with_repeated_frames(rate: int, late: int, more: int) -> None:
    clip = clicks(rate)
    assert delay(clip, "avi") == pytest.approx(late, abs=1)
    assert reencode.material(clip, "avi").count == 50 + more


@pytest.mark.parametrize("rate", [44100, 16000])
def test_an_mp4_is_neither(rate: int) -> None:
    clip = clicks(rate, channels=2)
    assert delay(clip, "mp4") == pytest.approx(0, abs=1)
    assert reencode.material(clip, "mp4").count == 50


def test_a_copy_keeps_its_brightness() -> None:
    clip = synthetic(144, 192, frames=5, fps=25, seconds=0.2)
    grey = Clip(Video(np.full((5, 144, 192, 3), 130, np.uint8), np.arange(5) / 25, Fraction(25)), clip.audio)
    for kind in ("avi", "mp4"):
        frames = np.stack(list(reencode.material(grey, kind).frames()))
        assert abs(frames.mean() - 130 - 255 / 219) < 1.0


def test_a_copy_is_the_same_every_time() -> None:
    first, second = (reencode.material(clicks(44100), "avi") for _ in range(2))
    assert np.array_equal(first.wave, second.wave)
    assert all(np.array_equal(a, b) for a, b in zip(first.frames(), second.frames()))


def test_frames_at_a_constant_rate() -> None:
    steady = np.arange(24) * 25 / 24
    assert reencode.at_constant_rate(np.arange(10.0), 1.0).tolist() == list(range(10))
    assert len(reencode.at_constant_rate(steady, 25 / 24)) == 25  # one second of 24 fps
    dense = reencode.at_constant_rate(np.arange(90) * 25 / 30, 25 / 30)  # dropped once 1.1 slots behind
    assert len(dense) == 77 and (np.diff(dense) >= 1).all()


def test_frames_of_a_clip_go_to_25_per_second_by_their_times() -> None:
    clip = synthetic(144, 192, frames=122, fps=24, seconds=5.08)
    found = reencode.material(clip, "none")
    assert found.count == 127 and len(found.wave) // 640 == 127
