"""Reference packs: what is written comes back, and what does not fit is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.errors import NotComparable, UserError
from avbench.metrics import packs
from avbench.metrics.distances import Moments
from avbench.metrics.fad import FAD, FADJavisBench
from avbench.metrics.fd_audio import FDVGG, FDPANNsAVBenchmark, FDPaSSTAVBenchmark, FDVGGAVBenchmark, KLPANNsAVBenchmark
from avbench.metrics.fvd import FVD24, KVD24, FVDJavisBench, FVDJavisBench16
from tests.metrics.distribution import rows

IDS = tuple(f"clip{index}" for index in range(7))
SHA = "ab" * 32
ORIGIN = packs.Origin("clatter", "12" * 32, "avbench suites lock", "pyav 18", "fp32", ("made for a test",))


def features(width: int = 6, windows: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(windows + index % windows, width)).astype(np.float32) for index in range(len(IDS))]


def pack() -> packs.Pack:
    entries = [
        packs.Entry.of(FVD24.video, features(), {"i3d_k400": SHA}),
        packs.Entry.of(FDVGG.audio, features(width=3, windows=2), {}, ("windows",)),
        packs.Entry.of(FAD.audio, Moments.of(np.concatenate(features(seed=5))), {"audioclip": SHA}),
    ]
    return packs.Pack(IDS, {entry.key: entry for entry in entries}, ORIGIN)


def test_a_pack_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "clatter.safetensors"
    packs.write_pack(path, pack())
    found, made = packs.read_pack(path), pack()
    assert found.ids == made.ids and found.origin == made.origin and found.entries.keys() == made.entries.keys()
    for key, entry in made.entries.items():
        other = found.entries[key]
        for name in ("encoder", "view", "weights", "notes"):
            assert getattr(other, name) == getattr(entry, name)
        if isinstance(entry.rows, Moments):
            assert isinstance(other.rows, Moments) and other.rows.n == entry.rows.n
            assert np.array_equal(other.rows.scatter, entry.rows.scatter)
        else:
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(entry.rows, other.rows))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    first = path.read_bytes()
    packs.write_pack(path, pack())
    assert path.read_bytes() == first


def test_a_metric_gets_its_rows_in_the_order_asked_for() -> None:
    made = pack()
    side, notes = made.rows(FVD24(), ["clip5", "clip0"], {"i3d_k400": SHA})
    assert side.ids == ["clip5", "clip0"] and np.array_equal(side.video[0], features()[5])
    assert notes == ["made for a test"]
    assert made.rows(KVD24())[0].ids == list(IDS)
    assert made.rows(FDVGG())[1] == ["made for a test", "windows"]


def test_statistics_serve_the_whole_set_only() -> None:
    side, _ = pack().rows(FAD())
    generated = rows(np.random.default_rng(2).normal(size=(9, 6)), "audio")
    assert FAD().reduce(generated, side) > 0
    with pytest.raises(NotComparable, match="statistics of 7 samples together, which cannot be cut to 2"):
        pack().rows(FAD(), ["clip0", "clip1"])


def test_another_protocol_is_refused_with_both_recipes() -> None:
    entry = packs.Entry.of(FVDJavisBench16.video, features(), {})
    other = packs.Pack(IDS, {entry.key: entry}, ORIGIN)
    with pytest.raises(NotComparable, match=r"(?s)another protocol.*pack: .*count=16.*metric: .*count=24"):
        other.rows(FVDJavisBench())
    with pytest.raises(NotComparable, match=r"holds no features of audioclip.*it holds i3d\.k400"):
        other.rows(FADJavisBench())


def test_other_weights_and_other_samples_are_refused() -> None:
    with pytest.raises(NotComparable, match=r"i3d_k400 of sha256 abababababab.*generated side with cdcdcdcdcdcd"):
        pack().rows(FVD24(), weights={"i3d_k400": "cd" * 32})
    assert pack().rows(FDVGG(), weights={"vggish": "cd" * 32})  # unknown to the pack: not contradicted
    with pytest.raises(NotComparable, match=r"holds 7 samples and lacks 2 of the 3 asked for: a, b$"):
        pack().rows(FVD24(), ["a", "clip1", "b"])


def test_packs_that_contradict_themselves_are_refused() -> None:
    entry = packs.Entry.of(FVD24.video, features()[:3], {})
    with pytest.raises(UserError, match="7 samples, its feature"):
        packs.Pack(IDS, {entry.key: entry}, ORIGIN)
    with pytest.raises(UserError, match="twice"):
        packs.Pack(("a", "a"), {}, ORIGIN)


def test_files_that_are_no_packs_are_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(UserError, match="not a readable reference pack"):
        packs.read_pack(bad)
    with pytest.raises(UserError, match="not a readable reference pack"):
        packs.read_pack(tmp_path / "absent.safetensors")
    save_file({"x": np.zeros(1)}, bad)
    with pytest.raises(UserError, match="no reference pack"):
        packs.read_pack(bad)
    save_file({"x": np.zeros(1)}, bad, {packs.HEADER: json.dumps({"format": 99})})
    with pytest.raises(UserError, match="format 99"):
        packs.read_pack(bad)


# JavisBench's cache ---------------------------------------------------------------------------------------------------


def cache(path: Path, n: int = 7, **changes: object) -> Path:
    rng = np.random.default_rng(0)
    made = {"video": torch.from_numpy(rng.normal(size=(n, 400))), "audio": torch.from_numpy(rng.normal(size=(n, 1024)))}
    torch.save({**{key: value.float() for key, value in made.items()}, **changes}, path)
    return path


def test_javisbench_cache_answers_to_its_protocols_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    path = cache(tmp_path / "JavisBench-vanilla-max4s.pt")
    found = packs.read_javisbench(path, IDS)
    assert found.origin.suite == "JavisBench"
    for metric in (FVDJavisBench(), FVDJavisBench16()):
        side, notes = found.rows(metric)
        assert side.ids == list(IDS) and side.video[3].shape == (1, 400)
        assert any("does not record its frame count (16 or 24)" in note for note in notes)
    side, notes = found.rows(FADJavisBench())
    assert side.audio[0].shape == (1, 1024) and notes == []
    raw = torch.load(path, weights_only=True)
    assert np.array_equal(side.audio[6][0], raw["audio"][6].numpy())
    for metric in (FVD24(), FAD()):
        with pytest.raises(NotComparable):
            found.rows(metric)


def test_a_known_frame_count_binds_it(tmp_path: Path) -> None:
    found = packs.read_javisbench(cache(tmp_path / "x.pt"), IDS, frames=16)
    assert found.rows(FVDJavisBench16())[1] == []
    with pytest.raises(NotComparable, match="count=24"):
        found.rows(FVDJavisBench())
    with pytest.raises(UserError, match="16 or 24"):
        packs.read_javisbench(tmp_path / "x.pt", IDS, frames=20)


def test_a_cache_of_another_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotComparable, match="holds 9 rows, the suite 7 samples"):
        packs.read_javisbench(cache(tmp_path / "x.pt", n=9), IDS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video": torch.zeros(7, 401)}, r"'video' must be a tensor \[N, 400\], found \(7, 401\)"),
        ({"audio": torch.zeros(6, 1024)}, "7 video and 6 audio rows"),
        ({"audio": torch.full((7, 1024), torch.nan)}, "NaN"),
        ({"video": [1, 2]}, "found list"),
    ],
)
def test_a_broken_cache_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        packs.read_javisbench(cache(tmp_path / "x.pt", **changes), IDS)
    with pytest.raises(UserError, match="does not exist"):
        packs.read_javisbench(tmp_path / "absent.pt", IDS)


# av-benchmark's cache -------------------------------------------------------------------------------------------------


def test_av_benchmark_caches_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape)).float()

    torch.save({s: {"2048": draw(2048), "logits": draw(527)} for s in "abc"}, tmp_path / "pann_features.pth")
    torch.save({s: draw(8, 128) for s in "cab"}, tmp_path / "vggish_features.pth")
    torch.save({s: draw(768) for s in "ab"}, tmp_path / "passt_features_embed.pth")
    torch.save({s: draw(527) for s in "ab"}, tmp_path / "passt_logits.pth")
    found = packs.read_av_benchmark(tmp_path)
    assert found.ids == ("a", "b") and "1 clips" in found.origin.notes[1]
    shapes = {
        KLPANNsAVBenchmark: (1, 2575), FDPANNsAVBenchmark: (1, 2575),
        FDVGGAVBenchmark: (8, 128), FDPaSSTAVBenchmark: (1, 1295),
    }  # fmt: skip
    for metric, shape in shapes.items():
        assert found.rows(metric())[0].audio[1].shape == shape
    with pytest.raises(NotComparable, match=r"another protocol"):
        found.rows(FDVGG())
    with pytest.raises(UserError, match="holds no av-benchmark cache"):
        packs.read_av_benchmark(tmp_path / "none")
