"""Decoding: what players and OpenCV show, exact times, and an error for whatever is not whole."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import cv2
import numpy as np
import pytest

from avbench.errors import NotApplicable, SampleError
from avbench.media import DECODER, ERRORS, decode, probe
from tests.media_factory import damaged, picture, tones, truncated, vfr, write

SMALL = ("00000", "00041", "lowres_10fps_mono", "vggsound_3qesirWAGt4", "silent_videophy_apple")


def code_of(path: Path, *arguments: Any) -> str:
    """The error code that decoding a file ends with."""
    with pytest.raises(SampleError) as caught:
        decode(path, *arguments)
    assert caught.value.code in ERRORS
    assert caught.value.status == "failed"
    assert path.name in caught.value.detail
    return caught.value.code


def differs_from_opencv(path: Path) -> int:
    """The largest difference of any pixel from `cv2.VideoCapture`, over all frames."""
    video = decode(path).need_video()
    capture, worst = cv2.VideoCapture(str(path)), 0
    for frame in video.frames:
        found, image = capture.read()
        assert found
        assert image.shape == frame.shape
        worst = max(worst, int(cv2.absdiff(np.ascontiguousarray(image[..., ::-1]), frame).max()))
    assert not capture.read()[0]
    assert float(video.fps) == pytest.approx(capture.get(cv2.CAP_PROP_FPS), abs=1e-9)
    return worst


# --- healthy clips ---


def test_frames_times_and_sound(tmp_path: Path) -> None:
    sound = tones(2, 16000, 1.0)
    clip = decode(write(tmp_path / "a.mp4", audio=sound))
    video, audio = clip.need_video(), clip.need_audio()
    assert video.frames.shape == (25, 48, 64, 3) and video.frames.dtype == np.uint8
    assert video.times.tolist() == pytest.approx([i / 25 for i in range(25)], abs=1e-12)
    assert video.fps == Fraction(25) and video.seconds == 1.0
    assert np.abs(video.frames[7].astype(int) - picture(7)).mean() < 4
    assert audio.samples.dtype == np.float32 and audio.rate == 16000 and audio.start == 0
    assert 16000 <= audio.samples.shape[1] < 16000 + 1024
    assert np.corrcoef(audio.samples[1, :16000], sound[1])[0, 1] > 0.99


def test_info_is_json_and_names_the_streams(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", audio=tones(1, 8000, 1.0), rate=8000)
    info = decode(path).info
    assert json.loads(json.dumps(info)) == info
    assert info["video_codec"] == "h264" and info["audio_codec"] == "aac" and info["layout"] == "mono"
    assert (info["width"], info["height"], info["frames"], info["fps"]) == (64, 48, 25, 25.0)
    assert (info["sample_rate"], info["channels"], info["vfr"]) == (8000, 1, False)
    assert info["decoder"] == DECODER and av.__version__ in DECODER


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_keeps_times(tmp_path: Path, suffix: str) -> None:
    clip = decode(vfr(tmp_path / f"a{suffix}"))
    video = clip.need_video()
    assert len(video.frames) == 25 and clip.info["vfr"]
    assert video.times[:5] == pytest.approx([0, 0.02, 0.10, 0.14, 0.16], abs=1e-9)


@pytest.mark.parametrize(("degrees", "place"), [(0, "tl"), (90, "bl"), (180, "br"), (270, "tr")])
def test_rotation_is_applied_as_opencv_does(tmp_path: Path, degrees: int, place: str) -> None:
    path = write(tmp_path / "a.mp4", rotation=degrees)
    frame = decode(path).need_video().frames[0]
    assert frame.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    half = [side // 2 for side in frame.shape[:2]]
    quarters = {
        "tl": frame[: half[0], : half[1]], "tr": frame[: half[0], half[1] :],
        "bl": frame[half[0] :, : half[1]], "br": frame[half[0] :, half[1] :],
    }  # fmt: skip
    assert max(quarters, key=lambda name: quarters[name][..., 0].max()) == place
    assert differs_from_opencv(path) == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_audio_start_offset(tmp_path: Path, suffix: str, start: float) -> None:
    sound = tones(1, 16000, 1.0)
    audio = decode(write(tmp_path / f"a{suffix}", audio=sound, audio_start=start)).need_audio()
    lag = np.argmax(np.correlate(audio.samples[0], sound[0], "full")) - (sound.shape[1] - 1)
    assert audio.start + lag / 16000 == pytest.approx(start, abs=1e-3)
    assert start or audio.start == 0


@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 44100), (6, 48000)])
def test_every_channel_at_its_own_rate(tmp_path: Path, channels: int, rate: int) -> None:
    sound = tones(channels, rate, 0.6)
    audio = decode(write(tmp_path / "a.mkv", audio=sound, rate=rate, audio_codec="pcm_f32le")).need_audio()
    assert audio.rate == rate
    assert np.array_equal(audio.samples, sound)


@pytest.mark.parametrize(
    ("codec", "step"), [("pcm_u8", 2**-7), ("pcm_s16le", 2**-15), ("pcm_s24le", 2**-23), ("pcm_s32le", 2**-31)]
)
def test_integer_samples_are_divided_by_full_scale(tmp_path: Path, codec: str, step: float) -> None:
    import soundfile

    samples = np.array([[-1.0, -0.5, 0.0, 0.25, 1 - step]]).T
    kind = {"pcm_u8": "PCM_U8", "pcm_s16le": "PCM_16", "pcm_s24le": "PCM_24", "pcm_s32le": "PCM_32"}[codec]
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=kind)
    clip = decode(tmp_path / "a.wav")
    assert clip.info["audio_codec"] == codec and clip.video is None
    assert clip.need_audio().samples[0].tolist() == samples[:, 0].astype(np.float32).tolist()


def test_planar_sound_of_eight_channels(tmp_path: Path) -> None:
    if "libopus" not in av.codecs_available:
        pytest.skip("this FFmpeg has no Opus encoder")
    sound = 0.3 * np.sin(np.arange(9600) * 0.05)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("libopus", rate=48000, layout="7.1")
        packed = np.repeat(sound.astype(np.float32), 8)[None]
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="7.1")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    audio = decode(tmp_path / "a.mkv").need_audio()
    assert len(audio.samples) == 8
    assert np.abs(audio.samples[0]).max() > 0.2


def test_hole_in_the_sound_becomes_silence(tmp_path: Path) -> None:
    sound = tones(1, 16000, 2.0)
    path = write(tmp_path / "a.mkv", audio=sound, audio_codec="pcm_f32le", skip_audio=(0.6, 1.1))
    found = decode(path).need_audio().samples[0]
    assert len(found) == pytest.approx(32000, abs=16)
    assert not found[11000:17000].any()
    after = np.correlate(found[18000:30000], sound[0, 18000:30000], "full")
    assert abs(int(after.argmax()) - 11999) <= 16  # Matroska rounds times to a millisecond


def test_one_frame(tmp_path: Path) -> None:
    clip = decode(write(tmp_path / "a.mp4", pts=[0], audio=tones(1, 8000, 0.5), rate=8000))
    assert len(clip.need_video().frames) == 1 and clip.need_video().times.tolist() == [0.0]
    assert not clip.info["vfr"]


def test_video_only_and_audio_only(tmp_path: Path) -> None:
    silent = decode(write(tmp_path / "a.mp4"))
    assert silent.audio is None and "audio_codec" not in silent.info
    with pytest.raises(NotApplicable, match="no_audio"):
        silent.need_audio()
    blind = decode(write(tmp_path / "b.mp4", pts=None, audio=tones(1, 16000, 0.5)))
    assert blind.video is None and blind.need_audio().start == 0.0 and "fps" not in blind.info


# --- which sound, which streams ---


def test_sound_of_its_own_file(tmp_path: Path) -> None:
    import soundfile

    inside, beside, given = tones(1, 16000, 1.0), tones(1, 22050, 0.5), tones(2, 44100, 0.7)
    mute, whole = write(tmp_path / "mute.mp4"), write(tmp_path / "whole.mp4", audio=inside)
    for stem in ("mute", "whole"):
        soundfile.write(tmp_path / f"{stem}.wav", beside.T, 22050, subtype="FLOAT")
    soundfile.write(tmp_path / "given.wav", given.T, 44100, subtype="FLOAT")
    assert np.array_equal(decode(mute).need_audio().samples, beside), "a sibling, where the container has no sound"
    assert decode(whole).need_audio().rate == 16000, "the container's own sound before a sibling"
    for path in (mute, whole):
        clip = decode(path, tmp_path / "given.wav")
        assert np.array_equal(clip.need_audio().samples, given), "the file that is named before both"
        assert clip.info["audio_source"] == "given.wav" and clip.info["sample_rate"] == 44100
        assert clip.info["video_codec"] == "h264" and probe(path, tmp_path / "given.wav")["channels"] == 2
    assert code_of(tmp_path / "nothing.wav") == "decode.not_found"
    with pytest.raises(SampleError, match=r"decode\.not_found.*nothing\.wav"):
        decode(mute, tmp_path / "nothing.wav")


def test_unwanted_streams_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", audio=tones(1, 16000, 1.0), audio_start=0.25)
    both, seen, heard = decode(path), decode(path, media={"video"}), decode(path, media={"audio"})
    assert seen.audio is None and np.array_equal(seen.need_video().frames, both.need_video().frames)
    assert heard.video is None and np.array_equal(heard.need_audio().samples, both.need_audio().samples)
    assert heard.need_audio().start == both.need_audio().start


def test_a_set_event_stops_decoding(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(SampleError, match=r"decode\.stopped"):
        decode(write(tmp_path / "a.mp4"), stop=stop)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_probe_estimates_what_decoding_takes(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", audio=tones(2, 44100, 1.0), rate=44100)
    clip, info = decode(path), probe(path)
    assert json.loads(json.dumps(info)) == info
    sizes = {"video": clip.need_video().frames.nbytes, "audio": clip.need_audio().samples.nbytes}
    for stream, size in sizes.items():
        assert info["decoded_bytes"][stream] == pytest.approx(size, rel=0.08)


# --- broken files ---


def test_what_is_no_clip(tmp_path: Path) -> None:
    empty, text, picture_file = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "a.png"
    empty.write_bytes(b"")
    text.write_text("this is no video\n" * 100)
    cv2.imwrite(str(picture_file), picture(0))
    assert code_of(tmp_path / "none.mp4") == "decode.not_found"
    assert code_of(empty) == "decode.empty_file"
    assert code_of(text) == "decode.not_media"
    assert code_of(picture_file) == "decode.not_media"
    assert code_of(tmp_path) == "decode.unreadable"
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(20000))
    assert code_of(tmp_path / "noise.mkv") == "decode.not_media"


def test_playlists_do_not_reach_other_files(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    (tmp_path / "b.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.name}\n#EXT-X-ENDLIST\n")
    (tmp_path / "c.m3u8").write_text((tmp_path / "b.mp4").read_text())
    for name in ("a.mp4", "b.mp4", "c.m3u8"):
        assert code_of(tmp_path / name) == "decode.not_media"


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9, 0.97, 0.999])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".mp4", {}), (".mp4", {"movflags": "faststart"}), (".mkv", {}), (".avi", {}), (".wav", {})],
)
def test_a_truncated_file_is_an_error(tmp_path: Path, share: float, suffix: str, options: dict[str, str]) -> None:
    pts = None if suffix == ".wav" else tuple(Fraction(i, 25) for i in range(50))
    sound = tones(1, 16000, 2.0)
    codec = "aac" if suffix in (".mp4", ".mkv") else "pcm_s16le"
    whole = write(tmp_path / f"whole{suffix}", pts=pts, audio=sound, audio_codec=codec, options=options)
    decode(whole)
    assert code_of(truncated(whole, tmp_path / f"cut{suffix}", share)) == "decode.truncated"


def test_a_file_that_ends_between_its_packets(tmp_path: Path) -> None:
    """Matroska written as a stream has no sizes, but still a duration."""
    whole = write(tmp_path / "a.mkv", pts=[Fraction(i, 25) for i in range(100)], audio=tones(1, 16000, 4.0))
    data = bytearray(whole.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7  # "unknown"
    path = tmp_path / "b.mkv"
    path.write_bytes(data)
    assert len(decode(path).need_video().frames) == 100
    assert code_of(truncated(path, tmp_path / "c.mkv", 0.5)) in ("decode.truncated", "decode.corrupt")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damage_in_the_middle_is_an_error(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"a{suffix}", pts=[Fraction(i, 25) for i in range(75)])
    path = damaged(whole, tmp_path / f"b{suffix}")
    assert code_of(path) in ("decode.corrupt", "decode.truncated")
    details = set()
    for _ in range(3):
        with pytest.raises(SampleError) as caught:
            decode(path)
        details.add(str(caught.value))
    assert len(details) == 1, "a row's reason must be the same in every run"


def test_frames_that_change_size(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{width}.h264", size=(width, 48)).read_bytes() for width in (64, 80)]
    (tmp_path / "joined.h264").write_bytes(b"".join(parts))
    with pytest.raises(SampleError, match=r"decode\.size_changes: .*64 x 48 and 80 x 48"):
        decode(tmp_path / "joined.h264")


def test_streams_that_cannot_be_used(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", audio=tones(1, 16000, 1.0))
    (tmp_path / "unknown.mp4").write_bytes(whole.read_bytes().replace(b"avc1", b"zzzz"))
    assert code_of(tmp_path / "unknown.mp4") == "decode.unsupported"
    rates = [write(tmp_path / f"{rate}.aac", None, tones(1, rate, 0.5), rate) for rate in (16000, 44100)]
    (tmp_path / "rates.aac").write_bytes(b"".join(path.read_bytes() for path in rates))
    with pytest.raises(SampleError, match=r"decode\.audio_changes: .* 16000 Hz to 1 channels at 44100 Hz"):
        decode(tmp_path / "rates.aac")
    fragments = write(tmp_path / "f.mp4", options={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    (tmp_path / "g.mp4").write_bytes(fragments[: fragments.index(b"moof") - 4])
    assert code_of(tmp_path / "g.mp4") == "decode.no_frames"
    sound = write(tmp_path / "h.wav", None, tones(1, 8000, 0.5), 8000, audio_codec="pcm_s16le").read_bytes()
    header = sound[: sound.index(b"data") + 4]
    (tmp_path / "i.wav").write_bytes(b"RIFF" + (len(header) - 4).to_bytes(4, "little") + header[8:] + bytes(4))
    assert code_of(tmp_path / "i.wav") == "decode.no_samples"


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    song = write(tmp_path / "a.mp3", None, tones(1, 16000, 1.0), audio_codec="libmp3lame").read_bytes()
    image = cv2.imencode(".png", picture(0))[1].tobytes()
    body = b"\0image/png\0\x03\0" + image
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    (tmp_path / "b.mp3").write_bytes(b"ID3\x03\0\0" + size + frame + song)
    with av.open(str(tmp_path / "b.mp3")) as container:
        assert len(container.streams.video) == 1
    clip = decode(tmp_path / "b.mp3")
    assert clip.video is None and clip.need_audio().seconds == pytest.approx(1.0, abs=0.1)


# --- the same pixels as the references' decoders ---


@pytest.mark.parity
@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("libx264", "yuv420p", (64, 48)), ("libx264", "yuv420p", (62, 46)), ("libx264", "yuv422p", (64, 48)),
        ("libx264", "yuv444p", (63, 47)), ("libx264", "yuvj420p", (64, 48)), ("ffv1", "yuv420p", (63, 47)),
        ("ffv1", "gray", (64, 48)), ("libx264rgb", "rgb24", (63, 47)), ("libvpx-vp9", "yuv420p", (64, 48)),
    ],
)  # fmt: skip
def test_pixels_are_those_of_opencv(tmp_path: Path, codec: str, pixels: str, size: tuple[int, int]) -> None:
    assert differs_from_opencv(write(tmp_path / "a.mkv", codec=codec, pixels=pixels, size=size)) == 0


@pytest.mark.parity
@pytest.mark.parametrize(("space", "range_"), [(1, 1), (1, 2), (5, 1), (6, 1), (9, 1)])
def test_colour_tags_are_followed(tmp_path: Path, space: int, range_: int) -> None:
    path = write(tmp_path / "a.mkv", tags={"colorspace": space, "color_range": range_})
    plain = write(tmp_path / "b.mkv")
    if int(cv2.__version__.split(".")[0]) >= 5:  # earlier ones ignore the tag
        assert differs_from_opencv(path) == 0
    difference = np.abs(decode(path).need_video().frames.astype(int) - decode(plain).need_video().frames).mean()
    assert (difference < 0.5) == ((space, range_) in ((5, 1), (6, 1)))


def clip_files(media: Path) -> list[Path]:
    return sorted(path for path in media.glob("*/*") if path.suffix in (".mp4", ".wav"))


@pytest.mark.parity
def test_small_real_clips_equal_opencv(media: Path) -> None:
    found = [path for path in clip_files(media) if path.stem in SMALL]
    assert len(found) == len(SMALL)
    for path in found:
        assert differs_from_opencv(path) == 0, path


@pytest.mark.parity
@pytest.mark.heavy
def test_large_real_clips_equal_opencv(media: Path) -> None:
    for path in clip_files(media):
        tagged = path.stem.startswith("talkinghead") and int(cv2.__version__.split(".")[0]) < 5
        if path.suffix == ".mp4" and path.stem not in SMALL and not tagged:
            assert differs_from_opencv(path) == 0, path


@pytest.mark.heavy
def test_every_real_clip_decodes(media: Path) -> None:
    for path in clip_files(media):
        clip, info = decode(path), probe(path)
        assert (clip.video is None) == (path.suffix == ".wav")
        assert (clip.audio is None) == (path.parent.name == "silent")
        if clip.video is not None:
            assert len(clip.video.frames) == info["frames"]
            assert info["decoded_bytes"]["video"] == clip.video.frames.nbytes
            assert clip.video.times[0] == 0 and not clip.info["vfr"]
        if clip.audio is not None:
            assert clip.audio.seconds == pytest.approx(info["audio_seconds"], abs=0.07)
            assert np.isfinite(clip.audio.samples).all()
