"""The reference models by name: `<system>[-<ablation>][-t2v]-<size>`, all as data. Imports no torch.

A system's sizes are the tables of `presets/<system>.toml`; an ablation is a few settings on top of a size; `-t2v` is
the T2V-only twin: the same class, weights and code with the audio left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import UnknownName

if TYPE_CHECKING:
    from torch import nn

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class System:
    """A joint generator: its class, its ablations {name: settings}, and how it is trained and sampled by default.

    twin:     whether video alone is a case of it.
    sampler:  defaults of `SamplerSpec`, the paper's. objective: of training.
    """

    entry: str
    title: str
    source: str
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    twin: bool = True
    sampler: Mapping[str, Any] = field(default_factory=dict)
    objective: str = "flow"
    tiny_sampler: Mapping[str, Any] = field(default_factory=dict)


SYSTEMS: dict[str, System] = {
    "avfulldit": System(
        "avbench.reference_models.systems.avfulldit:AVFullDiT",
        "AVFullDiT",
        "arXiv 2512.02457",
        {
            "vanilla": {"rope": "vanilla"},
            "expand": {"rope": "expand_video"},
            "cross": {"attention": "cross"},
        },
        sampler={"steps": 50, "shift": 5.0, "s_v": 5.0, "s_a": 4.5, "guidance": "cfg"},
    ),
    "bridgedit": System(
        "avbench.reference_models.systems.bridgedit:BridgeDiT",
        "BridgeDiT",
        "arXiv 2510.03117",
        {
            "full": {"kind": "full"},
            "additive": {"kind": "add"},
            "v2a": {"kind": "v2a"},
            "a2v": {"kind": "a2v"},
            "separate": {"kind": "none"},
        },
        # shift and s_a are the released code's; the paper's table gives s_v alone
        sampler={"steps": 50, "shift": 3.0, "s_v": 6.0, "s_a": 7.0, "guidance": "cfg"},
    ),
    "harmony": System(
        "avbench.reference_models.systems.harmony:Harmony",
        "Harmony",
        "arXiv 2511.21579",
        {
            "unaligned": {"align": False},
            "global": {"window": 1e9},
            "ovi": {"interaction": "ovi"},
        },
        sampler={"steps": 40, "shift": 5.0, "s_v": 3.0, "s_a": 2.0, "guidance": "sync"},
        objective="cts",
    ),
    "javisdit": System(
        "avbench.reference_models.systems.javisdit:JavisDiTPP",
        "JavisDiT++",
        "arXiv 2602.19163",
        {
            "vanilla": {"ta_rope": "vanilla"},
            "interpolate": {"ta_rope": "interpolate"},
            "interleave": {"ta_rope": "interleave"},
            "shared-ffn": {"shared_ffn": True},
        },
        # 240p, 65 frames: sqrt(H W / 512^2) sqrt(frames // 17 * 5); training multiplies it by 5
        sampler={"steps": 50, "shift": 2.42, "s_v": 5.0, "s_a": 5.0, "guidance": "cfg"},
    ),
    "visiosonic": System(
        "avbench.reference_models.systems.visiosonic:VisioSonic",
        "VisioSonic",
        "CVPR 2026, supplement",
        {
            "no-conditioner": {"conditioner": False},
            "no-token-aligner": {"aligner": False},
            "no-synchformer": {"synchformer": False},
        },
        twin=False,
        sampler={"steps": 25, "shift": 1.0, "s_a": 4.5, "guidance": "cfg"},
    ),
    "mmaudio": System(
        "avbench.reference_models.systems.mmaudio:MMAudio",
        "MMAudio",
        "arXiv 2412.15322",
        twin=False,
        sampler={"steps": 25, "shift": 1.0, "s_a": 4.5, "guidance": "cfg"},
        tiny_sampler={"s_a": 4.5},
    ),
}


@dataclass(frozen=True)
class Name:
    """A parsed model name."""

    system: str
    ablation: str
    t2v: bool
    size: str

    def __str__(self) -> str:
        return "-".join(part for part in (self.system, self.ablation, "t2v" if self.t2v else "", self.size) if part)


@cache
def presets(system: str) -> dict[str, dict[str, Any]]:
    """{size: constructor settings} of a system."""
    return tomllib.loads((PRESETS / f"{system}.toml").read_text(encoding="utf-8"))


@cache
def names() -> dict[str, Name]:
    """Every model there is, in reading order."""
    found = [
        Name(key, ablation, t2v, size)
        for key, system in SYSTEMS.items()
        for size in presets(key)
        for ablation in ("", *system.ablations)
        for t2v in ((False, True) if system.twin and not ablation else (False,))
    ]
    return {str(name): name for name in found}


def parse(name: str) -> Name:
    """A known name taken apart, or `UnknownName` with near ones."""
    if name in names():
        return names()[name]
    import difflib

    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownName(f"no reference model named {name!r}{hint}\n  names are <system>[-<ablation>][-t2v]-<size>")


def settings(name: str) -> dict[str, Any]:
    """Constructor settings of a model: its size and its ablation."""
    found = parse(name)
    return {**presets(found.system)[found.size], **SYSTEMS[found.system].ablations.get(found.ablation, {})}


def system_class(name: str) -> type[nn.Module]:
    """The class of a model (imports torch)."""
    module, _, attribute = SYSTEMS[parse(name).system].entry.partition(":")
    found: type[nn.Module] = getattr(import_module(module), attribute)
    return found


def build(name: str, seed: int = 0, **settings_over: Any) -> nn.Module:
    """A freshly initialised model; equal seeds give equal video towers in every model of one video configuration."""
    return system_class(name)(**{**settings(name), "init_seed": seed, **settings_over})
