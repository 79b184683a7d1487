"""Public suites on made-up files in their published forms: samples, subsets, counts, choices, and what is refused."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avbench.dataset import Card, balanced, catalogue, label_of, media, safe_id
from avbench.errors import MissingResource, NotComparable, UserError
from avbench.groups import resolve
from avbench.registry import metrics, suites
from avbench.suite import Sample, Suite, load_suite
from tests.suites import public_files as files

DESIGN = {
    "clatter", "clatter-mini", "javisbench", "javisbench-mini", "vggsound", "alt-merge", "avsync15", "landscape",
    "greatest-hits", "vggsound-ss", "harmony-ambient", "harmony-speech", "harmony-complex", "verse-bench",
    "t2av-compass", "moviegen-audio", "audiocaps",
}  # fmt: skip
MAKERS: dict[str, Callable[[Path], Path]] = {
    "javisbench": lambda root: files.javisbench(root, 10_140, "JavisBench"),
    "javisbench-mini": files.javisbench,
    "vggsound": lambda root: files.vggsound(root, 5, files.every_class()),
    "vggsound-ss": files.vggss,
    "avsync15": files.asva,
    "landscape": files.asva,
    "greatest-hits": files.asva,
    "alt-merge": files.asva,
    "verse-bench": files.verse_bench,
    "t2av-compass": files.compass,
    "moviegen-audio": files.moviegen,
    "audiocaps": files.audiocaps,
}
SIZES = {
    "landscape": 90,
    "greatest-hits": 110,
    "alt-merge": 290,
}  # of the made files; the others are the published ones


def load(name: str, root: Path) -> Suite:
    return load_suite(f"{name}={root}")


def one(suite: Suite, id: str) -> Sample:
    return next(sample for sample in suite.samples if sample.id == id)


def test_all_suites_of_the_design_are_there() -> None:
    assert set(suites.list()) >= DESIGN
    assert set(MAKERS) == set(catalogue())


def test_published_tables_speak_of_these_suites_and_subsets() -> None:
    from avbench.baselines.published import tables

    named = {(cell.suite, cell.subset) for table in tables() for row in table.rows for cell in row if cell.suite}
    assert {suite for suite, _ in named} <= set(suites.list())
    for suite, subset in named:
        assert not subset or suite not in catalogue() or subset in catalogue()[suite].subsets, (suite, subset)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_cards_are_complete(name: str) -> None:
    card = catalogue()[name]
    assert card.name == name and card.title and card.about and card.source and card.licence and card.layout
    assert card.files and any(file.needed for file in card.files) and card.unverified
    assert resolve(card.metrics) and all(metric in metrics.list() for metric in resolve(card.metrics))
    assert set(card.counts) <= set(card.subsets)
    for file in card.files:
        assert file.what and (file.url or file.hf or file.by_hand)
        assert not file.url or (file.url.startswith("https://") and len(file.sha256) == 64 and file.bytes)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_suite_loads_with_its_published_number_of_samples(name: str, tmp_path: Path) -> None:
    suite, card = load(name, MAKERS[name](tmp_path)), catalogue()[name]
    assert len(suite.samples) == (card.expected or SIZES[name])
    assert [sample.index for sample in suite.samples] == list(range(len(suite.samples)))
    assert set(card.subsets) == set(suite.subsets) or name == "t2av-compass"
    assert all(sample.text for sample in suite.samples)
    assert suite.digest == load(name, tmp_path).digest


def test_javisbench_rows_are_named_by_number_and_sorted_into_19_categories(tmp_path: Path) -> None:
    files.javisbench(tmp_path, audio_text={3: ""}, cat0_ind={1: "1.0"})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "2.mp4").write_bytes(b"x")
    suite = load("javisbench-mini", tmp_path)
    assert len(suite.subsets) == 19 and suite.pattern.format(index=7, id="") == "sample_0007.mp4"
    first = suite.samples[0]
    assert first.id == "sample_0000" and first.video_text == "picture 0" and first.extra["source_id"] == "yt0"
    assert first.tags == (
        "natural-scenario", "camera-shooting", "ambient-sounds", "biological-sounds", "single-event", "single-subject",
    )  # fmt: skip
    assert len(suite.subsets["speech-sounds"]) == 400 and len(suite.subsets["off-screen-sound"]) == 333
    assert "urban-scenario" in suite.samples[1].tags
    assert suite.samples[3].get("audio_text") == "scene 3, loud"
    assert [s.id for s in suite.samples if s.reference] == ["sample_0002"]
    assert load_suite(f"javisbench-mini/speech-sounds={tmp_path}").samples[0].index == 3


def test_javisbench_without_categories_loads_without_subsets(tmp_path: Path) -> None:
    files.table(tmp_path / "JavisBench-mini.csv", [["text"], *([f"scene {i}"] for i in range(1000))])
    suite = load("javisbench-mini", tmp_path)
    assert suite.subsets == {} and suite.samples[999].id == "sample_0999"


def test_the_published_features_of_javisbench_answer_its_protocol_alone(tmp_path: Path) -> None:
    files.javisbench(tmp_path)
    assert load("javisbench-mini", tmp_path).pack is None
    (tmp_path / "cache" / "fvd_fad").mkdir(parents=True)
    rows = {"video": torch.randn(1000, 400), "audio": torch.randn(1000, 1024)}
    torch.save(rows, tmp_path / "cache" / "fvd_fad" / "JavisBench-mini-vanilla-max4s.pt")
    suite = load("javisbench-mini", tmp_path)
    assert suite.pack is not None
    pack = suite.pack()
    found, notes = pack.rows(metrics.get("fvd@javisbench"), ["sample_0003", "sample_0999"])
    assert torch.equal(torch.tensor(found.video[1][0]), rows["video"][999]) and "frame count" in notes[0]
    with pytest.raises(NotComparable):
        pack.rows(metrics.get("fd_vgg"))


def test_vggsound_is_balanced_over_classes_in_both_forms_of_its_list(tmp_path: Path) -> None:
    suite = load("vggsound", files.vggsound(tmp_path / "a", 5, files.every_class()))
    again = load("vggsound", files.vggsound(tmp_path / "b", 5, files.every_class(), "vggsound.csv"))
    assert suite.digest == again.digest
    assert {tag: len(ids) for tag, ids in suite.subsets.items()} == {"av-tight": 138, "av-loose": 554}
    tight = Counter(sample.extra["label"] for sample in suite.subset("av-tight").samples)
    assert len(tight) == 37 and set(tight.values()) == {3, 4}
    others = [s for s in suite.samples if not s.tags]
    assert len(others) == 39 and len({s.extra["label"] for s in others}) == 39
    assert load_suite(f"vggsound/av-tight={tmp_path / 'a'}").name == "vggsound/av-tight"


def test_a_choice_depends_on_seed_and_ids_alone(tmp_path: Path) -> None:
    items = [Sample(f"s{i}", i, "x", extra={"label": str(i % 3)}) for i in range(30)]
    chosen = {one.id for one in balanced(items, 10, label_of, 0)}
    assert {one.id for one in balanced(items[::-1], 10, label_of, 0)} == chosen
    assert {one.id for one in balanced(items, 10, label_of, 1)} != chosen
    assert sorted(Counter(int(id[1:]) % 3 for id in chosen).values()) == [3, 3, 4]
    assert {one.id for one in balanced(items, 11, label_of, 0)} > chosen  # a larger choice holds the smaller
    uneven = items[:4] + [Sample(f"t{i}", i, "x", extra={"label": "much"}) for i in range(90)]
    assert Counter(label_of(one) for one in balanced(uneven, 12, label_of, 0))["much"] == 8
    assert len(balanced(items, 99, label_of, 0)) == 30


def test_vggss_draws_150_of_what_is_listed(tmp_path: Path) -> None:
    suite = load("vggsound-ss", files.vggss(tmp_path, 300, 20))
    assert set(Counter(sample.extra["label"] for sample in suite.samples).values()) == {7, 8}
    assert suite.protocol["seconds"] == 5.4


def test_asva_lists_give_ids_and_texts(tmp_path: Path) -> None:
    files.asva(tmp_path)
    suite = load("avsync15", tmp_path)
    assert suite.samples[0].id == "class_0+clip 000 _1_" and suite.samples[0].text == "the zeroth class"
    assert suite.samples[1].text == "class 1"
    merged = load("alt-merge", tmp_path)
    assert {tag: len(ids) for tag, ids in merged.subsets.items()} == {
        "avsync15": 100, "landscape": 90, "greatest-hits": 100,
    }  # fmt: skip
    balance = Counter(s.extra["label"] for s in merged.subset("avsync15").samples)
    assert len(balance) == 15 and set(balance.values()) == {6, 7}
    assert {s.text for s in merged.subset("greatest-hits").samples} == {"hitting with a stick"}
    parts = [load(name, tmp_path) for name in ("avsync15", "landscape", "greatest-hits")]
    assert {s.id for s in merged.samples} <= {s.id for part in parts for s in part.samples}


def test_verse_bench_prompts(tmp_path: Path) -> None:
    suite = load("verse-bench", files.verse_bench(tmp_path))
    assert {tag: len(ids) for tag, ids in suite.subsets.items()} == {"set1": 205, "set2": 295, "set3": 100}
    silent, sounding, speaking = one(suite, "00000"), one(suite, "00211"), one(suite, "00501")
    assert silent.audio_text == "" and silent.text == "picture 0" and silent.extra["image"] == "set1/00000.jpg"
    assert sounding.audio_text == "sound 211" and sounding.reference_audio is not None and sounding.reference is None
    assert speaking.speech_text == "word 501" and speaking.extra["speaker"] == "a man"
    assert speaking.text == 'picture 501 sound 501 Speech: "word 501"'


def test_t2av_compass_prompts(tmp_path: Path) -> None:
    suite = load("t2av-compass", files.compass(tmp_path))
    third = suite.samples[2]
    assert third.id == "0003" and suite.pattern.format(id=third.id) == "sample_0003.mp4"
    assert third.speech_text == "Good day. Hm." and "checklist_info" in third.extra
    assert third.tags == (
        "speech", "source-realvideo", "history-documentary", "people", "objects", "urban-scenario", "speech-sounds",
        "camera-static", "picture-crowd", "picture-single-event", "sound-mixed-on-off-screen", "sound-single-event",
    )  # fmt: skip
    assert set(suite.subsets) <= set(catalogue()["t2av-compass"].subsets)
    assert "speech" not in suite.samples[0].tags and suite.samples[5].get("audio_text") == "whole 5"


def test_moviegen_and_audiocaps(tmp_path: Path) -> None:
    movie = load("moviegen-audio", files.moviegen(tmp_path / "m"))
    assert movie.samples[0].text == "Picture 0. sound 0." and movie.samples[0].video_text == "Picture 0."
    files.audiocaps(tmp_path / "a")
    (tmp_path / "a" / "audio").mkdir()
    (tmp_path / "a" / "audio" / "Y-0001yt.wav").write_bytes(b"x")
    caps = load("audiocaps", tmp_path / "a")
    assert (
        caps.pattern == "{id}.wav" and caps.samples[1].id == "-0001yt_30" and caps.samples[1].text == "caption 0 of 1"
    )
    assert len(caps.samples[1].extra["other_captions"]) == 4
    assert [s.id for s in caps.samples if s.reference_audio] == ["-0001yt_30"]


def test_captions_of_the_user_replace_class_names(tmp_path: Path) -> None:
    files.vggsound(tmp_path, 5, files.every_class())
    plain = load("vggsound", tmp_path)
    rows = [["id", "video_text", "audio_text"], *([s.id, f"see {s.id}", f"hear {s.id}"] for s in plain.samples)]
    files.table(tmp_path / "captions.csv", rows)
    told = load("vggsound", tmp_path)
    assert told.samples[0].text == f"see {told.samples[0].id}" and told.samples[0].audio_text.startswith("hear")
    assert told.subsets == plain.subsets and told.digest != plain.digest
    files.table(tmp_path / "captions.csv", rows[:-2])
    with pytest.raises(UserError, match=r"no caption for 2 of 731 samples of vggsound: "):
        load("vggsound", tmp_path)
    files.table(tmp_path / "captions.csv", [*rows, rows[-1]])
    with pytest.raises(UserError, match=r"captions\.csv:733: id .* appears twice"):
        load("vggsound", tmp_path)


def compass_with(**change: object) -> Callable[[Path], Path]:
    rows = files.compass_rows()
    rows[3] |= change
    return lambda root: files.compass(root, rows)


def doubled(root: Path) -> object:
    """The same item in two sets."""
    return shutil.copy(root / "set1" / "00000.json", root / "set3")


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("javisbench-mini", lambda r: files.javisbench(r, 999), "give 999 samples, published are 1,000"),
    ("javisbench-mini", lambda r: files.table(r / "JavisBench-mini.csv", [["txt"], ["a"]]), "no text; it has txt"),
    ("javisbench-mini", lambda r: files.table(r / "JavisBench-mini.csv", [["text"]]), "holds no rows"),
    ("javisbench-mini", lambda r: files.javisbench(r, cat1_ind={7: "3"}), r"csv:9: cat1_ind \(Visual Style\) is '3'"),
    ("javisbench-mini", lambda r: files.javisbench(r, cat4_ind={7: "x"}), r"csv:9: cat4_ind .* expected 0 to 2"),
    ("javisbench-mini", lambda r: files.javisbench(r, text={7: " "}), r"csv:9: text is empty"),
    ("javisbench-mini", lambda r: (r / "JavisBench-mini.csv").write_bytes(b"text\n\xff\xfe"), "not UTF-8"),
    ("javisbench-mini", lambda r: (r / "JavisBench-mini.csv").write_text('text\n"a\n'), "not valid CSV"),
    ("vggsound", files.vggsound, r"give \d+ samples, published are 731"),
    ("vggsound", lambda r: files.table(r / "test.csv", [["a", "b", "c"]]), r"test\.csv:1: 3 columns; expected"),
    ("vggsound-ss", lambda r: files.text(r / "vggss.json", '{"a": 1}'), "holds a dict, expected a list"),
    ("vggsound-ss", lambda r: files.text(r / "vggss.json", "[1]"), "item 1 is not an object"),
    ("vggsound-ss", lambda r: files.text(r / "vggss.json", "[{]"), r"vggss\.json:1: not valid JSON"),
    ("vggsound-ss", lambda r: files.vggss(r, 100), "give 100 samples, published are 150"),
    ("avsync15", lambda r: files.text(r / "AVSync15" / "test.txt", "clip.mp4"), "has no category"),
    ("avsync15", lambda r: files.text(r / "AVSync15" / "test.txt", "a/x.mp4\n" * 150), "appears twice"),
    ("verse-bench", lambda r: files.verse_bench(r, (205, 295, 99)), "give 599 samples, published are 600"),
    ("verse-bench", lambda r: files.text(files.verse_bench(r) / "set1" / "1.json", "{}"), "no video_prompt"),
    ("verse-bench", lambda r: doubled(files.verse_bench(r, (204, 295, 100))), "appears twice"),
    ("t2av-compass", compass_with(index=1), "'0001' appears twice"),
    ("t2av-compass", compass_with(prompt=""), "item 4: prompt is empty"),
    ("t2av-compass", compass_with(speech_prompt="hello"), "item 4: index must be a number and speech_prompt a list"),
    ("moviegen-audio", lambda r: files.moviegen(r, [*range(526), 0]), "'0' appears twice"),
    ("moviegen-audio", lambda r: files.moviegen(r, ["", *range(526)]), r"jsonl:1: id is empty"),
    ("audiocaps", lambda r: files.audiocaps(r, 900), "give 900 samples, published are 975"),
    ("audiocaps", lambda r: files.table(r / "test.csv", [["youtube_id"], ["a"]]), "no audiocap_id and no start_time"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), BROKEN)
def test_files_that_are_not_right_are_refused_with_their_place(
    name: str, make: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        load(name, tmp_path)
    assert caught.value.exit_code == 2
    assert ("appears twice" if "appears twice" in words else str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/hostname", "videos/../../secret.mp4", "a/../../secret.mp4"])
def test_no_path_of_a_list_leaves_the_folder(path: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"x")
    assert media(root, [path]) is None
    files.javisbench(root, path={0: path})
    assert load("javisbench-mini", root).samples[0].reference is None
    files.asva(root)
    files.text(root / "Landscapes" / "test.txt", f"{path}\n" + "k/a.mp4\nk/b.mp4\n")
    found = load("landscape", root)
    assert all(s.reference is None for s in found.samples)
    assert all("/" not in s.id and ".." not in s.id for s in found.samples)


def test_names_become_safe_ids() -> None:
    assert safe_id("../../x") == "______x" and safe_id("a..b") == "a__b"
    assert safe_id("Straße 1 (a)") == "Straße 1 _a_" and safe_id("-0yt_30") == "-0yt_30"


def test_missing_files_name_the_command_and_the_place(cache: Path) -> None:
    with pytest.raises(MissingResource) as caught:
        load_suite("javisbench-mini")
    message = str(caught.value)
    assert "avbench suites pull javisbench-mini" in message and str(cache / "data" / "javisbench") in message
    assert '[data] javisbench = "DIR"' in message and "JavisBench-mini.csv" in message
    with pytest.raises(MissingResource, match=r"by hand, AVSync15/test\.txt"):
        load_suite("avsync15")


def test_the_folder_may_stand_in_the_configuration(cache: Path, tmp_path: Path) -> None:
    files.javisbench(tmp_path / "mine")
    config = tmp_path / "avbench.toml"
    config.write_text('[data]\njavisbench = "mine"\n')
    assert len(load_suite("javisbench-mini").samples) == 1000
    config.write_text('[data]\njavisbench-mini = "mine"\njavisbench = "elsewhere"\n')
    assert len(load_suite("javisbench-mini/single-event").samples) == 334
    with pytest.raises(UserError, match=r"\[data\] javisbench: the folder .*elsewhere does not exist"):
        load_suite("javisbench")
    config.write_text('[data]\njavisbensh = "mine"\n')
    with pytest.raises(UserError, match=r"\[data\] names unknown suites: javisbensh"):
        load_suite("javisbench")
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        load_suite("javisbench=nowhere")
    with pytest.raises(UserError, match="reads no files"):
        load_suite("clatter-mini=mine")


def test_a_card_with_a_mistake_is_named() -> None:
    with pytest.raises(UserError, match=r"x\.toml: .*'titel'"):
        Card.read('name = "x"\ntitel = "y"', "x.toml")
    with pytest.raises(UserError, match=r"x\.toml"):
        Card.read("name = ", "x.toml")


def test_records_of_a_suite_hold_no_path_of_this_machine(tmp_path: Path) -> None:
    for name, make in MAKERS.items():
        suite = load(name, make(tmp_path / name))
        assert str(tmp_path) not in json.dumps([s.described for s in suite.samples[:50]])
