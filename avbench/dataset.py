"""Public benchmarks: a card says what a suite is and which files it reads; the files themselves are the user's.

A card is one TOML file beside its loader (`suites/public/*.toml`). Prompts and media that may not be redistributed are
never part of avbench: they are fetched (`avbench suites pull NAME`) or pointed at. The folder is looked for in
`NAME=DIR` where a suite is named, in `[data]` of `avbench.toml`, then in the cache.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from avbench.download import fetch_hub, fetch_url, offline
from avbench.errors import MissingResource, UnknownName, UserError
from avbench.store import cache_root
from avbench.suite import CONFIG, READERS, TEXTS, Sample, Suite, inside, read_toml, text_of

CAPTIONS = ("captions.jsonl", "captions.csv")


@dataclass(frozen=True)
class File:
    """A file or folder that a suite reads.

    path:    where it lies below the suite's folder; with a `*`, at least one file must match.
    instead: other paths that do as well.
    url, hf: where it is fetched from; hf names a dataset repository that holds it at `path`.
    by_hand: how to get it where nothing can be fetched.
    needed:  without it the suite does not load.
    what:    what it holds.
    """

    path: str
    what: str = ""
    instead: tuple[str, ...] = ()
    url: str = ""
    hf: str = ""
    revision: str = ""
    sha256: str = ""
    bytes: int = 0
    by_hand: str = ""
    needed: bool = True

    def found(self, root: Path) -> Path | None:
        """Where it lies, None where it does not."""
        for name in (self.path, *self.instead):
            match = next(root.glob(name), None) if "*" in name else root / name
            if match is not None and match.exists():
                return match
        return None

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return self.url or (f"https://huggingface.co/datasets/{self.hf}" if self.hf else f"by hand: {self.by_hand}")


@dataclass(frozen=True)
class Card:
    """What a suite is, known before its files are here.

    title:      one line; `about` the rest.
    data:       name of its folder; suites that read the same files share it.
    loader:     "module:function", called as `(card, root)`, gives the samples.
    options:    what the loader wants to know.
    expected:   number of samples, where it is known; another number is refused.
    subsets:    {tag: what it is}; `counts` their published sizes, where there are any.
    prepare:    {name, seconds, metric, above, count}: how `avbench suites prepare` chooses and cuts the real clips.
    features:   {path, reader}: published features of the real clips, and the function `(path, ids)` that reads them.
    unverified: what is inferred, or could not be checked against the published files.
    """

    name: str
    title: str
    about: str = ""
    version: str = "1"
    data: str = ""
    loader: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    expected: int | None = None
    subsets: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    pattern: str = "{id}.mp4"
    protocol: Mapping[str, Any] = field(default_factory=dict)
    prepare: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    layout: str = ""
    unverified: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str, where: str) -> Card:
        """Parse a card. Raises `UserError` with the place."""
        try:
            table = tomllib.loads(text)
            found = tuple(File(**{**one, "instead": tuple(one.get("instead", ()))}) for one in table.pop("files", ()))
            for name in ("metrics", "unverified"):
                table[name] = tuple(table.get(name, ()))
            card = cls(**table, files=found)
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise UserError(f"{where}: {error}") from None
        return replace(card, data=card.data or card.name)


@cache
def catalogue() -> dict[str, Card]:
    """The cards of all built-in public suites by name."""
    room = files("avbench.suites") / "public"
    texts = {path.name: path.read_text(encoding="utf-8") for path in room.iterdir() if path.name.endswith(".toml")}
    cards = [Card.read(texts[name], name) for name in sorted(texts)]
    return {card.name: card for card in cards}


# Where the files are ------------------------------------------------------------------------------------------------


def place(card: Card) -> Path:
    """The folder of the cache that `pull` fills."""
    return cache_root() / "data" / card.data


def folder_of(card: Card, given: Path | None = None) -> Path:
    """The folder a suite is read from: as given, else `[data]` of avbench.toml, else the cache."""
    if given is not None:
        return existing(given, f"{card.name}={given}")
    config = Path(CONFIG)
    declared = read_toml(config).get("data", {}) if config.is_file() else {}
    known = {name for one in catalogue().values() for name in (one.name, one.data)} | {card.name, card.data}
    if unknown := set(declared) - known:
        raise UserError(f"{config}: [data] names unknown suites: {', '.join(sorted(unknown))}")
    for name in (card.name, card.data):
        if name in declared:
            path = (config.parent / Path(str(declared[name])).expanduser()).resolve()
            return existing(path, f"{config}: [data] {name}")
    return place(card).resolve()


def existing(path: Path, where: str) -> Path:
    """A folder that the user names must be there."""
    path = path.expanduser()
    if not path.is_dir():
        raise UserError(f"{where}: the folder {path} does not exist")
    return path.resolve()


def absent(card: Card, root: Path) -> list[File]:
    """The files a suite cannot do without that are not below `root`."""
    return [one for one in card.files if one.needed and one.found(root) is None]


def missing_message(card: Card, root: Path, lacking: Sequence[File]) -> str:
    """What, where, what to do."""
    names = [f"    {one.path}: {one.what}" + (f", {one.bytes / 1e6:,.1f} MB" if one.bytes else "") for one in lacking]
    fetched = [one for one in lacking if one.url or one.hf]
    hints = [f"  avbench suites pull {card.name}"] if fetched else []
    hints += [f"  by hand, {one.path}: {one.by_hand}" for one in lacking if one.by_hand and one not in fetched]
    hints.append(f'  already have it? --suite {card.name}=DIR, or in {CONFIG}: [data] {card.data} = "DIR"')
    licence = [f"    licence: {card.licence}"] if card.licence else []
    return "\n".join([f"the data of suite {card.name!r} are not in {root}", *names, *licence, *hints])


# Loading ------------------------------------------------------------------------------------------------------------


def load_public(name: str, given: Path | None = None) -> Suite:
    """A public suite from its local files.

    Raises `MissingResource` with the command where files are not here, `UserError` where they are not what they should
    be: a column that lacks, an id that comes twice, another number of samples.
    """
    card = catalogue()[name]
    root = folder_of(card, given)
    if lacking := absent(card, root):
        raise MissingResource(missing_message(card, root, lacking))
    samples = load_samples(card, root)
    choice = read_choice(card, root)
    if choice is None or not choice.filtered:
        samples = pick(card, samples, card.options.get("count"))
        check_count(card, root, len(samples))
    samples = captioned(card, root, choice.apply(samples) if choice else samples)
    return Suite(
        name=name, version=card.version + (f"-{choice.name}" if choice else ""),
        samples=tuple(replace(sample, index=index) for index, sample in enumerate(samples)),
        description=card.title, metrics=card.metrics, pattern=card.pattern, licence=card.licence, source=card.source,
        protocol=card.protocol, pack=published_features(card, root, [one.id for one in samples]),
    )  # fmt: skip


def check_count(card: Card, root: Path, count: int) -> None:
    """Refuse another number of samples than was published."""
    if card.expected is not None and count != card.expected:
        fetched = any(one.url or one.hf for one in card.files)
        raise UserError(
            f"suite {card.name!r}: the files in {root} give {count:,} samples, published are {card.expected:,}\n"
            "  are they incomplete, or of another release?"
            + (f" to fetch them anew: avbench suites pull {card.name} --again" if fetched else "")
        )


def published_features(card: Card, root: Path, ids: Sequence[str]) -> Callable[[], Any] | None:
    """What reads the published features of the real clips, None where the card names none or the file is not here."""
    if not card.features or not (path := root / card.features["path"]).is_file():
        return None
    return partial(read_features, card.features["reader"], path, tuple(ids))


def read_features(reader: str, path: Path, ids: Sequence[str]) -> Any:
    """The features of `ids` as a pack, by the card's reader."""
    return imported(reader)(path, ids)


def imported(name: str) -> Callable[..., Any]:
    """A function by "module:function"."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def load_samples(card: Card, root: Path) -> list[Sample]:
    """All samples the files hold, before any choice among them."""
    return list(imported(card.loader)(card, root))


def pick(card: Card, samples: list[Sample], counts: Any) -> list[Sample]:
    """A balanced choice: `counts` is a number for all, or {tag: number} with "" for what has none of the tags."""
    seed = int(card.protocol.get("seed", 0))
    if counts is None:
        return samples
    if isinstance(counts, int):
        return balanced(samples, counts, label_of, seed)
    kept: set[str] = set()
    for tag, count in counts.items():
        group = [one for one in samples if (tag in one.tags if tag else not set(one.tags) & set(counts))]
        kept |= {one.id for one in balanced(group, count, label_of, seed)}
    return [one for one in samples if one.id in kept]


def label_of(sample: Sample) -> str:
    """The class a choice is balanced over."""
    return str(sample.extra.get("label", ""))


def balanced(items: Sequence[Sample], count: int, key: Callable[[Sample], str], seed: int) -> list[Sample]:
    """`count` samples, as evenly over the values of `key` as they allow, in their given order.

    The choice depends on seed and ids alone: neither on the order of a file nor on a random generator's version.
    All where there are fewer.
    """

    def rank(text: str) -> str:
        return sha256(f"{seed}:{text}".encode()).hexdigest()

    groups: dict[str, list[Sample]] = {}
    for item in sorted(items, key=lambda one: rank(one.id)):
        groups.setdefault(key(item), []).append(item)
    turns = [(turn, rank(name), one.id) for name, group in groups.items() for turn, one in enumerate(group)]
    kept = {id for _, _, id in sorted(turns)[:count]}
    return [item for item in items if item.id in kept]


def captioned(card: Card, root: Path, samples: list[Sample]) -> list[Sample]:
    """Replace the texts by those of `captions.jsonl` or `captions.csv` in the suite's folder, where there is one."""
    path = next((root / name for name in CAPTIONS if (root / name).is_file()), None)
    if path is None:
        return samples
    rows: dict[str, dict[str, Any]] = {}
    for line, row in READERS[path.suffix](path):
        id = str(row.get("id") or "").strip()
        if not id or id in rows:
            raise UserError(f"{path}:{line}: " + (f"id {id!r} appears twice" if id else "a caption needs an id"))
        rows[id] = {name: str(row.get(name) or "") for name in TEXTS}
        if not text_of(rows[id]):
            raise UserError(f"{path}:{line}: a caption needs a text")
    if lacking := [one.id for one in samples if one.id not in rows]:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise UserError(f"{path}: no caption for {len(lacking)} of {len(samples)} samples of {card.name}: {shown}")
    return [replace(one, **{**rows[one.id], "text": text_of(rows[one.id])}) for one in samples]


# A choice of real clips, made by `avbench suites prepare` -----------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The prepared part of a suite.

    rows:     {id: {start, ...}}: the samples whose cut clip lies in `folder`.
    filtered: they are the suite; otherwise they only bring their clips.
    name:     of the recipe, part of the suite's version.
    """

    folder: Path
    rows: Mapping[str, Mapping[str, Any]]
    filtered: bool
    name: str

    def apply(self, samples: list[Sample]) -> list[Sample]:
        """The samples with their cut clips as references; of a filtered choice, those alone that it holds."""
        known = {one.id for one in samples}
        if self.filtered and (strange := next((id for id in self.rows if id not in known), None)):
            raise UserError(
                f"{self.folder}: {strange} is no sample of the suite; delete the folder and prepare it again"
            )
        kept = [one for one in samples if one.id in self.rows] if self.filtered else samples
        cut = {one.id: inside(self.folder, f"{one.id}.mp4", str(self.folder)) for one in kept if one.id in self.rows}
        return [replace(one, reference=cut.get(one.id), reference_audio=None) for one in kept]


def prepared_folder(card: Card, root: Path) -> Path:
    """Where `prepare` writes."""
    return root / "prepared" / f"{card.name}-{card.prepare['name']}"


def read_choice(card: Card, root: Path) -> Choice | None:
    """What `prepare` left, None where it has not run to its end."""
    if not card.prepare or not (path := prepared_folder(card, root) / "choice.json").is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(row["id"]): dict(row) for row in document["chosen"]}
        return Choice(path.parent, rows, bool(document["filtered"]), str(document["name"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not readable ({error}); delete it and run `avbench suites prepare {card.name}`"
        ) from None


# Fetching -----------------------------------------------------------------------------------------------------------


def pull(card: Card, root: Path, again: bool = False) -> list[tuple[File, Path | None]]:
    """Fetch a suite's files into `root`: resumable, checked, one process at a time. Returns what is where.

    again: also those that are here. Files without a public address are left to the user. Raises `MissingResource`
    where a needed file cannot be had; what was fetched before stays.
    """
    from filelock import FileLock

    todo = [one for one in card.files if (one.url or one.hf) and (again or not whole(one, root))]
    if todo and offline():
        raise MissingResource(
            f"offline: {missing_message(card, root, todo)}\n"
            f"  on a machine with a network: avbench suites pull {card.name}; then copy its folder to {root}"
        )
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        for one in todo:
            if again or not whole(one, root):
                fetch(card, one, root)
    return [(one, one.found(root)) for one in card.files]


def whole(one: File, root: Path) -> bool:
    """Whether a file needs no fetching. Of many files some may lack, so the hub is asked where it can be."""
    return one.found(root) is not None and ("*" not in one.path or offline())


def fetch(card: Card, one: File, root: Path) -> None:
    """One file; an optional one that cannot be had stops nothing."""
    try:
        if one.hf:
            fetch_hub(one.hf, one.path, root, one.revision, one.sha256)
        else:
            fetch_url(one.url, inside(root, one.path, card.name), one.sha256)
    except MissingResource as error:
        if one.needed:
            raise MissingResource(f"{error}\n{missing_message(card, root, [one])}") from None


# What loaders share -------------------------------------------------------------------------------------------------


def need_columns(rows: Sequence[tuple[int, Mapping[str, Any]]], names: Sequence[str], path: Path) -> None:
    """Refuse a table without rows or without columns a loader reads."""
    if not rows:
        raise UserError(f"{path} holds no rows")
    line, first = rows[0]
    if lacking := [name for name in names if name not in first]:
        have = ", ".join(str(name) for name in first if name) or "none"
        raise UserError(f"{path}:{line}: no {' and no '.join(lacking)}; it has {have}")


def safe_id(text: str) -> str:
    """A name from a published file as a sample id: what an id may not hold becomes '_'."""
    return re.sub(r"[^\w.\-+=@ ]", "_", text).replace("..", "__").strip(" .")


def slug(text: str) -> str:
    """A category as a tag: lower case, words joined by '-'."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def filled(templates: Iterable[str], **fields: str) -> list[str]:
    """Places where a clip may lie, from a card's templates."""
    return [template.format(**fields) for template in templates]


def media(root: Path, names: Iterable[str]) -> Path | None:
    """The first of these paths that is a file below `root`; a path that leads out of it is never opened.

    Links that the user has put into the folder are followed: the list is not trusted, the user is.
    """
    for name in filter(None, names):
        path = Path(os.path.normpath(root / name))
        if path.is_relative_to(root) and path.is_file():
            return path
    return None


def card_of(name: str) -> Card:
    """A card by a suite's name, with or without a subset. Raises `UnknownName` with suggestions."""
    from avbench.registry import suites

    base = name.partition("=")[0].partition("/")[0]
    if base in catalogue():
        return catalogue()[base]
    if base in suites.list():
        raise UserError(f"suite {base!r} is part of avbench or of a plugin; there is nothing to fetch")
    raise UnknownName(suites.unknown(base))
