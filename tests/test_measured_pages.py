"""Pages that a tool writes from measured records say what the records say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    """A script of tools/, imported."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parity_page_is_that_of_its_records() -> None:
    written = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    assert tool("parity_page").page() == written, "a record changed: run python tools/parity_page.py"


def test_synchrony_page_is_that_of_its_values() -> None:
    values = json.loads((ROOT / "docs" / "data" / "synchrony.json").read_text(encoding="utf-8"))["values"]
    assert tool("synchrony_page").page(values) == (ROOT / "docs" / "synchrony.md").read_text(encoding="utf-8")
