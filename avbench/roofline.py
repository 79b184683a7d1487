"""The floor of an evaluation: what must be computed, and how long that takes at the rates of this machine.

One clip of the plan is decoded and every view of it cut: that counts the items each encoder will see and times what the
host does. With FLOPs per item from the encoders and matmul and copy rates measured here, it gives, for the whole plan,
decodes, distinct items, forward passes, FLOPs, bytes and seconds. A run cannot be faster than its floor on the same
device; `benchmarks/evaluate.py` says how near it comes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.execute import PRECISIONS, Chunk, Executor, Settings, batch_size, item_identity
from avbench.features import Encoder, Feature
from avbench.media import decode
from avbench.plan import Plan, Subject, looks_at
from avbench.prefetch import decoded_bytes

SECONDS = 0.2  # how long each rate is measured


@dataclass
class Load:
    """The work of one encoder over the whole plan. `items` are distinct ones; None: known only after other features."""

    encoder: Encoder
    clips: int = 0
    items: float | None = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def forwards(self, device: str) -> int | None:
        """Forward passes at the batch size of the device; an encoder of whole clips passes once a clip."""
        if self.items is None:
            return None
        return math.ceil(self.items / batch_size(self.encoder, device)) if self.encoder.unit == "item" else self.clips

    @property
    def flops(self) -> float | None:
        """None where the encoder does not say, or the items are not known."""
        if self.encoder.unit == "clip" or self.items is None or not self.encoder.flops:
            return None
        return self.items * self.encoder.flops


@dataclass
class Floor:
    """What a plan costs at least. Rates in FLOP/s and bytes/s, times in seconds."""

    clips: int
    decodes: int
    decoded_bytes: float
    decode_seconds: float
    view_seconds: float
    rates: Mapping[str, float]
    loads: list[Load] = field(default_factory=list)

    @property
    def flops(self) -> float:
        return sum(load.flops or 0 for load in self.loads)

    @property
    def upload_bytes(self) -> float:
        return sum(load.bytes for load in self.loads)

    @property
    def device_seconds(self) -> float:
        """Matrix work and copies, one after the other."""
        return self.flops / self.rates["matmul"] + self.upload_bytes / self.rates["copy"]

    def host_seconds(self, threads: int) -> float:
        """Decoding, views and whole-clip algorithms, shared by the threads."""
        return (self.decode_seconds + self.view_seconds + sum(load.seconds for load in self.loads)) / threads

    def summary(self, settings: Settings) -> dict[str, Any]:
        """All of it as plain data, for `--dry-run`; numbers at three digits, None where unknown."""
        device = settings.device
        return {
            "device": device,
            "matmul_flops_per_second": digits(self.rates["matmul"]),
            "copy_bytes_per_second": digits(self.rates["copy"]),
            "decodes": self.decodes,
            "decoded_bytes": digits(self.decoded_bytes),
            "flops": digits(self.flops),
            "upload_bytes": digits(self.upload_bytes),
            "device_seconds": digits(self.device_seconds),
            "decode_seconds": digits(self.decode_seconds / settings.threads),
            "view_seconds": digits(self.view_seconds / settings.threads),
            "host_seconds": digits(self.host_seconds(settings.threads)),
            "encoders": [
                {
                    "encoder": load.encoder.name,
                    "clips": load.clips,
                    "items": None if load.items is None else round(load.items),
                    "forwards": load.forwards(device),
                    "flops": None if load.flops is None else digits(load.flops),
                    "seconds": digits(
                        load.seconds / settings.threads
                        if load.encoder.unit == "clip"
                        else (load.flops or 0) / self.rates["matmul"] + load.bytes / self.rates["copy"]
                    ),
                }
                for load in self.loads
            ],
        }


def digits(number: float) -> float:
    """Three significant digits."""
    return float(f"{number:.3g}")


def floor(plan: Plan, settings: Settings) -> Floor:
    """Measure one clip of the plan and the device, and scale to the plan."""
    todo = plan.todo
    rates = {"matmul": matmul_rate(settings.device, settings.precision), "copy": copy_rate(settings.device)}
    with_media = [(one, lacking) for one, lacking in todo if looks_at(lacking)]
    found = Floor(len(todo), len(with_media), 0.0, 0.0, 0.0, rates)
    loads: dict[Encoder, Load] = {}
    for _, lacking in todo:
        for feature in lacking:
            load = loads.setdefault(feature.encoder, Load(feature.encoder))
            load.clips += 1
    found.loads = list(loads.values())
    example = first_clip(with_media)
    if example is not None:
        one, lacking, clip, seconds = example
        found.decode_seconds = seconds * len(with_media)
        found.decoded_bytes = float(decoded_bytes(clip)) * len(with_media)
        found.view_seconds = measure(plan, settings, one, lacking, clip, loads) * len(with_media)
    return found


def first_clip(todo: list[tuple[Subject, list[Feature]]]) -> tuple[Subject, list[Feature], Clip, float] | None:
    """The first subject whose clip decodes, with the seconds that took."""
    for one, lacking in todo:
        assert one.file is not None
        began = time.perf_counter()
        try:
            clip = decode(one.file.main, one.file.audio if one.file.video else None, looks_at(lacking))
        except SampleError:
            continue
        return one, lacking, clip, time.perf_counter() - began
    return None


def measure(
    plan: Plan, settings: Settings, one: Subject, lacking: list[Feature], clip: Clip, loads: Mapping[Encoder, Load]
) -> float:
    """Cut every view of one clip that needs no other feature; fills the loads, returns the seconds of cutting."""
    executor, chunk = Executor(plan, settings), Chunk({one: clip}, {one: lacking})
    pooled: dict[Encoder, dict[Any, int]] = {}
    began = time.perf_counter()
    whole: list[Feature] = []
    for feature in lacking:
        load = loads[feature.encoder]
        if feature.view.requires:
            load.items = None if feature.encoder.unit == "item" else load.items
        elif feature.encoder.unit == "item":
            view = executor.cut((one, feature), chunk, {one: {}})
            if not isinstance(view, SampleError):
                pooled.setdefault(feature.encoder, {}).update((item_identity(i), getattr(i, "nbytes", 0)) for i in view)
        elif not feature.encoder.weights:
            whole.append(feature)
    seconds = time.perf_counter() - began
    for encoder, items in pooled.items():
        load = loads[encoder]
        if load.items is not None:
            share = load.clips / max(1, sum(f.encoder == encoder for f in lacking))
            load.items, load.bytes = len(items) * share, sum(items.values()) * share
    for feature in whole:
        executor.encode_clip((one, feature), chunk, {one: {}})  # loads, and compiles what is compiled
        began = time.perf_counter()
        executor.encode_clip((one, feature), chunk, {one: {}})
        loads[feature.encoder].seconds += (time.perf_counter() - began) * loads[feature.encoder].clips
    return seconds


def rate(work: Callable[[], object], amount: float, wait: Callable[[], None]) -> float:
    """amount / seconds of `work`, the best of the repetitions that fit in `SECONDS`."""
    work()
    wait()
    best, spent = math.inf, 0.0
    while spent < SECONDS:
        began = time.perf_counter()
        work()
        wait()
        spent += (took := time.perf_counter() - began)
        best = min(best, took)
    return amount / best


def matmul_rate(device: str, precision: str) -> float:
    """FLOP/s of a square matrix product on the device, in the precision of the run."""
    import torch

    size = 1024 if device == "cpu" else 8192
    dtype = getattr(torch, PRECISIONS[precision])
    left = torch.ones(size, size, device=device, dtype=dtype)
    return rate(lambda: torch.mm(left, left), 2.0 * size**3, waiter(device))


def copy_rate(device: str) -> float:
    """Bytes/s from pinned memory of the host to the device; on a CPU, from memory to memory."""
    import torch

    source = torch.ones(1 << 26, dtype=torch.uint8, pin_memory=device != "cpu")
    target = torch.empty_like(source, device=device)
    return rate(lambda: target.copy_(source, non_blocking=True), float(source.nbytes), waiter(device))


def waiter(device: str) -> Callable[[], None]:
    """What waits until the device is done."""
    import torch

    return torch.cuda.synchronize if device != "cpu" else lambda: None
