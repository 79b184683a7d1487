"""Writing clips: what is written is what is decoded, at the same moments."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench import encode
from avbench.clip import Audio, Clip, Video
from avbench.encode import ERRORS, write_clip
from avbench.errors import SampleError
from avbench.media import decode
from tests.conftest import bouncing
from tests.media_factory import picture, tones


def clip_of(
    frames: int = 25, size: tuple[int, int] = (64, 48), fps: Fraction = Fraction(25), rate: int = 16000,
    channels: int = 1, start: float = 0.0, first: float = 0.0,
) -> Clip:  # fmt: skip
    """A small sounding clip."""
    pixels = np.stack([picture(index, *size) for index in range(frames)])
    times = first + np.arange(frames) / float(fps)
    return Clip(Video(pixels, times, fps), Audio(tones(channels, rate, float(frames / fps)), rate, start))


def clicks(rate: int, seconds: float = 1.0) -> np.ndarray:
    """Noise bursts at uneven intervals, so that a lag has one answer: float32 [1, N]."""
    rng = np.random.default_rng(3)
    t = np.arange(round(rate * seconds)) / rate
    envelope = sum(np.exp(-(((t - at) / 0.01) ** 2)) for at in (0.11, 0.27, 0.35, 0.62, 0.88))
    slow = np.convolve(rng.standard_normal(len(t)), np.ones(8) / 8, "same")
    return (0.5 * envelope * slow)[None].astype(np.float32)


def lag(found: Audio, given: Audio) -> float:
    """Seconds by which the found audio is late, from the cross-correlation, with both starts."""
    a, b = found.samples[0], given.samples[0]
    size = 1 << (len(a) + len(b)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    shift = int(correlation.argmax())
    return (shift - size if shift > size // 2 else shift) / given.rate + found.start - given.start


# --- without loss ---


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(2, 70), st.integers(2, 70)), frames=st.integers(1, 12),
    fps=st.sampled_from([Fraction(25), Fraction(24), Fraction(24000, 1001), Fraction(8), Fraction(10009, 1000)]),
    channels=st.integers(1, 6), rate=st.sampled_from([8000, 10000, 16000, 44100, 48000]),
)  # fmt: skip
def test_lossless_is_bit_exact(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, size: tuple[int, int], frames: int, fps: Fraction,
    channels: int, rate: int,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("lossless") / f"a{suffix}"
    rng = np.random.default_rng(frames)
    pixels = rng.integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    samples = rng.standard_normal((channels, max(1, round(rate * frames / float(fps))))).astype(np.float32)
    write_clip(path, Clip(Video(pixels, np.arange(frames) / float(fps), fps), Audio(samples, rate)), lossless=True)
    found = decode(path)
    assert np.array_equal(found.need_video().frames, pixels)
    assert np.array_equal(found.need_audio().samples, samples)
    assert found.need_video().fps == fps and found.need_audio().rate == rate and found.need_audio().start == 0
    assert found.need_video().times == pytest.approx(np.arange(frames) / float(fps), abs=6e-4)  # Matroska: 1 ms


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start", [-0.2, 0.0, 0.123])
def test_lossless_keeps_the_offset(tmp_path: Path, suffix: str, start: float) -> None:
    clip = clip_of(start=start)
    write_clip(tmp_path / f"a{suffix}", clip, lossless=True)
    found = decode(tmp_path / f"a{suffix}").need_audio()
    assert found.start == pytest.approx(start, abs=6e-4)
    assert np.array_equal(found.samples, clip.need_audio().samples)


# --- with loss ---


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("start", [-0.2, 0.0, 0.3])
def test_aac_is_aligned(tmp_path: Path, rate: int, start: float) -> None:
    given_ = Audio(clicks(rate), rate, start)
    write_clip(tmp_path / "a.mp4", replace(clip_of(), audio=given_))
    found = decode(tmp_path / "a.mp4").need_audio()
    assert found.rate == rate
    assert abs(lag(found, given_)) < 1e-3
    assert found.seconds == pytest.approx(given_.seconds, abs=2048 / rate + 1e-6)


def test_aac_of_an_unusual_rate(tmp_path: Path) -> None:
    given_ = Audio(clicks(10000), 10000)
    write_clip(tmp_path / "a.mp4", replace(clip_of(), audio=given_))
    found = decode(tmp_path / "a.mp4").need_audio()
    assert found.rate == 11025 and found.seconds == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_stay_where_they_are(tmp_path: Path, channels: int) -> None:
    clip = clip_of(frames=50, rate=48000, channels=channels)
    write_clip(tmp_path / "a.mp4", clip, audio_bitrate=64000 * channels)
    found = decode(tmp_path / "a.mp4").need_audio().samples[:, :96000]
    given_ = clip.need_audio().samples
    for channel in range(channels):
        if channel == 3 and channels == 6:
            continue  # the low-frequency channel, which AAC cuts to 120 Hz
        likeness = [np.corrcoef(found[channel], one)[0, 1] for one in given_]
        assert int(np.argmax(likeness)) == channel and likeness[channel] > 0.95


def test_h264_is_near_and_within_its_crf(tmp_path: Path) -> None:
    clip = clip_of()
    errors = []
    for crf in (12, 18, 35):
        write_clip(tmp_path / "a.mp4", clip, crf=crf)
        found = decode(tmp_path / "a.mp4")
        errors.append(float(np.abs(found.need_video().frames.astype(int) - clip.need_video().frames).mean()))
    assert errors[0] < errors[1] < errors[2] and errors[1] < 4
    assert found.info["pixel_format"] == "yuv420p" and found.info["color_space"] == 6


def test_odd_sizes_repeat_the_edge(tmp_path: Path) -> None:
    clip = clip_of(size=(63, 47))
    write_clip(tmp_path / "a.mp4", clip, crf=5)
    frames = decode(tmp_path / "a.mp4").need_video().frames
    assert frames.shape[1:3] == (48, 64)
    assert np.abs(frames[:, :47, :63].astype(int) - clip.need_video().frames).mean() < 4


@pytest.mark.parametrize("lossless", [False, True])
def test_uneven_times_are_kept(tmp_path: Path, lossless: bool) -> None:
    times = np.cumsum([0.0, 0.04, 0.02, 0.1, 0.03, 0.04, 0.09])
    clip = clip_of(frames=7)
    uneven = replace(clip, video=replace(clip.need_video(), times=times))
    write_clip(tmp_path / "a.mp4", uneven, lossless=lossless)
    found = decode(tmp_path / "a.mp4")
    assert found.need_video().times == pytest.approx(times, abs=1.2e-5)
    assert found.info["vfr"]


def test_a_video_that_begins_late(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", clip_of(first=0.5), lossless=True)
    found = decode(tmp_path / "a.mp4")
    assert found.need_video().times[0] == 0 and found.need_audio().start == pytest.approx(-0.5, abs=1e-4)


# --- files ---


def test_streams_that_are_not_there(tmp_path: Path) -> None:
    clip = clip_of()
    for name, one in (("silent", replace(clip, audio=None)), ("blind", replace(clip, video=None))):
        write_clip(tmp_path / f"{name}.mp4", one)
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert (len(container.streams.video), len(container.streams.audio)) == (
                one.video is not None, one.audio is not None,
            )  # fmt: skip
        decode(tmp_path / f"{name}.mp4")


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("size", [(64, 48), (320, 180)])
def test_equal_clips_give_equal_bytes(tmp_path: Path, suffix: str, lossless: bool, size: tuple[int, int]) -> None:
    rng, written = np.random.default_rng(), set()
    for _ in range(6):
        stray = [rng.bytes(int(rng.integers(1000, 300_000))) for _ in range(40)][::2]  # other memory in every round
        write_clip(tmp_path / f"a{suffix}", clip_of(channels=2, rate=44100, size=size), lossless=lossless)
        written.add((tmp_path / f"a{suffix}").read_bytes())
        del stray
    assert len(written) == 1


def test_one_frame_and_few_samples(tmp_path: Path) -> None:
    clip = clip_of(frames=1, fps=Fraction(5))
    write_clip(tmp_path / "a.mp4", clip)
    found = decode(tmp_path / "a.mp4")
    assert len(found.need_video().frames) == 1 and found.need_video().fps == 5
    assert found.need_audio().seconds == pytest.approx(0.2, abs=0.07)


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import avbench.encode

    path = tmp_path / "a.mp4"
    write_clip(path, clip_of())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(avbench.encode, "audio_frames", full)
    with pytest.raises(OSError, match="No space left"):
        write_clip(path, clip_of(frames=3))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error() -> None:
    from avbench.encode import checked_video, write_streams

    video = checked_video(clip_of(frames=50).video)
    with pytest.raises(OSError, match="No space left"), av.open("/dev/full", "w", format="matroska") as container:
        write_streams(container, video, None, True, 18, 192000, "ultrafast")


def broken_clips() -> dict[str, Clip]:
    clip = clip_of(frames=3)
    video, audio = clip.need_video(), clip.need_audio()
    bad = {
        "encode.empty": [Clip()],
        "encode.bad_frames": [
            replace(clip, video=replace(video, frames=video.frames.astype(np.float32))),
            replace(clip, video=replace(video, frames=video.frames[:0], times=video.times[:0])),
            replace(clip, video=replace(video, frames=video.frames[..., :1])),
            replace(clip, video=replace(video, times=video.times[::-1])),
            replace(clip, video=replace(video, times=video.times[:2])),
            replace(clip, video=replace(video, fps=Fraction(0))),
        ],
        "encode.bad_samples": [
            replace(clip, audio=replace(audio, samples=audio.samples[0])),
            replace(clip, audio=replace(audio, samples=audio.samples[:, :0])),
            replace(clip, audio=replace(audio, samples=np.full_like(audio.samples, np.nan))),
            replace(clip, audio=replace(audio, samples=np.zeros((7, 100), np.float32))),
            replace(clip, audio=replace(audio, samples=np.zeros((1, 100), np.int16))),
        ],
    }
    assert set(bad) == set(ERRORS)
    return {f"{code}-{index}": one for code, clips in bad.items() for index, one in enumerate(clips)}


@pytest.mark.parametrize("name", broken_clips())
def test_a_broken_clip_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SampleError) as caught:
        write_clip(tmp_path / "a.mp4", broken_clips()[name])
    assert caught.value.code == name.rsplit("-", 1)[0]
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_place_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that share a folder have equal process ids: the second writes while the first is at it."""
    path, real = tmp_path / "c.mp4", encode.write_streams

    def interrupted(*arguments: object) -> None:
        monkeypatch.setattr(encode, "write_streams", real)
        write_clip(path, bouncing(1))
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "write_streams", interrupted)
    write_clip(path, bouncing(0))
    whole = tmp_path / "whole.mp4"
    write_clip(whole, bouncing(0))
    assert path.read_bytes() == whole.read_bytes() and sorted(tmp_path.iterdir()) == [path, whole]
