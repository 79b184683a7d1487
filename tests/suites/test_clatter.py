"""`clatter`: same bits everywhere, truth that pixels and samples bear out, honest tight and loose."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avbench.suites import clatter
from avbench.suites.clatter import CLATTER, DESK, EVENTS, FAULTS, LOOSE, TIGHT, Scene, WorldSpec, scene, sound
from avbench.suites.clatter.exact import Draws

GOLDEN = Path(__file__).parents[1] / "goldens" / "clatter.json"
SMALL = replace(CLATTER, width=48, height=48)
PLAIN = replace(CLATTER, events=("bounce",), plain=True)


def only(event: str, spec: WorldSpec = CLATTER) -> WorldSpec:
    return replace(spec, events=(event,))


def digest(what: Scene) -> str:
    """Of everything a sample is: frames, samples, texts, truth."""
    words = json.dumps([what.id, what.text, what.video_text, what.audio_text, what.tags, what.truth()])
    parts = (clatter.frames(what).tobytes(), clatter.audio(what).tobytes(), words.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def digests(world: str) -> list[str]:
    return [digest(scene("test", index, {"clatter": CLATTER, "desk": DESK}[world])) for index in range(64)]


def renew() -> None:
    """Pin the digests anew, after a change on purpose and a new `clatter.VERSION`. Called by hand."""
    pinned = {"version": clatter.VERSION} | {world: digests(world) for world in ("clatter", "desk")}
    GOLDEN.write_text(json.dumps(pinned, indent=0) + "\n")


@pytest.mark.parametrize("world", ["clatter", "desk"])
def test_the_first_64_clips_are_the_same_bits(world: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == clatter.VERSION
    found = digests(world)
    differing = [index for index, (a, b) in enumerate(zip(found, golden[world])) if a != b]
    assert not differing, f"clips {differing} of {world} changed: raise clatter.VERSION, or find what broke the bits"
    assert len(set(found)) == 64


def test_a_scene_depends_on_its_name_only() -> None:
    first = clatter.frames(scene("test", 4, SMALL))
    for index in (9, 2, 4):
        scene("other", index, SMALL)
    np.testing.assert_array_equal(first, clatter.frames(scene("test", 4, SMALL)))
    assert not np.array_equal(first, clatter.frames(scene("train", 4, only("hammer", SMALL))))


def test_long_clips_are_painted_in_runs_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    what = scene("test", 1, SMALL)
    whole = clatter.frames(what)
    monkeypatch.setattr(clatter.paint, "PIXELS_AT_ONCE", 7 * 48 * 48)
    parts = clatter.frames(what)
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_suites_are_balanced() -> None:
    records = list(clatter.records(clatter.SIZES["clatter-mini"]))
    assert len(records) == 64
    assert Counter(record["tags"]["sync"] for record in records) == {"tight": 32, "loose": 32}
    assert set(Counter(record["tags"]["event"] for record in records).values()) == {4}
    assert len({record["id"] for record in records}) == 64
    assert set(TIGHT) | set(LOOSE) == set(EVENTS)


def test_records_are_plain_and_complete() -> None:
    for record in clatter.records(32):
        json.dumps(record, allow_nan=False)
        assert record["text"].startswith(record["video_text"])
        truth = record["truth"]
        tight = record["tags"]["sync"] == "tight"
        assert bool(truth["onsets"]) == tight
        assert not tight or truth["onsets"] == [contact["time"] for contact in truth["contacts"]]
        assert truth["onsets"] == sorted(truth["onsets"])
        assert all(0 < contact["time"] < CLATTER.seconds for contact in truth["contacts"])
        assert all(0 < contact["strength"] <= 1 and contact["speed"] > 0 for contact in truth["contacts"])
        for track in truth["tracks"].values():
            assert np.array(track["pixels"]).shape == (96, 2)


NOISES = (" sound", "hear", "knock", " tick", "clang", "crackl", "hiss", " hum", "murmur", "roar", "babbl", " loud")


def test_captions_read_well_and_keep_sound_out_of_the_picture() -> None:
    texts = []
    for record in clatter.records(512):
        for name in ("text", "video_text", "audio_text"):
            text = record[name]
            texts.append(text)
            assert text[0].isupper(), text
            assert text.endswith("."), text
            assert not set("{}") & set(text), text
            assert "  " not in text
            assert not re.search(r"\b[Aa] [aeiou]", text), text
        assert not [noise for noise in NOISES if noise in record["video_text"].lower()], record["video_text"]
    assert len(set(texts)) > 500


@pytest.mark.parametrize("event", TIGHT)
def test_contacts_are_where_things_meet(event: str) -> None:
    """At every contact time the distance that closes is zero, to rounding."""
    for index in range(12):
        what = scene("meet", index, only(event))
        tracks = {name: track for name, (track, _) in what.stage.tracks.items()}
        sizes = {name: size for name, (_, size) in what.stage.tracks.items()}
        for contact in what.contacts:
            at = {name: track(np.array([contact.time]))[0] for name, track in tracks.items()}
            if event == "bounce":
                wall = {"left wall": at["ball"][0] - 0.04, "right wall": 0.96 - at["ball"][0]}
                gap = wall.get(contact.surface, at["ball"][1] - what.stage.laws["floor"]) - sizes["ball"]
            elif event == "collide":
                balls = list(at.values())
                gaps = [np.linalg.norm(b - a) - 2 * next(iter(sizes.values())) for a, b in itertools.pairwise(balls)]
                gap = max(gaps, key=abs)
            elif event == "clap":
                gap = at["right block"][0] - at["left block"][0] - 2 * sizes["left block"]
            elif event == "drums":
                gap = at[contact.surface.replace("drum", "tip")][1] - 0.045 - contact.at[1]
            elif event == "stick":
                gap = at["tip"][1] - sizes["tip"] - what.stage.laws["top"]
            elif event == "hammer":
                gap = at["head"][1] - contact.at[1]
            elif event == "metronome":
                gap = at["weight"][0] - contact.at[0]
            else:
                gap = min(abs(at[name][0] - contact.at[0]) for name in at)
            assert abs(gap) < 1e-9, (index, contact)


def test_flight_keeps_the_laws() -> None:
    for index in range(40):
        what = scene("laws", index, only("bounce"))
        track, radius = what.stage.tracks["ball"]
        laws, contacts = what.stage.laws, what.contacts
        floor_hits = [c for c in contacts if c.surface == "floor"]
        for before, after in itertools.pairwise(floor_hits):
            assert after.speed == pytest.approx(laws["restitution"] * before.speed, rel=1e-9)
        fine = np.linspace(0, CLATTER.seconds, 8001)
        path = track(fine)
        assert path[:, 1].min() > laws["floor"] + radius - 1e-9
        assert path[:, 0].min() > 0.04 + radius - 1e-9
        assert path[:, 0].max() < 0.96 - radius + 1e-9
        step = fine[1]
        assert np.abs(np.diff(path, axis=0)).max() < 4 * step  # no jumps
        start = contacts[0].time + 0.01
        if len(contacts) > 1 and contacts[1].time - start > 0.1:
            t = np.array([start, start + 0.04, start + 0.08])
            pull = np.diff(track(t)[:, 1], 2)[0] / 0.04**2
            assert pull == pytest.approx(-laws["gravity"], rel=1e-6)
        energy = 0.5 * np.gradient(path[:, 1], step) ** 2 + laws["gravity"] * path[:, 1]
        between = fine > 0.06 * CLATTER.seconds + step  # after the throw
        for contact in contacts:
            between &= abs(fine - contact.time) > 2 * step
        kept = energy[between][2:-2]
        assert np.diff(kept).max() < 1e-2  # energy is lost, never won


def test_truth_agrees_with_pixels() -> None:
    """A bright ball on dark ground, tracked by its centre of mass."""
    for index in range(6):
        what = scene("track", index, PLAIN)
        bare = replace(what, stage=replace(what.stage, actors=()))
        difference = clatter.frames(what).astype(float) - clatter.frames(bare)
        mass = difference.sum(axis=3)
        y, x = np.mgrid[: PLAIN.height, : PLAIN.width]
        truth = np.array(what.truth()["tracks"]["ball"]["pixels"])
        radius = what.truth()["tracks"]["ball"]["size_px"]
        whole = (truth[:, 1] > radius + 1) & (truth[:, 1] < PLAIN.height * 0.99 - radius)
        total = mass.sum(axis=(1, 2))
        centre = np.stack([(mass * x).sum(axis=(1, 2)), (mass * y).sum(axis=(1, 2))], 1) / total[:, None]
        assert whole.sum() > 60
        assert np.abs(centre - truth)[whole].max() < 0.1
        level = mass.max(axis=(1, 2))
        assert np.abs(np.sqrt(total / level / np.pi) - radius)[whole].max() < 0.3


def test_the_camera_follows_its_projection() -> None:
    """With a shaken, zoomed camera the ball is still where the truth says."""
    shaken = [s for k in range(20) if (s := scene("camera", k, only("bounce"))).camera.shake]
    what = shaken[0]
    ball = next(actor for actor in what.stage.actors if getattr(actor, "ball", False))
    with_ball = clatter.frames(replace(what, stage=replace(what.stage, actors=(ball,))))
    without = clatter.frames(replace(what, stage=replace(what.stage, actors=())))
    changed = (with_ball.astype(int) - without != 0).any(axis=3)
    truth = np.array(what.truth()["tracks"]["ball"]["pixels"])
    for k in range(0, CLATTER.frames, 7):
        rows, columns = np.nonzero(changed[k])
        if rows.min() > 0 and columns.min() > 0:
            assert (columns.min() + columns.max()) / 2 == pytest.approx(truth[k, 0], abs=1.0)
            assert (rows.min() + rows.max()) / 2 == pytest.approx(truth[k, 1], abs=1.0)


@pytest.mark.parametrize("event", TIGHT)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_sound_starts_at_the_sample_of_the_contact(event: str, rate: int) -> None:
    for index in range(3):
        what = scene("onset", index, only(event))
        bodies, n = what.stage.bodies, int(CLATTER.seconds * rate)
        for contact in what.contacts:
            alone = sound.clatter(bodies, (contact,), n, rate, Draws("alone"))
            first = int(np.flatnonzero(alone)[0])
            assert 0 <= first - contact.time * rate < 2.0


def test_each_contact_is_loud_against_what_rings_before() -> None:
    for index in range(16):
        what = scene("test", 2 * index)
        samples, rate = clatter.audio(what).astype(float), CLATTER.rate
        assert not samples[: int(np.ceil(what.onsets[0] * rate))].any()
        for before, contact in zip((0.0, *what.onsets), what.contacts):
            k = int(np.ceil(contact.time * rate))
            if contact.time - before > 0.3 and contact.strength > 0.25 and k + 320 < len(samples):
                assert abs(samples[k : k + 320]).max() > 3 * abs(samples[k - 160 : k]).max(), (what.id, contact)


def test_harder_blows_are_louder_and_brighter() -> None:
    what = scene("test", 0, only("stick"))
    contact = what.contacts[0]
    loud, soft = (
        sound.clatter(what.stage.bodies, (replace(contact, strength=s),), 64000, 16000, Draws("x")) for s in (1.0, 0.3)
    )
    assert abs(loud).max() > 2.5 * abs(soft).max()
    bands = [abs(np.fft.rfft(x))[16000:].sum() / abs(np.fft.rfft(x))[:16000].sum() for x in (loud, soft)]
    assert bands[0] > bands[1]


@pytest.mark.parametrize("name", LOOSE)
def test_ambience_fills_the_clip_evenly(name: str) -> None:
    samples = sound.ambience(name, 64000, 16000, Draws("even", name)).astype(float)
    level = np.sqrt((samples.reshape(8, -1) ** 2).mean(axis=1))
    assert level.min() > 0.01
    assert level.max() < 8 * level.min()
    assert abs(samples).max() < 1.0
    assert abs(samples.mean()) < 0.01


def test_twins_share_the_pictures_and_differ_in_sound() -> None:
    for index in range(0, 16, 2):
        tight = scene("test", index, SMALL)
        loose = tight.with_sound("loose")
        np.testing.assert_array_equal(clatter.frames(tight), clatter.frames(loose))
        assert tight.video_text == loose.video_text
        assert tight.audio_text != loose.audio_text
        assert tight.id != loose.id
        assert loose.tags["sync"] == "loose"
        assert loose.onsets == []
        assert loose.truth()["contacts"] == tight.truth()["contacts"]
        assert np.abs(clatter.audio(tight) - clatter.audio(loose)).max() > 0.05
        assert loose.with_sound("tight").text == tight.text
    with pytest.raises(ValueError, match="rain scene has no 'tight' soundtrack"):
        scene("test", 1).with_sound("tight")


@pytest.mark.parametrize(
    "spec",
    [
        WorldSpec(64, 40, fps=Fraction(30000, 1001), seconds=1.0, rate=22050),
        WorldSpec(33, 57, fps=8, seconds=2.0, rate=8000, channels=1),
        WorldSpec(512, 288, fps=2, seconds=1.5, rate=48000),
        replace(DESK, width=32, height=32),
    ],
)
def test_any_size_and_rate(spec: WorldSpec) -> None:
    for index in range(len(spec.events)):
        clip = clatter.render(scene("size", index, spec))
        video, audio = clip.need_video(), clip.need_audio()
        assert video.frames.shape == (spec.frames, spec.height, spec.width, 3)
        assert video.frames.dtype == np.uint8
        assert video.fps == Fraction(spec.fps)
        assert audio.samples.shape == (1, spec.samples)
        assert audio.samples.dtype == np.float32
        assert video.frames.std() > 2


def test_one_scene_filmed_twice_is_the_same_scene() -> None:
    what = scene("test", 0)
    small = clatter.render(what, replace(CLATTER, width=64, height=64, fps=12, rate=8000))
    large = clatter.frames(what).astype(float)[::2].reshape(48, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(large - small.need_video().frames).mean() < 6
    with pytest.raises(ValueError, match="seconds, gravity and plain belong to the scene"):
        clatter.render(what, DESK)


def test_pictures_move_and_ambient_scenes_too() -> None:
    for index in range(16):
        pictures = clatter.frames(scene("test", index, SMALL)).astype(int)
        assert (np.abs(np.diff(pictures, axis=0)).max(axis=(1, 2, 3)) > 8).mean() > 0.25, EVENTS[index]


def test_broken_laws_break_what_they_say() -> None:
    for index in range(8):
        law_abiding = scene("fault", index, only("bounce"))
        floor = law_abiding.stage.laws["floor"] + law_abiding.stage.laws["radius"]
        fine = np.linspace(0, 4, 4001)
        paths = {fault: law_abiding.unphysical(fault).stage.tracks["ball"][0](fine)[:, 1] for fault in FAULTS}
        assert paths["hover"].min() > floor + 0.11
        assert paths["sink"].min() < floor - 0.08
        assert max(abs(np.diff(paths["weightless"][250:900], 2))) < 1e-12
        speeds = [c.speed for c in law_abiding.unphysical("gain").contacts if c.surface == "floor"]
        assert len(speeds) > 1
        assert all(b > a for a, b in itertools.pairwise(speeds))
        assert law_abiding.unphysical("floaty").contacts[0].time > law_abiding.contacts[0].time
        assert law_abiding.unphysical("hover").truth()["fault"] == "hover"


def test_an_occluder_hides_the_landing() -> None:
    spec = replace(CLATTER, events=("bounce",), occluder=True)
    what = scene("hidden", 0, spec)
    ball = next(actor for actor in what.stage.actors if getattr(actor, "ball", False))
    without = replace(what, stage=replace(what.stage, actors=tuple(a for a in what.stage.actors if a is not ball)))
    changed = (clatter.frames(what) != clatter.frames(without)).any(axis=3).sum(axis=(1, 2))
    contact = what.truth()["contacts"][0]["frame"]
    assert changed[contact] < 0.75 * changed.max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": "explosion"}, "no event 'explosion'"),
        ({"sound": "medium"}, "no 'medium' soundtrack"),
        ({"event": "rain", "fault": "hover"}, "no fault 'hover' for rain"),
        ({"event": "bounce", "fault": "magic"}, "no fault 'magic'"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene("test", 0, **arguments)


def test_worlds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="channels"):
        WorldSpec(channels=2)
    with pytest.raises(ValueError, match="positive"):
        WorldSpec(width=0)
