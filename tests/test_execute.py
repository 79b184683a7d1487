"""The executor on small real networks: sharing, batches, chains of features, errors that stay with their clip."""

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from avbench.clip import Clip
from avbench.encode import write_clip
from avbench.errors import SampleError
from avbench.execute import Executor, Settings, batch_size, set_precision
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


class Device:
    """A device on which so many networks have room; each stays for as long as anything refers to it."""

    def __init__(self, room: int) -> None:
        self.room, self.there, self.tries = room, weakref.WeakSet[Any](), Counter[str]()

    def loader(self, name: str, real: Any) -> Any:
        def load(context: Any) -> Any:
            self.tries[name] += 1
            if len(self.there) >= self.room:
                tensor = bytearray(1 << 20)  # what a load had placed so far; the error's traceback refers to it
                raise torch.OutOfMemoryError(f"CUDA out of memory: {len(tensor)} bytes more\nlong advice")
            network = real(context)
            placed = Placed(network)
            self.there.add(placed)
            return placed

        return load


class Placed:
    """A network, with itself in a cycle as modules are."""

    def __init__(self, network: Any) -> None:
        self.network, self.me = network, self

    def __call__(self, items: Any) -> Any:
        return self.network(items)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Device]:
    """room -> a device on which the test networks are loaded from then on."""
    real = {name: getattr(nets, name) for name in ("conv", "words", "picky", "head")}

    def make(room: int) -> Device:
        made = Device(room)
        for name, loader in real.items():
            monkeypatch.setattr(nets, name, made.loader(name, loader))
        return made

    return make


@pytest.mark.parametrize("room", [1, 2, 3])
def test_networks_make_room_for_each_other(tmp_path: Path, device: Callable[[int], Device], room: int) -> None:
    subjects = made(tmp_path, range(4))
    wanted = (FRAMES, WORDS, HEAD)
    _, _, whole = run(tmp_path / "a", subjects, *wanted)
    crowded = device(room)
    _, _, found = run(tmp_path / "b", subjects, *wanted, chunk_bytes=1)
    for name, features in whole.items():
        assert all(np.array_equal(value, found[name][feature]) for feature, value in features.items()), found[name]
    assert len(crowded.there) <= room and (max(crowded.tries.values()) == 1 if room == 3 else True)


def test_a_network_without_room_costs_its_own_features(
    tmp_path: Path, device: Callable[[int], Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with advice, and asked for no more: the others would be loaded again for every chunk."""
    crowded = device(3)

    def conv(context: Any) -> Any:
        crowded.tries["conv"] += 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB\nlong advice")

    monkeypatch.setattr(nets, "conv", conv)
    _, _, found = run(tmp_path, made(tmp_path, range(4)), FRAMES, HEAD, WORDS, PICKY, chunk_bytes=1)
    for features in found.values():
        error = features[FRAMES]
        assert error.code == features[HEAD].code == "encoder.out_of_memory"
        assert "80 GiB" in error.detail and "repeat the command" in error.detail and "long advice" not in error.detail
        assert isinstance(features[WORDS], np.ndarray) and isinstance(features[PICKY], np.ndarray)
    assert crowded.tries["conv"] == 2 and crowded.tries["words"] <= 2 and crowded.tries["picky"] <= 2


@pytest.mark.parametrize("feature", [FRAMES, PICKY])
def test_a_pass_without_room_is_tried_again_without_idle_networks(
    tmp_path: Path, device: Callable[[int], Device], monkeypatch: pytest.MonkeyPatch, feature: Feature
) -> None:
    """At the same batch size: another one could change the last bit."""
    subjects = made(tmp_path, [0])
    crowded = device(2)
    name = feature.encoder.name.partition(".")[2]
    loaded = getattr(nets, name)

    def load(context: Any) -> Any:
        network = loaded(context)

        def encode(items: Any) -> Any:
            nets.CALLS.append(len(crowded.there))
            if len(crowded.there) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return network(items)

        return encode

    monkeypatch.setattr(nets, name, load)
    plan = Plan([metric_of(feature)], subjects, Store(tmp_path), {}, "fp32", "decoder-1")
    executor = Executor(plan, Settings())
    executor.networks.get(WORDS.encoder)
    nets.CALLS.clear()
    ((_, found),) = executor.execute()
    assert isinstance(found[feature], np.ndarray)
    assert nets.CALLS[0] == 2, "both were there at first"


def test_a_whole_clip_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(context: Any) -> Any:
        def encode(video: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return encode

    monkeypatch.setattr(nets, "picky", picky)
    _, _, found = run(tmp_path, made(tmp_path, [0]), PICKY, FRAMES)
    assert found["c0"][PICKY].code == "encoder.out_of_memory" and isinstance(found["c0"][FRAMES], np.ndarray)


def test_an_error_holds_no_decoded_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run keeps every error to its end."""
    small = made(tmp_path, [1], size=32)
    _, _, found = run(tmp_path, [*small, Subject("generated", Sample("e", 0, ""), None)], PICKY, INFINITE, WORDS)
    errors = [one for features in found.values() for one in features.values() if isinstance(one, SampleError)]
    assert len(errors) >= 3
    assert all(one.__traceback__ is one.__context__ is one.__cause__ is None for one in errors)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_a_gpu_rounds_to_tf32_only_where_asked(precision: str, allowed: bool) -> None:
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = not allowed
        set_precision("cpu", precision)
        assert all(backend.allow_tf32 is not allowed for backend in backends)
        set_precision("cuda:0", precision)
        assert all(backend.allow_tf32 is allowed for backend in backends)
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value


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
