"""Our engine against a plain per-metric pipeline: same clips, same views, same hashed weights, same machine, one run.

    python -m benchmarks.side_by_side [--clips 8 | --folder CLIPS] [--without imagebind.vision,synchformer]
                                      [--device cpu] [--repeat 3] [--keep WEIGHTS]   (from the repository root)

The per-metric pipeline works as the released JavisBench evaluator does: every metric opens the clips again (FVD and
CLIP by seeking to each frame, ImageBind by five overlapping windows), builds its own networks (ImageBind twice), takes
the batch sizes of that code, and encodes equal mels as often as they occur. Its arithmetic is ours, item by item.
`--without` replaces the named networks by zeros on both sides: what is left is everything but their forward passes. One
JSON line a repetition; at the end ratios of the whole, and of what either side spends outside its forwards. The clips
are rendered, or those of a folder. Needs the repository (hashed weights come from its tests).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from avbench.clip import Clip, Video
from avbench.encode import write_clip
from avbench.execute import Executor, Networks, Settings
from avbench.features import Encoder, Feature
from avbench.generator import ClipFile
from avbench.media import DECODER, decode
from avbench.metric import closure, features
from avbench.metrics.encoders import audioclip
from avbench.plan import Plan, encoders, subjects
from avbench.registry import metrics
from avbench.store import Store
from avbench.suite import Sample
from avbench.weights import Located
from tests.hashed import hashed_state_dict

GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "goldens"
METRICS = (
    "fvd@javisbench", "fad@javisbench", "av_ib@javisbench", "clip_score@javisbench", "av_align@javisbench",
    "avh_score@javisbench", "javis_score@javisbench", "desync@javisbench",
)  # fmt: skip
ZEROS = {
    "imagebind.vision": (1024,), "imagebind.audio": (1024,), "synchformer.video": (8, 768),
    "synchformer.audio": (6, 768), "synchformer.head": (21,),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One metric of the per-metric pipeline: how it reads a clip, clips per batch, how often each item is encoded."""

    metrics: tuple[str, ...]
    read: Callable[[Path], Clip]
    batch: int = 1
    audio_loads: int = 1
    audio_times: int = 1


def seeking(count: int) -> Callable[[Path], Clip]:
    """Evenly spaced frames, each by an absolute seek."""

    def read(path: Path) -> Clip:
        capture = cv2.VideoCapture(str(path))
        total, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        wanted = np.round(np.linspace(0, total - 1, count, dtype=np.float32)).astype(int)
        pictures = []
        for index in wanted:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            pictures.append(capture.read()[1][..., ::-1])
        return Clip(Video(np.stack(pictures), wanted / fps, Fraction(fps).limit_denominator(1001)), None)

    return read


def windows(path: Path) -> Clip:
    """Five overlapping windows of 2 s, every frame of each decoded, as an exact clip reader does."""
    whole = decode(path)
    capture = cv2.VideoCapture(str(path))
    assert whole.video is not None
    count, fps = len(whole.video.frames), float(whole.video.fps)
    for start in np.linspace(0, max(0, count - 2 * fps), 5).astype(int):
        capture.set(cv2.CAP_PROP_POS_FRAMES, start)
        for _ in range(int(2 * fps)):
            capture.read()
    return whole


STAGES = (
    Stage(("fvd@javisbench",), seeking(24), batch=8),
    Stage(("fad@javisbench",), lambda path: decode(path, media=frozenset({"audio"})), batch=8),
    Stage(("av_ib@javisbench",), windows, batch=8),
    Stage(("clip_score@javisbench",), seeking(48)),
    Stage(("av_align@javisbench",), decode),
    Stage(("avh_score@javisbench", "javis_score@javisbench"), decode, audio_loads=2, audio_times=3),
    Stage(("desync@javisbench",), decode, batch=8),
)


def weights(folder: Path) -> dict[str, Located]:
    """Hashed checkpoints of all networks, written once."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {name: json.loads((GOLDENS / f"{name}_keys.json").read_text()) for name in ("distribution", "synchrony")}
    keys = {
        "i3d_k400": lists["distribution"]["i3d"],
        "audioclip": lists["distribution"]["audioclip"],
        "synchformer": lists["synchrony"]["synchformer"],
        "imagebind_huge": json.loads((GOLDENS / "imagebind_keys.json").read_text()),
        "clip_vit_b32": json.loads((GOLDENS / "clip_vit_b32_keys.json").read_text()),
    }
    found = {}
    for name, manifest in keys.items():
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            front = audioclip.front_end() if name == "audioclip" else {}
            save_file({**hashed_state_dict(manifest), **front}, path)
        found[name] = Located(name, path, f"hashed-{name}", False)
    return found


class Switched(Networks):
    """Networks of which some answer with zeros."""

    without: tuple[str, ...] = ()

    def load(self, encoder: Encoder) -> Any:
        if encoder.name.startswith(self.without or ("\0",)):
            return lambda items: torch.zeros(len(items), *ZEROS[encoder.name], device=items.device)
        return super().load(encoder)


def plan_of(names: tuple[str, ...], paths: list[Path], located: dict[str, Located], store: Path) -> Plan:
    """The plan of these metrics on these clips, with texts of their own."""
    samples = [Sample(path.stem, index, f"clip {index}: a ball falls") for index, path in enumerate(paths)]
    found = subjects("generated", samples, {path.stem: ClipFile(path) for path in paths})
    chosen = [metrics.get(name) for name in names]
    needed = {w for metric in chosen for e in encoders(features(metric).values()) for w in e.weights}
    return Plan(chosen, found, Store(store), {name: located[name] for name in needed}, "fp32", DECODER)


def ours(paths: list[Path], located: dict[str, Located], settings: Settings, store: Path) -> dict[str, float]:
    """The engine on all metrics at once."""
    began = time.perf_counter()
    plan = plan_of(METRICS, paths, located, store)
    executor = Executor(plan, settings)
    executor.networks = Switched(plan, settings)
    for _ in executor.execute():
        pass
    total, seconds = time.perf_counter() - began, executor.counts.seconds
    return {"total": total, "forwards": sum(v for name, v in seconds.items() if name.startswith("forward ")), **seconds}


def theirs(paths: list[Path], located: dict[str, Located], settings: Settings, store: Path) -> dict[str, float]:
    """The per-metric pipeline: seconds in all, of forwards, and by metric."""
    found: dict[str, float] = {}
    forwards = 0.0
    for stage in STAGES:
        began = time.perf_counter()
        plan = plan_of(stage.metrics, paths, located, store)
        networks = Switched(plan, settings)
        for start in range(0, len(paths), stage.batch):
            forwards += encode(stage, plan, networks, paths[start : start + stage.batch], settings.device)
        found[stage.metrics[0]] = time.perf_counter() - began
    return {"total": sum(found.values()), "forwards": forwards, **found}


def encode(stage: Stage, plan: Plan, networks: Networks, paths: list[Path], device: str) -> float:
    """One batch of clips through all features of a metric, dependencies first; the seconds of its forwards."""
    spent = 0.0
    clips = [stage.read(path) for path in paths]
    for path in paths:
        for _ in range(stage.audio_loads - 1):
            decode(path, media=frozenset({"audio"}))
    wanted = list(dict.fromkeys(f for m in plan.metrics for one in features(m).values() for f in closure(one)))
    done: list[dict[Feature, Any]] = [{} for _ in clips]
    for feature in wanted:
        network = networks.get(feature.encoder)
        inputs = [list(views(feature, clip, results)) for clip, results in zip(clips, done)]
        if feature.encoder.unit == "clip":
            for results, (view,) in zip(done, inputs):
                results[feature] = network(view)
            continue
        times = stage.audio_times if feature.encoder.name == "imagebind.audio" else 1
        items = [item for (view,) in inputs for item in view for _ in range(times)]
        began = time.perf_counter()
        with torch.inference_mode():
            if isinstance(items[0], str):
                rows = network(items)
            else:
                rows = network(torch.from_numpy(np.stack(items)).to(device)).float().cpu().numpy()
        spent += time.perf_counter() - began
        at = 0
        for results, (view,) in zip(done, inputs):
            results[feature] = np.asarray(rows[at : at + times * len(view) : times])
            at += times * len(view)
    return spent


def views(feature: Feature, clip: Clip, results: dict[Feature, Any]) -> Iterator[Any]:
    """The view of one clip."""
    needs = [results[need] for need in feature.view.requires]
    yield feature.view(clip, *needs, *["a ball falls" for _ in feature.view.fields])


def render(folder: Path, count: int) -> list[Path]:
    """Clips of the embedded world, 426 x 240, 24 fps, 4 s."""
    from dataclasses import replace

    from avbench.suites import clatter

    spec = replace(clatter.CLATTER, width=426, height=240)
    paths = [folder / f"c{index}.mp4" for index in range(count)]
    for index, path in enumerate(paths):
        write_clip(path, clatter.render(clatter.scene("test", index, spec)))
    return paths


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="real clips, *.mp4, in place of rendered ones")
    parser.add_argument("--without", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the hashed weights, to use them again")
    chosen = parser.parse_args()
    Switched.without = tuple(name for name in chosen.without.split(",") if name)
    settings = Settings(device=chosen.device, threads=chosen.threads)
    ratios, outside = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        located = weights(chosen.keep or folder)
        paths = sorted(chosen.folder.glob("*.mp4")) if chosen.folder else render(folder, chosen.clips)
        for turn in range(chosen.repeat):
            first = ours(paths, located, settings, folder / f"store{turn}")
            second = theirs(paths, located, settings, folder / "none")
            ratios.append(second["total"] / first["total"])
            outside.append((second["total"] - second["forwards"]) / (first["total"] - first["forwards"]))
            print(json.dumps({"ours": rounded(first), "per metric": rounded(second)}), flush=True)
    print(
        json.dumps(
            {
                "clips": len(paths), "device": chosen.device, "without forwards of": chosen.without,
                "ratio": spread(ratios), "ratio outside forwards": spread(outside),
            }
        )
    )  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    return rounded({"median": statistics.median(values), "min": min(values), "max": max(values)})


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
