"""Copies of a clip as the published SyncNet pipelines make them before they look at it, losses included.

joonson/syncnet_python 6efbb1c writes an AVI (MPEG-4 and MP3), dumps its frames as JPEG and its sound as WAV;
bytedance/LatentSync a229c39 does the same through an MP4 (H.264 and AAC). Face crops then go through a further file.
The steps shift sound against picture (an MP3 encoder's delay, which AVI cannot state) and cost quality, and published
scores include both. Here the same encoders run in memory, through PyAV, in one thread: a copy is reproducible.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.views import AtFps, on_video_time, resample

FPS, RATE = 25, 16000
PER_FRAME = RATE // FPS  # samples
BT709 = 1  # as containers number colour matrices
QP2LAMBDA = 118  # FFmpeg's unit of quality scales
LUMA_LOST = 1  # levels by which decoding to 8-bit RGB darkens (swscale rounds down)
MP3_RATES = (48000, 44100, 32000, 24000, 22050, 16000)
Kind = Literal["none", "avi", "mp4"]


@dataclass(frozen=True, eq=False)
class Material:
    """What a lip-sync pipeline reads of a clip, at 25 frames and 16,000 samples a second.

    count:  number of frames.
    frames: gives the frames that faces are looked for and cropped in, one after the other, uint8 RGB.
    shots:  gives the frames that cuts are looked for in.
    wave:   int16 [n], mono.
    """

    count: int
    frames: Callable[[], Iterator[np.ndarray]]
    shots: Callable[[], Iterator[np.ndarray]]
    wave: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """One published way to store a copy: container, codecs, and what OpenCV writes face crops with."""

    container: str
    video: str
    audio: str
    video_options: tuple[tuple[str, str], ...]
    crop_suffix: str
    crop_codec: str
    lossy_crop_audio: bool


def quality(scale: int) -> tuple[tuple[str, str], ...]:
    """Options for FFmpeg's `-qscale:v`."""
    return ("flags", "+qscale"), ("global_quality", str(scale * QP2LAMBDA))


RECIPES = {
    "avi": Recipe("avi", "mpeg4", "libmp3lame", quality(2), ".avi", "XVID", lossy_crop_audio=False),
    "mp4": Recipe("mp4", "libx264", "aac", (("crf", "23"),), ".mp4", "mp4v", lossy_crop_audio=True),
}


@dataclass
class Copies:
    """The material made of one clip so far."""

    known: dict[Kind, Material] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


copies: WeakKeyDictionary[Clip, Copies] = WeakKeyDictionary()
copies_lock = Lock()


def material(clip: Clip, kind: Kind) -> Material:
    """The clip itself ("none") or a copy of it, made once per clip; gone with it."""
    with copies_lock:
        mine = copies.setdefault(clip, Copies())
    with mine.lock:
        if kind not in mine.known:
            mine.known[kind] = itself(clip) if kind == "none" else copied(clip, RECIPES[kind])
        return mine.known[kind]


def sixteen_bits(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] to int16."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def itself(clip: Clip) -> Material:
    """No copy: frames by their times, sound resampled, both on the time of the video."""
    video, audio = clip.need_video(), clip.need_audio()
    index = AtFps(FPS)(video)
    wave = resample(on_video_time(audio).mean(axis=0, dtype=np.float32), audio.rate, RATE)

    def frames() -> Iterator[np.ndarray]:
        return (video.frames[i] for i in index)

    return Material(len(index), frames, frames, sixteen_bits(wave))


def copied(clip: Clip, recipe: Recipe) -> Material:
    """Through a file in the recipe's container, then JPEG frames and a WAV."""
    video, audio = clip.need_video(), clip.need_audio()
    colours = "ITU709" if clip.info.get("color_space") == BT709 else "ITU601"
    file = written(recipe, video, audio, colours)
    pictures = jpegs(steady_frames(file), quality(2))
    return Material(
        len(pictures),
        lambda: (read_jpeg(picture) for picture in pictures),
        lambda: (frame.to_ndarray(format="rgb24") for frame in decoded(file, "video")),
        waveform(decoded(file, "audio")),
    )


def at_constant_rate(times: Sequence[float] | np.ndarray, length: float) -> np.ndarray:
    """Which frame fills each slot when the `ffmpeg` command writes a constant frame rate.

    times: when frames are shown, and length, for how long; in slots. Frames are repeated or dropped once they are off
    by more than 1.1 slots; part of a long gap is filled with the frame before it.
    """
    found: list[int] = []
    for index, time in enumerate(times):
        early = time - len(found)
        shown = early + length
        if early < 0 < shown:
            shown, early = length + early, 0.0
        if shown < -1.1:
            continue
        repeats = round(shown) if shown > 1.1 else 1
        before = round(early - 0.6) if early > 1.1 else 0
        found += [max(index - 1, 0)] * before + [index] * (repeats - before)
    return np.array(found)


# --- writing and reading ---


def written(recipe: Recipe, video: Video, audio: Audio, colours: str) -> bytes:
    """A clip as one file."""
    import av

    index = at_constant_rate(video.times * FPS, float(FPS / video.fps))
    file = io.BytesIO()
    with av.open(file, "w", format=recipe.container) as container:
        height, width = (side - side % 2 for side in video.frames.shape[1:3])
        picture: Any = container.add_stream(recipe.video, rate=FPS, options=dict(recipe.video_options))
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        picture.codec_context.thread_count = 1
        samples, rate = encodable(audio, recipe)
        sound: Any = container.add_stream(recipe.audio, rate=rate, options={"b": "128000"})
        sound.layout = "mono" if len(samples) == 1 else "stereo"
        container.start_encoding()  # only now is the size of an audio frame known
        packets = [
            *encoded(picture, yuv_frames(video.frames, index, (height, width), colours)),
            *encoded(sound, sound_frames(samples, rate, sound.codec_context.frame_size)),
        ]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return file.getvalue()


def encodable(audio: Audio, recipe: Recipe) -> tuple[np.ndarray, int]:
    """One or two channels on the time of the video, at a rate that the codec has."""
    samples = on_video_time(audio)
    if len(samples) > 2:
        samples = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    if recipe.audio != "libmp3lame" or audio.rate in MP3_RATES:
        return samples, audio.rate
    rate = min(MP3_RATES, key=lambda known: abs(known - audio.rate))
    return resample(samples, audio.rate, rate), rate


def encoded(stream: Any, frames: Iterable[Any]) -> list[Any]:
    """All packets of a stream."""
    return [packet for frame in chain(frames, [None]) for packet in stream.encode(frame)]


def yuv_frames(frames: np.ndarray, index: np.ndarray, size: tuple[int, int], colours: str) -> Iterator[Any]:
    """Frames as 4:2:0, in the colour matrix of their source: a file without tags is then read as BT.601.

    The reference never leaves 4:2:0; what our way through RGB took from the luma is put back.
    """
    import av

    height, width = size
    for place, i in enumerate(index):
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[i, :height, :width]), format="rgb24")
        planes = rgb.reformat(format="yuv420p", dst_colorspace=colours).to_ndarray()
        planes[:height] = np.minimum(planes[:height], 255 - LUMA_LOST) + LUMA_LOST
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = place, Fraction(1, FPS)
        yield frame


def sound_frames(samples: np.ndarray, rate: int, size: int) -> Iterator[Any]:
    """Samples [C, N] in frames of the encoder's size."""
    import av

    layout = "mono" if len(samples) == 1 else "stereo"
    for start in range(0, samples.shape[1], size):
        part = np.ascontiguousarray(samples[:, start : start + size])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def decoded(file: bytes, kind: Literal["video", "audio"]) -> Iterator[Any]:
    """The frames of a file's video or audio."""
    import av

    with av.open(io.BytesIO(file), "r") as container:
        yield from container.decode(**{kind: 0})


def steady_frames(file: bytes) -> Iterator[Any]:
    """Video frames at a constant rate: where the container has a hole, a frame is repeated."""
    frames = list(decoded(file, "video"))
    times = [float(frame.time) * FPS for frame in frames]
    return (frames[i] for i in at_constant_rate(times, 1.0))


def jpegs(frames: Iterable[Any], options: Sequence[tuple[str, str]]) -> list[bytes]:
    """4:2:0 frames as JPEG files by FFmpeg's encoder; without options under its default target of 200 kbit/s."""
    import av

    context: Any = None
    found: list[bytes] = []
    for place, frame in enumerate(frames):
        full = frame.reformat(format="yuvj420p", src_color_range="MPEG", dst_color_range="JPEG")
        if context is None:
            context = av.CodecContext.create("mjpeg", "w")
            context.width, context.height, context.pix_fmt = full.width, full.height, "yuvj420p"
            context.time_base, context.framerate, context.thread_count = Fraction(1, FPS), Fraction(FPS), 1
            context.options = dict(options or {"b": "200000"})
        full.pts, full.time_base, full.pict_type = place, Fraction(1, FPS), 0
        found += [bytes(packet) for packet in context.encode(full)]
    return found + ([bytes(packet) for packet in context.encode(None)] if context else [])


def read_jpeg(picture: bytes) -> np.ndarray:
    """A JPEG file as the reference reads it (OpenCV), RGB."""
    import cv2

    found = cv2.imdecode(np.frombuffer(picture, dtype=np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("OpenCV cannot read the JPEG that was just written")
    return np.ascontiguousarray(found[..., ::-1])


def waveform(frames: Iterable[Any]) -> np.ndarray:
    """Audio frames mixed to mono at 16 kHz by FFmpeg's resampler: int16 [n]."""
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    parts = [part.to_ndarray()[0] for frame in chain(frames, [None]) for part in resampler.resample(frame)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


# --- face crops ---


def stored_crops(crops: np.ndarray, kind: Kind) -> np.ndarray:
    """Crops uint8 [n, 224, 224, 3] after the file and the JPEGs that SyncNet reads them from; "none": as they are."""
    if kind == "none":
        return crops
    file = opencv_video(crops, RECIPES[kind])
    found = [read_jpeg(picture) for picture in jpegs(decoded(file, "video"), ())]
    return np.stack(found)


def opencv_video(frames: np.ndarray, recipe: Recipe) -> bytes:
    """Frames as a file written by OpenCV."""
    import cv2

    with tempfile.TemporaryDirectory(prefix="avbench-") as folder:
        path = Path(folder) / f"crop{recipe.crop_suffix}"
        code = cv2.VideoWriter.fourcc(*recipe.crop_codec)
        writer = cv2.VideoWriter(str(path), code, FPS, (frames.shape[2], frames.shape[1]))
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        return path.read_bytes()


def stored_sound(wave: np.ndarray, kind: Kind) -> np.ndarray:
    """Sound int16 [n] of a crop after its file: AAC in the MP4 of LatentSync, else as it is."""
    import av

    if kind == "none" or not RECIPES[kind].lossy_crop_audio:
        return wave
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound: Any = container.add_stream("aac", rate=RATE, options={"b": "128000"})
        sound.layout = "mono"
        container.start_encoding()
        samples = wave[None].astype(np.float32) / np.float32(32768)
        for packet in encoded(sound, sound_frames(samples, RATE, sound.codec_context.frame_size)):
            container.mux(packet)
    return waveform(decoded(file.getvalue(), "audio"))
