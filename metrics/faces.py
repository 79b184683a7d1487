"""From faces in single frames to one steady crop per person: shots, tracks, smoothing, crops.

The geometry and every constant are those of joonson/syncnet_python 6efbb1c, which all public SyncNet pipelines share.
Pure functions of arrays; frames are RGB, boxes are x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

GAP = 25  # frames a face may be missed for
OVERLAP = 0.5  # intersection over union with the box before
SMOOTHING = 13  # frames of the median filter
MARGIN = 0.4  # of half the face, around the crop
CROP = 224
GREY = 110  # where a crop reaches beyond the frame
SHORTEST_SHOT = 15  # frames between cuts
STRIDES = ((3200, 12), (2100, 8), (1700, 6), (1200, 5), (900, 4), (600, 3), (400, 2), (0, 1))  # width from, every nth

Span = tuple[int, int]


# --- shots ---


@dataclass(frozen=True)
class CutRule:
    """When a new shot begins: PySceneDetect's content detector.

    threshold: mean difference of hue, saturation and value to the frame before, 0..255.
    shrink:    frames are looked at by every nth pixel ("stride") or resized to about 256 columns ("resize").
    early:     a cut within the first 15 frames counts.
    """

    threshold: float
    shrink: Literal["stride", "resize"]
    early: bool


SCENEDETECT_05 = CutRule(30.0, "stride", early=True)  # scenedetect 0.5.1
SCENEDETECT_06 = CutRule(27.0, "resize", early=False)  # scenedetect 0.6.1


def shrunk(frame: np.ndarray, how: Literal["stride", "resize"]) -> np.ndarray:
    """A frame as the content detector looks at it."""
    import cv2

    height, width = frame.shape[:2]
    if how == "stride":
        step = next(step for least, step in STRIDES if width >= least)
        return frame[::step, ::step]
    factor = max(width // 256, 1)
    return cv2.resize(frame, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_LINEAR)


def changes(frames: Iterable[np.ndarray], shrink: Literal["stride", "resize"]) -> list[float]:
    """Mean absolute difference of each frame to the one before, in 8-bit HSV; 0 for the first."""
    import cv2

    found: list[float] = []
    before = None
    for frame in frames:
        now = cv2.cvtColor(np.ascontiguousarray(shrunk(frame, shrink)), cv2.COLOR_RGB2HSV).astype(np.int16)
        found.append(0.0 if before is None else float(np.abs(now - before).mean()))
        before = now
    return found


def shots(frames: Iterable[np.ndarray], rule: CutRule) -> list[Span]:
    """First frame and one past the last of each shot."""
    scores = changes(frames, rule.shrink)
    cuts = [0]
    for index, score in enumerate(scores):
        far = index - cuts[-1] >= SHORTEST_SHOT or (rule.early and len(cuts) == 1 and index > 0)
        if score >= rule.threshold and far:
            cuts.append(index)
    return list(zip(cuts, [*cuts[1:], len(scores)]))


# --- tracks ---


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """A face over consecutive frames: boxes float64 [n, 4] from frame `first` on, `seen` of them detected."""

    first: int
    boxes: np.ndarray
    seen: int

    @property
    def last(self) -> int:
        return self.first + len(self.boxes) - 1

    @property
    def side(self) -> float:
        """The larger of mean width and mean height, pixels."""
        return float((self.boxes[:, 2:] - self.boxes[:, :2]).mean(axis=0).max())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def tracks_in_shot(faces: Sequence[np.ndarray], span: Span, more_than: int) -> list[FaceTrack]:
    """Tracks of more than `more_than` detections within a shot, in the order they are found.

    faces: per frame float [n, 4], surest first. Each pass starts at the first face left and follows it: a face joins if
    it overlaps the last one joined by more than half, at most 25 frames later. Faces that joined are used up.
    """
    left = {frame: list(faces[frame]) for frame in range(*span)}
    found = []
    while chain := followed(left):
        if len(chain) > more_than:
            found.append(interpolated(chain))
    return found


def followed(left: dict[int, list[np.ndarray]]) -> list[tuple[int, np.ndarray]]:
    """Take one chain of overlapping faces, (frame, box), out of what is left."""
    chain: list[tuple[int, np.ndarray]] = []
    for frame, boxes in left.items():
        if chain and frame - chain[-1][0] > GAP:
            break
        joined = next((i for i, box in enumerate(boxes) if not chain or iou(box, chain[-1][1]) > OVERLAP), None)
        if joined is not None:
            chain.append((frame, boxes.pop(joined)))
    return chain


def interpolated(chain: list[tuple[int, np.ndarray]]) -> FaceTrack:
    """Boxes for every frame from the first to the last, linear between detections."""
    frames = np.array([frame for frame, _ in chain])
    boxes = np.stack([box for _, box in chain]).astype(np.float64)
    every = np.arange(frames[0], frames[-1] + 1)
    return FaceTrack(
        int(frames[0]), np.stack([np.interp(every, frames, side) for side in boxes.T], axis=1), len(frames)
    )


# --- crops ---


def path(boxes: np.ndarray) -> np.ndarray:
    """Half the longer side, centre x and centre y of each box, median-filtered: float64 [n, 3].

    The filter pads with zeros, so the values at both ends of a track come out small.
    """
    from scipy.signal import medfilt

    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    raw = np.column_stack([sizes.max(axis=1) / 2, centres])
    return np.column_stack([medfilt(column, SMOOTHING) for column in raw.T])


def crop(frame: np.ndarray, half: float, x: float, y: float) -> np.ndarray:
    """The square around mouth and chin, 2.8 half sides wide: uint8 [224, 224, 3]; grey beyond the frame."""
    import cv2

    pad = int(half * (1 + 2 * MARGIN))
    middle_y, middle_x = y + pad, x + pad
    top, bottom = int(middle_y - half), int(middle_y + half * (1 + 2 * MARGIN))
    left, right = int(middle_x - half * (1 + MARGIN)), int(middle_x + half * (1 + MARGIN))
    height, width = frame.shape[:2]
    bottom, right = min(bottom, height + 2 * pad), min(right, width + 2 * pad)
    square = np.full((bottom - top, right - left, 3), GREY, dtype=np.uint8)
    # The frame's part of the square, in the frame's own coordinates.
    y0, y1 = max(top - pad, 0), min(bottom - pad, height)
    x0, x1 = max(left - pad, 0), min(right - pad, width)
    if y0 < y1 and x0 < x1:
        square[y0 - (top - pad) : y1 - (top - pad), x0 - (left - pad) : x1 - (left - pad)] = frame[y0:y1, x0:x1]
    return cv2.resize(square, (CROP, CROP), interpolation=cv2.INTER_LINEAR)
