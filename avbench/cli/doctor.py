"""`doctor`: is this installation able to give trustworthy numbers?"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import typer

from avbench.cli.common import Json, command, print_json, print_table

MINIMUM_FREE = 5e9


class Check(NamedTuple):
    """One line of the report; `advice` is what to do where it is not ok."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor_command)


@command
def doctor_command(json: bool = Json) -> None:
    """Check Python, packages, device, decoder, disk, plugins, weights, and score a clip whose offset is known."""
    checks = [guarded(check) for check in CHECKS]
    if json:
        print_json({"ok": all(c.ok for c in checks), "checks": [c._asdict() for c in checks]})
    else:
        rows = [["ok" if c.ok else "!!", c.name, c.found, "" if c.ok else c.advice] for c in checks]
        print_table(["", "check", "found", "what to do"], rows)
    if not all(check.ok for check in checks):
        raise typer.Exit(4)


def guarded(check: Callable[[], Check]) -> Check:
    """A check that breaks is a check that fails."""
    try:
        return check()
    except Exception as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return Check(
            name, False, f"{type(error).__name__}: {error}", "report this with the output of avbench doctor --json"
        )


def check_python() -> Check:
    return Check("python", sys.version_info >= (3, 11), platform.python_version(), "avbench needs Python 3.11 or newer")


def check_torch() -> Check:
    import torch
    import torchvision

    torch.ops.torchvision.nms  # noqa: B018 - resolves only where torchvision was built for this torch
    return Check("torch", True, f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def check_device() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("device", True, "cpu only (large encoders will be slow)")
    free, total = torch.cuda.mem_get_info()
    return Check("device", True, f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")


def check_decoder() -> Check:
    from avbench.media import DECODER

    return Check("decoder", True, DECODER)


def check_cache() -> Check:
    from avbench.store import cache_root, write_atomic

    root = cache_root()
    write_atomic(root / ".doctor", b"ok")
    (root / ".doctor").unlink()
    free = shutil.disk_usage(root).free
    return Check(
        "cache", free > MINIMUM_FREE, f"{root}, {free / 1e9:.0f} GB free", "set AVBENCH_CACHE to a larger disk"
    )


def check_plugins() -> Check:
    from avbench.errors import UserError
    from avbench.registry import metrics, models, suites

    broken = []
    for registry in (metrics, suites, models):
        for name in registry.list():
            if "." in name:
                try:
                    registry.get(name)
                except UserError as error:
                    broken.append(str(error))
        broken += [f"{name}: {why}" for name, why in registry.failures.items()]
    count = len(metrics.list()), len(suites.list()), len(models.list())
    found = "{} metrics, {} suites, {} models".format(*count)
    return Check("registries", not broken, "; ".join(dict.fromkeys(broken)) or found, "mend or uninstall the package")


def check_weights() -> Check:
    from avbench.cli.common import parse_weights
    from avbench.weights import catalogue

    overrides = parse_weights([])
    here = [name for name, one in catalogue().items() if overrides.get(name, one.place).exists()]
    return Check("weights", True, f"{len(here)} of {len(catalogue())} here (avbench weights list)")


def check_known_offset() -> Check:
    """Flashes and beeps 200 ms apart, through the encoder, the decoder and the onset detector."""
    from avbench.encode import write_clip
    from avbench.media import decode

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "offset.mp4"
        write_clip(path, flash_and_beep(0.2))
        offset = measured_offset(decode(path))
    return Check(
        "known offset", abs(offset - 0.2) < 0.05, f"made 200 ms, measured {offset * 1000:.0f} ms", "reinstall PyAV"
    )


def flash_and_beep(offset: float) -> Any:
    """A 3 s clip: two white flashes, each followed by a beep `offset` seconds later."""
    from fractions import Fraction

    import numpy as np

    from avbench.clip import Audio, Clip, Video

    fps, rate = 25, 16000
    frames = np.zeros((75, 64, 64, 3), np.uint8)
    samples = np.zeros((1, 3 * rate), np.float32)
    tone = np.sin(2 * np.pi * 880 * np.arange(rate // 10) / rate).astype(np.float32) * 0.5
    for second in (0.4, 1.8):
        frames[int(second * fps) : int(second * fps) + 3] = 255
        start = int((second + offset) * rate)
        samples[0, start : start + len(tone)] = tone
    return Clip(Video(frames, np.arange(75) / fps, Fraction(fps)), Audio(samples, rate))


def measured_offset(clip: Any) -> float:
    """Seconds from the first flash to the first beep."""
    import numpy as np

    video, audio = clip.need_video(), clip.need_audio()
    flash = video.times[int(np.argmax(video.frames.mean(axis=(1, 2, 3)) > 100))]
    beep = int(np.argmax(np.abs(audio.mono) > 0.1)) / audio.rate + audio.start
    return float(beep - flash)


CHECKS = (
    check_python, check_torch, check_device, check_decoder, check_cache, check_plugins, check_weights,
    check_known_offset,
)  # fmt: skip
