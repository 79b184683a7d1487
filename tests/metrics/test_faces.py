"""Shots, tracks, smoothing and crops of faces, against the rules of the published pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from avbench.metrics import faces


def box(x: float, y: float = 0.0, side: float = 120.0) -> np.ndarray:
    return np.array([x, y, x + side, y + side])


def boxes(*columns: list[np.ndarray]) -> list[np.ndarray]:
    """Per frame, the boxes of several faces."""
    return [np.stack(rows) for rows in zip(*columns)]


def test_iou() -> None:
    assert faces.iou(box(0), box(0)) == 1.0
    assert faces.iou(box(0), box(60)) == pytest.approx(1 / 3)
    assert faces.iou(box(0), box(500)) == 0.0


@pytest.mark.parametrize(("count", "tracks"), [(50, 0), (51, 1)])
def test_a_track_needs_more_detections(count: int, tracks: int) -> None:
    assert len(faces.tracks_in_shot([box(0)[None]] * count, (0, count), 50)) == tracks


def test_two_people_in_any_order_are_two_tracks() -> None:
    rng = np.random.default_rng(0)
    seen = [np.stack([box(0), box(400)])[rng.permutation(2)] for _ in range(120)]
    found = faces.tracks_in_shot(seen, (0, 120), 50)
    assert [one.seen for one in found] == [120, 120]
    assert sorted(float(one.boxes[0, 0]) for one in found) == [0.0, 400.0]
    assert all(np.ptp(one.boxes[:, 0]) == 0 for one in found)


@pytest.mark.parametrize(("gap", "tracks"), [(24, 1), (25, 2)])
def test_a_face_may_be_missed_for_a_second(gap: int, tracks: int) -> None:
    """`gap` empty frames: the next face is gap + 1 frames later, and 25 are allowed."""
    seen = [box(0)[None]] * 60 + [np.empty((0, 4))] * gap + [box(0)[None]] * 60
    found = faces.tracks_in_shot(seen, (0, len(seen)), 50)
    assert len(found) == tracks
    assert len(found[0].boxes) == (120 + gap if tracks == 1 else 60)


def test_an_overlap_of_one_half_is_too_little() -> None:
    """Boxes of 120 moved by 40 share 80 of 160: exactly one half."""
    assert faces.iou(box(0), box(40)) == 0.5
    still, jumps = [box(0)[None]] * 60, [box(40)[None]] * 60
    assert len(faces.tracks_in_shot(still + jumps, (0, 120), 50)) == 2
    assert len(faces.tracks_in_shot(still + [box(39)[None]] * 60, (0, 120), 50)) == 1


def test_missed_boxes_are_filled_in() -> None:
    chain = [(10, box(0)), (14, box(40))]
    found = faces.interpolated(chain)
    assert (found.first, found.last, found.seen) == (10, 14, 2)
    assert found.boxes[:, 0].tolist() == [0, 10, 20, 30, 40]
    assert found.side == 120


def cut_clip(at: int, frames: int = 60, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Dark frames, then bright ones."""
    found = np.full((frames, *size, 3), 20, dtype=np.uint8)
    found[at:] = 220
    return found


def test_shots_of_both_versions() -> None:
    assert faces.shots(cut_clip(30), faces.SCENEDETECT_05) == [(0, 30), (30, 60)]
    assert faces.shots(cut_clip(30), faces.SCENEDETECT_06) == [(0, 30), (30, 60)]
    assert faces.shots(cut_clip(5), faces.SCENEDETECT_05) == [(0, 5), (5, 60)]
    assert faces.shots(cut_clip(5), faces.SCENEDETECT_06) == [(0, 60)]


def test_thresholds_of_shots() -> None:
    """A step of 86 grey levels changes value alone: a third of it, 28.7, lies between the two thresholds."""
    step = np.full((60, 64, 96, 3), 20, dtype=np.uint8)
    step[30:] += 86
    assert len(faces.shots(step, faces.SCENEDETECT_05)) == 1
    assert len(faces.shots(step, faces.SCENEDETECT_06)) == 2


def test_the_smoothed_path_is_small_at_its_ends() -> None:
    """Zero padding: value t < 6 is the (t + 1)-th smallest of the first 7 + t."""
    sides = np.linspace(100, 160, 40)
    found = faces.path(np.stack([box(200 - s / 2, 200 - s / 2, s) for s in sides]))
    assert found[20] == pytest.approx([sides[20] / 2, 200, 200])
    assert found[:4, 0] == pytest.approx(sides[:4] / 2)
    falling = faces.path(np.stack([box(200 - s / 2, 200 - s / 2, s) for s in sides[::-1]]))
    assert falling[:6, 0] == pytest.approx([sorted(sides[::-1][: 7 + t])[t] / 2 for t in range(6)])


def test_the_crop_is_wider_than_the_face_and_lower() -> None:
    """Half a side of 50: 2.8 sides wide, from 50 above to 90 below the centre."""
    rows, columns = np.mgrid[:400, :400]
    frame = np.stack([rows // 2, columns // 2, np.zeros_like(rows)], axis=2).astype(np.uint8)
    found = faces.crop(frame, 50.0, 200.0, 200.0)
    assert found.shape == (224, 224, 3)
    assert abs(int(found[0, 112, 0]) - 75) <= 1 and abs(int(found[-1, 112, 0]) - 144) <= 1
    assert abs(int(found[112, 0, 1]) - 65) <= 1 and abs(int(found[112, -1, 1]) - 134) <= 1


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (199.0, 149.0), (3.4, 147.9), (-300.0, 60.0), (100.0, 70.0)])
def test_a_crop_at_the_border_is_that_of_a_padded_frame(x: float, y: float) -> None:
    """The reference pads every frame with grey 110; ours makes the crop alone."""
    import cv2

    frame, half = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8), 37.3
    pad = int(half * 1.8)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
    top, bottom = int(y + pad - half), int(y + pad + half * 1.8)
    left, right = int(x + pad - half * 1.4), int(x + pad + half * 1.4)
    if left < 0:  # far outside: the reference's slice would wrap around; ours is grey
        assert (faces.crop(frame, half, x, y) == 110).all()
        return
    expected = cv2.resize(padded[top:bottom, left:right], (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(faces.crop(frame, half, x, y), expected)
