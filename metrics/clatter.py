"""Learnt metrics with encoders trained on `clatter`: the published formulas where no published weights are needed.

Networks in the shapes of CLIP, CLAP, ImageBind, Synchformer and I3D, trained by this project on the procedural world
(`encoders.clatter`), behind the same code as the real ones. Their values are comparable among themselves, on `clatter`
and its desk-sized worlds, and with nothing else: on any other suite they are refused. `--profile clatter` asks for a
metric's variant `@clatter` wherever there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from avbench.clip import Clip
from avbench.features import Encoder, Feature, Text, View
from avbench.metric import sample_metric, set_metric
from avbench.metrics.clap import ClapScore
from avbench.metrics.clip import OPENAI, ClipScore
from avbench.metrics.desync import SAMPLES_PER_FRAME, DeSync, shared_span
from avbench.metrics.fad import FAD
from avbench.metrics.fvd import FVD24, KVD24, InTime, WholeClip
from avbench.metrics.imagebind import AVIB, STILLS, TAIB, TVIB, AVHScore, JavisScore
from avbench.metrics.vbench import EVERY, BackgroundConsistency
from avbench.metrics.views_imagebind import FRAME, HOP, MEL_FRAMES, AudioMels, FramePairs, WindowMels, log_mel
from avbench.views import Frames, Linspace, ShortSide, Waveform, resized

SOURCE = "avbench, trained on clatter by tools/train_clatter_encoders.py"
OURS = ["another network, trained on clatter alone: its values compare with each other and with nothing else"]
SUITES = ("clatter*",)

ENCODERS = "avbench.metrics.encoders.clatter"
EMBEDDER, SYNCHRONY, VIDEO, AUDIO = (
    (f"clatter_{name}",) for name in ("embedder", "synchrony", "video", "audio")
)  # checkpoints, shipped with the package
STILL = Encoder("clatter.still", f"{ENCODERS}:still", weights=EMBEDDER, batch=128, flops=2.2e7)
SOUND = Encoder("clatter.sound", f"{ENCODERS}:sound", weights=EMBEDDER, batch=64, flops=7e7)
WORDS = Encoder("clatter.words", f"{ENCODERS}:words", weights=EMBEDDER, batch=64)
WATCH = Encoder("clatter.watch", f"{ENCODERS}:watch", weights=SYNCHRONY, batch=4, flops=1.6e8)
LISTEN = Encoder("clatter.listen", f"{ENCODERS}:listen", weights=SYNCHRONY, batch=16, flops=6e7)
OFFSET = Encoder("clatter.offset", f"{ENCODERS}:offset", weights=SYNCHRONY, batch=16)
VIDEO_NET = Encoder("clatter.video", f"{ENCODERS}:video", weights=VIDEO, batch=8, flops=2e8)
AUDIO_NET = Encoder("clatter.audio", f"{ENCODERS}:audio", weights=AUDIO, batch=16, flops=6e7)

SMALL = ShortSide(32, "bilinear-torch-antialias")


def mel_track(wave: np.ndarray, columns: int) -> np.ndarray:
    """Log-mels [128, columns] of a mono waveform [N] at 16 kHz, one column every 10 ms; zeros fill up the end."""
    wave = np.pad(wave, (0, max(0, (columns - 1) * HOP + FRAME - len(wave))))
    step = MEL_FRAMES * HOP  # the samples between the blocks that `log_mel` makes
    blocks = [log_mel(wave[start : start + step + FRAME - HOP]) for start in range(0, columns * HOP, step)]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1)[:, :columns])


@dataclass(frozen=True)
class SharedFrames(View):
    """Frames at 25 per second of the time both streams cover: uint8 [1, T, 32, 32, 3]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        index, _ = shared_span(clip)
        return resized(clip.need_video(), SMALL, index)[None]


@dataclass(frozen=True)
class SharedMels(View):
    """Log-mels of the time both streams cover, four columns for each frame: float32 [1, 128, 4 T]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        index, wave = shared_span(clip)
        return mel_track(wave, len(index) * SAMPLES_PER_FRAME // HOP)[None]


@dataclass(frozen=True)
class WholeMels(View):
    """Log-mels of the whole track: float32 [1, 128, T]; at least 0.1 s."""

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = Waveform(16000)(clip)[0]
        return mel_track(wave, max(10, len(wave) // HOP))[None]


@dataclass(frozen=True)
class Beside(View):
    """Two features of equal length, item by item side by side: float32 [1, T, 2 D]."""

    seen: Feature = field(repr=False)  # identity of both is in `requires`
    heard: Feature = field(repr=False)
    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.seen, self.heard)

    def __call__(self, clip: Clip | None, *inputs: Any) -> np.ndarray:
        return np.concatenate(inputs, axis=-1)


@sample_metric(
    "clip_score@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class ClipScoreClatter(ClipScore):
    """Text-video alignment in clatter's own space: mean cosine between what is to be seen and 48 frames.

    The prompt is `video_text`, which says what is visible; the real CLIP score takes the whole prompt.
    """

    frames = Feature(STILL, Frames(Linspace(48, distinct=True), OPENAI))
    text = Feature(WORDS, Text("video_text"))


@sample_metric(
    "clap_score@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE,
    differs=[*OURS, "the mean of three clips of two seconds instead of ten seconds at once"], suites=SUITES,
)  # fmt: skip
class ClapScoreClatter(ClapScore):
    """Text-audio alignment in clatter's own space."""

    audio = Feature(SOUND, AudioMels())
    text = Feature(WORDS, Text("audio_text"))

    def score(self, audio: np.ndarray, text: np.ndarray) -> float:
        return super().score(audio.mean(axis=0, keepdims=True), text)


@sample_metric(
    "tv_ib@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class TVIBClatter(TVIB):
    """Text-video alignment in clatter's own space, in ImageBind's recipe: the whole prompt, 15 views of the video."""

    video = Feature(STILL, FramePairs())
    text = Feature(WORDS, Text("text"))


@sample_metric(
    "ta_ib@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class TAIBClatter(TAIB):
    """Text-audio alignment in clatter's own space, in ImageBind's recipe."""

    audio = Feature(SOUND, AudioMels())
    text = Feature(WORDS, Text("audio_text"))


@sample_metric(
    "av_ib@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class AVIBClatter(AVIB):
    """Audio-video alignment in clatter's own space: does the sound belong to what is shown, whenever it falls?"""

    video = Feature(STILL, FramePairs())
    audio = Feature(SOUND, AudioMels())


@sample_metric(
    "avh_score@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class AVHScoreClatter(AVHScore):
    """AVHScore in clatter's own space."""

    frames = Feature(STILL, STILLS)
    audio = Feature(SOUND, AudioMels())


@sample_metric(
    "javis_score@clatter", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE, differs=OURS,
    fields=dict(JavisScore.card.fields), suites=SUITES,  # type: ignore[attr-defined]
)  # fmt: skip
class JavisScoreClatter(JavisScore):
    """JavisScore in clatter's own space."""

    frames = Feature(STILL, STILLS)
    sound = Feature(SOUND, WindowMels())


@sample_metric(
    "desync@clatter", version=1, better="lower", unit="s", range=(0, 2), source=SOURCE,
    differs=[*OURS, "the whole clip is one block, of any length from 1.92 s"],
    fields=dict(DeSync.card.fields), suites=SUITES,  # type: ignore[attr-defined]
)  # fmt: skip
class DeSyncClatter(DeSync):
    """Absolute audio-video offset in seconds that a network trained on clatter's contacts finds likeliest.

    What is seen and what is heard at every instant are correlated over all lags; 21 classes of 0.2 s from -2 to 2. On
    loose events, whose sound has no instant, it guesses.
    """

    logits = Feature(OFFSET, Beside(Feature(WATCH, SharedFrames()), Feature(LISTEN, SharedMels())))


@sample_metric(
    "background_consistency@clatter", version=1, better="higher", range=(0, 1), source=SOURCE, differs=OURS,
    suites=SUITES,
)  # fmt: skip
class BackgroundConsistencyClatter(BackgroundConsistency):
    """Does the scene look the same throughout, to clatter's own eye? VBench's formula."""

    frames = Feature(STILL, Frames(EVERY, OPENAI))


@set_metric("fvd@clatter", version=1, better="lower", range=(0, None), source=SOURCE, differs=OURS, suites=SUITES)
class FVDClatter(FVD24):
    """Fréchet distance between 64 features of generated and real clips, of a network that knows clatter's events and
    how pictures and motion can be spoilt. The frames are those of `fvd`."""

    video = Feature(VIDEO_NET, WholeClip(InTime(24)))


@set_metric("kvd@clatter", version=1, better="lower", source=SOURCE, differs=OURS, suites=SUITES)
class KVDClatter(KVD24):
    """Kernel distance on the features of `fvd@clatter`."""

    video = FVDClatter.video


@set_metric("fad@clatter", version=1, better="lower", range=(0, None), source=SOURCE, differs=OURS, suites=SUITES)
class FADClatter(FAD):
    """Fréchet distance between 64 features of generated and real sound, of a network that knows clatter's events and
    how sound can be spoilt. One row a clip, the whole track."""

    audio = Feature(AUDIO_NET, WholeMels())
