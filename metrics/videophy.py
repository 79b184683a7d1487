"""VideoPhy: does a video do what it should, and does it obey physics, in the eyes of a trained judge?

Bansal et al., "VideoPhy: Evaluating Physical Commonsense for Video Generation", 2024, and "VideoPhy-2: A Challenging
Action-Centric Physical Commonsense Evaluation in Video Generation", 2025; Hritikbansal/videophy 01d366c. Scores differ
little between models and rank them otherwise than people do; the author advises human evaluation for final claims.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from avbench.clip import Clip
from avbench.errors import NotApplicable, SampleError
from avbench.features import Encoder, Feature, View
from avbench.metric import sample_metric
from avbench.views import Frames, Segments, Squash

SOURCE = "Bansal et al. 2025 (VideoPhy-2), Hritikbansal/videophy 01d366c"
SOURCE_1 = "Bansal et al. 2024 (VideoPhy), Hritikbansal/videophy 01d366c"
MODULE = "avbench.metrics.encoders.videophy"
PASS = 4  # a score that counts as good, for the joint share

EYES_2 = Encoder("videophy2.eyes", f"{MODULE}:eyes", weights=("videophy2_auto",), batch=4, flops=5.4e12)
EYES_1 = Encoder("videophy1.eyes", f"{MODULE}:eyes", weights=("videophy1_judge",), batch=4, flops=5.4e12)
JUDGE_2 = Encoder("videophy2.judge", f"{MODULE}:judge2", weights=("videophy2_auto", "videophy2_prompts"), unit="clip")
JUDGE_1 = Encoder("videophy1.judge", f"{MODULE}:judge1", weights=("videophy1_judge", "videophy1_prompts"), unit="clip")
FRAMES = Frames(Segments(32), Squash(224, 224, "bilinear-pil"), together=True)


@dataclass(frozen=True)
class Question(View):
    """What is asked of a video that has been looked at: (kind, word vectors, caption)."""

    kind: Literal["sa", "pc"]
    seen: Feature = field(repr=False)
    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (self.seen,)

    @property
    def fields(self) -> tuple[str, ...]:
        return ("video_text",) if self.kind == "sa" else ()

    def __call__(self, clip: Clip | None, *inputs: Any) -> Any:
        seen, *captions = inputs
        if self.kind == "sa" and not captions[0]:
            raise NotApplicable("no_video_text", "the sample has no video_text")
        return self.kind, seen[0], *(captions or ("",))


def asked(kind: Literal["sa", "pc"], judge: Encoder, looking: Encoder) -> Feature:
    """The judge's answer to one question."""
    return Feature(judge, Question(kind, Feature(looking, FRAMES)))


Answer = dict[str, np.ndarray]
SA_2, PC_2 = asked("sa", JUDGE_2, EYES_2), asked("pc", JUDGE_2, EYES_2)

# --- reading an answer ---

WORDS = ("zero", "one", "two", "three", "four", "five")
NUMBER = re.compile(rf"(?<![\w.])(\d+(?:\.\d+)?)(?![\w])|\b({'|'.join(WORDS)})\b")


def text_of(answer: Answer) -> str:
    """The judge's words."""
    return answer["answer"].astype(np.uint8).tobytes().decode(errors="replace")


def read(text: str) -> int:
    """The first number in an answer, which must be a whole one from 1 to 5 ("4", "4.0", "3/5", "four")."""
    found = NUMBER.search(text.lower())
    value = float(WORDS.index(found[2]) if found[2] else found[1]) if found else 0
    if value not in (1, 2, 3, 4, 5):
        raise SampleError("judge.unreadable", f"the judge answered {text.strip()!r}, not a score from 1 to 5")
    return int(value)


def read_released(text: str) -> int:
    """The released parser: number words, then digits, each looked for anywhere, smallest first; nothing found is 0."""
    text = text.lower().strip()
    keys = [*enumerate(WORDS), *((digit, str(digit)) for digit in range(6))]
    return next((value for value, key in keys if key in text), 0)


def expected(answer: Answer) -> dict[str, float]:
    """{"expected": mean score under the probabilities of the digits}, nothing where the answer has no digit."""
    digits = answer["digits"].astype(np.float64)
    return {"expected": float(digits @ np.arange(1, 6) / digits.sum())} if digits.sum() else {}


FIELDS = {"expected": "mean of 1...5 under the judge's probabilities of the five digits (ours, not the paper's)"}


@sample_metric("videophy2_sa", version=1, better="higher", range=(1, 5), source=SOURCE, fields=FIELDS)
class SemanticAdherence:
    """Does the video show what its caption says? VideoPhy-2's judge, 1 (not at all) to 5 (perfectly).

    32 frames, 224 x 224, scaled from the decoded picture (the reference scales inside its decoder, 1 to 2 grey levels
    apart). The caption is `video_text`. An answer that is not a score is a failure, never a 0.
    """

    answer = SA_2

    def score(self, answer: Answer) -> dict[str, float]:
        return {"": float(read(text_of(answer))), **expected(answer)}


@sample_metric("videophy2_pc", version=1, better="higher", range=(1, 5), source=SOURCE, fields=FIELDS)
class PhysicalCommonsense:
    """Does the video obey the laws of physics? VideoPhy-2's judge, 1 (violates them) to 5 (obeys them all).

    The judge sees no caption. Published models lie between 2.9 and 3.1, so differences are small.
    """

    answer = PC_2

    def score(self, answer: Answer) -> dict[str, float]:
        return {"": float(read(text_of(answer))), **expected(answer)}


@sample_metric("videophy2_joint", version=1, better="higher", unit="share", range=(0, 1), source=SOURCE)
class Joint:
    """The share of clips with both semantic adherence and physical commonsense of at least 4: the paper's headline."""

    adherence = SA_2
    physics = PC_2

    def score(self, adherence: Answer, physics: Answer) -> float:
        return float(min(read(text_of(adherence)), read(text_of(physics))) >= PASS)


RELEASED = [
    "the first of zero...five, 0...5 found anywhere in the answer counts: '4.0' is 0, 'none' is 1, '3/5' is 3",
    "an answer without a number is 0",
]


@sample_metric("videophy2_sa@videophy2", version=1, better="higher", range=(0, 5), source=SOURCE, differs=RELEASED)
class SemanticAdherenceReleased:
    """Semantic adherence with the released parser."""

    answer = SA_2

    def score(self, answer: Answer) -> float:
        return float(read_released(text_of(answer)))


@sample_metric("videophy2_pc@videophy2", version=1, better="higher", range=(0, 5), source=SOURCE, differs=RELEASED)
class PhysicalCommonsenseReleased:
    """Physical commonsense with the released parser."""

    answer = PC_2

    def score(self, answer: Answer) -> float:
        return float(read_released(text_of(answer)))


@sample_metric(
    "videophy2_joint@videophy2", version=1, better="higher", unit="share", range=(0, 1), source=SOURCE,
    differs=RELEASED,
)  # fmt: skip
class JointReleased:
    """The joint share with the released parser."""

    adherence = SA_2
    physics = PC_2

    def score(self, adherence: Answer, physics: Answer) -> float:
        return float(min(read_released(text_of(adherence)), read_released(text_of(physics))) >= PASS)


@sample_metric("videophy1_sa", version=1, better="higher", unit="probability", range=(0, 1), source=SOURCE_1)
class SemanticAdherence1:
    """Does the video entail its caption? The first VideoPhy judge: p(Yes) against p(No).

    Probabilities in float32 from bfloat16 logits; the reference divides in bfloat16, in steps of 1/256. A prompt beyond
    257 tokens, which the reference cuts off and still reads, is a failure.
    """

    answer = asked("sa", JUDGE_1, EYES_1)

    def score(self, answer: np.ndarray) -> float:
        return float(answer[0])


@sample_metric("videophy1_pc", version=1, better="higher", unit="probability", range=(0, 1), source=SOURCE_1)
class PhysicalCommonsense1(SemanticAdherence1):
    """Does the video follow the laws of physics? The first VideoPhy judge: p(Yes) against p(No)."""

    answer = asked("pc", JUDGE_1, EYES_1)
