"""docs/distribution.md and its figure: the printed numbers are those the code gives, and they show what they claim."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> ModuleType:
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


PAGE, CURVES = tool("distribution_page"), tool("response_curves")


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "data" / "distribution.json").read_text())


@pytest.fixture(scope="module")
def responses() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "data" / "responses.json").read_text())


def test_the_page_is_made_from_its_numbers(printed: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "distribution.md").read_text(encoding="utf-8") == PAGE.page(printed)


def close(found: Any, expected: Any, name: str) -> None:
    """Equal up to the rounding of another machine's linear algebra, single precision where the page is about it."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            close(found[key], value, f"{name}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for index, value in enumerate(expected):
            close(found[index], value, f"{name}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0.03, abs=2e-3), name
    else:
        assert found == expected, name


@pytest.mark.parametrize("name", [name for name in PAGE.EXPERIMENTS if name != "self_distance"])
def test_numbers_are_what_the_code_gives(name: str, printed: dict[str, Any]) -> None:
    close(PAGE.EXPERIMENTS[name](), printed[name], name)


def test_self_distance(printed: dict[str, Any]) -> None:
    """The smaller case; the other takes four decompositions of 1,024 dimensions."""
    first = printed["self_distance"]["rows"][0]
    found = PAGE.self_distance(((first["n"], first["dims"], first["trace"]),))["rows"][0]
    close(found, first, "self_distance")
    for row in printed["self_distance"]["rows"]:
        assert row["published"] > 5 and abs(row["free"]) < 0.01 and abs(row["ours"]) < 1e-6


def test_the_numbers_show_what_the_page_says(printed: dict[str, Any]) -> None:
    shift = printed["mean_shift"]["rows"]
    assert np.ptp([row["published"] for row in shift]) < 1e-6 < 1 < shift[-1]["ours"]
    model = printed["thresholded_model"]["rows"]
    assert model[0]["ours"] == pytest.approx(0, abs=1e-9)
    for row in model[1:]:
        assert row["published"] - model[0]["published"] < 0.55 * row["ours"] < 0.02 * model[0]["published"]
    seen = printed["pixel_range"]
    assert seen["fvd"]["black"] == -1 and seen["fvd"]["white"] == 1 and abs(seen["fvd@javisbench"]["black"]) < 0.01
    assert seen["fvd@javisbench"]["contrast"] == pytest.approx(seen["fvd"]["contrast"] / 2, rel=0.01)
    exact = printed["precision"]["exact"]
    assert abs(printed["precision"]["ours"] - exact) < 1e-9 < 1e-5 < abs(printed["precision"]["float32"] - exact)
    sizes = printed["small_sets"]["rows"]
    distances = [row["frechet"] for row in sizes]
    assert distances == sorted(distances, reverse=True) and all(row["floor"] > row["frechet"] for row in sizes)
    assert all(abs(row["kernel"]) < 0.02 for row in sizes) and printed["small_sets"]["infinity"] < 0.6 * distances[-1]
    orders = printed["first_clips"]["rows"]
    assert orders[1]["published"] > 5 * orders[0]["published"] and orders[0]["ours"] == pytest.approx(orders[1]["ours"])
    assert printed["sigmoid_kl"]["published"] < 0 < printed["sigmoid_kl"]["ours"]
    published, ours = (printed["inception"][side] for side in ("published", "ours"))
    assert published[2] == 1 and published[0] != published[1] and ours[0] == pytest.approx(ours[1], rel=1e-12)
    assert printed["quantised"]["published"] < 1000 < printed["quantised"]["ours_quiet"]


# Response curves ------------------------------------------------------------------------------------------------------


def test_damage_grows_with_its_strength() -> None:
    from avbench.suites.clatter import render, scene

    clip = render(scene("test", 1))
    for damage in CURVES.DAMAGES:
        if damage.share:
            hit = [set(CURVES.damaged(np.arange(20), share)) for share in damage.strengths]
            assert [len(one) for one in hit] == [4, 8, 12, 16, 20] and all(a < b for a, b in pairwise(hit))
            continue
        moved = []
        for strength in damage.strengths:
            changed = damage.apply(clip, strength, 0)
            if damage.streams == CURVES.VIDEO:
                difference = changed.need_video().frames.astype(float) - clip.need_video().frames
            else:
                difference = changed.need_audio().samples - clip.need_audio().samples
            moved.append(float(np.square(difference).mean()))
        assert moved[0] > 0 and moved == sorted(moved), damage.name


def test_curves_rise_where_they_must_and_are_flat_where_they_must(responses: dict[str, Any]) -> None:
    """By construction: fewer frequencies, more noise, more blur; and a set of sounds dealt out anew is the same set."""
    curves = responses["curves"]
    for metric, damages in {"fvd": ("blur", "noise"), "fad": ("audio low-pass",), "fd_vgg": ("audio low-pass",),
                            "fd_panns": ("audio low-pass",), "kl_panns": ("audio low-pass",)}.items():  # fmt: skip
        for damage in damages:
            points = [curves[metric]["undamaged"], *curves[metric][damage]]
            assert points == sorted(points), (metric, damage)
    for metric in ("fad", "fd_vgg", "fd_panns"):
        assert np.abs(curves[metric]["audio swap"]).max() < 1e-9 * curves[metric]["halves"]
    assert min(curves["kl_panns"]["audio swap"]) > 0
    for damage in ("audio swap", "frame drop"):
        points = [curves["av_align"]["undamaged"], *curves["av_align"][damage]]
        assert points == sorted(points, reverse=True) and points[-1] < points[0] / 2
    assert abs(curves["fvd"]["undamaged"]) < 1e-9


def test_a_curve_is_what_the_code_gives(responses: dict[str, Any], tmp_path: Path) -> None:
    """The weightless metric, one point; networks would take minutes."""
    from avbench.registry import metrics
    from avbench.suite import load_suite

    suite = load_suite("clatter-mini").limit(responses["clips"])
    assert suite.render is not None
    study = CURVES.Study([suite.render(sample) for sample in suite.samples], CURVES.Networks({}, tmp_path), tmp_path)
    damage = next(one for one in CURVES.DAMAGES if one.name == "frame drop")
    value = study.value(metrics.get("temporal_flickering"), damage, damage.strengths[2])
    assert value == pytest.approx(responses["curves"]["temporal_flickering"]["frame drop"][2], rel=1e-6)


def test_the_figure_is_drawn(responses: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    CURVES.draw(responses, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 20_000
