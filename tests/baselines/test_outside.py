"""Adapters to outside systems: their commands, against stand-ins that write what the real programs say they write."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from avbench.baselines.cascades import Cascade
from avbench.baselines.outside import Job, read_rows, system, systems
from avbench.baselines.outside.__main__ import main
from avbench.encode import write_clip
from avbench.errors import MissingResource, UnknownName, UserError
from avbench.generator import Request, generate_clips, load_model, write_prompts
from avbench.media import decode
from avbench.suite import Sample, Suite
from tests.conftest import bouncing

TRICKY = 'a "ball", falls; $HOME {x} it\'s'
SUITE = Suite(
    "two", "1", (Sample("s0", 0, TRICKY, audio_text="thud", speech_text="Ouch"), Sample("s-1", 1, "two balls"))
)

HEAD = """
import argparse, csv, json, sys
from pathlib import Path
p = argparse.ArgumentParser()
def put(path, source):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(Path(source).read_bytes())
CLIP = Path(__file__).resolve().parents[DEPTH] / "clip.mp4"
"""
PROGRAMS = {
    "javisdit": ("scripts/inference.py", """
p.add_argument("config")
for name in "num-frames resolution aspect-ratio model-path prompt-path save-dir seed verbose".split():
    p.add_argument("--" + name, required=True)
a = p.parse_args()
for i, row in enumerate(csv.DictReader(open(a.prompt_path))):
    put(f"{a.save_dir}/sample_{i:04d}.mp4", CLIP)
    Path(a.save_dir, f"seen_{i}.txt").write_text(row["text"])
"""),
    "ovi": ("inference.py", """
import yaml
p.add_argument("--config-file")
c = yaml.safe_load(open(p.parse_args().config_file))
(row,) = csv.DictReader(open(c["text_prompt"]))
Path(c["output_dir"], "seen.txt").write_text(row["text_prompt"])
name = row["text_prompt"].replace(" ", "_").replace("/", "_")[:50]
put(f"{c['output_dir']}/{name}_720x720_{c['seed']}_0.mp4", CLIP)
"""),
    "mmaudio": ("demo.py", """
for name in "variant video prompt duration num_steps cfg_strength seed output".split():
    p.add_argument("--" + name, required=True)
a = p.parse_args()
put(f"{a.output}/{Path(a.video).stem}.mp4", CLIP)
"""),
    "universe-1": ("fastvideo/sample/sample_universe.py", """
p.add_argument("--cpu_offload", action="store_true")
names = "model_path ace_path num_frames height width num_inference_steps guidance_scale_vid guidance_scale_aud seed"
for name in (names + " output_path transformer_path refimg_path prompt_path").split():
    p.add_argument("--" + name, required=True)
a = p.parse_args()
prompt = json.load(open(a.prompt_path))
assert Path(a.refimg_path).read_bytes().startswith(b"\\x89PNG") and isinstance(prompt["audio_prompt"], list)
Path(a.output_path, "seen.txt").write_text(prompt["video_prompt"])
put(f"{a.output_path}/image_prompt_h256_w256.mp4", __file__)
put(f"{a.output_path}/image_prompt_h256_w256_with_audio.mp4", CLIP)
"""),
}  # fmt: skip


def repository(folder: Path, name: str) -> Path:
    """A stand-in checkout: the program's name, arguments and output layout, and one clip that it always makes."""
    place, text = PROGRAMS[name]
    program = folder / name / place
    program.parent.mkdir(parents=True)
    program.write_text(HEAD.replace("DEPTH", str(place.count("/"))) + text)
    write_clip(folder / name / "clip.mp4", bouncing(3))
    return folder / name


def prompts(folder: Path) -> Path:
    return write_prompts(folder / "prompts.jsonl", SUITE.samples)


@pytest.mark.parametrize("name", systems())
def test_every_file_is_whole(name: str, tmp_path: Path) -> None:
    """Fields are known, files parse, and a prompt reaches the command or a file letter by letter."""
    one = system(name)
    assert one.per in ("suite", "sample") and one.makes in ("t2av", "v2a", "a2v", "unconditional")
    assert one.repository.startswith("https://github.com/") and len(one.commit) == 7 and one.licence and one.notes
    job = Job(one, read_rows(prompts(tmp_path)), tmp_path, tmp_path / "work")
    commands, texts = job.commands(), job.texts()
    assert len(commands) == (1 if one.per == "suite" else 2)
    for path, text in texts.items():
        assert path.is_absolute()
        if path.suffix == ".json":
            json.loads(text)
        if path.suffix == ".yaml":
            assert yaml.safe_load(text)["ckpt_dir"]
        if path.suffix == ".csv":
            assert all(len(row) == 1 for row in csv.reader(text.splitlines()))
    if one.makes == "t2av":
        told = [*commands[0], *texts.values()]
        assert any(TRICKY in t or TRICKY.replace('"', '""') in t or json.dumps(TRICKY) in t for t in told)
    assert (one.makes in ("v2a", "a2v")) <= bool(one.inputs)
    job.texts()


@pytest.mark.parametrize("name, options", [("javisdit", {}), ("ovi", {}), ("universe-1", {"launcher": "stand-in"})])
def test_a_system_as_a_model(name: str, options: dict[str, str], tmp_path: Path, capfd: Any) -> None:
    """From avbench.toml through the adapter's command to clips under the samples' names."""
    repo = repository(tmp_path, name)
    if options:  # torchrun takes options of its own before the script
        launcher = tmp_path / "stand-in"
        launcher.write_text(
            f'#!/bin/sh\nwhile [ "$1" != "{PROGRAMS[name][0]}" ]; do shift; done\nexec {sys.executable} "$@"\n'
        )
        launcher.chmod(0o755)
        options = {"launcher": str(launcher)}
    images = tmp_path / "images"
    images.mkdir()
    import cv2

    for sample in SUITE.samples:
        cv2.imwrite(str(images / f"{sample.id}.png"), np.zeros((8, 8, 3), np.uint8))
    sets = "".join(f" --set {key}={value}" for key, value in options.items())
    run = (
        f"{sys.executable} -m avbench.baselines.outside run {name} --repo {repo} --python {sys.executable} "
        f"--prompts {{prompts}} --out {{out}} --images {images}{sets}"
    )
    config = tmp_path / "avbench.toml"
    config.write_text(f"[models.it]\nkind = \"command\"\nrun = '{run}'\n")
    out = tmp_path / "out"
    files = generate_clips(load_model("it", config), SUITE, out, lambda name: bouncing(0))
    assert set(files) == {"s0", "s-1"} and "2 of 2 clips" in capfd.readouterr().out
    assert np.array_equal(decode(files["s0"].main).need_video().frames, decode(repo / "clip.mp4").need_video().frames)
    seen = {path.read_text() for path in (out / ".work").rglob("seen*.txt")}
    want = f"{TRICKY} <S>Ouch<E> Audio: thud" if name == "ovi" else TRICKY
    assert want in seen and len(seen) == 2


def test_sound_for_another_models_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' Wan + MMAudio: a cascade whose second part is a program of another environment."""
    repo = repository(tmp_path, "mmaudio")
    run = (
        f"{sys.executable} -m avbench.baselines.outside run mmaudio --repo {repo} --python {sys.executable} "
        "--prompts {prompts} --out {out}"
    )
    (tmp_path / "avbench.toml").write_text(f"[models.mmaudio]\nkind = \"command\"\nrun = '{run}'\n")
    monkeypatch.chdir(tmp_path)
    cascade = Cascade("t-v-a", video={"model": "frozen"}, audio={"model": "mmaudio"}, chunk=8)
    made = list(cascade.generate([Request(s, SUITE, 5, lambda name: bouncing(0)) for s in SUITE.samples]))
    wanted = decode(repo / "clip.mp4").need_audio().samples
    for clip in made:
        assert np.array_equal(clip.need_video().frames[0], bouncing(0).need_video().frames[0])
        sound = clip.need_audio().samples
        assert np.array_equal(sound, wanted[:, : sound.shape[1]])


def test_inputs_of_a_second_part(tmp_path: Path) -> None:
    write_clip(tmp_path / "given.mp4", bouncing(1))
    rows = [{"id": "s0", "index": 0, "given": str(tmp_path / "given.mp4")}]
    Job(system("tempotokens"), rows, tmp_path, tmp_path / "work").prepare()
    sound = decode(tmp_path / "work" / "given" / "s0.wav").need_audio()
    assert sound.rate == bouncing(1).need_audio().rate and np.abs(sound.samples).max() > 0.01
    Job(system("universe-1"), rows, tmp_path, tmp_path / "work").prepare()
    assert (tmp_path / "work" / "s0" / "image.png").is_file()
    with pytest.raises(MissingResource, match="second part of a cascade"):
        Job(system("mmaudio"), [{"id": "s0"}], tmp_path, tmp_path / "work").prepare()


def test_outputs_that_exist_are_gathered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The youngest file that fits a name which cannot be foretold; samples without output are left out."""
    path = tmp_path / "work [1]" / "s0"
    path.mkdir(parents=True)
    for age, name in ((2, "old_720x720_1_0.mp4"), (1, "new_720x720_1_0.mp4")):
        (path / name).write_text(name)
        import os

        os.utime(path / name, (1e9 - age, 1e9 - age))
    arguments = ["--prompts", str(prompts(tmp_path)), "--out", str(tmp_path / "out"), "--work", str(path.parent)]
    assert main(["collect", "ovi", *arguments]) == 0
    assert "1 of 2 clips" in capsys.readouterr().out
    assert (tmp_path / "out" / "s0.mp4").read_text() == "new_720x720_1_0.mp4"


def test_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompts", str(prompts(tmp_path)), "--out", str(tmp_path / "out"), "--set", "frames=81"]
    assert main(["plan", "javisdit", *arguments]) == 0
    assert "--num-frames 81" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main(["list"]) == 0 and main(["show", "ovi"]) == 0
    assert all(name in capsys.readouterr().out for name in ("ovi",))


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownName, match="javisdit"):
        system("sora")
    with pytest.raises(UserError, match="no option colour"):
        Job(system("ovi"), [], tmp_path, tmp_path, options={"colour": 1})
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(UserError, match="line 1 has no id"):
        read_rows(tmp_path / "bad.jsonl")
    assert main(["plan", "ovi", "--prompts", str(tmp_path / "none"), "--out", "x"]) == 2
    program = repository(tmp_path, "javisdit") / "scripts" / "inference.py"
    program.write_text("raise SystemExit(7)")
    job = Job(
        system("javisdit"), read_rows(prompts(tmp_path)), tmp_path / "javisdit", tmp_path / "work", sys.executable
    )
    with pytest.raises(UserError, match="status 7"):
        job.run()


def test_a_registered_name_is_meant_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frozen").mkdir()
    assert load_model("frozen").config["kind"] == "built in"
    assert load_model("./frozen").config["kind"] == "folder"
