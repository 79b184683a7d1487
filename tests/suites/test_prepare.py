"""Choosing and cutting real clips."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from avbench import dataset
from avbench.cli import app
from avbench.dataset import catalogue, prepared_folder
from avbench.encode import write_clip
from avbench.media import decode
from avbench.prepare import cut, place_of
from avbench.references import real_file
from avbench.suite import load_suite
from tests.conftest import bouncing
from tests.suites import public_files as files


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_cut_keeps_picture_and_sound_together() -> None:
    clip = bouncing(seconds=2.0, fps=12)
    assert clip.video is not None and clip.audio is not None
    part = cut(clip, 0.52, 1.0)
    assert part.video is not None and part.audio is not None
    assert np.array_equal(part.video.frames, clip.video.frames[6:18])  # the frame at 0.5 s is the nearest
    assert np.allclose(part.video.times, np.arange(12) / 12)
    assert np.array_equal(part.audio.samples, clip.audio.samples[:, 4000:12000]) and part.audio.start == 0


def test_a_short_clip_is_padded_by_its_last_frame_and_silence() -> None:
    clip = bouncing(seconds=1.0, fps=12)
    assert clip.video is not None and clip.audio is not None
    part = cut(clip, 0.0, 1.5)
    assert part.video is not None and part.audio is not None
    assert len(part.video.frames) == 18 and part.video.seconds == part.audio.seconds == 1.5
    assert np.array_equal(part.video.frames[12:], np.repeat(clip.video.frames[-1:], 6, axis=0))
    assert not part.audio.samples[:, 8000:].any() and np.array_equal(part.audio.samples[:, :8000], clip.audio.samples)
    late = cut(replace(clip, audio=replace(clip.audio, start=0.25)), 0.0, 1.0)
    assert late.audio is not None and not late.audio.samples[:, :2000].any()
    assert np.array_equal(late.audio.samples[:, 2000:], clip.audio.samples[:, :6000])


def test_sound_alone_and_pictures_alone_are_cut_too() -> None:
    clip = bouncing(seconds=1.0)
    sound, picture = cut(replace(clip, video=None), 0.5, 0.25), cut(replace(clip, audio=None), 0.5, 0.25)
    assert sound.video is None and sound.audio is not None and sound.audio.seconds == 0.25
    assert picture.audio is None and picture.video is not None and len(picture.video.frames) == 3


def test_places_are_spread_and_fixed() -> None:
    places = [place_of(f"s{i}", 0) for i in range(400)]
    assert 0 <= min(places) < 0.05 and 0.95 < max(places) < 1 and abs(np.mean(places) - 0.5) < 0.05
    assert place_of("s0", 0) == places[0] != place_of("s0", 1)


@pytest.fixture
def listed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """VGG-SS with a metric that needs no weights, 6 of 8 clips here, one of them broken; 3 are drawn."""
    card = catalogue()["vggsound-ss"]
    recipe = {"name": "test", "seconds": 0.5, "metric": "av_align", "above": 0.0, "count": 3}
    small = replace(card, prepare=recipe, expected=3, options={**card.options, "count": 3})
    monkeypatch.setattr(dataset, "catalogue", lambda: {**catalogue(), "vggsound-ss": small})
    root = files.vggss(tmp_path / "mine", 8, 2)
    for index, row in enumerate(json.loads((root / "vggss.json").read_text())[:6]):
        write_clip(root / "videos" / f"{row['file']}.mp4", bouncing(index))
    (root / "videos" / "000005-abcd_000005.mp4").write_bytes(b"broken")
    return root


def test_prepare_scores_filters_draws_and_cuts(listed: Path, tmp_path: Path) -> None:
    before = load_suite(f"vggsound-ss={listed}")
    words = ("suites", "prepare", "vggsound-ss", "--data", listed, "--device", "cpu")
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["found"], document["passed"], document["chosen"]) == (6, 4, 3)  # one scores 0
    assert list(document["lost"]) == ["000005-abcd_000005"] and "decode." in document["lost"]["000005-abcd_000005"]
    suite = load_suite(f"vggsound-ss={listed}")
    assert suite.version == "1-test" and suite.digest != before.digest and len(suite.samples) == 3
    for sample in suite.samples:
        file = real_file(sample)
        assert file is not None and file.main.parent == prepared_folder(dataset.catalogue()["vggsound-ss"], listed)
        clip = decode(file.main)
        assert clip.video is not None and clip.video.seconds == 0.5
    choice = json.loads((prepared_folder(dataset.catalogue()["vggsound-ss"], listed) / "choice.json").read_text())
    assert all(0 <= row["start"] <= 0.5 and row["score"] > 0 for row in choice["chosen"])
    times = {path: path.stat().st_mtime_ns for path in listed.rglob("prepared/*/*.mp4")}
    assert "3 chosen and cut" in run(*words).stdout
    assert {path: path.stat().st_mtime_ns for path in listed.rglob("prepared/*/*.mp4")} == times  # cuts are kept
    run_of_it = run(
        "eval", "--model", "reference", "--suite", f"vggsound-ss={listed}", "--metrics", "integrity", "--device", "cpu"
    )
    assert run_of_it.exit_code == 0, run_of_it.output


def test_too_few_clips_are_said(listed: Path) -> None:
    for path in list((listed / "videos").glob("*"))[:4]:
        path.unlink()
    result = run("suites", "prepare", "vggsound-ss", "--data", listed, "--device", "cpu")
    assert result.exit_code == 2 and "needs 3 clips" in result.output and "2 of 8 are in" in result.output


def test_what_prepare_needs_is_exit_4(cache: Path, tmp_path: Path) -> None:
    result = run("suites", "prepare", "vggsound-ss")
    assert result.exit_code == 4 and "avbench suites pull vggsound-ss" in result.output
    root = files.vggss(tmp_path / "mine")
    result = run("suites", "prepare", "vggsound-ss", "--data", root)
    assert result.exit_code == 4 and "no real clips of suite 'vggsound-ss'" in result.output
    files.text(root / "videos" / "000000-abcd_000000.mp4", "x")
    result = run("suites", "prepare", "vggsound-ss", "--data", root, "--device", "cpu")
    assert result.exit_code == 4 and "avbench weights pull imagebind_huge" in result.output
    assert run("suites", "prepare", "javisbench").exit_code == 4
    files.javisbench(tmp_path / "mini")
    result = run("suites", "prepare", "javisbench-mini", "--data", tmp_path / "mini")
    assert result.exit_code == 2 and "nothing to prepare" in result.output


def test_without_a_filter_the_samples_stay_and_get_shorter_clips(cache: Path, tmp_path: Path) -> None:
    root = files.asva(tmp_path / "mine", hits=4)
    for index in (1, 2):
        write_clip(
            root / "TheGreatestHits" / "videos" / f"hit{index:03d}_denoised_thumb.mp4", bouncing(index, seconds=3)
        )
    done = run("suites", "prepare", "greatest-hits", "--data", root, "--device", "cpu")
    assert done.exit_code == 0, done.output
    suite = load_suite(f"greatest-hits={root}")
    assert suite.version == "1-2s" and [sample.reference is not None for sample in suite.samples] == [
        False,
        True,
        True,
        False,
    ]
    assert suite.samples[1].reference is not None
    video = decode(suite.samples[1].reference).video
    assert video is not None and video.seconds == 2.0
    (prepared_folder(catalogue()["greatest-hits"], root) / "choice.json").write_text("{}")
    assert "not readable" in run("suites", "show", "greatest-hits", "--data", root).output
