"""The engine end to end: one decode, stable bytes, broken clips as rows, resuming after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import avbench
from avbench.clip import Clip
from avbench.encode import write_clip
from avbench.errors import NotApplicable, UserError
from avbench.evaluation import evaluate
from avbench.run import Run, read_journal
from tests.conftest import bouncing

Folder = Callable[[int], Path]
METRICS = "av_align,temporal_flickering,integrity"


def score(clips: Path, **options: object) -> Run:
    return evaluate(str(clips), str(clips.parent / "prompts.jsonl"), METRICS, device="cpu", **options)


def statuses(run: Run, metric: str) -> dict[str, str]:
    rows = run.scores[(run.scores["metric"] == metric) & (run.scores["field"] == "")]
    return dict(zip(rows["sample"], rows["status"]))


def test_a_folder_becomes_a_run(cache: Path, folder: Folder) -> None:
    run = score(folder(4))
    assert run.manifest["status"] == "complete"
    assert run.manifest["counts"] == {"expected": 4, "ok": 4, "failed": 0, "missing": 0, "not_applicable": 0}
    assert run.manifest["work"]["decodes"] == 4
    assert set(run.scores["metric"]) == set(METRICS.split(","))
    assert (run.scores[run.scores["status"] == "ok"]["value"].notna()).all()
    assert list(run.samples["sample"]) == ["s0", "s1", "s2", "s3"]
    first = run.records("samples")[0]
    assert (
        first["width"] == 48 and first["frames"] == 12 and first["sample_rate"] == 8000 and len(first["sha256"]) == 64
    )


def test_a_second_run_decodes_nothing_and_gives_the_same_bytes(cache: Path, folder: Folder) -> None:
    clips = folder(3)
    first, second = score(clips), score(clips)
    assert second.folder != first.folder and second.manifest["work"]["decodes"] == 0
    assert (first.folder / "scores.parquet").read_bytes() == (second.folder / "scores.parquet").read_bytes()


def test_names_play_no_part_and_bytes_decide(cache: Path, folder: Folder) -> None:
    from avbench.encode import write_clip

    clips = folder(2)
    score(clips)
    os.utime(clips / "s0.mp4", (1, 1))
    assert score(clips).manifest["work"]["decodes"] == 0
    write_clip(clips / "s1.mp4", bouncing(9))
    assert score(clips).manifest["work"]["decodes"] == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_chunks_and_order_never_change_a_score(
    cache: Path, folder: Folder, threads: int, tmp_path: Path
) -> None:
    from avbench.evaluation import Spec, perform
    from avbench.execute import Settings
    from avbench.progress import Silent

    clips = folder(5)
    rows = (tmp_path / "prompts.jsonl").read_text().splitlines()
    (tmp_path / "turned.jsonl").write_text("\n".join(reversed(rows)))
    base = score(clips).scores.set_index(["sample", "metric", "field"])["value"]
    for number, (suite, chunk) in enumerate([("prompts", 1), ("turned", 1 << 30)]):
        os.environ["AVBENCH_CACHE"] = str(tmp_path / f"cache{number}{threads}")
        spec = Spec(
            str(clips), str(tmp_path / f"{suite}.jsonl"), tuple(METRICS.split(",")),
            settings=Settings(threads=threads, chunk_bytes=chunk, ahead_bytes=1),
        )  # fmt: skip
        found = perform(spec, Silent()).scores.set_index(["sample", "metric", "field"])["value"]
        assert found.sort_index().equals(base.sort_index())


def test_broken_clips_are_rows_and_the_rest_goes_on(cache: Path, folder: Folder) -> None:
    from dataclasses import replace

    from avbench.encode import write_clip

    clips = folder(7)
    whole = (clips / "s0.mp4").read_bytes()
    (clips / "s0.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "s1.mp4").write_bytes(b"")
    (clips / "s2.mp4").write_bytes(b"not a video at all" * 50)
    (clips / "s3.mp4").unlink()
    write_clip(clips / "s4.mp4", replace(bouncing(), audio=None))
    one = bouncing()
    still = replace(one.need_video(), frames=one.need_video().frames[:1], times=one.need_video().times[:1])
    write_clip(clips / "s5.mp4", replace(one, video=still))
    run = score(clips)
    assert run.manifest["status"] == "partial"
    counts = run.manifest["counts"]
    assert (counts["failed"], counts["missing"], counts["ok"]) == (3, 1, 3)
    align = statuses(run, "av_align")
    assert [align[f"s{i}"] for i in range(7)] == [
        "failed", "failed", "failed", "missing", "not_applicable", "not_applicable", "ok",
    ]  # fmt: skip
    reasons = dict(zip(run.samples["sample"], run.samples["reason"]))
    assert reasons["s1"].startswith("decode.empty_file") and reasons["s2"].startswith("decode.")
    assert reasons["s3"].startswith("clip.missing")
    bad = run.scores[run.scores["status"] != "ok"]
    assert bad["value"].isna().all() and (bad["reason"] != "").all()
    assert statuses(run, "integrity")["s4"] == "ok"


def test_two_samples_of_equal_bytes_are_decoded_once(cache: Path, folder: Folder) -> None:
    clips = folder(3)
    (clips / "s1.mp4").write_bytes((clips / "s0.mp4").read_bytes())
    run = score(clips)
    assert run.manifest["work"]["decodes"] == 2 and run.manifest["counts"]["ok"] == 3
    (clips / "s2.mp4").write_bytes(b"")
    (clips / "s1.mp4").write_bytes(b"")
    assert [*statuses(score(clips), "integrity").values()] == ["ok", "failed", "failed"]


def test_limit_makes_a_partial_run_and_subsets_are_counted(cache: Path, folder: Folder) -> None:
    from avbench.results import summarise

    clips = folder(4)
    run = score(clips, limit=2)
    assert run.manifest["status"] == "partial" and len(run.samples) == 2
    full = score(clips)
    (row,) = [r for r in summarise(full, "odd") if r.metric == "integrity" and not r.field]
    assert row.n == 2


def test_a_metric_that_gives_nan_or_raises_is_a_row(
    cache: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avbench.metrics.av_align import AVAlign
    from avbench.metrics.integrity import Integrity

    monkeypatch.setattr(AVAlign, "score", lambda self, **inputs: float("nan"))
    monkeypatch.setattr(Integrity, "score", lambda self, **inputs: 1 / 0)
    run = score(folder(1))
    rows = {r["metric"]: r for r in run.records("scores") if not r["field"]}
    assert rows["av_align"]["reason"].startswith("metric.not_finite") and rows["av_align"]["value"] is None
    assert rows["integrity"]["reason"].startswith("metric.error: ZeroDivisionError")
    assert rows["temporal_flickering"]["status"] == "ok"


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(cache: Path, folder: Folder, tmp_path: Path) -> None:
    clips = folder(12)
    whole = (score(clips).folder / "scores.parquet").read_bytes()
    environment = {**os.environ, "AVBENCH_CACHE": str(tmp_path / "other"), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-c",
        "from avbench.evaluation import Spec, perform; from avbench.execute import Settings;"
        "from avbench.progress import Silent; from pathlib import Path;"
        f"perform(Spec({str(clips)!r}, {str(tmp_path / 'prompts.jsonl')!r}, {tuple(METRICS.split(','))!r},"
        f" out=Path('killed'), settings=Settings(threads=1, chunk_bytes=1)), Silent())",
    ]  # fmt: skip
    kills = 0
    for wanted in (2, 8, 15):
        process = subprocess.Popen(command, env=environment, cwd=tmp_path)
        while process.poll() is None:
            journals = list(tmp_path.glob("killed/*/*/*/journal.jsonl"))
            if journals and journals[0].read_bytes().count(b"\n") >= wanted:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
    with next(iter(tmp_path.glob("killed/*/*/*/journal.jsonl"))).open("ab") as stream:
        stream.write(b'{"sample": "s1", "met')
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    (folder_of_run,) = tmp_path.glob("killed/*/*/*/")
    run = Run(folder_of_run)
    assert kills >= 1, "the run was never killed: the test showed nothing"
    assert run.manifest["status"] == "complete"
    assert run.manifest["work"]["decodes"] < 12, "the resume began from nothing"
    assert (run.folder / "scores.parquet").read_bytes() == whole
    records = [(r["sample"], r["metric"]) for r in read_journal(run.journal)]
    assert len(records) == len(set(records)) == 36, "a score was computed twice"


def test_unknown_names_stop_before_anything_is_written(cache: Path, folder: Folder) -> None:
    clips = folder(1)
    with pytest.raises(UserError, match="did you mean"):
        evaluate(str(clips), str(clips.parent / "prompts.jsonl"), "av_aling")
    with pytest.raises(UserError, match="allow-failed"):
        score(clips, allow_failed="many")
    assert not Path("runs").exists()


def test_a_python_generator_that_raises_halfway(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymodel.py").write_text(
        "from tests.conftest import bouncing\n"
        "class Halting:\n"
        "    def __init__(self, bad): self.bad = bad\n"
        "    def generate(self, requests):\n"
        "        for request in requests:\n"
        "            if request.sample.id == self.bad: raise RuntimeError('out of ideas')\n"
        "            yield bouncing(request.seed)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = [{"id": f"p{i}", "text": "x"} for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "avbench.toml").write_text(
        '[models.half]\nkind = "python"\nentry = "mymodel:Halting"\nargs = {bad = "p1"}\n'
    )
    run = evaluate("half", "prompts.jsonl", METRICS, device="cpu")
    found = statuses(run, "integrity")
    assert found == {"p0": "ok", "p1": "failed", "p2": "ok", "p3": "ok"}
    assert "out of ideas" in dict(zip(run.samples["sample"], run.samples["reason"]))["p1"]


def test_a_command_generator(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text(
        "import json, sys, pathlib; sys.path.insert(0, sys.argv[3])\n"
        "from tests.conftest import bouncing\nfrom avbench.encode import write_clip\n"
        "for line in open(sys.argv[1]):\n"
        "    row = json.loads(line)\n"
        "    write_clip(pathlib.Path(sys.argv[2]) / (row['id'] + '.mp4'), bouncing(row['seed']))\n"
    )
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "p0", "text": "x"}))
    root = Path(__file__).resolve().parent.parent
    (tmp_path / "avbench.toml").write_text(
        f'[models.cmd]\nkind = "command"\nrun = "{sys.executable} gen.py {{prompts}} {{out}} {root}"\n'
        f'[models.bad]\nkind = "command"\nrun = "{sys.executable} -c exit(3) {{out}}"\n'
    )
    runs = [evaluate("cmd", "prompts.jsonl", METRICS, device="cpu", seed=seed) for seed in (0, 1)]
    assert [run.manifest["counts"]["ok"] for run in runs] == [1, 1]
    assert len({row["sha256"] for run in runs for row in run.records("samples")}) == 2  # the seed reaches the command
    with pytest.raises(UserError, match="status 3"):
        evaluate("bad", "prompts.jsonl", METRICS, device="cpu")


def test_not_applicable_is_no_failure(cache: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench.metrics.av_align import AVAlign

    def none(self: object, **inputs: np.ndarray) -> float:
        raise NotApplicable("no_peaks", "nothing moves")

    monkeypatch.setattr(AVAlign, "score", none)
    run = score(folder(2))
    assert run.manifest["status"] == "complete" and run.manifest["counts"]["not_applicable"] == 2


def test_importing_avbench_is_cheap() -> None:
    code = "import sys, avbench, avbench.cli; assert not {'torch', 'av', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert avbench.__version__


def test_a_generator_beside_avbench_toml_and_clips_that_cannot_be_written(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "import numpy as np\n"
        "from dataclasses import replace\n"
        "from tests.conftest import bouncing\n"
        "class Odd:\n"
        "    def generate(self, requests):\n"
        "        for request in requests:\n"
        "            clip = bouncing(request.seed)\n"
        "            nan = replace(clip.audio, samples=np.full((1, 99), np.nan, 'float32'))\n"
        "            if request.sample.id == 'p1': clip = replace(clip, audio=nan)\n"
        "            yield 'p2.mp4' if request.sample.id == 'p2' else clip\n"
        "class Silent:\n"
        "    def generate(self, requests): return None\n"
        "class Unmade:\n"
        "    def __init__(self): raise ValueError('no checkpoint')\n"
    )
    rows = [{"id": f"p{i}", "text": "x"} for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = {"odd": "Odd", "silent": "Silent", "unmade": "Unmade"}
    tables = [f'[models.{name}]\nkind = "python"\nentry = "beside:{entry}"\n' for name, entry in names.items()]
    (tmp_path / "avbench.toml").write_text("".join(tables))
    try:
        run = evaluate("odd", "prompts.jsonl", "integrity", device="cpu")
        with pytest.raises(UserError, match="generate returned NoneType"):
            evaluate("silent", "prompts.jsonl", "integrity", device="cpu")
        with pytest.raises(UserError, match="no checkpoint"):
            evaluate("unmade", "prompts.jsonl", "integrity", device="cpu")
    finally:
        sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
    assert statuses(run, "integrity") == {"p0": "ok", "p1": "failed", "p2": "failed", "p3": "ok"}
    reasons = dict(zip(run.samples["sample"], run.samples["reason"]))
    assert reasons["p1"].startswith("encode.bad_samples") and reasons["p2"].startswith("generate.not_a_clip")


def test_a_command_keeps_its_own_braces_and_gets_whole_paths(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "p0", "text": "x"}))
    (tmp_path / "avbench.toml").write_text(
        """[models.cmd]\nkind = "command"\nrun = 'sh -c "cd / && echo ${HOME} > {out}/seen.txt"'\n"""
    )
    assert evaluate("cmd", "prompts.jsonl", "integrity", device="cpu").manifest["counts"]["missing"] == 1
    assert list((tmp_path / "runs").rglob("seen.txt"))


def test_an_empty_sound_file_is_no_silent_twin_of_the_video(cache: Path, tmp_path: Path) -> None:
    """Both clips consist of the same bytes; one of them lacks the sound it announces."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("mute", "broken"):
        write_clip(clips / f"{name}.mp4", Clip(bouncing().video))
    (clips / "broken.wav").write_bytes(b"")
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"id": n, "text": "x"}) for n in ("mute", "broken")))
    assert statuses(score(clips), "integrity") == {"mute": "ok", "broken": "failed"}
