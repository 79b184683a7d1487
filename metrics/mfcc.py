"""Mel-frequency cepstral coefficients as `python_speech_features` 0.6 computes them with its defaults.

SyncNet was trained on these: frames of 25 ms every 10 ms without a window function, 26 triangular filters, 13
coefficients, the first replaced by the logarithm of the frame's energy. Samples are in units of 16-bit integers.
"""

from __future__ import annotations

from functools import cache
from math import ceil

import numpy as np

RATE, FRAME, HOP, FFT = 16000, 400, 160, 512
FILTERS, COEFFICIENTS, LIFTER, EMPHASIS = 26, 13, 22, 0.97
SMALLEST = np.finfo(np.float64).eps


@cache
def filters() -> np.ndarray:
    """Triangles between whole FFT bins, evenly spaced in mel from 0 to 8000 Hz: float64 [26, 257]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    edges = np.floor((FFT + 1) * hertz / RATE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.arange(FFT // 2 + 1)
    rising = (bins - low) / (centre - low) * ((bins >= low) & (bins < centre))
    falling = (high - bins) / (high - centre) * ((bins >= centre) & (bins < high))
    return rising + falling


def mfcc(samples: np.ndarray) -> np.ndarray:
    """[n] at 16 kHz in 16-bit units to float64 [T, 13]; T = 1 + ceil((n - 400) / 160), zeros fill the last frame."""
    from scipy.fft import dct

    samples = np.asarray(samples, dtype=np.float64)
    emphasised = np.append(samples[:1], samples[1:] - EMPHASIS * samples[:-1])
    count = 1 + max(ceil((len(samples) - FRAME) / HOP), 0)
    padded = np.pad(emphasised, (0, (count - 1) * HOP + FRAME - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames, FFT))) / FFT
    energy, bands = power.sum(axis=1), power @ filters().T
    found = dct(np.log(np.where(bands == 0, SMALLEST, bands)), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    found *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    found[:, 0] = np.log(np.where(energy == 0, SMALLEST, energy))
    return found
