"""Visual quality as Verse-Bench, Harmony and T2AV-Compass report it, where that is not VBench.

Verse-Bench: Wang et al. 2025 (UniVerse-1), Dorniwang/Verse-Bench 5645a09. Harmony: Hu et al. 2025, which names the same
networks and whose evaluation code is not public; what it leaves open is taken from Verse-Bench. T2AV-Compass:
NJU-LINK/T2AV-Compass b726966. Harmony's motion smoothness and dynamic degree are VBench's.
"""

from __future__ import annotations

import numpy as np

from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature
from avbench.metric import Rows, sample_metric, set_metric
from avbench.metrics.clip import unit
from avbench.metrics.vbench import MEAN, RAFT, AestheticQuality, ImagingQuality
from avbench.metrics.views_quality import Pairs
from avbench.views import AllFrames, Frames, Linspace, Squash

VERSE = "Wang et al. 2025, Dorniwang/Verse-Bench 5645a09"
HARMONY = "Hu et al. 2025 (Harmony); code not public, details from Dorniwang/Verse-Bench 5645a09"
COMPASS = "NJU-LINK/T2AV-Compass b726966"
ENCODERS = "avbench.metrics.encoders"
V2_5 = ("siglip_so400m_384", "aesthetic_v2_5")

AESTHETIC_V2_5 = Encoder("aesthetic.v2_5", f"{ENCODERS}.aesthetic:v2_5", weights=V2_5, batch=32, flops=6.7e11)
AESTHETIC_BF16 = Encoder("aesthetic.v2_5_bf16", f"{ENCODERS}.aesthetic:v2_5_bf16", weights=V2_5, batch=32, flops=6.7e11)
MUSIQ_KONIQ = Encoder("musiq.koniq", f"{ENCODERS}.musiq:quality", weights=("musiq_koniq",), batch=4)
DINOV3 = Encoder("dinov3.vitl16", f"{ENCODERS}.dinov3:image", weights=("dinov3_vitl16",), batch=64, flops=1.3e11)

SQUARE = Squash(384, 384, "bicubic-pil")
CLS, LATE_PATCH = range(2)  # rows of DINOv3's feature

# --- aesthetic and imaging quality ---


@sample_metric(
    "aesthetic_quality@harmony", version=1, better="higher", range=(0, 1), source=HARMONY,
    differs=["aesthetic predictor v2.5 on SigLIP instead of LAION's linear one on CLIP; frames squashed to a square"],
)  # fmt: skip
class AestheticQualityHarmony(AestheticQuality):
    """Aesthetic predictor v2.5 (SigLIP so400m, 384 pixels), mean over every frame, divided by 10.

    In the run's precision. 0.55 and more counts as very good.
    """

    frames = Feature(AESTHETIC_V2_5, Frames(AllFrames(), SQUARE))


@sample_metric(
    "aesthetic_quality@verse-bench", version=1, better="higher", range=(0, 1), source=VERSE,
    differs=["as @harmony, in bfloat16: a frame's score is a multiple of 1/32 above 4 and of 1/64 below"],
)  # fmt: skip
class AestheticQualityVerse(AestheticQuality):
    """Aesthetic predictor v2.5 as Verse-Bench runs it."""

    frames = Feature(AESTHETIC_BF16, Frames(AllFrames(), SQUARE))


@sample_metric(
    "aesthetic_quality@t2av-compass", version=1, better="higher", range=(0, 10), source=COMPASS,
    differs=["as @verse-bench, on 10 frames spread over the clip, and not divided by 10"],
)  # fmt: skip
class AestheticQualityCompass:
    """Aesthetic predictor v2.5 as T2AV-Compass runs it, 0...10."""

    frames = Feature(AESTHETIC_BF16, Frames(Linspace(10, distinct=True), SQUARE))

    def score(self, frames: np.ndarray) -> float:
        return float(frames.mean(dtype=np.float64))


@sample_metric(
    "imaging_quality@verse-bench", version=1, better="higher", range=(0, 1), source=VERSE,
    differs=["MUSIQ trained on KonIQ-10k instead of SPAQ", "frames at native size"],
)  # fmt: skip
class ImagingQualityVerse(ImagingQuality):
    """MUSIQ trained on KonIQ-10k, on frames at native size, divided by 100: what Harmony and Verse-Bench call IQ."""

    frames = Feature(MUSIQ_KONIQ, Frames())


# --- motion ---


@sample_metric(
    "dynamic_degree@verse-bench", version=1, better="none", unit="px", range=(0, None), source=VERSE,
    differs=[
        "mean of |u| and |v| over all pixels and all neighbouring frames, not a share of dynamic clips",
        "frames halved until no side is over 640; not brought to one frame rate or size",
    ],
)  # fmt: skip
class MotionScoreVerse:
    """RAFT motion score of Verse-Bench, which defines it and leaves it out of its table."""

    motion = Feature(RAFT, Pairs("frame", small=True))

    def score(self, motion: np.ndarray) -> float:
        return float(motion[:, MEAN].mean(dtype=np.float64))


# --- identity ---

FACES = Feature(DINOV3, Frames(AllFrames(), Squash(224, 224, "bilinear-torch-antialias", dtype="float32")))


def likeness_to(frames: np.ndarray, shown: np.ndarray) -> float:
    """Mean cosine between each frame's feature [T, D] and one image's [D]."""
    return float((unit(frames) @ unit(shown)).mean())


@sample_metric(
    "id_consistency", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Siméoni et al. 2025 (DINOv3); after Harmony and Verse-Bench",
)  # fmt: skip
class IdConsistency:
    """Does who or what is shown stay the same? Mean cosine of DINOv3 ViT-L/16 features of every frame to the first.

    Class tokens of frames squashed to 224 x 224; the first frame itself does not count. Needs no reference image: where
    the generator was given one, its first frame is that image, and `@harmony` compares with the image itself.
    """

    frames = FACES

    def score(self, frames: np.ndarray) -> float:
        if len(frames) < 2:
            raise NotApplicable("too_few_frames", "one frame cannot be compared with itself")
        return likeness_to(frames[1:, CLS], frames[0, CLS])


class ToReference:
    """Base: every frame of a generated clip against the first frame of its reference (an image is one frame)."""

    frames = FACES
    token: int

    def reduce(self, generated: Rows, reference: Rows | None) -> float:
        assert reference is not None  # the card asks for it
        pairs = zip(generated.frames, reference.frames)
        return float(np.mean([likeness_to(ours[:, self.token], real[0, self.token]) for ours, real in pairs]))


@set_metric(
    "id_consistency@harmony", version=1, better="higher", unit="cosine", range=(-1, 1), source=HARMONY, paired=True,
    differs=["every frame is compared with the reference of the sample, an image or the first frame of a clip"],
)  # fmt: skip
class IdConsistencyHarmony(ToReference):
    """Likeness to the reference image in DINOv3's class token, mean over frames, then over clips."""

    token = CLS


@set_metric(
    "id_consistency@verse-bench", version=1, better="higher", unit="cosine", range=(-1, 1), source=VERSE, paired=True,
    differs=[
        "every frame is compared with the reference of the sample, an image or the first frame of a clip",
        "the feature is the last patch but one (row 14, column 13), not the class token",
    ],
)  # fmt: skip
class IdConsistencyVerse(ToReference):
    """Identity consistency as Verse-Bench's released code computes it: by accident, of one patch near the corner."""

    token = LATE_PATCH
