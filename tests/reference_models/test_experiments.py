"""Experiments: what is trained, how effects are taken over seeds, and the words that follow from them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from avbench.errors import UserError
from avbench.evaluation import Spec
from avbench.progress import Silent
from avbench.reference_models.experiments.conduct import on_device, scored
from avbench.reference_models.experiments.effects import Effect, between, corrected, effect, over_seeds, verdict
from avbench.reference_models.experiments.plan import configuration, contrasts, jobs, load, merged
from avbench.reference_models.training.config import load_config

HEARING = load("hearing-helps-seeing")
PHYSICS = ("physics@clatter", "")


def simulated(shift: float, seeds: int = 3, prompts: int = 50, noise: float = 0.02) -> Effect:
    """An effect of b = a + shift, with noise of seeds and prompts."""
    rng = np.random.default_rng(2)
    names = [f"p{i}" for i in range(prompts)]
    a = {s: dict(zip(names, rng.normal(0.5, 0.1, prompts))) for s in range(seeds)}
    b = {s: {n: v + shift + rng.normal(0, noise) for n, v in a[s].items()} for s in range(seeds)}
    found = effect("joint training", PHYSICS, "av-tight", "higher", a, b)
    assert found is not None
    return found


def test_twins_differ_in_their_arm_alone() -> None:
    scale = HEARING.scales["cpu"]
    a, b = (configuration(HEARING, scale, HEARING.variant(name), 1).model_dump() for name in ("t2v", "t2av"))
    assert {key for key in a if a[key] != b[key]} == {"arm"}


def test_what_the_primary_question_needs_is_trained_first() -> None:
    found = jobs(HEARING, HEARING.scales["cpu"])
    assert [job.name for job in found[:2]] == ["t2v-s0", "t2av-s0"]
    assert len({job.name for job in found}) == len(found)
    roles = [job.variant.role in ("ablation", "system") for job in found]
    assert roles == sorted(roles)
    assert {job.seed for job in found if job.variant.name == "t2av"} == {0, 1, 2}


def test_every_scale_has_the_primary_contrast() -> None:
    for scale in HEARING.scales.values():
        assert HEARING.primary.contrast in [one.name for one in contrasts(HEARING, scale)]


def test_own_settings_over_the_scale_over_the_experiment() -> None:
    assert merged({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}, "b": 1}
    light = configuration(HEARING, HEARING.scales["cpu"], HEARING.variant("audio-weight-0.1"), 0)
    assert (light.loss.audio, light.loss.video, light.optimiser.ema) == (0.1, 1.0, HEARING.training["optimiser"]["ema"])


def test_the_check_is_the_beginning_of_the_twins_training() -> None:
    """Its schedule too: of another length, no loss would be equal."""
    found = {job.name: job for job in jobs(HEARING, HEARING.scales["cpu"])}
    check, twin = found["isolated-s0"], found["t2v-s0"]
    a, b = check.config.model_dump(), twin.config.model_dump()
    assert {key for key in a if a[key] != b[key]} == {"arm"}
    assert check.config.log_every < check.until < twin.until == twin.config.steps


def test_ablations_are_as_brief_as_what_they_are_held_against() -> None:
    steps = {job.variant.name: job.config.steps for job in jobs(HEARING, HEARING.scales["cpu"])}
    assert steps["t2av"] == steps["t2v"] == steps["shuffled-audio"] > steps["t2av-brief"]
    for one in contrasts(HEARING, HEARING.scales["cpu"]):
        assert steps[one.a] == steps[one.b], one.name


def test_an_unknown_side_of_a_contrast_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench.reference_models.experiments import plan

    text = (Path(plan.__file__).parent / "hearing-helps-seeing.toml").read_text().replace('b = "t2av"', 'b = "t3av"', 1)
    (tmp_path / "bad.toml").write_text(text)
    monkeypatch.setattr(plan, "__file__", str(tmp_path / "plan.py"))
    with pytest.raises(UserError, match="t3av"):
        load("bad")


def test_an_effect_is_students_over_seeds() -> None:
    from scipy import stats

    differences = [0.10, 0.14, 0.06, 0.12]
    found = over_seeds(differences)
    expected = stats.ttest_1samp(differences, 0.0)
    interval = expected.confidence_interval(0.95)
    assert found.p is not None and math.isclose(found.p, expected.pvalue, rel_tol=1e-9)
    assert np.allclose([found.low, found.high], [interval.low, interval.high])


def test_the_interval_over_seeds_covers_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        found = over_seeds(rng.normal(0.3, 1.0, 3))
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_one_seed_has_no_interval_over_seeds_and_no_answer() -> None:
    found = simulated(0.2, seeds=1)
    assert found.over.low is None and found.prompts is not None and found.prompts.low > 0
    assert verdict(found, None).startswith("No answer")


def test_only_prompts_that_both_sides_scored_count() -> None:
    a = {0: {"p": 1.0, "q": 5.0}, 1: {"p": 1.0}}
    b = {0: {"p": 2.0, "r": 9.0}, 1: {"p": 4.0}}
    found = effect("x", PHYSICS, "", "higher", a, b)
    assert found is not None and found.seeds == (1.0, 3.0) and found.n == 1
    assert effect("x", PHYSICS, "", "higher", {0: {"p": 1.0}}, {1: {"p": 1.0}}) is None


def test_a_set_metric_has_seeds_and_no_prompts() -> None:
    found = effect("x", ("fvd@clatter", ""), "", "lower", {0: {"": 3.0}, 1: {"": 5.0}}, {0: {"": 2.0}, 1: {"": 4.5}})
    assert found is not None and found.prompts is None and found.gain > 0 and found.seeds == (-1.0, -0.5)


@pytest.mark.parametrize(
    ("shift", "information", "said"),
    [
        (0.2, 0.2, "Hearing helped"),
        (-0.2, 0.2, "Hearing hurt"),
        (0.2, 0.0, "is not shown"),
        (0.0, 0.0, "No difference"),
    ],
)
def test_words_follow_the_intervals(shift: float, information: float, said: str) -> None:
    assert said in verdict(simulated(shift), simulated(information))


def test_a_lower_is_better_metric_turns_the_words() -> None:
    from dataclasses import replace

    assert "hurt" in verdict(replace(simulated(0.2), better="lower"), None)


def test_tight_beyond_loose_is_seed_by_seed() -> None:
    tight, loose = simulated(0.2), simulated(0.05)
    found = between(tight, loose)
    assert math.isclose(found.difference, tight.difference - loose.difference)
    assert found.over.low is not None and found.over.low < found.difference


def test_holm_covers_the_secondary_contrasts_of_the_primary_metric() -> None:
    from dataclasses import replace

    primary = simulated(0.2)
    second, third = (replace(simulated(0.0), contrast=name) for name in ("a", "b"))
    other = replace(simulated(0.0), metric="av_align")
    found = corrected([primary, second, third, other], primary)
    assert found[0].holm is None and found[3].holm is None
    assert second.over.p is not None and found[1].holm is not None and found[1].holm >= second.over.p


def test_a_training_can_be_told_by_a_checkpoints_configuration(tmp_path: Path) -> None:
    from avbench.reference_models.training.checkpoint import write_config

    config = jobs(HEARING, HEARING.scales["smoke"])[0].config
    write_config(tmp_path, config)
    assert load_config(tmp_path / "config.json") == config
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="no configuration"):
        load_config(tmp_path / "other.json")


UNRELIABLE = """
import os
from tests.conftest import bouncing

class Unreliable:
    def generate(self, requests):
        for request in requests:
            with open("calls", "a") as file:
                file.write(request.sample.id + "\\n")
            if request.sample.index < int(os.environ["BROKEN"]):
                raise RuntimeError("CUDA out of memory")
            yield bouncing(request.seed)
"""


def test_a_run_that_lost_too_much_is_performed_once_more_and_never_taken(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unreliable.py").write_text(UNRELIABLE)
    (tmp_path / "avbench.toml").write_text('[models.ours]\nkind = "python"\nentry = "unreliable:Unreliable"\n')
    rows = [json.dumps({"id": f"s{i}", "text": "a ball drops"}) for i in range(4)]
    (tmp_path / "four.jsonl").write_text("\n".join(rows))
    spec = Spec("ours", "four.jsonl", ("integrity",), out=tmp_path / "runs", allow_failed="25%")
    calls = tmp_path / "calls"
    monkeypatch.setenv("BROKEN", "2")
    why = r"ours: 2 failed and 0 missing of 4 samples, 1 allowed \(25%\); s0: generate\.error: .*memory\n.*repeat"
    with pytest.raises(UserError, match=why):
        scored(spec, Silent())
    assert calls.read_text().split() == ["s0", "s1", "s2", "s3", "s0", "s1"]
    with pytest.raises(UserError, match="2 failed and 0 missing of 4"):
        scored(spec, Silent())
    monkeypatch.setenv("BROKEN", "1")
    run = scored(spec, Silent())
    assert run.manifest["counts"]["ok"] == 3
    before = calls.read_text()
    assert scored(spec, Silent()).folder == run.folder and calls.read_text() == before


def test_a_training_is_given_the_chosen_device() -> None:
    assert (
        on_device("cuda:1", {}) == on_device("cuda:0", {"CUDA_VISIBLE_DEVICES": "1"}) == {"CUDA_VISIBLE_DEVICES": "1"}
    )
    assert on_device("cuda:1", {"CUDA_VISIBLE_DEVICES": "3, GPU-ab"}) == {"CUDA_VISIBLE_DEVICES": "GPU-ab"}
    assert on_device("cpu", {})["OMP_NUM_THREADS"] == "1"


@pytest.mark.heavy
def test_an_experiment_from_nothing_to_its_page(cache: Path, tmp_path: Path) -> None:
    """Trainings in processes of their own, clips, scores, the check of the isolated twin, the page; nothing twice."""
    from avbench.progress import Silent
    from avbench.reference_models.experiments import conduct as module

    table = HEARING.model_dump()
    table |= {"metrics": ("physics@clatter",), "seen": ("physics@clatter",), "heard": (), "baselines": ("reference",)}
    table["scales"]["smoke"] |= {
        "limit": 4, "variants": ("t2v", "t2av", "isolated"),
        "training": {
            "steps": 2, "batch": 4, "log_every": 1, "validate_every": 2, "save_every": 2,
            "data": {"clips": 8, "valid": 4}, "optimiser": {"warmup": 1},
        },
    }  # fmt: skip
    small = type(HEARING)(**table)
    said = module.conduct(small, "smoke", tmp_path / "out", "cpu", Silent())
    folder = tmp_path / "out" / "hearing-helps-seeing" / "smoke"
    page = (folder / "report.html").read_text()
    assert said.startswith("No answer") and "T2AV" in page and "to the last bit" in page and 'src="http' not in page
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert len(weights) == 2 * 3  # checkpoint and state of three trainings
    runs = sorted(folder.rglob("run.json"))
    module.conduct(small, "smoke", tmp_path / "out", "cpu", Silent())
    assert weights == {path: path.stat().st_mtime_ns for path in weights} and runs == sorted(folder.rglob("run.json"))
    losses = folder / "training" / "isolated-s0" / "loss.jsonl"
    losses.write_text(losses.read_text().replace('"video": 2', '"video": 3').replace('"video": 1', '"video": 3'))
    assert module.isolated_equals(folder / "training") is False
