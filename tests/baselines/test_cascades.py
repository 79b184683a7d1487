"""Cascades: of built-in generators, of commands, and of diffusers' own pipelines with tiny random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avbench.baselines.cascades import Cascade
from avbench.baselines.pipelines import KINDS, Pipeline
from avbench.clip import Audio, Clip
from avbench.errors import MissingResource, NotApplicable, SampleError, UserError
from avbench.generator import Request, generate_clips, load_model
from avbench.suite import Sample, Suite, load_suite
from tests.baselines import tiny_pipelines
from tests.conftest import bouncing

SUITE = Suite("two", "1", tuple(Sample(f"s{i}", i, "a ball drops", audio_text="drops") for i in range(4)))
REAL = {"video": {"model": "reference"}, "audio": {"model": "reference"}}


def requests(suite: Suite = SUITE, reference: Any = None) -> list[Request]:
    clips = {sample.id: bouncing(sample.index) for sample in suite.samples}
    return [Request(sample, suite, 7 + sample.index, reference or clips.__getitem__) for sample in suite.samples]


def test_parallel_parts_do_not_meet() -> None:
    made = list(Cascade("t-v|t-a", video={"model": "frozen"}, audio={"model": "audio-shuffled"}).generate(requests()))
    real = [bouncing(i) for i in range(4)]
    for i, clip in enumerate(made):
        frames = clip.need_video().frames
        assert np.array_equal(frames[0], real[i].need_video().frames[0]) and np.array_equal(frames[0], frames[-1])
        assert np.array_equal(clip.need_audio().samples, real[(i + 2) % 4].need_audio().samples)


@pytest.mark.parametrize("order, first, second", [("t-v-a", "video", "audio"), ("t-a-v", "audio", "video")])
def test_the_second_part_is_given_the_first(order: str, first: str, second: str, monkeypatch: Any) -> None:
    """It sees the first part's stream, not the real clip, and nothing of the stream that it makes."""
    seen: list[Clip] = []

    class Looking:
        def generate(self, asked: list[Request]) -> Any:
            for request in asked:
                seen.append(request.reference(request.sample.id))
                yield bouncing(9)

    changed = {"video": "noisy-video", "audio": "noisy-audio"}[first]
    from avbench.baselines import cascades
    from avbench.generator import Model

    known = cascades.load_model
    looking = Model("looking", {}, make=Looking)
    monkeypatch.setattr(cascades, "load_model", lambda name: looking if name == "looking" else known(name))
    parts: dict[str, Any] = {first: {"model": changed}, second: {"model": "looking"}}
    (made,) = Cascade(order, **parts).generate(requests()[:1])
    real = bouncing(0)
    (given,) = seen
    assert getattr(given, second) is None
    if first == "video":
        assert not np.array_equal(given.need_video().frames, real.need_video().frames)
        assert np.array_equal(made.need_video().frames, given.need_video().frames)
        assert np.array_equal(made.need_audio().samples, bouncing(9).need_audio().samples)
    else:
        assert not np.array_equal(given.need_audio().samples, real.need_audio().samples)
        assert np.array_equal(made.need_video().frames, bouncing(9).need_video().frames)


@pytest.mark.parametrize("chunk", [1, 3])
def test_one_failure_is_one_samples(chunk: int, tmp_path: Path) -> None:
    def reference(sample: str) -> Clip:
        asked.append(sample)
        if sample == "s1":
            raise SampleError("decode.broken", "as it happens")
        return bouncing(0)

    from avbench.generator import Model

    told: dict[str, str] = {}
    asked: list[str] = []
    model = Model("cascade", {}, make=lambda: Cascade("t-v|t-a", chunk=chunk, **REAL))
    files = generate_clips(
        model, SUITE, tmp_path, reference, report=lambda s, error: told.update({s: error.code if error else ""})
    )
    assert told == {"s0": "", "s1": "decode.broken", "s2": "", "s3": ""} and set(files) == {"s0", "s2", "s3"}
    assert sorted(asked) == ["s0", "s0", "s1", "s2", "s2", "s3", "s3"]  # each part works once for a sample


def test_a_part_without_its_stream() -> None:
    cascade = Cascade("t-v|t-a", video={"model": "reference"}, audio={"model": "silent-video-only"})
    assert [one.code for one in cascade.generate(requests()) if isinstance(one, SampleError)] == ["cascade.part"] * 4


COMMAND = """
import json, shutil, sys
from pathlib import Path
from avbench.clip import Clip
from avbench.encode import write_clip
from avbench.media import decode
rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
for row in rows:
    given = decode(Path(row["given"]))
    assert given.audio is None and row["audio_text"] == "drops" and row["seed"] == 7 + row["index"]
    if row["id"] != "s2":
        from tests.conftest import bouncing
        write_clip(Path(sys.argv[2]) / (row["id"] + ".mp4"), Clip(given.video, bouncing(row["index"]).audio))
"""


def test_a_command_as_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Video in one environment, sound for it in another, which gets the videos as files."""
    script = tmp_path / "sound.py"
    script.write_text(COMMAND)
    run = f"{sys.executable} {script} {{prompts}} {{out}}"
    (tmp_path / "avbench.toml").write_text(f'[models.sound]\nkind = "command"\nrun = "{run}"\n')
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    cascade = Cascade("t-v-a", video={"model": "frozen"}, audio={"model": "sound"}, chunk=4)
    made = cascade.together(requests())
    assert isinstance(made[2], SampleError) and made[2].code == "generate.none"
    for i in (0, 1, 3):
        one = made[i]
        assert isinstance(one, Clip)
        want = bouncing(i).need_audio()
        found = one.need_audio()
        heard = np.corrcoef(found.mono[: len(want.mono)][:4000], want.mono[:4000])[0, 1]
        assert heard > 0.9 and np.array_equal(one.need_video().frames[0], bouncing(i).need_video().frames[0])


def test_a_clip_that_cannot_be_given_to_a_command_is_its_own_samples_failure(tmp_path: Path) -> None:
    """Sound with NaN cannot be written for the second part; the other samples go through both."""

    def spoilt(sample: str) -> Clip:
        clip = bouncing(0)
        return Clip(clip.video, Audio(clip.need_audio().samples * np.nan, 8000)) if sample == "s1" else clip

    from avbench.baselines.cascades import by_command
    from avbench.encode import write_clip
    from avbench.generator import Model

    def run(prompts: Path, out: Path) -> None:
        for line in prompts.read_text().splitlines():
            write_clip(out / f"{json.loads(line)['id']}.mp4", bouncing(0))

    made = by_command(Model("second", {}, run=run), True, requests(reference=spoilt))
    assert [getattr(one, "code", "") for one in made] == ["", "encode.bad_samples", "", ""]


def test_cascade_on_clatter(tmp_path: Path) -> None:
    """As declared in avbench.toml, over a procedural suite, into files."""
    config = tmp_path / "avbench.toml"
    config.write_text(
        '[models.apart]\nkind = "python"\nentry = "avbench.baselines.cascades:Cascade"\n[models.apart.args]\n'
        'order = "t-v|t-a"\nvideo = { model = "reference" }\naudio = { model = "audio-shuffled" }\n'
    )
    suite = load_suite("clatter-mini").limit(2)
    render = suite.render
    assert render is not None
    by_id = {sample.id: sample for sample in suite.samples}
    files = generate_clips(load_model("apart", config), suite, tmp_path / "out", lambda name: render(by_id[name]))
    assert set(files) == set(by_id)


def test_mistakes_are_named() -> None:
    for wrong, message in (
        ({"order": "a-v-t"}, "use one of"),
        ({"order": "t-v-a", "chunk": 0}, "chunk"),
    ):
        with pytest.raises(UserError, match=message):
            Cascade(**{**REAL, **wrong})
    both = Cascade("t-v-a", video={"model": "reference", "kind": "wan"}, audio={"model": "reference"})
    with pytest.raises(UserError, match="not both"):
        list(both.generate(requests()))
    with pytest.raises(UserError, match="use one of"):
        Pipeline("sora")


def test_pipelines_of_diffusers(tmp_path: Path) -> None:
    """from_pretrained, the pipelines' own calls, and what comes out: a sounding clip, decided by its seed."""
    video = {
        "kind": "wan", "repo": str(tiny_pipelines.wan(tmp_path / "wan")), "device": "cpu",
        "options": {"height": 16, "width": 32, "num_frames": 9, "num_inference_steps": 2, "guidance_scale": 2.0},
    }  # fmt: skip
    audio = {
        "kind": "stable-audio", "repo": str(tiny_pipelines.stable_audio(tmp_path / "sao")), "device": "cpu",
        "seconds": 1.0, "options": {"num_inference_steps": 2},
    }  # fmt: skip
    cascade = Cascade("t-v|t-a", video=video, audio=audio)
    one, other = cascade.generate(requests()[:2])
    again, _ = cascade.generate(requests()[:2])
    frames, sound = one.need_video(), one.need_audio()
    assert frames.frames.shape == (9, 16, 32, 3) and frames.fps == 16
    assert sound.rate == 4000 and sound.samples.shape == (2, 2250)  # one second, cut to the video's 9 / 16
    assert np.array_equal(frames.frames, again.need_video().frames)
    assert np.array_equal(sound.samples, again.need_audio().samples)
    assert not np.array_equal(sound.samples, other.need_audio().samples)


def test_audioldm2(tmp_path: Path) -> None:
    """The other source of sound; it is asked with the audio caption and for a length."""
    options = {"num_inference_steps": 2, "max_new_tokens": 8}
    repo = str(tiny_pipelines.audioldm2(tmp_path / "audioldm2"))
    part = Pipeline("audioldm2", repo=repo, device="cpu", seconds=0.032, options=options)
    (one,) = part.generate(requests()[:1])
    assert one.video is None and one.need_audio().samples.shape == (1, 512) and one.need_audio().rate == 16000


def test_ltx_2_makes_both(tmp_path: Path) -> None:
    """A joint model of diffusers as a generator."""
    scales = ("guidance_scale", "modality_scale", "audio_guidance_scale", "audio_modality_scale")
    options = {
        "height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "max_sequence_length": 16,
        "stg_scale": 0.0, "audio_stg_scale": 0.0, **dict.fromkeys(scales, 1.0),
    }  # fmt: skip
    joint = Pipeline("ltx-2", repo=str(tiny_pipelines.ltx2(tmp_path / "ltx2")), device="cpu", options=options)
    one, other = joint.generate(requests()[:2])
    assert one.need_video().frames.shape == (5, 32, 32, 3) and one.need_video().fps == 24
    assert one.need_audio().rate == 16000 and len(one.need_audio().samples) == 2
    assert not np.array_equal(one.need_video().frames, other.need_video().frames)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    for kind in KINDS:
        with pytest.raises(MissingResource, match=f"pipeline {kind}"):
            list(Pipeline(kind, repo=str(tmp_path / "none"), device="cpu").generate(requests()[:1]))


def test_why_a_part_has_nothing_is_told() -> None:
    """What does not apply to the first part does not apply to the cascade."""

    def none(sample: str) -> Clip:
        raise NotApplicable("no_reference")

    cascade = Cascade("t-v-a", video={"model": "reference"}, audio={"model": "reference"})
    assert all(isinstance(one, NotApplicable) for one in cascade.generate(requests(reference=none)))


def test_a_reference_model_gives_sound_to_anothers_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T->V->A on clatter: VisioSonic's checkpoint is shown the first part's video."""
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    from avbench.reference_models.training.config import parse_config
    from avbench.reference_models.training.trainer import Trainer

    table = {
        "model": "visiosonic-nano", "steps": 1, "batch": 2, "settings": {"depth": 1, "dim": 16, "count": 2},
        "data": {"clips": 2, "valid": 1}, "sampler": {"steps": 2},
    }  # fmt: skip
    folder = tmp_path / "visiosonic"
    Trainer(parse_config(table, "test"), folder, "cpu").run()
    suite = load_suite("clatter-mini").limit(1)
    render = suite.render
    assert render is not None
    asked = [Request(sample, suite, 3, lambda name: render(suite.samples[0])) for sample in suite.samples]
    made = {}
    for video in ("reference", "frozen"):
        cascade = Cascade("t-v-a", video={"model": video}, audio={"model": str(folder)})
        (made[video],) = cascade.generate(asked)
    frames = [made[video].need_video().frames for video in ("reference", "frozen")]
    assert not np.array_equal(*frames) and np.array_equal(frames[1][0], frames[1][-1])
    assert all(clip.need_audio().samples.any() for clip in made.values())
