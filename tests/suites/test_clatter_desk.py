"""`clatter-desk`: twins side by side, pictures as the reference models show theirs, truth in pixels as shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from avbench.reference_models.codecs import Pixels
from avbench.suite import Suite, load_suite
from avbench.suites.clatter import DESK, frames, scene


@pytest.fixture(scope="module")
def mini() -> Suite:
    return load_suite("clatter-desk-mini")


def test_each_scene_comes_twice_and_mini_is_the_beginning(mini: Suite) -> None:
    suite = load_suite("clatter-desk")
    assert len(suite.samples) == 512
    assert suite.limit(64).samples == mini.samples
    assert Counter(tag for s in suite.samples for tag in s.tags) == {
        "av-tight": 256, "av-loose": 256, "bounce": 172, "stick": 170, "collide": 170,
    }  # fmt: skip
    for tight, loose in zip(suite.samples[::2], suite.samples[1::2]):
        assert tight.extra["scene"] == loose.extra["scene"]
        assert tight.extra["truth"]["tracks"] == loose.extra["truth"]["tracks"]
        assert (tight.video_text, tight.tags[1]) == (loose.video_text, loose.tags[1])
        assert tight.audio_text != loose.audio_text
        assert tight.extra["truth"]["onsets"]
        assert loose.extra["truth"]["onsets"] == []
    assert {s.extra["split"] for s in suite.samples} == {"test"}  # trainings use "train" and "valid"


def test_twins_differ_in_sound_alone(mini: Suite) -> None:
    assert mini.render is not None
    for tight, loose in zip(mini.samples[:6:2], mini.samples[1:6:2]):
        one, other = mini.render(tight), mini.render(loose)
        np.testing.assert_array_equal(one.need_video().frames, other.need_video().frames)
        assert np.abs(one.need_audio().samples - other.need_audio().samples).max() > 0.05
        assert one.need_audio().samples.shape == (1, 16000)


def test_pictures_are_shown_as_the_pixel_codec_shows_them(mini: Suite) -> None:
    assert mini.render is not None
    codec = Pixels()
    for sample in mini.samples[:6]:
        video = mini.render(sample).need_video()
        np.testing.assert_array_equal(codec.decode(codec.encode(video)).frames, video.frames)
        small = frames(scene("test", sample.extra["scene"], DESK))
        np.testing.assert_array_equal(video.frames[:, ::8, ::8, :1], small)


def test_truth_is_in_pixels_as_shown(mini: Suite) -> None:
    """What differs from the empty scene is the ball: its centre of mass is where the truth says, to a tenth square."""
    assert mini.render is not None
    for sample in [s for s in mini.samples if "bounce" in s.tags][::2]:
        pictures = mini.render(sample).need_video().frames[..., 0].astype(float)
        what = scene("test", sample.extra["scene"], DESK)
        empty = frames(replace(what, stage=replace(what.stage, actors=())))[..., 0].repeat(8, axis=1).repeat(8, axis=2)
        mass = np.abs(pictures - empty)
        y, x = np.mgrid[:128, :128]
        total = mass.sum(axis=(1, 2))
        centre = np.stack([(mass * x).sum(axis=(1, 2)), (mass * y).sum(axis=(1, 2))], 1) / total[:, None]
        path = np.array(sample.extra["truth"]["tracks"]["ball"]["pixels"])
        whole = (path > 16).all(axis=1) & (path < 112).all(axis=1)
        assert np.median(np.abs(centre - path)[whole]) < 0.8, sample.id
