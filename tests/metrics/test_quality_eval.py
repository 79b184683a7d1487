"""Metrics of visual quality from clips to tables, on made weights: nothing of theirs can be taken for a score."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from avbench.cli import app
from avbench.clip import Audio, Clip, Video
from avbench.encode import write_clip
from avbench.groups import resolve
from avbench.metrics.encoders import videophy
from tests.metrics import made

SMALL = {  # what each needs: quick on two cores
    "background_consistency": ["clip_vit_b32"],
    "aesthetic_quality@vbench": ["clip_vit_l14", "laion_aesthetic_l14"],
    "imaging_quality": ["musiq_spaq"],
    "aesthetic_quality@harmony": ["siglip_so400m_384", "aesthetic_v2_5"],
    "id_consistency": ["dinov3_vitl16"],
    "dynamic_degree@vbench": ["raft_things"],
    "motion_smoothness": ["amt_s"],
    "videophy2_sa@videophy2": ["videophy2_auto", "videophy2_prompts"],
    "videophy2_pc@videophy2": ["videophy2_auto", "videophy2_prompts"],
    "videophy2_joint@videophy2": ["videophy2_auto", "videophy2_prompts"],
    "temporal_flickering": [],
}
DOUBT = "unverified weights"


def disc(seed: int, frames: int = 4) -> Clip:
    """A disc that crosses a textured frame, with a hum."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (18, 20, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    pictures = np.stack([ground] * frames)
    y, x = np.mgrid[:144, :160]
    for index, picture in enumerate(pictures):
        picture[(y - 70 - 4 * seed) ** 2 + (x - 30 - 9 * index) ** 2 < 400] = (220, 180, 40)
    hum = 0.2 * np.sin(np.arange(16000) * (0.1 + 0.03 * seed)).astype(np.float32)
    return Clip(Video(pictures, np.arange(frames) / 8, Fraction(8)), Audio(hum[None], 16000))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips and their suite."""
    (tmp_path / "clips").mkdir()
    rows = [{"id": f"s{seed}", "text": f"disc {seed} crosses a field"} for seed in range(2)]
    for seed, row in enumerate(rows):
        write_clip(tmp_path / "clips" / f"{row['id']}.mp4", disc(seed))
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "clips"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("pyiqa")
    names = sorted({name for needs in SMALL.values() for name in needs})
    return made.write(tmp_path_factory.mktemp("made"), names)


def evaluate(clips: Path, metrics: list[str], weights: dict[str, Path], *more: str) -> Result:
    words = ["eval", "--model", clips, "--suite", clips.parent / "prompts.jsonl", "--device", "cpu"]
    result = CliRunner().invoke(
        app, [str(word) for word in (*words, "--metrics", ",".join(metrics), *made.options(weights), *more)]
    )
    assert result.exit_code == 0, result.output
    return result


def values(result: Result) -> pd.DataFrame:
    """The scores of the run whose folder the command printed."""
    folder = next(line for line in result.stdout.splitlines() if line.startswith("avbench report")).split()[-1]
    return pd.read_parquet(Path(folder) / "scores.parquet").set_index(["sample", "metric", "field"])["value"]


def check_marked(result: Result, metrics: list[str], weights: dict[str, Path]) -> None:
    """Manifest, table and page say of every row with made weights that they are not the published ones."""
    folder = Path(next(one for one in result.stdout.splitlines() if one.startswith("avbench report")).split()[-1])
    manifest = json.loads((folder / "run.json").read_text())
    assert set(manifest["unverified_weights"]) == set(weights)
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.split() and line.split()[0] in metrics}
    assert set(rows) == set(metrics)
    for name, line in rows.items():
        assert (DOUBT in line) == (name != "temporal_flickering"), line
    assert "UNVERIFIED WEIGHTS" in result.stdout
    page = folder / "page.html"
    assert CliRunner().invoke(app, ["report", str(folder), "-o", str(page)]).exit_code == 0
    text = page.read_text()
    assert text.count(DOUBT) >= len(metrics) - ("temporal_flickering" in metrics) and "Unverified weights" in text


def test_made_weights_are_marked_and_neighbours_and_threads_change_no_value(
    cache: Path, clips: Path, small: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videophy, "PUBLISHED", made.digests())
    both = evaluate(clips, list(SMALL), small, "--threads", "3")
    check_marked(both, list(SMALL), small)
    monkeypatch.setenv("AVBENCH_CACHE", str(cache.parent / "other"))
    alone = values(evaluate(clips, list(SMALL), small, "--threads", "1", "--limit", "1"))
    assert len(alone) >= len(SMALL) and values(both).loc[alone.index].equals(alone)


@pytest.mark.heavy
def test_the_group_of_the_paper_s_table(cache: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyiqa")
    monkeypatch.setattr(videophy, "PUBLISHED", made.digests())
    names = [name if name != "videophy2_pc" else f"{name}@videophy2" for name in resolve(["hearing-helps-seeing"])]
    needs = [
        "clip_vit_b32",
        "raft_things",
        "musiq_spaq",
        "dino_vitb16",
        "viclip",
        "videophy2_auto",
        "videophy2_prompts",
    ]
    weights = made.write(cache.parent / "made", needs)
    check_marked(evaluate(clips, names, weights), names, weights)
