"""Reference feature packs: the real side of set metrics without its media.

Our own format is one safetensors file whose header says how every feature was made; published caches are read into the
same form. A pack answers only to metrics whose features it really holds: another encoder, view (and with it the frame
count), checkpoint or set of samples is refused with `NotComparable` and the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avbench.errors import NotComparable, UserError
from avbench.features import Feature
from avbench.metric import Metric, Rows, features
from avbench.metrics.distances import Moments

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
HEADER = "avbench_pack"
SHOWN = 3


@dataclass(frozen=True)
class Origin:
    """How the features of a pack came about.

    suite, suite_version, suite_digest: what the samples are; source: who made the pack, from what.
    decoder, precision: of the run. notes: what a reader of a value must know.
    """

    suite: str
    suite_digest: str = ""
    source: str = ""
    decoder: str = ""
    precision: str = ""
    notes: tuple[str, ...] = ()
    suite_version: str = ""


@dataclass(frozen=True, eq=False)
class Entry:
    """One feature of all samples.

    key, encoder, view: of the `Feature`; weights: {checkpoint: sha256}, "" where unknown.
    rows:  one array per sample in the order of the pack's ids, or `Moments` of all of them.
    notes: what is not known of it.
    """

    key: str
    encoder: str
    view: str
    weights: Mapping[str, str]
    rows: list[np.ndarray] | Moments
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, feature: Feature, rows: list[np.ndarray] | Moments, weights: Mapping[str, str], notes: Iterable[str] = ()
    ) -> Entry:
        """The entry of a declared feature; `weights` are the digests that are known."""
        known = {name: weights.get(name, "") for name in feature.encoder.weights}
        return cls(feature.key, feature.encoder.key, feature.view.key, known, rows, tuple(notes))


@dataclass(frozen=True, eq=False)
class Pack:
    """Features of the real clips of a suite.

    clips:        {"sha256", "frames", "seconds", ...: one value per sample}: the media the features were made of.
    path, digest: of the file the pack was read from, "" for one that is not a file yet.
    """

    ids: tuple[str, ...]
    entries: Mapping[str, Entry]
    origin: Origin
    clips: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    path: str = ""
    digest: str = ""
    _at: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            raise UserError("a pack names a sample twice")
        for entry in self.entries.values():
            size = entry.rows.n if isinstance(entry.rows, Moments) else len(entry.rows)
            if isinstance(entry.rows, list) and size != len(self.ids):
                raise UserError(f"the pack has {len(self.ids)} samples, its feature {entry.encoder} has {size}")
        object.__setattr__(self, "_at", {id: index for index, id in enumerate(self.ids)})

    def fits(self, suite: str, version: str, digest: str, precision: str) -> None:
        """Raise `NotComparable` where the pack was made of another suite, or in another precision."""
        made = self.origin
        if made.suite_version and (made.suite.partition("/")[0], made.suite_version) != (
            suite.partition("/")[0], version,
        ):  # fmt: skip
            raise NotComparable(
                f"the reference pack was made of suite {made.suite} {made.suite_version}, this is {suite} {version}"
            )
        if made.suite_digest and made.suite == suite and made.suite_digest != digest:
            raise NotComparable(
                f"the reference pack was made of suite {suite} with digest {made.suite_digest[:12]}, this one has "
                f"{digest[:12]}: their records differ"
            )
        if made.precision and made.precision != precision:
            raise NotComparable(
                f"the reference pack was made in {made.precision}, the generated side would be in {precision}; "
                f"use --precision {made.precision}"
            )

    def rows(
        self, metric: Metric, ids: Sequence[str] | None = None, weights: Mapping[str, str] | None = None
    ) -> tuple[Rows, list[str]]:
        """The reference side of a set metric on these samples (None: all), and notes to show beside its value.

        weights: {checkpoint: sha256} of the generated side. Raises `NotComparable`.
        """
        ids = list(self.ids if ids is None else ids)
        entries = {name: self.entry(metric, feature, weights or {}) for name, feature in features(metric).items()}
        found = {name: self.cut(entry, ids) for name, entry in entries.items()}
        notes = [*self.origin.notes, *(note for entry in entries.values() for note in entry.notes)]
        return Rows(ids, found), list(dict.fromkeys(notes))

    def answers(self, metric: Metric) -> bool:
        """Whether it holds every feature the metric declares."""
        return all(feature.key in self.entries for feature in features(metric).values())

    def entry(self, metric: Metric, feature: Feature, weights: Mapping[str, str]) -> Entry:
        """The entry that answers to a feature of a metric."""
        entry = self.entries.get(feature.key)
        if entry is None:
            raise NotComparable(f"{metric.card.id}: this reference pack of {self.origin.suite} {self.lack(feature)}")
        for name, digest in weights.items():
            known = entry.weights.get(name, "")
            if known and digest and known != digest:
                raise NotComparable(
                    f"{metric.card.id}: the reference pack was made with weights {name} of sha256 {known[:12]}, "
                    f"the generated side with {digest[:12]}"
                )
        return entry

    def lack(self, feature: Feature) -> str:
        """In words, why no entry answers to a feature."""
        same = [entry.view for entry in self.entries.values() if entry.encoder == feature.encoder.key]
        if same:
            return f"was made with another protocol\n  pack:   {'; '.join(same)}\n  metric: {feature.view.key}"
        held = ", ".join(sorted({entry.encoder for entry in self.entries.values()})) or "nothing"
        return f"holds no features of {feature.encoder.key}; it holds {held}"

    def cut(self, entry: Entry, ids: Sequence[str]) -> Any:
        """The rows of these samples; statistics stand for all samples or for none."""
        missing = [id for id in ids if id not in self._at]
        if missing:
            names = ", ".join(missing[:SHOWN])
            raise NotComparable(
                f"the reference pack of {self.origin.suite} holds {len(self.ids)} samples and lacks {len(missing)} of "
                f"the {len(ids)} asked for: {names}{' ...' if len(missing) > SHOWN else ''}"
            )
        if isinstance(entry.rows, Moments):
            if len(ids) != len(self.ids):
                raise NotComparable(
                    f"the reference pack of {self.origin.suite} holds statistics of {len(self.ids)} samples together, "
                    f"which cannot be cut to {len(ids)}"
                )
            return entry.rows
        return [entry.rows[self._at[id]] for id in ids]


# Our own format ------------------------------------------------------------------------------------------------------


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack as one safetensors file, atomically. Rows keep their precision."""
    from safetensors.numpy import save

    from avbench.store import write_atomic

    tensors: dict[str, np.ndarray] = {}
    described = []
    for index, entry in enumerate(pack.entries.values()):
        kind = "moments" if isinstance(entry.rows, Moments) else "rows"
        described.append({"kind": kind, **{k: v for k, v in vars(entry).items() if k != "rows"}})
        if isinstance(entry.rows, Moments):
            tensors[f"{index}.n"] = np.array([entry.rows.n])
            tensors[f"{index}.mean"], tensors[f"{index}.scatter"] = entry.rows.mean, entry.rows.scatter
        else:
            tensors[f"{index}.rows"] = np.ascontiguousarray(np.concatenate(entry.rows))
            tensors[f"{index}.counts"] = np.array([len(rows) for rows in entry.rows])
    header = {"format": FORMAT, "origin": asdict(pack.origin), "ids": pack.ids, "entries": described}
    header |= {"clips": {name: list(values) for name, values in pack.clips.items()}}
    write_atomic(path, save(tensors, {HEADER: json.dumps(header, ensure_ascii=False)}))


def read_pack(path: Path) -> Pack:
    """Read a pack. Raises `UserError` where the file is none, or of a later format."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is not a readable reference pack: {error}") from None
    if header is None:
        raise UserError(f"{path} is a safetensors file but no reference pack; `avbench suites lock` makes one")
    if header["format"] > FORMAT:
        raise UserError(f"{path} is a pack of format {header['format']}, this avbench reads up to {FORMAT}")
    entries = [unpack(one, index, tensors) for index, one in enumerate(header["entries"])]
    origin = {**header["origin"], "notes": tuple(header["origin"]["notes"])}
    held = {entry.key: entry for entry in entries}
    return Pack(tuple(header["ids"]), held, Origin(**origin), header.get("clips", {}), *file_of(path))


def open_pack(path: Path, ids: Callable[[], Sequence[str]], frames: int | None = None) -> Pack:
    """Any file or folder that can stand for real clips, by its form.

    Our own `.safetensors`, JavisBench's `.pt`, or a folder with av-benchmark's cache. ids: of the whole suite, in the
    order of its records, for forms that name no samples. frames: see `read_javisbench`.
    """
    if not path.exists():
        raise UserError(f"reference {path} does not exist")
    published = path.suffix in (".pt", ".pth")
    if frames is not None and not published:
        raise UserError(f"{path} says itself how its features were made; --reference-frames is for published caches")
    if path.is_dir():
        return read_av_benchmark(path)
    return read_javisbench(path, ids(), frames) if published else read_pack(path)


def file_of(path: Path, *parts: Path) -> tuple[str, str]:
    """Where a pack lies, and the digest of its bytes (of some files of a folder)."""
    from avbench.store import file_digest

    return str(path.resolve()), file_digest(*(parts or [path]))


def unpack(described: dict[str, Any], index: int, tensors: Mapping[str, np.ndarray]) -> Entry:
    """One entry from the header's description and its tensors."""
    described = {**described, "notes": tuple(described["notes"])}
    if described.pop("kind") == "moments":
        n, mean, scatter = (tensors[f"{index}.{name}"] for name in ("n", "mean", "scatter"))
        return Entry(rows=Moments(int(n[0]), mean, scatter), **described)
    ends = np.cumsum(tensors[f"{index}.counts"])[:-1]
    return Entry(rows=list(np.split(tensors[f"{index}.rows"], ends)), **described)


# Published caches ----------------------------------------------------------------------------------------------------

FRAMES_UNKNOWN = (
    "the published cache does not record its frame count (16 or 24): FVD and KVD against it are comparable only if the "
    "generated side happens to use the same"
)


def read_javisbench(path: Path, ids: Sequence[str], frames: int | None = None) -> Pack:
    """JavisBench's published features of its real clips, `<subset>-vanilla-max4s.pt`.

    The file is a dict of `video` float32 [N, 400] and `audio` float32 [N, 1024] in the row order of the subset's CSV;
    `ids` are all sample ids of that subset in that order. It answers to the `@javisbench` protocols alone.

    frames: the count the cache was made with, where the user has found out (16 or 24); None accepts both, with a note.
    """
    from avbench.metrics.fad import FADJavisBench
    from avbench.metrics.fvd import FVDJavisBench, FVDJavisBench16

    loaded = tensors_of(path)
    rows = {name: matrix(loaded, name, width, path) for name, width in (("video", 400), ("audio", 1024))}
    n = len(rows["video"])
    if len(rows["audio"]) != n:
        raise UserError(f"{path} holds {n} video and {len(rows['audio'])} audio rows")
    if len(ids) != n:
        raise NotComparable(f"{path} holds {n} rows, the suite {len(ids)} samples: it is the cache of another subset")
    by_count = {24: FVDJavisBench.video, 16: FVDJavisBench16.video}
    if frames not in (None, *by_count):
        raise UserError(f"JavisBench's cache was made with 16 or 24 frames, not {frames}")
    video = [feature for count, feature in by_count.items() if frames in (None, count)]
    notes = () if frames else (FRAMES_UNKNOWN,)
    made = [Entry.of(feature, one_each(rows["video"]), {}, notes) for feature in video]
    made.append(Entry.of(FADJavisBench.audio, one_each(rows["audio"]), {}))
    origin = Origin(path.stem.partition("-vanilla")[0], source=f"JavisVerse/JavisBench cache {path.name}")
    return Pack(tuple(ids), {entry.key: entry for entry in made}, origin, {}, *file_of(path))


AV_BENCHMARK_FILES = ("pann_features.pth", "passt_features_embed.pth", "passt_logits.pth", "vggish_features.pth")


def read_av_benchmark(folder: Path) -> Pack:
    """Features that av-benchmark has cached for a folder of audio (8 s), by file stem; what is not there is left out.

    Samples are the stems that all files share.
    """
    from avbench.metrics import fd_audio

    found: dict[Feature, dict[str, np.ndarray]] = {}
    if (path := folder / "pann_features.pth").is_file():
        rows = {stem: stack(one["2048"], one["logits"]) for stem, one in tensors_of(path).items()}
        found[fd_audio.FDPANNsAVBenchmark.audio] = rows
    if (path := folder / "vggish_features.pth").is_file():
        found[fd_audio.FDVGGAVBenchmark.audio] = {stem: array(one) for stem, one in tensors_of(path).items()}
    paths = (folder / "passt_features_embed.pth", folder / "passt_logits.pth")
    if all(path.is_file() for path in paths):
        embeds, logits = (tensors_of(path) for path in paths)
        rows = {stem: stack(embeds[stem], logits[stem]) for stem in embeds.keys() & logits.keys()}
        found[fd_audio.FDPaSSTAVBenchmark.audio] = rows
    if not found:
        raise UserError(f"{folder} holds no av-benchmark cache (pann_features.pth, vggish_features.pth, passt_*.pth)")
    ids = sorted(set.intersection(*(set(rows) for rows in found.values())))
    lost = len(set.union(*(set(rows) for rows in found.values()))) - len(ids)
    notes = ["the cache does not record the length its features were made with; 8 s is assumed"]
    notes += [f"{lost} clips that some of the cache's files lack are left out"] if lost else []
    entries = [Entry.of(feature, [rows[id] for id in ids], {}) for feature, rows in found.items()]
    origin = Origin(folder.name, source="hkchengrex/av-benchmark cache", notes=tuple(notes))
    read = (path for name in AV_BENCHMARK_FILES if (path := folder / name).is_file())
    return Pack(tuple(ids), {entry.key: entry for entry in entries}, origin, {}, *file_of(folder, *read))


def tensors_of(path: Path) -> dict[str, Any]:
    """A published cache: a dict of tensors, read as tensors only."""
    from avbench.checkpoints import read_tensors

    if not path.is_file():
        raise UserError(f"{path} does not exist")
    loaded = read_tensors(path)
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, expected a dict of tensors")
    return loaded


def array(tensor: Tensor) -> np.ndarray:
    """float32 numpy."""
    return np.asarray(tensor.detach().float().numpy())


def stack(features: Tensor, logits: Tensor) -> np.ndarray:
    """One row [1, features + classes]."""
    return np.concatenate([array(features).reshape(-1), array(logits).reshape(-1)])[None]


def one_each(rows: np.ndarray) -> list[np.ndarray]:
    """[N, D] -> N arrays [1, D]."""
    return list(rows[:, None])


def matrix(loaded: Mapping[str, Any], name: str, width: int, path: Path) -> np.ndarray:
    """A finite float32 matrix [N, width] of a cache."""
    import torch

    tensor = loaded.get(name)
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 2 or tensor.shape[1] != width:
        shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise UserError(f"{path}: {name!r} must be a tensor [N, {width}], found {shape}")
    rows = array(tensor)
    if not np.isfinite(rows).all():
        raise UserError(f"{path}: {name!r} holds NaN or infinity")
    return rows
