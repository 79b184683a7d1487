"""Figures as inline SVG and small PNG images: no script, no plotting library."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from avbench.clip import Audio
from avbench.metric import Track

WIDTH, HEIGHT = 560, 120
TRACK = 56


def histogram(values: np.ndarray, mean: float, low: float | None, high: float | None) -> str:
    """The distribution of a metric with its mean and 95 % interval."""
    bins = min(40, max(5, round(2 * len(values) ** 0.5)))
    first, last = float(values.min()), float(values.max())
    if first == last:
        first, last = first - 0.5, last + 0.5
    counts, edges = np.histogram(values, bins=bins, range=(first, last))
    scale = (WIDTH - 20) / (last - first)

    def x(value: float) -> float:
        return 10 + (value - first) * scale

    bars = "".join(
        f'<rect x="{x(a) + 0.5:.1f}" y="{HEIGHT - 25 - 80 * c / counts.max():.1f}" '
        f'width="{max(x(b) - x(a) - 1, 0.5):.1f}" height="{80 * c / counts.max():.1f}"><title>{c} clips in '
        f"[{a:.4g}, {b:.4g}]</title></rect>"
        for (a, b), c in zip(pairwise(edges), counts)
    )
    band = ""
    if low is not None and high is not None:
        band = f'<rect class="band" x="{x(low):.1f}" y="8" width="{max(x(high) - x(low), 1):.1f}" height="87"/>'
    labels = "".join(
        f'<text x="{x(v):.1f}" y="{HEIGHT - 8}" text-anchor="{side}">{v:.4g}</text>'
        for v, side in ((first, "start"), (last, "end"))
    )
    line = f'<line class="mean" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="8" y2="95"/>'
    return svg(HEIGHT, f'{band}<g class="bars">{bars}</g>{line}{labels}', f"distribution of {len(values)} values")


def svg(height: float, body: str, label: str) -> str:
    """An SVG that scales with its column."""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}" class="figure">{body}</svg>'


def timeline(seconds: float, audio: Audio | None, tracks: Sequence[Track]) -> str:
    """Waveform, then one lane per track, over a common time axis."""
    lanes, y = [], 0.0
    if audio is not None:
        lanes.append(waveform(audio, seconds, y))
        y += TRACK
    for track in tracks:
        lanes.append(lane(track, seconds, y))
        y += TRACK if track.values is not None else TRACK / 2
    ticks = "".join(
        f'<line class="tick" x1="{at(t, seconds):.1f}" x2="{at(t, seconds):.1f}" y1="0" y2="{y:.0f}"/>'
        f'<text x="{at(t, seconds) + 2:.1f}" y="{y + 11:.0f}">{t:g} s</text>'
        for t in np.arange(0, seconds - 0.04 * seconds, tick_step(seconds))
    )
    return svg(y + 14, ticks + "".join(lanes), "events over time")


def at(time: float, seconds: float) -> float:
    """Horizontal place of a time."""
    return WIDTH * time / seconds


def tick_step(seconds: float) -> float:
    """Seconds between ticks: at most ten of them."""
    return next((step for step in (0.5, 1, 2, 5, 10, 30, 60) if seconds / step <= 10), 300)


def waveform(audio: Audio, seconds: float, y: float) -> str:
    """Peak envelope of the mono signal."""
    samples = np.abs(audio.mono)
    columns = 280
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    peaks = np.array([samples[a:b].max(initial=0) for a, b in pairwise(edges)])
    peaks = peaks / max(float(peaks.max(initial=0)), 1e-9) if peaks.max(initial=0) > 1e-4 else peaks
    middle, half = y + TRACK / 2, TRACK / 2 - 4
    xs = [at(audio.start + audio.seconds * i / columns, seconds) for i in range(columns)]
    upper = " ".join(f"{x:.1f},{middle - half * p:.1f}" for x, p in zip(xs, peaks))
    lower = " ".join(f"{x:.1f},{middle + half * p:.1f}" for x, p in zip(reversed(xs), reversed(peaks)))
    return f'<polygon class="wave" points="{upper} {lower}"/>' + caption("waveform", y)


def lane(track: Track, seconds: float, y: float) -> str:
    """A curve with its marked instants, or the instants alone."""
    height = TRACK if track.values is not None else TRACK / 2
    body = ""
    if track.values is not None and track.times is not None and len(track.values):
        top = max(float(track.values.max()), 1e-9)
        points = " ".join(
            f"{at(t, seconds):.1f},{y + height - 4 - (height - 16) * v / top:.1f}"
            for t, v in zip(track.times, track.values)
        )
        body += f'<polyline class="curve" points="{points}"/>'
    for time in track.events if track.events is not None else ():
        x = at(float(time), seconds)
        body += f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 12:.1f}" y2="{y + height - 4:.1f}"/>'
    return body + caption(track.name, y)


def caption(text: str, y: float) -> str:
    """The lane's name in its corner."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text class="lane" x="{WIDTH - 4}" y="{y + 10:.0f}" text-anchor="end">{escaped}</text>'


def spectrogram(audio: Audio, seconds: float) -> str:
    """Log-mel spectrogram as a PNG data address, its width the duration of the clip; "" for silence."""
    import librosa

    samples = audio.mono
    if np.abs(samples).max(initial=0) < 1e-4 or len(samples) < 512:
        return ""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=audio.rate, n_fft=1024, hop_length=max(64, len(samples) // 500), n_mels=64
    )
    level = librosa.power_to_db(mel, ref=np.max, top_db=70)[::-1]
    image = ((level + 70) / 70 * 255).astype(np.uint8)
    before = max(0, round(image.shape[1] * audio.start / audio.seconds))
    width = max(image.shape[1] + before, round(image.shape[1] * seconds / audio.seconds))
    canvas = np.zeros((image.shape[0], width), np.uint8)
    canvas[:, before : before + image.shape[1]] = image
    return png(canvas)


def png(image: np.ndarray) -> str:
    """A grey image in false colour as a data address."""
    import cv2

    coloured = cv2.applyColorMap(image, cv2.COLORMAP_MAGMA)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", coloured)[1].tobytes()).decode()
