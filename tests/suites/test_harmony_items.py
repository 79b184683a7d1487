"""The 150 Harmony-style prompts: complete, unique, balanced, and fit for speech recognition."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from avbench.registry import suites
from avbench.suite import load_suite

ITEMS = [
    json.loads(line)
    for line in (Path(__file__).resolve().parents[2] / "suites" / "harmony" / "items.jsonl")
    .read_text("utf-8")
    .splitlines()
]
FIELDS = ["id", "text", "video_text", "audio_text", "speech_text", "language", "tags", "speaker"]
HAN = re.compile("[\u4e00-\u9fff]")
SPOKEN = [item for item in ITEMS if item["speech_text"]]
ENGLISH = [item for item in SPOKEN if item["language"] == "en"]
CHINESE = [item for item in SPOKEN if item["language"] == "zh"]


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()


def test_three_subsets_of_fifty() -> None:
    assert Counter(item["tags"][0] for item in ITEMS) == {"ambient": 50, "speech": 50, "complex": 50}
    assert (len(ENGLISH), len(CHINESE)) == (75, 25)
    assert Counter(item["language"] for item in ITEMS if item["tags"][0] == "speech") == {"en": 25, "zh": 25}


def test_fields_are_complete() -> None:
    for item in ITEMS:
        assert list(item) == FIELDS
        assert re.fullmatch(r"(ambient|speech|complex)-\d{3}", item["id"]) and item["id"].startswith(item["tags"][0])
        assert all(item[name] == item[name].strip() for name in FIELDS if name != "tags")
        assert item["text"] and item["video_text"] and item["audio_text"]
        spoken = item["tags"][0] != "ambient"
        assert bool(item["speech_text"]) == bool(item["language"]) == bool(item["speaker"]) == spoken
        assert all(re.search(r"[.!?。！？]$", item[name]) for name in ("video_text", "audio_text"))
        assert not spoken or re.search(r"[.!?。！？]$", item["speech_text"])


@pytest.mark.parametrize("field", ["id", "text", "video_text", "audio_text", "speech_text"])
def test_nothing_is_said_twice(field: str) -> None:
    values = [plain(item[field]) for item in ITEMS if item[field]]
    assert len(set(values)) == len(values)


def test_no_two_scenes_are_alike() -> None:
    """No two captions of scenes share most of their words."""
    words = {item["id"]: set(plain(item["video_text"]).split()) for item in ITEMS if item["tags"][0] != "speech"}
    names = sorted(words)
    close = [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if len(words[a] & words[b]) > 0.6 * min(len(words[a]), len(words[b]))
    ]
    assert close == []


def test_text_holds_what_is_seen_and_said() -> None:
    for item in ITEMS:
        assert item["text"].startswith(item["video_text"])
        assert item["speech_text"] in item["text"]
        if item["tags"][0] != "speech":
            assert item["text"].endswith(item["audio_text"])


def test_speech_captions_do_not_tell_what_is_said() -> None:
    for item in ITEMS:
        if item["tags"][0] != "speech":
            continue
        assert len(item["video_text"].split()) <= 11
        told = set(plain(item["video_text"] + " " + item["audio_text"]).split())
        said = {word for word in plain(item["speech_text"]).split() if len(word) > 4}
        assert not told & said, item["id"]


def test_transcripts_fit_five_seconds() -> None:
    assert all(6 <= len(item["speech_text"].split()) <= 16 for item in ENGLISH)
    assert all(12 <= len(HAN.findall(item["speech_text"])) <= 24 for item in CHINESE)


def test_transcripts_leave_the_recogniser_no_choice_of_spelling() -> None:
    from whisper_normalizer.english import EnglishNumberNormalizer, EnglishSpellingNormalizer

    spelling, numbers = EnglishSpellingNormalizer(), EnglishNumberNormalizer()
    for item in SPOKEN:
        assert not re.search(r"[\d%$€&@/]", item["speech_text"]), item["id"]
    for item in ENGLISH:
        assert item["speech_text"].isascii()
        words = re.sub(r"[^\w' ]", "", item["speech_text"].lower())
        assert spelling(words) == words, item["id"]  # British and American spelling agree
        assert not re.search(r"\d", re.sub(r"\b1(s|st)?\b", "", numbers(words))), item["id"]  # but "one", "first"
    for item in CHINESE:
        assert not re.search("[A-Za-z]", item["speech_text"])
        assert not re.search("[二三四五六七八九十百千两][点年月日岁个]", item["speech_text"]), item["id"]


def test_voices_are_balanced() -> None:
    voices = Counter(item["speaker"] for item in SPOKEN)
    assert set(voices) == {"man", "woman", "elderly man", "elderly woman", "boy", "girl"}
    male = sum(voices[name] for name in ("man", "elderly man", "boy"))
    assert abs(male - len(SPOKEN) / 2) <= 0.1 * len(SPOKEN)
    for language in ("en", "zh"):
        found = {item["speaker"] for item in SPOKEN if item["language"] == language and item["tags"][0] == "speech"}
        assert len(found) == 6


def test_scenes_are_varied() -> None:
    for subset in ("ambient", "complex"):
        kinds = Counter(item["tags"][-1] for item in ITEMS if item["tags"][0] == subset)
        assert len(kinds) >= 12 and max(kinds.values()) <= 5


@pytest.mark.parametrize("subset", ["ambient", "speech", "complex"])
def test_suites_load(subset: str) -> None:
    found = load_suite(f"harmony-{subset}")
    assert f"harmony-{subset}" in suites.list()
    assert len(found.samples) == 50 and [s.index for s in found.samples] == list(range(50))
    assert found.samples[0].get("video_text") and found.samples[0].id == f"{subset}-001"
    assert ("wer" in found.metrics) == (subset != "ambient")


def test_languages_are_subsets() -> None:
    assert len(load_suite("harmony-speech/zh").samples) == 25
    assert {s.language for s in load_suite("harmony-speech/en").samples} == {"en"}
