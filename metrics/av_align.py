"""AV-Align: do peaks of motion and onsets of sound fall together?

Source: TempoTokens, Yariv et al. 2023, guyyariv/TempoTokens bf0b1e3 (`av_align.py`); the variant is JavisVerse/JavisDiT
b505b37 (`eval/javisbench`).
"""

from __future__ import annotations

import numpy as np

from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, Whole
from avbench.metric import Track, sample_metric

FARNEBACK = Encoder("farneback", "avbench.metrics.encoders.farneback:load", unit="clip")
ONSETS = Encoder("onsets", "avbench.metrics.encoders.onsets:load_22050", unit="clip")
ONSETS_NATIVE = Encoder("onsets.native", "avbench.metrics.encoders.onsets:load_native", unit="clip")
FLOOR = 0.1  # pixels; below it a still scene would have peaks
SILENT = 1e-3  # -60 dBFS


def flow_peaks(flow: np.ndarray, fps: float, floor: float = 0.0) -> np.ndarray:
    """Seconds of the strict local maxima of a series sampled at fps, end points excluded."""
    inner = flow[1:-1]
    peak = (flow[:-2] < inner) & (inner > flow[2:]) & (inner >= floor)
    return (np.flatnonzero(peak) + 1) / fps


def matched_once(audio: np.ndarray, video: np.ndarray, fps: float) -> int:
    """Audio peaks in order each take the first free video peak that is nearer than one frame."""
    free, hits = list(video), 0
    for time in audio:
        near = next((peak for peak in free if peak - 1 / fps < time < peak + 1 / fps), None)
        if near is not None:
            free.remove(near)
            hits += 1
    return hits


def matched_freely(audio: np.ndarray, video: np.ndarray, fps: float) -> int:
    """Audio peaks that have any video peak nearer than one frame; a video peak may serve several."""
    return sum(bool(((video - 1 / fps < time) & (time < video + 1 / fps)).any()) for time in audio)


@sample_metric(
    "av_align", version=1, better="higher", unit="IoU", range=(0, 1),
    source="TempoTokens, Yariv et al. 2023; guyyariv/TempoTokens bf0b1e3",
    fields={"audio_peaks": "onsets found", "video_peaks": "flow peaks found", "matched": "pairs within one frame"},
)  # fmt: skip
class AVAlign:
    """Intersection over union of audio onsets and optical-flow peaks.

    Onsets: librosa onset detection at 22,050 Hz on the mean of all channels. Motion: mean Farneback flow magnitude per
    frame; its strict local maxima of at least 0.1 px are peaks. An onset matches the first free peak that is less than
    one frame away; every peak is used once. Value = matched / (onsets + peaks - matched), 0 where only one side has
    peaks. Not applicable without audio, with a silent track, with fewer than two frames, or where neither side has a
    peak. The audio's start offset is honoured. A peak's time is its index over the average frame rate, as in the
    source.
    """

    flow = Feature(FARNEBACK, Whole("video"))
    onsets = Feature(ONSETS, Whole("audio"))

    def score(self, flow: dict[str, np.ndarray], onsets: dict[str, np.ndarray]) -> dict[str, float]:
        if onsets["peak"][0] < SILENT:
            raise NotApplicable("silent", "the audio track is silent")
        fps = float(flow["fps"][0])
        video = flow_peaks(flow["flow"], fps, FLOOR)
        audio = onsets["times"] + onsets["start"][0]
        if not len(video) and not len(audio):
            raise NotApplicable("no_peaks", "neither motion peaks nor audio onsets")
        hits = matched_once(audio, video, fps)
        value = hits / (len(audio) + len(video) - hits)
        return {"": value, "audio_peaks": len(audio), "video_peaks": len(video), "matched": hits}

    def timeline(self, flow: dict[str, np.ndarray], onsets: dict[str, np.ndarray]) -> list[Track]:
        """What a report draws over time."""
        fps = float(flow["fps"][0])
        times = np.arange(len(flow["flow"])) / fps
        return [
            Track("motion (px per frame)", times, flow["flow"], flow_peaks(flow["flow"], fps, FLOOR)),
            Track("audio onsets", events=onsets["times"] + onsets["start"][0]),
        ]


@sample_metric(
    "av_align@javisbench", version=1, better="higher", unit="IoU", range=(0, None),
    source="JavisVerse/JavisDiT b505b37, eval/javisbench",
    differs=(
        "onsets at the audio's native rate instead of 22,050 Hz",
        "no 0.1 px floor on motion peaks, so a still scene has peaks of noise",
        "a motion peak may be matched by several onsets, so that the value can exceed 1",
        "the denominator has 1e-6 added; a clip with no peaks at all scores 0 instead of being not applicable",
        "the audio's start offset is ignored",
    ),
    fields={"audio_peaks": "audio onsets found", "video_peaks": "flow peaks found", "matched": "onsets with a peak"},
)  # fmt: skip
class JavisAVAlign:
    """AV-Align as the released JavisBench evaluator computes it, faults included."""

    flow = Feature(FARNEBACK, Whole("video"))
    onsets = Feature(ONSETS_NATIVE, Whole("audio"))

    def score(self, flow: dict[str, np.ndarray], onsets: dict[str, np.ndarray]) -> dict[str, float]:
        fps = float(flow["fps"][0])
        video, audio = flow_peaks(flow["flow"], fps), onsets["times"]
        hits = matched_freely(audio, video, fps)
        value = hits / (len(audio) + len(video) - hits + 1e-6)
        return {"": value, "audio_peaks": len(audio), "video_peaks": len(video), "matched": hits}
