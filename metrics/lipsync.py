"""Lip sync: Sync-C, Sync-D (also called LSE-C, LSE-D) and the offset between lips and voice, by SyncNet.

Chung and Zisserman 2016; joonson/syncnet_python 6efbb1c. Faces are found (S3FD), followed and cropped; windows of five
crops and 0.2 s of sound are embedded; over 31 lags of one frame (40 ms) the mean distance of lips and sound says how
well (Sync-D: smallest distance; Sync-C: median minus smallest) and where (offset) they fit. "SyncNet score" is not one
number: public pipelines differ in copies, detectors, shortest tracks and averages, so each has its own protocol here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from avbench.clip import Clip
from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, View
from avbench.metric import Track, sample_metric
from avbench.metrics.faces import (
    SCENEDETECT_05,
    SCENEDETECT_06,
    CutRule,
    FaceTrack,
    crop,
    path,
    shots,
    tracks_in_shot,
)
from avbench.metrics.mfcc import mfcc
from avbench.metrics.reencode import FPS, PER_FRAME, Kind, Material, material, stored_crops, stored_sound

ENCODERS = "avbench.metrics.encoders"
S3FD = Encoder("s3fd", f"{ENCODERS}.s3fd:faces", weights=("s3fd",), batch=32, flops=3.6e10)  # of 320 x 180
TRACKS = Encoder("lipsync.tracks", "avbench.features:as_is", unit="clip")
LIPS = Encoder("syncnet.lips", f"{ENCODERS}.syncnet:lips", weights=("syncnet_v2",), batch=64, flops=3.1e9)
SOUND = Encoder("syncnet.audio", f"{ENCODERS}.syncnet:audio", weights=("syncnet_v2",), batch=256, flops=4.9e8)

SCALE = 0.25  # at which faces are looked for
SMALLEST = 128  # pixels; below it the detector's coarse levels vanish
WINDOW, COLUMNS = 5, 20  # frames of lips, MFCC columns of sound
LOST = 5  # a track of F frames has F - 5 windows: its sound gives 4 F - 1 columns
REACH = 15  # frames, the largest lag
SILENT = 1e-3  # -60 dBFS, as the peak
EPSILON = 1e-6  # the reference adds it to every difference


@dataclass(frozen=True)
class Pipeline:
    """How a clip becomes face tracks.

    copy:       the file it goes through before ("none": the decoded clip itself).
    cuts:       where shots end.
    detections: a track needs more than these.
    side:       pixels, a face's mean width or height must be larger.
    """

    copy: Kind
    cuts: CutRule
    detections: int
    side: float


CLEAN = Pipeline("none", SCENEDETECT_06, 50, 100.0)
SMALL_FACES = Pipeline("none", SCENEDETECT_06, 50, 0.0)
SYNCNET_PYTHON = Pipeline("avi", SCENEDETECT_05, 100, 100.0)
LATENTSYNC = Pipeline("mp4", SCENEDETECT_06, 50, 100.0)


# --- from the clip to windows ---


@dataclass(frozen=True)
class DetectorFrames(View):
    """Frames at 25 per second, a quarter as wide and high: uint8 [T, h, w, 3]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    copy: Kind

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        import cv2

        height, width = clip.need_video().frames.shape[1:3]
        clip.need_audio()
        if min(height, width) < SMALLEST:
            raise NotApplicable("face_too_small", f"{width}x{height}; faces are looked for from {SMALLEST} pixels on")
        frames = material(clip, self.copy).frames()
        small = [cv2.resize(f, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR) for f in frames]
        return np.stack(small)


@dataclass(frozen=True)
class FaceTracks(View):
    """Face tracks that can be scored: a dict of arrays, K tracks with F frames in all.

    first int64 [K]: frame each begins with. frames int64 [K]: its length. windows int64 [K]: windows of lips and sound.
    side float64 [K]: mean size of the face, pixels. path float64 [F, 3]: half side and centre in each frame.
    """

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    faces: Feature = field(repr=False)  # its identity is in `requires`
    pipeline: Pipeline

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.faces,)

    def __call__(self, clip: Clip, *inputs: Any) -> Any:
        height, width = clip.need_video().frames.shape[1:3]
        source = material(clip, self.pipeline.copy)
        if self.pipeline.copy == "none" and np.abs(clip.need_audio().samples).max() < SILENT:
            raise NotApplicable("silent", "the audio track is silent")
        boxes = [rows[rows[:, 0] > 0, 1:] * [width, height, width, height] for rows in inputs[0].astype(np.float64)]
        found = accepted(source, boxes, self.pipeline)
        windows = [windows_of(track, source) for track in found]
        kept = [(track, count) for track, count in zip(found, windows) if count > 0]
        if not kept:
            raise NotApplicable("too_short", f"picture and sound of a face share no more than {LOST / FPS} s")
        return {
            "first": np.array([track.first for track, _ in kept]),
            "frames": np.array([len(track.boxes) for track, _ in kept]),
            "windows": np.array([count for _, count in kept]),
            "side": np.array([track.side for track, _ in kept]),
            "path": np.concatenate([path(track.boxes) for track, _ in kept]),
        }


def accepted(source: Material, boxes: list[np.ndarray], pipeline: Pipeline) -> list[FaceTrack]:
    """Tracks that are long and large enough; `NotApplicable` says why there is none."""
    least = pipeline.detections + 1
    if source.count < least:
        raise NotApplicable("too_short", f"{source.count} frames at {FPS} fps; a track needs {least}")
    if not any(len(one) for one in boxes):
        raise NotApplicable("no_face", "no face in any frame")
    # The reference's shots are counted in frames of the copy, which can be one or two fewer than the pictures.
    spans = [span for span in shots(source.shots(), pipeline.cuts) if span[1] - span[0] >= pipeline.detections]
    long = [track for span in spans for track in tracks_in_shot(boxes, span, pipeline.detections)]
    if not long:
        raise NotApplicable("no_track", f"no face is followed through {least} frames of one shot")
    large = [track for track in long if track.side > pipeline.side]
    if not large:
        largest = max(track.side for track in long)
        raise NotApplicable("face_too_small", f"the largest is {largest:.0f} px, more than {pipeline.side:g} is needed")
    return large


def cut_sound(track: FaceTrack, source: Material) -> np.ndarray:
    """The samples that are heard while a track is seen."""
    return source.wave[track.first * PER_FRAME : (track.last + 1) * PER_FRAME]


def windows_of(track: FaceTrack, source: Material) -> int:
    """How many windows of lips and sound a track gives."""
    return min(len(track.boxes), len(cut_sound(track, source)) // PER_FRAME) - LOST


def unpacked(tracks: dict[str, np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first frame, windows, path) of each track."""
    paths = np.split(tracks["path"], np.cumsum(tracks["frames"])[:-1])
    yield from zip(map(int, tracks["first"]), map(int, tracks["windows"]), paths)


@dataclass(frozen=True)
class LipWindows(View):
    """Five crops from each frame on, tracks one after the other: uint8 [W, 5, 224, 224, 3]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    tracks: Feature = field(repr=False)
    copy: Kind

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.tracks,)

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wanted = list(unpacked(inputs[0]))
        crops: list[list[np.ndarray]] = [[] for _ in wanted]
        for index, frame in enumerate(material(clip, self.copy).frames()):
            for (first, _, places), mine in zip(wanted, crops):
                if first <= index < first + len(places):
                    mine.append(crop(frame, *places[index - first]))
        parts = []
        for (_, count, _), mine in zip(wanted, crops):
            stored = stored_crops(np.stack(mine), self.copy)
            parts.append(np.lib.stride_tricks.sliding_window_view(stored, WINDOW, axis=0)[:count])
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)  # one track, the usual case, needs no copy
        return np.moveaxis(joined, -1, 1)


@dataclass(frozen=True)
class SoundWindows(View):
    """Twenty MFCC columns for each lip window: float32 [W, 13, 20]."""

    media: ClassVar[frozenset[str]] = frozenset({"video", "audio"})

    tracks: Feature = field(repr=False)
    copy: Kind

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.tracks,)

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        wave = material(clip, self.copy).wave
        parts = []
        for first, count, places in unpacked(inputs[0]):
            heard = stored_sound(wave[first * PER_FRAME : (first + len(places)) * PER_FRAME], self.copy)
            columns = np.lib.stride_tricks.sliding_window_view(mfcc(heard), COLUMNS, axis=0)
            parts.append(columns[:: 100 // FPS][:count])  # a column is 10 ms
        return np.concatenate(parts).astype(np.float32)


def features_of(pipeline: Pipeline) -> tuple[Feature, Feature, Feature]:
    """Tracks, lip embeddings and sound embeddings of a pipeline."""
    tracks = Feature(TRACKS, FaceTracks(Feature(S3FD, DetectorFrames(pipeline.copy)), pipeline))
    lips, sound = LipWindows(tracks, pipeline.copy), SoundWindows(tracks, pipeline.copy)
    return tracks, Feature(LIPS, lips), Feature(SOUND, sound)


# --- from embeddings to scores ---


class Sync(NamedTuple):
    """One track: confidence, distance, offset in frames (positive: the sound comes before its picture)."""

    c: float
    d: float
    offset: int


def lag_distances(lips: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """float64 [N, 31]: distance of each lip window to the sound `lag` windows later, lags of -15 to 15.

    lips, sound: [N, D]. Beyond the ends the sound is the zero vector, as in the reference; so a share of at least
    |lag| / N of the terms is a norm instead of a distance, and only tracks of equal length compare strictly.
    """
    lips, sound = lips.astype(np.float64), sound.astype(np.float64)
    padded = np.pad(sound, ((REACH, REACH), (0, 0)))
    lags = range(2 * REACH + 1)
    return np.stack([np.linalg.norm(lips - padded[k : k + len(lips)] + EPSILON, axis=1) for k in lags], axis=1)


def sync(distances: np.ndarray) -> Sync:
    """Scores of one track from `lag_distances`."""
    curve = distances.mean(axis=0)
    best = int(curve.argmin())
    return Sync(float(np.median(curve) - curve[best]), float(curve[best]), REACH - best)


def per_track(tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> list[np.ndarray]:
    """`lag_distances` of each track."""
    ends = np.cumsum(tracks["windows"])[:-1]
    return [lag_distances(seen, heard) for seen, heard in zip(np.split(lips, ends), np.split(sound, ends))]


PAPER = "Chung and Zisserman 2016 (SyncNet)"


class Clean:
    """What our default sees: the decoded clip itself."""

    protocol: ClassVar[str] = ""
    source: ClassVar[str] = PAPER
    differs: ClassVar[tuple[str, ...]] = ()
    tracks, lips, sound = features_of(CLEAN)

    def syncs(self, tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> list[Sync]:
        return [sync(distances) for distances in per_track(tracks, lips, sound)]

    def chosen(self, found: list[Sync]) -> Sync:
        """The clip's values: those of the track with the largest Sync-C, the likeliest speaker."""
        return max(found)

    def timeline(self, tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> list[Track]:
        """Confidence over time of each track, what a report draws."""
        return [
            Track(f"lip sync, face {number + 1}", *confidence_over_time(distances, first))
            for number, (first, distances) in enumerate(zip(tracks["first"], per_track(tracks, lips, sound)))
        ]


def confidence_over_time(distances: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the windows' middle frames, and median distance minus their own at the best lag, median-filtered."""
    from scipy.signal import medfilt

    curve = distances.mean(axis=0)
    own = medfilt(np.median(curve) - distances[:, curve.argmin()], 9)
    return (first + WINDOW // 2 + np.arange(len(own))) / FPS, own


COPIED = "frames are read from JPEGs of a copy in {}, sound from its WAV; losses are part of the score"
STORED = "crops go through a further file ({}) and JPEGs of low quality"


class SmallFaces(Clean):
    """As our default, with faces of any size."""

    protocol = "small-faces"
    differs = ("faces of any size are scored (ours: larger than 100 px)",)
    tracks, lips, sound = features_of(SMALL_FACES)


class SyncNetPython(Clean):
    """What joonson/syncnet_python sees."""

    protocol = "syncnet_python"
    source = "joonson/syncnet_python 6efbb1c"
    differs: ClassVar[tuple[str, ...]] = (
        COPIED.format("AVI (MPEG-4, MP3)"),
        "the MP3 encoder's delay makes the sound late by 1105 samples of the source's rate, empty chunks the picture "
        "by one or two frames: together the sound is about 11 to 15 ms early",
        STORED.format("AVI, MPEG-4"),
        "a track needs more than 100 detections (4.04 s; ours: more than 50)",
        "shots are cut at a difference of 30, in every nth pixel (scenedetect 0.5.1)",
        "a silent track is scored",
        "the reference gives one result per track; the value is their mean (ours: the track with the largest Sync-C)",
    )
    tracks, lips, sound = features_of(SYNCNET_PYTHON)

    def chosen(self, found: list[Sync]) -> Sync:
        """The mean over tracks; the mean offset as a whole number of frames, rounded towards 0."""
        c, d, offset = np.mean(found, axis=0)
        return Sync(float(c), float(d), int(offset))


class LatentSync(SyncNetPython):
    """What the evaluation of bytedance/LatentSync sees."""

    protocol = "latentsync"
    source = "bytedance/LatentSync a229c39"
    differs = (
        COPIED.format("MP4 (H.264, AAC)"),
        STORED.format("MP4, MPEG-4 and AAC"),
        "a silent track is scored",
        "the mean over all tracks (ours: the track with the largest Sync-C)",
    )
    tracks, lips, sound = features_of(LATENTSYNC)


C = TypeVar("C", bound=Clean)


def published(cls: type[C]) -> type[C]:
    """Declare a pipeline joined with one of our metrics as that metric's published variant."""
    card = next(vars(base)["card"] for base in cls.__mro__ if "card" in vars(base))
    return sample_metric(
        f"{card.id}@{cls.protocol}", version=card.version, better=card.better, unit=card.unit, range=card.range,
        source=cls.source, differs=cls.differs, fields=dict(card.fields),
    )(cls)  # fmt: skip


C_FIELDS = {"mean": "mean over the tracks", "tracks": "face tracks scored", "side": "px, mean face size of the largest"}
D_FIELDS = {"mean": "mean over the tracks", "lowest": "lowest of the tracks", "tracks": "face tracks scored"}
OFFSET_FIELDS = {
    "frames": "signed offset in frames of 40 ms; positive: the sound comes before its picture",
    "tracks": "face tracks scored",
}


@sample_metric(
    "sync_c", version=1, better="higher", range=(0, None), source=f"{PAPER}; also LSE-C, Prajwal et al. 2020 (Wav2Lip)",
    fields=C_FIELDS,
)  # fmt: skip
class SyncC(Clean):
    """Sync-C (LSE-C): how much nearer lips and voice are at the best lag than at a usual one.

    Median minus minimum of the mean distance over 31 lags. Real talking heads reach about 7; below 1 it is chance. Of
    several faces the one that fits best is taken. Not applicable without a face, for faces up to 100 px, in shots or
    clips under 51 frames at 25 fps (2.04 s), and for a silent track. Trained on photographed faces: do not pool it
    with cartoons. It depends on the length of the track; compare clips of equal length.
    """

    def score(self, tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> dict[str, float]:
        found = self.syncs(tracks, lips, sound)
        mean = float(np.mean([one.c for one in found]))
        return {"": self.chosen(found).c, "mean": mean, "tracks": len(found), "side": float(tracks["side"].max())}


@sample_metric(
    "sync_d", version=1, better="lower", range=(0, None), source=f"{PAPER}; also LSE-D, Prajwal et al. 2020 (Wav2Lip)",
    fields=D_FIELDS,
)  # fmt: skip
class SyncD(Clean):
    """Sync-D (LSE-D): mean distance of lips and voice at the best lag; real talking heads have about 7.

    Of several faces the one with the largest Sync-C is taken. Applicable where Sync-C is.
    """

    def score(self, tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> dict[str, float]:
        found = self.syncs(tracks, lips, sound)
        all_d = [one.d for one in found]
        return {
            "": self.chosen(found).d, "mean": float(np.mean(all_d)), "lowest": min(all_d), "tracks": len(found),
        }  # fmt: skip


@sample_metric(
    "lip_offset", version=1, better="lower", unit="s", range=(0, REACH / FPS), source=PAPER, fields=OFFSET_FIELDS
)
class LipOffset(Clean):
    """Absolute offset in seconds between lips and voice, in steps of 0.04 s up to 0.6 s, of the track that fits best.

    It means something only where Sync-C is well above chance: without any fit it is 0.6 s or random.
    """

    def score(self, tracks: dict[str, np.ndarray], lips: np.ndarray, sound: np.ndarray) -> dict[str, float]:
        found = self.syncs(tracks, lips, sound)
        offset = self.chosen(found).offset
        return {"": abs(offset) / FPS, "frames": offset, "tracks": len(found)}


@published
class SyncCSmallFaces(SmallFaces, SyncC):
    """Sync-C for faces of any size: generated scenes often show people at full length, with faces of 50 to 100 px."""


@published
class SyncDSmallFaces(SmallFaces, SyncD):
    """Sync-D for faces of any size."""


@published
class LipOffsetSmallFaces(SmallFaces, LipOffset):
    """Absolute offset in seconds between lips and voice, for faces of any size."""


@published
class SyncCSyncNetPython(SyncNetPython, SyncC):
    """Sync-C (LSE-C) as the original SyncNet pipeline computes it."""


@published
class SyncDSyncNetPython(SyncNetPython, SyncD):
    """Sync-D (LSE-D) as the original SyncNet pipeline computes it."""


@published
class LipOffsetSyncNetPython(SyncNetPython, LipOffset):
    """Absolute offset in seconds between lips and voice as the original SyncNet pipeline finds it."""


@published
class SyncCLatentSync(LatentSync, SyncC):
    """Sync-C as LatentSync's evaluation (also T2AV-Compass) computes it."""


@published
class SyncDLatentSync(LatentSync, SyncD):
    """Sync-D on LatentSync's copies and tracks; its evaluation prints Sync-C and the offset alone."""


@published
class LipOffsetLatentSync(LatentSync, LipOffset):
    """Absolute offset in seconds between lips and voice as LatentSync's evaluation finds it."""
