"""Suites: files of users, untrusted input, subsets."""

import json
from pathlib import Path

import pytest

from avbench.errors import UnknownName, UserError
from avbench.suite import load_suite

ROW = {"id": "a", "text": "a dog barks", "tags": ["dog"], "speech_text": "hello", "mood": "calm"}


def write(path: Path, rows: list) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_jsonl_fields_fallbacks_and_extra(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path / "p.jsonl", [ROW, {"id": "b", "text": "雨", "tags": "rain, loose"}]))
    first, second = suite.samples
    assert first.get("video_text") == "a dog barks" and first.get("mood") == "calm"
    assert (first.get("language"), second.get("language")) == ("en", "zh")
    assert suite.subsets == {"dog": ("a",), "rain": ("b",), "loose": ("b",)}
    assert suite.subset("rain").samples == (second,) and suite.subset("rain").name == "p/rain"


def test_csv_is_read_like_jsonl(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('id,text,tags\na,"a dog, loud","x,y"\n')
    (sample,) = load_suite(str(tmp_path / "p.csv")).samples
    assert sample.text == "a dog, loud" and sample.tags == ("x", "y")


def test_toml_names_items_metrics_and_version(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", [ROW])
    (tmp_path / "s.toml").write_text('name = "mine"\nversion = "2"\nmetrics = ["integrity"]\n')
    suite = load_suite(str(tmp_path / "s.toml"))
    assert (suite.name, suite.version, suite.metrics) == ("mine", "2", ("integrity",))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW, ROW], "appears twice"),
        ([{**ROW, "id": "../x"}], "cannot be a sample id"),
        ([{**ROW, "id": "a/b"}], "cannot be a sample id"),
        ([{"id": "a"}], "needs a text"),
        ([{"text": "x"}], "needs an id"),
        ([["a"]], "must be a JSON object"),
        ([], "no samples"),
        ([{**ROW, "reference": "../../etc/passwd"}], "leaves the folder"),
        ([{**ROW, "reference": "/etc/passwd"}], "leaves the folder"),
        ([{**ROW, "tags": 3}], "tags must be"),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path: Path, rows: list, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_suite(write(tmp_path / "p.jsonl", rows))
    assert "p" in str(caught.value)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(ROW) + "\n{oops\n")
    with pytest.raises(UserError, match=r"p\.jsonl:2: not valid JSON"):
        load_suite(str(tmp_path / "p.jsonl"))


def test_the_digest_follows_the_records_and_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    one = load_suite(write(tmp_path / "p.jsonl", [ROW]))
    same = load_suite(write(tmp_path / "x" / "p.jsonl", [ROW]))
    other = load_suite(write(tmp_path / "x" / "p.jsonl", [{**ROW, "text": "a cat"}]))
    assert one.digest == same.digest != other.digest


def test_unknown_names_suggest() -> None:
    with pytest.raises(UnknownName, match="did you mean: clatter"):
        load_suite("clater")
    with pytest.raises(UnknownName, match="no subset"):
        load_suite("clatter-mini/nothing")


def test_a_caption_may_hold_any_line_separator_but_the_newline(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "a", "text": text}, ensure_ascii=False) + "\r\n", "utf-8")
    assert load_suite(str(tmp_path / "p.jsonl")).samples[0].text == text
