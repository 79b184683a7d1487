"""Shared by the tests of visual quality: goldens of VBench and VideoPhy, metrics run by hand with given networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from avbench.clip import Clip
from avbench.features import Encoder, Feature, Text
from avbench.media import decode
from avbench.registry import metrics
from tests.hashed import hashed_state_dict
from tests.metrics.alignment import GOLDENS, clip_path

KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDENS / "quality_keys.json").read_text())
VBENCH: dict[str, Any] = json.loads((GOLDENS / "quality.json").read_text())
BATCH = 8


@cache
def arrays() -> dict[str, np.ndarray]:
    """Outputs of the reference networks and pipelines, run with hashed weights."""
    with np.load(GOLDENS / "quality.npz") as file:
        return dict(file)


@cache
def weights(network: str) -> dict[str, torch.Tensor]:
    """The hashed state dict of a network: what its public checkpoint holds."""
    return hashed_state_dict(KEYS[network])


def real(name: str) -> Clip:
    """A real clip, decoded by the engine; the test is skipped where it is not."""
    return decode(clip_path(name), media={"video"})


def compute(feature: Feature, clip: Clip, networks: Mapping[Encoder, Any], texts: Mapping[str, str]) -> Any:
    """A feature of a clip as the engine would compute it, with these networks."""
    view, encoder = feature.view, feature.encoder
    needs = [compute(need, clip, networks, texts) for need in view.requires]
    items = view(clip if view.media else None, *needs, *(texts.get(name, "") for name in view.fields))
    if encoder.unit == "clip":
        return networks[encoder](items)
    with torch.inference_mode():
        if isinstance(view, Text):
            return networks[encoder](list(items)).numpy()
        parts = [torch.from_numpy(np.array(items[start : start + BATCH])) for start in range(0, len(items), BATCH)]
        return np.concatenate([networks[encoder](part).numpy() for part in parts])


def score(name: str, clip: Clip, networks: Mapping[Encoder, Any], **texts: str) -> Any:
    """The value of a registered metric on a clip."""
    from avbench.metric import features

    metric = metrics.get(name)
    return metric.score(**{key: compute(one, clip, networks, texts) for key, one in features(metric).items()})


def agrees(array: np.ndarray, golden: Mapping[str, Any], tolerance: float = 1e-5) -> bool:
    """Whether an array has the shape, the extremes and 32 samples of a golden summary."""
    flat = array.reshape(-1)
    samples = flat[np.linspace(0, flat.size - 1, 32).astype(np.int64)]
    near = np.abs(samples - golden["sample32"]).max() <= tolerance * golden["std"] + 1e-6
    ends = [float(flat.min()) - golden["min"], float(flat.max()) - golden["max"]]
    return (
        list(array.shape) == golden["shape"] and bool(near) and max(map(abs, ends)) <= tolerance * golden["std"] + 1e-6
    )
