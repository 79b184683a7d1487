"""AudioBox-Aesthetics: how sound is judged without a reference, on four axes.

Tjandra et al., "Meta Audiobox Aesthetics: Unified Automatic Quality Assessment for Speech, Music, and Sound", 2025. The
network comes with the optional package `audiobox_aesthetics` (code and weights CC-BY 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from avbench.clip import Clip
from avbench.features import Encoder, Feature, View
from avbench.metric import sample_metric
from avbench.views import Waveform, resample

RATE = 16000
WINDOW = 10 * RATE
PQ, PC, CE, CU, SHARE = range(5)  # columns of the feature
SOURCE = "Tjandra et al. 2025, facebookresearch/audiobox-aesthetics 0.0.4"

AUDIOBOX = Encoder(
    "audiobox.windows", "avbench.metrics.encoders.audiobox:windows", weights=("audiobox_aesthetics",), batch=16,
    flops=1.6e11,
)  # fmt: skip


def windowed(samples: np.ndarray) -> np.ndarray:
    """[N] to windows of ten seconds [W, 160000], NaN after the end."""
    count = -(-len(samples) // WINDOW)
    padded = np.full(count * WINDOW, np.nan, dtype=np.float32)
    padded[: len(samples)] = samples
    return padded.reshape(count, WINDOW)


@dataclass(frozen=True)
class Windows(View):
    """The whole audio at 16 kHz in windows of ten seconds: float32 [W, 160000], NaN after the end."""

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        return windowed(Waveform(RATE)(clip)[0])


@dataclass(frozen=True)
class JavisWindow(View):
    """The first seconds as JavisBench reads them, filled up with silence that counts as sound.

    Its reader hands the resampler N signals of one sample: the samples keep their rate, scaled by the kernel's middle,
    and are taken to be at 16 kHz, so that 44.1 kHz audio plays 2.76 times slower.
    """

    seconds: float = 4.0
    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        samples = Waveform(None)(clip)[0][: int(self.seconds * RATE)]
        middle = resample(np.ones(1, dtype=np.float32), clip.need_audio().rate, RATE)[0]
        return windowed(np.pad(samples * middle, (0, int(self.seconds * RATE) - len(samples))))


class Axis:
    """Base: one axis, windows weighted by how much of them is sound."""

    audio = Feature(AUDIOBOX, Windows())
    column: ClassVar[int]

    def score(self, audio: np.ndarray) -> float:
        return float(np.average(audio[:, self.column].astype(np.float64), weights=audio[:, SHARE]))


@sample_metric("audiobox_pq", version=1, better="higher", range=(1, 10), source=SOURCE)
class ProductionQuality(Axis):
    """Production quality: clarity, fidelity, dynamics, frequencies and space of the sound, 1...10.

    The whole audio, mean over channels, 16 kHz, in windows of ten seconds.
    """

    column = PQ


@sample_metric("audiobox_pc", version=1, better="lower", range=(1, 10), source=SOURCE)
class ProductionComplexity(Axis):
    """Production complexity: how many sounds there are at a time, 1...10.

    A description, not a quality: Verse-Bench and Harmony count less as better, JavisBench averages it with the others.
    """

    column = PC


@sample_metric("audiobox_ce", version=1, better="higher", range=(1, 10), source=SOURCE)
class ContentEnjoyment(Axis):
    """Content enjoyment: emotional impact, skill, art, 1...10."""

    column = CE


@sample_metric("audiobox_cu", version=1, better="higher", range=(1, 10), source=SOURCE)
class ContentUsefulness(Axis):
    """Content usefulness: how likely the sound is to be used as material, 1...10."""

    column = CU


@sample_metric("audio_quality", version=1, better="higher", range=(1, 10), source=SOURCE)
class AudioQuality(Axis):
    """The mean of AudioBox's four axes, 1...10.

    It counts complexity as good, as JavisBench does; read the axes apart where you can.
    """

    def score(self, audio: np.ndarray) -> float:
        return float(np.average(audio[:, : CU + 1].astype(np.float64).mean(axis=1), weights=audio[:, SHARE]))


@sample_metric(
    "audio_quality@javisbench", version=1, better="higher", range=(1, 10),
    source="JavisVerse/JavisDiT b505b37, eval/javisbench",
    differs=[
        "audio that is not at 16 kHz is not resampled but scaled down and slowed down: resampled along the wrong axis",
        "the first 4 s (64,000 samples), of a shorter clip filled up with silence that is judged as sound",
    ],
)  # fmt: skip
class AudioQualityJavisBench(AudioQuality):
    """JavisBench's audio quality as its released evaluator computes it."""

    audio = Feature(AUDIOBOX, JavisWindow())
