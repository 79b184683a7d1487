"""Measurements of a clip's soundness: no network, no reference."""

from __future__ import annotations

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.errors import NotApplicable
from avbench.features import Context, Network

BLACK_LUMA = 0.1  # of full scale; FFmpeg's blackdetect pix_th
BLACK_SHARE = 0.98  # of a frame's pixels; blackdetect pic_th
STILL = 0.001  # mean absolute difference of full scale, -60 dB; FFmpeg's freezedetect noise
FLOOR = 10 ** (-60 / 20)  # -60 dBFS
FRAME = 0.02  # seconds per loudness frame
CLIPPED = 0.999
LUMA = np.array([299, 587, 114], dtype=np.uint32)


def load(context: Context) -> Network:
    """Clip -> {name: float64 [1]}: video and audio measurements of the streams that are there."""

    def encode(clip: Clip) -> dict[str, np.ndarray]:
        if clip.video is None and clip.audio is None:
            raise NotApplicable("no_streams", "the clip has neither video nor audio")
        found: dict[str, float] = {}
        if clip.video is not None:
            found |= video_measures(clip.video)
        if clip.audio is not None:
            found |= audio_measures(clip.audio)
        if clip.video is not None and clip.audio is not None:
            found["gap"] = gap(clip.video, clip.audio)
        return {name: np.array([value]) for name, value in found.items()}

    return encode


def video_measures(video: Video) -> dict[str, float]:
    """black, duplicated: shares of frames; frozen: seconds of the longest run of equal frames."""
    luma = [(frame @ LUMA) // 1000 for frame in video.frames]
    black = [float((plane < 255 * BLACK_LUMA).mean()) >= BLACK_SHARE for plane in luma]
    still = [
        float(np.abs(a.astype(np.int16) - b).mean()) < 255 * STILL for a, b in zip(video.frames[1:], video.frames[:-1])
    ]
    return {
        "black": float(np.mean(black)),
        "duplicated": float(np.mean(still)) if still else 0.0,
        "frozen": longest_run(still) / float(video.fps),
    }


def longest_run(flags: list[bool]) -> int:
    """Length of the longest run of True."""
    best = now = 0
    for flag in flags:
        now = now + 1 if flag else 0
        best = max(best, now)
    return best


def audio_measures(audio: Audio) -> dict[str, float]:
    """silence: share of 20 ms frames below -60 dBFS; clipping: share of samples in runs at full scale; peak; dc.

    Loudness is integrated LUFS (ITU-R BS.1770-4) and absent where the clip is silent or shorter than 0.4 s.
    """
    samples = audio.samples
    size = max(1, int(audio.rate * FRAME))
    count = samples.shape[1] // size
    frames = samples[:, : count * size].reshape(len(samples), count, size)
    level = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=(0, 2)))
    found = {
        "silence": float((level < FLOOR).mean()) if count else float(np.abs(samples).max(initial=0) < FLOOR),
        "peak": float(np.abs(samples).max(initial=0)),
        "clipping": clipped_share(samples),
        "dc": float(np.abs(samples.mean(axis=1, dtype=np.float64)).max()),
    }
    loudness = integrated_loudness(audio)
    return found if loudness is None else {**found, "loudness": loudness}


def clipped_share(samples: np.ndarray) -> float:
    """Share of samples that lie in runs of at least three at full scale."""
    full = np.abs(samples) >= CLIPPED
    triple = full[:, :-2] & full[:, 1:-1] & full[:, 2:]
    marked = np.zeros_like(full)
    for shift in range(3):
        marked[:, shift : shift + triple.shape[1]] |= triple
    return float(marked.mean()) if marked.size else 0.0


def integrated_loudness(audio: Audio) -> float | None:
    """LUFS, None where there is nothing to measure."""
    import pyloudnorm

    samples = audio.samples if len(audio.samples) <= 5 else audio.samples.mean(axis=0, keepdims=True)
    if audio.seconds < 0.4 or np.abs(samples).max(initial=0) < FLOOR:
        return None
    with np.errstate(divide="ignore"):
        value = float(pyloudnorm.Meter(audio.rate).integrated_loudness(samples.T.astype(np.float64)))
    return value if np.isfinite(value) else None


def gap(video: Video, audio: Audio) -> float:
    """Seconds by which the ends of the two streams differ, or their starts if that is more."""
    return float(max(abs(audio.start + audio.seconds - video.seconds), abs(audio.start)))
