"""Fréchet audio distance in AudioCLIP features, as the joint audio-video literature reports it.

Ruan et al. 2023 (MM-Diffusion) introduced it, JavisBench took it over. Both give the network samples in [-1, 1] where
it was trained on 16-bit integers; the bare `fad` mends that. For VGGish, PANNs and PaSST see `fd_vgg`, `fd_panns`,
`fd_passt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.features import Encoder, Feature, View
from avbench.metric import set_metric
from avbench.metrics.distances import frechet_thresholded
from avbench.metrics.distribution import Frechet, Side, needs_rows
from avbench.views import Waveform

AUDIOCLIP = Encoder(
    "audioclip.audio", "avbench.metrics.encoders.audioclip:audio", weights=("audioclip",), batch=32, flops=2.3e10
)
AUDIOCLIP_FLOAT32 = Encoder(
    "audioclip.audio_float32", "avbench.metrics.encoders.audioclip:audio_float32",
    weights=("audioclip",), batch=32, flops=8.8e9,
)  # fmt: skip
INT16 = 32768.0


@dataclass(frozen=True)
class Samples(View):
    """The whole track: mean of channels at 44.1 kHz in the scale of 16-bit integers, float32 [1, n].

    `need`: fewer samples are refused (0.1 s).
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    waveform: Waveform
    need: int = 4410

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        samples = self.waveform(clip)
        if samples.shape[1] < self.need:
            raise SampleError("audio.too_short", f"{samples.shape[1]} samples at 44.1 kHz, {self.need} are needed")
        return samples * np.float32(INT16)


@dataclass(frozen=True)
class SampleWindows(View):
    """MM-Diffusion's: the first channel at 44.1 kHz in [-1, 1], in windows of `seconds`, float32 [windows, n].

    Windows do not overlap; a track shorter than one is zero-padded to one.
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    waveform: Waveform
    seconds: float = 1.6

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        samples, n = self.waveform(clip)[0], int(self.seconds * 44100)
        count = max(len(samples) // n, 1)
        return np.pad(samples[: count * n], (0, max(n - len(samples), 0))).reshape(count, n)


FOUR_SECONDS = Waveform(16000, resampler="soxr_hq", seconds=4.0, pad="zero")

JAVISBENCH = "JavisVerse/JavisDiT b505b37, eval/javisbench"
MM_DIFFUSION = "Ruan et al. 2023, researchmm/MM-Diffusion e180b3d"
SVD32 = "fault: float32, two SVD roots that leave singular values below 1e-10 unrooted (FAD(x, x) > 0)"
SCALE = "fault: samples in [-1, 1] where the network expects 16-bit integers, quantised to 641 levels on the way"
FLOAT32 = (
    "fault: the spectrogram is float32, where the bins of quiet frames hold rounding that differs between processors "
    "(features by up to 0.3 of their standard deviation)"
)
TIMES = "the distance times 10,000"
FIRST = "only the first min(N, N_ref) clips of each side enter"


@set_metric("fad", version=1, better="lower", range=(0, None), source="Guzhov et al. 2021; Ruan et al. 2023")
class FAD(Frechet):
    """Fréchet distance between AudioCLIP features of generated and real sound.

    AudioCLIP's audio head, 1,024 raw features, one row a clip; the whole track, mean of channels at 44.1 kHz in the
    16-bit scale the network was trained on, its spectrogram in float64; unbiased covariances, float64, no factor. Not
    on the scale of published FADs, whose arithmetic gives several points to identical sets (`fad@javisbench`). Below
    1,025 clips it is biased upwards; compare at equal N only.
    """

    feature = "audio"
    audio = Feature(AUDIOCLIP, Samples(Waveform(44100)))


class TimesTenThousand(Frechet):
    """Arithmetic of JavisBench and MM-Diffusion."""

    feature = "audio"
    equal_n = True

    def distance(self, generated: Side, reference: Side) -> float:
        return 1e4 * frechet_thresholded(needs_rows(generated), needs_rows(reference))


@set_metric(
    "fad@javisbench", version=1, better="lower", source=JAVISBENCH,
    differs=(
        SCALE, FLOAT32, "fault: 16 kHz samples where the network was trained at 44.1 kHz",
        "the first 4 s, zero-padded to 4 s",
        SVD32, TIMES, FIRST,
        "ours: other rates are resampled by soxr_hq, as librosa does now; its pinned librosa 0.9.2 takes kaiser_best",
    ),
)  # fmt: skip
class FADJavisBench(TimesTenThousand):
    """FAD as JavisBench's evaluator prints it (--max_audio_len_s 4.0)."""

    audio = Feature(AUDIOCLIP_FLOAT32, FOUR_SECONDS)


@set_metric(
    "fad@mm-diffusion", version=1, better="lower", source=MM_DIFFUSION,
    differs=(
        SCALE, FLOAT32, "several features a clip: windows of 1.6 s of the first channel", SVD32, TIMES, FIRST,
        "ours: windows do not overlap and all are used, where the source draws 2,048 of all overlapping ones",
    ),
)  # fmt: skip
class FADMMDiffusion(TimesTenThousand):
    """FAD of 1.6 s windows, as MM-Diffusion prints it."""

    audio = Feature(AUDIOCLIP_FLOAT32, SampleWindows(Waveform(44100, channels="first")))
