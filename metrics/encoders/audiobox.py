"""AudioBox-Aesthetics: enjoyment, usefulness, complexity and production quality of sound, from Meta's package.

Tjandra et al., "Meta Audiobox Aesthetics", 2025; facebookresearch/audiobox-aesthetics 0.0.4, an optional package (code
and weights CC-BY 4.0). Only its network is used; reading, windows and averages are ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avbench.checkpoints import read_state, read_tensors
from avbench.errors import MissingResource, UserError
from avbench.features import Context

AXES = ("PQ", "PC", "CE", "CU")
SETTINGS = (
    "proj_num_layer", "proj_ln", "proj_act_fn", "proj_dropout", "nth_layer", "use_weighted_layer_sum", "precision",
    "normalize_embed", "output_dim",
)  # fmt: skip


def build(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    """The network; `config` decides its heads."""
    try:
        from audiobox_aesthetics.model.aes import AesMultiOutput
    except ImportError as error:
        raise MissingResource(
            f"AudioBox-Aesthetics comes with a package that cannot be imported: {error}\n"
            "  pip install audiobox_aesthetics"
        ) from None
    with torch.random.fork_rng(devices=[]):  # it draws its first weights, and cannot do so without memory
        model = AesMultiOutput(**{name: config[name] for name in SETTINGS if name in config})
    try:
        model.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        raise UserError(f"this is not a checkpoint of AudioBox-Aesthetics: {error}") from None
    return model.eval().requires_grad_(False)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and configuration of the hub's folder (config.json, model.safetensors) or of `checkpoint.pt`."""
    if path.is_dir():
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return read_state(path / "model.safetensors"), config
    loaded = read_tensors(path)
    state = {key.removeprefix("model."): value for key, value in loaded["state_dict"].items()}
    return state, {**loaded["model_cfg"], "target_transform": loaded["target_transform"]}


def scales(config: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Standard deviation and mean that turn the outputs into scores, in the order of `AXES`."""
    try:
        table = [config["target_transform"][axis] for axis in AXES]
        return [float(row["std"]) for row in table], [float(row["mean"]) for row in table]
    except (KeyError, TypeError):
        raise UserError("AudioBox-Aesthetics: its configuration holds no target_transform for every axis") from None


def windows(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: ten seconds at 16 kHz, float32 [N, 160000], NaN after the end of the sound. Features: float32 [N, 5].

    Scores in the order of `AXES`, 1...10, and the share of the window that holds sound. Always float32, as published.
    """
    state, config = read(context.weights["audiobox_aesthetics"])
    model = build(state, config).to(context.device)
    std, mean = (torch.tensor(values, device=context.device) for values in scales(config))

    def encode(items: Tensor) -> Tensor:
        sounds = ~items.isnan()
        answers = model({"wav": items.nan_to_num(0.0)[:, None], "mask": sounds[:, None]})
        scores = torch.stack([answers[axis] for axis in AXES], dim=1) * std + mean
        return torch.cat([scores, sounds.float().mean(dim=1, keepdim=True)], dim=1)

    return encode
