"""Training of clatter's encoders: scenes apart from the suites, resumption to the bit, losses that fall."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

TOOL = Path(__file__).resolve().parent.parent / "tools" / "train_clatter_encoders.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("train_clatter_encoders", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.COUNTS = {"encoders": (16, 6), "encoders-held-out": (16, 3)}
    module.BATCHES = dict.fromkeys(module.LOSSES, 4)
    return module


@pytest.fixture(scope="module")
def work(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for split in tool.COUNTS:
        for desk in (True, False):
            tool.Scenes(folder, split, desk).render(0, 1)
    return folder


def test_no_scene_of_a_suite_is_learnt_from(tool: ModuleType) -> None:
    from avbench.suite import load_suite

    splits = {sample.extra["split"] for sample in load_suite("clatter").samples}
    assert not splits & set(tool.COUNTS)


def test_rendering_continues_where_it_stopped(tool: ModuleType, work: Path) -> None:
    scenes = tool.Scenes(work, "encoders", False)
    before = np.array(scenes.frames)
    path = scenes.place("words-0.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    tool.Scenes(work, "encoders", False).render(0, 1)
    assert path.read_text().splitlines(keepends=True) == lines
    assert np.array_equal(tool.Scenes(work, "encoders", False).frames, before)


@pytest.mark.parametrize("name", ["embedder", "synchrony", "video", "audio"])
def test_training_resumes_to_the_bit(tool: ModuleType, work: Path, name: str) -> None:
    states = []
    for parts in ((2,), (1, 2)):
        (work / f"{name}.pt").unlink(missing_ok=True)
        for taken in parts:
            tool.train(work, name, 4, taken)
        states.append(torch.load(work / f"{name}.pt", weights_only=True))
    assert states[0]["step"] == states[1]["step"] == 2
    first, begun = states[0]["model"], tool.begun(name).state_dict()
    assert all(torch.equal(first[key], states[1]["model"][key]) for key in first)
    assert any(not torch.equal(first[key], begun[key]) for key in first)


def test_one_batch_can_be_learnt_by_heart(tool: ModuleType, work: Path) -> None:
    worlds = (tool.Scenes(work, "encoders", False), tool.Scenes(work, "encoders", True))
    model = tool.begun("audio")
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = tool.LOSSES["audio"](model, worlds, tool.draws(0), 4)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_spoiling_grows_with_its_amount(tool: ModuleType, work: Path) -> None:
    scenes = tool.Scenes(work, "encoders", False)
    frames, mels = scenes.shown(0, tool.evenly(scenes)), scenes.heard(0)
    for kinds, spoil, clean in (
        (tool.nets.SPOILT_VIDEO, tool.spoil_video, frames), (tool.nets.SPOILT_AUDIO, tool.spoil_audio, mels),
    ):  # fmt: skip
        for kind in kinds[1:]:
            mild, much = (spoil(clean, kind, amount, np.random.default_rng(0)) for amount in (0.1, 1.0))
            assert mild.shape == much.shape == clean.shape
            assert (much - clean).abs().mean() > 0 and (
                kind in ("reverse", "freeze", "shuffle", "gaps", "jitter")
                or (much - clean).abs().mean() > (mild - clean).abs().mean()
            )
