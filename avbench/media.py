"""Decoding: one pass over a file gives the whole clip, and a broken file gives an error instead of a shorter clip.

Frames. FFmpeg (PyAV) decodes, swscale converts to RGB in 8 bits with its bicubic flag. For video of 8 bits a sample, in
any chroma layout, odd sizes included, the result is bit-identical to `cv2.VideoCapture` of OpenCV 5, and for the usual
4:2:0 also to decord and to `ffmpeg -pix_fmt rgb24`. Colour matrix and range follow the tags of the stream, BT.601
limited where there are none: OpenCV 4 ignores the BT.709 tag, so its pixels differ there by 7 to 9 levels in the mean.
Of 10-bit video every decoder makes other pixels (ours is 1.2 levels in the mean from OpenCV 5, which dithers BGR).
Rotation in steps of 90 degrees is applied, as players and OpenCV do. Pixels are not made square.

Time. The clip's time axis starts where the video stream starts (as the container declares it); `Video.times` are
presentation times on it, and `Audio.start` is when the first sample sounds on it. Where the container has no time
stamps, or they do not increase, frame i is at i / fps. Without a video stream the audio starts at 0.

Sound. Every channel at the native rate, as the decoder delivers it: encoder delay that the container declares is
removed, the filling of the last codec frame is kept (as `ffmpeg` keeps it). A hole of more than `GAP` seconds between
packets is filled with silence, so that the index of a sample remains its time.

Which sound: the file given as `audio_path`; else the first audio stream of the container; else a sibling file of the
same stem and suffix `.wav`, where one lies beside a container without audio. A file of its own starts at 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from avbench.clip import Audio, Clip, Video
from avbench.errors import SampleError
from avbench.wholeness import declared_size

ERRORS: Mapping[str, str] = {
    "decode.not_found": "there is no such file",
    "decode.unreadable": "the operating system refuses to read it",
    "decode.empty_file": "the file has no bytes",
    "decode.not_media": "FFmpeg finds no audio or video container in it, or one of a kind not in `FORMATS`",
    "decode.truncated": "the file ends before its container says it does",
    "decode.corrupt": "packets or frames are damaged",
    "decode.unsupported": "this FFmpeg has no decoder for a stream",
    "decode.no_streams": "a container without audio and video",
    "decode.no_frames": "a video stream that gives no frame",
    "decode.no_samples": "an audio stream that gives no sample",
    "decode.size_changes": "the frames of one stream differ in size",
    "decode.audio_changes": "sample rate or channels change within a stream",
    "decode.stopped": "the caller stopped it",
    "decode.error": "anything else: a fault of this program, please report it",
}
"""Codes of the `SampleError`s raised here. Stable: scripts may match them."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,mxf,nut,ivf,h264,hevc,obu,yuv4mpegpipe,gif,apng,"
    "wav,w64,aiff,au,caf,flac,mp3,aac,ac3,ogg"
)
"""Containers that are opened. Playlists and file patterns are not: they would read other files and addresses."""

BOTH = frozenset({"video", "audio"})
GAP = 0.1  # seconds
SHORT, SHORT_SHARE = 0.2, 0.02  # a stream may end this much before its declared end, in seconds or as a share of it
LARGEST_START = 1 << 30  # bytes reserved at first on the word of a header
DECODER = (
    f"avbench-media-1 pyav-{av.__version__} "
    + " ".join(f"{name}-{'.'.join(map(str, av.library_versions[name]))}" for name in ("libavcodec", "libswscale"))
)  # fmt: skip
"""Name and versions of this decoder, part of every feature's key."""

# Integer samples to [-1, 1): (offset, scale) of each numpy type that FFmpeg's sample formats have.
SAMPLE_SCALES = {
    "uint8": (128.0, 2.0**7), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "int64": (0.0, 2.0**63),
}  # fmt: skip


def decode(
    path: Path, audio_path: Path | None = None, media: Collection[str] = BOTH, stop: Event | None = None
) -> Clip:
    """Decode a clip in one pass.

    media: which of "video" and "audio" to decode; the other is left out of the clip.
    stop: once set, decoding ends at the next packet with `SampleError("decode.stopped")`.
    A stream that is not there is None. `Clip.info` is JSON-ready: what `probe` tells, with measured values.
    Raises `SampleError` with a code of `ERRORS`.
    """
    path = Path(path)
    sound = own_sound(path, audio_path)
    with opened(path) as container:
        info = describe(container, path)
        video, audio = read_streams(container, path, media if sound is None else {"video"} & {*media}, stop)
    if sound is not None:
        with opened(sound) as container:
            info = {**info, **describe(container, sound, ("audio",))}
            if "audio" in media:
                _, audio = read_streams(container, sound, {"audio"}, stop)
    return Clip(video, audio, {**info, **measured(video, audio)})


def probe(path: Path, audio_path: Path | None = None) -> dict[str, Any]:
    """What the container declares, without decoding: JSON-ready, keys of absent streams left out.

    container, bytes; video_codec, pixel_format, width, height (before rotation), frames, fps, video_seconds,
    color_space, color_range; audio_codec, sample_rate, channels, layout, audio_seconds, audio_start, audio_source;
    decoded_bytes: what `decode` will hold of "video" and of "audio", estimated.
    Raises `SampleError` as `decode`, except for damage that only decoding finds.
    """
    path = Path(path)
    sound = own_sound(path, audio_path)
    with opened(path) as container:
        info = describe(container, path)
    if sound is not None:
        with opened(sound) as container:
            info = {**info, **describe(container, sound, ("audio",))}
    pixels = info.get("frames", 0) * info.get("width", 0) * info.get("height", 0) * 3
    samples = math.ceil(info.get("audio_seconds", 0) * info.get("sample_rate", 0)) * info.get("channels", 0) * 4
    return {**info, "decoded_bytes": {"video": pixels, "audio": samples}, "decoder": DECODER}


def own_sound(path: Path, audio_path: Path | None) -> Path | None:
    """The file that the sound is read from, where that is not the container itself."""
    if audio_path is not None:
        return Path(audio_path) if Path(audio_path) != path else None
    sibling = path.with_suffix(".wav")
    if sibling == path or not sibling.is_file():
        return None
    with opened(path) as container:
        return sibling if streams(container).get("audio") is None else None


# --- opening, and whether the file is whole ---


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The container, open; every failure of FFmpeg inside becomes a `SampleError` that names the file."""
    check_whole(path)
    try:
        container = av.open(str(path), options={"format_whitelist": FORMATS})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SampleError("decode.not_media", f"{path.name}: {reason(error)}") from None
    with container:
        found = streams(container)
        if not found:
            raise SampleError("decode.no_streams", f"{path.name}: a {container.format.name} file without streams")
        for kind, stream in found.items():
            if stream.codec_context is None:
                raise SampleError("decode.unsupported", f"{path.name}: no decoder for its {kind} stream")
        yield container


def streams(container: InputContainer) -> dict[str, Any]:
    """The streams that make the clip: the first "video" that is no cover picture, and the first "audio"."""
    videos = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    return {kind: found[0] for kind, found in (("video", videos), ("audio", container.streams.audio)) if found}


def reason(error: Exception) -> str:
    """FFmpeg's sentence without error numbers and paths."""
    if isinstance(error, av.error.ArgumentError):  # what FFmpeg says of a format that is not on the list
        return "this kind of file is not opened as a clip"
    return str(getattr(error, "strerror", None) or error)


def check_whole(path: Path) -> None:
    """Raise where the file is missing, empty, or smaller than its container declares."""
    try:
        size = path.stat().st_size
        if not size:
            raise SampleError("decode.empty_file", f"{path.name} has 0 bytes")
        with path.open("rb") as file:
            declared = declared_size(file, size)
    except FileNotFoundError:
        raise SampleError("decode.not_found", f"{path} does not exist") from None
    except OSError as error:
        raise SampleError("decode.unreadable", f"{path}: {error.strerror}") from None
    if declared is None:
        raise SampleError("decode.truncated", f"{path.name} has no index (moov): it was cut or never finished")
    if declared > size:
        raise SampleError("decode.truncated", f"{path.name} has {size:,} of the {declared:,} bytes it declares")


# --- reading ---


@dataclass
class Ends:
    """How far the packets of one stream reach, in seconds of its own time, and whether any is damaged."""

    stream: Any
    end: float = 0.0
    damaged: bool = False

    def add(self, packet: Any) -> None:
        self.damaged |= packet.is_corrupt
        if packet.pts is not None and packet.time_base:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))


def read_streams(
    container: InputContainer, path: Path, media: Collection[str], stop: Event | None
) -> tuple[Video | None, Audio | None]:
    """Demultiplex once and decode the wanted streams; the others are only counted."""
    found = streams(container)
    frames = Frames(found["video"]) if "video" in found and "video" in media else None
    samples = Samples(found["audio"]) if "audio" in found and "audio" in media else None
    sinks: dict[int, Any] = {sink.stream.index: sink for sink in (frames, samples) if sink is not None}
    ends = {stream.index: Ends(stream) for stream in container.streams}
    try:
        for packet in container.demux():
            if stop is not None and stop.is_set():
                raise SampleError("decode.stopped", f"{path.name}: nobody waits for it any more")
            one = ends[packet.stream.index]
            one.add(packet)
            if packet.stream.index in sinks and not packet.is_corrupt:
                decode_packet(packet, sinks[packet.stream.index], one)
    except av.error.FFmpegError as error:
        raise SampleError("decode.corrupt", f"{path.name}: {reason(error)}") from None
    check_read(container, path, ends)
    zero = video_start(container)
    return (
        frames.video(path, zero) if frames is not None else None,
        samples.audio(path, zero) if samples is not None else None,
    )


def decode_packet(packet: Any, sink: Frames | Samples, ends: Ends) -> None:
    """Hand a packet's frames to their sink. Damage is noted, so that a file that was cut is called so first."""
    try:
        decoded = packet.decode()
    except av.error.FFmpegError:
        ends.damaged = True
        return
    for frame in decoded:
        ends.damaged |= frame.is_corrupt
        sink.add(frame)


def check_read(container: InputContainer, path: Path, ends: Mapping[int, Ends]) -> None:
    """Raise where streams end before their declared end, or packets were damaged.

    Streams that declare no duration (Matroska) are held against the container's, which the longest of all has to reach.
    Fragmented and transport streams that were cut between packets declare nothing that tells.
    """
    used = [ends[stream.index] for stream in streams(container).values()]
    declared = [(one.end, end_of(one.stream)) for one in used if one.stream.duration]
    if not declared and container.duration:
        start = (container.start_time or 0) / av.time_base
        declared = [(max(one.end for one in ends.values()), start + container.duration / av.time_base)]
    for end, expected in declared:
        if expected - end > max(SHORT, SHORT_SHARE * expected):
            raise SampleError("decode.truncated", f"{path.name} ends at {end:.2f} s of {expected:.2f} s")
    for one in used:
        if one.damaged:  # where and how often depends on the threads of the decoder, so it is not told
            raise SampleError("decode.corrupt", f"{path.name}: damaged data in the {one.stream.type} stream")


def end_of(stream: Any) -> float:
    """When a stream ends by its own declaration, in its own time."""
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def video_start(container: InputContainer) -> float | None:
    """Zero of the clip's time axis: where the video stream starts by declaration; None without a video stream."""
    stream = streams(container).get("video")
    if stream is None:
        return None
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


@dataclass
class Frames:
    """Frames of a video stream as they come, converted to RGB."""

    stream: Any
    count: int = 0
    times: list[float | None] = field(default_factory=list)
    pixels: np.ndarray | None = None
    turns: int = 0

    def __post_init__(self) -> None:
        self.stream.thread_type = "AUTO"
        self.reformatter = VideoReformatter()

    def add(self, frame: VideoFrame) -> None:
        """Convert and store one frame."""
        rgb = self.reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
        if self.pixels is None:
            self.turns = round(frame.rotation / 90) % 4
        if self.turns:
            rgb = np.rot90(rgb, self.turns)
        if self.pixels is None:
            self.pixels = np.empty((self.expected(rgb.nbytes), *rgb.shape), dtype=np.uint8)
        if rgb.shape != self.pixels.shape[1:]:
            sizes = " and ".join(f"{width} x {height}" for height, width in (self.pixels.shape[1:3], rgb.shape[:2]))
            raise SampleError("decode.size_changes", f"frames of {sizes} in one stream")
        if self.count == len(self.pixels):
            self.pixels = np.concatenate([self.pixels, np.empty_like(self.pixels)])
        self.pixels[self.count] = rgb
        self.count += 1
        self.times.append(frame.time)

    def expected(self, frame_bytes: int) -> int:
        """How many frames to reserve room for; pages that stay empty take no memory."""
        declared = declared_frames(self.stream, self.stream.container)
        return max(1, min(declared + 2, LARGEST_START // frame_bytes))

    def video(self, path: Path, zero: float | None) -> Video:
        """The finished stream."""
        if self.pixels is None:
            raise SampleError("decode.no_frames", f"{path.name}: the video stream gives no frame")
        fps = Fraction(self.stream.average_rate or 0) or self.own_rate()
        stamps = [math.nan if time is None else time - (zero or 0.0) for time in self.times]
        times = np.array(stamps, dtype=np.float64)
        if not (np.diff(times) > 0).all() or np.isnan(times).any():
            times = np.arange(self.count) / float(fps)
        return Video(self.pixels[: self.count], times, fps)

    def own_rate(self) -> Fraction:
        """Frames over time, where the container is silent; 25 where there is no time either."""
        stamps = [time for time in self.times if time is not None]
        if len(stamps) > 1 and stamps[-1] > stamps[0]:
            return Fraction((len(stamps) - 1) / (stamps[-1] - stamps[0])).limit_denominator(1001)
        return Fraction(self.stream.guessed_rate or 25)


@dataclass
class Samples:
    """Samples of an audio stream as they come."""

    stream: Any
    parts: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    start: float | None = None
    filled: int = 0
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.stream.thread_type = "AUTO"

    def add(self, frame: AudioFrame) -> None:
        """Convert and store one frame of samples, after silence where there is a hole before it."""
        samples = as_float(frame)
        if self.shape is None:
            self.shape, self.start = (len(samples), frame.sample_rate), frame.time
        if self.shape != (len(samples), frame.sample_rate):
            changes = " to ".join(f"{channels} channels at {rate} Hz" for channels, rate in
                                  (self.shape, (len(samples), frame.sample_rate)))  # fmt: skip
            raise SampleError("decode.audio_changes", f"the audio goes from {changes}")
        self.fill(frame)
        self.parts.append(samples)
        self.count += samples.shape[1]

    def fill(self, frame: AudioFrame) -> None:
        """Silence for a hole between the samples so far and this frame."""
        if frame.time is None or self.start is None:
            return
        hole = frame.time - self.start - self.count / frame.sample_rate
        if hole > GAP:
            if hole > self.longest():
                raise SampleError("decode.corrupt", f"the audio jumps by {hole:.0f} s, more than the clip is long")
            missing = round(hole * frame.sample_rate)
            self.parts.append(np.zeros((len(self.parts[0]), missing), dtype=np.float32))
            self.count += missing
            self.filled += missing

    def longest(self) -> float:
        """No hole is longer than what the file declares."""
        stream, whole = self.stream, self.stream.container.duration
        return max(float(stream.duration * stream.time_base) if stream.duration else 0, (whole or 0) / av.time_base)

    def audio(self, path: Path, zero: float | None) -> Audio:
        """The finished stream."""
        if not self.count or self.shape is None:
            raise SampleError("decode.no_samples", f"{path.name}: the audio stream gives no sample")
        start = 0.0 if zero is None or self.start is None else self.start - zero
        return Audio(np.ascontiguousarray(np.concatenate(self.parts, axis=1)), self.shape[1], start)


def as_float(frame: AudioFrame) -> np.ndarray:
    """float32 [C, n] of a frame of any sample format; integers are divided by their full scale."""
    channels = frame.layout.nb_channels
    if channels >= 8 and frame.format.is_planar:  # PyAV reads past the eight pointers of such a frame and crashes
        frame = AudioResampler(format="flt").resample(frame)[0]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    offset, scale = SAMPLE_SCALES.get(samples.dtype.name, (0.0, 1.0))
    if scale == 1.0:
        return samples.astype(np.float32)
    return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)


# --- describing ---


def declared_frames(stream: Any, container: InputContainer) -> int:
    """Frames a video stream should have: as declared, else duration times rate."""
    if stream.frames:
        return int(stream.frames)
    seconds = stream_seconds(stream, container)
    return math.ceil(seconds * (stream.average_rate or stream.guessed_rate or 25)) if seconds else 0


def stream_seconds(stream: Any, container: InputContainer) -> float:
    """Declared duration of a stream, else of the container; 0 where neither tells."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def describe(container: InputContainer, path: Path, kinds: Collection[str] = BOTH) -> dict[str, Any]:
    """What a container declares of its first video and audio streams; see `probe` for the keys."""
    found = streams(container)
    info: dict[str, Any] = {}
    if "video" in kinds:
        info |= {"container": container.format.name, "bytes": path.stat().st_size}
        info |= describe_video(found["video"], container) if "video" in found else {}
    if "audio" in kinds and "audio" in found:
        info |= describe_audio(found["audio"], container, path)
    return info


def describe_video(stream: Any, container: InputContainer) -> dict[str, Any]:
    codec = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    return {
        "video_codec": codec.name, "pixel_format": codec.pix_fmt, "width": codec.width, "height": codec.height,
        "frames": declared_frames(stream, container), "fps": float(rate) if rate else None,
        "video_seconds": stream_seconds(stream, container),
        "color_space": int(codec.colorspace), "color_range": int(codec.color_range),
    }  # fmt: skip


def describe_audio(stream: Any, container: InputContainer, path: Path) -> dict[str, Any]:
    codec = stream.codec_context
    zero = video_start(container)
    start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    return {
        "audio_codec": codec.name, "sample_rate": codec.sample_rate, "channels": codec.layout.nb_channels,
        "layout": codec.layout.name, "audio_seconds": stream_seconds(stream, container),
        "audio_start": 0.0 if zero is None else start - zero, "audio_source": path.name,
    }  # fmt: skip


def measured(video: Video | None, audio: Audio | None) -> dict[str, Any]:
    """What decoding found, over what was declared."""
    info: dict[str, Any] = {"decoder": DECODER}
    if video is not None:
        height, width = video.frames.shape[1:3]
        info |= {
            "width": width, "height": height, "frames": len(video.frames), "fps": float(video.fps),
            "vfr": is_vfr(video), "video_seconds": float(video.times[-1] - video.times[0] + 1 / video.fps),
        }  # fmt: skip
    if audio is not None:
        info |= {
            "sample_rate": audio.rate, "channels": len(audio.samples), "audio_seconds": audio.seconds,
            "audio_start": audio.start,
        }  # fmt: skip
    return info


def is_vfr(video: Video) -> bool:
    """Whether some frame is shown for another time than the average one, beyond the rounding of time stamps."""
    period = float(1 / video.fps)
    return bool((np.abs(np.diff(video.times) - period) > max(0.1 * period, 0.0015)).any())
