"""Checkpoints: tensors as safetensors, everything else as JSON beside them. A file is whole or not there.

A checkpoint folder holds `config.json` and `model.safetensors` (the averaged weights). What only a resume needs lies in
`state.safetensors`: weights, averages, optimiser, step.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avbench.errors import UserError
from avbench.reference_models.training.config import (
    CHECKPOINT_CONFIG,
    CHECKPOINT_WEIGHTS,
    Config,
    parse_config,
    read_table,
)

CONFIG, WEIGHTS, STATE = CHECKPOINT_CONFIG, CHECKPOINT_WEIGHTS, "state.safetensors"
FORMAT = 1


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the place, flush to disk, move there."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        write(scratch)
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """A safetensors file with JSON facts in its header."""
    ready = {name: tensor.detach().contiguous().cpu().clone() for name, tensor in tensors.items()}
    header = {"avbench": json.dumps({"format": FORMAT, **facts})}
    replace_file(path, lambda scratch: save_file(ready, scratch, metadata=header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of such a file."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("avbench", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a checkpoint: {error}") from None
    except Exception as error:  # safetensors' own error type
        raise UserError(f"{path}: damaged: {error}; restore it or delete it") from None
    if facts.get("format") != FORMAT:
        raise UserError(f"{path}: not written by this trainer (format {facts.get('format')}, needed {FORMAT})")
    return tensors, facts


def facts(path: Path) -> dict[str, Any]:
    """What such a file says of itself, without its tensors: `step` and the configuration's `digest`."""
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {}).get("avbench", "{}"))
    except Exception as error:  # safetensors' own error type, and what it passes on
        raise UserError(f"{path}: damaged: {error}; restore it or delete it") from None
    return found


def write_config(folder: Path, config: Config) -> None:
    """`config.json`, all defaults spelt out."""
    text = json.dumps({"format": FORMAT, "training": config.model_dump(mode="json")}, indent=1)
    replace_file(folder / CONFIG, lambda scratch: scratch.write_text(text + "\n", encoding="utf-8"))


def read_config(folder: Path) -> Config:
    """The configuration of a checkpoint folder."""
    path = folder / CONFIG
    return parse_config(read_table(path), str(path))


def load_weights(model: nn.Module, folder: Path, trained: Callable[[str], bool]) -> int:
    """Put a checkpoint's weights into a model; returns the step they are of.

    trained: names that the checkpoint must hold; the rest (a T2V-only twin's audio parts) may be missing.
    """
    tensors, facts = read_tensors(folder / WEIGHTS)
    own = model.state_dict()
    lacking = sorted(name for name in own if trained(name) and name not in tensors)
    strange = sorted(set(tensors) - set(own))
    if lacking or strange:
        what = [
            f"{kind}: {', '.join(names[:4])}" for kind, names in (("missing", lacking), ("unknown", strange)) if names
        ]
        raise UserError(f"{folder / WEIGHTS}: weights of another model ({'; '.join(what)})")
    wrong = [name for name, tensor in tensors.items() if tensor.shape != own[name].shape]
    if wrong:
        raise UserError(f"{folder / WEIGHTS}: other shapes than the model's: {', '.join(wrong[:4])}")
    model.load_state_dict(tensors, strict=False)
    return int(facts["step"])


@torch.no_grad()
def copy_into(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Overwrite tensors in place by name."""
    for name, tensor in parameters.items():
        tensor.copy_(values[name])
