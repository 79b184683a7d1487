"""Published tables with our numbers beside them: what is comparable, what is not, and why."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from avbench import evaluate
from avbench.baselines.published import table, tables
from avbench.cli import app
from avbench.encode import write_clip
from avbench.errors import UserError
from avbench.progress import Progress
from avbench.reproduce import RECIPES, contexts, needed, results, variant
from avbench.suite import load_suite
from tests.conftest import bouncing
from tests.suites import public_files as public


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_every_cell_with_a_metric_finds_one_of_ours() -> None:
    """The paper's own variant where we have it, marked as another measurement where we have not."""
    for found in (one for one in tables() if one.kind == "results"):
        for cell in found.cells:
            name, why = variant(cell, found.paper)
            if cell.column.metric:
                assert name.partition("@")[0] == cell.column.metric and bool(why) == (name != cell.metric)
            else:
                assert not name and "no such metric" in why
    javis = table("javisdit-plus-plus-1").cells[0]
    assert variant(javis, "javisdit-plus-plus") == ("fvd@javisbench", "")
    hearing = table("hearing-helps-seeing-2").cells[0]
    assert variant(hearing, "hearing-helps-seeing")[0] == "background_consistency@vbench"


def test_subsets_become_blocks_and_suites_know_their_metrics() -> None:
    found = table("hearing-helps-seeing-2")
    assert len(contexts(found)) == 7 and sum(len(rows) for _, rows in contexts(found)) == len(found.rows)
    assert set(needed(found)) == {"alt-merge", "vggsound"}
    assert needed(table("javisdit-plus-plus-3")) == {"javisbench-mini": ["javis_score@javisbench", "desync@javisbench"]}


def test_what_is_no_table_of_results_is_refused() -> None:
    other = next(one for one in tables() if one.kind != "results")
    with pytest.raises(UserError, match="no evaluation reproduces"):
        results(other.id)
    assert run("reproduce", "no-such-table").exit_code == 2
    for words in (("reproduce",), ("reproduce", "--list")):
        listed = run(*words)
        assert listed.exit_code == 0 and all(t.id in listed.output for t in tables() if t.kind == "results")


def noted(scale: str, out: Path, device: str, progress: Progress) -> str:
    """An experiment that notes how it was called."""
    progress.note(f"at {scale}")
    out.mkdir()
    (out / scale).write_text(device)
    return f"done at {scale}"


def test_an_experiment_runs_at_its_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "made-experiment", f"{__name__}:noted")
    words = ("reproduce", "made-experiment", "--device", "cpu", "--out", str(tmp_path / "runs"))
    assert run(*words, "--scale", "huge").exit_code == 2 and not (tmp_path / "runs").exists()
    done = run(*words, "--scale", "cpu")
    assert done.exit_code == 0 and "done at cpu" in done.output and (tmp_path / "runs" / "cpu").read_text() == "cpu"
    other = run("reproduce", "bridgedit-1", "--scale", "cpu")
    assert other.exit_code == 2 and "made-experiment" in other.output


@pytest.fixture
def partial(cache: Path, tmp_path: Path) -> Path:
    """A run of three of avsync15's 150 prompts, with AV-Align alone; the folder of runs."""
    public.asva(tmp_path / "asva")
    suite = f"avsync15={tmp_path / 'asva'}"
    (tmp_path / "avbench.toml").write_text(f'[data]\navsync15 = "{tmp_path / "asva"}"\n')
    clips = tmp_path / "ours"
    clips.mkdir()
    for index, sample in enumerate(load_suite(suite).samples[:3]):
        write_clip(clips / f"{sample.id}.mp4", bouncing(index))
    made = evaluate(str(clips), suite, "av_align", limit=3, device="cpu", out=tmp_path / "runs")
    assert made.manifest["counts"]["ok"] == 3
    return tmp_path / "runs"


def test_our_line_stands_beside_the_printed_ones(partial: Path) -> None:
    shown = run("reproduce", "bridgedit-1", "--runs-only", "--out", str(partial))
    assert shown.exit_code == 0, shown.output
    assert "ours [ours]" in shown.output and "765.74" in shown.output
    for reason in ("av_align: 3 of 150 samples", "no run on avsync15 has fvd", "not the paper's protocol (bridgedit)"):
        assert reason in shown.output, shown.output


def test_json_csv_markdown_and_latex_hold_the_same(partial: Path) -> None:
    words = ("reproduce", "bridgedit-1", "--runs-only", "--out", str(partial))
    document = json.loads(run(*words, "--json").stdout)
    (ours,) = [row for row in document["rows"] if not row["published"]]
    value = ours["cells"][7]["value"]
    assert ours["cells"][7]["metric"] == "av_align" and 0 <= value <= 1 and ours["cells"][7]["n"] == 3
    assert len(ours["cells"][7]["why"]) == 2 and ours["cells"][0]["value"] is None
    lines = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout)))
    assert len(lines) == 12 * 8
    (cell,) = [line for line in lines if line["published"] == "False" and line["column"] == "AV-Align"]
    assert float(cell["value"]) == value and "3 of 150" in cell["not_comparable"]
    assert "| ours [ours] |" in run(*words, "--format", "md").stdout
    latex = run(*words, "--format", "latex").stdout
    assert r"\toprule" in latex and r"$\neq$" in latex and "ours [ours]" in latex


def test_what_cannot_be_run_is_named(partial: Path) -> None:
    """Without weights the missing metrics stay missing, with the command; what there is, is shown."""
    shown = run("reproduce", "bridgedit-1", "--model", "ours", "--out", str(partial))
    assert shown.exit_code == 0 and "lacking: ours on avsync15" in shown.output and "weights pull" in shown.output
    nobody = run("reproduce", "bridgedit-1", "--model", "reference", "--runs-only", "--out", str(partial))
    assert nobody.exit_code == 4 and "avbench eval --model reference" in nobody.output
