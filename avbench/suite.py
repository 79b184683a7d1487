"""Suites: prompts, references, subsets and the metrics that belong to them.

A built-in or third-party suite is a function tagged with `@suite(names...)`, called with the name asked for. A user's
suite is a file: `.jsonl` or `.csv` of prompts, or a `.toml` that names one and adds metrics, subsets and a version.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from avbench.clip import Clip
from avbench.errors import MissingResource, UnknownName, UserError

F = TypeVar("F", bound=Callable[..., "Suite"])
CONFIG = "avbench.toml"
ID = re.compile(r"[\w\-][\w.\-+=@ ]{0,199}", re.UNICODE)  # names of YouTube begin with "-" now and then
HAN = re.compile(r"[\u3400-\u9fff]")
TEXTS = ("text", "video_text", "audio_text", "speech_text", "language")
DEFAULT_METRICS = ("fast",)


@dataclass(frozen=True)
class Sample:
    """One prompt record.

    text:        the full caption; `video_text` and `audio_text` describe one side and fall back to `text`.
    speech_text: what is said, "" where nothing is.
    language:    ISO 639-1 code of the speech; if empty, zh or en by its script.
    tags:        names of the subsets this sample belongs to.
    reference:   local media of the real clip (video, or video and audio); `reference_audio` where it lies apart.
    extra:       every other column, untouched.
    """

    id: str
    index: int
    text: str
    video_text: str = ""
    audio_text: str = ""
    speech_text: str = ""
    language: str = ""
    tags: tuple[str, ...] = ()
    reference: Path | None = None
    reference_audio: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """A field by name: text fields with their fallbacks, then `extra`, else ""."""
        if name == "language":
            return self.language or ("zh" if HAN.search(self.speech_text or self.text) else "en")
        if name in ("video_text", "audio_text"):
            return getattr(self, name) or self.text
        return getattr(self, name) if name in self.__dataclass_fields__ else self.extra.get(name, "")

    @property
    def described(self) -> dict[str, Any]:
        """The record without paths of this machine: what the suite's digest is made of."""
        fields = {name: getattr(self, name) for name in ("id", *TEXTS, "tags")}
        return {**fields, "extra": dict(self.extra)}


@dataclass(frozen=True)
class Suite:
    """A benchmark: ordered samples with their subsets, default metrics and protocol.

    render:   for procedural suites: sample -> its real clip.
    pattern:  how the clips of a folder are named, with fields {id} and {index}.
    protocol: settings of the benchmark that generators should meet (seconds, fps, size).
    pack:     () -> published features of the real clips (`avbench.metrics.packs.Pack`), where their media are not had.
    """

    name: str
    version: str
    samples: tuple[Sample, ...]
    description: str = ""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    pattern: str = "{id}.mp4"
    licence: str = ""
    source: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    render: Callable[[Sample], Clip] | None = None
    pack: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        check_ids(self.name, self.samples)

    @property
    def digest(self) -> str:
        """sha256 over name, version and records; paths of references are not part of it."""
        text = json.dumps([self.name, self.version, [s.described for s in self.samples]], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def subsets(self) -> dict[str, tuple[str, ...]]:
        """{tag: sample ids}, in order of first appearance."""
        found: dict[str, list[str]] = {}
        for sample in self.samples:
            for tag in sample.tags:
                found.setdefault(tag, []).append(sample.id)
        return {tag: tuple(ids) for tag, ids in found.items()}

    def subset(self, tag: str) -> Suite:
        """The part of the suite that carries this tag, named `suite/tag`."""
        if tag not in self.subsets:
            raise UnknownName(
                f"suite {self.name} has no subset {tag!r}\n  subsets: {', '.join(self.subsets) or 'none'}"
            )
        kept = tuple(sample for sample in self.samples if tag in sample.tags)
        return replace(self, name=f"{self.name}/{tag}", samples=kept)

    def limit(self, count: int | None) -> Suite:
        """The first `count` samples (all where None)."""
        return self if count is None else replace(self, samples=self.samples[:count])


def suite(*names: str) -> Callable[[F], F]:
    """Tag a function `(name) -> Suite` as the loader of these suites."""

    def tag(function: F) -> F:
        function.suite_names = names  # type: ignore[attr-defined]
        return function

    return tag


def check_ids(where: str, samples: Iterable[Sample]) -> None:
    """Refuse duplicate ids and ids that could name a file outside their folder."""
    seen: set[str] = set()
    for sample in samples:
        if not ID.fullmatch(sample.id) or ".." in sample.id or sample.id.endswith((" ", ".")):
            raise UserError(f"{where}: {sample.id!r} cannot be a sample id; use letters, digits, '_', '-', '.'")
        if sample.id in seen:
            raise UserError(f"{where}: sample id {sample.id!r} appears twice; every id names one clip")
        seen.add(sample.id)
    if not seen:
        raise UserError(f"{where}: the suite holds no samples")


def load_suite(name: str) -> Suite:
    """A suite by name (`javisbench-mini`, `vggsound/av-tight`) or by file (.jsonl, .csv, .toml).

    `NAME=DIR` reads a public suite's files from a folder.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() in FILES and path.is_file():
        return load_file(path)
    from avbench.dataset import catalogue, load_public
    from avbench.registry import suites

    known, _, folder = name.partition("=")
    base, _, subset = known.partition("/")
    if folder and base in suites.list():
        if base not in catalogue():
            raise UserError(f"suite {base!r} reads no files; leave '={folder}' out")
        found = load_public(base, Path(folder))
    elif path.suffix.lower() in FILES:
        return load_file(path)
    elif path.exists() and name.partition("/")[0] not in suites.list():
        raise UserError(f"{path} is no suite file; give a .jsonl, .csv or .toml of prompts, or a suite's name")
    else:
        base, _, subset = name.partition("/")
        found = suites.get(base)
    return found.subset(subset) if subset else found


def load_file(path: Path) -> Suite:
    """A user's suite. Errors name the file and the line."""
    if not path.is_file():
        raise UserError(f"suite file {path} does not exist")
    config: dict[str, Any] = {}
    items = path
    if path.suffix.lower() == ".toml":
        config = read_toml(path)
        items = inside(path.parent, str(config.pop("items", "items.jsonl")), f"{path}: items")
        if not items.is_file():
            raise MissingResource(f"{path}: the item list {items} does not exist; put it there or correct `items`")
    unknown = set(config) - {"name", "version", "description", "metrics", "pattern", "licence", "source", "protocol"}
    if unknown:
        raise UserError(f"{path}: unknown keys {', '.join(sorted(unknown))}")
    reader = READERS.get(items.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: items must be .jsonl or .csv, not {items.name}")
    samples = tuple(record(row, index, items, line) for index, (line, row) in enumerate(reader(items)))
    return Suite(
        name=str(config.get("name", path.stem)),
        version=str(config.get("version", "1")),
        samples=samples,
        description=str(config.get("description", "")),
        metrics=tuple(config.get("metrics", DEFAULT_METRICS)),
        pattern=str(config.get("pattern", "{id}.mp4")),
        licence=str(config.get("licence", "")),
        source=str(config.get("source", "")),
        protocol=dict(config.get("protocol", {})),
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Parse TOML; a mistake names the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None


def _jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not valid JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: a line must be a JSON object, not {type(row).__name__}")
        rows.append((number, row))
    return rows


def _csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    import io

    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        return [(reader.line_num, dict(row)) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


READERS: dict[str, Callable[[Path], list[tuple[int, dict[str, Any]]]]] = {".jsonl": _jsonl, ".csv": _csv}
FILES = (*READERS, ".toml")


def record(row: Mapping[str, Any], index: int, path: Path, line: int) -> Sample:
    """One row as a `Sample`. Media paths are relative to the file and may not leave its folder."""
    where = f"{path}:{line}"
    if not str(row.get("id") or "").strip():
        raise UserError(f"{where}: a sample needs an id")
    if not isinstance(row.get("text", ""), str | type(None)) or not text_of(row):
        raise UserError(f"{where}: a sample needs a text (string)")
    texts: dict[str, Any] = {name: str(row.get(name) or "") for name in TEXTS}
    texts["text"] = text_of(texts)
    media: dict[str, Any] = {
        name: inside(path.parent, str(row[name]), f"{where}: {name}")
        for name in ("reference", "reference_audio")
        if row.get(name)
    }
    known = {"id", "tags", "reference", "reference_audio", *TEXTS}
    extra = {key: value for key, value in row.items() if key not in known and key is not None}
    return Sample(
        id=str(row["id"]).strip(), index=index, tags=tags(row.get("tags"), where), extra=extra, **texts, **media
    )


def text_of(row: Mapping[str, Any]) -> Any:
    """The full caption of a row; where there is none, what it says of the picture."""
    return row.get("text") or row.get("video_text") or ""


def tags(value: Any, where: str) -> tuple[str, ...]:
    """Tags of a row: a list, or a string with commas."""
    if value is None or value == "":
        return ()
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise UserError(f"{where}: tags must be a list or a comma-separated string")
    return tuple(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))


def inside(folder: Path, name: str, where: str) -> Path:
    """`folder / name`, refused where it would leave the folder: suite files are not trusted."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise UserError(f"{where}: {name!r} leaves the folder {folder}")
    return target
