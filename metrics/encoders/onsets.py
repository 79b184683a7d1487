"""Audio onsets by spectral flux: librosa's onset strength and peak picking with its defaults."""

from __future__ import annotations

import numpy as np

from avbench.clip import Audio
from avbench.features import Context, Network


def onset_times(samples: np.ndarray, rate: int) -> np.ndarray:
    """Seconds of the onsets of a mono waveform: float32 [N] -> float64 [K]; silence has none."""
    import librosa

    strength = librosa.onset.onset_strength(y=samples, sr=rate)
    frames = librosa.onset.onset_detect(onset_envelope=strength, sr=rate)
    return np.asarray(librosa.frames_to_time(frames, sr=rate), dtype=np.float64)


def load_native(context: Context) -> Network:
    """Audio -> {"times": float64 [K], "start", "peak": float64 [1]} at the audio's own rate."""
    return lambda audio: describe(audio, audio.mono, audio.rate)


def load_22050(context: Context) -> Network:
    """Audio -> {"times", "start", "peak"} after resampling to librosa's default rate of 22,050 Hz (soxr_hq)."""

    def encode(audio: Audio) -> dict[str, np.ndarray]:
        import librosa

        return describe(audio, librosa.resample(audio.mono, orig_sr=audio.rate, target_sr=22050), 22050)

    return encode


def describe(audio: Audio, samples: np.ndarray, rate: int) -> dict[str, np.ndarray]:
    """The feature; `peak` is the largest absolute sample, for telling silence from a steady sound."""
    peak = np.abs(samples).max(initial=0)
    return {"times": onset_times(samples, rate), "start": np.array([audio.start]), "peak": np.array([float(peak)])}
