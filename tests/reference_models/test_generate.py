"""Sampling: every system learns a little of clatter and makes clips that `avbench eval` scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench import evaluate
from avbench.clip import Clip, Video
from avbench.errors import MissingResource, SampleError, UserError
from avbench.evaluation import generate
from avbench.generator import Made, Request, generate_clips, load_model, seed_of, write_all
from avbench.media import decode
from avbench.progress import Silent
from avbench.reference_models.catalogue import SYSTEMS, names, presets
from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.sampling import SamplerSpec, sample
from avbench.reference_models.generate import Checkpoint
from avbench.reference_models.training.checkpoint import read_tensors
from avbench.reference_models.training.config import parse_config
from avbench.reference_models.training.curves import read_log
from avbench.reference_models.training.sampler import Sampler, cut, sampler_spec
from avbench.reference_models.training.trainer import Trainer
from avbench.suite import Sample, Suite, load_suite
from tests.conftest import bouncing

STEPS = 24
QUICK = {"steps": 3}
NANO = [name for name in SYSTEMS if "nano" in presets(name)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(folder: Path, model: str, **over: Any) -> Path:
    """A short training on 24 clips."""
    table = {
        "steps": STEPS, "batch": 4, "log_every": 1, "validate_every": STEPS, "save_every": STEPS, "sampler": QUICK,
        "optimiser": {"warmup": 4, "lr": 2e-3, "ema": 0.8}, "data": {"clips": 24, "valid": 8}, **over,
    }  # fmt: skip
    return Trainer(parse_config({"model": model, **table}, "test"), folder, "cpu").run()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joint model that has hardly learned."""
    return train(tmp_path_factory.mktemp("ckpt") / "joint", "avfulldit-nano", steps=2)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return load_suite("clatter-mini")


def requests(suite: Suite, count: int) -> list[Request]:
    def real(id: str) -> Clip:
        assert suite.render is not None
        return suite.render(next(s for s in suite.samples if s.id == id))

    return [Request(s, suite, seed_of(0, s), real, "cpu") for s in suite.samples[:count]]


def clips_of(made: Iterator[Made]) -> list[Clip]:
    """All of them are clips."""
    found = list(made)
    clips = [one for one in found if isinstance(one, Clip)]
    assert len(clips) == len(found), found
    return clips


@pytest.mark.parametrize("system", NANO)
def test_every_system_learns_and_is_scored(system: str, tmp_path: Path) -> None:
    folder = train(tmp_path / system, f"{system}-nano")
    rows = read_log(folder / "loss.jsonl")
    held = [row["valid_audio"] for row in rows if "valid_audio" in row]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert held[-1] < 0.9 * held[0] and np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6]), (held, losses)
    run = evaluate(str(folder), "clatter-mini", ["integrity"], device="cpu", limit=1, out=tmp_path / "runs")
    assert run.manifest["counts"]["ok"] == 1 and run.manifest["model"]["config"]["kind"] == "checkpoint"
    score = run.scores[(run.scores.metric == "integrity") & (run.scores.field == "")]
    assert list(score.status) == ["ok"], score
    clip = decode(next((tmp_path / "runs").rglob("*.mp4")))
    assert clip.need_video().frames.shape[1:] == (128, 128, 3) and clip.need_audio().seconds >= 2.0


@pytest.mark.heavy
@pytest.mark.parametrize("name", [str(n) for n in names().values() if n.size == "nano" and (n.ablation or n.t2v)])
def test_every_ablation_learns(name: str, tmp_path: Path, suite: Suite) -> None:
    folder = train(tmp_path / name, name, steps=12, sampler={"steps": 1})
    held = [row for row in read_log(folder / "loss.jsonl") if any(key.startswith("valid_") for key in row)]
    total = [sum(row.get(f"valid_{part}", 0.0) for part in ("video", "audio")) for row in held]
    assert total[-1] < 0.97 * total[0], held
    (clip,) = clips_of(Checkpoint(folder, batch=1).generate(requests(suite, 1)))
    assert clip.video is not None and np.ptp(clip.video.frames) > 0


def test_generation_resumes_by_sample(checkpoint: Path, tmp_path: Path) -> None:
    whole, _ = generate(str(checkpoint), "clatter-mini", tmp_path / "whole", 3, 0, Silent(), "cpu")
    generate(str(checkpoint), "clatter-mini", tmp_path / "parts", 1, 0, Silent(), "cpu")
    kept = (tmp_path / "parts" / "test-00000-bounce.mp4").stat().st_mtime_ns
    parts, problems = generate(str(checkpoint), "clatter-mini", tmp_path / "parts", 3, 0, Silent(), "cpu")
    assert not problems and len(parts) == 3
    assert (tmp_path / "parts" / "test-00000-bounce.mp4").stat().st_mtime_ns == kept
    for id, file in whole.items():
        assert file.main.read_bytes() == parts[id].main.read_bytes(), id
    other, _ = generate(str(checkpoint), "clatter-mini", tmp_path / "seed", 1, 1, Silent(), "cpu")
    assert other["test-00000-bounce"].main.read_bytes() != whole["test-00000-bounce"].main.read_bytes()


def test_twins_share_their_noise(tmp_path: Path, suite: Suite) -> None:
    clips = {}
    for arm in ("t2v", "isolated", "t2av"):
        folder = train(tmp_path / arm, "avfulldit-nano", arm=arm, steps=2)
        clips[arm] = clips_of(Checkpoint(folder).generate(requests(suite, 2)))
    for alone, isolated, joint in zip(*clips.values()):
        assert alone.audio is None and isolated.audio is not None and joint.audio is not None
        assert np.array_equal(alone.need_video().frames, isolated.need_video().frames)
        assert not np.array_equal(alone.need_video().frames, joint.need_video().frames)
    weights, _ = read_tensors(tmp_path / "t2v" / "model.safetensors")
    assert all(name.startswith("video.") for name in weights)


def test_what_a_checkpoint_is(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(checkpoint, tmp_path / "elsewhere")
    assert load_model(str(copy)).digest == load_model(str(checkpoint)).digest
    (tmp_path / "avbench.toml").write_text(
        f'[models.quick]\nkind = "checkpoint"\npath = "{copy}"\nsampler = {{steps = 1, s_v = 1, s_a = 1}}\nbatch = 2\n'
        '[models.none]\nkind = "checkpoint"\npath = "nowhere"\n'
    )
    quick = load_model("quick")
    assert quick.digest != load_model(str(copy)).digest and quick.make is not None
    made = quick.make()
    assert isinstance(made, Checkpoint) and made.batch == 2 and made.sampler.spec == SamplerSpec(1, 1.0, 1, 1)
    with pytest.raises(UserError, match="is no checkpoint folder"):
        load_model("none")
    with pytest.raises(UserError, match="sampler: unknown stepz"):
        Sampler(copy, {"stepz": 3}, "cpu")
    (copy / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"damaged|not readable"):
        Sampler(copy, {}, "cpu")


def test_a_name_without_weights_says_how_to_get_them(suite: Suite, tmp_path: Path) -> None:
    made = load_model("avfulldit-paper")
    with pytest.raises(MissingResource, match="avbench train"):
        generate_clips(made, suite.limit(1), tmp_path, lambda id: Clip())


def test_only_the_size_changes_sampling_defaults() -> None:
    paper, nano = (sampler_spec(parse_config({"model": f"avfulldit-{size}"}, "x"), {}) for size in ("paper", "nano"))
    assert (paper.steps, paper.shift, paper.s_v, paper.s_a) == (50, 5.0, 5.0, 4.5) and nano.steps == 25
    assert {"avfulldit-nano", "avfulldit-t2v-tiny"} <= set(names())


def test_the_loop_follows_the_field_to_its_data() -> None:
    target = JointPrediction(torch.full((2, 1, 1, 2, 2), 3.0), torch.full((2, 4, 1), -1.0))

    def perfect(
        x_v: Tensor | None, x_a: Tensor | None, t_v: Tensor | None, t_a: Tensor | None, cond: Conditions
    ) -> JointPrediction:
        """eps - x0 at every point of a straight path to the target."""
        assert x_v is not None and x_a is not None and t_v is not None
        t = t_v[0]
        return JointPrediction((x_v - 3.0) / t, (x_a + 1.0) / t)

    spec = SamplerSpec(4, 3.0, 1.0, 1.0)
    noise = torch.randn(2, 1, 1, 2, 2), torch.randn(2, 4, 1)
    out = sample(perfect, Conditions(), Conditions(), spec, *noise)
    assert out.video is not None and out.audio is not None and target.video is not None and target.audio is not None
    torch.testing.assert_close(out.video, target.video)
    torch.testing.assert_close(out.audio, target.audio)


def test_a_model_that_only_makes_sound(tmp_path: Path, suite: Suite) -> None:
    """It keeps the video; one that is missing or too short is its own sample's failure and touches no other."""
    folder = train(tmp_path / "v2a", "visiosonic-nano", steps=2)
    asked = requests(suite, 4)
    real: Video = asked[0].reference(asked[0].sample.id).need_video()
    whole = clips_of(Checkpoint(folder, batch=4).generate(asked))
    assert np.array_equal(whole[0].need_video().frames, real.frames[:48]) and whole[0].need_audio().seconds == 2.0

    def some(id: str) -> Clip:
        if id == asked[1].sample.id:
            raise SampleError("reference.missing", id)
        clip = asked[0].reference(id)
        return replace(clip, video=cut(clip.need_video(), 0.5)) if id == asked[2].sample.id else clip

    made = list(Checkpoint(folder, batch=4).generate([replace(one, reference=some) for one in asked]))
    assert [one.code for one in made if isinstance(one, SampleError)] == ["reference.missing", "codec.short"]
    for i in (0, 3):
        one = made[i]
        assert isinstance(one, Clip) and np.array_equal(one.need_audio().samples, whole[i].need_audio().samples)


class Fake:
    """A sampler whose memory holds `most` clips at once, and which counts its batches."""

    watches = True

    def __init__(self, most: int = 99) -> None:
        self.most, self.batches = most, list[int]()

    def watch(self, video: Video) -> Video:
        return video

    def clips(self, rows: Any, seeds: list[int], watched: Any) -> list[Clip]:
        self.batches.append(len(rows))
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [bouncing(seed) for seed in seeds]


def faked(sampler: Fake, batch: int) -> Checkpoint:
    made = Checkpoint(Path("nowhere"), batch=batch)
    made.__dict__["sampler"] = sampler
    return made


def asked_of(count: int, bad: tuple[int, ...] = ()) -> list[Request]:
    def real(id: str) -> Clip:
        if int(id) in bad:
            raise SampleError("reference.missing", f"no real clip of {id}")
        return bouncing(int(id))

    suite = Suite("some", "1", tuple(Sample(str(i), i, "a ball drops") for i in range(count)))
    return [Request(sample, suite, sample.index, real, "cpu") for sample in suite.samples]


def test_an_error_stands_in_its_own_place_and_no_batch_is_made_twice(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    sampler = Fake()
    write_all(
        faked(sampler, 4), asked_of(10, bad=(0, 5, 9)), tmp_path,
        lambda id, error: told.update({id: str(error or "")}),
    )  # fmt: skip
    assert {id: error for id, error in told.items() if error} == {
        id: f"reference.missing: no real clip of {id}" for id in ("0", "5", "9")
    }
    assert len(told) == 10 and len(list(tmp_path.glob("*.mp4"))) == 7 and sampler.batches == [4, 4, 4]


def test_a_batch_too_large_for_the_memory_is_halved_and_stays_so() -> None:
    sampler = Fake(most=3)
    made = clips_of(faked(sampler, 8).generate(asked_of(12)))
    assert sampler.batches == [8, 4, *[2] * 6]
    for i, clip in enumerate(made):
        assert np.array_equal(clip.need_audio().samples, bouncing(i).need_audio().samples)
    told: dict[str, str] = {}
    sampler = Fake(most=0)
    write_all(faked(sampler, 4), asked_of(3), Path("nowhere"), lambda id, error: told.update({id: str(error)}))
    assert sampler.batches == [4, 2, 1, 1, 1] and all("out of memory" in error for error in told.values())
