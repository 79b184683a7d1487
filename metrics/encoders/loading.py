"""Filling a network from a public state dict, strictly: a wrong file must never become a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from avbench.errors import UserError

M = TypeVar("M", bound=nn.Module)
SHOWN = 8


def fill(
    make: Callable[[], M], state: Mapping[str, Tensor], *, what: str, ignore: Sequence[str] = (), prefix: str = ""
) -> M:
    """Build `make()` without initialising it and give it the tensors of `state`; frozen, in eval mode.

    ignore: regular expressions of keys that the checkpoint may hold and the network does not need.
    prefix: only keys under it are read, with the prefix removed; other keys are then of no concern.
    BatchNorm counters (`num_batches_tracked`) may be absent, as in files of PyTorch 0.3. Anything else that is missing,
    unknown or of another shape raises `UserError` with the list.
    """
    state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    state = {key: value for key, value in state.items() if not any(re.fullmatch(rule, key) for rule in ignore)}
    with torch.device("meta"):
        module = make()
    expected = module.state_dict()
    counters = {key: torch.zeros((), dtype=torch.long) for key in expected if key.endswith("num_batches_tracked")}
    state = {**counters, **state}
    refuse(what, "lacks", [key for key in expected if key not in state])
    refuse(what, "has unknown keys", [key for key in state if key not in expected])
    wrong = [key for key, value in expected.items() if state[key].shape != value.shape]
    refuse(what, "has other shapes", [f"{k} {tuple(state[k].shape)} not {tuple(expected[k].shape)}" for k in wrong])
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def refuse(what: str, fault: str, keys: Sequence[str]) -> None:
    """Raise `UserError` where there are any such keys."""
    if keys:
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        raise UserError(f"this is not a checkpoint of {what}: it {fault}: {', '.join(keys[:SHOWN])}{more}")
