"""How fast are the frozen networks, and how near the peak of this device? Items/s and FLOP/s by batch size.

    python benchmarks/encoders.py [--device cpu] [--precision fp32] [--only imagebind,i3d] [--batch 1,8] [--json]

Weights are random: the time does not depend on them. Each network is loaded through its own loader and fed with items
that its own view cuts from a clip of noise (10 s, 640 x 360, 24 fps). FLOPs are counted by PyTorch on one item; the
peak is the rate of a large matrix product in the same precision. What does not fit in memory is left out, and said so.
On a CPU one thread runs and processor time is counted, which other jobs hardly change: the figures are those of a core.
Prints a Markdown section for docs/speed-encoders.md. Not a test: these figures belong to one machine on one day.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from avbench.clip import Audio, Clip, Video
from avbench.execute import PRECISIONS
from avbench.features import Context, Encoder
from avbench.metric import closure, features
from avbench.registry import metrics
from avbench.roofline import waiter

ROOM = "avbench.metrics.encoders"
SECONDS = 2.0  # of passes for each figure, or one pass
PROMPT = "a man plays the violin while waves break on the shore behind him"


def part(module: str, name: str, *arguments: Any, prefix: str = "", **named: Any) -> Callable[[], dict[str, Tensor]]:
    """The shapes of one class of `metrics/encoders/<module>.py`, as tensors on the meta device."""

    def shapes() -> dict[str, Tensor]:
        with torch.device("meta"):
            network: nn.Module = getattr(import_module(f"{ROOM}.{module}"), name)(*arguments, **named)
        return {prefix + key: value for key, value in network.state_dict().items()}

    return shapes


def imagebind(tower: str) -> Callable[[], dict[str, Tensor]]:
    """One of ImageBind's towers."""
    return lambda: part("imagebind", "ImageBind", {tower: import_module(f"{ROOM}.imagebind").SIZES[tower]})()


def open_clip(name: str) -> Callable[[], dict[str, Tensor]]:
    """CLIP as open_clip configures it."""

    def shapes() -> dict[str, Tensor]:
        from open_clip import CLIP, get_model_config

        with torch.device("meta"):
            return dict(CLIP(**get_model_config(name)).state_dict())

    return shapes


def clap() -> dict[str, Tensor]:
    """CLAP, HTSAT unfused."""
    from transformers import ClapConfig, ClapModel

    with torch.device("meta"):
        return dict(ClapModel(ClapConfig()).state_dict())


def panns() -> dict[str, Tensor]:
    """Cnn14 at 16 kHz without its front end, which is computed."""
    module = import_module(f"{ROOM}.panns")
    shapes = part("panns", "Cnn14", module.AT_16K)()
    return {key: value for key, value in shapes.items() if key not in module.front_end(module.AT_16K)}


def noise_items(*shape: int) -> Callable[[], np.ndarray]:
    """An item that is cut from other features."""
    return lambda: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


STATES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "imagebind.vision": imagebind("vision"),
    "imagebind.audio": imagebind("audio"),
    "imagebind.text": imagebind("text"),
    "synchformer.video": part("synchformer", "Synchformer", ["video"]),
    "synchformer.audio": part("synchformer", "Synchformer", ["audio"]),
    "synchformer.head": part("synchformer", "Synchformer", ["head"]),
    "clip.b32.image": open_clip("ViT-B-32-quickgelu"),
    "clip.b32.text": open_clip("ViT-B-32-quickgelu"),
    "clip.l14.image": open_clip("ViT-L-14-quickgelu"),
    "clap.htsat.audio": clap,
    "i3d.k400": part("i3d", "InceptionI3d", 400, 1e-5),
    "vggish": part("vggish", "VGGish"),
    "panns.cnn14_16k": panns,
    "passt.s_swa": part("passt", "PaSST"),
    "dino.vitb16": part("dino", "VisionTransformer", num_classes=0, weight_init="skip"),
    "viclip.video": part("viclip", "VisionTower", prefix="vision_encoder."),
    "syncnet.lips": part("syncnet", "SyncNet"),
    "syncnet.audio": part("syncnet", "SyncNet"),
    "s3fd": part("s3fd", "S3FD"),
}
ITEMS: dict[str, Callable[[], Any]] = {
    "synchformer.head": noise_items(14, 14, 768),
    "syncnet.lips": lambda: np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8),
    "syncnet.audio": noise_items(13, 20),
    "imagebind.text": lambda: PROMPT,
    "clip.b32.text": lambda: PROMPT,
}


@cache
def clip() -> Clip:
    """Noise that moves, 10 s."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (360, 640, 3), dtype=np.uint8)
    frames = np.stack([np.roll(base, 3 * index, axis=1) for index in range(240)])
    sound = (0.1 * rng.standard_normal((1, 160000))).astype(np.float32)
    return Clip(Video(frames, np.arange(240) / 24, Fraction(24)), Audio(sound, 16000))


@cache
def known() -> dict[str, tuple[Encoder, Any]]:
    """{name: encoder and a view of it}, from all registered metrics."""
    found: dict[str, tuple[Encoder, Any]] = {}
    for name in metrics.list():
        for feature in features(metrics.get(name)).values():
            for one in closure(feature):
                found.setdefault(one.encoder.name, (one.encoder, one.view))
    return found


def item(name: str) -> Any:
    """One item as the network is given it."""
    return ITEMS[name]() if name in ITEMS else known()[name][1](clip())[0]


def randomised(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Small normal weights, gains and variances of 1, whole numbers of 0."""

    def draw(key: str, like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return torch.zeros(like.shape, dtype=like.dtype)
        if like.ndim < 2:
            return torch.ones(like.shape) if key.endswith(("weight", "var")) else torch.zeros(like.shape)
        return torch.empty(like.shape).normal_(std=0.02)

    return {key: draw(key, like) for key, like in shapes.items()}


def load(name: str, device: str, precision: str) -> Callable[[Any], Any]:
    """The network through its own loader, the reading of the file replaced by random weights ("meta": by none)."""
    encoder = known()[name][0]
    paths = dict.fromkeys(encoder.weights, Path("random"))
    context = Context(torch.device(device), getattr(torch, PRECISIONS[precision]), paths)
    module = encoder.load.partition(":")[0]
    state = STATES[name]() if device == "meta" else randomised(STATES[name]())
    with patch(f"{module}.read_state", lambda path: state), patch("pathlib.Path.is_file", ok):
        return encoder.loader()(context)


def ok(path: Path) -> bool:
    return True


def batch_of(one: Any, size: int, device: str) -> Any:
    """`size` equal items, on the device; texts as a list."""
    return [one] * size if isinstance(one, str) else torch.from_numpy(np.stack([one] * size)).to(device)


def flops(name: str, one: Any, precision: str) -> float:
    """Of one item, counted on the operations (attention as its two products) without computing them where possible."""

    def count(device: str) -> float:
        network = load(name, device, precision)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(batch_of(one, 1, device))
        return float(counter.get_total_flops())

    try:
        return count("meta")
    except NotImplementedError:  # what it does depends on values: non-maximum suppression
        return count("cpu")


def seconds(work: Callable[[], Any], device: str) -> float:
    """The median over the calls that fit in `SECONDS`, after one that does not count."""
    wait, taken = waiter(device), list[float]()
    clock = time.process_time if device == "cpu" else time.perf_counter
    with torch.inference_mode():
        work()
        wait()
        while not taken or (sum(taken) < SECONDS and len(taken) < 200):
            began = clock()
            work()
            wait()
            taken.append(clock() - began)
    return float(np.median(taken))


def peak_rate(device: str, precision: str) -> float:
    """FLOP/s of a square matrix product, by the same clock."""
    side = 2048 if device == "cpu" else 8192
    left = torch.ones(side, side, device=device, dtype=getattr(torch, PRECISIONS[precision]))
    return 2.0 * side**3 / seconds(lambda: torch.mm(left, left), device)


def measure(name: str, device: str, precision: str, batches: list[int]) -> Iterator[dict[str, Any]]:
    """Figures of one encoder at each batch size; a size that does not fit ends the series."""
    one = item(name)
    counted, network = flops(name, one, precision), load(name, device, precision)
    for size in batches:
        try:
            taken = seconds(partial(network, batch_of(one, size, device)), device)
        except (torch.OutOfMemoryError, MemoryError) as error:
            yield {"encoder": name, "batch": size, "error": str(error).splitlines()[0]}
            return
        yield {
            "encoder": name, "batch": size, "flops": counted, "declared": known()[name][0].flops,
            "items_per_second": size / taken, "flops_per_second": counted * size / taken,
        }  # fmt: skip


def machine(device: str) -> str:
    """What the figures belong to."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].partition(': ')[2] if names else platform.machine()}, one core"


def head(device: str, precision: str, peak: float) -> str:
    """A Markdown heading and the head of a table."""
    names = ["encoder", "batch", "GFLOP an item", "items/s", "GFLOP/s", "of the matrix product"]
    return (
        f"## {machine(device)}, {precision}\n\nPyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}. Matrix product: {peak / 1e9:,.0f} GFLOP/s.\n\n"
        f"| {' | '.join(names)} |\n" + "|---" * len(names) + "|"
    )


def line(row: Mapping[str, Any], peak: float) -> str:
    """A row of the table."""
    if "error" in row:
        return f"| {row['encoder']} | {row['batch']} | does not fit: {row['error']} ||||"
    return (
        f"| {row['encoder']} | {row['batch']} | {row['flops'] / 1e9:,.3g} | {row['items_per_second']:,.3g} "
        f"| {row['flops_per_second'] / 1e9:,.3g} | {row['flops_per_second'] / peak:.0%} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="fp32", choices=sorted(PRECISIONS))
    parser.add_argument("--only", default="", help="names, or beginnings of names, of encoders; comma-separated")
    parser.add_argument(
        "--batch", default="", help="sizes, comma-separated; default 1 and 4 on a CPU, 1, 8, 64 on a GPU"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    begins = tuple(chosen.only.split(","))
    batches = [int(size) for size in (chosen.batch or ("1,4" if chosen.device == "cpu" else "1,8,64")).split(",")]
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    peak, rows = peak_rate(chosen.device, chosen.precision), list[dict[str, Any]]()
    if not chosen.json:
        print(head(chosen.device, chosen.precision, peak), flush=True)
    for name in (name for name in STATES if name.startswith(begins)):
        for row in measure(name, chosen.device, chosen.precision, batches):
            rows.append(row)
            if not chosen.json:
                print(line(row, peak), flush=True)
        gc.collect()
        if chosen.device != "cpu":
            torch.cuda.empty_cache()
    if chosen.json:
        print(json.dumps({"machine": machine(chosen.device), "peak": peak, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
