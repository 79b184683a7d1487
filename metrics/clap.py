"""CLAP score: how well the audio fits its text, and the variants that papers print under that name.

Values of different checkpoints are not comparable; the checkpoint is part of each variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.features import Encoder, Feature, Text, View
from avbench.metric import sample_metric
from avbench.metrics.imagebind import cosine
from avbench.views import resample

ENCODERS = "avbench.metrics.encoders.clap"
HTSAT, LAION, MS = ("clap_htsat_unfused",), ("clap_laion_music_speech",), ("clap_ms_2023",)
CLAP_AUDIO = Encoder("clap.htsat.audio", f"{ENCODERS}:htsat_audio", weights=HTSAT, batch=64, flops=1.2e10)
CLAP_TEXT = Encoder("clap.htsat.text", f"{ENCODERS}:htsat_text", weights=HTSAT, batch=64, flops=3.4e9)
LAION_AUDIO = Encoder("clap.laion.audio", f"{ENCODERS}:laion_audio", weights=LAION, batch=64, flops=3.2e10)
LAION_TEXT = Encoder("clap.laion.text", f"{ENCODERS}:laion_text", weights=(*LAION, "roberta_tokenizer"), flops=3.4e9)
MS_AUDIO = Encoder("clap.ms.audio", f"{ENCODERS}:ms_audio", weights=MS, batch=64, flops=1.2e10)
MS_TEXT = Encoder("clap.ms.text", f"{ENCODERS}:ms_text", weights=(*MS, "gpt2_tokenizer"), flops=1.3e10)

# Log-mel front ends -------------------------------------------------------------------------------------------------

FFT, MELS, LOWEST, HIGHEST, FLOOR = 1024, 64, 50.0, 14000.0, 1e-10
LAION_RATE, LAION_HOP, LAION_SECONDS = 48000, 480, 10
MS_RATE, MS_HOP, MS_SECONDS = 44100, 320, 7
MS_DESIGN_RATE = 32000  # the rate its filters were made for; the audio is at 44.1 kHz all the same


@cache
def mel_filters(rate: int) -> np.ndarray:
    """Slaney's triangular filters, area-normalised, float64 [64, 513]."""
    import librosa

    return librosa.filters.mel(
        sr=rate, n_fft=FFT, n_mels=MELS, fmin=LOWEST, fmax=HIGHEST, htk=False, norm="slaney", dtype=np.float64
    )


def log_mel(wave: np.ndarray, hop: int, design_rate: int) -> np.ndarray:
    """Log-mel of a mono waveform [N] in dB, float32 [1 + N // hop, 64].

    Periodic Hann window of 1024, centred frames with reflected ends, power spectrum, 10 log10 floored at -100 dB.
    """
    padded = np.pad(wave.astype(np.float64), FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT + 1)[:-1])) ** 2
    return (10.0 * np.log10(np.maximum(power @ mel_filters(design_rate).T, FLOOR))).astype(np.float32)


def fitted(
    wave: np.ndarray, samples: int, pad: Literal["repeat", "zero"], crop: Literal["centre", "seeded"]
) -> np.ndarray:
    """A mono waveform [N] of exactly `samples` samples.

    Shorter: whole repeats that fit, then zeros ("repeat"), or zeros alone ("zero"). Longer: its middle ("centre"), or
    the first draw of NumPy's legacy generator with seed 0 ("seeded"), where the references draw without a seed.
    """
    slack = len(wave) - samples
    if slack > 0:
        start = slack // 2 if crop == "centre" else np.random.RandomState(0).randint(0, slack + 1)
        return wave[start : start + samples]
    if pad == "repeat":
        wave = np.tile(wave, samples // len(wave))
    return np.pad(wave, (0, samples - len(wave)))


def mono(clip: Clip) -> np.ndarray:
    """The mean over channels, float32 [N], at its own rate."""
    wave = clip.need_audio().mono
    if not len(wave):
        raise SampleError("audio.empty", "the audio has no samples")
    return wave


@dataclass(frozen=True)
class ClapMel(View):
    """Log-mel of ten seconds at 48 kHz, mono: float32 [1, 1001, 64] in dB. See `fitted` for other lengths."""

    pad: Literal["repeat", "zero"] = "repeat"
    crop: Literal["centre", "seeded"] = "centre"
    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = resample(mono(clip), clip.need_audio().rate, LAION_RATE, "soxr_hq")
        wave = fitted(wave, LAION_RATE * LAION_SECONDS, self.pad, self.crop)
        return log_mel(wave, LAION_HOP, LAION_RATE)[None]


@dataclass(frozen=True)
class LaionMel(View):
    """av-benchmark's front end for LAION-CLAP: float32 [1, 1001, 64] in dB.

    Mean over channels, mean over the file removed, windowed-sinc resampling to 48 kHz, the first `seconds`, repeated.
    """

    seconds: float = 8.0
    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = mono(clip)
        wave = resample((wave - wave.mean(dtype=np.float32))[None], clip.need_audio().rate, LAION_RATE)[0]
        wave = fitted(wave[: int(LAION_RATE * self.seconds)], LAION_RATE * LAION_SECONDS, "repeat", "seeded")
        return log_mel(wave, LAION_HOP, LAION_RATE)[None]


@dataclass(frozen=True)
class MSMel(View):
    """av-benchmark's front end for MS-CLAP: float32 [1, 965, 64] in dB.

    Resampled to 44.1 kHz, the channels one after the other, seven seconds: repeated to fill, or cut from the start.
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        audio = clip.need_audio()
        wave = resample(audio.samples, audio.rate, MS_RATE).ravel()
        if not len(wave):
            raise SampleError("audio.empty", "the audio has no samples")
        return log_mel(np.resize(wave, MS_RATE * MS_SECONDS), MS_HOP, MS_DESIGN_RATE)[None]


# Metrics ------------------------------------------------------------------------------------------------------------

JAVISBENCH = "JavisVerse/JavisDiT b505b37, eval/javisbench"
AV_BENCHMARK = "hkchengrex/av-benchmark 050a5cd"
SEEDED = "audio beyond 10 s is cropped at a random, unseeded place; here at the first draw of seed 0"
LIBROSA = "its pinned librosa 0.9.2 resamples with kaiser_best; here soxr_hq, as librosa does since 0.10"


@sample_metric(
    "clap_score", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Wu et al. 2023 (CLAP, laion/clap-htsat-unfused)",
)  # fmt: skip
class ClapScore:
    """Text-audio alignment in CLAP space: cosine between the audio prompt and ten seconds of audio.

    laion/clap-htsat-unfused; mono, 48 kHz; shorter audio is repeated as often as it fits and filled with silence, as
    the network was trained, and longer audio is judged by its middle ten seconds. The prompt is that of the audio, or
    the whole prompt where a sample has none of its own; beyond 512 tokens it is cut.
    """

    audio = Feature(CLAP_AUDIO, ClapMel())
    text = Feature(CLAP_TEXT, Text("audio_text"))

    def score(self, audio: np.ndarray, text: np.ndarray) -> float:
        return float(cosine(audio[0], text[0]))


@sample_metric(
    "clap_score@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[
        SEEDED,
        LIBROSA,
        "short audio is repeated, as the evaluator does with transformers 5; with the version it pins see "
        "clap_score@javisbench-zeropad",
        "a prompt beyond 512 tokens stops the reference; here it is cut",
    ],
)  # fmt: skip
class ClapScoreJavisBench(ClapScore):
    """CLAP score as JavisBench's released evaluator computes it with a current transformers."""

    audio = Feature(CLAP_AUDIO, ClapMel(crop="seeded"))


@sample_metric(
    "clap_score@javisbench-zeropad", version=1, better="higher", unit="cosine", range=(-1, 1), source=JAVISBENCH,
    differs=[
        "audio under 10 s is filled with silence: the evaluator passes padding=True, which transformers 4.49.0 takes "
        "for a padding mode of its own (huggingface/transformers #23648)",
        SEEDED,
        LIBROSA,
    ],
)  # fmt: skip
class ClapScoreZeroPad(ClapScore):
    """CLAP score as JavisBench's released evaluator computes it with the transformers 4.49.0 it pins."""

    audio = Feature(CLAP_AUDIO, ClapMel(pad="zero", crop="seeded"))


@sample_metric(
    "clap_score@av-benchmark", version=1, better="higher", unit="cosine", range=(-1, 1), source=AV_BENCHMARK,
    differs=[
        "another checkpoint: music_speech_audioset_epoch_15_esc_89.98.pt, HTSAT-base",
        "only the first 8 s are heard, the mean over the file removed",
        "the prompt is cut to 77 tokens",
        "front end of torchlibrosa in float32; here the same in float64",
    ],
)  # fmt: skip
class ClapScoreLaion(ClapScore):
    """LAION-CLAP-Score of av-benchmark for clips of 8 seconds.

    The checkpoint is read in LAION's own format onto transformers' network. The front end and the audio tower agree
    with independently measured figures; of the text tower only the names are checked, for want of reference values.
    """

    audio = Feature(LAION_AUDIO, LaionMel())
    text = Feature(LAION_TEXT, Text("audio_text"))


@sample_metric(
    "clap_score@av-benchmark-ms", version=1, better="higher", unit="cosine", range=(-1, 1), source=AV_BENCHMARK,
    differs=[
        "another network: MS-CLAP 2023, HTSAT-tiny and GPT-2",
        "the channels are heard one after the other, at 44.1 kHz through filters made for 32 kHz",
        "seven seconds, cropped at a random, unseeded place in the reference and from the start here",
        "every stand-alone '!' in the prompt moves the place where the text is read one token to the left",
        "a prompt of 76 tokens or more is cut; the reference fails on it in a batch",
    ],
)  # fmt: skip
class ClapScoreMS(ClapScore):
    """MS-CLAP-Score of av-benchmark.

    The checkpoint is read in its own format onto transformers' networks. The front end agrees with independently
    measured figures; the towers are checked against their formulas, for want of reference values.
    """

    audio = Feature(MS_AUDIO, MSMel())
    text = Feature(MS_TEXT, Text("audio_text"))
