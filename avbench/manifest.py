"""What a run records of its surroundings and of its clips."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import avbench
from avbench.errors import SampleError
from avbench.execute import Settings
from avbench.plan import Subject
from avbench.score import Row

PACKAGES = (
    "av", "numpy", "scipy", "torch", "torchvision", "torchaudio", "transformers", "diffusers", "open_clip_torch",
    "librosa", "opencv-python-headless", "faster-whisper", "pandas", "pyarrow",
)  # fmt: skip


def describe(settings: Settings) -> dict[str, Any]:
    """Versions, machine and device."""
    from avbench.media import DECODER

    return {
        "avbench": avbench.__version__,
        "git": git_state(Path(avbench.__file__).resolve().parent.parent),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(settings.device) if settings.ray is None else f"ray ({settings.device})",
        "decoder": DECODER,
        "packages": {name: found for name in PACKAGES if (found := package(name))},
    }


def package(name: str) -> str:
    """Installed version, "" where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def device_name(device: str) -> str:
    """The device in words."""
    if device == "cpu":
        return f"cpu ({platform.machine()})"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and dirtiness of avbench's own checkout; empty where it is installed from a wheel."""
    if not (folder / ".git").exists():
        return {}
    commit = git(folder, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git(folder, "status", "--porcelain"))} if commit else {}


def git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def describe_clip(one: Subject, rows: Sequence[Row], real: Subject | None = None) -> dict[str, Any]:
    """The row of a sample in samples.parquet: its texts, its media as the container declares it, its status.

    real: its real clip, where set metrics compared with one. A sample is failed where any metric failed on it; what
    does not apply is no failure.
    """
    from avbench.media import probe

    sample = one.sample
    row: dict[str, Any] = {
        "sample": sample.id, "index": sample.index, "tags": list(sample.tags), "sha256": one.media or None,
        "reference_sha256": real.media or None if real is not None else None,
        **{name: getattr(sample, name) for name in ("text", "video_text", "audio_text", "speech_text", "language")},
    }  # fmt: skip
    bad = next((r for r in rows if r.status in ("failed", "missing")), None)
    status, reason = (bad.status, bad.reason) if bad else ("ok", "")
    if one.error is not None:
        status, reason = one.error.status, str(one.error)
    row |= {"status": status, "reason": reason}
    if one.file is None:
        return row
    paths = [path for path in (one.file.video, one.file.audio) if path is not None]
    row |= {
        "path": str(one.file.main), "audio_path": str(one.file.audio) if one.file.audio else None,
        "bytes": sum(path.stat().st_size for path in paths if path.exists()),
    }  # fmt: skip
    try:
        info = probe(one.file.main, one.file.audio)
    except SampleError:
        return row
    return {**row, **{name: info.get(name) for name in MEDIA}}


MEDIA = (
    "video_codec", "audio_codec", "width", "height", "fps", "frames", "video_seconds", "audio_seconds",
    "sample_rate", "channels", "audio_start",
)  # fmt: skip
