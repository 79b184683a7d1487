"""FVD and KVD: what each protocol shows the network, and the whole path against JavisBench's evaluator."""

from __future__ import annotations

import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable, SampleError
from avbench.features import View
from avbench.metric import Rows, inputs
from avbench.metrics import fvd
from avbench.metrics.distances import Moments, frechet_distance, frechet_sqrtm, kvd_centred, polynomial_mmd
from avbench.metrics.encoders import i3d
from avbench.registry import metrics
from avbench.views import Linspace
from tests.metrics.alignment import decode
from tests.metrics.distribution import arrays, deviation, rows, values, weights

NAMES = [name for name in metrics.list() if name.partition("@")[0] in ("fvd", "kvd")]
JAVIS = values()["javisbench"]


def moving(frames: int = 40, height: int = 48, width: int = 80, fps: float = 25.0) -> Clip:
    """A bright square that travels over a gradient."""
    pixels = np.zeros((frames, height, width, 3), np.uint8)
    pixels[...] = np.linspace(0, 200, width)[:, None]
    for index in range(frames):
        pixels[index, 10:20, index : index + 10] = 255
    return Clip(Video(pixels, np.arange(frames) / fps, Fraction(fps)))


def view(metric: type) -> View:
    return metric.video.view  # type: ignore[attr-defined,no-any-return]


# Views ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_views_are_deterministic_whole_windows_in_range(name: str) -> None:
    look, clip = inputs(metrics.get(name))["video"].view, moving()
    found = look(clip)
    assert found.ndim == 5 and found.shape[-1] == 3 and len(found) >= 1
    assert np.array_equal(found, look(moving())) and found.min() >= 0 and found.max() < 255.001
    assert found.max() > 200 and found.std() > 20
    with pytest.raises(NotApplicable, match="no_video"):
        look(Clip())


def test_default_frames_cover_the_clip_in_time() -> None:
    pick = fvd.InTime(24)
    even = np.arange(102) / 24
    found = pick(Video(np.zeros((102, 2, 2, 3), np.uint8), even, Fraction(24)))
    expected = "0 4 9 13 18 22 26 31 35 40 44 48 53 57 61 66 70 75 79 83 88 92 97 101"
    assert found.tolist() == [int(index) for index in expected.split()]
    assert np.array_equal(found, Linspace(24)(Video(np.zeros((102, 2, 2, 3), np.uint8), even, Fraction(24))))
    uneven = np.concatenate([np.arange(50) * 0.01, 0.5 + np.arange(50) * 0.05])  # 0.5 s fast, 2.5 s slow
    found = pick(Video(np.zeros((100, 2, 2, 3), np.uint8), uneven, Fraction(33)))
    gaps = np.abs(uneven[found] - np.linspace(0, uneven[-1], 24))
    assert gaps.max() <= 0.025 + 1e-9 and found[0] == 0 and found[-1] == 99


def test_default_pixels_keep_black_black_and_white_white() -> None:
    clip = moving(height=90, width=160)
    found = view(fvd.FVD24)(clip)
    assert found.shape == (1, 24, 224, 224, 3) and found.dtype == np.uint8
    assert not found[:, :, :49].any() and not found[:, :, -49:].any() and found.max() == 255


def test_javisbench_range_fault() -> None:
    clip = moving(height=90, width=160)
    faulty, mended = view(fvd.FVDJavisBench)(clip), view(fvd.FVD24)(clip)
    assert faulty[:, :, :49].min() == faulty[:, :, :49].max() == 127 and faulty.max() == 255
    halved = 127.5 + mended.astype(float) / 2
    assert np.abs(np.floor(halved) - faulty).max() <= 1
    seen = i3d.prepare(torch.from_numpy(faulty), torch.float32)
    assert seen.min() == pytest.approx(-1 / 255, abs=1e-6) and seen.max() == 1.0


def test_javisbench_repeats_frames_where_the_default_refuses() -> None:
    short = moving(frames=5)
    found = view(fvd.FVDJavisBench)(short)
    assert found.shape[1] == 24 and len({frame.tobytes() for frame in found[0]}) == 5
    with pytest.raises(SampleError, match=r"video\.too_short: 5 frames, 9 are needed"):
        view(fvd.FVD24)(short)
    assert view(fvd.FVDJavisBench16)(short).shape[1] == 16


def test_stylegan_v_squashes_consecutive_frames_without_rounding() -> None:
    clip = moving()
    found = view(fvd.FVDStyleGANV)(clip)
    frames = torch.from_numpy(clip.need_video().frames[:16]).permute(0, 3, 1, 2).float()
    expected = F.interpolate(frames, size=(224, 224), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found[0], expected.permute(0, 2, 3, 1).numpy(), atol=1e-3)
    with pytest.raises(SampleError, match="16 are needed"):
        view(fvd.FVDStyleGANV)(moving(frames=15))


@pytest.mark.parametrize(("height", "width"), [(48, 80), (81, 47), (300, 300)])
def test_cd_fvd_takes_the_central_square_of_the_middle_frames(height: int, width: int) -> None:
    clip = moving(height=height, width=width)
    found = view(fvd.FVDContentDebiased)(clip)
    frames = torch.from_numpy(clip.need_video().frames[12:28]).permute(0, 3, 1, 2).float() / 255
    size = tuple(-(-side * 256 // min(height, width)) for side in (height, width))
    x = F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (size[0] - 256) // 2, (size[1] - 256) // 2
    expected = (x[..., top : top + 256, left : left + 256] * 255).byte().permute(0, 2, 3, 1).numpy()
    assert found.dtype == np.uint8 and np.abs(found[0].astype(int) - expected).max() <= 1
    assert (found[0] != expected).mean() < 1e-3
    with pytest.raises(SampleError, match="16 are needed"):
        view(fvd.FVDContentDebiased)(moving(frames=15))


@pytest.mark.parametrize(
    ("fps", "frames", "windows"), [(25, 40, 1), (25, 79, 1), (25, 80, 2), (10, 48, 3), (24, 102, 2)]
)
def test_mm_diffusion_windows(fps: float, frames: int, windows: int) -> None:
    clip = moving(frames=frames, fps=fps)
    found = view(fvd.FVDMMDiffusion)(clip)
    assert found.shape == (windows, 16, 64, 64, 3)
    squares = [np.flatnonzero(frame[25].max(axis=-1) > 230).mean() / 0.8 - 5 for frame in found[0]]
    np.testing.assert_allclose(squares, np.floor(np.arange(16) * fps / 10), atol=1.5)
    with pytest.raises(SampleError, match=r"1\.6 s are needed"):
        view(fvd.FVDMMDiffusion)(moving(frames=int(1.5 * fps), fps=fps))


# Values ---------------------------------------------------------------------------------------------------------------


def sets(n: int = 60, m: int = 50, dims: int = 20) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(0)
    return rows(rng.normal(size=(n, dims)) + 1.0, "video"), rows(1.2 * rng.normal(size=(m, dims)), "video")


def stacked(side: Rows) -> np.ndarray:
    return np.concatenate(side.video)


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_gives_a_value_and_its_honesty(name: str) -> None:
    generated, reference = sets()
    metric = metrics.get(name)
    value = metric.reduce(generated, reference)
    assert np.isfinite(value) and metric.floor(reference) == metric.floor(reference)
    if not name.startswith("kvd@javisbench"):  # blind to the shift
        assert value > metric.floor(reference)
    assert any("N differs: 60 generated, 50 reference" in note for note in metric.notes(generated, reference))
    if name.startswith("fvd"):
        assert abs(metric.self_distance(reference)) < 1e-3 * value
    with pytest.raises(SampleError, match=r"set\.too_small"):
        metric.reduce(generated.take([0]), reference)


def test_each_protocol_has_its_own_arithmetic() -> None:
    generated, reference = sets()
    a, b = stacked(generated), stacked(reference)
    assert fvd.FVD24().reduce(generated, reference) == frechet_distance(a, b)
    assert fvd.KVD24().reduce(generated, reference) == polynomial_mmd(a, b)
    assert fvd.FVDStyleGANV().reduce(generated, reference) == frechet_sqrtm(a, b, ddof=0)
    assert fvd.KVDJavisBench().reduce(generated, reference) == kvd_centred(a[:50], b)
    assert fvd.KVDMMDiffusion().reduce(generated, reference) == polynomial_mmd(a[:50], b)


def test_variants_say_what_they_do_otherwise() -> None:
    for name in NAMES:
        card = metrics.get(name).card
        assert bool(card.differs) == ("@" in name) and card.better == "lower" and card.source and card.title
    assert "fault" in " ".join(metrics.get("fvd@javisbench").card.differs)
    different = ("fvd", "fvd@javisbench", "fvd@javisbench-16f", "fvd@cd-fvd-i3d")
    keys = {inputs(metrics.get(name))["video"].key for name in different}
    assert len(keys) == 4
    assert inputs(metrics.get("fvd"))["video"].key == inputs(metrics.get("kvd"))["video"].key


def test_statistics_may_stand_for_the_reference() -> None:
    generated, reference = sets()
    moments = Rows(reference.ids, {"video": Moments.of(stacked(reference))})  # type: ignore[dict-item]
    metric = fvd.FVD24()
    assert metric.reduce(generated, moments) == pytest.approx(metric.reduce(generated, reference), rel=1e-12)
    assert metric.self_distance(moments) == pytest.approx(0.0, abs=1e-9)
    assert metric.notes(generated, moments) == metric.notes(generated, reference)
    needy = (fvd.KVD24(), fvd.FVDJavisBench(), fvd.FVDStyleGANV())
    for refused in (metric.floor, *(lambda side, one=one: one.reduce(generated, side) for one in needy)):
        with pytest.raises(SampleError, match=r"set\.no_rows"):
            refused(moments)


def test_few_clips_are_called_few() -> None:
    generated, reference = sets(n=12, m=12)
    few = "N = 12 in 20 dimensions: biased upwards, comparable only at this N"
    assert fvd.FVD24().notes(generated, reference) == [few]
    assert fvd.KVD24().notes(generated, reference) == []


def test_windows_are_counted_as_rows_and_the_floor_splits_clips() -> None:
    rng = np.random.default_rng(1)
    counts = [3] * 30
    clip_means = np.repeat(rng.normal(size=(30, 4)), 3, axis=0)
    side = rows(clip_means + 0.01 * rng.normal(size=(90, 4)), "video", counts)
    metric = fvd.FVDMMDiffusion()
    assert metric.notes(side, side) == ["rows are windows: 90 and 90 of 30 and 30 clips"]
    apart = rows(np.concatenate(side.video), "video")
    assert metric.floor(side) > 1.5 * metric.floor(apart)  # windows of one clip on both sides would hide the difference


# The whole path -------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.heavy
def test_javisbench_on_real_clips() -> None:
    """Frame indices, pixels, logits and values of JavisVerse/JavisDiT b505b37, hashed weights."""
    network = i3d.build(weights("i3d"))
    look = view(fvd.FVDJavisBench)
    found = {}
    for side in ("real", "fake"):
        logits = []
        for name in JAVIS[side]:
            clip = decode(name, audio=False)
            pixels, golden = look(clip), JAVIS["pixels"][name]
            assert Linspace(24)(clip.need_video()).tolist() == JAVIS["frames"][name]
            channels = np.ascontiguousarray(pixels[0].transpose(0, 3, 1, 2), dtype="<f4")
            assert zlib.crc32(channels.tobytes()) == golden["crc_r3"]
            with torch.inference_mode():
                logits.append(network(i3d.prepare(torch.from_numpy(pixels), torch.float32)).numpy())
        found[side] = np.concatenate(logits)
        assert deviation(found[side], arrays()[f"javisbench.{side}.i3d"]) < 1e-4
    check_values(rows(found["fake"], "video"), rows(found["real"], "video"), rel=1e-2)


@pytest.mark.parity
def test_javisbench_values_from_its_own_features() -> None:
    made, real = (rows(arrays()[f"javisbench.{side}.i3d"], "video") for side in ("fake", "real"))
    check_values(made, real, rel=1e-6)


def check_values(made: Rows, real: Rows, rel: float) -> None:
    assert fvd.FVDJavisBench().reduce(made, real) == pytest.approx(JAVIS["fvd"], rel=max(rel, 1e-5))
    assert fvd.FVD24().reduce(made, real) == pytest.approx(JAVIS["fvd_float64_exact"], rel=max(rel, 1e-5))
    assert fvd.KVDJavisBench().reduce(made, real) == pytest.approx(JAVIS["kvd_float64_centred"], rel=max(rel, 1e-4))
    assert fvd.KVD24().reduce(made, real) == pytest.approx(JAVIS["kvd_float64_raw"], rel=max(rel, 1e-3))
