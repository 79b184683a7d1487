"""Hierarchical visual-grounded captioning (BridgeDiT's data step): separate captions for the video and for the sound.

Source: arXiv 2510.03117, section 3.2. Three stages: (1) a visual description T_V; (2) tags of what in it can be heard;
(3) a caption T_A of nothing but sound, from both. The paper asks models of 72 B parameters; here each stage is a
function, `by_chat` makes stages 2 and 3 of any text model, and `RULES` is a fallback without one, for English captions.
The instructions are worded anew, not the paper's. `hvgc` gives the fields `video_text` and `audio_text` of a suite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Describe = Callable[[str], str]
"""Stage 1: what is known of a clip (a caption; a path for a vision model) -> T_V."""
Tag = Callable[[str], Sequence[str]]
"""Stage 2: T_V -> tags of what can be heard, grounded in it."""
Write = Callable[[str, Sequence[str]], str]
"""Stage 3: T_V and tags -> T_A."""


class Stages(NamedTuple):
    """The three functions. grounded: whether tags are read off T_V (paper), or off what was given to stage 1."""

    describe: Describe
    tag: Tag
    write: Write
    grounded: bool = True


class Captions(NamedTuple):
    video_text: str
    audio_text: str


def hvgc(source: str, stages: Stages) -> Captions:
    """Both captions of a clip."""
    video = stages.describe(source).strip()
    tags = list(dict.fromkeys(tag.strip() for tag in stages.tag(video if stages.grounded else source) if tag.strip()))
    return Captions(video, stages.write(video, tags).strip())


ASK_TAGS = (
    "Below is a description of what is seen in a video. List the events in it that can be heard, a short phrase on "
    "each line, for example 'hammer striking metal'. Name only what the description shows or implies; if nothing "
    "sounds, answer with an empty line.\n\n{video}"
)
ASK_CAPTION = (
    "Write one sentence that describes the sound of a video, for a listener who sees nothing: sources, actions, "
    "loudness, rhythm, acoustics, but no colours, clothes, light, faces or camera. Use only the sounds in the list; "
    "the description is there to say how they belong together.\n\nSounds:\n{tags}\n\nDescription:\n{video}"
)


def by_chat(describe: Describe, chat: Callable[[str], str]) -> Stages:
    """Stages 2 and 3 by a text model: `chat` is given an instruction and returns the answer."""

    def tag(video: str) -> list[str]:
        return [line.strip(" -*•\t") for line in chat(ASK_TAGS.format(video=video)).splitlines()]

    def write(video: str, tags: Sequence[str]) -> str:
        return chat(ASK_CAPTION.format(video=video, tags="\n".join(tags) or "(none)"))

    return Stages(describe, tag, write)


HEARD = (
    "sound|sounds|noise|noises|audio|audible|heard|hear|hearing|silence|silent|quiet|loud|loudly|echo|echoes|echoing|"
    "hum|hums|humming|buzz|buzzes|buzzing|murmur|murmurs|rumble|rumbles|rumbling|hiss|hisses|hissing|click|clicks|"
    "clicking|tone|tones|melody|tune|rhythm|music|soundtrack|ambience|voice|voices|whir|whirs|whirring|static|beep|beeps"
)
"""Words of hearing: a clause about them says nothing to the eye."""
SOUNDING = (
    "bark\\w*|meow\\w*|roar\\w*|growl\\w*|chirp\\w*|sing\\w*|sang|song|crow(?:s|ing)|moo\\w*|neigh\\w*|quack\\w*|howl\\w*|"
    "talk\\w*|speak\\w*|spoke|says?|said|shout\\w*|scream\\w*|laugh\\w*|cry|cries|crying|cough\\w*|sneez\\w*|whistl\\w*|"
    "clap\\w*|applaud\\w*|applause|cheer\\w*|drum\\w*|strum\\w*|play(?:s|ing) (?:a|an|the) \\w+|guitar|piano|violin|"
    "saxophone|trumpet|flute|bells?|ring(?:s|ing)|knock\\w*|slam\\w*|bang\\w*|hammer\\w*|hit(?:s|ting)?|strik\\w*|struck|"
    "tap(?:s|ping)|crash\\w*|smash\\w*|break(?:s|ing)|shatter\\w*|bounc\\w*|collid\\w*|drop(?:s|ped|ping)?|fall(?:s|ing)?|"
    "land(?:s|ing)|splash\\w*|drip\\w*|pour\\w*|rain(?:s|ing|drops)?|thunder\\w*|wind|waves?|waterfall|stream|river|surf|"
    "fire|crackl\\w*|sizzl\\w*|engine\\w*|motor\\w*|train|siren\\w*|horn\\w*|honk\\w*|helicopter|airplane|traffic|"
    "explo\\w*|gun\\w*|shot|firework\\w*|saw(?:s|ing)|drill\\w*|typ(?:es|ing)|footsteps?|walk(?:s|ing)|run(?:s|ning)|"
    "roll(?:s|ing)|tick\\w*|scrap\\w*|creak\\w*|rustl\\w*|machine\\w*|blender"
)
"""Events that are seen and heard."""
CLAUSE = re.compile(
    r"\s*(?:[.;!?]+|,(?:\s+(?:and|while|as|with|but))?|\b(?:and|while|as|with|accompanied by)\b)\s+", re.I
)
NOT_SEEN = re.compile(rf"\b(?:{HEARD})\b", re.IGNORECASE)
SOUNDS = re.compile(rf"\b(?:{HEARD}|{SOUNDING})\b", re.IGNORECASE)


def clauses(text: str) -> list[str]:
    """A caption at its commas, full stops and conjunctions."""
    return [part for part in (piece.strip(" .,;!?") for piece in CLAUSE.split(text)) if part]


def describe(caption: str) -> str:
    """What of a caption is for the eye: clauses that do not speak of hearing, or the whole where none is left."""
    kept = [part for part in clauses(caption) if not NOT_SEEN.search(part)]
    return sentence(kept) or caption


def tag(caption: str) -> list[str]:
    """Clauses that name something that sounds, word for word: nothing is imagined."""
    return [part for part in clauses(caption) if SOUNDS.search(part)]


def write(video: str, tags: Sequence[str]) -> str:
    """The tags as a sentence; empty where there are none."""
    return sentence(tags)


def sentence(parts: Sequence[str]) -> str:
    """Clauses as one sentence."""
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


RULES = Stages(describe, tag, write, grounded=False)
"""The fallback: one caption that tells of both is divided by word lists. Its tags come from that caption."""
