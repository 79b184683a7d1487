"""VBench's dimensions of visual quality: our defaults, and the numbers that VBench itself prints (`@vbench`).

Huang et al., "VBench: Comprehensive Benchmark Suite for Video Generative Models", CVPR 2024; Vchitect/VBench 45e79ec.
Our defaults use the same networks and formulas on frames that are resized with antialiasing; `@vbench` resizes as
VBench does, without it. Values are 0...1 where VBench has them so; papers print them times 100.
"""

from __future__ import annotations

import numpy as np

from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, Text, Whole
from avbench.metric import Rows, Track, sample_metric, set_metric
from avbench.metrics.clip import CLIP_B32_IMAGE, CLIP_L14_IMAGE, unit
from avbench.metrics.views_quality import Of, Pairs, Spacing, Triples
from avbench.views import AllFrames, Fit, Frames, Middle, ShortSide

SOURCE = "Huang et al. 2024, Vchitect/VBench 45e79ec"
ALIASED = "frames are resized without antialiasing"
HALF = "on CUDA the reference runs CLIP in float16; here the run's precision holds"

ROOM = "avbench.metrics.encoders"
DIFFERENCES = Encoder("frame.differences", f"{ROOM}.differences:load", unit="clip")
DINO = Encoder("dino.vitb16", f"{ROOM}.dino:image", weights=("dino_vitb16",), batch=64, flops=6.5e10)
SPACING = Encoder("frame.spacing", "avbench.features:as_is", unit="clip")
RAFT = Encoder("raft.motion", f"{ROOM}.raft:motion", weights=("raft_things",), batch=4)
AMT = Encoder("amt_s.midpoint", f"{ROOM}.amt:midpoint_error", weights=("amt_s",), batch=4)
MUSIQ_SPAQ = Encoder("musiq.spaq", f"{ROOM}.musiq:quality", weights=("musiq_spaq",), batch=16, flops=3.2e10)
LAION_LINEAR = Encoder("aesthetic.laion", f"{ROOM}.aesthetic:linear", weights=("laion_aesthetic_l14",), batch=256)
VICLIP_VIDEO = Encoder("viclip.video", f"{ROOM}.viclip:vision", weights=("viclip",), batch=8, flops=1.6e12)
VICLIP_TEXT = Encoder("viclip.text", f"{ROOM}.viclip:text", weights=("viclip",), batch=64, flops=5.5e9)

EVERY, EIGHT = AllFrames(), Middle(8)
CLIP_SMOOTH = ShortSide(224, "bicubic-pil")  # CLIP's own preprocessing
CLIP_ALIASED = ShortSide(224, "bicubic-torch", dtype="float32")

EIGHTH = 1 / 8  # of a second
TOP5, TOP2, TOP5_INSIDE, MEAN, SIDE = range(5)  # columns of RAFT's feature
TRUNCATED, EXACT = range(2)  # columns of AMT's feature

# --- subject and background consistency ---


def likeness(features: np.ndarray) -> np.ndarray:
    """Features [T, D] to [T - 1]: the mean of a frame's cosines to the one before and to the first, each at least 0."""
    if len(features) < 2:
        raise NotApplicable("too_few_frames", "one frame cannot be consistent with others")
    x = unit(features)
    before = (x[1:] * x[:-1]).sum(axis=1)
    first = x[1:] @ x[0]
    return (before.clip(0) + first.clip(0)) / 2


class Consistency:
    """Base of the two consistency metrics: features of every frame compared with the last and the first."""

    def score(self, frames: np.ndarray) -> float:
        return float(likeness(frames).mean())


class PairMean:
    """Base of the set scores that weight every pair of frames alike, whichever clip it comes from."""

    def reduce(self, generated: Rows, reference: Rows | None) -> float:
        return float(np.concatenate([likeness(frames) for frames in generated.frames]).mean())


@sample_metric("subject_consistency", version=1, better="higher", range=(0, 1), source=SOURCE)
class SubjectConsistency(Consistency):
    """Does the subject look the same throughout? DINO ViT-B/16 features of each frame against the last and the first.

    Frames are shown whole, short side 224, antialiased. A still video scores 1, so read it beside dynamic_degree.
    Published models lie between 0.87 and 0.98.
    """

    frames = Feature(DINO, Frames(EVERY, ShortSide(224, "bilinear-pil", crop=None)))


@sample_metric(
    "subject_consistency@vbench", version=1, better="higher", range=(0, 1), source=SOURCE, differs=[ALIASED],
)  # fmt: skip
class SubjectConsistencyVBench(SubjectConsistency):
    """Subject consistency of a clip as VBench computes it.

    The mean over clips is VBench's set score with several processes; with one it is `@vbench-pairs`. They differ only
    where clips differ in length.
    """

    frames = Feature(DINO, Frames(EVERY, ShortSide(224, "bilinear-torch", crop=None, dtype="float32")))


@set_metric(
    "subject_consistency@vbench-pairs", version=1, better="higher", range=(0, 1), source=SOURCE, reference=False,
    differs=[ALIASED, "the mean over all pairs of frames of all clips: longer clips weigh more"],
)  # fmt: skip
class SubjectConsistencyPairs(PairMean):
    """Subject consistency of a set as VBench prints it with one process."""

    frames = SubjectConsistencyVBench.frames


@sample_metric("background_consistency", version=1, better="higher", range=(0, 1), source=SOURCE)
class BackgroundConsistency(Consistency):
    """Does the scene look the same throughout? CLIP ViT-B/32 features of each frame against the last and the first.

    Nothing is segmented: "background" is the whole frame, as CLIP's own preprocessing shows it. A still video scores 1.
    Published models lie between 0.93 and 0.98.
    """

    frames = Feature(CLIP_B32_IMAGE, Frames(EVERY, CLIP_SMOOTH))


@sample_metric(
    "background_consistency@vbench", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=[ALIASED + ", and bicubic overshoot is not clamped", HALF],
)  # fmt: skip
class BackgroundConsistencyVBench(BackgroundConsistency):
    """Background consistency of a clip as VBench computes it; its set score is `@vbench-pairs`."""

    frames = Feature(CLIP_B32_IMAGE, Frames(EVERY, CLIP_ALIASED))


@set_metric(
    "background_consistency@vbench-pairs", version=1, better="higher", range=(0, 1), source=SOURCE, reference=False,
    differs=[
        ALIASED + ", and bicubic overshoot is not clamped", HALF,
        "the mean over all pairs of frames of all clips: longer clips weigh more",
    ],
)  # fmt: skip
class BackgroundConsistencyPairs(PairMean):
    """Background consistency of a set as VBench prints it, with any number of processes."""

    frames = BackgroundConsistencyVBench.frames


# --- motion ---


def steadiness(differences: np.ndarray) -> float:
    """1 for no difference at all, 0 for black against white."""
    return 1 - float(differences.mean()) / 255


@sample_metric("temporal_flickering", version=1, better="higher", range=(0, 1), source=SOURCE)
class TemporalFlickering:
    """Absence of flicker: 1 minus the mean absolute difference of neighbouring frames.

    It means something only on scenes that should stand still: motion lowers it as flicker does. VBench generates 25
    clips per prompt and keeps up to five that a filter finds static; `@vbench-static` applies that filter, this one and
    `@vbench` score every clip, as VBench does with custom videos. Needs no weights.
    """

    frames = Feature(DIFFERENCES, Whole("video"))

    def score(self, frames: dict[str, np.ndarray]) -> float:
        return steadiness(frames["differences"])

    def timeline(self, frames: dict[str, np.ndarray]) -> list[Track]:
        return [Track("frame difference", times=frames["times"], values=frames["differences"])]


@sample_metric(
    "temporal_flickering@vbench", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=["the reference adds up in float32: equal to about 1e-7"],
)  # fmt: skip
class TemporalFlickeringVBench(TemporalFlickering):
    """Temporal flickering as VBench scores custom videos: without its static filter."""


def is_static(neighbours: np.ndarray, ends: np.ndarray) -> bool:
    """VBench's static filter on RAFT's features of neighbouring frames [T - 1, 5] and of the two ends [2, 5].

    At most round(T / 8) neighbours may move by more than 3 pixels at a short side of 256 (mean of the fastest 2 %), and
    the ends by at most twice round(T / 8) times that.
    """
    limit = 3 * neighbours[0, SIDE] / 256
    allowed = round(2 * (len(neighbours) + 1) / 16)
    moving = int((neighbours[:, TOP2] > limit).sum())
    return moving <= allowed and not (ends[:, TOP2] > limit * allowed * 2).any()


@sample_metric(
    "temporal_flickering@vbench-static", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=["a clip that VBench's static filter rejects has no value", "all static clips count, not five per prompt"],
)  # fmt: skip
class TemporalFlickeringStatic:
    """Temporal flickering of the clips that pass VBench's static filter, as in its standard protocol."""

    frames = TemporalFlickering.frames
    neighbours = Feature(RAFT, Pairs("frame"))
    ends = Feature(RAFT, Pairs("wrap"))

    def score(self, frames: dict[str, np.ndarray], neighbours: np.ndarray, ends: np.ndarray) -> float:
        if not is_static(neighbours, ends):
            raise NotApplicable("not_static", "VBench's static filter rejects the clip: something in it moves")
        return steadiness(frames["differences"])


@sample_metric("motion_smoothness", version=1, better="higher", range=(0, 1), source=SOURCE)
class MotionSmoothness:
    """Is motion smooth enough to be guessed? AMT-S predicts each odd frame from its neighbours.

    1 minus the mean absolute error of the prediction. A still video scores 1; published models lie between 0.95 and
    0.99. The last frame of an even number is not used.
    """

    errors = Feature(AMT, Triples())

    def score(self, errors: np.ndarray) -> float:
        return steadiness(errors[:, EXACT])


@sample_metric(
    "motion_smoothness@vbench", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=["predicted frames are cut down to whole grey levels before they are compared"],
)  # fmt: skip
class MotionSmoothnessVBench(MotionSmoothness):
    """Motion smoothness as VBench's command line computes it: frames at native size, never scaled down."""

    def score(self, errors: np.ndarray) -> float:
        return steadiness(errors[:, TRUNCATED])


def moves(pairs: np.ndarray, sides: np.ndarray, needed: int) -> bool:
    """Whether at least `needed` pairs move by more than 6 pixels at a short side of 256."""
    return int((pairs > 6 * sides / 256).sum()) >= needed


@sample_metric(
    "dynamic_degree", version=2, better="higher", unit="share", range=(0, 1), source=SOURCE,
    fields={"speed": "mean over pairs of the fastest 5 % of the flow, in pixels per 1/8 s at a short side of 256"},
)  # fmt: skip
class DynamicDegree:
    """Does anything move much? The share of clips that RAFT finds dynamic.

    Of frames about 1/8 s apart, a quarter must move by more than 6 pixels in 1/8 s at a short side of 256, in the mean
    of the fastest 5 % of pixels, padding left out. The frames' own times make pixels of a pair those of 1/8 s, so that
    a frame rate that is no multiple of 8 changes nothing. By itself more is not better: it says how much the
    consistency scores were put to the test.
    """

    motion = Feature(RAFT, Pairs("8fps"))
    spacing = Feature(SPACING, Spacing("8fps"))

    def score(self, motion: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
        pairs, sides = motion[:, TOP5_INSIDE] * (EIGHTH / spacing), motion[:, SIDE]
        dynamic = moves(pairs, sides, max(1, round((len(pairs) + 1) / 4)))
        return {"": float(dynamic), "speed": float((pairs / sides).mean() * 256)}


@sample_metric(
    "dynamic_degree@vbench", version=1, better="higher", unit="share", range=(0, 1), source=SOURCE,
    differs=[
        "flow is judged on the padded frame, and per pair of frames: the same motion counts more at 12 than at 20 fps",
        "two frames always count as dynamic",
        "only the share of dynamic clips, no speed; the reference reads .mp4 files alone",
    ],
)  # fmt: skip
class DynamicDegreeVBench:
    """Dynamic degree as VBench computes it."""

    motion = DynamicDegree.motion

    def score(self, motion: np.ndarray) -> float:
        return float(moves(motion[:, TOP5], motion[:, SIDE], round((len(motion) + 1) / 4)))


# --- frames and text ---


@sample_metric("imaging_quality", version=1, better="higher", range=(0, 1), source=f"{SOURCE}; Ke et al. 2021 (MUSIQ)")
class ImagingQuality:
    """Freedom from noise, blur and over-exposure: MUSIQ trained on SPAQ, mean over frames, divided by 100.

    Frames of at most 512 pixels on the longer side, scaled down with antialiasing. Not comparable with MUSIQ trained on
    KonIQ (`@verse-bench`). The network comes with pyiqa, whose licence forbids commercial use (PolyForm Noncommercial).
    """

    frames = Feature(MUSIQ_SPAQ, Frames(EVERY, Fit(512, "bilinear-torch-antialias")))

    def score(self, frames: np.ndarray) -> float:
        return float(frames.mean(dtype=np.float64)) / 100


@sample_metric(
    "imaging_quality@vbench", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=[ALIASED, "the reference lists clips in 0...100 and sets in 0...1; both are 0...1 here"],
)  # fmt: skip
class ImagingQualityVBench(ImagingQuality):
    """Imaging quality as VBench computes it."""

    frames = Feature(MUSIQ_SPAQ, Frames(EVERY, Fit(512, "bilinear-torch")))


@sample_metric("aesthetic_quality", version=1, better="higher", range=(0, 1), source=f"{SOURCE}; LAION-AI 2022")
class AestheticQuality:
    """Would people like the look of it? LAION's linear predictor on CLIP ViT-L/14, mean over frames, divided by 10.

    This is the first, linear predictor, not the later one with layers nor predictor v2.5 (`@verse-bench`). Frames as
    CLIP's own preprocessing shows them. Published models lie between 0.5 and 0.65.
    """

    frames = Feature(LAION_LINEAR, Of(Feature(CLIP_L14_IMAGE, Frames(EVERY, CLIP_SMOOTH))))

    def score(self, frames: np.ndarray) -> float:
        return float(frames.mean(dtype=np.float64)) / 10


@sample_metric(
    "aesthetic_quality@vbench", version=1, better="higher", range=(0, 1), source=SOURCE,
    differs=[ALIASED + ", and bicubic overshoot is not clamped", HALF],
)  # fmt: skip
class AestheticQualityVBench(AestheticQuality):
    """Aesthetic quality as VBench computes it."""

    frames = Feature(LAION_LINEAR, Of(Feature(CLIP_L14_IMAGE, Frames(EVERY, CLIP_ALIASED))))


@sample_metric(
    "text_consistency", version=1, better="higher", unit="cosine", range=(-1, 1),
    source=f"{SOURCE} (overall consistency); Wang et al. 2024 (ViCLIP)",
)  # fmt: skip
class TextConsistency:
    """Does the video show what the prompt says, motion included? Cosine of ViCLIP-L/14's video and text features.

    Eight frames from the middles of equal parts of the clip, as CLIP's own preprocessing shows them. VBench calls it
    overall consistency; published models lie between 0.25 and 0.29. The prompt is
    `video_text`, cut after 30 tokens.
    """

    video = Feature(VICLIP_VIDEO, Frames(EIGHT, CLIP_SMOOTH, together=True))
    text = Feature(VICLIP_TEXT, Text("video_text"))

    def score(self, video: np.ndarray, text: np.ndarray) -> float:
        return float(unit(video[0]) @ unit(text[0]))


@sample_metric(
    "text_consistency@vbench", version=1, better="higher", unit="cosine", range=(-1, 1), source=SOURCE,
    differs=[ALIASED + " and rounded to bytes", "the reference may take the prompt from the file's name"],
)  # fmt: skip
class TextConsistencyVBench(TextConsistency):
    """Overall consistency as VBench computes it."""

    video = Feature(VICLIP_VIDEO, Frames(EIGHT, ShortSide(224, "bicubic-torch"), together=True))
