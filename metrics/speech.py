"""Word and character error rate of what is said against what should be said.

Protocol: specs of Whisper (Radford et al. 2022) for the English normaliser, jiwer for the alignment. Transcription
settings are frozen in `metrics/encoders/whisper.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from avbench.clip import Clip
from avbench.errors import NotApplicable
from avbench.features import Encoder, Feature, Field, View
from avbench.metric import sample_metric
from avbench.metrics.encoders.whisper import SPACELESS
from avbench.store import array_text, text_array

BY_CHARACTER = (*SPACELESS, "ko")


@dataclass(frozen=True)
class Speech(View):
    """The whole audio as 16 kHz mono, with the language it should be in."""

    media: ClassVar[frozenset[str]] = frozenset({"audio"})

    @property
    def fields(self) -> tuple[str, ...]:
        return ("language",)

    def __call__(self, clip: Clip, *inputs: Any) -> Any:
        from avbench.metrics.encoders.whisper import to_16k

        return {"audio": to_16k(clip.need_audio()), "language": text_array(str(inputs[0]))}


WHISPER = Encoder("whisper", "avbench.metrics.encoders.whisper:load", version=2, weights=("whisper",), unit="clip")


@cache
def _english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


@cache
def _basic() -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer()


def english(text: str) -> list[str]:
    """Whisper's English normaliser, then words."""
    return _english()(text).split()


def basic(text: str) -> list[str]:
    """Whisper's multilingual normaliser, then words."""
    return _basic()(text).split()


def characters(text: str) -> list[str]:
    """Whisper's multilingual normaliser, white space removed, one token per character."""
    return list("".join(_basic()(text).split()))


def lower(text: str) -> list[str]:
    """Stripped and lowered, punctuation kept."""
    return text.strip().lower().split()


def lower_nopunct(text: str) -> list[str]:
    """Lowered, ASCII punctuation deleted without splitting words."""
    return re.sub(r"[!-/:-@\[-`{-~]", "", text.lower()).split()


def verse_bench(text: str) -> list[str]:
    """`lower`; a text of nothing but ASCII punctuation is empty."""
    return [] if re.fullmatch(r"[!-/:-@\[-`{-~\s]*", text) else lower(text)


@dataclass(frozen=True)
class Errors:
    """Edit operations between token lists: substitutions, deletions, insertions, and the reference's length."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def rate(self) -> float:
        return (self.substitutions + self.deletions + self.insertions) / self.length

    def fields(self, prefix: str = "") -> dict[str, float]:
        edits = self.substitutions + self.deletions + self.insertions
        return {f"{prefix}errors": float(edits), f"{prefix}length": float(self.length)}


def align(reference: list[str], hypothesis: list[str]) -> Errors:
    """Levenshtein alignment of token lists with unit costs. An empty reference has no rate: `NotApplicable`."""
    import jiwer

    if not reference:
        raise NotApplicable("no_speech_text", "nothing is left of the reference after normalisation")
    if not hypothesis:
        return Errors(0, len(reference), 0, len(reference))
    # jiwer splits on blanks; tokens hold none, so joining is exact
    out = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return Errors(out.substitutions, out.deletions, out.insertions, len(reference))


def require_language(language: str, by_character: bool) -> None:
    """WER is for languages that write words apart, CER for the others."""
    if (language in BY_CHARACTER) != by_character:
        other = "wer" if by_character else "cer"
        raise NotApplicable("language", f"{language} is scored by {other}")


class _Transcribed:
    """Inputs shared by all error rates."""

    speech = Feature(WHISPER, Speech())
    speech_text = Field("speech_text")
    language = Field("language")


@sample_metric(
    "wer", version=1, better="lower", unit="rate", range=(0, None),
    source="Whisper large-v3 (Radford et al. 2022), english normaliser; jiwer",
    fields={
        "errors": "edits, for the micro average: sum of errors / sum of length",
        "length": "words of the reference",
        "clipped": "min(1, WER)",
        "lower_nopunct": "WER after lowering and deleting ASCII punctuation only",
    },
)  # fmt: skip
class WER(_Transcribed):
    """Word error rate of the transcript against `speech_text`, unclipped, averaged over clips (macro).

    Transcription by Whisper with frozen settings (beam 5, temperature 0, language forced). English text is normalised
    as Whisper's authors do, other languages by their multilingual normaliser. A clip that says nothing scores 1. Not
    applicable without `speech_text`, without audio, and for languages that are scored by characters (see `cer`).
    """

    def score(self, speech: dict[str, np.ndarray], speech_text: str, language: str) -> dict[str, float]:
        require_language(language, by_character=False)
        heard = array_text(speech["text"])
        normalise = english if language == "en" else basic
        errors = align(normalise(speech_text), normalise(heard))
        plain = align(lower_nopunct(speech_text), lower_nopunct(heard))
        return {"": errors.rate, **errors.fields(), "clipped": min(1.0, errors.rate), "lower_nopunct": plain.rate}


@sample_metric(
    "wer@verse-bench", version=1, better="lower", unit="rate", range=(0, None), source="Verse-Bench (UniVerse-1)",
    differs=(
        "texts are only stripped and lowered: punctuation and spelling count as errors",
        "a transcript of nothing but ASCII punctuation is taken as empty",
        "transcribed here by Whisper, not by SenseVoiceSmall, whose package is not kept",
        "the reference splits every language at spaces; those that `cer` is for are not applicable here",
    ),
)  # fmt: skip
class VerseBenchWER(_Transcribed):
    """Word error rate with Verse-Bench's normalisation, macro average, unclipped."""

    def score(self, speech: dict[str, np.ndarray], speech_text: str, language: str) -> float:
        require_language(language, by_character=False)
        return align(lower(speech_text), verse_bench(array_text(speech["text"]))).rate


@sample_metric(
    "cer", version=1, better="lower", unit="rate", range=(0, None),
    source="Whisper large-v3 (Radford et al. 2022), multilingual normaliser; jiwer",
    fields={"errors": "edits, for the micro average", "length": "characters of the reference", "clipped": "min(1, x)"},
)  # fmt: skip
class CER(_Transcribed):
    """Character error rate, for languages written without spaces (zh, ja, yue, th, lo, my, km) and Korean.

    Both texts pass Whisper's multilingual normaliser and lose their white space. Traditional and Simplified script are
    different characters here.
    """

    def score(self, speech: dict[str, np.ndarray], speech_text: str, language: str) -> dict[str, float]:
        require_language(language, by_character=True)
        errors = align(characters(speech_text), characters(array_text(speech["text"])))
        return {"": errors.rate, **errors.fields(), "clipped": min(1.0, errors.rate)}
