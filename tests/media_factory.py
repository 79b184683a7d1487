"""Odd clips, made with PyAV: what a user's folder holds besides healthy files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (64, 48)  # width, height


def picture(index: int, width: int = SIZE[0], height: int = SIZE[1], seed: int = 0) -> np.ndarray:
    """A smooth coloured frame with a bright square in its top left quarter that moves with `index`: uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + channel) + index / 3 + seed) * np.cos(y / (9 - channel)) for channel in range(3)]
    frame = np.clip(110 + 60 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)
    frame[2 : height // 4, 2 + index % 8 : width // 4 + index % 8] = (250, 240, 30)
    return frame


def tones(channels: int, rate: int, seconds: float) -> np.ndarray:
    """Another tone with an attack for each channel: float32 [C, N]."""
    t = np.arange(round(rate * seconds)) / rate
    decay = np.exp(-((t % 0.25) * 9))
    return np.stack([0.4 * decay * np.sin(2 * np.pi * (220 + 90 * c) * t) for c in range(channels)]).astype(np.float32)


def write(
    path: Path,
    pts: Sequence[Fraction | float] | None = tuple(Fraction(i, 25) for i in range(25)),
    audio: np.ndarray | None = None,
    rate: int = 16000,
    audio_start: float = 0.0,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    audio_codec: str = "aac",
    rotation: int = 0,
    fps: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    skip_audio: tuple[float, float] | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Write a clip frame by frame, in ways `write_clip` does not.

    pts: when each frame is shown (None: no video). skip_audio: seconds (from, to) whose packets are left out.
    rotation: degrees, as metadata. tags: colour attributes of the codec.
    """
    layouts = {1: "mono", 2: "stereo", 6: "5.1"}
    with av.open(str(path), "w", options=options or {}) as container:
        streams: list[tuple[Any, list[Any]]] = []
        if pts is not None:
            video: Any = container.add_stream(codec, rate=fps)
            video.width, video.height, video.pix_fmt = *size, pixels
            video.options = {"crf": "12", "g": "10"} if "264" in codec else {}
            video.codec_context.time_base = Fraction(1, 90000)
            for name, value in (tags or {}).items():
                setattr(video.codec_context, name, value)
            if rotation:
                video.set_display_rotation(rotation)
            streams.append((video, list(video_frames(pts, size))))
        if audio is not None:
            sound: Any = container.add_stream(audio_codec, rate=rate, layout=layouts[len(audio)])
            streams.append((sound, list(audio_frames(audio, rate, audio_start, skip_audio))))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return path


def video_frames(pts: Sequence[Fraction | float], size: tuple[int, int]) -> Any:
    for index, time in enumerate(pts):
        frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
        frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
        yield frame


def audio_frames(audio: np.ndarray, rate: int, start: float, skip: tuple[float, float] | None) -> Any:
    layouts = {1: "mono", 2: "stereo", 6: "5.1"}
    for at in range(0, audio.shape[1], 1024):
        part = np.ascontiguousarray(audio[:, at : at + 1024].T).reshape(1, -1)
        if skip is not None and skip[0] <= at / rate < skip[1]:
            continue
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layouts[len(audio)])
        frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate) + at, Fraction(1, rate)
        yield frame


def vfr(path: Path) -> Path:
    """Frames shown for 20, 80 and 40 ms in turn."""
    return write(path, np.concatenate([[0.0], np.cumsum(np.tile([0.02, 0.08, 0.04], 8))]).tolist())


def truncated(whole: Path, path: Path, share: float) -> Path:
    """The first `share` of a file."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damaged(whole: Path, path: Path) -> Path:
    """A tenth of the media data, in the middle, zeroed."""
    data = bytearray(whole.read_bytes())
    middle, tenth = len(data) // 2, len(data) // 10
    data[middle : middle + tenth] = bytes(tenth)
    path.write_bytes(data)
    return path
