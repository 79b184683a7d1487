"""`--profile` takes a metric's variant where there is one; a metric bound to some suites is refused elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from avbench.cli import app
from avbench.errors import UnknownName, UserError
from avbench.evaluation import refuse_elsewhere
from avbench.groups import profiled
from avbench.results import narrow


def card(*suites: str) -> SimpleNamespace:
    return SimpleNamespace(id="clip_score@clatter", suites=suites)


def test_a_profile_swaps_what_it_can() -> None:
    names = ["temporal_flickering", "av_align", "imaging_quality@verse-bench", "imaging_quality"]
    assert profiled(names, "vbench") == ["temporal_flickering@vbench", "av_align", "imaging_quality@vbench"]
    with pytest.raises(UnknownName, match=r"--profile nonsense: .* there are .*vbench"):
        profiled(names, "nonsense")


def test_a_metric_bound_to_suites_is_refused_elsewhere() -> None:
    bound = SimpleNamespace(card=card("clatter*"))
    refuse_elsewhere([bound], "clatter-mini")
    refuse_elsewhere([SimpleNamespace(card=card())], "javisbench")
    for suite, word in (("javisbench", "javisbench"), ("", "a single clip")):
        with pytest.raises(UserError, match=rf"clip_score@clatter is valid on clatter\* only, not on {word}"):
            refuse_elsewhere([bound], suite)
    assert narrow(bound.card) == "valid on clatter* only" and not narrow(card())


def test_eval_with_a_profile(cache: Path, folder: Callable[[int], Path]) -> None:
    clips = folder(1)
    words = ["eval", "--model", clips, "--suite", clips.parent / "prompts.jsonl", "--metrics", "temporal_flickering"]
    result = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--profile", "vbench", "--json"])
    assert result.exit_code == 0, result.output
    assert {row["metric"] for row in json.loads(result.stdout)["results"]} == {"temporal_flickering@vbench"}
