"""Views: which frames, in which shape; which samples, at which rate. Against tables, FFmpeg, and public evaluators."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench.clip import Audio, Clip, Video
from avbench.errors import MissingResource, NotApplicable, SampleError
from avbench.media import decode
from avbench.views import (
    BLACK,
    KERNELS,
    AllFrames,
    AtFps,
    AudioClips,
    First,
    Fit,
    Frames,
    Letterbox,
    Linspace,
    Middle,
    Native,
    Segments,
    ShortSide,
    Squash,
    Stride,
    StrideToFps,
    Waveform,
    clip_starts,
    frames,
    on_video_time,
    resample,
    resampled_length,
    resized,
)
from tests.media_factory import picture, tones

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "media.json").read_text())
RATES = st.sampled_from([Fraction(n) for n in (1, 8, 10, 12, 16, 24, 25, 30, 60)] + [Fraction(24000, 1001)])


def video_of(count: int, fps: Fraction | int = 25, size: tuple[int, int] = (4, 2)) -> Video:
    """A video whose frame i is filled with i (modulo 256)."""
    pixels = np.zeros((count, size[1], size[0], 3), np.uint8)
    pixels += (np.arange(count) % 256).astype(np.uint8)[:, None, None, None]
    return Video(pixels, np.arange(count) / float(fps), Fraction(fps))


def clip_of(count: int = 12, size: tuple[int, int] = (64, 48)) -> Clip:
    pixels = np.stack([picture(index, *size) for index in range(count)])
    return Clip(Video(pixels, np.arange(count) / 25, Fraction(25)), Audio(tones(2, 16000, count / 25), 16000))


# --- picks ---


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(8, [7, 23, 39, 55]), (16, [15, 47, 79, 111]), (24, [23, 71, 119, 167]), (25, [24, 74, 124, 174]),
     (30, [29, 89, 149, 209])],
)  # fmt: skip
def test_half_a_frame_per_second(fps: int, expected: list[int]) -> None:
    assert AtFps(0.5)(video_of(8 * fps, fps)).tolist() == expected


def test_at_fps_examples() -> None:
    assert AtFps(0.5)(video_of(250)).tolist() == [24, 74, 124, 174, 224]
    assert len(AtFps(0.5)(video_of(175))) == 4 and len(AtFps(0.5)(video_of(174))) == 3
    assert AtFps(25)(video_of(250)).tolist() == list(range(250))
    thirty = AtFps(25)(video_of(240, 30)).tolist()
    assert thirty[:14] == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16] and thirty[-3:] == [236, 238, 239]
    assert len(AtFps(25)(video_of(192, 24))) == 200


def test_at_fps_cuts_and_pads() -> None:
    video = video_of(50)
    assert AtFps(25, 1)(video).tolist() == list(range(25))
    assert AtFps(25, 3, "last")(video).tolist() == [*range(50), *[49] * 25]
    assert AtFps(25, 3, "black")(video).tolist() == [*range(50), *[BLACK] * 25]
    with pytest.raises(SampleError, match=r"video\.too_short: 2\.00 s give 50 frames at 25 fps"):
        AtFps(25, 3)(video)
    with pytest.raises(SampleError, match="too_short"):
        AtFps(0.5)(video_of(1))


def ffmpeg_fps(video: Video, rate: Fraction) -> list[int]:
    """Indices that FFmpeg's own filter gives; times in ticks of 1/90,000 s."""
    graph, base = av.filter.Graph(), Fraction(1, 90000)
    source = graph.add_buffer(width=4, height=2, format="gray", time_base=base)
    last = graph.add("fps", f"fps={rate.numerator}/{rate.denominator}:round=near:start_time=0")
    sink = graph.add("buffersink")
    source.link_to(last)
    last.link_to(sink)
    graph.configure()
    for index, time in enumerate(video.times):
        planes = np.zeros((2, 4), np.uint8)
        planes[0, 0], planes[0, 1] = index % 256, index // 256
        frame = av.VideoFrame.from_ndarray(planes, format="gray")
        frame.pts, frame.time_base = round(time * 90000), base
        frame.duration = round(90000 / video.fps)
        source.push(frame)
    source.push(None)
    found = []
    while True:
        try:
            plane = sink.pull().to_ndarray()
            found.append(int(plane[0, 0]) + 256 * int(plane[0, 1]))
        except (av.error.EOFError, av.error.BlockingIOError):
            return found


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 90), fps=st.sampled_from([Fraction(n) for n in (8, 10, 12, 15, 24, 25, 30, 50)]),
    rate=st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(4), Fraction(8), Fraction(25), Fraction(30)]),
    uneven=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_at_fps_equals_the_filter(count: int, fps: Fraction, rate: Fraction, uneven: bool, seed: int) -> None:
    video = video_of(count, fps)
    if uneven:
        steps = np.random.default_rng(seed).integers(1, 4, count) * 1800  # 20 to 60 ms, in ticks
        video = Video(video.frames, np.concatenate([[0], np.cumsum(steps)[:-1]]) / 90000, fps)
    expected = ffmpeg_fps(video, rate)
    try:
        assert AtFps(rate)(video).tolist() == expected
    except SampleError:
        assert not expected


def test_index_examples() -> None:
    assert Linspace(24)(video_of(102)).tolist() == [
        0, 4, 9, 13, 18, 22, 26, 31, 35, 40, 44, 48, 53, 57, 61, 66, 70, 75, 79, 83, 88, 92, 97, 101,
    ]  # fmt: skip
    assert Linspace(4)(video_of(2)).tolist() == [0, 0, 1, 1] and Linspace(1)(video_of(9)).tolist() == [0]
    assert Linspace(10, distinct=True)(video_of(4)).tolist() == [0, 1, 2, 3]
    assert Middle(8)(video_of(16)).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert Middle(8)(video_of(81)).tolist() == [4, 14, 24, 34, 44, 54, 64, 75]
    assert Middle(8)(video_of(121)).tolist() == [7, 22, 37, 52, 67, 82, 97, 112]
    assert Middle(8)(video_of(3)).tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    segments = Segments(32)(video_of(81)).tolist()
    assert segments[:5] == [1, 3, 6, 9, 11] and segments[-2:] == [76, 79] and len(segments) == 32
    assert First(3)(video_of(9)).tolist() == [0, 1, 2]
    assert Stride(3, start=1, count=2)(video_of(9)).tolist() == [1, 4]


@pytest.mark.parametrize("rule", [First(10), Stride(2, start=9)])
def test_too_few_frames(rule: Callable[[Video], np.ndarray]) -> None:
    with pytest.raises(SampleError, match=r"video\.too_short"):
        rule(video_of(9))


@pytest.mark.parametrize(
    ("fps", "step"),
    [(8, 1), (10, 1), (12, 2), (15, 2), (16, 2), (20, 2), (Fraction(24000, 1001), 3), (24, 3), (25, 3), (28, 4),
     (Fraction(30000, 1001), 4), (30, 4), (36, 4), (50, 6), (60, 8), (4, 1)],
)  # fmt: skip
def test_stride_to_eight_frames_a_second(fps: int | Fraction, step: int) -> None:
    assert StrideToFps(8)(video_of(40, fps)).tolist() == list(range(0, 40, step))


@settings(max_examples=200, deadline=None)
@given(last=st.integers(0, 2000), count=st.integers(1, 100))
def test_linspace_is_that_of_torch(last: int, count: int) -> None:
    import torch

    from avbench.views.picks import linspace32

    assert np.array_equal(np.rint(linspace32(last, count)), torch.linspace(0, last, count).round().numpy())


PICKS = st.one_of(
    st.just(AllFrames()), st.builds(Linspace, st.integers(1, 60), st.booleans()), st.builds(Middle, st.integers(1, 20)),
    st.builds(Segments, st.integers(1, 40)), st.builds(StrideToFps, st.floats(0.5, 60)),
    st.builds(Stride, st.integers(1, 9)), st.builds(AtFps, st.floats(0.2, 60), st.floats(0.5, 9), st.just("last")),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(pick=PICKS, count=st.integers(1, 300), fps=RATES)
def test_picks_are_in_range_and_in_order(pick: Any, count: int, fps: Fraction) -> None:
    video = video_of(count, fps)
    try:
        found = pick(video)
    except SampleError as error:
        assert error.code == "video.too_short" and isinstance(pick, AtFps)
        return
    assert found.ndim == 1 and len(found) and found.min() >= 0 and found.max() < count
    assert (np.diff(found) >= 0).all()
    assert np.array_equal(found, pick(video)), "picks are deterministic"
    wanted = {Linspace: "count", Middle: "count", Segments: "count"}.get(type(pick))
    if wanted and not getattr(pick, "distinct", False):
        assert len(found) == getattr(pick, wanted)
    if isinstance(pick, AtFps):
        assert len(found) == int(Fraction(pick.rate) * Fraction(pick.seconds or 0))


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 200), fps=RATES, rate=st.floats(0.5, 60))
def test_at_fps_is_never_more_than_half_a_slot_late(count: int, fps: Fraction, rate: float) -> None:
    video = video_of(count, fps)
    try:
        found = AtFps(rate)(video)
    except SampleError:
        return
    assert len(found) == pytest.approx(video.seconds * rate, abs=0.5 + 1e-3)
    lateness = np.arange(len(found)) / rate - video.times[found]
    assert lateness.min() >= -0.5 / rate - 1e-5
    assert lateness.max() <= float(1 / fps) + 0.5 / rate + 1e-5


# --- shapes ---


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (224, 398)), ((720, 1280), (398, 224)), ((426, 240), (224, 397)), ((100, 100), (224, 224))],
)
def test_short_side(kernel: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    frame = picture(0, *size)[None]
    whole = ShortSide(224, kernel, crop=None)(frame)
    assert whole.shape == (1, *expected, 3) and whole.dtype == np.uint8
    square = ShortSide(224, kernel)(frame)
    top, left = round((expected[0] - 224) / 2), round((expected[1] - 224) / 2)
    assert np.array_equal(square, whole[:, top : top + 224, left : left + 224])


def test_rounding_of_the_long_side() -> None:
    frame = picture(0, 100, 67)[None]
    sides = {
        long: ShortSide(32, "bilinear-pil", None, long=long)(frame).shape[2] for long in ("floor", "round", "ceil")
    }
    assert sides == {"floor": 47, "round": 48, "ceil": 48}
    assert ShortSide(32, "bilinear-pil", None, long="round")(picture(0, 64, 45)[None]).shape[2] == 46


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (288, 512)), ((704, 1280), (512, 281)), ((480, 854), (512, 287)), ((300, 200), (200, 300))],
)
def test_fit(size: tuple[int, int], expected: tuple[int, int]) -> None:
    frame = picture(0, *size)[None]
    found = Fit(512, "bilinear-torch")(frame)
    assert found.shape == (1, *expected, 3) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    if expected == (200, 300):
        assert np.array_equal(found, frame.astype(np.float32) / np.float32(255))


def test_letterbox() -> None:
    frame = np.full((1, 240, 426, 3), 255, np.uint8)
    box = Letterbox(224)(frame)
    assert box.shape == (1, 224, 224, 3) and box.dtype == np.float32
    assert not box[:, :49].any() and not box[:, 175:].any() and box[:, 49:175].min() > 0.999
    tall = Letterbox(64, "bilinear-pil", "uint8")(frame.transpose(0, 2, 1, 3))
    assert tall.dtype == np.uint8 and tall[0, :, 14].max() == 255 and not tall[0, :, :14].any()


def test_squash_and_native() -> None:
    frame = picture(0, 64, 48)[None]
    assert Squash(10, 20, "bicubic-pil")(frame).shape == (1, 10, 20, 3)
    assert Native()(frame) is frame


def test_kernels_differ_as_they_should() -> None:
    """Antialiasing matters most, float against bytes least; Pillow and torchvision's bytes are near."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 360, 640, 3), dtype=np.uint8)
    found = {name: ShortSide(112, name)(noise).astype(float) for name in KERNELS}
    floats = {
        name: ShortSide(112, name, dtype="float32")(noise) * 255.0 for name in KERNELS if not name.endswith("pil")
    }

    def gap(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(one - other).mean())

    assert gap(found["bicubic-torch"], found["bicubic-torch-antialias"]) > 20
    assert gap(found["bicubic-pil"], found["bicubic-torch-antialias"]) < 0.5
    assert gap(found["bilinear-pil"], found["bilinear-torch-antialias"]) < 0.5
    assert 0.1 < gap(np.clip(floats["bicubic-torch"], 0, 255), found["bicubic-torch"]) < 0.5
    assert floats["bicubic-torch"].min() < -10 and floats["bicubic-torch"].max() > 265, "bicubic floats overshoot"
    with pytest.raises(ValueError, match="bicubic-pil gives uint8"):
        ShortSide(112, "bicubic-pil", dtype="float32")(noise)


def test_kernels_are_those_of_the_libraries() -> None:
    import torch
    from PIL import Image
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    frame = picture(0, 90, 70)
    assert np.array_equal(
        Squash(30, 40, "bicubic-pil")(frame[None])[0], np.asarray(Image.fromarray(frame).resize((40, 30), 3))
    )
    x = torch.from_numpy(frame).permute(2, 0, 1)[None]
    expected = resize(x, [30, 40], InterpolationMode.BICUBIC, antialias=True)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(Squash(30, 40, "bicubic-torch-antialias")(frame[None])[0], expected)
    plain = torch.nn.functional.interpolate(x.float() / 255, size=(30, 40), mode="bilinear", align_corners=False)
    found = Squash(30, 40, "bilinear-torch", "float32")(frame[None])[0]
    assert np.allclose(found, plain[0].permute(1, 2, 0).numpy(), atol=1e-6)


# --- frames of a clip ---


class Counting:
    """A shape that counts the frames it is given."""

    def __init__(self, shape: Any) -> None:
        self.shape, self.given = shape, 0

    def __call__(self, given_: np.ndarray) -> np.ndarray:
        self.given += len(given_)
        return self.shape(given_)


def test_frames() -> None:
    clip = clip_of(12)
    whole = clip.need_video().frames
    assert Frames()(clip) is whole
    shape = ShortSide(32, "bicubic-pil")
    assert np.array_equal(Frames(Linspace(5), shape)(clip), shape(whole[[0, 3, 6, 8, 11]]))
    assert Frames(Linspace(5), shape, together=True)(clip).shape == (1, 5, 32, 32, 3)
    padded = Frames(AtFps(25, 1, "black"), shape)(clip)
    assert len(padded) == 25 and np.array_equal(padded[:12], shape(whole)) and not padded[12:].any()
    with pytest.raises(NotApplicable, match="no_video"):
        Frames()(Clip(audio=clip.audio))


def test_a_frame_is_resized_once_for_all_views() -> None:
    clip, shape = clip_of(12), Counting(ShortSide(32, "bicubic-pil"))
    Frames(Linspace(5), shape)(clip)
    assert shape.given == 5
    Frames(AllFrames(), shape)(clip)
    Frames(Stride(2), shape)(clip)
    Frames(Linspace(40), shape)(clip)
    assert shape.given == 12
    other = Counting(ShortSide(32, "bicubic-pil"))
    Frames(First(3), other)(clip)
    assert other.given == 3, "another shape has its own frames"
    Frames(First(3), shape)(clip_of(12))
    assert shape.given == 15, "another clip too"


def test_kept_frames_go_with_the_clip_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before, clip, shape = len(frames.kept), clip_of(12), Counting(ShortSide(32, "bicubic-pil"))
    monkeypatch.setattr(frames, "CACHE_BYTES", 4 * 32 * 32 * 3)
    first = Frames(AllFrames(), shape)(clip)
    assert frames.kept[clip.need_video()].bytes == 4 * 32 * 32 * 3
    assert np.array_equal(Frames(AllFrames(), shape)(clip), first) and shape.given == 12 + 8
    assert len(frames.kept) == before + 1
    del clip
    gc.collect()
    assert len(frames.kept) == before


def test_threads_share_a_frame() -> None:
    from concurrent.futures import ThreadPoolExecutor

    clip, shape = clip_of(12), Counting(ShortSide(32, "bicubic-pil"))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda count: Frames(Linspace(count), shape)(clip), [12] * 8))
    assert shape.given == 12 and all(np.array_equal(one, found[0]) for one in found)


def test_views_have_stable_keys() -> None:
    one = Frames(AtFps(25, seconds=8), ShortSide(224, "bicubic-pil"))
    assert one.key == Frames(AtFps(25, 8), ShortSide(224, "bicubic-pil", "center")).key
    assert one.key != Frames(AtFps(25, seconds=4), ShortSide(224, "bicubic-pil")).key
    assert hash(one) == hash(Frames(AtFps(25, 8), ShortSide(224, "bicubic-pil")))
    assert Waveform(16000).media == {"audio"} and one.media == {"video"}
    assert "0x" not in one.key + Waveform().key + AudioClips().key


# --- sound ---


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 30_000), rate=st.sampled_from([8000, 11025, 16000, 22050, 24000, 44100, 48000]),
    to=st.sampled_from([8000, 16000, 22050, 24000, 32000, 44100, 48000]), channels=st.integers(1, 3),
)  # fmt: skip
def test_resampled_length_formula(samples: int, rate: int, to: int, channels: int) -> None:
    given_ = np.zeros((channels, samples), np.float32)
    found = resample(given_, rate, to)
    assert found.shape == (channels, resampled_length(samples, rate, to)) and found.dtype == np.float32
    assert resampled_length(samples, rate, to) == ceil(Fraction(samples * to, rate))
    assert resample(given_[0], rate, to).shape == found.shape[1:]
    assert resample(given_, rate, to, "soxr_hq").shape[1] == ceil(samples * (to / rate))


@pytest.mark.parametrize("resampler", ["sinc-hann-6", "soxr_hq"])
@pytest.mark.parametrize(("rate", "to"), [(44100, 16000), (16000, 48000), (48000, 44100), (8000, 16000)])
def test_a_tone_stays_a_tone(resampler: Any, rate: int, to: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    found = resample(tone, rate, to, resampler)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / to)
    assert np.abs(found - expected)[to // 20 : -to // 20].max() < 2e-3


def test_sinc_equals_its_formula() -> None:
    """The windowed sinc of 4.2 in the specification, summed in float64."""
    rate, to = 3, 2
    x = np.random.default_rng(0).standard_normal(40)
    cutoff = 0.99 * min(rate, to)
    width = ceil(6 * rate / cutoff)
    padded = np.pad(x, (width, width + rate))
    expected = []
    for n in range(ceil(to * len(x) / rate)):
        phase, block = n % to, n // to
        taps = np.arange(-width, width + rate)
        t = np.clip(cutoff * (taps / rate - phase / to), -6, 6)
        kernel = np.sinc(t) * np.cos(np.pi * t / 12) ** 2 * cutoff / rate
        expected.append(kernel @ padded[block * rate : block * rate + len(taps)])
    assert np.allclose(resample(x.astype(np.float32), rate, to), expected, atol=2e-6)


def test_soxr_is_that_of_librosa() -> None:
    import librosa

    sound = tones(2, 44100, 0.7)
    for channel, found in zip(sound, resample(sound, 44100, 16000, "soxr_hq")):
        assert np.array_equal(found, librosa.resample(channel, orig_sr=44100, target_sr=16000, res_type="soxr_hq"))


def test_kaiser_best_says_what_to_install() -> None:
    try:
        import resampy  # noqa: F401
    except ImportError:
        with pytest.raises(MissingResource, match="pip install resampy"):
            resample(np.zeros(10, np.float32), 44100, 16000, "kaiser_best")
    else:
        assert len(resample(np.zeros(441, np.float32), 44100, 16000, "kaiser_best")) == 160


def test_waveform() -> None:
    left, right = tones(2, 16000, 1.0)
    clip = Clip(audio=Audio(np.stack([left, right]), 16000))
    assert np.array_equal(Waveform()(clip)[0], (left + right) / 2)
    assert np.array_equal(Waveform(channels="first")(clip)[0], left)
    assert Waveform(channels="all")(clip).shape == (1, 2, 16000)
    assert Waveform(8000)(clip).shape == (1, 8000) and Waveform(None)(clip).shape == (1, 16000)
    assert Waveform(seconds=0.25)(clip).shape == (1, 4000)
    assert np.array_equal(Waveform(seconds=0.25, start=0.5, channels="first")(clip)[0], left[8000:12000])
    assert Waveform(seconds=2.0)(clip).shape == (1, 16000)
    padded = Waveform(seconds=2.0, pad="zero")(clip)
    assert padded.shape == (1, 32000) and not padded[0, 16000:].any()
    for late in (Waveform(seconds=2.0, pad="error"), Waveform(start=1.0)):
        with pytest.raises(SampleError, match=r"audio\.too_short"):
            late(clip)
    with pytest.raises(NotApplicable, match="no_audio"):
        Waveform()(Clip(video_of(3)))


@pytest.mark.parametrize(("start", "expected"), [(0.5, [0.0] * 4 + [1, 2, 3]), (-0.25, [3]), (0.0, [1, 2, 3])])
def test_sound_on_the_time_of_the_video(start: float, expected: list[float]) -> None:
    audio = Audio(np.array([[1, 2, 3]], np.float32), 8, start)
    assert on_video_time(audio)[0].tolist() == expected
    clip = Clip(audio=audio)
    assert Waveform(None, video_time=True)(clip)[0].tolist() == expected
    assert Waveform(None)(clip)[0].tolist() == [1, 2, 3]


def test_clip_starts() -> None:
    assert clip_starts(4, 2, 3) == [0, 1, 2]
    assert clip_starts(4, 2, 5) == [0, Fraction(1, 2), 1, Fraction(3, 2), 2]
    assert clip_starts(1.5, 2, 3) == [0, 0, 0] and clip_starts(9, 2, 1) == [0]


@settings(max_examples=200, deadline=None)
@given(
    duration=st.fractions(Fraction(1, 10), 60, max_denominator=48000),
    seconds=st.fractions(Fraction(1, 10), 10, max_denominator=100), count=st.integers(2, 20),
)  # fmt: skip
def test_windows_cover_the_clip(duration: Fraction, seconds: Fraction, count: int) -> None:
    starts = clip_starts(duration, seconds, count)
    assert len(starts) == count and starts[0] == 0 and starts == sorted(starts)
    if duration > seconds:
        assert starts[-1] + seconds == duration
        assert len({later - earlier for earlier, later in pairwise(starts)}) == 1
    else:
        assert set(starts) == {0}


def test_audio_clips() -> None:
    clip = Clip(audio=Audio(np.arange(64000, dtype=np.float32)[None] / 64000, 16000))
    found = AudioClips(3, 2.0)(clip)
    assert found.shape == (3, 32000) and (found[:, 0] * 64000).round().tolist() == [0, 16000, 32000]
    short = AudioClips(3, 2.0)(Clip(audio=Audio(np.ones((1, 8000), np.float32), 16000)))
    assert short.shape == (3, 8000)


# --- what public evaluators hand to their networks ---

CLIP_MEAN, CLIP_STD = np.float32([0.48145466, 0.4578275, 0.40821073]), np.float32([0.26862954, 0.26130258, 0.27577711])
DINO_MEAN, DINO_STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
PIL, SMOOTH = ShortSide(224, "bicubic-pil"), ShortSide(224, "bicubic-torch-antialias")


def first(found: np.ndarray, mean: Any = CLIP_MEAN, std: Any = CLIP_STD) -> np.ndarray:
    """Normalised, channels before rows: [n, 3, h, w]."""
    x = found.astype(np.float32) / np.float32(255) if found.dtype == np.uint8 else found
    return np.moveaxis((x - np.float32(mean)) / np.float32(std), -1, 1)


def javisbench_fvd(clip: Clip) -> np.ndarray:
    x = Frames(Linspace(24), Letterbox(224))(clip)
    return np.moveaxis(np.clip((x + np.float32(1)) * np.float32(127.5), 0, 255).astype(np.uint8), -1, 1)


def desync(seconds: int) -> Callable[[Clip], np.ndarray]:
    return lambda clip: first(Frames(AtFps(25, seconds, "black"), SMOOTH)(clip), 0.5, 0.5)


def three_crops(x: np.ndarray) -> list[np.ndarray]:
    slack = x.shape[3] - 224
    return [x[..., at : at + 224] for at in (0, ceil(slack / 2), slack)]


def neighbours(clip: Clip) -> np.ndarray:
    x = first(Frames(AtFps(0.5, 8), ShortSide(224, "bicubic-torch-antialias", crop=None))(clip))
    return np.stack([crop[t : t + 2].swapaxes(0, 1) for t in range(3) for crop in three_crops(x)])[None]


def imagebind_pairs(clip: Clip) -> np.ndarray:
    pairs = [[0, 49], [19, 68], [38, 87], [57, 106], [75, 124]]
    shape = ShortSide(224, "bilinear-torch", crop=None, dtype="float32")
    small = [first(resized(clip.need_video(), shape, pair)) for pair in pairs]
    return np.stack([crop.swapaxes(0, 1) for pair in small for crop in three_crops(pair)])


def flicker(clip: Clip) -> np.ndarray:
    pixels = Frames()(clip)
    return np.array([np.abs(b.astype(np.float32) - a).mean() for a, b in pairwise(pixels)])


def as_wav(clip: Clip) -> Audio:
    """The sound after a 16-bit wav file, which these evaluators read."""
    audio = clip.need_audio()
    samples = np.clip(np.rint(audio.samples * 32768), -32768, 32767) / 32768
    return Audio(samples.astype(np.float32), audio.rate)


def librosa_load(rate: int, seconds: float | None) -> Callable[[Clip], np.ndarray]:
    return lambda clip: Waveform(rate, resampler="soxr_hq", seconds=seconds)(Clip(audio=as_wav(clip)))


def panns(clip: Clip) -> np.ndarray:
    audio = as_wav(clip)
    centred = audio.mono - audio.mono.mean(dtype=np.float32)
    return Waveform(16000, seconds=8)(Clip(audio=Audio(centred[None], audio.rate)))


RECIPES: dict[str, Callable[[Clip], np.ndarray]] = {
    "javisbench fvd": javisbench_fvd,
    "javisbench clip": lambda clip: first(Frames(Linspace(48), PIL)(clip)[..., ::-1]),
    "javisbench desync 4s": desync(4),
    "javisbench desync 8s": desync(8),
    "javisbench avh": lambda clip: first(Frames(AllFrames(), PIL)(clip)),
    "av-benchmark imagebind": neighbours,
    "imagebind pairs": imagebind_pairs,
    "vbench viclip": lambda clip: first(Frames(Middle(8), ShortSide(224, "bicubic-torch"))(clip))[None],
    "vbench background": lambda clip: first(
        Frames(AllFrames(), ShortSide(224, "bicubic-torch", dtype="float32"))(clip)
    ),
    "vbench subject first": lambda clip: first(
        Frames(First(1), ShortSide(224, "bilinear-torch", crop=None, dtype="float32"))(clip), DINO_MEAN, DINO_STD
    ),
    "vbench flicker": flicker,
    "librosa 16000 4s": librosa_load(16000, 4.0),
    "librosa 48000": librosa_load(48000, None),
    "av-benchmark panns": panns,
}


@lru_cache(maxsize=1)
def real_clip(path: Path) -> Clip:
    return decode(path)


@pytest.mark.parity
@pytest.mark.parametrize("name", GOLDENS["clips"])
def test_real_clips_give_what_public_evaluators_use(media: Path, name: str) -> None:
    clip = real_clip(media / GOLDENS["clips"][name])
    picks = {"linspace 24": Linspace(24), "linspace 48": Linspace(48), "middle 8": Middle(8)}
    for rule, expected in GOLDENS["indices"].items():
        if name in expected:
            assert picks[rule](clip.need_video()).tolist() == expected[name], rule
    for golden in GOLDENS["tensors"]:
        if golden["clip"] == name:
            assert_summary(RECIPES[golden["recipe"]](clip), golden)


def assert_summary(found: np.ndarray, golden: dict[str, Any]) -> None:
    """Shape, moments, extremes and 32 values of a tensor."""
    assert list(found.shape) == golden["shape"], golden["recipe"]
    flat = found.reshape(-1).astype(np.float64)
    assert flat.mean() == pytest.approx(golden["mean"], abs=1e-6), golden["recipe"]
    assert flat.std() == pytest.approx(golden["std"], abs=1e-6), golden["recipe"]
    assert (flat.min(), flat.max()) == pytest.approx((golden["min"], golden["max"]), abs=5e-6), golden["recipe"]
    values = flat[np.linspace(0, flat.size - 1, 32).astype(int)]
    assert values == pytest.approx(np.array(golden["sample32"]), abs=5e-6), golden["recipe"]
