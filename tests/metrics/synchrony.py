"""Shared by the tests of Synchformer, SyncNet and S3FD: keys, goldens, networks with hashed weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hashed import hashed, hashed_state_dict

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDENS / "synchrony_keys.json").read_text())
VALUES: dict[str, Any] = json.loads((GOLDENS / "synchrony.json").read_text())


@cache
def arrays() -> dict[str, np.ndarray]:
    """Outputs of the reference networks and pipelines, run with hashed weights."""
    with np.load(GOLDENS / "synchrony.npz") as file:
        return dict(file)


def given(name: str, *shape: int) -> torch.Tensor:
    """The hashed input of a golden."""
    return torch.from_numpy(hashed(f"input:{name}", shape))


def weights(network: str) -> dict[str, torch.Tensor]:
    """The hashed state dict of a network: what its public checkpoint holds."""
    with torch.inference_mode(False):
        return hashed_state_dict(KEYS[network])


def shapes(network: str) -> dict[str, torch.Tensor]:
    """As `weights`, without memory: for tests of keys."""
    return {key: torch.empty(shape, device="meta") for key, shape in KEYS[network].items()}


def like(array: np.ndarray, summary: dict[str, Any], tolerance: float) -> bool:
    """Whether 32 sampled values, mean and deviation of an array are those of a golden's summary."""
    places = np.linspace(0, array.size - 1, 32).astype(int)
    sampled = np.abs(array.ravel()[places] - np.array(summary["sample32"])).max() <= tolerance
    moments = [array.mean(dtype=np.float64) - summary["mean"], array.std(dtype=np.float64) - summary["std"]]
    return bool(sampled) and bool(np.abs(moments).max() <= tolerance)
