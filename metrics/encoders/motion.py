"""What the physics of `clatter` is measured on: a small grey picture per frame, and the instants at which sound begins.

No network: area averages, and spectral flux in steps of 8 ms.
"""

from __future__ import annotations

import numpy as np

from avbench.clip import Audio, Video
from avbench.errors import NotApplicable
from avbench.features import Context, Network

SIDE = 16  # pixels of the desk world
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
WINDOW, HOP = 0.032, 0.008  # seconds
LEAST = 10 ** (-50 / 20)  # of full scale; what stays below is silence
DEPTH = 1000.0  # magnitudes are compressed over 60 dB below the loudest
RISE = 0.2  # of the steepest rise; less is no onset
APART = 0.1  # seconds between onsets


def load_grid(context: Context) -> Network:
    """Video -> {"grid": float32 [T, 16, 16] in 0 ... 1, "times": float64 [T], "fps": float64 [1]}."""

    def encode(video: Video) -> dict[str, np.ndarray]:
        times = np.asarray(video.times, np.float64)
        return {"grid": small(video.frames), "times": times, "fps": np.array([float(video.fps)])}

    return encode


def small(frames: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Area averages of the middle square: uint8 [T, H, W, 3] -> float32 [T, side, side], luma in 0 ... 1."""
    height, width = frames.shape[1:3]
    size = min(height, width)
    if size < side:
        raise NotApplicable("physics.small", f"{width} x {height} pixels; at least {side} x {side} are needed")
    top, left = (height - size) // 2, (width - size) // 2
    square = frames[:, top : top + size, left : left + size]
    if size % side == 0:
        cells = square.reshape(len(square), side, size // side, side, size // side, 3)
        return (cells.mean(axis=(2, 4), dtype=np.float32) @ LUMA) / 255
    import cv2

    grey = square.astype(np.float32) @ LUMA / 255
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in grey])


def load_onsets(context: Context) -> Network:
    """Audio -> {"times": float64 [K], "peak": float64 [1]}: seconds on the video's clock, largest absolute sample."""

    def encode(audio: Audio) -> dict[str, np.ndarray]:
        mono = audio.mono
        return {
            "times": onsets(mono, audio.rate) + audio.start,
            "peak": np.array([float(np.abs(mono).max(initial=0.0))]),
        }

    return encode


def onsets(samples: np.ndarray, rate: int) -> np.ndarray:
    """Seconds at which a mono waveform [N] begins to sound: maxima of the rise of its compressed spectrum.

    A rise counts from a fifth of the clip's steepest on and a tenth of a second apart. Silence has no onset.
    """
    from scipy.signal import find_peaks

    if np.abs(samples).max(initial=0.0) < LEAST:
        return np.zeros(0)
    window, hop = round(WINDOW * rate), max(1, round(HOP * rate))
    padded = np.pad(samples.astype(np.float64), (window, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))
    level = np.log1p(DEPTH * magnitude / magnitude.max())
    rise = np.clip(level[2:] - level[:-2], 0, None).mean(axis=1)
    peaks, _ = find_peaks(np.pad(rise, 1), height=RISE * rise.max(), distance=max(1, round(APART / HOP)))
    # compressed, the rise is steepest when the onset has come into the last fifth of the (Hann) window
    return peaks * hop / rate - 0.2 * window / rate
