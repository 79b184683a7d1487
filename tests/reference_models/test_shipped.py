"""Trained weights that come with the package: whole, small, the very trainings they claim to be, and between the
world's own clips and spoilt ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from avbench import evaluate
from avbench.generator import load_model
from avbench.reference_models.experiments.conduct import steps_done, take_shipped
from avbench.reference_models.experiments.plan import jobs, load
from avbench.reference_models.generate import SHIPPED
from avbench.reference_models.training.checkpoint import facts, read_config

HEARING = load("hearing-helps-seeing")
FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/model.safetensors"))
PACKAGE = SHIPPED.parent.parent


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_checkpoint_is_the_finished_training_of_its_configuration(folder: Path) -> None:
    config = read_config(folder)
    assert facts(folder / "model.safetensors") == {"format": 1, "step": config.steps, "digest": config.digest}
    last = (folder / "loss.jsonl").read_text().splitlines()[-1]
    assert last.startswith(f'{{"step": {config.steps},') and "valid_video" in last


def test_all_weights_in_the_package_are_small() -> None:
    files = [path for room in ("metrics", "reference_models") for path in (PACKAGE / room).rglob("*.safetensors")]
    assert len(files) == len(FOLDERS) + 4  # the encoders of clatter
    assert max(path.stat().st_size for path in files) < 5e6
    assert sum(path.stat().st_size for path in files) < 30e6


def test_the_scale_of_shipped_trainings_trains_nothing(tmp_path: Path) -> None:
    todo = jobs(HEARING, HEARING.scales["shipped"])
    take_shipped(todo, tmp_path)
    assert {job.name for job in todo} == {f"{arm}-s{seed}" for arm in ("t2v", "t2av") for seed in range(3)}
    assert all(steps_done(tmp_path / job.name, job.config) == job.config.steps for job in todo)
    of_cpu = {job.name: job.config.digest for job in jobs(HEARING, HEARING.scales["cpu"])}
    assert all(of_cpu[job.name] == job.config.digest for job in todo)


@pytest.mark.heavy
def test_a_shipped_model_lies_between_the_world_and_spoilt_clips(cache: Path, tmp_path: Path) -> None:
    """The first thing a user runs."""
    found = {}
    for name in ("reference", "avfulldit-nano", "avfulldit-t2v-nano", "frozen"):
        run = evaluate(name, "clatter-desk-mini", "physics@clatter", limit=16, device="cpu", out=tmp_path)
        rows = [row["value"] for row in run.records("scores") if row["status"] == "ok" and not row["field"]]
        assert len(rows) == 16
        found[name] = sum(rows) / len(rows)
    for name in ("avfulldit-nano", "avfulldit-t2v-nano"):
        assert found["frozen"] + 0.1 < found[name] < found["reference"] - 0.3
    assert load_model("avfulldit-nano").config["weights"]
