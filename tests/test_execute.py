"""The executor on small real networks: sharing, batches, chains of features, errors that stay with their clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from avbench.clip import Clip
from avbench.encode import write_clip
from avbench.errors import SampleError
from avbench.execute import Executor, Settings, batch_size
from avbench.features import Encoder, Feature, Text, View, Whole
from avbench.generator import ClipFile
from avbench.metric import closure, sample_metric
from avbench.plan import Plan, Subject, subject
from avbench.store import Store, blob
from avbench.suite import Sample
from tests import nets
from tests.conftest import bouncing


@dataclass(frozen=True)
class Every(View):
    """Every n-th frame."""

    step: int = 1

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        return clip.need_video().frames[:: self.step]


CONV = Encoder("test.conv", "tests.nets:conv", batch=64)
FRAMES, HALF = Feature(CONV, Every()), Feature(CONV, Every(2))


@dataclass(frozen=True)
class First(View):
    """The feature of the first frame: cut from another feature, no clip needed."""

    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def requires(self) -> tuple[Feature, ...]:
        return (FRAMES,)

    def __call__(self, clip: Any, *inputs: Any) -> np.ndarray:
        assert clip is None
        return inputs[0][:1]


@dataclass(frozen=True)
class Asked(First):
    """Cut from another feature and from the prompt."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ("text",)

    def __call__(self, clip: Any, *inputs: Any) -> np.ndarray:
        return inputs[0][:1] + len(inputs[1])


ASKED = Feature(Encoder("test.head", "tests.nets:head"), Asked())
HEAD = Feature(Encoder("test.head", "tests.nets:head"), First())
WORDS = Feature(Encoder("test.words", "tests.nets:words"), Text("text"))
PICKY = Feature(Encoder("test.picky", "tests.nets:picky", unit="clip"), Whole("video"))
INFINITE = Feature(Encoder("test.infinite", "tests.nets:infinite"), Every())


def metric_of(*wanted: Feature) -> Any:
    namespace = {f"f{i}": feature for i, feature in enumerate(wanted)}
    body = {**namespace, "score": lambda self, **inputs: 0.0, "__doc__": "A test."}
    return sample_metric("test", version=1, better="higher", source="here")(type("Test", (), body))()


def made(folder: Path, seeds: Sequence[int], size: int = 48) -> list[Subject]:
    found = []
    for seed in seeds:
        path = folder / f"c{seed}-{size}.mp4"
        write_clip(path, bouncing(seed, size=size), lossless=True)
        found.append(subject("generated", Sample(f"c{seed}", seed, f"clip {seed}"), ClipFile(path)))
    return found


def run(store: Path, subjects: list[Subject], *wanted: Feature, **settings: Any) -> tuple[Plan, Executor, dict]:
    plan = Plan([metric_of(*wanted)], subjects, Store(store), {}, "fp32", "decoder-1")
    executor = Executor(plan, Settings(**settings))
    return plan, executor, {one.sample.id: found for one, found in executor.execute()}


def test_views_of_one_encoder_share_their_items(tmp_path: Path) -> None:
    subjects = made(tmp_path, [0, 1])
    _, executor, found = run(tmp_path, subjects, FRAMES, HALF)
    counts = executor.counts
    assert counts.decodes == 2
    assert counts.items["test.conv"] == 2 * (12 + 6) and counts.distinct["test.conv"] <= 2 * 12
    assert counts.forwards["test.conv"] == -(-counts.distinct["test.conv"] // 8), "batches cross clips"
    for features in found.values():
        assert features[FRAMES].shape == (12, 16)
        assert np.array_equal(features[FRAMES][::2], features[HALF])


def test_what_else_is_in_a_batch_never_changes_a_value(tmp_path: Path) -> None:
    subjects = made(tmp_path, range(5))
    _, _, whole = run(tmp_path / "a", subjects, FRAMES)
    _, _, single = run(tmp_path / "b", subjects, FRAMES, chunk_bytes=1, threads=1)
    _, _, turned = run(tmp_path / "c", subjects[::-1], FRAMES)
    _, _, rest = run(tmp_path / "d", subjects[3:], FRAMES)
    for name, features in whole.items():
        for other in (single, turned, rest):
            if name in other:
                assert np.array_equal(features[FRAMES], other[name][FRAMES]), name


def test_every_batch_has_one_size(tmp_path: Path) -> None:
    nets.CALLS.clear()
    run(tmp_path, made(tmp_path, [0, 1, 2]), FRAMES, chunk_bytes=1)
    assert set(nets.CALLS) == {8}


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (4, 1), (8, 1), (16, 2), (32, 4), (64, 8), (256, 8)])
def test_a_cpu_takes_an_eighth_of_a_batch_and_never_more_than_eight(batch: int, size: int) -> None:
    encoder = Encoder("test.conv", "tests.nets:conv", batch=batch)
    assert batch_size(encoder, "cpu") == size and batch_size(encoder, "cuda:0") == batch


def test_out_of_memory_halves_the_batch_and_then_fails_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = made(tmp_path, [0])
    _, _, whole = run(tmp_path / "a", subjects, FRAMES)
    monkeypatch.setattr(nets, "LIMIT", 3)
    nets.CALLS.clear()
    _, _, found = run(tmp_path / "b", subjects, FRAMES)
    assert nets.CALLS[:3] == [8, 4, 2]
    assert np.allclose(found["c0"][FRAMES], whole["c0"][FRAMES], atol=1e-6)
    monkeypatch.setattr(nets, "LIMIT", -1)
    _, _, failed = run(tmp_path / "c", subjects, FRAMES)
    assert failed["c0"][FRAMES].code == "encoder.out_of_memory"


def test_features_of_features_come_after_them_and_need_no_second_decode(tmp_path: Path) -> None:
    subjects = made(tmp_path, [0, 1])
    plan, _, found = run(tmp_path, subjects, HEAD)
    assert closure(HEAD) == [FRAMES, HEAD] and set(plan.wanted["generated"]) == {FRAMES, HEAD}
    for features in found.values():
        assert np.allclose(features[HEAD], features[FRAMES][:1].sum(axis=1, keepdims=True))
    for one in subjects:
        (plan.store.blobs.root / blob(plan.key(one, HEAD))).unlink()  # type: ignore[union-attr]
    _, again, found = run(tmp_path, subjects, HEAD)
    assert again.counts.decodes == 0 and set(found) == {"c0", "c1"}


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 30])
def test_equal_bytes_under_two_prompts(tmp_path: Path, chunk_bytes: int) -> None:
    """Frames are encoded once; what is cut from them and the prompt waits for them, in one chunk or across two."""
    (one,) = made(tmp_path, [0])
    other = subject("generated", Sample("other", 1, "another, longer prompt"), one.file)
    _, executor, found = run(tmp_path, [one, other], FRAMES, ASKED, chunk_bytes=chunk_bytes)
    gap = 16 * (len(other.sample.text) - len(one.sample.text))
    assert np.allclose(found["other"][ASKED] - found["c0"][ASKED], gap)
    assert executor.counts.items["test.conv"] == 12


def test_what_is_cut_from_a_failed_feature_of_equal_bytes_fails_too(tmp_path: Path) -> None:
    (one,) = made(tmp_path, [0])
    other = subject("generated", Sample("other", 1, "another prompt"), one.file)
    need = Feature(INFINITE.encoder, Every())

    @dataclass(frozen=True)
    class Cut(Asked):
        @property
        def requires(self) -> tuple[Feature, ...]:
            return (need,)

    cut = Feature(HEAD.encoder, Cut())
    _, _, found = run(tmp_path, [one, other], need, cut)
    assert found["c0"][cut].code == "encoder.not_finite" and found["other"][cut].code == "feature.lost"


def test_texts_are_features_without_a_clip(tmp_path: Path) -> None:
    _, executor, found = run(tmp_path, made(tmp_path, [0, 11]), WORDS)
    assert executor.counts.decodes == 0
    assert [found[name][WORDS].item() for name in ("c0", "c11")] == [6.0, 7.0]
    empty = Subject("generated", Sample("e", 0, ""), None)
    _, _, found = run(tmp_path, [empty], WORDS)
    assert found["e"][WORDS].code == "no_text" and found["e"][WORDS].status == "not_applicable"


def test_an_error_stays_with_its_clip(tmp_path: Path) -> None:
    dark = tmp_path / "dark.mp4"
    clip = bouncing(5)
    clip.need_video().frames[:] = 0
    write_clip(dark, clip)
    subjects = [*made(tmp_path, [0]), *made(tmp_path, [1], size=32)]
    subjects.append(subject("generated", Sample("dark", 2, "x"), ClipFile(dark)))
    _, _, found = run(tmp_path, subjects, PICKY)
    assert isinstance(found["c0"][PICKY], np.ndarray)
    assert found["c1"][PICKY].code == "encoder.error" and "too small" in found["c1"][PICKY].detail
    assert found["dark"][PICKY].status == "not_applicable"


def test_a_network_that_breaks_costs_its_own_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(context: object) -> object:
        def encode(items: object) -> object:
            raise NotImplementedError("no such kernel")

        return encode

    monkeypatch.setattr(nets, "conv", broken)
    _, _, found = run(tmp_path, made(tmp_path, [0]), FRAMES, PICKY)
    assert found["c0"][FRAMES].code == "encoder.error" and "no such kernel" in found["c0"][FRAMES].detail
    assert isinstance(found["c0"][PICKY], np.ndarray)


def test_infinity_never_enters_the_store(tmp_path: Path) -> None:
    plan, _, found = run(tmp_path, (subjects := made(tmp_path, [0])), INFINITE)
    error = found["c0"][INFINITE]
    assert isinstance(error, SampleError) and error.code == "encoder.not_finite"
    assert plan.key(subjects[0], INFINITE) not in plan.store


def test_keys_follow_bytes_precision_weights_decoder_and_recipe(tmp_path: Path) -> None:
    (one, other) = made(tmp_path, [0, 1])
    metric = metric_of(FRAMES, HALF, HEAD, WORDS)

    def keys(what: Subject, precision: str = "fp32", decoder: str = "1") -> list[str]:
        plan = Plan([metric], [what], Store(tmp_path), {}, precision, decoder)
        return [plan.key(what, feature) for feature in (FRAMES, HALF, HEAD, WORDS)]

    base = keys(one)
    assert len(set(base)) == 4
    assert all(a != b for a, b in zip(base, keys(one, precision="bf16")))
    assert [a == b for a, b in zip(base, keys(one, decoder="2"))] == [False, False, False, True]
    assert not set(base) & set(keys(other))
    moved = tmp_path / "elsewhere.mp4"
    moved.write_bytes(one.file.main.read_bytes())  # type: ignore[union-attr]
    assert keys(subject("generated", one.sample, ClipFile(moved))) == base
