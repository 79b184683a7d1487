"""VGGSound (Chen et al. 2020): the classes of its subsets AV-Tight and AV-Loose, as data."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def subset_classes() -> dict[str, tuple[str, ...]]:
    """{"av-tight" | "av-loose": VGGSound labels}; a class in neither belongs to the full set alone."""
    table = tomllib.loads((files(__name__) / "classes.toml").read_text(encoding="utf-8"))
    return {name: tuple(table[name]) for name in ("av-tight", "av-loose")}


def subset_of(label: str) -> str:
    """The subset of a label in VGGSound's spelling, "" where it is in neither."""
    return next((name for name, labels in subset_classes().items() if label in labels), "")
