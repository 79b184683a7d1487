"""VBench's dimensions: formulas by hand, frames handed to motion networks, and parity on real clips."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable, SampleError
from avbench.features import Context
from avbench.metric import Rows
from avbench.metrics import vbench
from avbench.metrics.encoders import amt, differences, dino, raft, viclip
from avbench.metrics.views_quality import Pairs, Spacing, Triples
from avbench.registry import metrics
from tests.hashed import close
from tests.metrics.alignment import synthetic
from tests.metrics.quality import VBENCH, agrees, arrays, compute, real, score, weights

DIMENSIONS = (
    "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
    "imaging_quality", "aesthetic_quality", "text_consistency",
)  # fmt: skip
FLICKER = {vbench.DIFFERENCES: differences.load(Context(None, None))}


def video(*levels: int, size: tuple[int, int] = (128, 160), fps: int = 8) -> Clip:
    """Frames of one grey level each."""
    frames = np.stack([np.full((*size, 3), level, np.uint8) for level in levels])
    return Clip(Video(frames, np.arange(len(levels)) / fps, Fraction(fps)))


@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_dimension_has_a_default_and_the_published_protocol(name: str) -> None:
    default, published = metrics.get(name).card, metrics.get(f"{name}@vbench").card
    assert not default.differs and published.differs and default.better == published.better == "higher"


# --- consistency ---


def by_hand(features: np.ndarray) -> list[float]:
    """The sum of section 3.1 of VBench's code, frame by frame."""
    unit = [one / np.linalg.norm(one) for one in features.astype(np.float64)]
    return [(max(0, now @ unit[i]) + max(0, now @ unit[0])) / 2 for i, now in enumerate(unit[1:])]


@given(st.integers(2, 9), st.integers(0, 99))
def test_likeness_is_the_mean_of_two_positive_cosines(count: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    assert vbench.likeness(features) == pytest.approx(by_hand(features))


def test_clips_weigh_alike_or_pairs_do() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.standard_normal((3, 4)) + 1, rng.standard_normal((9, 4)) + 1
    clips = [metrics.get("subject_consistency@vbench").score(one) for one in (short, long)]
    rows = Rows(["a", "b"], {"frames": [short, long]})
    pairs = metrics.get("subject_consistency@vbench-pairs").reduce(rows, None)
    assert pairs == pytest.approx((2 * clips[0] + 8 * clips[1]) / 10) and abs(pairs - np.mean(clips)) > 1e-3
    assert metrics.get("background_consistency@vbench-pairs").reduce(rows, None) == pairs


def test_one_frame_has_no_consistency() -> None:
    with pytest.raises(NotApplicable, match="too_few_frames"):
        vbench.SubjectConsistency().score(np.ones((1, 4)))


# --- flicker ---


def test_flicker_is_the_mean_difference_of_neighbours() -> None:
    for name in ("temporal_flickering", "temporal_flickering@vbench"):
        assert score(name, video(10, 20, 20, 5), FLICKER) == pytest.approx(1 - (10 + 0 + 15) / 3 / 255)
    assert score("temporal_flickering", video(0, 255), FLICKER) == 0
    assert score("temporal_flickering", video(7, 7), FLICKER) == 1
    with pytest.raises(NotApplicable, match="too_few_frames"):
        score("temporal_flickering", video(7), FLICKER)


def test_flicker_has_a_curve_over_time() -> None:
    frames = compute(vbench.TemporalFlickering.frames, video(10, 20, 5, fps=10), FLICKER, {})
    (track,) = vbench.TemporalFlickering().timeline(frames)
    assert track.times == pytest.approx([0.1, 0.2]) and track.values == pytest.approx([10, 15])


def flows(*top2: float, side: float = 256) -> np.ndarray:
    found = np.zeros((len(top2), 5), np.float32)
    found[:, vbench.TOP2], found[:, vbench.SIDE] = top2, side
    return found


@pytest.mark.parametrize(
    ("moving", "frames", "ends", "side", "static"),
    [
        (0, 16, 0, 256, True), (2, 16, 0, 256, True), (3, 16, 0, 256, False),  # at most round(16 / 8) pairs
        (2, 16, 12, 256, True), (2, 16, 12.5, 256, False),  # the ends: 3 * 2 * 2 pixels
        (3, 20, 0, 256, False), (2, 20, 0, 256, True), (4, 28, 0, 256, True),  # 2.5 and 3.5 go to the even number
        (16, 17, 0, 512, True),  # 3.5 pixels are not motion at twice the size
    ],
)  # fmt: skip
def test_static_filter(moving: int, frames: int, ends: float, side: float, static: bool) -> None:
    neighbours = flows(*[3.5] * moving, *[3.0] * (frames - 1 - moving), side=side)
    assert vbench.is_static(neighbours, flows(0, ends, side=side)) is static


def test_a_moving_clip_has_no_flicker_under_the_filter() -> None:
    metric = metrics.get("temporal_flickering@vbench-static")
    frames = {"differences": np.array([51.0]), "times": np.array([0.1])}
    assert metric.score(frames, flows(0), flows(0, 0)) == pytest.approx(0.8)
    with pytest.raises(NotApplicable, match="not_static"):
        metric.score(frames, flows(9), flows(0, 0))


# --- motion ---


def test_pairs_and_triples_are_views_of_the_clip() -> None:
    clip = video(*range(6))
    pairs, triples = Pairs()(clip), Triples()(clip)
    assert pairs[:, :, 0, 0, 0].tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert triples[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [2, 3, 4]]  # the last of an even number is not used
    assert np.shares_memory(pairs, clip.video.frames) and np.shares_memory(triples, clip.video.frames)
    assert Pairs("wrap")(clip)[:, :, 0, 0, 0].tolist() == [[0, 5], [5, 0]]
    assert Pairs("8fps")(video(*range(7), fps=25))[:, :, 0, 0, 0].tolist() == [[0, 3], [3, 6]]


def test_what_motion_cannot_be_seen_in() -> None:
    for view, count in ((Pairs(), 1), (Pairs("8fps"), 1), (Triples(), 2)):
        with pytest.raises(NotApplicable, match="too_few_frames"):
            view(video(*range(count)))
    with pytest.raises(NotApplicable, match="too_few_frames"):
        Pairs("8fps")(video(1, 2, 3, fps=25))  # one frame is left
    for view, largest in ((Pairs(), 120), (Triples(), 112)):
        assert len(view(video(1, 2, 3, size=(largest + 1, 300))))
        with pytest.raises(SampleError, match=rf"300x{largest}; sides must be longer than {largest}"):
            view(video(1, 2, 3, size=(300, largest)))


EIGHTHS = np.full(9, 1 / 8)  # seconds between the frames of pairs


def motion(*pixels: float, inside: Any = 0.0, side: float = 256) -> np.ndarray:
    found = np.zeros((len(pixels), 5), np.float32)
    found[:, vbench.TOP5], found[:, vbench.TOP5_INSIDE], found[:, vbench.SIDE] = pixels, inside, side
    return found


@pytest.mark.parametrize(("frames", "needed"), [(6, 2), (10, 2), (14, 4), (18, 4), (22, 6), (42, 10), (84, 21)])
def test_how_many_pairs_must_move(frames: int, needed: int) -> None:
    metric = metrics.get("dynamic_degree@vbench")
    still = [1.0] * (frames - 1 - needed)
    assert metric.score(motion(*[6.1] * needed, *still)) == 1
    assert metric.score(motion(*[6.1] * (needed - 1), 6.0, *still)) == 0  # strictly more than 6 pixels


def test_two_frames_always_move_in_vbench_and_not_by_default() -> None:
    assert metrics.get("dynamic_degree@vbench").score(motion(0.0)) == 1
    assert metrics.get("dynamic_degree").score(motion(9.0), EIGHTHS[:1]) == {"": 0, "speed": 0}
    assert metrics.get("dynamic_degree").score(motion(0.0, inside=7.0), EIGHTHS[:1]) == {"": 1, "speed": 7}


def test_the_threshold_grows_with_the_frame() -> None:
    for side, moves in ((448, 1), (512, 0)):
        assert metrics.get("dynamic_degree@vbench").score(motion(*[11.0] * 9, side=side)) == moves
        assert metrics.get("dynamic_degree").score(motion(*[11.0] * 9, inside=11.0, side=side), EIGHTHS)[""] == moves
    assert metrics.get("dynamic_degree").score(motion(0.0, inside=12.0, side=512), EIGHTHS[:1])["speed"] == 6


@pytest.mark.parametrize("fps", [10, 12, 15, 16, 20, 24, 25, 30, 60])
def test_speed_is_that_of_an_eighth_of_a_second_at_any_frame_rate(fps: int) -> None:
    clip = video(*range(fps * 2), fps=fps)
    spacing = Spacing("8fps")(clip)
    assert len(spacing) == len(Pairs("8fps")(clip))
    for speed, moves in ((5.5, 0), (6.5, 1)):
        found = metrics.get("dynamic_degree").score(motion(*speed * 8 * spacing, inside=speed * 8 * spacing), spacing)
        assert found == {"": moves, "speed": pytest.approx(speed, rel=1e-5)}


def test_smoothness_reads_its_own_column() -> None:
    errors = np.array([[51.0, 50.0], [0.0, 1.0]], np.float32)
    assert metrics.get("motion_smoothness@vbench").score(errors) == pytest.approx(0.9)
    assert metrics.get("motion_smoothness").score(errors) == pytest.approx(0.9)
    errors[0, vbench.EXACT] = 101
    assert metrics.get("motion_smoothness").score(errors) == pytest.approx(0.8)


def test_frame_scores_are_averaged_and_scaled() -> None:
    assert metrics.get("imaging_quality@vbench").score(np.array([40.0, 60.0])) == 0.5
    assert metrics.get("aesthetic_quality@vbench").score(np.array([4.0, 6.0])) == 0.5
    assert metrics.get("text_consistency").score(np.array([[3.0, 0]]), np.array([[-2.0, 0]])) == -1


# --- what the encoders are shown ---


def test_sizes_of_the_views() -> None:
    clip = synthetic(720, 1280, frames=9)
    assert vbench.SubjectConsistencyVBench.frames.view(clip).shape == (9, 224, 398, 3)
    assert vbench.ImagingQualityVBench.frames.view(clip).shape == (9, 288, 512, 3)
    background = vbench.BackgroundConsistencyVBench.frames.view(clip)
    assert background.shape == (9, 224, 224, 3) and background.min() < -0.05 and background.max() > 1.05
    text = vbench.TextConsistencyVBench.video.view(clip)
    assert text.shape == (1, 8, 224, 224, 3) and text.dtype == np.uint8
    for feature in (vbench.SubjectConsistency.frames, vbench.BackgroundConsistency.frames):
        assert feature.view(clip).dtype == np.uint8


# --- parity on real clips ---


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Context]:
    """A context for one checkpoint with hashed weights, written once (ViCLIP's are 1.7 GB)."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")

    def make(name: str, manifest: str) -> Context:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            save_file(weights(manifest), path)
        return Context(torch.device("cpu"), torch.float32, {name: path})

    return make


@pytest.mark.parity
@pytest.mark.parametrize("name", VBENCH["temporal_flickering"])
def test_flicker_parity(name: str) -> None:
    clip = real(name)
    found = compute(vbench.TemporalFlickering.frames, clip, FLICKER, {})["differences"]
    np.testing.assert_allclose(found, arrays()[f"vbench.flicker_mae_{name}"], rtol=1e-5)
    golden = VBENCH["temporal_flickering"][name]["score"]
    assert score("temporal_flickering@vbench", clip, FLICKER) == pytest.approx(golden, abs=1e-7)


def normalised(frames: np.ndarray) -> np.ndarray:
    """As CLIP's encoders see them: [..., 3, H, W]."""
    from avbench.metrics.encoders.clip import MEAN, STD

    x = frames.astype(np.float32) / (255 if frames.dtype == np.uint8 else 1)
    return np.ascontiguousarray(np.moveaxis((x - np.float32(MEAN)) / np.float32(STD), -1, -3))


@pytest.mark.parity
@pytest.mark.parametrize("name", VBENCH["overall_consistency"])
def test_viclip_is_shown_what_vbench_shows_it(name: str) -> None:
    clip, golden = real(name), VBENCH["overall_consistency"][name]
    assert vbench.EIGHT(clip.video).tolist() == golden["frame_indices"]
    assert agrees(normalised(vbench.TextConsistencyVBench.video.view(clip)), golden["input"])


@pytest.mark.parity
@pytest.mark.parametrize("name", VBENCH["background_consistency"])
def test_clip_is_shown_what_vbench_shows_it(name: str) -> None:
    shown = vbench.BackgroundConsistencyVBench.frames.view(real(name))
    assert agrees(normalised(shown), VBENCH["background_consistency"][name]["input"])


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", VBENCH["overall_consistency"])
def test_text_consistency_parity(name: str, context: Callable[[str, str], Context]) -> None:
    made, golden = context("viclip", "viclip_l"), VBENCH["overall_consistency"][name]
    networks = {vbench.VICLIP_VIDEO: viclip.vision(made), vbench.VICLIP_TEXT: viclip.text(made)}
    clip, texts = real(name), {"video_text": golden["prompt"]}
    video = compute(vbench.TextConsistencyVBench.video, clip, networks, texts)
    text = compute(vbench.TextConsistencyVBench.text, clip, networks, texts)
    for found, side in ((video, "video"), (text, "text")):
        expected = arrays()[f"vbench.viclip_{side}_{name}"]
        assert close(found[0] / np.linalg.norm(found[0]) * np.linalg.norm(expected), expected)
    assert vbench.TextConsistencyVBench().score(video, text) == pytest.approx(golden["score"], abs=1e-5)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", VBENCH["subject_consistency"])
def test_dino_parity_on_first_and_last_frames(name: str, context: Callable[[str, str], Context]) -> None:
    """A square clip and a wide one, whose position table must be resized as the reference does it."""
    frames = real(name).video.frames[[0, -1]]
    clip = Clip(Video(frames, np.array([0.0, 1.0]), Fraction(1)))
    network: dict[Any, Any] = {vbench.DINO: dino.image(context("dino_vitb16", "dino_vitb16"))}
    found = compute(vbench.SubjectConsistencyVBench.frames, clip, network, {})
    for one, which in zip(found, ("first", "last")):
        assert close(one, arrays()[f"vbench.subj_{which}_{name}"])


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", VBENCH["motion_smoothness"])
def test_motion_smoothness_parity(name: str, context: Callable[[str, str], Context]) -> None:
    golden = VBENCH["motion_smoothness"][name]
    whole = real(name.partition("@")[0]).video
    count = golden["limited_to_first_n_frames"]
    clip = Clip(Video(whole.frames[:count], whole.times[:count], whole.fps))
    network: dict[Any, Any] = {vbench.AMT: amt.midpoint_error(context("amt_s", "amt_s"))}
    errors = compute(vbench.MotionSmoothness.errors, clip, network, {})
    np.testing.assert_allclose(errors[:, vbench.TRUNCATED], golden["frame_diffs"], atol=1e-3)
    assert vbench.MotionSmoothnessVBench().score(errors) == pytest.approx(golden["score"], abs=1e-5)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", VBENCH["dynamic_degree"])
def test_dynamic_degree_parity(name: str, context: Callable[[str, str], Context]) -> None:
    golden, clip = VBENCH["dynamic_degree"][name], real(name.partition("@")[0])
    pairs = Pairs("8fps")(clip)
    assert len(pairs) + 1 == golden["frames_after_8fps_sampling"]
    network = raft.motion(context("raft_things", "raft"))
    with torch.inference_mode():
        found = torch.cat([network(torch.from_numpy(pair[None].copy())) for pair in pairs[: golden["pairs"]]]).numpy()
    np.testing.assert_allclose(found[:, vbench.TOP5], golden["pair_scores"], rtol=1e-5)
    assert 6 * found[0, vbench.SIDE] / 256 == golden["threshold"]
    assert bool(vbench.DynamicDegreeVBench().score(found)) is golden["moving"]
