"""Low-rank adapters in peft's file format, without peft."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from avbench.errors import UserError


class LoRALinear(nn.Module):
    """A frozen linear layer plus (alpha / r) B A x. A starts as nn.Linear does and B at 0: nothing changes at first."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False, device=base.weight.device, dtype=base.weight.dtype)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, device=base.weight.device, dtype=base.weight.dtype)
        nn.init.zeros_(self.lora_B.weight)
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout)
        self.on = True
        self.train(base.training)  # a model in eval mode stays there, and drops nothing

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + self.scale * self.lora_B(self.lora_A(self.dropout(x))) if self.on else out


def inject(model: nn.Module, targets: str, rank: int, alpha: float, dropout: float = 0.0) -> list[str]:
    """Wrap every linear layer whose name matches the regular expression and freeze all else; the wrapped names."""
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.fullmatch(targets, n)]
    if not names:
        raise ValueError(f"no linear layer of the model matches {targets!r}")
    model.requires_grad_(False)
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        _replace(model, name, LoRALinear(linear, rank, alpha, dropout))
    return names


def merge(model: nn.Module) -> None:
    """Fold every adapter into its layer: W += (alpha / r) B A."""
    for name, layer in list(adapters(model)):
        with torch.no_grad():
            layer.base.weight += layer.scale * layer.lora_B.weight @ layer.lora_A.weight
        _replace(model, name, layer.base)


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Wrapped layers by name."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, LoRALinear))


@contextmanager
def silenced(model: nn.Module) -> Iterator[None]:
    """The model without its adapters: what preference optimisation compares the adapted one with."""
    layers = [layer for _, layer in adapters(model)]
    for layer in layers:
        layer.on = False
    try:
        yield
    finally:
        for layer in layers:
            layer.on = True


def load_peft(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "base_model.model.") -> None:
    """Fill injected adapters from peft's names, `<prefix><layer>.lora_{A,B}.weight`; all of them, and nothing else."""
    wanted = {
        f"{prefix}{name}.lora_{side}.weight": getattr(layer, f"lora_{side}").weight
        for name, layer in adapters(model)
        for side in "AB"
    }
    if set(wanted) != set(state):
        odd = sorted(set(wanted) ^ set(state))
        raise UserError(f"{len(odd)} keys differ between the adapter and the model, such as {odd[0]}")
    with torch.no_grad():
        for key, weight in wanted.items():
            weight.copy_(state[key])


def save_peft(model: nn.Module, prefix: str = "base_model.model.") -> dict[str, Tensor]:
    """The adapters under peft's names."""
    return {
        f"{prefix}{name}.lora_{side}.weight": getattr(layer, f"lora_{side}").weight.detach()
        for name, layer in adapters(model)
        for side in "AB"
    }


def _replace(model: nn.Module, name: str, module: Any) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    if leaf.isdigit() and isinstance(owner, nn.ModuleList | nn.Sequential):
        owner[int(leaf)] = module
    else:
        setattr(owner, leaf, module)
