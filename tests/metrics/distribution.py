"""Shared by the tests of set metrics: goldens, rows, networks with hashed weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avbench.metric import Rows
from tests.hashed import hashed_state_dict

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDENS / "distribution_keys.json").read_text())


@cache
def arrays() -> dict[str, np.ndarray]:
    """Outputs of the reference networks and pipelines, run with hashed weights."""
    with np.load(GOLDENS / "distribution.npz") as file:
        return dict(file)


@cache
def values() -> dict[str, Any]:
    """Settings and final values that go with `arrays`."""
    return dict(json.loads((GOLDENS / "distribution.json").read_text()))


@cache
def weights(network: str) -> dict[str, torch.Tensor]:
    """The hashed state dict of a network: what its public checkpoint holds."""
    with torch.inference_mode(False):  # kept for tests that are not in it
        return hashed_state_dict(KEYS[network])


def checkpoint(network: str, folder: Path) -> Path:
    """A whole checkpoint file with hashed weights: what the public one holds, fixed front end included."""
    from safetensors.torch import save_file

    from avbench.metrics.encoders import audioclip, panns

    front = {"audioclip": audioclip.front_end, "panns": lambda: panns.front_end(panns.AT_16K)}.get(network, dict)()
    path = folder / f"{network}.safetensors"
    if not path.is_file():
        save_file({key: value.contiguous() for key, value in {**front, **weights(network)}.items()}, path)
    return path


def rows(features: np.ndarray, name: str, counts: Sequence[int] | None = None) -> Rows:
    """`Rows` of one feature: one row a clip, or `counts` rows."""
    parts = np.split(features, np.cumsum(counts)[:-1]) if counts is not None else list(features[:, None])
    return Rows([f"c{index:05d}" for index in range(len(parts))], {name: parts})


def deviation(ours: np.ndarray, golden: np.ndarray) -> float:
    """Largest deviation in standard deviations of the golden."""
    return float(np.abs(ours - golden).max() / golden.std())
