"""Does every system and ablation learn, and can what it makes be scored? Trains them all, and writes docs/learning.md.

    OMP_NUM_THREADS=1 python tools/learn_all.py FOLDER [NAMES] [--steps 200]

Each nano model of the catalogue trains on clatter's desk world from one seed, generates clips for the first prompts of
`clatter-mini`, and `avbench eval` scores them; a video-to-audio model gets the world's own videos. FOLDER keeps the
trainings: repeating the command does what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import avbench
from avbench.reference_models.catalogue import names, parse
from avbench.reference_models.training.config import parse_config
from avbench.reference_models.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
CLIPS = 4


def train(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """One training; held-out losses at its start and end, seconds a step."""
    raw = {
        "model": name, "steps": steps, "batch": 8, "optimiser": {"warmup": 20, "lr": 2e-3, "ema": 0.98},
        "data": {"clips": 256, "valid": 32}, "log_every": 10, "validate_every": steps, "save_every": steps,
    }  # fmt: skip
    began = time.perf_counter()
    Trainer(parse_config(raw, name), folder, "cpu").run()
    lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    held = [line for line in lines if "valid_video" in line or "valid_audio" in line]
    found: dict[str, Any] = {"seconds": (time.perf_counter() - began) / steps, "steps": steps}
    for stream in ("video", "audio"):
        curve = [line[f"valid_{stream}"] for line in held if line.get(f"valid_{stream}") is not None]
        found[stream] = [curve[0], curve[-1]] if curve else None
    return found


def judge(folder: Path, out: Path) -> dict[str, Any]:
    """Clips of a checkpoint through the evaluation: how many are scored, and their AV-Align."""
    run = avbench.evaluate(
        str(folder), "clatter-mini", "integrity,av_align", limit=CLIPS, device="cpu", out=out, allow_failed="100%"
    )
    scores = run.scores[run.scores["field"] == ""]
    align = scores[(scores["metric"] == "av_align") & (scores["status"] == "ok")]["value"]
    integrity = scores[(scores["metric"] == "integrity") & (scores["status"] == "ok")]["value"]
    return {"clips": run.manifest["counts"]["ok"], "integrity": mean(integrity), "av_align": mean(align)}


def mean(values: Any) -> float | None:
    return round(float(values.mean()), 3) if len(values) else None


def page(found: dict[str, dict[str, Any]]) -> str:
    """The table, in Markdown."""
    head = ["model", "held-out video loss", "held-out audio loss", "s/step", "clips scored", "integrity", "av_align"]
    lines = [head, ["---"] * len(head)]
    for name, one in found.items():
        losses = [f"{a:.3f} → {b:.3f}" if (a, b) != (0, 0) else "" for a, b in (one[s] or (0, 0) for s in STREAMS)]
        scores = ["" if one[key] is None else f"{one[key]:.2f}" for key in ("integrity", "av_align")]
        lines.append([f"`{name}`", *losses, f"{one['seconds']:.2f}", f"{one['clips']} of {CLIPS}", *scores])
    steps = next(iter(found.values()))["steps"]
    return TEXT.format(steps=steps, clips=CLIPS) + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


STREAMS = ("video", "audio")
TEXT = """# Every system learns

Made by `python tools/learn_all.py FOLDER`. Each `nano` model of the catalogue but MMAudio's trained for {steps} steps
of 8 clips of clatter's desk world on one thread, from one seed; losses are those of averaged weights on held-out
clips, at the start and at the end. Then it made {clips} clips for the first prompts of `clatter-mini`, which `avbench
eval` scored. This shows that every path works from configuration to table, and nothing about which system is better:
{steps} steps are a small part of a training, the prompts are mostly of events outside the desk world, and there is
one seed. Seconds per step are of a machine that was busy with other work.

"""


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=200)
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = chosen.names or [
        name for name in names() if parse(name).size == "nano" and parse(name).system != "mmaudio"
    ]
    record = folder / "learning.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    for name in wanted:
        if name not in found:
            found[name] = {**train(name, folder / name, chosen.steps), **judge(folder / name, folder / "runs")}
            record.write_text(json.dumps(found, indent=1))
            print(name, json.dumps(found[name]), flush=True)
    (ROOT / "docs" / "learning.md").write_text(page(found))


if __name__ == "__main__":
    main()
