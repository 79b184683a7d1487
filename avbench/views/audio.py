"""Views of sound: channels, rate, length; and the windows that encoders are shown.

Samples are float32. Resamplers differ audibly to a network: evaluators of audio report distances that move by tens of
per cent with another one, so each protocol names its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd
from typing import ClassVar, Literal

import numpy as np

from avbench.clip import Audio, Clip
from avbench.errors import MissingResource, SampleError
from avbench.features import View

Resampler = Literal["sinc-hann-6", "soxr_hq", "kaiser_best"]


def resample(samples: np.ndarray, rate: int, to: int, resampler: Resampler = "sinc-hann-6") -> np.ndarray:
    """float32 [..., N] at `rate` to [..., `resampled_length`] at `to`; unchanged where the rates are equal.

    sinc-hann-6: `torchaudio.functional.resample` with its defaults (windowed sinc, Hann, 6 zero crossings, roll-off
    0.99). soxr_hq: what librosa >= 0.10 uses by default. kaiser_best: what librosa < 0.10 used; needs `resampy`.
    """
    if rate == to:
        return samples
    return np.ascontiguousarray(RESAMPLERS[resampler](samples, rate, to), dtype=np.float32)


def resampled_length(samples: int, rate: int, to: int) -> int:
    """How many samples `resample` gives: the ceiling of the exact ratio, formed in float32 as torchaudio does."""
    divisor = gcd(rate, to)
    return ceil(np.float32((to // divisor) * samples / (rate // divisor))) if rate != to else samples


def sinc_hann_6(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    import torch
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), rate, to).numpy()


def soxr_hq(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    import soxr

    return fixed(soxr.resample(samples.T, rate, to, quality="HQ").T, ceil(samples.shape[-1] * (to / rate)))


def kaiser_best(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    try:
        import resampy
    except ImportError:
        raise MissingResource("kaiser_best resampling needs resampy: pip install resampy") from None
    found = resampy.resample(samples, rate, to, filter="kaiser_best", axis=-1)
    return fixed(found, ceil(samples.shape[-1] * (to / rate)))


RESAMPLERS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "sinc-hann-6": sinc_hann_6,
    "soxr_hq": soxr_hq,
    "kaiser_best": kaiser_best,
}


def fixed(samples: np.ndarray, length: int) -> np.ndarray:
    """The last axis cut, or filled with zeros at its end, to `length`."""
    missing = length - samples.shape[-1]
    return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, max(missing, 0))])[..., :length]


def on_video_time(audio: Audio) -> np.ndarray:
    """float32 [C, N] whose sample 0 is heard at time 0 of the video: after silence, or cut at its start."""
    shift = round(audio.start * audio.rate)
    return np.pad(audio.samples, ((0, 0), (shift, 0))) if shift > 0 else audio.samples[:, -shift:]


@dataclass(frozen=True)
class Waveform(View):
    """Samples of the whole clip or a part of it: float32 [1, N], or [1, C, N] for all channels.

    In this order: channels ("mean", "first", or "all"), resampling to `rate` (None: native), from `start` seconds on
    int(rate * seconds) samples (None: to the end). pad decides what a shorter clip gives: what it has (None), zeros at
    its end ("zero"), or `SampleError("audio.too_short")` ("error").
    video_time: begin at time 0 of the video instead of at the first sample.
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    rate: int | None = 16000
    channels: Literal["mean", "first", "all"] = "mean"
    resampler: Resampler = "sinc-hann-6"
    seconds: float | None = None
    pad: Literal["zero", "error"] | None = None
    start: float = 0.0
    video_time: bool = False

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        audio = clip.need_audio()
        samples = on_video_time(audio) if self.video_time else audio.samples
        if self.channels == "mean":
            samples = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        elif self.channels == "first":
            samples = samples[:1]
        rate = self.rate or audio.rate
        samples = self.cut(resample(samples, audio.rate, rate, self.resampler), rate)
        return samples[None] if self.channels == "all" else samples

    def cut(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """The wanted stretch of [C, N]."""
        samples = samples[:, int(rate * self.start) :]
        if self.seconds is not None:
            wanted = int(rate * self.seconds)
            if samples.shape[1] < wanted and self.pad == "error":
                raise SampleError("audio.too_short", f"{samples.shape[1] / rate:.2f} s, {self.seconds:g} s are needed")
            samples = fixed(samples, wanted) if self.pad == "zero" else samples[:, :wanted]
        if not samples.shape[1]:
            raise SampleError("audio.too_short", f"no sample after {self.start:g} s")
        return samples


def clip_starts(duration: Fraction | float, seconds: Fraction | float, count: int) -> list[Fraction]:
    """Starts of `count` windows of `seconds` spread evenly over a duration, the last one ending with it; exact.

    All 0 where the duration is not longer than a window. The constant-clip sampler of pytorchvideo at the revision that
    ImageBind pins (28fe037d); its release 0.1.5 divides by `count` instead of `count - 1`.
    """
    slack = max(Fraction(duration) - Fraction(seconds), Fraction(0))
    return [slack * index / max(count - 1, 1) for index in range(count)]


@dataclass(frozen=True)
class AudioClips(View):
    """`count` windows of `seconds` spread evenly over the waveform: float32 [count, n]; shorter clips give it whole.

    Sample ranges are int(start * rate) to int((start + seconds) * rate), as in ImageBind.
    """

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    count: int = 3
    seconds: float = 2.0
    waveform: Waveform = Waveform(16000)

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        samples = self.waveform(clip)[0]
        rate = self.waveform.rate or clip.need_audio().rate
        window = Fraction(self.seconds)
        starts = clip_starts(Fraction(samples.shape[-1], rate), window, self.count)
        length = min(int(window * rate), samples.shape[-1])
        return np.stack([samples[..., int(start * rate) :][..., :length] for start in starts])
