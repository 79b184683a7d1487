"""Lets a git checkout work in place, installed or not: `avbench.metrics` is the folder `metrics/` beside `avbench/`."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKS = ("metrics", "suites", "baselines", "reference_models")
HERE = Path(__file__).resolve().parent


class CheckoutFinder:
    """Finds the four folders beside `avbench/` under their installed names."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        parent, _, pack = name.rpartition(".")
        if parent != "avbench" or pack not in PACKS:
            return None
        folder = HERE.parent / pack
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


def install() -> None:
    """Register the finder where `avbench` is imported from a checkout; do nothing in an installed wheel."""
    if not (HERE / "metrics").is_dir() and (HERE.parent / "pyproject.toml").is_file():
        sys.meta_path.append(CheckoutFinder)
