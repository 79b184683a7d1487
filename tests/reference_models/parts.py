"""Shared by the tests of the reference models: fixed draws, conditions of small models, goldens of released code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.streams import generator
from tests.hashed import hashed, hashed_state_dict

GOLDENS = Path(__file__).parent.parent / "goldens"


def draw(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that depend on the name."""
    return torch.randn(*shape, generator=generator(0, name))


X_V, X_TOKENS, X_GRID = draw("x_v", 2, 1, 4, 8, 8), draw("x_a", 2, 16, 16), draw("x_a", 2, 1, 16, 16)
T = torch.tensor([0.3, 0.8])
COND = Conditions(text_v=draw("text_v", 2, 5, 32), text_a=draw("text_a", 2, 4, 32), seconds=torch.tensor([2.0, 1.5]))


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Hashed weights under the checkpoint's key names, and the outputs of the released code with them."""
    state = hashed_state_dict(json.loads((GOLDENS / f"{name}_keys.json").read_text()))
    with np.load(GOLDENS / f"{name}.npz") as file:
        return state, {key: file[key] for key in file}


def given(name: str, *shape: int) -> Tensor:
    """A golden's input."""
    return torch.from_numpy(hashed(f"input:{name}", shape))


def close(ours: Tensor, theirs: np.ndarray) -> None:
    """Equal to 1e-4 of the spread, plus 1e-5."""
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=1e-4 * theirs.std() + 1e-5)
