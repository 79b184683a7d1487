"""Leaderboards: which runs count, what is ranked with what, and how tables print it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from avbench.cli import app
from avbench.correlation import correlations
from avbench.errors import UserError
from avbench.leaderboard import Boards
from tests.synthetic import synthetic_run

IDS = [f"s{i}" for i in range(40)]
SCENE = np.random.default_rng(0).normal(0, 1, len(IDS))


def values(shift: float, seed: int = 0, spread: float = 0.1) -> dict[str, float | None]:
    """Scores that share the scenes' difficulty, `shift` better."""
    found = SCENE + shift + np.random.default_rng(seed).normal(0, spread, len(IDS))
    return dict(zip(IDS, found.tolist()))


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["leaderboard", *map(str, words)])


@pytest.fixture
def out(cache: Path, tmp_path: Path) -> Path:
    """Three models: two that do not differ, one clearly worse, all with a subset."""
    tags = {name: ["even"] for name in IDS[::2]}
    for seed, (model, shift) in enumerate([("a", 1.0), ("b", 1.0), ("c", 0.0)]):
        synthetic_run(tmp_path / "runs", model, {"av_align": values(shift, seed)}, tags=tags)
    return tmp_path / "runs"


def test_models_that_do_not_differ_share_a_group(out: Path) -> None:
    board = Boards(out, "made").board()
    cells = {row.model: row.cells["av_align"] for row in board.rows}
    assert (cells["a"].group, cells["b"].group, cells["c"].group) == (1, 1, 2)
    assert [row.model for row in board.rows][-1] == "c" and cells["a"].n == 40
    assert cells["c"].value == pytest.approx(np.mean(list(values(0.0, 2).values())))  # type: ignore[arg-type]
    assert cells["c"].low < cells["c"].value < cells["c"].high  # type: ignore[operator]


def test_a_subset_is_ranked_on_its_own_samples(out: Path) -> None:
    boards = Boards(out, "made")
    board = boards.board("even")
    assert board.samples == 20 and {row.cells["av_align"].n for row in board.rows} == {20}
    with pytest.raises(UserError, match="no subset 'odd'"):
        boards.board("odd")


def test_an_unchanged_table_is_read_back_as_it_was(out: Path) -> None:
    first = Boards(out, "made").board(published=True)
    again = Boards(out, "made")
    again.compute = lambda *_: pytest.fail("computed again")  # type: ignore[method-assign,assignment]
    assert again.board(published=True) == first


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics": [{"id": "av_align", "version": 99}]}, "d, av_align: made with version 99"),
        ({"precision": "bf16"}, "made with bf16, the others with fp32"),
        ({"suite_digest": "e" * 64}, "scored on other prompts"),
        ({"status": "partial"}, "its latest run is partial (40 of 40 clips ok)"),
        ({"status": "running", "limit": 5}, "its latest run is running"),
    ],
)
def test_what_was_made_otherwise_is_left_out_and_named(out: Path, changes: dict[str, Any], why: str) -> None:
    synthetic_run(out, "d", {"av_align": values(5.0)}, **changes)
    board = Boards(out, "made").board()
    assert any(why in line for line in board.left_out), board.left_out
    cells = {row.model: row.cells["av_align"] for row in board.rows}
    assert "d" not in cells or cells["d"].value is None
    assert cells["a"].group == 1
    assert why in run("--suite", "made", "--out", out).stdout.replace("\n", " ")


def test_other_weights_are_not_ranked_together(out: Path) -> None:
    def weights(digest: str, verified: bool) -> list[dict[str, Any]]:
        return [{"name": "imagebind_huge", "sha256": digest, "verified": verified}]

    for model, digest in (("a", "1" * 64), ("b", "1" * 64), ("d", "2" * 64)):
        synthetic_run(out, model, {"av_ib": values(0.0)}, stamp=1, weights=weights(digest, False))
    board = Boards(out, "made", ["av_ib"]).board()
    assert any("d, av_ib: made with imagebind_huge 222222222222" in line for line in board.left_out)
    assert board.unverified == ("imagebind_huge",)
    for form in ("table", "md", "latex", "csv", "json"):
        assert "imagebind_huge" in run("--suite", "made", "--metrics", "av_ib", "--out", out, "--format", form).stdout


def test_partial_runs_are_shown_on_request_and_never_ranked(out: Path) -> None:
    counts = {"expected": 40, "ok": 3, "failed": 0, "missing": 37, "not_applicable": 0}
    few = dict(list(values(9.0).items())[:3])
    row = {"metric": "fvd", "field": "", "subset": "", "n": 3, "n_ref": 40, "value": 1.0, "status": "ok"}
    synthetic_run(out, "d", {"av_align": few}, status="partial", counts=counts, sets=[row])
    assert "d" not in {row.model for row in Boards(out, "made").board().rows}
    board = Boards(out, "made", partial=True).board()
    cells = {row.model: row.cells for row in board.rows}
    assert cells["d"]["av_align"].n == 3 and cells["d"]["av_align"].value is not None
    assert {cells["d"][name].group for name in ("av_align", "fvd")} == {None}
    assert {cells["d"][name].mark for name in ("av_align", "fvd")} == {0}
    assert cells["a"]["av_align"].group == 1 and board.rows[-1].model == "d"
    assert not any(line.startswith("d:") for line in board.left_out)
    assert board.warnings == ("d: partial run (3 of 40 clips ok), shown without a rank",)


def test_partial_runs_alone_name_the_option(cache: Path, tmp_path: Path) -> None:
    synthetic_run(tmp_path, "d", {"av_align": values(0.0)}, status="partial")
    result = run("--suite", "made", "--out", tmp_path)
    assert result.exit_code == 2 and "--partial shows partial runs, unranked" in result.stderr
    shown = run("--suite", "made", "--out", tmp_path, "--partial").stdout
    assert "d: partial run (40 of 40 clips ok), shown without a rank" in shown


def test_partial_runs_of_other_prompts_have_nothing_to_compare(cache: Path, tmp_path: Path) -> None:
    counts = {"expected": 2, "ok": 1, "failed": 0, "missing": 1, "not_applicable": 0}
    for model, scores in (("one", {"s0": 1.0, "s1": None}), ("two", {"s0": None, "s1": 2.0}), ("few", {"s0": 0.5})):
        synthetic_run(tmp_path, model, {"av_align": scores}, status="partial", counts=counts)
    words = ["compare", "one", "two", "--out", str(tmp_path)]
    stdout = " ".join(CliRunner().invoke(app, words, env={"COLUMNS": "300"}).stdout.split())
    assert "no sample that both scored (A 1, B 1: other prompts)" in stdout and "partial run, 1 of 2 clips ok" in stdout
    stdout = CliRunner().invoke(app, ["compare", "one", "few", "--out", str(tmp_path)]).stdout
    assert "n = 1: no difference can be shown with fewer than 6 samples" in stdout


def test_older_runs_of_the_same_clips_fill_in(out: Path) -> None:
    synthetic_run(out, "a", {"integrity": dict.fromkeys(IDS, 1.0)}, stamp=1)
    cells = next(row.cells for row in Boards(out, "made").board().rows if row.model == "a")
    assert cells["av_align"].n == 40 and cells["integrity"].value == 1
    synthetic_run(out, "a", {"integrity": dict.fromkeys(IDS, 0.5)}, stamp=2, model_digest="other")
    cells = next(row.cells for row in Boards(out, "made").board().rows if row.model == "a")
    assert cells["integrity"].value == 0.5 and cells["av_align"].value is None


def test_set_metrics_are_marked_by_value_among_equal_n(cache: Path, tmp_path: Path) -> None:
    for model, value, n in (("a", 30.0, 40), ("b", 20.0, 40), ("c", 10.0, 7)):
        row = {"metric": "fvd", "field": "", "subset": "", "n": n, "n_ref": 40, "value": value, "status": "ok"}
        synthetic_run(tmp_path, model, {"av_align": values(0)}, sets=[row])
    cells = {row.model: row.cells["fvd"] for row in Boards(tmp_path, "made").board().rows}
    assert [cells[m].mark for m in "abc"] == [2, 1, 0] and {cells[m].group for m in "abc"} == {None}
    assert "over 7 clips" in cells["c"].note


def test_a_silent_model_has_a_reason_and_no_rank(out: Path) -> None:
    synthetic_run(out, "mute", {"av_align": dict.fromkeys(IDS)})
    row = Boards(out, "made").board().rows[-1]
    assert (row.model, row.cells["av_align"].value, row.cells["av_align"].group) == ("mute", None, None)
    assert row.cells["av_align"].note == "n/a: no_audio"


def test_a_still_winner_is_warned_of(cache: Path, tmp_path: Path) -> None:
    for model, shift, still in (("moving", 0.0, 0.0), ("still", 2.0, 0.95)):
        duplicated = dict.fromkeys(IDS, still)
        synthetic_run(
            tmp_path, model,
            {"av_align": values(shift), "integrity": dict.fromkeys(IDS, 1.0), "integrity.duplicated": duplicated},
        )  # fmt: skip
    board = Boards(tmp_path, "made").board()
    assert board.columns[-1].id == "integrity.duplicated" and board.columns[-1].better == "none"
    assert len(board.warnings) == 1 and board.warnings[0].startswith("still stands best in av_align but hardly moves")


def test_dynamic_degree_is_the_first_choice_of_motion(cache: Path, tmp_path: Path) -> None:
    for model, shift, moves in (("a", 0.0, 0.8), ("b", 2.0, 0.3), ("c", 0.0, 0.9)):
        moving = {name: float(i < moves * len(IDS)) for i, name in enumerate(IDS)}
        synthetic_run(tmp_path, model, {"av_align": values(shift), "dynamic_degree": moving})
    board = Boards(tmp_path, "made").board()
    assert [c.id for c in board.columns] == ["av_align", "dynamic_degree"]
    assert len(board.warnings) == 1 and "b stands best" in board.warnings[0]


def test_published_rows_join_unranked(cache: Path, tmp_path: Path) -> None:
    synthetic_run(tmp_path, "ours", {"av_ib": values(0.0)}, suite="javisbench")
    synthetic_run(tmp_path, "theirs", {"av_ib": values(-1.0)}, suite="javisbench")
    board = Boards(tmp_path, "javisbench").board(published=True)
    printed = {row.model: row.cells["av_ib"] for row in board.published}
    assert printed["JavisDiT++ T2AV"].value == 0.198 and "protocol javisbench" in printed["JavisDiT++ T2AV"].note
    assert all(cell.group is None and cell.mark == 0 for cell in printed.values())
    assert {row.cells["av_ib"].group for row in board.rows} == {1, 2}
    alone = Boards(tmp_path, "javisbench").board()
    assert [row.cells for row in alone.rows] == [row.cells for row in board.rows], "printed rows change no rank"
    for form in ("table", "md", "latex"):
        stdout = run("--suite", "javisbench", "--out", tmp_path, "--published", "--format", form).stdout
        assert "javisdit-plus-plus-1: protocol javisbench" in stdout
    text = run("--suite", "javisbench", "--out", tmp_path, "--published", "--format", "latex").stdout
    assert text.count(r"\midrule") == 2 and r"$\dagger$ javisdit-plus-plus-1" in text


def test_tables_mark_the_best_and_the_second(out: Path) -> None:
    latex = run("--suite", "made", "--out", out, "--format", "latex").stdout
    assert latex.count(r"\textbf{") == 2 and latex.count(r"\underline{") == 1 and r"\toprule" in latex
    markdown = run("--suite", "made", "--out", out, "--format", "md").stdout
    assert "**" in markdown and "<u>" in markdown


def test_csv_and_json_hold_every_cell(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    assert run("--suite", "made", "--out", out, "--format", "csv", "-o", path).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert (rows[0]["metric"], rows[0]["n"], len(rows)) == ("av_align", "40", 3)
    found = json.loads(run("--suite", "made", "--out", out, "--format", "json").stdout)
    assert found["rows"][0]["cells"]["av_align"]["group"] == 1 and found["columns"][0]["id"] == "av_align"


def test_sorting(out: Path) -> None:
    boards = Boards(out, "made")
    assert [row.model for row in boards.board(sort="model").rows] == ["a", "b", "c"]
    with pytest.raises(UserError, match="no such column; columns: model, av_align"):
        boards.board(sort="fvd")


@pytest.mark.parametrize(
    ("words", "say"),
    [
        (("--suite", "nothing"), "suites with finished runs there: made"),
        (("--suite", "made", "--metrics", "fvd"), "no run has fvd; the runs have: av_align"),
        (("--suite", "made", "--format", "pdf"), "use one of"),
        ((), "give one --suite"),
    ],
)
def test_messages(out: Path, words: tuple[str, ...], say: str) -> None:
    result = run(*words, "--out", out)
    assert result.exit_code == 2 and say in result.stderr.replace("\n", " ")


def test_correlations_within_and_between(cache: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for index in range(5):
        first = rng.normal(index, 1, len(IDS))
        second = dict(zip(IDS, (-first + 3 * index).tolist()))  # opposed over clips, agreeing over models
        synthetic_run(tmp_path, f"m{index}", {"av_align": dict(zip(IDS, first.tolist())), "av_ib": second})
    (found,) = correlations(Boards(tmp_path, "made"))
    assert found.within == pytest.approx(-1) and found.models == 5 and found.samples == 200
    assert found.between == pytest.approx(1) and found.means == 5


def test_correlation_is_turned_to_agreement(cache: Path, tmp_path: Path) -> None:
    lower = dict(zip(IDS, (-SCENE).tolist()))
    synthetic_run(tmp_path, "m", {"av_align": dict(zip(IDS, SCENE.tolist())), "desync": lower})
    (found,) = correlations(Boards(tmp_path, "made"))
    assert found.within == pytest.approx(1) and found.between is None
    stdout = run("--suite", "made", "--out", tmp_path, "--correlations").stdout
    assert "+1.00" in stdout and "desync" in stdout
