"""Carrying out a plan: decode once, cut views, run encoders in batches that cross clips, store features.

Clips arrive decoded, in chunks bounded by memory, while the next ones decode and are cut in threads, and networks load
in another. Within a chunk the features are computed level by level (one cut from others comes after them). Items of one
encoder are pooled over all clips and views of the chunk, equal items are encoded once, and every batch has one fixed
size (short ones are padded): what else is in a batch does not change a value, but its size can change the last bit, so
it is not for the user to set.

Networks stay on the device from one chunk to the next. Where memory runs out, those that no thread is using leave it
and what failed is tried once more; what even then has no room costs the features of that network alone.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import Any, TypeVar

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError, UserError
from avbench.features import Context, Encoder, Feature, Network
from avbench.plan import Plan, Subject, Todo, looks_at, needs_media
from avbench.store import Value
from avbench.weights import Located

MB = 1 << 20
PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
CHUNK_CLIPS = 16  # enough to fill batches, few enough that progress is seen
CPU_BATCH, CPU_SHARE = 8, 8  # a CPU is full with an eighth of a GPU's batch; more than 8 gain nothing, cost padding
Outcome = Value | SampleError
Pair = tuple[Subject, Feature]
FIRST_USE, USED = Lock(), set[Hashable]()
T = TypeVar("T")


@dataclass
class Settings:
    """How to compute; nothing here may change a value.

    device:       "cpu", "cuda:0"; "auto" with Ray only, which then looks at the cluster.
    precision:    a key of `PRECISIONS`: it does change values and is part of every feature's key.
    threads:      decoders and view cutters.
    chunk_bytes:  decoded clips of a chunk, of which two are held at once; ahead_bytes: decoded ahead of them.
    ray:          address of a Ray cluster, "" for the one at hand or a new one here; None: this process alone.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 2
    chunk_bytes: int = 768 * MB
    ahead_bytes: int = 1024 * MB
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ray: str | None = None


@dataclass
class Counts:
    """What was really done, for the manifest and the benchmarks."""

    decodes: int = 0
    forwards: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    distinct: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the wall time of a stage: what the one thread that leads the work waited for or did."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def add(self, other: Counts) -> None:
        """Count in what another executor did."""
        self.decodes += other.decodes
        for kind in ("forwards", "items", "distinct", "seconds"):
            mine: dict[str, Any] = getattr(self, kind)
            for name, count in getattr(other, kind).items():
                mine[name] = mine.get(name, 0) + count


@contextmanager
def alone(what: Hashable) -> Iterator[None]:
    """The first use of anything runs alone: of two threads that import lazily, one can meet half a module."""
    if what in USED:
        yield
        return
    with FIRST_USE:
        yield
    USED.add(what)


class Full(Exception):
    """Memory ran out. Raised afresh: the traceback of the first error would keep alive what had no room."""


def out_of_memory() -> tuple[type[BaseException], ...]:
    """The errors that say so. Torch is looked for, not imported: algorithms that need none do without."""
    return MemoryError, getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)


def within_memory(work: Callable[[], T]) -> T:
    """What `work` gives; raises `Full` with the first line of an out-of-memory error."""
    try:
        return work()
    except out_of_memory() as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
    raise Full(reason)


def no_room(encoder: Encoder, full: Full, where: str) -> SampleError:
    """The error of all features of a network that has no room."""
    advice = "free the device, or choose another --device, and repeat the command: only what failed is computed"
    return SampleError("encoder.out_of_memory", f"{encoder.name} {where}: {full}; {advice}")


class Networks:
    """Loaded encoders: each once, in a thread of their own, from when the work begins or else when first needed.

    weights: {name: file} of what the encoders load.
    """

    def __init__(self, weights: Mapping[str, Located], settings: Settings) -> None:
        self.weights, self.settings = weights, settings
        self.loaded: dict[Encoder, Future[Network | Full]] = {}
        self.refused: set[Encoder] = set()
        self.users = Counter[Encoder]()
        self.lock = RLock()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="avbench-load")

    def begin(self, wanted: Iterable[Encoder]) -> None:
        """Load these, in order, while the first clips are decoded."""
        with self.lock:
            for encoder in wanted:
                if encoder not in self.loaded:
                    self.loaded[encoder] = self.thread.submit(self.load, encoder)

    @contextmanager
    def hold(self, encoder: Encoder) -> Iterator[None]:
        """The network is in use while the block runs: it stays on the device."""
        with self.lock:
            self.users[encoder] += 1
        try:
            yield
        finally:
            with self.lock:
                self.users[encoder] -= 1

    def get(self, encoder: Encoder) -> Network:
        """The network. Ahead of its use it takes only free memory; now that it is needed the idle ones make room.

        Raises `SampleError("encoder.out_of_memory")` where that is not enough, and from then on at once: one that is
        too large would take the others off the device again and again.
        """
        self.begin([encoder])
        future = self.loaded[encoder]
        found = future.result()
        if not isinstance(found, Full):
            return found
        with self.lock:  # of several threads that need it, one makes room
            if self.loaded[encoder] is future and encoder not in self.refused:
                self.loaded[encoder] = self.thread.submit(self.load, encoder, evicting=True)
            future = self.loaded[encoder]
        found = future.result()
        if isinstance(found, Full):
            self.refused.add(encoder)
            raise no_room(encoder, found, "cannot be loaded")
        return found

    def load(self, encoder: Encoder, evicting: bool = False) -> Network | Full:
        """The network, or that it has no room: as a value, because a future keeps the traceback of what is raised.

        evicting: after taking idle networks off the device; here, because what was to be loaded ahead is loaded by now.
        """
        if evicting:
            self.evict()
        try:
            return within_memory(lambda: self.make(encoder))
        except Full as full:
            return full.with_traceback(None)

    def make(self, encoder: Encoder) -> Network:
        with alone(("load", encoder)):
            return encoder.loader()(self.context(encoder))

    def evict(self) -> int:
        """Take the networks that nobody uses off the device; returns how many there were."""
        with self.lock:
            kept = {e for e, future in self.loaded.items() if self.users[e] or e in self.refused or not future.done()}
            idle = self.loaded.keys() - kept
            for encoder in idle:
                del self.loaded[encoder]
        gc.collect()  # modules lie in reference cycles
        if self.settings.device != "cpu":
            import torch

            torch.cuda.empty_cache()
        return len(idle)

    def sparing(self, work: Callable[[], T]) -> T:
        """What `work` gives, tried once more without the idle networks where memory runs out; else raises `Full`."""
        try:
            return within_memory(work)
        except Full:
            if not self.evict():
                raise
        return within_memory(work)

    def context(self, encoder: Encoder) -> Context:
        options = self.settings.options.get(encoder.name, {})
        if encoder.unit == "clip" and not encoder.weights:
            return Context(None, None, {}, options)
        import torch

        dtype = getattr(torch, PRECISIONS[self.settings.precision])
        paths = {name: self.weights[name].path for name in encoder.weights}
        return Context(torch.device(self.settings.device), dtype, paths, options)


@dataclass
class Chunk:
    """Decoded clips (or why not) and the features each lacks."""

    clips: dict[Subject, Clip | SampleError | None] = field(default_factory=dict)
    todo: dict[Subject, list[Feature]] = field(default_factory=dict)


Results = dict[Subject, dict[Feature, Outcome]]


@dataclass
class Begun:
    """A level of a chunk whose host work is under way."""

    chunk: Chunk
    results: Results
    views: list[tuple[Pair, Future[np.ndarray | SampleError]]]
    whole: list[tuple[Pair, Future[Outcome]]]


class Executor:
    """The state of one execution: loaded networks and counts."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan, self.settings = plan, settings
        self.networks = Networks(plan.weights, settings)
        self.counts = Counts()

    def execute(self) -> Iterator[tuple[Subject, dict[Feature, Outcome]]]:
        """Compute what the plan lacks; yields each subject's new features, or their errors, when its chunk is done.

        Features are in the store before they are yielded.
        """
        set_precision(self.settings.device, self.settings.precision)
        self.networks.begin(dict.fromkeys(f.encoder for _, lacking in self.plan.todo for f in lacking))
        with ThreadPoolExecutor(self.settings.threads, thread_name_prefix="avbench-view") as pool:
            begun: Begun | None = None
            for chunk in (chunk for todo in self.plan.rounds for chunk in self.chunks(todo)):
                following = self.begin(chunk, {one: {} for one in chunk.todo}, pool)
                if begun is not None:
                    yield from self.run(begun, pool).items()
                begun = following
            if begun is not None:
                yield from self.run(begun, pool).items()

    def chunks(self, work: Todo) -> Iterator[Chunk]:
        """Group the work so that decoded clips of a chunk stay within `chunk_bytes`."""
        from avbench.prefetch import decode_ahead, decoded_bytes

        with_media = [(s, f) for s, f in work if looks_at(f)]
        without = [(s, f) for s, f in work if not looks_at(f)]
        todo = dict(with_media)
        chunk, held = Chunk(), 0
        ahead = decode_ahead(jobs(todo), self.settings.threads, self.settings.ahead_bytes)
        while True:
            with self.counts.time("decode"):
                (one, _), clip = next(ahead, ((None, None), None))
            if one is None or clip is None:
                break
            self.counts.decodes += 1
            chunk.clips[one], chunk.todo[one] = clip, todo[one]
            held += decoded_bytes(clip)
            if held >= self.settings.chunk_bytes or len(chunk.todo) == CHUNK_CLIPS:
                yield chunk
                chunk, held = Chunk(), 0
        if chunk.todo:
            yield chunk
        if without:
            yield Chunk({s: None for s, _ in without}, dict(without))

    def begin(self, chunk: Chunk, results: Results, pool: ThreadPoolExecutor) -> Begun:
        """Start the host's part of a chunk's next level in threads: views, and encoders of whole clips.

        The first level of a chunk begins while the device is busy with the chunk before.
        """
        pairs = self.ready(chunk, results)
        views = [(p, pool.submit(self.cut, p, chunk, results)) for p in pairs if p[1].encoder.unit == "item"]
        whole = [(p, pool.submit(self.encode_clip, p, chunk, results)) for p in pairs if p[1].encoder.unit == "clip"]
        return Begun(chunk, results, views, whole)

    def run(self, begun: Begun, pool: ThreadPoolExecutor) -> Results:
        """All features of a chunk, level by level."""
        while True:
            for (one, feature), outcome in self.level(begun):
                if isinstance(outcome, SampleError):
                    begun.results[one][feature] = copy(outcome)  # without the frames it passed, which hold the clip
                else:
                    begun.results[one][feature] = outcome
                    self.save(one, feature, outcome)
            begun = self.begin(begun.chunk, begun.results, pool)
            if not (begun.views or begun.whole):
                break
        for one, lacking in begun.chunk.todo.items():
            for feature in lacking:
                lost = SampleError("feature.lost", "what it is cut from failed, or did on a clip of equal bytes")
                begun.results[one].setdefault(feature, lost)
        return begun.results

    def ready(self, chunk: Chunk, results: Mapping[Subject, Mapping[Feature, Outcome]]) -> list[Pair]:
        """Features whose needs are met by this chunk or by the store (which the chunk before may yet fill)."""
        return [
            (one, feature)
            for one, lacking in chunk.todo.items()
            for feature in lacking
            if feature not in results[one]
            and all(
                need in results[one] or (need not in lacking and self.plan.key(one, need) in self.plan.store)
                for need in feature.view.requires
            )
        ]

    def level(self, begun: Begun) -> Iterator[tuple[Pair, Outcome]]:
        """Outcomes of one level: items of its views in batches on the device, whole clips from their threads."""
        by_encoder: dict[Encoder, list[tuple[Pair, np.ndarray]]] = {}
        for pair, future in begun.views:
            with self.counts.time("views"):
                view = future.result()
            if isinstance(view, SampleError):
                yield pair, view
            else:
                by_encoder.setdefault(pair[1].encoder, []).append((pair, view))
        for encoder, group in by_encoder.items():
            yield from self.encode_items(encoder, group)
        for pair, running in begun.whole:
            with self.counts.time("algorithms"):
                outcome = running.result()
            yield pair, outcome

    def cut(
        self, pair: Pair, chunk: Chunk, results: Mapping[Subject, Mapping[Feature, Outcome]]
    ) -> np.ndarray | SampleError:
        """The view's array, or the error that belongs to this sample."""
        one, feature = pair
        clip = chunk.clips[one]
        view = feature.view
        if isinstance(clip, SampleError) and view.media:
            return clip
        try:
            needs = [self.need(one, need, results[one]) for need in view.requires]
            texts = [one.sample.get(name) for name in view.fields]
            with alone(type(view).__qualname__):
                array = view(clip if view.media else None, *needs, *texts)  # type: ignore[arg-type]
        except SampleError as error:
            return error
        except (MemoryError, UserError):
            raise
        except Exception as error:
            return SampleError("view.error", f"{type(view).__name__}: {type(error).__name__}: {error}")
        if isinstance(array, np.ndarray) and not len(array):
            return SampleError("view.empty", f"{type(view).__name__} gave no items")
        return array

    def need(self, one: Subject, feature: Feature, done: Mapping[Feature, Outcome]) -> Value:
        """A feature that another is cut from; its error is the error of both."""
        value = done[feature] if feature in done else self.plan.store.get(self.plan.key(one, feature))
        if isinstance(value, SampleError):
            raise value
        return value

    def encode_clip(self, pair: Pair, chunk: Chunk, results: Mapping[Subject, Mapping[Feature, Outcome]]) -> Outcome:
        """A whole-clip encoder on one view."""
        view = self.cut(pair, chunk, results)
        if isinstance(view, SampleError):
            return view
        encoder = pair[1].encoder
        try:
            with self.networks.hold(encoder):
                return checked(self.whole_clip(encoder, self.networks.get(encoder), view), encoder)
        except SampleError as error:
            return error

    def whole_clip(self, encoder: Encoder, network: Network, view: Any) -> Any:
        """What a whole-clip encoder gives; raises `SampleError` where it breaks or memory runs out."""

        def encode() -> Any:
            with alone(encoder):
                return network(view)

        try:
            return self.networks.sparing(encode)
        except Full as full:
            raise no_room(encoder, full, "with one clip") from None
        except (SampleError, UserError):
            raise
        except Exception as error:
            raise SampleError("encoder.error", f"{encoder.name}: {type(error).__name__}: {error}") from error

    def encode_items(self, encoder: Encoder, group: list[tuple[Pair, np.ndarray]]) -> Iterator[tuple[Pair, Outcome]]:
        """Pool the items of many views by shape, encode each distinct one once, and deal the results out."""
        places: dict[tuple[Any, ...], dict[bytes, int]] = {}
        distinct: dict[tuple[Any, ...], list[Any]] = {}
        rows: list[list[tuple[tuple[Any, ...], int]]] = []
        with self.counts.time("pool"):
            for _, view in group:
                row = []
                for item in view:
                    kind, digest = item_identity(item)
                    index = places.setdefault(kind, {}).setdefault(digest, len(places.get(kind, {})))
                    if index == len(distinct.setdefault(kind, [])):
                        distinct[kind].append(item)
                    row.append((kind, index))
                rows.append(row)
        self.count(encoder, sum(map(len, rows)), sum(map(len, distinct.values())))
        try:
            with self.networks.hold(encoder):
                with self.counts.time("load"):
                    network = self.networks.get(encoder)
                with self.counts.time(f"forward {encoder.name}"):
                    outputs = {kind: self.batches(encoder, network, items) for kind, items in distinct.items()}
        except SampleError as error:
            yield from ((pair, error) for pair, _ in group)
            return
        for (pair, _), row in zip(group, rows):
            try:
                yield pair, checked(np.stack([outputs[kind][index] for kind, index in row]), encoder)
            except SampleError as error:
                yield pair, error

    def batches(self, encoder: Encoder, network: Network, items: Sequence[Any]) -> list[np.ndarray]:
        """Forward passes of one fixed size; what has no room for it is tried at half the size, down to one item."""
        import torch

        size = batch_size(encoder, self.settings.device)
        if isinstance(items[0], str):
            size = 1  # texts are padded to the longest of their batch, which would let neighbours into a value

        def encode() -> list[np.ndarray]:
            with torch.inference_mode(), alone(encoder):
                return self.forward(encoder, network, items, size)

        while True:
            try:
                return self.networks.sparing(encode)
            except Full as full:
                if size == 1:
                    raise no_room(encoder, full, "at batch size 1") from None
                size //= 2
            except (SampleError, UserError):
                raise
            except Exception as error:  # as in `whole_clip`: the metrics of this network fail, the others go on
                raise SampleError("encoder.error", f"{encoder.name}: {type(error).__name__}: {error}") from error

    def forward(self, encoder: Encoder, network: Network, items: Sequence[Any], size: int) -> list[np.ndarray]:
        """Results stay on the device until the last batch is on its way, so that stacking and computing overlap."""
        import torch

        device = self.settings.device
        found: list[Any] = []
        for start in range(0, len(items), size):
            part = items[start : start + size]
            if isinstance(part[0], str):
                result = network(list(part))
            else:
                batch = torch.from_numpy(np.stack([*part, *[part[-1]] * (size - len(part))]))
                batch = batch.pin_memory() if device != "cpu" else batch
                result = network(batch.to(device, non_blocking=True))
            self.counts.forwards[encoder.name] = self.counts.forwards.get(encoder.name, 0) + 1
            found.append(result[: len(part)].detach() if isinstance(result, torch.Tensor) else np.asarray(result))
        return [row for rows in found for row in (rows.float().cpu().numpy() if hasattr(rows, "cpu") else rows)]

    def count(self, encoder: Encoder, items: int, distinct: int) -> None:
        self.counts.items[encoder.name] = self.counts.items.get(encoder.name, 0) + items
        self.counts.distinct[encoder.name] = self.counts.distinct.get(encoder.name, 0) + distinct

    def save(self, one: Subject, feature: Feature, value: Value) -> None:
        meta = {"encoder": feature.encoder.key, "view": feature.view.key, "media": one.media, "feature": feature.key}
        with self.counts.time("store"):
            self.plan.store.put(self.plan.key(one, feature), value, meta)


def settled(
    plan: Plan,
    one: Subject,
    wanted: Iterable[Feature],
    failures: Mapping[str, SampleError],
    fresh: Mapping[Feature, Outcome | None] = {},
) -> dict[Feature, Outcome]:
    """The features of a subject after execution, or why there are none.

    failures: by key. fresh: what is at hand already; the store has the others. Raises `FeatureLost` where it has not;
    that is no fault of the sample, so features are asked for before a metric is, whose errors become rows.
    """
    found: dict[Feature, Outcome] = {}
    for feature in wanted:
        key, value = plan.key(one, feature), fresh.get(feature)
        if one.error is not None and needs_media(feature):
            value = one.error
        elif value is None:
            value = failures.get(key)
        found[feature] = plan.store.get(key) if value is None else value
    return found


def given(found: Mapping[Feature, Outcome]) -> Callable[[Feature], Value]:
    """A feature's value; raises its error."""

    def value(feature: Feature) -> Value:
        outcome = found[feature]
        if isinstance(outcome, SampleError):
            raise copy(outcome)  # or it would gather the frames of all that it is raised through
        return outcome

    return value


def set_precision(device: str, precision: str = "fp32") -> None:
    """Say how this process computes in fp32; called before torch runs anything, by all that begins such work.

    On a GPU torch rounds the factors of fp32 convolutions to TF32 by itself; here only where asked for.
    """
    if device != "cpu":
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def batch_size(encoder: Encoder, device: str) -> int:
    """Items per forward pass: fixed for an encoder and a kind of device."""
    return min(max(1, encoder.batch // CPU_SHARE), CPU_BATCH) if device == "cpu" else encoder.batch


def jobs(todo: Mapping[Subject, list[Feature]]) -> list[tuple[Subject, frozenset[str]]]:
    """What to decode: the subject and which streams its features look at."""
    return [(one, looks_at(lacking)) for one, lacking in todo.items()]


def item_identity(item: Any) -> tuple[tuple[Any, ...], bytes]:
    """(kind, digest) of an item: items of one kind can share a batch, equal digests are equal items."""
    if isinstance(item, str):
        return (str,), item.encode()
    array = np.ascontiguousarray(item)
    return (array.shape, array.dtype.str), hashlib.blake2b(array.view(np.uint8).data, digest_size=16).digest()


def checked(value: Any, encoder: Encoder) -> Value:
    """A feature as arrays; NaN and infinity never enter the store."""
    arrays = value if isinstance(value, dict) else {"": np.asarray(value)}
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise SampleError("encoder.not_finite", f"{encoder.name} gave NaN or infinity {name}".rstrip())
    return value if isinstance(value, dict) else arrays[""]
