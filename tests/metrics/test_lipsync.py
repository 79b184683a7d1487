"""Lip sync: lags, what becomes of clips that cannot be scored, a whole evaluation, and parity on a real clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip, Video
from avbench.errors import NotApplicable
from avbench.metrics import faces, lipsync, reencode
from avbench.metrics.encoders import s3fd, syncnet
from avbench.metrics.mfcc import mfcc
from avbench.registry import metrics
from tests.hashed import close
from tests.metrics.alignment import MEDIA, synthetic
from tests.metrics.synchrony import VALUES, arrays, like, weights

PROTOCOLS = ("", "@small-faces", "@syncnet_python", "@latentsync")
NAMES = [f"{name}{protocol}" for name in ("sync_c", "sync_d", "lip_offset") for protocol in PROTOCOLS]
GOLDEN = VALUES["syncnet"]
CROPS = MEDIA.parent / "parity" / "pipeline" / "media"


# Lags -----------------------------------------------------------------------------------------------------------------


def lagging(windows: int = 40, lag: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Lips e_i, sound e_(i + lag): the sound comes `lag` windows early."""
    axes = np.eye(64)
    return axes[:windows], axes[(np.arange(windows) + lag) % 64]


def test_the_published_example() -> None:
    distances = lipsync.lag_distances(*lagging())
    found, curve = lipsync.sync(distances), distances.mean(axis=0)
    assert (found.c, found.d, found.offset) == (pytest.approx(1.256364, abs=1e-6), pytest.approx(0.075007, abs=1e-6), 3)
    assert [curve[0], curve[15]] == pytest.approx([1.2589, 1.4142], abs=1e-4)
    assert distances[:4, 12] == pytest.approx([1, 1, 1, 8e-6], abs=1e-5)


@pytest.mark.parametrize("lag", [-15, -4, 0, 7, 15])
def test_a_positive_offset_is_an_early_sound(lag: int) -> None:
    assert lipsync.sync(lipsync.lag_distances(*lagging(lag=lag))).offset == lag


def test_the_first_of_equal_lags_is_taken() -> None:
    assert lipsync.sync(np.ones((5, 31))).offset == 15
    assert lipsync.sync(np.ones((5, 31))).c == 0.0


def test_confidence_over_time_is_of_the_middle_frame() -> None:
    times, values = lipsync.confidence_over_time(lipsync.lag_distances(*lagging()), first=10)
    assert len(times) == len(values) == 40
    assert times[:2] == pytest.approx([0.48, 0.52])
    assert values[20] == pytest.approx(1.331371, abs=1e-5)  # the median over lags, nothing taken off


# Protocols and statuses -----------------------------------------------------------------------------------------------


def test_variants_name_what_they_do_otherwise() -> None:
    for name in NAMES:
        card = metrics.get(name).card
        assert card.id == name and bool(card.differs) == bool(card.protocol)
        assert card.fields and card.text


def bright(images: torch.Tensor) -> torch.Tensor:
    """A detector for the tests: the bounding box of what is red, of what is green, of what is blue."""
    found = torch.zeros(len(images), 100, 5)
    for place, image in enumerate(images.numpy()):
        row = 0
        for channel in range(3):
            mask = (image[..., channel] > 150) & (image.sum(axis=2) < 400)
            if mask.any():
                ys, xs = np.nonzero(mask)
                sides = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / np.array(mask.shape[::-1] * 2)
                found[place, row] = torch.tensor([0.99, *sides])
                row += 1
    return found


def people(*colours: int, seconds: float = 3.0, side: int = 128, fps: int = 25, silent: bool = False) -> Clip:
    """Squares of these colours (0 red, 1 green, 2 blue) side by side on black, and noise."""
    frames = np.zeros((round(seconds * fps), 200, 480, 3), dtype=np.uint8)
    for place, colour in enumerate(colours):
        left = 8 + 160 * place
        frames[:, 32 : 32 + side, left : left + side, colour] = 230
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * 16000))).astype(np.float32)
    return Clip(Video(frames, np.arange(len(frames)) / fps, Fraction(fps)), Audio(samples * (not silent), 16000))


def tracked(clip: Clip, name: str = "sync_c") -> dict[str, np.ndarray]:
    """Tracks of a clip as the metric of this name sees it."""
    view = metrics.get(name).tracks.view
    found = view.requires[0].view(clip)
    return view(clip, bright(torch.from_numpy(found)).numpy())


def test_tracks_of_two_people() -> None:
    found = tracked(people(0, 2))
    assert found["first"].tolist() == [0, 0] and found["frames"].tolist() == [75, 75]
    assert found["windows"].tolist() == [70, 70]
    assert found["side"] == pytest.approx([128, 128])
    assert found["path"].shape == (150, 3)
    assert found["path"][40] == pytest.approx([64, 72, 96]) and found["path"][75 + 40] == pytest.approx([64, 232, 96])


def test_windows_of_two_people_lie_one_after_the_other() -> None:
    clip = people(0, 2)
    found, metric = tracked(clip), metrics.get("sync_c")
    lips, sound = metric.lips.view(clip, found), metric.sound.view(clip, found)
    assert lips.shape == (140, 5, 224, 224, 3) and sound.shape == (140, 13, 20)
    assert lips[:70, ..., 0].mean() > 50 > lips[:70, ..., 2].mean() and lips[70:, ..., 2].mean() > 50
    assert np.array_equal(sound[:70], sound[70:])  # they hear the same
    assert sound[3] == pytest.approx(mfcc(reencode.material(clip, "none").wave)[12:32].T, abs=1e-4)


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (people(), "no_face: no face in any frame"),
        (people(0, seconds=2.0), "too_short: 50 frames at 25 fps; a track needs 51"),
        (people(0, side=96), "face_too_small: the largest is 96 px"),
        (people(0, silent=True), "silent"),
        (Clip(people(0).video, None), "no_audio"),
        (Clip(None, people(0).audio), "no_video"),
        (synthetic(96, 96, frames=75, fps=25, seconds=3.0), "face_too_small: 96x96"),
        (Clip(people(0).video, Audio(np.ones((1, 3200), np.float32), 16000)), "too_short: picture and sound of a face"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_has_a_reason(clip: Clip, reason: str) -> None:
    with pytest.raises(NotApplicable) as caught:
        tracked(clip)
    assert str(caught.value).startswith(reason)
    assert caught.value.status == "not_applicable"


def test_a_face_that_comes_and_goes_is_no_track() -> None:
    clip = people(0)
    assert clip.video is not None
    clip.video.frames[30:60] = 0
    with pytest.raises(NotApplicable, match="no_track"):
        tracked(clip)


def test_protocols_differ_in_what_they_accept() -> None:
    assert len(tracked(people(0, side=96), "sync_c@small-faces")["first"]) == 1
    assert len(tracked(people(0), "sync_c@latentsync")["first"]) == 1
    with pytest.raises(NotApplicable, match="too_short"):
        tracked(people(0), "sync_c@syncnet_python")
    assert len(tracked(people(0, seconds=4.2), "sync_c@syncnet_python")["first"]) == 1
    assert len(tracked(people(0, silent=True), "sync_c@latentsync")["first"]) == 1


def embeddings() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Two tracks: the first is off by three frames but fits well, the second by -2 and fits badly."""
    good, bad = lagging(lag=3), lagging(lag=-2)
    noise = np.random.default_rng(0).normal(0, 0.2, (40, 64))
    tracks = {
        "first": np.array([0, 5]), "frames": np.array([45, 45]), "windows": np.array([40, 40]),
        "side": np.array([130.0, 180.0]),
    }  # fmt: skip
    return tracks, np.concatenate([bad[0] + noise, good[0]]), np.concatenate([bad[1] - noise, good[1]])


def test_the_best_track_speaks_for_the_clip() -> None:
    c, d, offset = (metrics.get(name).score(*embeddings()) for name in ("sync_c", "sync_d", "lip_offset"))
    assert c[""] == pytest.approx(1.256364, abs=1e-6) and c["mean"] < c[""]
    assert (c["tracks"], c["side"]) == (2, 180.0)
    assert d[""] == pytest.approx(0.075007, abs=1e-6) == d["lowest"] and d["mean"] > d[""]
    assert offset == {"": pytest.approx(0.12), "frames": 3, "tracks": 2}


def test_latentsync_takes_the_mean_of_all_tracks() -> None:
    for name in ("sync_c", "sync_d"):
        published = metrics.get(f"{name}@latentsync").score(*embeddings())
        assert published[""] == pytest.approx(published["mean"])
    assert metrics.get("lip_offset@latentsync").score(*embeddings())["frames"] == 0  # of 3 and -2


def test_timeline_names_every_face() -> None:
    found = metrics.get("sync_c").timeline(*embeddings())
    assert [one.name for one in found] == ["lip sync, face 1", "lip sync, face 2"]
    assert found[1].times is not None and found[1].times[0] == pytest.approx(7 / 25)


@pytest.mark.heavy
def test_a_whole_evaluation(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clips, one command: two values, one reason, and weights that nobody published."""
    import json

    from safetensors.torch import save_file

    import avbench
    from avbench.encode import write_clip

    monkeypatch.setattr(s3fd, "faces", lambda context: lambda images: bright(images.cpu()))
    save_file(weights("syncnet"), tmp_path / "syncnet.safetensors")
    (tmp_path / "s3fd.pth").write_bytes(b"not read by the detector of this test")
    made = {"one": people(0, seconds=2.2), "two": people(0, 2, seconds=2.2), "none": people(seconds=2.2)}
    for name, clip in made.items():
        write_clip(tmp_path / "clips" / f"{name}.mp4", clip)
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"id": name, "text": name}) for name in made))
    run = avbench.evaluate(
        str(tmp_path / "clips"), str(tmp_path / "prompts.jsonl"), "sync_c,sync_d,lip_offset", device="cpu",
        weights={"syncnet_v2": tmp_path / "syncnet.safetensors", "s3fd": tmp_path / "s3fd.pth"}, out=tmp_path / "runs",
    )  # fmt: skip
    scores = run.scores.set_index(["sample", "metric", "field"]).sort_index()
    assert set(scores.loc["none", "status"]) == {"not_applicable"} and scores.loc["none", "value"].isna().all()
    assert scores.loc[("one", "sync_c", ""), "value"] > 0
    assert scores.loc[("two", "sync_c", "tracks"), "value"] == 2
    assert sorted(run.manifest["unverified_weights"]) == ["s3fd", "syncnet_v2"]
    assert run.manifest["counts"]["failed"] == 0


# Parity ---------------------------------------------------------------------------------------------------------------


def test_scores_from_the_reference_distances() -> None:
    found = lipsync.sync(arrays()["demo1.dists"].astype(np.float64))
    assert found.c == pytest.approx(GOLDEN["confidence"], abs=1e-4)
    assert found.d == pytest.approx(GOLDEN["min_dist"], abs=1e-4)
    assert found.offset == GOLDEN["offset"]


def networks(lips: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings by SyncNet with hashed weights."""
    network = syncnet.build(weights("syncnet"))
    with torch.inference_mode():
        seen = [
            network.lips(torch.from_numpy(lips[i : i + 8, ..., ::-1].copy()).permute(0, 4, 1, 2, 3).float())
            for i in range(0, len(lips), 8)
        ]
        return torch.cat(seen).numpy(), network.audio(torch.from_numpy(sound)).numpy()


@pytest.mark.parity
@pytest.mark.heavy
def test_parity_from_the_reference_crops() -> None:
    """From the crop video and its sound: pixels, MFCCs, embeddings and scores of joonson/syncnet_python.

    One of the 126 JPEGs (the sixteenth) comes out with another quantiser than the reference's ffmpeg chose.
    """
    if not CROPS.is_dir():
        pytest.skip("the reference's crop video (../shared/parity/pipeline/media) is not on this machine")
    golden = arrays()
    pictures = reencode.jpegs(reencode.decoded((CROPS / "syncnet_crop_demo1.avi").read_bytes(), "video"), ())
    frames = np.stack([reencode.read_jpeg(picture) for picture in pictures])
    for name, expected in GOLDEN["crops"].items():
        assert like(frames[int(name[:6]) - 1, ..., ::-1], expected, 1e-6)
    wave = reencode.waveform(reencode.decoded((CROPS / "syncnet_crop_demo1_eval.wav").read_bytes(), "audio"))
    columns = mfcc(wave)
    assert np.abs(columns - golden["demo1.mfcc"]).max() < 1e-5  # the golden is float32
    count = min(len(frames), len(wave) // 640) - lipsync.LOST
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(frames, 5, axis=0)[:count], -1, 1)
    heard = np.lib.stride_tricks.sliding_window_view(columns, 20, axis=0)[::4][:count].astype(np.float32)
    seen, said = networks(windows, heard)
    assert close(seen[::10], golden["demo1.lip_emb_every10"]) and close(said[::10], golden["demo1.aud_emb_every10"])
    distances = lipsync.lag_distances(seen, said)
    same = np.r_[0:11, 16:count]
    assert np.abs(distances[same] - golden["demo1.dists"][same]).max() < 5e-4  # of about 450, in float32
    found = lipsync.sync(distances)
    assert found.c == pytest.approx(GOLDEN["confidence"], rel=1e-4)
    assert found.d == pytest.approx(GOLDEN["min_dist"], rel=1e-4) and found.offset == GOLDEN["offset"]


@pytest.mark.parity
@pytest.mark.heavy
def test_parity_from_the_clip(media: Path) -> None:
    """The whole way from the file, copies and crops included, with the box that the reference run was given.

    The reference's first step was another encode (x264, qp 10) and its MP3 is of another build: close, not equal.
    """
    from avbench.media import decode

    clip = decode(media / "real" / "talkinghead_latentsync_demo1.mp4")
    video, audio = clip.need_video(), clip.need_audio()
    video = Video(video.frames[:125], video.times[:125], video.fps)
    clip = Clip(video, Audio(audio.samples[:, : 5 * audio.rate], audio.rate), clip.info)
    source = reencode.material(clip, "avi")
    assert source.count == GOLDEN["frames"]
    assert abs(source.wave[:80640].std() / GOLDEN["wave"]["std"] - 1) < 0.01
    track = faces.FaceTrack(0, np.repeat(np.array(GOLDEN["box_xyxy"])[None], source.count, axis=0), source.count)
    tracks = {
        "first": np.array([0]), "frames": np.array([source.count]), "side": np.array([track.side]),
        "windows": np.array([lipsync.windows_of(track, source)]), "path": faces.path(track.boxes),
    }  # fmt: skip
    metric = metrics.get("sync_c@syncnet_python")
    lips, sound = metric.lips.view(clip, tracks), metric.sound.view(clip, tracks)
    for name in ("000001.jpg", "000061.jpg"):
        assert abs(lips[int(name[:6]) - 1, 0].mean() - GOLDEN["crops"][name]["mean"]) < 0.3
    found = lipsync.sync(lipsync.lag_distances(*networks(lips, sound)))
    assert found.d == pytest.approx(GOLDEN["min_dist"], rel=1e-3)
    assert found.c == pytest.approx(GOLDEN["confidence"], rel=1e-2) and found.offset == GOLDEN["offset"]
