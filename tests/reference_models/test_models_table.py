"""docs/reference-models.md shows the numbers that are kept, of every model there is, and they can be counted again."""

from __future__ import annotations

import pytest

from avbench.reference_models.catalogue import names, parse
from tools.models_table import PAGE, TIMED, counted, page, saved, timed


def test_page_shows_every_model() -> None:
    rows = saved()["models"]
    assert list(rows) == list(names())
    assert page(rows) == PAGE.read_text(encoding="utf-8")
    assert all(("train" in row) == (parse(name).size in TIMED) for name, row in rows.items())


@pytest.mark.parametrize("name", ["avfulldit-nano", "harmony-nano", "javisdit-t2v-nano", "visiosonic-nano"])
def test_kept_numbers_are_what_is_counted(name: str) -> None:
    found, kept = counted(name), saved()["models"][name]
    assert {key: kept[key] for key in found} == found


def test_timing() -> None:
    found = timed("javisdit-nano")
    assert found["train"] > found["sample"] > 0
