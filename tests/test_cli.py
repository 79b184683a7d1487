"""The command line: exit codes, JSON purity, messages, interruption, a full disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from avbench.cli import app

Folder = Callable[[int], Path]
FAST = ("--device", "cpu", "--metrics", "av_align,integrity")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def evaluate(clips: Path, *more: str) -> Result:
    return run("eval", "--model", clips, "--suite", clips.parent / "prompts.jsonl", *FAST, *more)


def test_eval_prints_values_counts_and_where_the_run_is(cache: Path, folder: Folder) -> None:
    result = evaluate(folder(3))
    assert result.exit_code == 0, result.output
    assert "av_align ↑" in result.stdout and "3 samples: 3 ok, 0 failed, 0 missing" in result.stdout
    assert "avbench report runs/prompts/clips/" in result.stdout
    details = evaluate(folder(3), "--details").stdout
    assert "loudness" in details and "loudness" not in result.stdout


def test_json_is_one_document_and_nothing_else(cache: Path, folder: Folder) -> None:
    result = evaluate(folder(2), "--json")
    document = json.loads(result.stdout)
    assert document["status"] == "complete" and document["counts"]["ok"] == 2
    values = {(r["metric"], r["subset"]): r["value"] for r in document["results"] if not r["field"]}
    assert values["integrity", ""] == 1.0 and ("integrity", "odd") in values


def test_exit_3_beyond_the_allowance(cache: Path, folder: Folder) -> None:
    clips = folder(4)
    (clips / "s1.mp4").write_bytes(b"")
    result = evaluate(clips)
    assert result.exit_code == 3 and "decode.empty_file: s1" in result.stdout
    assert evaluate(clips, "--allow-failed", "1").exit_code == 0
    assert evaluate(clips, "--allow-failed", "25%").exit_code == 0
    assert evaluate(clips, "--allow-failed", "24%").exit_code == 3


@pytest.mark.parametrize(
    ("words", "code", "say"),
    [
        (("eval", "--model", "nowhere", "--suite", "clatter-mini"), 2, "no model named"),
        (("eval", "--model", "./nowhere", "--suite", "clatter-mini"), 2, "no such folder"),
        (("eval", "--model", "reference", "--suite", "clater"), 2, "did you mean: clatter"),
        (("eval", "--model", "reference", "--suite", "nowhere.jsonl"), 2, "does not exist"),
        (("eval", "--model", "reference", "--suite", "clatter-mini", "--metrics", "wr"), 2, "did you mean: wer"),
        (("eval", "--model", "reference", "--suite", "clatter-mini", "--metrics", "wer"), 4, "weights pull whisper"),
        (("eval", "--model", "reference", "--suite", "clatter-mini", "--device", "cuda:99"), 2, "--device cuda:99"),
        (("eval", "--model", "reference", "--suite", "clatter-mini", "--precision", "fp8"), 2, "fp32, tf32, bf16"),
        (("eval", "--model", "reference", "--suite", "clatter-mini", "--weights", "x"), 2, "NAME=FILE"),
        (("eval", "--model", "reference"), 2, "--suite"),
        (("score", "nowhere.mp4"), 2, "does not exist"),
        (("report", "nowhere"), 2, "neither a run folder"),
        (("compare", "a", "b"), 2, "neither a run folder"),
        (("metrics", "show", "av_aling"), 2, "did you mean: av_align"),
        (("weights", "pull", "nonsense"), 2, "no weights named"),
        (("generate", "--model", ".", "--suite", "clatter-mini", "--out", "x"), 2, "nothing to generate"),
    ],
)
def test_mistakes_have_an_exit_code_and_say_what_to_do(cache: Path, words: tuple, code: int, say: str) -> None:
    result = run(*words)
    assert result.exit_code == code, result.output
    assert say in result.output and "Traceback" not in result.output


def test_dry_run_computes_nothing(cache: Path, folder: Folder) -> None:
    clips = folder(3)
    plan = json.loads(evaluate(clips, "--dry-run", "--json").stdout)
    assert (plan["clips"], plan["decodes"], plan["cached"]) == (3, 3, 0)
    assert plan["encoders"] == {"farneback": 3, "onsets": 3, "integrity": 3}
    assert not Path("runs").exists() and not (cache / "features").exists()
    evaluate(clips)
    assert json.loads(evaluate(clips, "--dry-run", "--json").stdout)["decodes"] == 0


def test_score_of_one_clip(cache: Path, folder: Folder) -> None:
    clip = folder(1) / "s0.mp4"
    rows = json.loads(run("score", clip, "--device", "cpu", "--metrics", "integrity,av_align", "--json").stdout)
    values = {(row["metric"], row["field"]): row["value"] for row in rows}
    assert values["integrity", ""] == 1.0 and values["integrity", "loudness"] < 0
    assert "integrity" in run("score", clip, "--device", "cpu", "--metrics", "integrity").stdout


def test_a_clip_that_cannot_be_scored_exits_3(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").write_bytes(b"")
    for more in ((), ("--json",)):
        result = run("score", tmp_path / "zero.mp4", *more)
        assert result.exit_code == 3 and "decode.empty_file" in result.stdout


def test_listings_are_complete_and_json(cache: Path) -> None:
    for group in ("metrics", "suites", "models", "weights"):
        assert json.loads(run(group, "list", "--json").stdout)
        assert run(group, "list").exit_code == 0
    cards = {card["id"]: card for card in json.loads(run("metrics", "list", "--json").stdout)}
    for name, card in cards.items():
        shown = run("metrics", "show", name)
        assert shown.exit_code == 0 and card["title" if "title" in card else "text"].split("\n")[0] in shown.stdout
    assert "differs from our default" in run("metrics", "show", "av_align@javisbench").stdout
    assert json.loads(run("suites", "show", "clatter-mini", "--json").stdout)["samples"] == 64


def test_prompts_are_written_for_programs(tmp_path: Path) -> None:
    output = tmp_path / "p.jsonl"
    said = run("suites", "prompts", "clatter-mini/av-tight", "-o", output).stdout
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 32 and "32 prompts" in said and "--suite clatter-mini/av-tight" in said
    assert rows[0].keys() >= {"id", "index", "seed", "text", "video_text", "audio_text", "tags"}
    run("suites", "prompts", "clatter-mini/av-tight", "-o", output, "--seed", "1")
    again = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(a["seed"] != b["seed"] and a["id"] == b["id"] for a, b in zip(rows, again))


def test_models_are_listed_by_system() -> None:
    from avbench.cli.listing import families

    names = ["a-nano", "a-paper", "a-t2v-nano", "a-t2v-paper", "b-large-16k", "b-nano", "noisy-audio", "noisy-video"]
    assert families(names) == {"a": (["", "t2v"], ["nano", "paper"])}
    short, every = run("models", "list").stdout.splitlines(), run("models", "list", "--all").stdout.splitlines()
    assert len(short) < 40 < len(every) and {"reference", "avfulldit-t2v-tiny"} <= set(every)


def test_compare_two_runs(cache: Path, folder: Folder, tmp_path: Path) -> None:
    from avbench.encode import write_clip
    from tests.conftest import bouncing

    clips = folder(12)
    other = tmp_path / "other"
    other.mkdir()
    for index in range(12):
        write_clip(other / f"s{index}.mp4", bouncing(index + 50))
    suite = str(tmp_path / "prompts.jsonl")
    for model in (clips, other):
        assert run("eval", "--model", model, "--suite", suite, *FAST).exit_code == 0
    document = json.loads(run("compare", "clips", "other", "--by", "even,odd", "--format", "json").stdout)
    assert [(r["metric"], r["subset"], r["n"]) for r in document["rows"]] == [
        ("av_align", "even", 6), ("integrity", "even", 6), ("av_align", "odd", 6), ("integrity", "odd", 6),
    ]  # fmt: skip
    assert all(row["holm"] >= row["p"] for row in document["rows"])
    assert "booktabs" not in run("compare", "clips", "other", "--format", "latex").stdout
    assert r"\toprule" in run("compare", "clips", "other", "--format", "latex").stdout
    assert run("compare", "clips", "other", "--format", "md").stdout.startswith("| metric |")
    (tmp_path / "prompts.jsonl").write_text('{"id": "s0", "text": "another text"}')
    assert run("eval", "--model", clips, "--suite", suite, *FAST).exit_code == 0
    refused = run("compare", "clips", "other")
    assert refused.exit_code == 5 and "different suites" in refused.output


def test_a_full_disk_is_one_message_and_keeps_what_there_is(
    cache: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avbench.store import Store

    clips, put, done = folder(6), Store.put, []

    def filling(self: Store, *words: object) -> None:
        if len(done) >= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "features/x")
        done.append(words)
        put(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "put", filling)
    result = evaluate(clips)
    assert result.exit_code == 1 and "No space left" in result.output and "repeat the command" in result.output
    monkeypatch.setattr(Store, "put", put)
    after = evaluate(clips, "--json")
    assert after.exit_code == 0 and json.loads(after.stdout)["counts"]["ok"] == 6
    assert len(list(Path("runs").glob("*/*/*/run.json"))) == 1, "the interrupted run was not resumed"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_exits_130_and_the_same_command_continues(
    cache: Path, folder: Folder, tmp_path: Path, stop: signal.Signals
) -> None:
    if signal.getsignal(stop) is signal.SIG_IGN:
        pytest.skip("ignored by this process, as by background jobs, and so by its children")
    clips = folder(64)  # four chunks, of which the first is let through
    words = ["eval", "--model", str(clips), "--suite", str(tmp_path / "prompts.jsonl"), *FAST]
    process = subprocess.Popen(
        [sys.executable, "-m", "avbench", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while process.poll() is None and not any(p.stat().st_size for p in tmp_path.glob("runs/*/*/*/journal.jsonl")):
        time.sleep(0.01)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "repeat the command" in said and "Traceback" not in said
    (manifest,) = tmp_path.glob("runs/*/*/*/run.json")
    assert json.loads(manifest.read_text())["status"] == "interrupted"
    assert run(*words).exit_code == 0
    assert json.loads(manifest.read_text())["status"] == "complete"


def test_help_is_quick_and_says_every_command() -> None:
    for words in ((), ("eval",), ("compare",), ("metrics",), ("weights", "pull")):
        assert run(*words, "--help").exit_code == 0
    code = "import sys; from avbench.cli import app; assert not {'torch', 'pandas', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctor_finds_this_installation_sound(cache: Path) -> None:
    result = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["known offset"]["ok"], checks["known offset"]
    assert checks["decoder"]["ok"] and checks["torch"]["ok"]
