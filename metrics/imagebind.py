"""Alignment in ImageBind space: text-video, text-audio, audio-video, AVHScore and JavisScore.

ImageBind embeds frames, sounds and texts so that what belongs together lies close; every value here is a cosine. Frame
stills are encoded once for AVHScore and JavisScore, equal log-mels once for all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, Text
from avbench.metric import sample_metric
from avbench.metrics.views_imagebind import AudioMels, FramePairs, NeighbourPairs, WindowFrames, WindowMels
from avbench.views import AllFrames, Frames, ShortSide

WEIGHTS = ("imagebind_huge",)
ENCODERS = "avbench.metrics.encoders.imagebind"
IB_VISION = Encoder("imagebind.vision", f"{ENCODERS}:vision", weights=WEIGHTS, batch=64, flops=3.36e11)
IB_AUDIO = Encoder("imagebind.audio", f"{ENCODERS}:audio", weights=WEIGHTS, batch=64, flops=4.1e10)
IB_TEXT = Encoder("imagebind.text", f"{ENCODERS}:text", weights=WEIGHTS, batch=64, flops=4.7e10)
IB_TEXT_RELEASED = Encoder("imagebind.text_released", f"{ENCODERS}:text_released", weights=WEIGHTS, flops=4.7e10)
WINDOWS = Encoder("javisscore.windows", "avbench.features:as_is", unit="clip")

STILLS = Frames(AllFrames(), ShortSide(224, "bicubic-pil"))
SOUND_RELEASED = Feature(IB_AUDIO, AudioMels(released=True))

GIRDHAR = "Girdhar et al. 2023 (ImageBind); recipe of JavisVerse/JavisDiT b505b37, eval/javisbench"
JAVISBENCH = "JavisVerse/JavisDiT b505b37, eval/javisbench"
AV_BENCHMARK = "hkchengrex/av-benchmark 050a5cd"

SHARED_WAVEFORM = "the mean is removed in place from overlapping slices of one waveform, so later slices are shifted"
LEFT_CHANNEL = "only the first audio channel is heard (ours: the mean over channels)"
NO_END_TOKEN = "a prompt of 76 tokens or more loses its end token, and all such prompts share one embedding"


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine along the last axis, in float64."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-6)


@sample_metric("tv_ib", version=1, better="higher", unit="cosine", range=(-1, 1), source=GIRDHAR)
class TVIB:
    """Text-video alignment in ImageBind space.

    Cosine of the prompt's embedding and the mean embedding of 15 views of the video: the first and last frame of five
    two-second clips spread over it, three crops each. Real clips with their captions reach about 0.3; unrelated ones
    are near 0. It says what is shown, not when. A prompt beyond 76 tokens is cut, its end token kept.
    """

    video = Feature(IB_VISION, FramePairs())
    text = Feature(IB_TEXT, Text("text"))

    def score(self, video: np.ndarray, text: np.ndarray) -> float:
        return float(cosine(video.mean(axis=0), text[0]))


@sample_metric(
    "tv_ib@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[NO_END_TOKEN],
)  # fmt: skip
class TVIBJavisBench(TVIB):
    """Text-video alignment in ImageBind space, as JavisBench's released evaluator computes `ib_tv`."""

    text = Feature(IB_TEXT_RELEASED, Text("text"))


@sample_metric("ta_ib", version=1, better="higher", unit="cosine", range=(-1, 1), source=GIRDHAR)
class TAIB:
    """Text-audio alignment in ImageBind space.

    Cosine of the audio prompt's embedding (the prompt, where a sample has none of its own for the audio) and the mean
    embedding of three two-second clips spread over the audio.
    """

    audio = Feature(IB_AUDIO, AudioMels())
    text = Feature(IB_TEXT, Text("audio_text"))

    def score(self, audio: np.ndarray, text: np.ndarray) -> float:
        return float(cosine(audio.mean(axis=0), text[0]))


@sample_metric(
    "ta_ib@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[LEFT_CHANNEL, SHARED_WAVEFORM, NO_END_TOKEN],
)  # fmt: skip
class TAIBJavisBench(TAIB):
    """Text-audio alignment in ImageBind space, as JavisBench's released evaluator computes `ib_ta`."""

    audio = SOUND_RELEASED
    text = Feature(IB_TEXT_RELEASED, Text("audio_text"))


@sample_metric("av_ib", version=1, better="higher", unit="cosine", range=(-1, 1), source=GIRDHAR)
class AVIB:
    """Audio-video alignment in ImageBind space.

    Cosine of the mean embedding of 15 views of the video and that of three clips of the audio. Semantic: a dog's bark
    fits a dog at any offset. Papers print it as AV-IB or IB-score, some times 100.
    """

    video = Feature(IB_VISION, FramePairs())
    audio = Feature(IB_AUDIO, AudioMels())

    def score(self, video: np.ndarray, audio: np.ndarray) -> float:
        return float(cosine(video.mean(axis=0), audio.mean(axis=0)))


@sample_metric(
    "av_ib@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[LEFT_CHANNEL, SHARED_WAVEFORM],
)  # fmt: skip
class AVIBJavisBench(AVIB):
    """Audio-video alignment in ImageBind space, as JavisBench's released evaluator computes `ib_av`."""

    audio = SOUND_RELEASED


@sample_metric(
    "av_ib@av-benchmark", version=1, better="higher", unit="cosine", range=(-1, 1), source=AV_BENCHMARK,
    differs=[
        "video at 0.5 frames per second (ffmpeg's fps filter), first 8 s, neighbouring frames as pairs",
        "frames resized on bytes, antialiased bicubic (ours: bilinear without antialias, as ImageBind's loader)",
        "video under 8 s is not scored (the reference drops the clip from the mean)",
        "audio of the whole file, whatever the evaluation length",
        LEFT_CHANNEL,
        SHARED_WAVEFORM,
        "the reference pairs a clip by the length of its file name; here clips are paired by sample",
    ],
)  # fmt: skip
class AVIBAVBenchmark(AVIB):
    """IB-Score as av-benchmark computes it for 8-second clips (MMAudio's tables print it times 100)."""

    video = Feature(IB_VISION, NeighbourPairs())
    audio = SOUND_RELEASED


@sample_metric(
    "avh_score", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Mao et al. 2024 (TAVGBench); recipe of JavisVerse/JavisDiT b505b37, eval/javisbench",
)  # fmt: skip
class AVHScore:
    """Audio-visual harmony: mean cosine between every frame and the whole audio, in ImageBind space.

    Every frame is embedded as a still; the audio is the mean of three two-second clips spread over it. It hardly
    reacts to a shift in time.
    """

    frames = Feature(IB_VISION, STILLS)
    audio = Feature(IB_AUDIO, AudioMels())

    def score(self, frames: np.ndarray, audio: np.ndarray) -> float:
        return float(cosine(frames, audio.mean(axis=0)).mean())


@sample_metric(
    "avh_score@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[LEFT_CHANNEL, SHARED_WAVEFORM],
)  # fmt: skip
class AVHScoreJavisBench(AVHScore):
    """AVHScore as JavisBench's released evaluator computes it."""

    audio = SOUND_RELEASED


def window_scores(frames: np.ndarray, sound: np.ndarray, ranges: np.ndarray, k: Callable[[int], int]) -> np.ndarray:
    """[W, 3]: per window the mean cosine of its `k(N)` least and most aligned frames and of all N.

    frames [T, D]; sound [c W, D], c clips per window; ranges [W, 2], frame numbers. Columns: lowest, highest, all.
    """
    sounds = sound.reshape(len(ranges), -1, sound.shape[-1]).mean(axis=1)
    rows = []
    for (first, last), heard in zip(ranges, sounds):
        cosines = np.sort(cosine(frames[first:last], heard))
        kept = k(len(cosines))
        if not kept:
            raise NotApplicable("too_short", f"a window of {len(cosines)} frames has no lowest 40 %")
        rows.append([cosines[:kept].mean(), cosines[-kept:].mean(), cosines.mean()])
    return np.array(rows)


@sample_metric(
    "javis_score", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Liu et al. 2025 (JavisDiT, arXiv 2503.23377); formula as JavisVerse/JavisDiT 515d4f6 prints it",
    fields={
        "all": "mean over all frames of a window instead (the prose of the evaluator's README)",
        "highest": "mean over the 40 % most aligned frames instead ('top-k' without its 'min')",
    },
)  # fmt: skip
class JavisScore:
    """Audio-video synchrony in ImageBind space: the least aligned frames of every two-second window.

    The paper's formula, 1/N sum over windows of 1/k sum of top-k-min cosines: windows of 2 s every 0.5 s (the last one
    ends with the clip), in each the mean cosine of its 40 % least aligned frames with the window's sound, then the mean
    over windows. Frames and samples of a window are chosen by time, on the part that both streams cover, at any frame
    rate. A clip under two seconds is one window. Published tables lie between 0.07 and 0.16. ImageBind hears what a
    sound is rather than when it falls: read this beside DeSync.
    """

    frames = Feature(IB_VISION, STILLS)
    sound = Feature(IB_AUDIO, WindowMels())
    ranges = Feature(WINDOWS, WindowFrames())

    def score(self, frames: np.ndarray, sound: np.ndarray, ranges: np.ndarray) -> dict[str, float]:
        low, high, every = window_scores(frames, sound, ranges, lambda n: max(1, int(0.4 * n))).mean(axis=0)
        return {"": float(low), "all": float(every), "highest": float(high)}


@sample_metric(
    "javis_score@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[
        "windows advance by whole frames in the video and by samples in the audio: at 25 fps the video gains 0.02 s "
        "per window on the audio",
        "windows are paired by index and cut to the shorter list; a stream that starts late is not moved",
        "if either stream is no longer than a window, all frames are compared with the whole audio",
        LEFT_CHANNEL,
        SHARED_WAVEFORM,
    ],
)  # fmt: skip
class JavisScoreJavisBench:
    """JavisScore as the released evaluator computes it: windows of 2.0 s, overlap 1.5 s, mean of the lowest 40 %."""

    frames = Feature(IB_VISION, STILLS)
    sound = Feature(IB_AUDIO, WindowMels(released=True))
    ranges = Feature(WINDOWS, WindowFrames(released=True))

    def score(self, frames: np.ndarray, sound: np.ndarray, ranges: np.ndarray) -> float:
        return float(window_scores(frames, sound, ranges, lambda n: int(0.4 * n)).mean(axis=0)[0])
