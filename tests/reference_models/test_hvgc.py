"""Separate captions for video and sound."""

from __future__ import annotations

import re

import pytest

from avbench.reference_models.hvgc import RULES, Stages, by_chat, clauses, hvgc, tag
from avbench.suite import load_suite


@pytest.mark.parametrize(
    "caption, video, audio",
    [
        (
            "A dog in a red coat barks at a cat, while loud music is heard.",
            "A dog in a red coat barks at a cat.",
            "A dog in a red coat barks at a cat, loud music is heard.",
        ),
        ("A blue sky over a field.", "A blue sky over a field.", ""),
        ("Rain falls; a woman in white stands still", "Rain falls, a woman in white stands still.", "Rain falls."),
        ("A low hum.", "A low hum.", "A low hum."),  # nothing for the eye: the caption stays
        ("", "", ""),
    ],
)
def test_rules(caption: str, video: str, audio: str) -> None:
    assert hvgc(caption, RULES) == (video, audio)


def test_rules_imagine_nothing() -> None:
    """Every word of both captions is one of the source, and sound is found in most of clatter's captions that sound."""
    samples = load_suite("clatter-mini").samples
    heard = 0
    for sample in samples:
        made = hvgc(sample.text, RULES)
        words = set(re.findall(r"\w+", sample.text.lower()))
        assert set(re.findall(r"\w+", " ".join(made).lower())) <= words
        heard += bool(made.audio_text)
    assert heard > 0.8 * len(samples)


def test_stages_by_a_text_model() -> None:
    """Stage 2 reads the visual description, stage 3 that and the tags; doubled and empty tags go."""
    asked: list[str] = []

    def chat(question: str) -> str:
        asked.append(question)
        return "- hammer striking metal\n* hiss of sparks\n\nhammer striking metal" if len(asked) == 1 else " Clang. "

    made = hvgc("clip.mp4", by_chat(lambda path: f"a smith, seen in {path}", chat))
    assert made == ("a smith, seen in clip.mp4", "Clang.")
    assert "a smith, seen in clip.mp4" in asked[0] and "clip.mp4" in asked[1]
    assert asked[1].count("hammer striking metal") == 1 and "hiss of sparks" in asked[1]


def test_tags_are_grounded_in_the_description() -> None:
    """The paper's order: what stage 1 leaves out, stage 2 cannot name."""
    told = "A dog barks, a bell rings"
    dog = Stages(lambda source: clauses(source)[0], tag, lambda video, tags: ", ".join(tags))
    assert hvgc(told, dog).audio_text == "A dog barks"
    assert hvgc(told, dog._replace(grounded=False)).audio_text == "A dog barks, a bell rings"
