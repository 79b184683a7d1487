"""Physics of the desk world: exact on exact paths, ideal on the world's own clips, and each fault moves its field."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from avbench.clip import Audio, Clip, Video
from avbench.errors import NotApplicable, SampleError
from avbench.evaluation import evaluate
from avbench.features import Context
from avbench.metrics.encoders import motion as encoder
from avbench.metrics.physics import ContactSync, Physics, Reading, contacts, deceleration, pairs, pull_of, read, turns
from avbench.metrics.tracking import PIXEL, Motion
from avbench.report.clips import tracks
from avbench.suites.clatter import DESK, EVENTS, Scene, frames, render, scene
from avbench.suites.clatter.suite import enlarged

ROOT = Path(__file__).resolve().parents[2]
grid_of, onsets_of = encoder.load_grid(Context(None, None)), encoder.load_onsets(Context(None, None))
COUNT = 8
IDEAL = {"permanence": 0.98, "continuity": 0.999, "solidity": 0.98, "contact": 0.98}
EVENT_NAMES = ("bounce", "stick", "collide")


def scenes(event: str) -> list[Scene]:
    return [scene("check", k, DESK, event=event) for k in range(COUNT)]


def tags(what: Scene) -> tuple[str, ...]:
    return (f"av-{what.sound}", what.event)


def score(clip: Clip, what: Scene) -> dict[str, float]:
    return Physics().score(grid_of(clip.need_video()), tags(what), what.truth())


def sync(clip: Clip, what: Scene) -> dict[str, float]:
    return ContactSync().score(grid_of(clip.need_video()), onsets_of(clip.need_audio()), tags(what), what.truth())


def means(clips: list[tuple[Clip, Scene]]) -> dict[str, float]:
    rows = [score(*pair) for pair in clips]
    return {
        name: float(np.mean([row[name] for row in rows if name in row])) for name in {n for row in rows for n in row}
    }


def own(event: str) -> list[tuple[Clip, Scene]]:
    return [(render(what), what) for what in scenes(event)]


def spoilt(what: Scene, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Clip:
    """The clip with what moves changed: (grey uint8 [T, 16, 16], the empty scene [16, 16]) -> frames."""
    clip = render(what)
    video = clip.need_video()
    empty = frames(replace(what, stage=replace(what.stage, actors=())))[0, ..., 0]
    grey = np.clip(change(video.frames[..., 0].astype(float), empty.astype(float)), 0, 255).astype(np.uint8)
    return replace(clip, video=replace(video, frames=np.repeat(grey[..., None], 3, axis=3)))


@pytest.fixture(scope="module")
def ideal() -> dict[str, dict[str, float]]:
    return {event: means(own(event)) for event in EVENT_NAMES}


# exact paths


def rebound(gravity: float, fall: float, keep: float, first: float, times: np.ndarray) -> np.ndarray:
    """A drop that lands at `first` with speed `fall` and leaves with `keep` of it."""
    since = times - first
    return np.where(since < 0, -fall * since, keep * fall * since) - 0.5 * gravity * since * since


@settings(max_examples=60, deadline=None)
@given(
    gravity=st.floats(0.5, 4), fall=st.floats(1.2, 2.0), keep=st.floats(0.5, 1.1), first=st.floats(0.55, 1.2),
    height=st.floats(-0.1, 0.3),
)  # fmt: skip
def test_a_rebound_between_frames_is_recovered_exactly(
    gravity: float, fall: float, keep: float, first: float, height: float
) -> None:
    times = np.arange(16) / 8
    keeps = times - first < 2 * keep * fall / gravity
    times = times[keeps]
    path = rebound(gravity, fall, keep, first, times) + height
    found = [turn for turn in turns(times, path, (gravity, gravity)) if abs(turn.time - first) < 0.125]
    assume(found and math.isfinite(found[0].speed_in))  # not where the clip ends too soon to see the rise
    assert found[0].time == pytest.approx(first, abs=1e-6)
    assert found[0].gap == pytest.approx(height, abs=1e-6)
    assert found[0].speed_in == pytest.approx(fall, abs=1e-5)
    assert found[0].speed_out == pytest.approx(keep * fall, abs=1e-5)


def test_a_plain_rebound_is_found() -> None:
    """The property above sets cases aside; this one may not."""
    times = np.arange(16) / 8
    (turn,) = turns(times, rebound(2.2, 1.6, 0.8, 0.81, times) + 0.05, (2.2, 2.2))
    assert (turn.time, turn.gap) == (pytest.approx(0.81), pytest.approx(0.05))
    assert (turn.speed_in, turn.speed_out) == (pytest.approx(1.6), pytest.approx(1.28))


@settings(max_examples=40, deadline=None)
@given(gravity=st.floats(0, 4), up=st.floats(-0.3, 0.3))
def test_gravity_of_a_free_flight_is_exact(gravity: float, up: float) -> None:
    times = np.arange(16) / 8
    gap = 0.9 + up * times - 0.5 * gravity * times * times
    count = int((gap > 2 * PIXEL).argmin()) or 16
    there = np.ones(count, bool)
    path = np.stack([np.full(count, 0.5), gap[:count]], 1)[None]
    motion = Motion("bounce", times[:count], gap[:count], gap[None, :count], path, 0.1, there, there,
                    np.ones(count), np.ones(count))  # fmt: skip
    found = deceleration(motion, [])
    assert found is None if count < 5 else found == pytest.approx(gravity, abs=1e-9)


def test_matches_are_one_to_one_and_nearest_first() -> None:
    assert pairs(np.array([0.5, 0.55]), np.array([0.56, 1.5]), 0.125) == [(1, 0)]
    assert sorted(pairs(np.array([0.5, 0.9]), np.array([0.95, 0.41]), 0.125)) == [(0, 1), (1, 0)]
    assert pairs(np.zeros(0), np.array([0.5]), 0.125) == []


def test_onsets_are_dated_to_a_few_milliseconds() -> None:
    late, missed = [], 0
    for k in range(30):
        what = scene("check", k, DESK)
        heard = onsets_of(render(what).need_audio())["times"]
        for contact in what.contacts:
            if contact.strength > 0.2:
                off = heard[np.abs(heard - contact.time).argmin()] - contact.time
                missed += abs(off) > 0.05
                late.append(off)
    assert missed == 0
    assert abs(np.mean(late)) < 0.005
    assert np.std(late) < 0.01


# the world's own clips


def test_places_agree_with_the_truth_to_a_sixth_of_a_pixel() -> None:
    for clip, what in own("bounce") + own("collide"):
        video = clip.need_video()
        motion = read(what.event, encoder.small(video.frames), video.times).motion
        for path, (track, size) in zip(motion.paths, what.stage.tracks.values()):
            assert np.abs(path - track(video.times))[motion.whole].max() < PIXEL / 6, what.id
            assert motion.radius == pytest.approx(size, abs=PIXEL / 20)
    for clip, what in own("collide"):
        motion = read("collide", encoder.small(clip.need_video().frames), clip.need_video().times).motion
        assert motion.slope == pytest.approx(what.stage.laws["slope"], abs=0.03)
        assert pull_of(motion) / 2 / math.cos(motion.slope) == pytest.approx(what.stage.laws["acceleration"], rel=0.05)


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_own_clips_are_nearly_ideal(event: str, ideal: dict[str, dict[str, float]]) -> None:
    found = ideal[event]
    assert found[""] > 0.96
    assert all(found[name] >= least for name, least in IDEAL.items())
    assert found["avoidance"] == 0
    if event != "stick":
        assert found["gravity_error"] < 0.04
        assert found["restitution_error"] < 0.05
        assert found["energy_gain"] == 0


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_contacts_fall_on_true_ones_and_on_their_sounds(event: str) -> None:
    for clip, what in own(event):
        video = clip.need_video()
        seen = contacts(read(event, encoder.small(video.frames), video.times))
        true = np.array([contact.time for contact in what.contacts])
        assert len(seen)
        assert np.abs(seen[:, None] - true).min(axis=1).max() < 0.05, what.id
        found = sync(clip, what)
        assert found[""] > 0.8
        assert found["lag"] < 0.04


def test_shown_large_or_with_compression_noise_it_is_the_same() -> None:
    rng = np.random.default_rng(0)
    for event in EVENT_NAMES:
        for clip, what in own(event)[:3]:
            plain, large = score(clip, what), enlarged(clip)
            assert score(large, what) == pytest.approx(plain, abs=1e-4)
            video = large.need_video()
            noisy = np.clip(video.frames + rng.normal(0, 2, video.frames.shape), 0, 255).astype(np.uint8)
            assert score(replace(large, video=replace(video, frames=noisy)), what)[""] > plain[""] - 0.05


# faults


def unlawful(fault: str) -> dict[str, float]:
    broken = [what.unphysical(fault) for what in scenes("bounce")]
    landed = [what for what in broken if fault == "weightless" or what.contacts[0].time < 1.5]  # slow falls last longer
    assert len(landed) >= COUNT // 2
    return means([(render(what), what) for what in landed])


def changed(found: dict[str, float], ideal: dict[str, float], tolerance: float = 0.1) -> set[str]:
    names = ("permanence", "continuity", "solidity", "contact", "gravity_error", "restitution_error")
    return {name for name in names if name in found and abs(found[name] - ideal[name]) > tolerance}


@pytest.mark.parametrize(
    ("fault", "moved"),
    [
        ("hover", {"contact"}),
        ("sink", {"solidity"}),
        ("gain", {"restitution_error"}),
        ("floaty", {"gravity_error"}),
        ("weightless", {"gravity_error", "contact"}),  # what never falls never lands
    ],
)
def test_each_broken_law_moves_its_field_alone(fault: str, moved: set[str], ideal: dict[str, dict[str, float]]) -> None:
    found = unlawful(fault)
    assert changed(found, ideal["bounce"]) == moved
    assert found[""] < ideal["bounce"][""] - 0.1
    if fault == "floaty":
        assert found["gravity"] == pytest.approx(0.35, abs=0.03)
    if fault == "gain":
        assert found["energy_gain"] > 0.9


def test_a_vanishing_ball_moves_permanence_with_the_time_it_is_gone(ideal: dict[str, dict[str, float]]) -> None:
    def gone(count: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda pictures, empty: np.concatenate([pictures[: 16 - count], np.repeat(empty[None], count, axis=0)])

    values = [means([(spoilt(w, gone(n)), w) for w in scenes("bounce")])["permanence"] for n in (0, 2, 4, 8)]
    assert values == pytest.approx([ideal["bounce"]["permanence"] - n / 16 for n in (0, 2, 4, 8)], abs=0.02)


def test_a_fading_ball_moves_permanence_alone(ideal: dict[str, dict[str, float]]) -> None:
    def fade(pictures: np.ndarray, empty: np.ndarray) -> np.ndarray:
        return empty + (pictures - empty) * np.linspace(1, 0.5, 16)[:, None, None]

    found = means([(spoilt(w, fade), w) for w in scenes("bounce")])
    assert changed(found, ideal["bounce"]) == {"permanence"}


def test_a_split_ball_moves_permanence(ideal: dict[str, dict[str, float]]) -> None:
    def split(pictures: np.ndarray, empty: np.ndarray) -> np.ndarray:
        ball = pictures - empty
        return empty + np.maximum(np.roll(ball, 3, axis=2), np.roll(ball, -3, axis=2))

    found = means([(spoilt(w, split), w) for w in scenes("bounce")])
    assert found["permanence"] < 0.7 * ideal["bounce"]["permanence"]
    assert "gravity_error" not in changed(found, ideal["bounce"])


def test_a_leap_moves_continuity_with_its_length(ideal: dict[str, dict[str, float]]) -> None:
    def leap(pixels: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        def change(pictures: np.ndarray, empty: np.ndarray) -> np.ndarray:
            ball = pictures - empty
            middle = (ball[8].sum(axis=0) * np.arange(16)).sum() / ball[8].sum()
            side = 1 if middle < 8 else -1
            return empty + np.concatenate([ball[:8], np.roll(ball[8:], side * pixels, axis=2)])

        return change

    found = [means([(spoilt(w, leap(n)), w) for w in scenes("bounce")]) for n in (0, 3, 5)]
    assert [values["continuity"] for values in found] == pytest.approx([1, 1 - 2 / 16, 1 - 4 / 16], abs=0.04)
    assert changed(found[1], ideal["bounce"]) == {"continuity"}


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_still_black_and_noisy_clips_score_nothing_and_never_nan(event: str) -> None:
    rng = np.random.default_rng(0)
    for what in scenes(event)[:3]:
        for change in (
            lambda pictures, empty: np.repeat(pictures[:1], 16, axis=0),
            lambda pictures, empty: 0 * pictures,
            lambda pictures, empty: 0 * pictures + 255,
            lambda pictures, empty: np.repeat(empty[None], 16, axis=0),
            lambda pictures, empty: rng.uniform(0, 255, pictures.shape),
            lambda pictures, empty: np.repeat(rng.uniform(0, 255, (1, 16, 16)), 16, axis=0),
        ):
            clip = spoilt(what, change)
            found = score(clip, what)
            assert found[""] < 0.15
            assert all(math.isfinite(value) for value in found.values())
            try:
                assert all(math.isfinite(value) for value in sync(clip, what).values())
            except NotApplicable as error:
                assert error.code == "physics.no_contact"


# sound


def test_late_sound_grows_the_lag_then_loses_the_match() -> None:
    def late(clip: Clip, seconds: float) -> Clip:
        audio = clip.need_audio()
        return replace(clip, audio=Audio(np.roll(audio.samples, round(seconds * audio.rate), axis=1), audio.rate))

    clips = own("bounce")
    rows = {shift: [sync(late(clip, shift), what) for clip, what in clips] for shift in (0.0, 0.05, 0.1, 0.3)}
    for shift in (0.05, 0.1):
        assert np.mean([row["lag"] for row in rows[shift]]) == pytest.approx(shift, abs=0.015)
        assert np.mean([row[""] for row in rows[shift]]) > 0.95
    assert np.mean([row[""] for row in rows[0.3]]) < 0.2
    start = [sync(replace(clip, audio=replace(clip.need_audio(), start=0.05)), what) for clip, what in clips]
    assert [row["lag"] for row in start] == pytest.approx([row["lag"] for row in rows[0.05]], abs=0.01)


def test_silence_scores_zero_and_no_sound_is_not_applicable() -> None:
    clip, what = own("bounce")[0]
    quiet = replace(clip, audio=Audio(np.zeros((1, 16000), np.float32), 8000))
    assert sync(quiet, what)[""] == 0
    with pytest.raises(NotApplicable, match="no_audio"):
        ContactSync.audio.view(replace(clip, audio=None))
    with pytest.raises(NotApplicable, match=r"physics\.loose"):
        sync(clip, what.with_sound("loose"))
    assert score(clip, what.with_sound("loose")) == score(quiet, what)  # sound plays no part in what is seen


# what cannot be measured


def test_what_does_not_apply_says_why() -> None:
    clip, what = own("bounce")[0]
    video, truth = clip.need_video(), what.truth()
    for others, zoom, code in ((("av-loose", "rain"), 1.0, "physics.event"), (tags(what), 0.97, "physics.camera")):
        with pytest.raises(NotApplicable) as caught:
            Physics().score(grid_of(video), others, {**truth, "camera": {**truth["camera"], "zoom": zoom}})
        assert caught.value.code == code
    for count in (1, 2, 3):
        with pytest.raises(NotApplicable, match=r"physics\.short"):
            Physics().score(grid_of(Video(video.frames[:count], video.times[:count], Fraction(8))), tags(what), truth)
    with pytest.raises(SampleError, match=r"physics\.times"):
        Physics().score(grid_of(replace(video, times=np.zeros(16))), tags(what), truth)
    with pytest.raises(NotApplicable, match=r"physics\.small"):
        grid_of(replace(video, frames=video.frames[:, :12]))
    assert {"bounce", "stick", "collide"} <= set(EVENTS)


def test_standard_clatter_is_not_applicable_not_failed() -> None:
    for index in (0, 2, 8):
        what = scene("test", index)
        short = Video(np.zeros((8, 128, 128, 3), np.uint8), np.arange(8) / 24, Fraction(24))
        with pytest.raises(NotApplicable, match=r"physics\.(camera|event)"):
            Physics().score(grid_of(short), tags(what), what.truth())


@pytest.mark.parametrize("shape", [(32, 32), (64, 40), (50, 90), (128, 128)])
def test_any_size_gives_sixteen_squares(shape: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1])[None, None, :, None], (2, *shape, 3)).astype(np.uint8)
    small = encoder.small(ramp)
    assert small.shape == (2, 16, 16)
    assert (np.diff(small[0], axis=1) > 0).all()
    assert np.ptp(small[0], axis=0).max() < 1e-5


def test_timelines_show_what_was_followed() -> None:
    clip, what = own("bounce")[0]
    grid, heard = grid_of(clip.need_video()), onsets_of(clip.need_audio())
    (track,) = Physics().timeline(grid, tags(what))
    assert track.times is not None and track.values is not None and track.events is not None
    assert len(track.times) == len(track.values) == 16
    seen, sounds = ContactSync().timeline(grid, heard, tags(what))
    assert seen.events is not None and sounds.events is not None
    assert set(np.round(track.events, 6)) <= set(np.round(seen.events, 6))
    black: dict[str, Any] = {**grid, "grid": 0 * grid["grid"]}
    assert Physics().timeline(black, tags(what)) == []


def test_a_reading_needs_no_truth_of_places() -> None:
    """The same clip with the ball elsewhere (mirrored) reads the same."""
    for clip, _ in own("bounce")[:4]:
        video = clip.need_video()
        one, other = (read("bounce", encoder.small(f), video.times) for f in (video.frames, video.frames[:, :, ::-1]))
        assert isinstance(one, Reading)
        assert one.pull == pytest.approx(other.pull, rel=0.02)
        assert [t.time for t in one.turns] == pytest.approx([t.time for t in other.turns], abs=0.01)


# the page


def test_the_page_is_that_of_its_record() -> None:
    """docs/physics.md says what docs/data/physics.json holds, and the record what is claimed of it."""
    spec = importlib.util.spec_from_file_location("physics_page", ROOT / "tools" / "physics_page.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    record = json.loads((ROOT / "docs" / "data" / "physics.json").read_text(encoding="utf-8"))
    assert tool.page(record) == (ROOT / "docs" / "physics.md").read_text(encoding="utf-8"), "run tools/physics_page.py"
    faults = record["faults"]
    assert list(faults) == list(tool.FAULTS)
    what = scene("test", 0, DESK)
    for name, make in tool.FAULTS.items():  # every fault can be made and judged
        assert 0 <= tool.judged(make(what), what.truth())["seen"][""] <= 1, name
        assert faults[name]["seen"][""][0] <= faults["none"]["seen"][""][0] + 0.01


def test_a_run_scores_and_its_report_draws(cache: Path, tmp_path: Path) -> None:
    """Through `evaluate` and the report: twins have equal values, loose ones no synchrony, and curves are drawn."""
    run = evaluate("reference", "clatter-desk-mini", "physics", limit=6, device="cpu", out=tmp_path)
    rows = {(r["sample"], r["metric"], r["field"]): r for r in run.records("scores")}
    for id in ("test-00000-bounce", "test-00001-stick", "test-00002-collide"):
        own, twin = (rows[name, "physics@clatter", ""]["value"] for name in (id, f"{id}-loose"))
        assert own == twin > 0.95
        assert rows[id, "contact_sync@clatter", ""]["value"] == 1
        assert rows[f"{id}-loose", "contact_sync@clatter", ""]["status"] == "not_applicable"
        names = [track.name for track in tracks(run)(id)]
        assert names[1:] == ["contacts seen", "onsets heard"]
