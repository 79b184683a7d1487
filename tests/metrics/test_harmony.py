"""Harmony's and Verse-Bench's readings of visual quality: formulas by hand, and what the encoders are shown."""

from __future__ import annotations

import numpy as np
import pytest

from avbench.errors import NotApplicable
from avbench.metric import Rows
from avbench.metrics import harmony
from avbench.metrics.vbench import MEAN
from avbench.metrics.views_quality import Pairs
from avbench.registry import metrics
from tests.metrics.alignment import synthetic


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def faces(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 2, 5))


def test_identity_is_likeness_to_the_first_frame() -> None:
    found = faces(4)
    expected = np.mean([cosine(one[0], found[0, 0]) for one in found[1:]])
    assert metrics.get("id_consistency").score(found) == pytest.approx(expected)
    with pytest.raises(NotApplicable, match="too_few_frames"):
        metrics.get("id_consistency").score(found[:1])


@pytest.mark.parametrize(("name", "token"), [("id_consistency@harmony", 0), ("id_consistency@verse-bench", 1)])
def test_identity_against_a_reference_image(name: str, token: int) -> None:
    ours, real = [faces(4, 1), faces(7, 2)], [faces(1, 3), faces(9, 4)]
    expected = np.mean(
        [np.mean([cosine(one[token], other[0, token]) for one in clip]) for clip, other in zip(ours, real)]
    )
    rows, reference = (Rows(["a", "b"], {"frames": side}) for side in (ours, real))
    assert metrics.get(name).card.paired
    assert metrics.get(name).reduce(rows, reference) == pytest.approx(expected)


def test_aesthetics_are_divided_by_ten_but_for_one_protocol() -> None:
    frames = np.array([5.0, 6.0], np.float32)
    for name in ("aesthetic_quality@harmony", "aesthetic_quality@verse-bench"):
        assert metrics.get(name).score(frames) == pytest.approx(0.55)
    assert metrics.get("aesthetic_quality@t2av-compass").score(frames) == pytest.approx(5.5)
    assert metrics.get("imaging_quality@verse-bench").score(np.array([30.0, 50.0])) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("frames", "chosen"), [(5, [0, 1, 2, 3, 4]), (81, [0, 9, 18, 27, 36, 44, 53, 62, 71, 80]), (10, [*range(10)])]
)
def test_compass_looks_at_ten_frames(frames: int, chosen: list[int]) -> None:
    clip = synthetic(16, 16, frames=frames)
    assert harmony.AestheticQualityCompass.frames.view.pick(clip.video).tolist() == chosen


def test_what_the_encoders_are_shown() -> None:
    clip = synthetic(720, 1280, frames=3)
    assert harmony.AestheticQualityHarmony.frames.view(clip).shape == (3, 384, 384, 3)
    assert harmony.ImagingQualityVerse.frames.view(clip) is clip.video.frames
    shown = harmony.FACES.view(clip)
    assert shown.shape == (3, 224, 224, 3) and shown.dtype == np.float32 and 0 <= shown.min() < shown.max() <= 1


@pytest.mark.parametrize(
    ("size", "small"), [((720, 1280), (360, 640)), ((480, 640), (480, 640)), ((1921, 1081), (480, 270))]
)
def test_verse_bench_halves_frames_before_the_flow(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert Pairs("frame", small=True)(synthetic(*size, frames=2)).shape == (1, 2, *small, 3)


def test_the_motion_score_is_a_mean_of_means() -> None:
    motion = np.zeros((2, 5), np.float32)
    motion[:, MEAN] = 1.0, 2.0
    assert metrics.get("dynamic_degree@verse-bench").score(motion) == 1.5


def test_pixels_are_those_of_transformers_own_processors() -> None:
    import torch
    from PIL import Image
    from transformers import DINOv3ViTImageProcessor, SiglipImageProcessorPil

    clip = synthetic(180, 320, frames=2)
    images = [Image.fromarray(frame) for frame in clip.video.frames]
    half, mean, std = [0.5] * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    siglip = SiglipImageProcessorPil(size={"height": 384, "width": 384}, resample=3, image_mean=half, image_std=half)
    expected = siglip(images=images, return_tensors="pt")["pixel_values"]
    found = torch.from_numpy(harmony.AestheticQualityHarmony.frames.view(clip)).movedim(-1, 1)
    torch.testing.assert_close((found.float() / 255 - 0.5) / 0.5, expected)

    dino = DINOv3ViTImageProcessor(size={"height": 224, "width": 224}, resample=2)
    expected = dino(images=images, return_tensors="pt")["pixel_values"]
    found = (torch.from_numpy(harmony.FACES.view(clip)) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(found.movedim(-1, 1), expected, rtol=0, atol=1e-5)
