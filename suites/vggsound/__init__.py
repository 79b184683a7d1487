"""VGGSound (Chen et al. 2020): the classes of its subsets AV-Tight and AV-Loose, as data."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def subset_classes() -> dict[str, tuple[str, ...]]:
    """{"av-tight" | "av-loose": VGGSound labels}; a class in neither belongs to the full set alone."""
    return {name: tuple(table()[name]) for name in ("av-tight", "av-loose")}


@cache
def table() -> dict[str, Any]:
    """The data file."""
    return tomllib.loads((files(__name__) / "classes.toml").read_text(encoding="utf-8"))


@cache
def spellings() -> dict[str, str]:
    """{letters of a label, as VGGSound or the paper spells it: VGGSound's label}."""
    known = [label for labels in subset_classes().values() for label in labels]
    return {letters(printed): label for label, printed in table()["printed"].items()} | {letters(n): n for n in known}


def letters(label: str) -> str:
    """What spellings of a label share: underscores, commas, spaces and case differ between copies of the list."""
    return re.sub("[^a-z0-9]", "", label.lower())


def spelt(label: str) -> str:
    """A label of the subsets in VGGSound's own spelling; any other as it is."""
    return spellings().get(letters(label), label)


def subset_of(label: str) -> str:
    """The subset of a label in VGGSound's spelling, "" where it is in neither."""
    return next((name for name, labels in subset_classes().items() if label in labels), "")
