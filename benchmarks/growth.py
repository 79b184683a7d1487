"""How cost grows: with the number of clips, their length, and their size. It should be linear, in bounded memory.

    python -m benchmarks.growth [--clips 10,100,1000] [--metrics fast]        (from the repository root)

Clips of the embedded world are rendered, evaluated in a fresh process with an empty store, and timed from start to the
finished run folder. For more clips than scenes the same pictures get another sound sample, so that no two files are
equal. One JSON line a case; processor time is of all threads, and other jobs on the machine change it least.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluate import measure


def clips(folder: Path, count: int, **spec: Any) -> Path:
    """`count` different small files and their prompts; the folder."""
    from avbench.clip import Audio, Clip
    from avbench.encode import write_clip
    from avbench.suites import clatter

    world = replace(clatter.CLATTER, **spec)
    folder.mkdir()
    scenes = [clatter.render(clatter.scene("test", index, world)) for index in range(min(count, 16))]
    rows = []
    for index in range(count):
        scene = scenes[index % len(scenes)]
        assert scene.audio is not None
        sound = np.roll(scene.audio.samples, index // len(scenes), axis=1)
        write_clip(folder / f"c{index:05d}.mp4", Clip(scene.video, Audio(sound, scene.audio.rate), {}))
        rows.append(json.dumps({"id": f"c{index:05d}", "text": "a ball falls"}))
    (folder.parent / f"{folder.name}.jsonl").write_text("\n".join(rows))
    return folder


def cases(counts: list[int]) -> Iterator[tuple[dict[str, Any], int, dict[str, Any]]]:
    """(label, clips, world) of everything that is measured."""
    small = {"width": 64, "height": 64, "fps": 12, "seconds": 1.0, "rate": 8000}
    for count in counts:
        yield {"clips": count, "seconds of a clip": 1.0, "size": "64x64 at 12 fps"}, count, small
    for seconds in (2.0, 4.0, 8.0, 16.0):
        yield {"clips": 8, "seconds of a clip": seconds, "size": "128x128"}, 8, {"seconds": seconds}
    for size in (64, 128, 256, 512):
        yield {"clips": 8, "seconds of a clip": 2.0, "size": f"{size}x{size}"}, 8, {
            "width": size, "height": size, "seconds": 2.0,
        }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="10,100,1000")
    parser.add_argument("--metrics", default="fast")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    for label, count, world in cases([int(n) for n in chosen.clips.split(",")]):
        with tempfile.TemporaryDirectory() as temporary:
            folder = clips(Path(temporary) / "clips", count, **world)
            found = measure(str(folder), f"{folder}.jsonl", chosen.metrics, None, chosen.threads)
        print(
            json.dumps(
                {
                    **label,
                    "seconds": round(found["seconds"], 2),
                    "cpu ms per clip": round(1000 * found["cpu_seconds"] / count, 1),
                    "peak MB": round(found["peak_mb"]),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
