"""Views of frames: a pick and a shape, each frame reshaped once per clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np

from avbench.clip import Clip, Video
from avbench.features import View
from avbench.views.picks import BLACK, AllFrames, Pick
from avbench.views.shapes import Native, Shape

CACHE_BYTES = 64 << 20  # reshaped frames kept for each clip
ALL, NATIVE = AllFrames(), Native()
AT_ONCE = 8  # frames in one call of a kernel: bounds the float copies of large frames


@dataclass(frozen=True)
class Frames(View):
    """Chosen frames in one shape: [n, h, w, 3], uint8 or float32 where 1 is white, as the shape's `dtype` says.

    together: one item of all frames, [1, n, h, w, 3], for encoders of whole sequences.
    """

    pick: Pick = ALL
    shape: Shape = NATIVE
    together: bool = False

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        found = resized(video, self.shape, self.pick(video))
        return found[None] if self.together else found


@dataclass
class Kept:
    """Reshaped frames of one clip, by shape and index."""

    frames: dict[tuple[Shape, int], np.ndarray] = field(default_factory=dict)
    bytes: int = 0
    locks: dict[Shape, Lock] = field(default_factory=lambda: defaultdict(Lock))

    def keep(self, shape: Shape, index: int, frame: np.ndarray) -> None:
        """Keep a frame, where there is room."""
        if self.bytes + frame.nbytes <= CACHE_BYTES:
            self.bytes += frame.nbytes
            self.frames[shape, index] = frame


kept: WeakKeyDictionary[Video, Kept] = WeakKeyDictionary()
kept_lock = Lock()


def resized(video: Video, shape: Shape, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Frames at `indices` in a shape: [n, h, w, 3]; `BLACK` gives a black frame.

    Each frame is reshaped once for all views of this clip, as far as `CACHE_BYTES` hold. Views of one shape wait for
    each other, so that two threads do not do the same work.
    """
    wanted = np.asarray(indices, dtype=np.int64)
    if isinstance(shape, Native) and (wanted >= 0).all():
        whole = np.array_equal(wanted, np.arange(len(video.frames)))
        return video.frames if whole else video.frames[wanted]
    with kept_lock:
        mine = kept.setdefault(video, Kept())
        lock = mine.locks[shape]
    with lock:
        distinct = [int(index) for index in np.unique(wanted) if index != BLACK]
        found = {index: mine.frames[shape, index] for index in distinct if (shape, index) in mine.frames}
        missing = [index for index in distinct if index not in found]
        for start in range(0, len(missing), AT_ONCE):
            block = missing[start : start + AT_ONCE]
            for index, frame in zip(block, shape(video.frames[block])):
                found[index] = np.ascontiguousarray(frame)
                mine.keep(shape, index, found[index])
    if BLACK in wanted:
        any_frame = next(iter(found.values())) if found else shape(video.frames[:1])[0]
        found[BLACK] = np.zeros_like(any_frame)
    return np.stack([found[int(index)] for index in wanted])
