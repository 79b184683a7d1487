"""AV-Align: its arithmetic on made peaks, and parity with the released evaluator on real clips."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avbench.clip import Audio, Video
from avbench.errors import NotApplicable
from avbench.features import Context
from avbench.metrics.av_align import AVAlign, JavisAVAlign, flow_peaks, matched_freely, matched_once
from avbench.metrics.encoders import farneback, onsets

GOLDEN = json.loads((Path(__file__).parent.parent / "goldens" / "av_align.json").read_text())
ALGORITHM = Context(None, None)


def heard(times: list[float], start: float = 0.0, peak: float = 0.5) -> dict[str, np.ndarray]:
    return {"times": np.array(times), "start": np.array([start]), "peak": np.array([peak])}


def seen(peaks: list[int], count: int = 40, fps: float = 10.0) -> dict[str, np.ndarray]:
    flow = np.full(count, 0.2)
    flow[peaks] = 1.0
    return {"flow": flow, "fps": np.array([fps])}


def test_peaks_are_strict_inner_maxima_above_the_floor() -> None:
    flow = np.array([5, 1, 2, 1, 3, 3, 1, 0.05, 0.09, 0.05, 9])
    assert flow_peaks(flow, 1.0).tolist() == [2, 8]
    assert flow_peaks(flow, 2.0, 0.1).tolist() == [1]


def test_intersection_over_union() -> None:
    found = AVAlign().score(seen([5, 15, 30]), heard([0.5, 1.55, 2.0]))
    assert found["matched"] == 2 and found[""] == 2 / (3 + 3 - 2)


def test_a_peak_is_used_once_by_default_and_often_in_javisbench() -> None:
    onsets_near_one_peak = heard([0.45, 0.5, 0.55])
    assert AVAlign().score(seen([5]), onsets_near_one_peak)[""] == 1 / 3
    assert JavisAVAlign().score(seen([5]), onsets_near_one_peak)[""] == pytest.approx(3 / (3 + 1 - 3 + 1e-6))


def test_the_start_offset_of_the_audio_counts() -> None:
    assert AVAlign().score(seen([15]), heard([0.5], start=1.0))[""] == 1.0
    assert JavisAVAlign().score(seen([15]), heard([0.5], start=1.0))[""] == 0.0


def test_silence_and_stillness_are_not_zero() -> None:
    with pytest.raises(NotApplicable, match="silent"):
        AVAlign().score(seen([5]), heard([], peak=0.0))
    with pytest.raises(NotApplicable, match="no_peaks"):
        AVAlign().score(seen([]), heard([]))
    assert AVAlign().score(seen([5]), heard([]))[""] == 0.0
    assert JavisAVAlign().score(seen([]), heard([]))[""] == 0.0


@given(st.lists(st.floats(0, 9), max_size=12), st.lists(st.floats(0, 9), max_size=12))
def test_matching_once_is_bounded_by_both_sides_and_by_matching_freely(audio: list[float], video: list[float]) -> None:
    a, v = np.sort(audio), np.unique(video)
    once = matched_once(a, v, 10.0)
    assert once <= min(len(a), len(v)) and once <= matched_freely(a, v, 10.0)


def test_flow_grows_with_speed_and_is_nothing_for_stillness() -> None:
    import cv2

    texture = np.random.default_rng(0).integers(0, 255, (128, 192), dtype=np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 3)

    def flow(step: int) -> np.ndarray:
        crops = [texture[:, step * i : step * i + 128, None] for i in range(4)]
        frames = np.stack([np.repeat(crop, 3, axis=2) for crop in crops])
        return farneback.load(ALGORITHM)(Video(frames, np.arange(4) / 4, Fraction(4)))["flow"]

    still, slow, fast = flow(0), flow(1), flow(3)
    assert still.shape == (4,) and slow[0] == slow[1]
    assert still.max() < 1e-3 and 0.5 < slow.mean() < 1.5 < fast.mean() < 3.5


def test_one_frame_has_no_flow() -> None:
    with pytest.raises(NotApplicable, match="one_frame"):
        farneback.load(ALGORITHM)(Video(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1), Fraction(4)))


def test_onsets_of_clicks_are_found() -> None:
    samples = np.zeros((1, 32000), np.float32)
    click = (np.exp(-np.arange(3000) / 500) * np.sin(np.arange(3000) * 0.4)).astype(np.float32)
    for time in (0.5, 1.0, 1.6):
        samples[0, int(time * 16000) : int(time * 16000) + 3000] += 0.8 * click
    for load in (onsets.load_native, onsets.load_22050):
        found = load(ALGORITHM)(Audio(samples, 16000))["times"]
        assert all(np.abs(found - time).min() < 0.05 for time in (0.5, 1.0, 1.6)) and len(found) <= 5


@pytest.mark.parity
@pytest.mark.parametrize("name", GOLDEN["clips"])
def test_parity_with_the_released_evaluator(media: Path, name: str) -> None:
    from avbench.media import decode

    golden = GOLDEN["clips"][name]
    clip = decode(media / golden["file"])
    flow = farneback.load(ALGORITHM)(clip.need_video())
    sampled = flow["flow"][np.linspace(0, len(flow["flow"]) - 1, 32).astype(int)]
    assert np.abs(sampled - golden["flow32"]).max() < 1e-5
    assert np.allclose(flow_peaks(flow["flow"], float(flow["fps"][0])), golden["video_peaks"])
    if "score" in golden:
        heard_peaks = onsets.load_native(ALGORITHM)(clip.need_audio())
        assert np.allclose(heard_peaks["times"], golden["audio_peaks"], atol=1e-6)
        assert JavisAVAlign().score(flow, heard_peaks)[""] == pytest.approx(golden["score"], abs=1e-9)
