"""What ImageBind is shown: frame pairs of a video, log-mels of its audio, and the windows of JavisScore.

Recipes of facebookresearch/ImageBind (53680b0) as JavisVerse/JavisDiT (b505b37, eval/javisbench) and
hkchengrex/av-benchmark (050a5cd) use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any, ClassVar

import numpy as np

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable
from avbench.features import View
from avbench.views import AtFps, ShortSide, resample, resampled_length, resized

RATE = 16000
SIDE = 224
CLIP = Fraction(2)  # seconds of audio or video that one embedding sees
MEL_FRAMES, MEL_BINS = 204, 128
FRAME, HOP, FFT = 400, 160, 512  # 25 ms, 10 ms

BILINEAR = ShortSide(SIDE, "bilinear-torch", crop=None, dtype="float32")
BICUBIC = ShortSide(SIDE, "bicubic-torch-antialias", crop=None)

Span = tuple[int, int]


def clip_starts(seconds: float, count: int) -> list[Fraction]:
    """Starts of `count` clips of two seconds spread evenly over a duration; all 0 where it is shorter.

    The last clip ends with the file, as in the git revision of pytorchvideo that ImageBind pins (28fe037d); release
    0.1.5 divides by `count` instead of `count - 1`. The slack is a float there before it is a fraction, which decides
    on which side of a whole sample or frame a start falls.
    """
    slack = Fraction(max(seconds - float(CLIP), 0.0))
    return [slack * i / (count - 1) for i in range(count)]


# --- video ---


def pair_indices(frames: int, fps: Fraction, count: int = 5) -> list[Span]:
    """First and last frame of each two-second clip of a video."""
    rate = float(fps)
    starts = clip_starts(frames / rate, count)
    return [(ceil(rate * start), min(ceil(rate * (start + CLIP)), frames) - 1) for start in starts]


def crop_offsets(height: int, width: int) -> list[tuple[int, int]]:
    """Top-left corners of three square crops along the longer side: its start, its middle (rounded up), its end."""
    slack = max(height, width) - SIDE
    along = [0, ceil(slack / 2), slack]
    return [(a, 0) if height > width else (0, a) for a in along]


def three_crops(frames: np.ndarray) -> np.ndarray:
    """[T, h, w, 3] with short side 224 to [3, T, 224, 224, 3]."""
    corners = crop_offsets(*frames.shape[1:3])
    return np.stack([frames[:, y : y + SIDE, x : x + SIDE] for y, x in corners])


@dataclass(frozen=True)
class FramePairs(View):
    """First and last frame of `count` two-second clips, three crops each: float32 [3 count, 2, 224, 224, 3] in [0, 1].

    ImageBind's own video loader: clips evenly over the whole video, order clip, then crop.
    """

    count: int = 5

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        video = clip.need_video()
        spans = pair_indices(len(video.frames), video.fps, self.count)
        used = sorted({index for span in spans for index in span})
        small = dict(zip(used, resized(video, BILINEAR, used)))
        return np.concatenate([three_crops(np.stack([small[first], small[last]])) for first, last in spans])


@dataclass(frozen=True)
class NeighbourPairs(View):
    """Neighbouring frames at `rate` per second, three crops each: uint8 [3 (M - 1), 2, 224, 224, 3].

    av-benchmark's loader: ffmpeg's fps filter, the first M = rate x seconds frames, pairs (t, t + 1); order pair, crop.
    """

    seconds: float = 8.0
    rate: Fraction = Fraction(1, 2)

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        video = clip.need_video()
        wanted = int(self.rate * Fraction(self.seconds))
        index = AtFps(self.rate)(video)[:wanted]
        if len(index) < wanted:
            raise NotApplicable("too_short", f"{video.seconds:.2f} s of video; this protocol needs {self.seconds:g} s")
        small = resized(video, BICUBIC, index)
        return np.concatenate([three_crops(small[t : t + 2]) for t in range(wanted - 1)])


# --- audio ---


@cache
def mel_banks() -> np.ndarray:
    """Kaldi's triangular filters [128, 257] on the HTK mel scale, 20 Hz to 8 kHz, FFT of 512 at 16 kHz."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(20.0), mel(RATE / 2), MEL_BINS + 2)[:, None]
    bins = mel(np.arange(FFT // 2) * RATE / FFT)[None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    banks = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return np.pad(banks, ((0, 0), (0, 1)))


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Kaldi's log filter bank of float [N] at 16 kHz: float32 [128, 204], cut or padded with 0 on the right.

    25 ms frames every 10 ms, whole frames only; per-frame mean removed, pre-emphasis 0.97, symmetric Hann window,
    power spectrum, natural logarithm floored at the smallest float32 increment.
    """
    out = np.zeros((MEL_BINS, MEL_FRAMES), dtype=np.float32)
    if len(wave) < FRAME:
        return out
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), FRAME)[::HOP][:MEL_FRAMES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), FFT)) ** 2
    mels = np.log(np.maximum(power @ mel_banks().T, np.finfo(np.float32).eps))
    out[:, : len(mels)] = mels.T
    return out


def clip_spans(samples: int, count: int = 3) -> list[Span]:
    """Sample ranges of `count` two-second clips spread over a waveform at 16 kHz; a last one may end past it."""
    starts = clip_starts(samples / RATE, count)
    return [(int(start * RATE), min(int((start + CLIP) * RATE), samples)) for start in starts]


def mels_of(wave: np.ndarray, spans: list[Span]) -> np.ndarray:
    """Log-mels [n, 128, 204] of ranges of a mono waveform [N]."""
    return np.stack([log_mel(wave[start:end]) for start, end in spans])


def mels_released(wave: np.ndarray, spans: list[Span]) -> np.ndarray:
    """Log-mels [n, 128, 204] of ranges of [C, N] as the released loader makes them.

    The mean over all channels and samples of a range is subtracted in place, so a later range that overlaps it sees
    samples already shifted; then the first channel alone is used. A range repeated at once gives its first result.
    """
    wave = wave.copy()
    found: list[np.ndarray] = []
    for index, (start, end) in enumerate(spans):
        if index and spans[index - 1] == (start, end):
            found.append(found[-1])
            continue
        part = wave[:, start:end]
        part -= part.mean(dtype=np.float32)
        found.append(log_mel(part[0]))
    return np.stack(found)


def audio_16k(clip: Clip) -> np.ndarray:
    """float32 [C, N] at 16 kHz."""
    audio = clip.need_audio()
    return resample(audio.samples, audio.rate, RATE)


@dataclass(frozen=True)
class AudioMels(View):
    """Log-mels of `count` two-second clips over the whole audio: float32 [count, 128, 204].

    released: the first channel and the shared, shifted waveform of the released loader; else the mean over channels.
    """

    count: int = 3
    released: bool = False
    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = audio_16k(clip)
        spans = clip_spans(wave.shape[1], self.count)
        return mels_released(wave, spans) if self.released else mels_of(wave.mean(axis=0, dtype=np.float32), spans)


# --- the windows of JavisScore ---


def sliding(total: int, size: int, stride: int) -> list[Span]:
    """Windows over `total` items: every `stride`, the last one moved back to end with the items."""
    starts = [0]
    while starts[-1] + size < total:
        starts.append(min(starts[-1] + stride, total - size))
    return [(start, start + size) for start in starts]


@dataclass(frozen=True)
class Windows:
    """Sliding windows of `size` seconds that share `overlap` seconds with the one before."""

    size: float = 2.0
    overlap: float = 1.5

    def pair(self, clip: Clip) -> list[tuple[Span, Span]]:
        """(frame range, sample range at 16 kHz) of each window, by time on the part that both streams cover."""
        video, audio = clip.need_video(), clip.need_audio()
        begin = max(float(video.times[0]), audio.start)
        end = min(float(video.times[-1] + 1 / video.fps), audio.start + audio.seconds)
        if end - begin < 0.1:
            raise NotApplicable("no_overlap", "the streams share less than 0.1 s")
        hop, size = self.size - self.overlap, min(self.size, end - begin)
        ticks = sliding(round((end - begin) * 1e6), round(size * 1e6), round(hop * 1e6))
        return [self.at(video, begin + start / 1e6, size, audio.start) for start, _ in ticks]

    def at(self, video: Video, start: float, size: float, audio_start: float) -> tuple[Span, Span]:
        """The frames shown and the samples heard in [start, start + size) seconds."""
        first, last = np.searchsorted(video.times, [start - 1e-4, start + size - 1e-4])
        first = min(first, last - 1)  # a window in which no frame begins shows the one before
        sample = round((start - audio_start) * RATE)
        return (int(first), int(last)), (sample, sample + round(size * RATE))

    def pair_released(self, frames: int, fps: float, samples: int) -> list[tuple[Span, Span]]:
        """As the released evaluator: each stream by its own count of items, paired by index, as many as both have."""
        wide, long = int(self.size * fps), int(self.size * RATE)
        if frames <= wide or samples <= long:
            return [((0, frames), (0, samples))]
        seen = sliding(frames, wide, wide - int(self.overlap * fps))
        heard = sliding(samples, long, long - int(self.overlap * RATE))
        return list(zip(seen, heard))


@dataclass(frozen=True)
class WindowFrames(View):
    """First and one past the last frame of each window: int64 [W, 2]."""

    windows: Windows = Windows()
    released: bool = False
    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        return np.array([seen for seen, _ in window_pairs(clip, self.windows, self.released)], dtype=np.int64)


@dataclass(frozen=True)
class WindowMels(View):
    """Log-mels of each window's clips: float32 [3 W, 128, 204].

    A two-second window has three equal clips, which are encoded once.
    """

    windows: Windows = Windows()
    released: bool = False
    count: int = 3
    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = audio_16k(clip)
        spans = []
        for _, (start, end) in window_pairs(clip, self.windows, self.released):
            end = min(end, wave.shape[1])
            spans += [(start + a, start + b) for a, b in clip_spans(end - start, self.count)]
        return mels_released(wave, spans) if self.released else mels_of(wave.mean(axis=0, dtype=np.float32), spans)


def window_pairs(clip: Clip, windows: Windows, released: bool) -> list[tuple[Span, Span]]:
    """The windows of a clip under either reading."""
    if not released:
        return windows.pair(clip)
    video, audio = clip.need_video(), clip.need_audio()
    samples = resampled_length(audio.samples.shape[1], audio.rate, RATE)
    return windows.pair_released(len(video.frames), float(video.fps), samples)
