"""Writing clips: what a generator makes becomes a file that every player shows and that decodes to the same moments.

Defaults are H.264 (yuv420p, BT.601 limited, tagged so) and AAC in MP4. `lossless=True` gives RGB H.264 without loss and
32-bit float PCM: `avbench.media.decode` returns the same bits. Equal clips give equal bytes on one machine and library
version, whatever its number of cores. A file appears at its place whole or not at all.

Moments: frame times and the audio's start are kept to 1/90,000 s and one sample; a clip that does not begin at 0 is
shifted to begin there. The encoder's delay is declared in the file, so that decoders remove it. What is not kept:
AAC fills its last codec frame (at most 1,023 samples); yuv420p has no odd sizes, so the last row or column is repeated;
AAC has no unusual sample rates, so those are resampled to the next higher one it has.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame

from avbench.clip import Audio, Clip, Video
from avbench.errors import SampleError

TICK = Fraction(1, 90000)  # seconds; clock of clips whose frames are not evenly spaced from 0
STEADY = "mbtree=0"  # x264's macroblock tree reads stray memory in sizes like 320 x 180: other bytes in every run
THREADS = 4  # of x264: a fixed number, because its output depends on it
BT601, LIMITED = 6, 1  # AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG
FRAME = 1024  # samples handed to the audio encoder at once
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

ERRORS = {
    "encode.empty": "a clip without frames and samples",
    "encode.bad_frames": "frames that are not uint8 [T, H, W, 3], or times that do not match them",
    "encode.bad_samples": "samples that are not float [C, N] with 1 to 6 channels, or not finite",
}
"""Codes of the `SampleError`s raised here: the clip, not the disk, is at fault."""


def write_clip(
    path: Path, clip: Clip, lossless: bool = False, crf: int = 18, audio_bitrate: int = 192_000, preset: str = "medium"
) -> None:
    """Write a clip to `path` (MP4, or MKV and MOV by its suffix); its folder is made.

    crf, preset: of x264 (18 is visually near lossless). audio_bitrate: bits per second of AAC.
    A clip without audio gives a file without an audio stream. Raises `SampleError` with a code of `ERRORS`, and
    `OSError` where the file cannot be written; then `path` is as it was.
    """
    path = Path(path)
    video, audio = checked_video(clip.video), checked_audio(clip.audio)
    if video is None and audio is None:
        raise SampleError("encode.empty", f"{path.name}: the clip has neither frames nor samples")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part{path.suffix or '.mp4'}")
    try:
        with av.open(str(scratch), "w", options=muxer_options(scratch)) as container:
            write_streams(container, video, audio, lossless, crf, audio_bitrate, preset)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def muxer_options(path: Path) -> dict[str, str]:
    """No time of writing in the file; for MP4 the index in front, so that a browser starts at once."""
    return {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if path.suffix in (".mp4", ".mov", ".m4a") else {})


def checked_video(video: Video | None) -> Video | None:
    """The video, where it can be written."""
    if video is None:
        return None
    frames = np.asarray(video.frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise SampleError("encode.bad_frames", f"uint8 [T, H, W, 3] is needed, not {frames.dtype} {frames.shape}")
    times = np.asarray(video.times, dtype=np.float64)
    if times.shape != (len(frames),) or not np.isfinite(times).all() or not (np.diff(times) > 0).all():
        raise SampleError("encode.bad_frames", f"{len(frames)} frames need as many increasing times")
    if video.fps <= 0:
        raise SampleError("encode.bad_frames", f"{video.fps} frames per second")
    return video


def checked_audio(audio: Audio | None) -> Audio | None:
    """The audio as float32, where it can be written."""
    if audio is None:
        return None
    samples = np.asarray(audio.samples)
    if samples.ndim != 2 or len(samples) not in LAYOUTS or not samples.size or samples.dtype.kind != "f":
        raise SampleError("encode.bad_samples", f"float [C, N] is needed, not {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise SampleError("encode.bad_samples", "the audio holds NaN or infinity")
    return replace(audio, samples=np.ascontiguousarray(samples, dtype=np.float32))


def write_streams(
    container: OutputContainer,
    video: Video | None,
    audio: Audio | None,
    lossless: bool,
    crf: int,
    audio_bitrate: int,
    preset: str,
) -> None:
    """Encode both streams in the order of time."""
    begin = min(([float(video.times[0])] if video else []) + ([audio.start] if audio else []))
    streams: list[Iterator[tuple[float, Any, Any]]] = []
    if video is not None:
        stream = video_stream(container, video, begin, lossless, crf, preset)
        streams.append(video_frames(video, stream, begin))
    if audio is not None:
        sound = audio if lossless else at_aac_rate(audio)
        streams.append(audio_frames(sound, audio_stream(container, sound, lossless, audio_bitrate), begin))
    used = []
    for _, stream, frame in heapq.merge(*streams, key=lambda one: one[0]):
        container.mux(stream.encode(frame))
        used.append(stream) if stream not in used else None
    for stream in used:
        container.mux(stream.encode(None))


def video_stream(container: OutputContainer, video: Video, begin: float, lossless: bool, crf: int, preset: str) -> Any:
    """An H.264 stream for these frames."""
    height, width = video.frames.shape[1:3]
    stream: Any = container.add_stream("libx264rgb" if lossless else "libx264", rate=video.fps)
    stream.pix_fmt = "rgb24" if lossless else "yuv420p"
    stream.width, stream.height = (width, height) if lossless else (width + width % 2, height + height % 2)
    stream.options = {"preset": preset, "x264-params": STEADY, **({"qp": "0"} if lossless else {"crf": str(crf)})}
    codec = stream.codec_context
    codec.thread_count = THREADS
    codec.time_base = clock(video, begin)
    if not lossless:
        codec.colorspace, codec.color_range = BT601, LIMITED
    return stream


def clock(video: Video, begin: float) -> Fraction:
    """Time base in which the frames have whole times: one frame, where they are evenly spaced from 0, or `TICK`."""
    even = np.arange(len(video.times)) / float(video.fps)
    return 1 / video.fps if np.allclose(video.times - begin, even, rtol=0, atol=1e-4) else TICK


def video_frames(video: Video, stream: Any, begin: float) -> Iterator[tuple[float, Any, VideoFrame]]:
    """(time, stream, frame) of every frame; odd sizes filled by repeating the edge."""
    base = stream.codec_context.time_base
    rows, columns = stream.height - video.frames.shape[1], stream.width - video.frames.shape[2]
    for time, pixels in zip(video.times - begin, video.frames):
        if rows or columns:
            pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = round(time / float(base)), base
        yield float(time), stream, frame


def audio_stream(container: OutputContainer, audio: Audio, lossless: bool, bitrate: int) -> Any:
    """An AAC or float PCM stream for these samples."""
    name, layout = "pcm_f32le" if lossless else "aac", LAYOUTS[len(audio.samples)]
    stream: Any = container.add_stream(name, rate=audio.rate, layout=layout)
    if not lossless:
        stream.bit_rate = bitrate
    return stream


def audio_frames(audio: Audio, stream: Any, begin: float) -> Iterator[tuple[float, Any, AudioFrame]]:
    """(time, stream, frame) of every `FRAME` samples."""
    base, first = Fraction(1, audio.rate), round((audio.start - begin) * audio.rate)
    for at in range(0, audio.samples.shape[1], FRAME):
        part = audio.samples[:, at : at + FRAME]
        packed = np.ascontiguousarray(part.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[len(part)])
        frame.sample_rate, frame.pts, frame.time_base = audio.rate, first + at, base
        yield (first + at) / audio.rate, stream, frame


def at_aac_rate(audio: Audio) -> Audio:
    """The audio at a rate that AAC has: its own, or the next higher one."""
    if audio.rate in AAC_RATES:
        return audio
    import soxr

    rate = next((rate for rate in AAC_RATES if rate > audio.rate), AAC_RATES[-1])
    samples = soxr.resample(audio.samples.T, audio.rate, rate, quality="HQ").T
    return replace(audio, samples=np.ascontiguousarray(samples, dtype=np.float32), rate=rate)
