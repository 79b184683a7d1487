"""The real side of set metrics, end to end through the command line: media, packs, published caches, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from avbench.cli import app
from avbench.clip import Audio
from avbench.encode import write_clip
from avbench.errors import NotComparable
from avbench.metrics.distribution import Frechet
from avbench.run import Run, find_run
from tests.conftest import bouncing
from tests.metrics.distribution import checkpoint

N = 24


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A suite of 24 real clips, two models (noise, little and much), a checkpoint with hashed weights, two runs."""
    root = tmp_path_factory.mktemp("place")
    rows = []
    for index in range(N):
        clip = bouncing(index)
        write_clip(root / "real" / f"s{index}.mp4", clip)
        for model, strength in (("little", 0.01), ("much", 0.2)):
            sound = clip.need_audio()
            drawn = np.random.default_rng(index).normal(0, strength, sound.samples.shape)
            loud = Audio((sound.samples + drawn).astype(np.float32).clip(-1, 1), sound.rate)
            write_clip(root / model / f"s{index}.mp4", type(clip)(clip.video, loud))
        tags = ["even" if index % 2 == 0 else "odd"]
        rows.append({"id": f"s{index}", "text": f"disc {index}", "tags": tags, "reference": f"real/s{index}.mp4"})
    (root / "discs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    checkpoint("vggish", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVBENCH_CACHE", str(root / "cache"))
        patch.chdir(root)
        for model in ("little", "much"):
            assert evaluate(model).exit_code == 0
        yield root


@pytest.fixture(autouse=True)
def at_the_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)


def evaluate(model: str, *more: object, metrics: str = "fd_vgg") -> Result:
    weights = ("--weights", "vggish=vggish.safetensors", "--device", "cpu")
    return run("eval", "-m", f"./{model}", "-s", "discs.jsonl", "--metrics", metrics, *weights, *more)


def lock(out: str, *more: object) -> Result:
    words = ("discs.jsonl", "--metrics", "fd_vgg", "--weights", "vggish=vggish.safetensors", "--device", "cpu")
    return run("suites", "lock", *words, "--out", out, *more)


def latest(model: str) -> Run:
    return find_run(model, Path("runs"), "discs")


def compared(a: str, b: str, *more: str, suite: str = "discs") -> dict[str, Any]:
    """The first row of a comparison."""
    document: dict[str, Any] = json.loads(run("compare", a, b, "-s", suite, *more, "--format", "json").stdout)
    return dict(document["rows"][0])


def whole(found: Run) -> dict[str, object]:
    return next(row for row in found.records("sets") if row["subset"] == "")


# What stands beside a value -------------------------------------------------------------------------------------------


def test_every_value_says_n_floor_self_distance_and_too_few(place: Path) -> None:
    found = latest("much")
    rows = {row["subset"]: row for row in found.records("sets")}
    assert set(rows) == {"", "even", "odd"} and [rows[s]["n"] for s in ("", "even", "odd")] == [24, 12, 12]
    for row in rows.values():
        assert row["n_ref"] == row["n"] and row["floor"] > 0 and abs(row["self"]) < 1e-9 < row["value"]
        assert row["notes"].startswith(f"N = {row['n']} in 128 dimensions: biased upwards, comparable only at this N")
    assert found.manifest["sets"] == found.records("sets")
    assert all(len(row["reference_sha256"]) == 64 for row in found.records("samples"))
    printed = evaluate("much").stdout
    assert "reference halves" in printed and "(n = 12 each)" in printed and "reference to itself" in printed
    document = json.loads(evaluate("much", "--json").stdout)["results"]
    assert {r["subset"]: (r["n"], r["n_ref"]) for r in document} == {"": (24, 24), "even": (12, 12), "odd": (12, 12)}
    assert run("report", "much").exit_code == 0
    page = (latest("much").folder / "report.html").read_text()
    assert "biased upwards, comparable only at this N" in page and "reference halves" in page


def test_a_suite_without_real_clips_says_so(place: Path) -> None:
    rows = [json.loads(line) for line in (place / "discs.jsonl").read_text().splitlines()]
    text = "\n".join(json.dumps({**row, "reference": ""}) for row in rows)
    (place / "bare.jsonl").write_text(text)
    found = run("eval", "-m", "./much", "-s", "bare.jsonl", "--metrics", "fd_vgg", "--weights",
                "vggish=vggish.safetensors", "--device", "cpu", "--json")  # fmt: skip
    row = json.loads(found.stdout)["results"][0]
    assert (
        row["value"] is None and row["note"].endswith("--reference takes a pack") and "set.no_reference" in row["note"]
    )
    refused = run("suites", "lock", "bare.jsonl", "--metrics", "fd_vgg", "--weights", "vggish=vggish.safetensors")
    assert refused.exit_code == 2 and "no real clip of suite bare is here" in refused.output


# Comparison -----------------------------------------------------------------------------------------------------------


def test_compare_gives_no_verdict_with_fewer_samples_than_dimensions(place: Path) -> None:
    row = compared("little", "much")
    values = [whole(latest(model))["value"] for model in ("little", "much")]
    assert row["metric"] == "fd_vgg" and row["n"] == 24 and row["verdict"] == "no verdict: N = 24 in 128 dimensions"
    assert [row["a"], row["b"]] == values and row["difference"] == pytest.approx(values[1] - values[0])
    assert row["low"] is row["p"] is row["holm"] is row["estimate"] is None


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 24 samples were more than there are dimensions."""
    monkeypatch.setattr(Frechet, "unresolved", lambda *_: "")


def test_compare_gives_the_difference_an_interval_by_joint_resampling(place: Path, enough: None) -> None:
    row = compared("little", "much")
    assert row["verdict"] == "worse" and row["p"] == row["holm"] < 0.05 and row["error"] > 0
    assert 0 < row["low"] < row["estimate"] < row["high"] and row["detectable"] == pytest.approx(
        2.93 * row["error"], 0.01
    )
    back = compared("much", "little")
    assert (back["low"], back["high"]) == pytest.approx((-row["high"], -row["low"])) and back["verdict"] == "better"
    same = compared("much", "much")
    assert same["difference"] == 0 and same["verdict"] == "no difference shown"
    few = compared("little", "much", "--by", "even")
    assert few["n"] == 12 and few["low"] is None and few["verdict"] == "no verdict: n = 12, below 20"


def test_set_metrics_share_the_correction_of_the_table(place: Path, enough: None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avbench.stats.MIN_SAMPLES", 6)  # so that halves of the suite are enough
        whole_suite = json.loads(run("compare", "little", "much", "-s", "discs", "--format", "json").stdout)["rows"]
        words = ("compare", "little", "much", "-s", "discs", "--by", "even,odd")
        rows = json.loads(run(*words, "--format", "json").stdout)["rows"]
        printed = run(*words).stdout
    assert whole_suite[0]["holm"] == whole_suite[0]["p"]
    assert sorted(row["holm"] for row in rows)[0] == pytest.approx(2 * min(row["p"] for row in rows))
    assert "the difference without the bias of n samples" in printed


def test_arithmetic_that_fails_is_no_verdict_and_no_crash(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise ArithmeticError("the matrix root has imaginary parts")

    monkeypatch.setattr(Frechet, "reduce", broken)
    assert compared("little", "much")["verdict"] == "n/a: metric.error: the matrix root has imaginary parts"


def test_a_clip_that_failed_is_left_out_on_both_sides(place: Path) -> None:
    (place / "holes").mkdir()
    for index in range(1, N):
        (place / "holes" / f"s{index}.mp4").hardlink_to(place / "much" / f"s{index}.mp4")
    (place / "holes" / "s1.mp4").unlink()
    (place / "holes" / "s1.mp4").write_bytes(b"no video")
    assert evaluate("holes", "--allow-failed", "2").exit_code == 0
    row = whole(latest("holes"))
    assert (row["n"], row["n_ref"]) == (22, 24) and "N differs: 22 generated, 24 reference rows" in str(row["notes"])
    row = compared("much", "holes")
    assert row["n"] == 22 and row["difference"] == 0


# Packs ----------------------------------------------------------------------------------------------------------------


def test_a_locked_pack_stands_for_the_clips_and_says_how_it_was_made(place: Path, enough: None) -> None:
    from avbench.metrics.packs import read_pack

    done = lock("discs.safetensors", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n"] == N and lock("again.safetensors").exit_code == 0
    assert (place / "discs.safetensors").read_bytes() == (place / "again.safetensors").read_bytes()
    pack = read_pack(place / "discs.safetensors")
    origin, entry = pack.origin, next(iter(pack.entries.values()))
    assert (origin.suite, origin.suite_version, origin.precision) == ("discs", "1", "fp32") and len(entry.rows) == N
    assert origin.decoder and "suites lock" in origin.source and len(entry.weights["vggish"]) == 64
    assert "VGGishWindows" in entry.view and entry.encoder == "vggish@1"
    assert set(pack.clips["frames"]) == {12} and len(set(pack.clips["sha256"])) == N
    assert evaluate("much", "--reference", "discs.safetensors").exit_code == 0
    with_pack, with_media = latest("much"), latest("little")
    assert with_pack.manifest["reference"]["n"] == N and with_media.manifest["reference"] is None
    assert with_pack.manifest["work"]["decodes"] == 0
    rows = {row["subset"]: row for row in with_pack.records("sets")}
    assert "real side: discs.safetensors" in rows["odd"]["notes"] and rows["odd"]["n_ref"] == 12
    mixed = compared("little", "much")
    assert mixed["verdict"] == "n/a: the runs used different references; score both again with the same"
    (place / "avbench.toml").write_text('[references]\ndiscs = "discs.safetensors"\n')
    try:
        assert evaluate("little").exit_code == 0
        row = compared("little", "much")
    finally:
        (place / "avbench.toml").unlink()
    assert row["verdict"] == "worse" and row["b"] == rows[""]["value"]
    again = evaluate("much"), evaluate("little")
    assert [one.exit_code for one in again] == [0, 0]
    assert whole(latest("much"))["value"] == rows[""]["value"]


@pytest.mark.parametrize(
    ("more", "metrics", "reason"),
    [
        ((), "fd_vgg@av-benchmark", "made with another protocol"),
        ((), "fd_vgg,fad", "holds no features of audioclip.audio"),
        (("--precision", "bf16"), "fd_vgg", "was made in fp32"),
        (("--reference-frames", "16"), "fd_vgg", "says itself how its features were made"),
    ],
)
def test_a_pack_that_does_not_fit_is_refused_before_anything_is_computed(
    place: Path, more: tuple[str, ...], metrics: str, reason: str
) -> None:
    if not (place / "fits.safetensors").is_file():
        assert lock("fits.safetensors").exit_code == 0
    if "fad" in metrics:
        checkpoint("audioclip", place)
        more = (*more, "--weights", "audioclip=audioclip.safetensors")
    refused = evaluate("much", "--reference", "fits.safetensors", *more, metrics=metrics)
    assert refused.exit_code == (2 if "frames" in str(more) else 5) and reason in " ".join(refused.output.split())


def test_a_pack_of_other_records_is_refused(place: Path) -> None:
    if not (place / "fits.safetensors").is_file():
        assert lock("fits.safetensors").exit_code == 0
    other = place / "elsewhere"
    other.mkdir()
    text = (place / "discs.jsonl").read_text().replace("real/", "../real/")
    (other / "discs.jsonl").write_text(text.replace("disc 3", "disk 3").replace('"reference": "../real/', '"was": "'))
    words = ("--metrics", "fd_vgg", "--weights", "vggish=vggish.safetensors", "--device", "cpu")
    refused = run("eval", "-m", "./much", "-s", other / "discs.jsonl", *words, "--reference", "fits.safetensors")
    assert refused.exit_code == 5 and "their records differ" in " ".join(refused.output.split())


@pytest.mark.heavy
def test_a_published_cache_serves_its_protocols_and_its_unknown_is_said(place: Path) -> None:
    """JavisBench's form: rows without names, in the order of the records."""
    rng = np.random.default_rng(0)
    made = {
        name: torch.from_numpy(rng.normal(0, 1, (N, width))).float()
        for name, width in (("video", 400), ("audio", 1024))
    }
    torch.save(made, place / "discs-vanilla-max4s.pt")
    checkpoint("i3d", place)
    more = ("--weights", "i3d_k400=i3d.safetensors", "--reference", "discs-vanilla-max4s.pt", "--limit", "2")
    found = evaluate("much", *more, "--json", metrics="fvd@javisbench")
    assert found.exit_code == 0, found.output
    row = json.loads(found.stdout)["results"][0]
    assert (row["n"], row["n_ref"]) == (2, 2) and row["value"] > 0
    assert "real side: discs-vanilla-max4s.pt" in row["note"] and "does not record its frame count" in row["note"]
    told = evaluate("much", *more, "--reference-frames", "24", "--json", metrics="fvd@javisbench")
    known = json.loads(told.stdout)["results"][0]
    assert known["value"] == row["value"] and "frame count" not in known["note"]
    for frames, reason in ((16, "count=24"), (20, "16 or 24 frames, not 20")):
        refused = evaluate("much", *more, "--reference-frames", frames, metrics="fvd@javisbench")
        assert refused.exit_code in (2, 5) and reason in " ".join(refused.output.split())
    refused = evaluate("much", *more, metrics="fvd@javisbench,fvd")
    assert refused.exit_code == 5 and "fvd: this reference pack" in refused.output
    torch.save({name: rows[:9] for name, rows in made.items()}, place / "discs-vanilla-max4s.pt")
    refused = evaluate("much", *more, metrics="fvd@javisbench")
    assert refused.exit_code == 5 and "holds 9 rows, the suite 24 samples" in " ".join(refused.output.split())


def test_published_features_serve_where_media_are_not_whole() -> None:
    from dataclasses import replace

    from avbench.metrics.fad import FADJavisBench
    from avbench.metrics.fvd import FVD24, FVDJavisBench
    from avbench.metrics.packs import Entry, Origin, Pack
    from avbench.references import References
    from avbench.suite import load_suite

    suite = load_suite("discs.jsonl")
    ids = tuple(sample.id for sample in suite.samples)
    entry = Entry.of(FVDJavisBench.video, list(np.zeros((N, 1, 400), np.float32)), {})
    pack = Pack(ids, {entry.key: entry}, Origin("discs"))
    none = [replace(sample, reference=None) for sample in suite.samples]
    for samples, served in ((suite.samples, (None, None)), (tuple(none), (pack, pack)),
                            ((*none[1:], suite.samples[0]), (pack, None))):  # fmt: skip
        found = References(replace(suite, samples=samples, pack=lambda: pack), "")
        assert (found.pack(FVDJavisBench()), found.pack(FVD24())) == served
    given = References(suite, "", given=pack)
    assert given.pack(FADJavisBench()) is pack
    with pytest.raises(NotComparable, match="holds no features of audioclip"):
        given.check([FADJavisBench()], {}, "fp32")


# Degraded baselines ---------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_compare_tells_degraded_baselines_of_clatter_apart(place: Path) -> None:
    """Noise on the sound is worse than the real clips; sounds dealt out anew are the same set to a set metric."""
    words = (
        "-s",
        "clatter-mini",
        "--limit",
        40,
        "--metrics",
        "fd_vgg",
        "--device",
        "cpu",
    )  # 160 windows, 128 dimensions
    for model in ("audio-shuffled", "noisy-audio"):
        assert run("eval", "-m", model, *words, "--weights", "vggish=vggish.safetensors").exit_code == 0
    row = compared("audio-shuffled", "noisy-audio", suite="clatter-mini")
    assert row["verdict"] == "worse" and row["n"] == 40 and 0 < row["low"] < row["estimate"] < row["high"]
    assert abs(row["a"]) < 1e-6 * row["b"]
