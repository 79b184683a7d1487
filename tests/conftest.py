"""Fixtures shared by all rooms: a private cache, small made clips, the real ones where they are."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# Workers share the cores. Set before numpy and torch are imported; by workers alone, who inherit what xdist's own
# process sets.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from avbench.clip import Audio, Clip, Video

# The same examples every time; `--hypothesis-profile default` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

MEDIA = Path(__file__).resolve().parent.parent.parent / "shared" / "media"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def media() -> Path:
    """The folder of real clips; the test is skipped where they are not."""
    if not MEDIA.is_dir():
        pytest.skip("real clips (../shared/media) are not on this machine")
    return MEDIA


def bouncing(seed: int = 0, seconds: float = 1.0, size: int = 48, fps: int = 12, rate: int = 8000) -> Clip:
    """A disc that moves by fits and starts, with a click at each start: something for every weightless metric."""
    rng = np.random.default_rng(seed)
    count = round(seconds * fps)
    frames = np.full((count, size, size, 3), 60, np.uint8)
    samples = (0.002 * rng.standard_normal((1, round(seconds * rate)))).astype(np.float32)
    grid = np.mgrid[:size, :size]
    place = np.array([size / 2, size / 2])
    for index in range(count):
        if index % 4 == 0:
            step = rng.normal(0, 3, 2)
            start = round(index / fps * rate)
            click = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * 0.9)
            room = samples[0, start : start + 400]
            room += (0.6 * click[: len(room)]).astype(np.float32)
        place = np.clip(place + step, 8, size - 8)
        frames[index][((grid - place[:, None, None]) ** 2).sum(0) < 36] = (220, 180, 40)
    return Clip(Video(frames, np.arange(count) / fps, Fraction(fps)), Audio(samples, rate))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[int], Path]:
    """count -> a folder of `s0.mp4`, `s1.mp4`, ... with its suite `prompts.jsonl` beside it."""
    import json

    from avbench.encode import write_clip

    def make(count: int) -> Path:
        clips = tmp_path / "clips"
        clips.mkdir(exist_ok=True)
        rows = []
        for index in range(count):
            write_clip(clips / f"s{index}.mp4", bouncing(index))
            rows.append({"id": f"s{index}", "text": f"disc {index}", "tags": ["even" if index % 2 == 0 else "odd"]})
        (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return clips

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take minutes on free cores get time for a machine that others use too."""
    for item in items:
        if item.get_closest_marker("heavy"):
            item.add_marker(pytest.mark.timeout(1800))
