"""DeSync: by how many seconds do sound and picture lie apart, as Synchformer sees it?

Iashin et al. 2024 (Synchformer); as a metric of generators from MMAudio (hkchengrex/av-benchmark) and JavisBench
(JavisVerse/JavisDiT). Clips are brought to 25 frames and 16,000 samples per second and cut into segments of 0.64 s, one
every 0.32 s; blocks of exactly 14 segments (4.8 s) are classified into 21 offsets from -2 to 2 s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, ClassVar, Literal

import numpy as np

from avbench.clip import Clip
from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, View
from avbench.metric import sample_metric
from avbench.views import AtFps, ShortSide, Waveform, on_video_time, resample, resized
from avbench.views.picks import NUDGE

WEIGHTS = ("synchformer",)
ENCODERS = "avbench.metrics.encoders.synchformer"
SYNCHFORMER_VIDEO = Encoder("synchformer.video", f"{ENCODERS}:video", weights=WEIGHTS, batch=16, flops=3.8e11)
SYNCHFORMER_AUDIO = Encoder("synchformer.audio", f"{ENCODERS}:audio", weights=WEIGHTS, batch=128, flops=1.3e10)
SYNCHFORMER_HEAD = Encoder("synchformer.head", f"{ENCODERS}:head", weights=WEIGHTS, batch=64, flops=9e9)

FPS, RATE = 25, 16000
FRAMES, STEP = 16, 8  # of a segment, between segments
SAMPLES_PER_FRAME = RATE // FPS
BLOCK = 14  # segments the head is built for
GRID = np.linspace(-2, 2, 21, dtype=np.float32)
SHORTEST = 5  # segments, 1.92 s: less cannot show the largest offset
SHAPE = ShortSide(224, "bicubic-torch-antialias")

AV_BENCHMARK = "hkchengrex/av-benchmark 050a5cd"
JAVISBENCH = "JavisVerse/JavisDiT b505b37, eval/javisbench"


def strided(array: np.ndarray, length: int, step: int) -> np.ndarray:
    """Runs of `length` along the first axis, one every `step`: a view that copies nothing."""
    windows = np.lib.stride_tricks.sliding_window_view(array, length, axis=0)[::step]
    return np.moveaxis(windows, -1, 1)


def shared_span(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Frames and samples of the time that both streams cover: indices [n] at 25 fps and float32 [640 n] at 16 kHz.

    The time axis is that of the video; a stream that starts late is not moved.
    """
    video, audio = clip.need_video(), clip.need_audio()
    index = AtFps(FPS)(video)
    begin = floor(video.times[0] * FPS + 0.5 + NUDGE)  # the slot of index[0]
    first = max(begin, ceil(audio.start * FPS - NUDGE), 0)
    wave = resample(on_video_time(audio).mean(axis=0, dtype=np.float32), audio.rate, RATE)
    last = min(begin + len(index), len(wave) // SAMPLES_PER_FRAME)
    segments = (last - first - FRAMES) // STEP + 1
    if segments < SHORTEST:
        needed = (FRAMES + STEP * (SHORTEST - 1)) / FPS
        shared = max(last - first, 0) / FPS
        raise NotApplicable("too_short", f"picture and sound share {shared:.2f} s; {needed} s are needed")
    return index[first - begin : last - begin], wave[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]


@dataclass(frozen=True)
class SharedFrames(View):
    """Segments of frames over the time both streams cover: uint8 [S, 16, 224, 224, 3]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        index, _ = shared_span(clip)
        return strided(resized(clip.need_video(), SHAPE, index), FRAMES, STEP)


@dataclass(frozen=True)
class SharedSound(View):
    """Segments of samples over the time both streams cover: float32 [S, 10240] at 16 kHz."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        _, wave = shared_span(clip)
        return strided(wave, FRAMES * SAMPLES_PER_FRAME, STEP * SAMPLES_PER_FRAME)


@dataclass(frozen=True)
class FirstFrames(View):
    """Segments of the first `seconds`: uint8 [S, 16, 224, 224, 3]; black frames fill a shorter video where `pad`."""

    seconds: float
    pad: bool

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        video = clip.need_video()
        index = AtFps(FPS, self.seconds, "black" if self.pad else None)(video)
        return strided(resized(video, SHAPE, index), FRAMES, STEP)


@dataclass(frozen=True)
class FirstSound(View):
    """Segments of the first `seconds`: float32 [S, 10240]; zeros fill a shorter audio where `pad`."""

    seconds: float
    pad: bool
    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = Waveform(RATE, seconds=self.seconds, pad="zero" if self.pad else "error")(clip)[0]
        return strided(wave, FRAMES * SAMPLES_PER_FRAME, STEP * SAMPLES_PER_FRAME)


def block_starts(segments: int) -> list[int]:
    """First segments of the blocks of 14: one after the other, the last one moved back to end with the clip."""
    starts = list(range(0, max(segments - BLOCK, 0) + 1, BLOCK))
    rest = segments - BLOCK - starts[-1]
    return [*starts, segments - BLOCK] if rest > 0 else starts


@dataclass(frozen=True)
class Blocks(View):
    """Features of 14 segments side by side, video before audio tokens: float32 [B, 14, 8 + 6, 768].

    which: "all" covers every segment; a clip of fewer than 14 is filled up with its own, from the first on. "ends":
    the first 14 and the last 14.
    """

    video: Feature = field(repr=False)  # identity of both is in `requires`
    audio: Feature = field(repr=False)
    which: Literal["all", "ends"] = "all"
    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.video, self.audio)

    def __call__(self, clip: Clip | None, *inputs: Any) -> np.ndarray:
        video, audio = inputs
        joined = np.concatenate([video, audio], axis=1)
        count = len(joined)
        starts = block_starts(count) if self.which == "all" else [0, count - BLOCK]
        return np.stack([joined[np.arange(start, start + BLOCK) % count] for start in starts])


def logits(frames: View, sound: View, which: Literal["all", "ends"] = "all") -> Feature:
    """The head over both trunks: float32 [B, 21]."""
    video, audio = Feature(SYNCHFORMER_VIDEO, frames), Feature(SYNCHFORMER_AUDIO, sound)
    return Feature(SYNCHFORMER_HEAD, Blocks(video, audio, which))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis, in float64."""
    scores = np.asarray(scores, dtype=np.float64)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def likeliest(scores: np.ndarray) -> np.ndarray:
    """Signed offset in seconds of the highest class of each block."""
    return GRID[np.argmax(scores, axis=-1)]


@sample_metric(
    "desync", version=1, better="lower", unit="s", range=(0, 2),
    source="Iashin et al. 2024 (Synchformer); MMAudio, Cheng et al. 2025",
    fields={
        "expected": "mean absolute offset under the whole distribution over classes, s; finer than the arg-max",
        "offset": "signed offset, the likeliest under the mean distribution over blocks, s; positive: sound too early",
        "confidence": "probability of that offset",
        "blocks": "blocks of 14 segments that were judged",
    },
)  # fmt: skip
class DeSync:
    """Absolute audio-video offset in seconds that Synchformer finds likeliest, mean over blocks of the clip.

    0 is in step, 2 is as far as it can say, a guess among all classes gives 1.05; steps of 0.2 s. The whole time that
    picture and sound share is judged, by time stamps, so nothing is padded. The network looks at 4.8 s at once: a
    shorter clip is filled up with its own first segments, which leaves a seam, so compare clips of equal length.
    Under 1.92 s the clip is not applicable.
    """

    logits = logits(SharedFrames(), SharedSound())

    def score(self, logits: np.ndarray) -> dict[str, float]:
        chances = softmax(logits)
        mean = chances.mean(axis=0)
        return {
            "": float(np.abs(likeliest(logits)).mean()),
            "expected": float((chances @ np.abs(GRID.astype(np.float64))).mean()),
            "offset": float(GRID[mean.argmax()]),
            "confidence": float(mean.max()),
            "blocks": len(logits),
        }


@sample_metric(
    "desync@javisbench", version=1, better="lower", unit="s", range=(0, 2), source=JAVISBENCH,
    differs=[
        "the first 4 s are judged (`--max_audio_len_s 4`), whatever the length of the clip",
        "a shorter video is filled with black frames, a shorter audio with zeros",
        "both streams begin with their first frame and sample; one that starts late is moved to the start",
        "from 5.12 s on the reference mixes up the values of clips in one batch; not reproduced, the mean is the same",
    ],
)  # fmt: skip
class DeSyncJavisBench:
    """DeSync as JavisBench's released evaluator computes it with its documented length of 4 s.

    4 s give 11 segments; the first three are repeated at the end to make 14, so every clip is judged across a seam.
    """

    logits = logits(FirstFrames(4.0, pad=True), FirstSound(4.0, pad=True))

    def score(self, logits: np.ndarray) -> float:
        return float(np.abs(likeliest(logits)).mean())


@sample_metric(
    "desync@av-benchmark", version=1, better="lower", unit="s", range=(0, 2), source=AV_BENCHMARK,
    differs=[
        "the first 8 s are judged; a shorter video fails here, where the reference leaves the clip out of the mean",
        "two blocks, of the first 14 and of the last 14 segments, which overlap (ours: as many as cover the clip)",
        "an audio under 8 s fails here; the reference encodes the next long enough file again in its place",
        "both streams begin with their first frame and sample; one that starts late is moved to the start",
    ],
)  # fmt: skip
class DeSyncAVBenchmark(DeSyncJavisBench):
    """DeSync as av-benchmark computes it for 8-second clips (the tables of MMAudio and its successors)."""

    logits = logits(FirstFrames(8.0, pad=False), FirstSound(8.0, pad=False), "ends")
