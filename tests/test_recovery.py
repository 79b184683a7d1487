"""What an interrupted, crowded or damaged machine may do to a run: cost time, never a row or a byte."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avbench.evaluation as evaluation
import avbench.execute as execute
import avbench.store as store_module
from avbench.cluster import Worker, split
from avbench.errors import SampleError, UserError
from avbench.evaluation import evaluate
from avbench.execute import Counts
from avbench.features import Feature
from avbench.metric import sample_metric, set_metric
from avbench.plan import Plan, Subject
from avbench.progress import Silent
from avbench.registry import metrics
from avbench.run import Run, open_run, read_journal, runs_in, stopped, update
from avbench.store import FeatureLost, Store
from tests import nets
from tests.test_execute import ASKED, FRAMES, WORDS

Folder = Callable[[int], Path]
NAMES = "test_both,test_asked,test_spread"


@sample_metric("test_both", version=1, better="higher", source="here")
class Both:
    """Of the clip and of its caption."""

    frames, words = FRAMES, WORDS

    def score(self, frames: np.ndarray, words: np.ndarray) -> float:
        return float(frames.mean() + words.mean())


@sample_metric("test_asked", version=1, better="higher", source="here")
class IsAsked:
    """Of a feature that is cut from another and from the caption."""

    asked = ASKED

    def score(self, asked: np.ndarray) -> float:
        return float(asked.mean())


@set_metric("test_spread", version=1, better="none", source="here", reference=False)
class Spread:
    """Of all clips together."""

    frames = FRAMES

    def reduce(self, generated: Any, reference: Any) -> float:
        return float(np.std([one.mean() for one in generated.frames]))


@pytest.fixture
def clips(cache: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six clips of one caption; the last has the bytes of the first and a caption of its own."""
    for one in (Both, IsAsked, Spread):
        monkeypatch.setitem(metrics._builtin, one.card.id, one)  # type: ignore[attr-defined]
    found = folder(6)
    (found / "s5.mp4").write_bytes((found / "s0.mp4").read_bytes())
    captions = ["a dog barks"] * 5 + ["a dog that does not bark"]
    rows = [{"id": f"s{index}", "text": text} for index, text in enumerate(captions)]
    (found.parent / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return found


def score(clips: Path, names: str = NAMES, **options: Any) -> Run:
    return evaluate(str(clips), str(clips.parent / "prompts.jsonl"), names, device="cpu", **options)


@pytest.fixture
def whole(clips: Path, tmp_path: Path) -> dict[str, bytes]:
    """The tables of a run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVBENCH_CACHE", str(tmp_path / "undisturbed"))
        return tables(score(clips, out=tmp_path / "undisturbed"))


def tables(run: Run) -> dict[str, bytes]:
    assert run.manifest["status"] == "complete", run.records("scores")
    return {name: (run.folder / f"{name}.parquet").read_bytes() for name in ("scores", "sets", "samples")}


def test_a_stop_between_two_networks_costs_no_row(
    clips: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first clip the frames are kept, not the caption, which it owes to all: it comes last in the resume."""
    monkeypatch.setattr(execute, "CHUNK_CLIPS", 1)

    def stop(context: Any) -> Any:
        def encode(texts: Any) -> Any:
            raise KeyboardInterrupt

        return encode

    with monkeypatch.context() as patch:
        patch.setattr(nets, "words", stop)
        with pytest.raises(KeyboardInterrupt):
            score(clips)
    run = score(clips)
    assert len(list(Path("runs").glob("*/*/*"))) == 1 and tables(run) == whole
    assert run.manifest["work"]["decodes"] == 4


def test_features_of_an_earlier_run_cost_no_row(clips: Path, whole: dict[str, bytes]) -> None:
    """The first clips lack only the caption, which is computed last."""
    score(clips, "test_spread", limit=2)
    assert tables(score(clips)) == whole


class Parts:
    """Stands in for `Cluster`: parts of one clip each, done in the opposite order, by workers without a machine."""

    def __init__(self, plan: Plan, settings: Any) -> None:
        self.plan, self.settings, self.counts = plan, settings, Counts()

    def execute(self) -> Iterator[tuple[Subject, Mapping[Feature, SampleError | None]]]:
        worker = Worker(self.settings, torch.get_num_threads())
        for todo in self.plan.rounds:
            for part in reversed(split(todo, 64)):
                errors, counts = worker.run(replace(self.plan, metrics=[], subjects=[]), part)
                self.counts.add(counts)
                for (one, lacking), found in zip(part, errors):
                    yield one, {feature: found.get(feature) for feature in lacking}


def test_parts_may_be_done_in_any_order(clips: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "workforce", Parts)
    run = score(clips)
    assert tables(run) == whole
    assert run.manifest["work"]["decodes"] == 5 and run.manifest["work"]["items"]["test.words"] == 2


def test_rounds_follow_what_is_cut_from_what(clips: Path) -> None:
    """Each feature once, by the first that needs it; what is cut from another subject's feature comes after it."""
    job = evaluation.resolve_spec(evaluation.Spec(str(clips), str(clips.parent / "prompts.jsonl"), ("test_asked",)))
    files = job.model.locate(job.suite)  # type: ignore[misc]
    subjects = evaluation.subjects("generated", job.suite.samples, files)
    plan = Plan(job.metrics, subjects, job.store, {}, "fp32", "1")
    named = [{one.sample.id: features for one, features in todo} for todo in plan.rounds]
    assert named == [{f"s{i}": [FRAMES, ASKED] for i in range(5)}, {"s5": [ASKED]}]
    assert len(plan.todo) == 6 and plan.summary["decodes"] == 5


def test_a_resume_does_not_keep_what_failed(
    clips: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory ran out under the first clips; the same command later has room, and no trace of it is left."""

    class Stop(Silent):
        seen = 0

        def step(self, name: str, problem: str = "") -> None:
            self.seen += 1
            if self.seen == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nets, "LIMIT", -1)
        with pytest.raises(KeyboardInterrupt):
            score(clips, progress=Stop())
    (journal,) = Path("runs").rglob("journal.jsonl")
    assert any(row["status"] == "failed" for record in read_journal(journal) for row in record["rows"])
    assert tables(score(clips)) == whole


@pytest.mark.parametrize("url", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_feature_is_computed_again(
    clips: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: bool, share: float
) -> None:
    place = tmp_path / "store"
    monkeypatch.setenv("AVBENCH_STORE", place.as_uri() if url else str(place))
    score(clips)
    for path in list(place.rglob("*.safetensors"))[::2]:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
    assert tables(score(clips)) == whole and tables(score(clips)) == whole


@pytest.mark.parametrize("names", ["test_both", "test_spread"])
def test_a_feature_that_vanishes_ends_the_run_and_makes_no_row(
    clips: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    """Somebody cleans the store while a run uses it."""
    monkeypatch.setattr(store_module, "PAUSES", (0.0, 0.0))
    expected = tables(score(clips, names))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Evaluation, "settle", emptied(evaluation.Evaluation.settle))
        with pytest.raises(FeatureLost, match="repeat the command"):
            score(clips, names)
    runs = [Run(path.parent) for path in Path("runs").rglob("run.json")]
    (run,) = (run for run in runs if run.manifest["status"] == "failed")
    assert run.manifest["error"].startswith("FeatureLost") and not list(read_journal(run.journal))
    again = score(clips, names)
    assert again.folder == run.folder and tables(again) == expected


def emptied(settle: Callable[..., None]) -> Callable[..., None]:
    """`settle` after somebody emptied the store."""

    def settle_late(*arguments: Any) -> None:
        for path in Path("cache").rglob("*.safetensors"):
            path.unlink()
        settle(*arguments)

    return settle_late


def test_a_store_that_denies_a_feature_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS may say "no such file" of what another node has just written."""
    monkeypatch.setattr(store_module, "PAUSES", (0.0, 0.05))
    store = Store(tmp_path)
    timer = threading.Timer(0.02, store.put, ("aa1", np.ones(2, np.float32), {}))
    timer.start()
    assert (store.get("aa1") == 1).all()
    with pytest.raises(FeatureLost, match="cannot be read now"):
        store.get("aa2")


def test_a_run_under_way_is_not_taken_over(clips: Path) -> None:
    """The same command twice: the second says who is at work; --fresh has a folder of its own."""
    said = []

    class Twice(Silent):
        def step(self, name: str, problem: str = "") -> None:
            if not said:
                with pytest.raises(UserError, match="under way in another process") as error:
                    score(clips)
                said.append(str(error.value))
                assert score(clips, fresh=True).manifest["status"] == "complete"

    first = score(clips, progress=Twice())
    assert str(first.folder) in said[0] and first.manifest["status"] == "complete"


def test_a_finished_run_is_never_marked_as_stopped(tmp_path: Path) -> None:
    """Where folders cannot be held, two machines may share one: the first to finish has the last word."""
    manifest = {"suite": {"name": "s"}, "model": {"name": "m"}, "digest": "d" * 64}
    with open_run(tmp_path, manifest) as (run, resumed):
        assert not resumed
        update(Run(run.folder), status="complete", counts={})
        stopped(run, status="interrupted")
    assert Run(run.folder).manifest["status"] == "complete" and "ended" not in Run(run.folder).manifest
    with open_run(tmp_path, manifest) as (run, resumed):
        stopped(run, status="interrupted")
    assert not resumed and Run(run.folder).manifest["status"] == "interrupted"


def test_generation_and_scoring_say_how_fp32_is_computed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the generator is asked, whatever torch would do by itself."""
    (tmp_path / "exact.py").write_text(
        "import torch\nfrom tests.conftest import bouncing\n"
        "class Exact:\n"
        "    def generate(self, requests):\n"
        "        assert not torch.backends.cudnn.allow_tf32\n"
        "        yield from (bouncing(request.seed) for request in requests)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "avbench.toml").write_text('[models.exact]\nkind = "python"\nentry = "exact:Exact"\n')
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "p0", "text": "x"}))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    clips, problems = evaluation.generate("exact", "prompts.jsonl", tmp_path / "o", None, 0, Silent(), "cuda:0")
    assert set(clips) == {"p0"} and not problems


def test_runs_that_begin_in_one_second_are_in_order(tmp_path: Path) -> None:
    for digest in ("b" * 16, "a" * 16, "c" * 16):
        with open_run(tmp_path, {"suite": {"name": "s"}, "model": {"name": "m"}, "digest": digest}) as (run, _):
            update(run, status="complete")
    assert [run.manifest["digest"][0] for run in runs_in(tmp_path)] == ["b", "a", "c"]
