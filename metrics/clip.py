"""CLIP score: how well the frames of a video fit its prompt, and the variants that papers print under that name.

Values of different checkpoints are not comparable: ViT-L/14 gives about 0.22 to 0.28 where ViT-B/32 gives 0.28 to 0.34.
VideoCLIP-XL-v2, which T2AV-Compass uses, is another network with its own text encoder and is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from avbench.clip import Clip
from avbench.features import Encoder, Feature, Text, View
from avbench.metric import sample_metric
from avbench.views import AllFrames, Frames, Linspace, Middle, ShortSide

ENCODERS = "avbench.metrics.encoders.clip"


def image_tower(size: str, batch: int, flops: float) -> Encoder:
    """The image tower of `clip_vit_<size>`."""
    return Encoder(f"clip.{size}.image", f"{ENCODERS}:image", weights=(f"clip_vit_{size}",), batch=batch, flops=flops)


def text_tower(size: str, flops: float, function: str = "text") -> Encoder:
    """The text tower of `clip_vit_<size>`."""
    name = f"clip.{size}.{function}"
    return Encoder(name, f"{ENCODERS}:{function}", weights=(f"clip_vit_{size}",), batch=64, flops=flops)


CLIP_B32_IMAGE, CLIP_B32_TEXT = image_tower("b32", 256, 8.8e9), text_tower("b32", 5.9e9)
CLIP_B16_IMAGE, CLIP_B16_TEXT = image_tower("b16", 256, 3.5e10), text_tower("b16", 5.9e9)
CLIP_L14_IMAGE, CLIP_L14_TEXT = image_tower("l14", 64, 1.62e11), text_tower("l14", 1.32e10)
CLIP_L14_TEXT_CUT = text_tower("l14", 1.32e10, "text_cut")


OPENAI = ShortSide(224, "bicubic-pil")  # OpenAI's own preprocessing, up to the normalisation


@dataclass(frozen=True)
class Swapped(View):
    """Frames whose red and blue are exchanged."""

    frames: Frames

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        return self.frames(clip)[..., ::-1]


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float64."""
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@sample_metric(
    "clip_score", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Radford et al. 2021 (CLIP ViT-B/32); frames of JavisVerse/JavisDiT b505b37, eval/javisbench",
)  # fmt: skip
class ClipScore:
    """Text-video alignment in CLIP space: mean cosine between the prompt and 48 frames.

    OpenAI's ViT-B/32 in the run's precision; frames equally spaced over the whole clip, both ends included (all frames
    of a shorter one), OpenAI's own preprocessing. The raw cosine: 0.28 to 0.34 is usual, some papers print it times
    100. A prompt beyond 75 tokens is cut, its end token kept.
    """

    frames = Feature(CLIP_B32_IMAGE, Frames(Linspace(48, distinct=True), OPENAI))
    text = Feature(CLIP_B32_TEXT, Text("text"))

    def score(self, frames: np.ndarray, text: np.ndarray) -> float:
        return float((unit(frames) @ unit(text[0])).mean())


@sample_metric(
    "clip_score@javisbench", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="JavisVerse/JavisDiT b505b37, eval/javisbench",
    differs=[
        "red and blue are exchanged before the image encoder",
        "a clip under 48 frames repeats frames, and repeats count",
        "on CUDA the reference computes in float16; here the run's precision holds",
    ],
)  # fmt: skip
class ClipScoreJavisBench(ClipScore):
    """CLIP score as JavisBench's released evaluator computes it."""

    frames = Feature(CLIP_B32_IMAGE, Swapped(Frames(Linspace(48), OPENAI)))


@sample_metric(
    "clip_score@vbench", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Vchitect/VBench 45e79ec, competition script",
    differs=[
        "8 frames, the middles of equal parts of the clip",
        "frames resized without antialias and rounded to bytes",
        "on CUDA the reference computes in float16; here the run's precision holds",
    ],
)  # fmt: skip
class ClipScoreVBench(ClipScore):
    """CLIP score of VBench's competition script."""

    frames = Feature(CLIP_B32_IMAGE, Frames(Middle(8), ShortSide(224, "bicubic-torch")))


@sample_metric(
    "clip_score@clipsim", version=1, better="higher", unit="cosine", range=(-1, 1),
    source="Wu et al. 2021 (GODIVA), CLIPSIM",
    differs=["every frame of the clip"],
)  # fmt: skip
class ClipScoreClipsim(ClipScore):
    """CLIPSIM in its classic form: every frame of the clip, ViT-B/32.

    VBench's appearance style is the same number, but refuses prompts beyond 75 tokens.
    """

    frames = Feature(CLIP_B32_IMAGE, Frames(AllFrames(), OPENAI))


@sample_metric(
    "clip_score@torchmetrics", version=1, better="higher", unit="cosine x 100", range=(-100, 100),
    source="Lightning-AI/torchmetrics, CLIPScore with its default openai/clip-vit-large-patch14",
    differs=[
        "ViT-L/14 instead of ViT-B/32: values are not comparable",
        "every frame of the clip (torchmetrics leaves the choice to the caller)",
        "times 100",
        "a prompt of 76 tokens or more loses its end token, and all such prompts share one embedding",
        "torchmetrics sets a negative mean over the set to 0; a clip's value keeps its sign here",
    ],
)  # fmt: skip
class ClipScoreTorchmetrics(ClipScore):
    """CLIPScore as torchmetrics computes it by default, over the frames of a clip."""

    frames = Feature(CLIP_L14_IMAGE, Frames(AllFrames(), OPENAI))
    text = Feature(CLIP_L14_TEXT_CUT, Text("text"))

    def score(self, frames: np.ndarray, text: np.ndarray) -> float:
        return 100.0 * super().score(frames, text)
