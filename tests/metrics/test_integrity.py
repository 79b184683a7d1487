"""Integrity: each defect is measured and judged, sound clips pass."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from avbench.clip import Audio, Clip, Video
from avbench.features import Context
from avbench.metrics.encoders.integrity import load
from avbench.metrics.integrity import LIMITS, Integrity
from tests.conftest import bouncing


def judge(clip: Clip) -> dict[str, float]:
    return Integrity().score(load(Context(None, None))(clip))


def with_samples(samples: np.ndarray, rate: int = 16000) -> Clip:
    return Clip(None, Audio(np.atleast_2d(samples).astype(np.float32), rate))


def test_a_sound_clip_passes() -> None:
    found = judge(bouncing())
    assert found[""] == 1.0 and found["defects"] == 0 and found["gap"] == 0


def test_black_frames() -> None:
    clip = bouncing()
    black = replace(clip.need_video(), frames=np.zeros_like(clip.need_video().frames))
    found = judge(replace(clip, video=black))
    assert found["black"] == 1.0 and found[""] == 0.0


def test_frozen_and_duplicated_frames() -> None:
    video = bouncing().need_video()
    held = np.repeat(video.frames[:1], 12, axis=0)
    found = judge(Clip(Video(held, video.times, video.fps)))
    assert found["duplicated"] == 1.0 and found["frozen"] == pytest.approx(11 / 12) and found[""] == 0.0
    noise = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
    half = np.repeat(noise, 2, axis=0)
    assert judge(Clip(Video(half, video.times, video.fps)))["duplicated"] == pytest.approx(6 / 11)


def test_silence_clipping_and_dc() -> None:
    tone = np.sin(np.arange(16000) * 0.3)
    assert judge(with_samples(np.zeros(16000)))["silence"] == 1.0
    assert "loudness" not in judge(with_samples(np.zeros(16000)))
    clipped = judge(with_samples(np.clip(3 * tone, -1, 1)))
    assert clipped["clipping"] > 0.3 and clipped[""] == 0.0
    assert judge(with_samples(0.9 * tone))["clipping"] == 0.0
    lifted = judge(with_samples(0.5 * tone + 0.1))
    assert lifted["dc"] == pytest.approx(0.1, abs=1e-3) and lifted[""] == 0.0


def test_loudness_of_the_standard_tone() -> None:
    # ITU-R BS.1770-4: a 997 Hz sine at 0 dBFS in one channel reads -3.01 LKFS
    tone = np.sin(2 * np.pi * 997 * np.arange(5 * 48000) / 48000)
    assert judge(with_samples(tone * 0.999, 48000))["loudness"] == pytest.approx(-3.01, abs=0.1)


def test_streams_of_different_length_or_start() -> None:
    clip = bouncing(seconds=2.0)
    short = replace(clip, audio=Audio(clip.need_audio().samples[:, :8000], 8000))
    assert judge(short)["gap"] == pytest.approx(1.0) and judge(short)[""] == 0.0
    late = replace(clip, audio=Audio(clip.need_audio().samples, 8000, start=0.4))
    assert judge(late)["gap"] == pytest.approx(0.4)


def test_missing_streams_are_not_judged() -> None:
    clip = bouncing()
    assert set(judge(replace(clip, audio=None))) == {"", "black", "duplicated", "frozen", "defects"}
    assert "black" not in judge(replace(clip, video=None))
    assert judge(Clip(Video(clip.need_video().frames[:1], np.zeros(1), Fraction(12))))[""] == 1.0
    assert judge(with_samples(np.zeros(3)))["silence"] == 1.0


def test_all_limits_name_measurements() -> None:
    assert set(LIMITS) <= set(judge(bouncing()))
