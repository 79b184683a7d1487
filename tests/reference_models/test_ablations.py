"""Every ablation of the joint systems of this room is another computation than its system, and learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avbench.reference_models.catalogue import SYSTEMS, build, names, parse
from avbench.reference_models.common.flow import flow_loss
from tests.reference_models.parts import COND, X_GRID, X_TOKENS, X_V, T, draw

ROOM = ("avfulldit", "harmony", "javisdit")
NAMES = [str(n) for n in names().values() if n.system in ROOM and n.size == "nano" and not n.t2v]


def learned(name: str, steps: int) -> list[float]:
    """Losses of some steps on one batch."""
    model: Any = build(name, seed=1)
    x_a = X_GRID if model.audio_layout == "grid" else X_TOKENS
    targets = draw("to_v", *X_V.shape), draw("to_a", *x_a.shape)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        out = model(X_V, x_a, T, T, COND)
        loss = torch.stack([flow_loss(v, target).mean() for v, target in zip(out, targets)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_ablations_learn(name: str) -> None:
    losses = learned(name, 20)
    assert losses[-1] < 0.7 * losses[0]


def test_ablations_differ() -> None:
    ends: dict[str, list[float]] = {}
    for name in NAMES:
        ends.setdefault(parse(name).system, []).append(learned(name, 3)[-1])
    for system, values in ends.items():
        assert len(values) == len(SYSTEMS[system].ablations) + 1 == len(set(values))
