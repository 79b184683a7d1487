"""Look at `clatter`: contact sheets (eight frames per clip, one row per event) and spectrograms with the true onsets.

    python tools/clatter_sheet.py OUT_FOLDER [--start 0] [--rows 16] [--split test] [--desk] [--events a,b] [--tile 128]

Writes clatter-sheet.png, clatter-spectrograms.png and, with --wav, one .wav per clip. A tool for developers.
"""

from __future__ import annotations

import argparse
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from avbench.suites.clatter import CLATTER, DESK, Scene, WorldSpec, audio, frames, scene

LABEL = 76


def sheet(scenes: list[Scene], spec: WorldSpec, columns: int, tile: int, blocks: int = 1) -> Image.Image:
    """Rows of frames `tile` pixels high, evenly spread over the clip; in several blocks side by side."""
    wide = max(1, round(tile * spec.width / spec.height))
    rows, step = -(-len(scenes) // blocks), LABEL + columns * (wide + 2)
    page = Image.new("RGB", (blocks * step, rows * (tile + 2)), "white")
    draw = ImageDraw.Draw(page)
    picks = np.linspace(0, spec.frames - 1, columns).round().astype(int)
    smooth = Image.Resampling.LANCZOS if tile < spec.height else Image.Resampling.NEAREST
    for k, one in enumerate(scenes):
        x, y = (k // rows) * step, (k % rows) * (tile + 2)
        pictures = frames(one, spec)
        pictures = np.repeat(pictures, 3, axis=3) if spec.channels == 1 else pictures
        draw.text((x + 4, y + 4), f"{one.event}\n{one.stage.words.get('material', '')}\n#{one.index}", fill="black")
        for column, frame in enumerate(picks):
            page.paste(
                Image.fromarray(pictures[frame]).resize((wide, tile), smooth), (x + LABEL + column * (wide + 2), y)
            )
    return page


def spectrogram(samples: np.ndarray, rate: int, width: int, height: int) -> np.ndarray:
    """dB magnitudes, time across, frequency up, uint8 [height, width, 3]."""
    n, hop = 512, max(1, len(samples) // width)
    padded = np.pad(samples, n // 2)
    slices = np.stack([padded[k * hop : k * hop + n] for k in range(width)]) * np.hanning(n)
    power = 20 * np.log10(abs(np.fft.rfft(slices)) + 1e-6)
    level = np.clip((power.T[::-1] + 60) / 90, 0, 1)
    rows = np.linspace(0, len(level) - 1, height).round().astype(int)
    level = level[rows]
    return (255 * np.stack([level**0.8, level**1.8, 0.3 * level + 0.25 * (1 - level) * (level > 0.02)], 2)).astype(
        np.uint8
    )


def spectrograms(
    scenes: list[Scene], spec: WorldSpec, width: int = 380, height: int = 72, columns: int = 2
) -> Image.Image:
    """One spectrogram per clip, with the true onsets as ticks below."""
    rows = -(-len(scenes) // columns)
    page = Image.new("RGB", (columns * (LABEL + width + 8), rows * (height + 16)), "white")
    draw = ImageDraw.Draw(page)
    for k, one in enumerate(scenes):
        x, y = LABEL + (k % columns) * (LABEL + width + 8), (k // columns) * (height + 16)
        page.paste(Image.fromarray(spectrogram(audio(one, spec), spec.rate, width, height)), (x, y))
        draw.text((x - LABEL + 4, y + 4), f"{one.event}\n{one.sound}", fill="black")
        for onset in one.onsets:
            tick = x + onset / spec.seconds * width
            draw.line((tick, y + height, tick, y + height + 7), fill="red", width=2)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--split", default="test")
    parser.add_argument("--events", default="")
    parser.add_argument("--sound", default="")
    parser.add_argument("--fault", default="")
    parser.add_argument("--tile", type=int, default=0, help="height of a picture, default as filmed")
    parser.add_argument("--blocks", type=int, default=1, help="blocks of rows side by side")
    parser.add_argument("--colours", type=int, default=0, help="reduce the pictures to a palette, for small files")
    parser.add_argument("--desk", action="store_true")
    parser.add_argument("--wav", action="store_true")
    options = parser.parse_args()
    spec = DESK if options.desk else CLATTER
    if options.events:
        spec = replace(spec, events=tuple(options.events.split(",")))
    chosen = [
        scene(options.split, options.start + k, spec, sound=options.sound, fault=options.fault)
        for k in range(options.rows)
    ]
    chosen.sort(key=lambda one: one.sound, reverse=True)
    options.out.mkdir(parents=True, exist_ok=True)
    pages = {
        "clatter-sheet.png": sheet(chosen, spec, options.columns, options.tile or spec.height, options.blocks),
        "clatter-spectrograms.png": spectrograms(chosen, spec),
    }
    for name, page in pages.items():
        if options.colours:
            page = page.quantize(options.colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        page.save(options.out / name, optimize=True)
    for one in chosen:
        print(f"{one.id}: {one.text}")
        if options.wav:
            with wave.open(str(options.out / f"{one.id}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(spec.rate)
                file.writeframes((audio(one, spec) * 32768).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
