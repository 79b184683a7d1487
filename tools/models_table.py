"""Write the tables of docs/reference-models.md: what every reference model weighs and costs.

    python tools/models_table.py [NAME ...] [--check]

Parameters and FLOPs are counted on the meta device, so full sizes need no memory. Small sizes are also timed, in CPU
time of one thread. Names choose what is measured again; the rest is kept. The numbers live in
docs/data/reference-models.json. --check writes nothing and fails where the page does not show them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from avbench.reference_models.catalogue import SYSTEMS, build, names, parse
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.sampling import SamplerSpec, sample
from avbench.reference_models.training.sampler import SMALL

ROOT = Path(__file__).resolve().parent.parent
PAGE, DATA = ROOT / "docs" / "reference-models.md", ROOT / "docs" / "data" / "reference-models.json"
BEGIN, END = "<!-- models table -->", "<!-- end of models table -->"
TIMED = ("tiny", "nano")
BATCH, TIMED_STEPS = 4, 1
HEAD = [
    "model", "parameters", "of video", "FLOPs per pass", "FLOPs per sampling step", "training, clips/CPU s",
    "sampling, clips/CPU s",
]  # fmt: skip


@dataclass(frozen=True)
class Shapes:
    """Of one clip's latents and conditions; about: the clip they are of."""

    about: str
    video: tuple[int, ...] | None = None
    audio: tuple[int, ...] = ()
    text_v: tuple[int, int] | None = None
    text_a: tuple[int, int] | None = None
    look: tuple[int, int] | None = None
    sync: tuple[int, int] | None = None


FULL = {
    "avfulldit": Shapes("5 s of 192x320 at 24 fps", (48, 31, 12, 20), (108, 64), (512, 4096), (64, 1024)),
    "bridgedit": Shapes(
        "81 frames of 480x832 and 5.4 s of sound", (16, 21, 60, 104), (116, 64), (512, 4096), (128, 768)
    ),
    "harmony": Shapes("5 s of 704x1280 at 24 fps (Ovi's)", (48, 31, 44, 80), (157, 20), (512, 4096), (512, 4096)),
    "javisdit": Shapes("65 frames of 240x416 at 16 fps", (16, 17, 30, 52), (8, 104, 16), (512, 4096)),
    "visiosonic": Shapes("8 s", None, (345, 40), None, (77, 1024), (64, 1024), (192, 768)),
    "mmaudio": Shapes("8 s", None, (345, 40), None, (77, 1024), (64, 1024), (192, 768)),
}
SIDE = {"tiny": 32, "nano": 16}


def shapes(name: str) -> Shapes:
    """Of a catalogue entry."""
    entry = parse(name)
    if entry.size in TIMED:
        video = (1, 16, SIDE[entry.size], SIDE[entry.size]) if SYSTEMS[entry.system].twin else None
        audio = (1, 64, 16) if entry.system == "javisdit" else (64, 16)
        text = (8, 32)
        features = (None, None) if video else ((16, 64), (16, 64))
        return Shapes("2 s of grey pixels and log-mel", video, audio, text if video else None, text, *features)
    full = FULL[entry.system]
    if entry.size.endswith("-16k"):
        return Shapes("8 s", None, (250, 20), None, full.text_a, full.look, full.sync)
    return full


@dataclass
class Inputs:
    """What a model is called with, and its noise."""

    video: Tensor | None
    audio: Tensor | None
    cond: Conditions
    t: Tensor

    def call(self, model: nn.Module) -> JointPrediction:
        t_v, t_a = (None if x is None else self.t for x in (self.video, self.audio))
        out: JointPrediction = model(self.video, self.audio, t_v, t_a, self.cond)
        return out


def inputs(name: str, batch: int, device: str) -> Inputs:
    """Random latents and conditions."""
    form, t2v = shapes(name), parse(name).t2v
    drawn: dict[str, Any] = {
        key: None if not size else torch.randn(batch, *size, device=device)
        for key, size in vars(form).items()
        if key != "about"
    }
    seconds, t = (torch.full((batch,), value, device=device) for value in (2.0, 0.5))
    video, audio = drawn.pop("video"), drawn.pop("audio")
    return Inputs(video, None if t2v else audio, Conditions(**drawn, seconds=seconds), t)


def counted(name: str) -> dict[str, Any]:
    """Parameters and FLOPs, on the meta device. A T2V-only twin is counted without the parts that it does not run."""
    with torch.device("meta"):
        model = build(name).eval().requires_grad_(False)
    form = shapes(name)
    video = sum(p.numel() for key, p in model.named_parameters() if key.startswith("video."))
    total = video if parse(name).t2v else sum(p.numel() for p in model.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        inputs(name, 1, "meta").call(model)
    return {"clip": form.about, "parameters": total, "video": video, "flops": counter.get_total_flops()}


def passes(name: str) -> int:
    """Network passes of a sampling step: with a negative 2, with both anchors of SyncCFG 3."""
    sampler = SYSTEMS[parse(name).system].sampler
    return 2 if parse(name).t2v or sampler["guidance"] == "cfg" else 3


def best(work: Callable[[], object], repeats: int = 2) -> float:
    """CPU seconds of the fastest of some runs: other work on the machine hardly counts."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def timed(name: str) -> dict[str, float]:
    """Clips per CPU second of a small model on one thread: a training step, and sampling with the system's defaults."""
    torch.set_num_threads(1)
    model, given = build(name), inputs(name, BATCH, "cpu")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        out = given.call(model)
        optimiser.zero_grad()
        torch.stack([v.square().mean() for v in out if v is not None]).sum().backward()
        optimiser.step()

    system = SYSTEMS[parse(name).system]
    chosen: dict[str, Any] = {**system.sampler, **SMALL, **system.tiny_sampler}
    if parse(name).t2v:
        chosen["guidance"] = "cfg"
    mute = None if given.audio is None else torch.zeros_like(given.audio)
    null = given.cond.map(torch.zeros_like)
    spec = SamplerSpec(**{**chosen, "steps": TIMED_STEPS})

    def generate() -> None:
        sample(model.eval(), given.cond, null, spec, given.video, given.audio, str(model.audio_path), mute)

    seconds = best(generate) * int(chosen["steps"]) / TIMED_STEPS
    return {"train": BATCH / best(train), "sample": BATCH / seconds}


def cells(name: str, row: Mapping[str, Any]) -> list[str]:
    """A line of a table."""
    train, made = (f"{row[key]:.3g}" if key in row else "" for key in ("train", "sample"))
    parts = [f"{row[key] / 1e6:,.2f} M" if row[key] else "" for key in ("parameters", "video")]
    return [f"`{name}`", *parts, short(row["flops"]), short(row["flops"] * passes(name)), train, made]


def short(count: float) -> str:
    """Three digits and G or T."""
    unit, name = (1e12, "T") if count >= 1e11 else (1e9, "G")
    return f"{count / unit:,.{max(0, 2 - int(log10(max(1, count / unit))))}f} {name}"


def tables(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Full sizes and small ones."""
    parts = []
    for title, small in (("Full sizes", False), ("Small sizes", True)):
        chosen = {name: row for name, row in rows.items() if (parse(name).size in TIMED) == small}
        lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *(cells(name, row) for name, row in chosen.items())]
        parts.append(f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def page(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with these tables between its marks."""
    head, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} lacks {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n\n{tables(rows)}\n\n{END}{tail}"


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="catalogue entries; all where none is given")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    if chosen.check:
        sys.exit(page(saved()["models"]) != PAGE.read_text(encoding="utf-8"))
    found = {}
    for name in chosen.names or names():
        found[name] = {**counted(name), **(timed(name) if parse(name).size in TIMED else {})}
        print(name, found[name], flush=True)
    rows = {**saved()["models"], **found}
    rows = {name: rows[name] for name in names() if name in rows}
    machine = f"{platform.machine()}, one thread, torch {torch.__version__.partition('+')[0]}"
    DATA.parent.mkdir(parents=True, exist_ok=True)
    DATA.write_text(json.dumps({"machine": machine, "models": rows}, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")


def saved() -> dict[str, Any]:
    """The numbers there are."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {"models": {}}
    return found


if __name__ == "__main__":
    main()
