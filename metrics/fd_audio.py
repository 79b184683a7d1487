"""Fréchet distances, paired KL and inception score of audio, in the features of VGGish, PANNs and PaSST.

The defaults are av-benchmark's definitions (hkchengrex/av-benchmark 050a5cd) with its faults mended: one population for
all metrics, no clip replaced by another, exact arithmetic, no dependence on the order of clips. `@av-benchmark` and
`@audioldm-eval` (haoheliu/audioldm_eval) are what those tools print.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.features import Encoder, Feature, View
from avbench.metric import Rows, set_metric
from avbench.metrics.distances import frechet_sqrtm, inception_score, paired_kl, paired_kl_epsilon
from avbench.metrics.distribution import Frechet, Side, needs_rows
from avbench.views import resample

PANNS = Encoder(
    "panns.cnn14_16k", "avbench.metrics.encoders.panns:cnn14_16k", weights=("panns_cnn14_16k",), batch=32, flops=3.3e10
)
PANNS_32K = Encoder(
    "panns.cnn14_32k", "avbench.metrics.encoders.panns:cnn14_32k", weights=("panns_cnn14_32k",), batch=32, flops=3.4e10
)
VGGISH = Encoder("vggish", "avbench.metrics.encoders.vggish:embed", weights=("vggish",), batch=128, flops=1.7e9)
PASST = Encoder("passt.s_swa", "avbench.metrics.encoders.passt:embed", weights=("passt_s_swa",), batch=16, flops=2.6e11)

PANNS_FEATURES, PASST_FEATURES = 2048, 768
VGGISH_SAMPLES = 15600  # one window of 96 frames: 95 hops of 10 ms and 25 ms
PANNS_SAMPLES = 31 * 160  # 32 spectrogram frames at 16 kHz


@dataclass(frozen=True)
class Centred(View):
    """Samples of the audio track, float32 [1, n] at `rate`.

    In this order: the mean of all channels (or the first one), minus its mean over the whole track, resampled (sinc,
    Hann, width 6, rolloff 0.99), cut to the first `seconds` (None: all), zero-padded at the end to `least` samples.
    Fails below `need` samples.
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    rate: int = 16000
    seconds: float | None = None
    channel: Literal["mean", "first"] = "mean"
    least: int = 0
    need: int = PANNS_SAMPLES

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        audio = clip.need_audio()
        samples = audio.mono if self.channel == "mean" else audio.samples[0]
        if not len(samples):
            raise SampleError("audio.too_short", "the audio track holds no samples")
        samples = resample(samples - samples.mean(dtype=np.float32), audio.rate, self.rate)
        if self.seconds is not None:
            samples = samples[: int(self.rate * self.seconds)]
        if max(len(samples), self.least) < self.need:
            raise SampleError("audio.too_short", f"{len(samples)} samples at {self.rate} Hz, {self.need} are needed")
        samples = np.pad(samples, (0, max(self.least - len(samples), 0)))
        return np.ascontiguousarray(samples, dtype=np.float32)[None]


@dataclass(frozen=True)
class VGGishWindows(View):
    """VGGish log-mel examples of a waveform at 16 kHz: float32 [windows, 96, 64], 0.96 s each."""

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    waveform: Centred

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        from avbench.metrics.encoders.vggish import examples

        return examples(self.waveform(clip)[0])


WHOLE = Centred(need=PANNS_SAMPLES)
FIRST_8S = Centred(seconds=8.0, need=PANNS_SAMPLES)
LIKE_AUDIOLDM = Centred(channel="first", least=32000)
LIKE_AUDIOLDM_32K = Centred(32000, channel="first", least=32000)
TEN_SECONDS = Centred(32000, seconds=10.0, least=320000)
EIGHT_OF_TEN = Centred(32000, seconds=8.0, least=320000)

AV_BENCHMARK = "hkchengrex/av-benchmark 050a5cd"
AUDIOLDM = "haoheliu/audioldm_eval"
SQRTM = "SciPy matrix root, not clamped at 0; means in float32"
CUT = "the first 8 s of each clip (its --audio_length 8, as for VGGSound)"
POPULATION = "ours: clips it would replace by others, or drop by the length of their names, are reported instead"
CHANNEL = "the first channel, zero-padded to 32,000 samples"


# Fréchet distances ---------------------------------------------------------------------------------------------------


class SqrtmFloat32(Frechet):
    """Unbiased covariances, SciPy's matrix root, means in float32: av-benchmark and audioldm_eval."""

    feature = "audio"

    def distance(self, generated: Side, reference: Side) -> float:
        return frechet_sqrtm(needs_rows(generated), needs_rows(reference), mean_dtype=np.float32)


class AudioFrechet(Frechet):
    """Fréchet distance of an audio feature."""

    feature = "audio"


@set_metric("fd_vgg", version=1, better="lower", range=(0, None), source=f"Kilgour et al. 2019; {AV_BENCHMARK}")
class FDVGG(AudioFrechet):
    """Fréchet distance of VGGish features (the FAD of text-to-audio papers).

    128 features of each 0.96 s window without overlap, of the whole clip, pooled over all clips, so that long clips
    weigh more; VGGish without its last ReLU, PCA and quantisation. Mean of channels at 16 kHz, offset removed. Unbiased
    covariances, float64.
    """

    audio = Feature(VGGISH, VGGishWindows(Centred(need=VGGISH_SAMPLES)))


@set_metric("fd_vgg@av-benchmark", version=1, better="lower", source=AV_BENCHMARK, differs=(CUT, SQRTM, POPULATION))
class FDVGGAVBenchmark(SqrtmFloat32):
    """FD-VGG as av-benchmark prints it."""

    audio = Feature(VGGISH, VGGishWindows(Centred(seconds=8.0, need=VGGISH_SAMPLES)))


@set_metric("fd_vgg@audioldm-eval", version=1, better="lower", source=AUDIOLDM, differs=(CHANNEL, SQRTM, POPULATION))
class FDVGGAudioLDM(SqrtmFloat32):
    """The "FAD" of audioldm_eval."""

    audio = Feature(VGGISH, VGGishWindows(Centred(channel="first", least=32000, need=VGGISH_SAMPLES)))


@set_metric("fd_panns", version=1, better="lower", range=(0, None), source=f"Kong et al. 2020; {AV_BENCHMARK}")
class FDPANNs(AudioFrechet):
    """Fréchet distance of PANNs features.

    Cnn14 at 16 kHz, the 2,048 features before the classifier, one row a clip, of the whole clip. Mean of channels,
    offset removed. Unbiased covariances, float64. Below 2,049 clips the value is biased upwards.
    """

    columns = slice(PANNS_FEATURES)
    audio = Feature(PANNS, WHOLE)


@set_metric("fd_panns@av-benchmark", version=1, better="lower", source=AV_BENCHMARK, differs=(CUT, SQRTM, POPULATION))
class FDPANNsAVBenchmark(SqrtmFloat32):
    """FD-PANN as av-benchmark prints it."""

    columns = slice(PANNS_FEATURES)
    audio = Feature(PANNS, FIRST_8S)


@set_metric("fd_panns@audioldm-eval", version=1, better="lower", source=AUDIOLDM, differs=(CHANNEL, SQRTM, POPULATION))
class FDPANNsAudioLDM(SqrtmFloat32):
    """The "FD" of audioldm_eval with its backbone cnn14 at 16 kHz (newer versions default to MERT)."""

    columns = slice(PANNS_FEATURES)
    audio = Feature(PANNS, LIKE_AUDIOLDM)


@set_metric(
    "fd_panns@audioldm-eval-32k", version=1, better="lower", source=AUDIOLDM,
    differs=("Cnn14 at 32 kHz", CHANNEL, SQRTM, POPULATION),
)  # fmt: skip
class FDPANNsAudioLDM32k(SqrtmFloat32):
    """The "FD" of audioldm_eval with its backbone cnn14 at 32 kHz."""

    columns = slice(PANNS_FEATURES)
    audio = Feature(PANNS_32K, LIKE_AUDIOLDM_32K)


@set_metric("fd_passt", version=1, better="lower", range=(0, None), source=f"Koutini et al. 2022; {AV_BENCHMARK}")
class FDPaSST(AudioFrechet):
    """Fréchet distance of PaSST features.

    The 768 features before the classifier, one row a clip, of its first 10 s at 32 kHz (shorter clips end in
    silence, so that durations must agree). Mean of channels, offset removed. Unbiased covariances, float64.
    """

    columns = slice(PASST_FEATURES)
    audio = Feature(PASST, TEN_SECONDS)


@set_metric("fd_passt@av-benchmark", version=1, better="lower", source=AV_BENCHMARK, differs=(CUT, SQRTM, POPULATION))
class FDPaSSTAVBenchmark(SqrtmFloat32):
    """FD-PASST as av-benchmark prints it."""

    columns = slice(PASST_FEATURES)
    audio = Feature(PASST, EIGHT_OF_TEN)


# Paired divergence ---------------------------------------------------------------------------------------------------


class PairedKL:
    """Divergence of the class probabilities of each generated clip from those of its own real clip."""

    columns: ClassVar[slice] = slice(None)

    def divergence(self, generated: np.ndarray, reference: np.ndarray) -> float:
        """Of two logit matrices of the same samples."""
        return paired_kl(generated, reference)

    def reduce(self, generated: Rows, reference: Rows) -> float:
        if generated.ids != reference.ids:
            raise SampleError("set.not_paired", "generated and real clips are not of the same samples in one order")
        if not len(generated):
            raise SampleError("set.too_small", "no pair of clips")
        return self.divergence(*(np.concatenate(side.audio)[:, self.columns] for side in (generated, reference)))


@set_metric("kl_panns", version=1, better="lower", range=(0, None), unit="nats", source=AV_BENCHMARK, paired=True)
class KLPANNs(PairedKL):
    """How far the sound classes of a clip are from those of its real counterpart, after PANNs.

    Mean over pairs of KL(real || generated) between softmaxes over 527 AudioSet logits of Cnn14 at 16 kHz, float64. It
    rewards the same kind of sound, not the same sound; many real clips would not score well against another take.
    """

    columns = slice(PANNS_FEATURES, None)
    audio = Feature(PANNS, WHOLE)


@set_metric(
    "kl_panns@av-benchmark", version=1, better="lower", unit="nats", source=AV_BENCHMARK, paired=True,
    differs=(CUT, POPULATION),
)  # fmt: skip
class KLPANNsAVBenchmark(PairedKL):
    """KL-PANNS-softmax as av-benchmark prints it."""

    columns = slice(PANNS_FEATURES, None)
    audio = Feature(PANNS, FIRST_8S)


@set_metric(
    "kl_panns@audioldm-eval", version=1, better="lower", unit="nats", source=AUDIOLDM, paired=True,
    differs=(CHANNEL, "1e-6 is added to the generated side's probabilities before their logarithm", POPULATION),
)  # fmt: skip
class KLPANNsAudioLDM(PairedKL):
    """The softmax KL of audioldm_eval with its backbone cnn14 at 16 kHz."""

    columns = slice(PANNS_FEATURES, None)
    audio = Feature(PANNS, LIKE_AUDIOLDM)

    def divergence(self, generated: np.ndarray, reference: np.ndarray) -> float:
        return paired_kl_epsilon(generated, reference)


@set_metric("kl_passt", version=1, better="lower", range=(0, None), unit="nats", source=AV_BENCHMARK, paired=True)
class KLPaSST(PairedKL):
    """How far the sound classes of a clip are from those of its real counterpart, after PaSST.

    Mean over pairs of KL(real || generated) between softmaxes over 527 AudioSet logits, first 10 s at 32 kHz, float64.
    """

    columns = slice(PASST_FEATURES, None)
    audio = Feature(PASST, TEN_SECONDS)


@set_metric(
    "kl_passt@av-benchmark", version=1, better="lower", unit="nats", source=AV_BENCHMARK, paired=True,
    differs=(CUT, POPULATION),
)  # fmt: skip
class KLPaSSTAVBenchmark(PairedKL):
    """KL-PASST-softmax as av-benchmark prints it."""

    columns = slice(PASST_FEATURES, None)
    audio = Feature(PASST, EIGHT_OF_TEN)


# Inception score -----------------------------------------------------------------------------------------------------


class Inception:
    """Inception score of the generated clips alone.

    splits:  parts that are scored apart and averaged, after a permutation by `seed` of the clips sorted by id.
    """

    splits: ClassVar[int] = 1
    seed: ClassVar[int | None] = None

    def reduce(self, generated: Rows, reference: Rows | None = None) -> float:
        need = max(self.splits, 2)
        if len(generated) < need:
            raise SampleError("set.too_small", f"an inception score in {self.splits} splits needs {need} clips")
        order = sorted(range(len(generated)), key=lambda index: generated.ids[index])
        logits = np.concatenate(generated.take(order).audio)[:, PANNS_FEATURES:]
        return inception_score(logits, splits=self.splits, seed=self.seed)[0]

    def notes(self, generated: Rows, reference: Rows | None = None) -> list[str]:
        """The score rises with N."""
        return [f"N = {len(generated)}: comparable only at this N"]


@set_metric(
    "is_panns",
    version=1,
    better="higher",
    range=(1, 527),
    source=f"Salimans et al. 2016; {AV_BENCHMARK}",
    reference=False,
)
class ISPANNs(Inception):
    """How distinct and how varied the sound classes of the clips are, after PANNs.

    exp of the mean KL between a clip's softmax over 527 AudioSet logits (Cnn14, 16 kHz) and the mean over all clips.
    All clips at once, so that their order does not matter. It knows no prompt and no reference.
    """

    audio = Feature(PANNS, WHOLE)


TEN_SPLITS = "mean over 10 splits after a fixed permutation (MT19937, seed 2020) of the clips sorted by name"


@set_metric(
    "is_panns@av-benchmark", version=1, better="higher", source=AV_BENCHMARK, reference=False,
    differs=(TEN_SPLITS, CUT, POPULATION),
)  # fmt: skip
class ISPANNsAVBenchmark(Inception):
    """ISC-PANNS-mean as av-benchmark prints it."""

    splits, seed = 10, 2020
    audio = Feature(PANNS, FIRST_8S)


@set_metric(
    "is_panns@audioldm-eval", version=1, better="higher", source=AUDIOLDM, reference=False,
    differs=(TEN_SPLITS, CHANNEL, POPULATION),
)  # fmt: skip
class ISPANNsAudioLDM(Inception):
    """The inception score of audioldm_eval with its backbone cnn14 at 16 kHz."""

    splits, seed = 10, 2020
    audio = Feature(PANNS, LIKE_AUDIOLDM)
