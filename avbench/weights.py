"""The registry of checkpoints: where each comes from, where it lies here, and whether it is what was published.

One TOML table per checkpoint in `metrics/weights/*.toml`; other packages add theirs through the entry-point group
`avbench.weights` (a path to such a file). A checkpoint is looked for in `--weights NAME=FILE`, in `[weights]` of
`avbench.toml`, then in the cache.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from avbench.download import Progress, fetch_url, offline
from avbench.errors import MissingResource, UnknownName, UserError
from avbench.store import cache_root, file_digest, parts, write_json


@dataclass(frozen=True)
class Checkpoint:
    """One published file, or a folder of a hub repository.

    url | hf: where it comes from; hf = {repo, file?, revision?}; without `file` the whole repository folder.
    sha256:   of the published file, "" where unknown (then no local file can be called verified).
    """

    name: str
    title: str = ""
    url: str = ""
    hf: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    licence: str = ""
    source: str = ""
    format: str = "state_dict"
    note: str = ""

    @property
    def place(self) -> Path:
        """Where it lies in the cache, or in this package where it is shipped."""
        if self.format == "shipped":
            return Path(str(files("avbench.metrics"))) / "weights" / self.file
        folder = cache_root() / "weights" / self.name
        return folder if self.format == "folder" else folder / (self.file or Path(self.url).name)


@cache
def catalogue() -> dict[str, Checkpoint]:
    """All checkpoints by name."""
    found: dict[str, Checkpoint] = {}
    room = files("avbench.metrics") / "weights"
    built_in = sorted((p for p in room.iterdir() if p.name.endswith(".toml")), key=lambda p: p.name)
    texts = [(path.name, path.read_text(encoding="utf-8")) for path in built_in]
    for point in entry_points(group="avbench.weights"):
        path = Path(point.load())
        texts.append((str(path), path.read_text(encoding="utf-8")))
    for where, text in texts:
        for name, table in tomllib.loads(text).items():
            if name in found:
                raise UserError(f"{where}: checkpoint {name!r} is declared twice")
            try:
                found[name] = Checkpoint(name, **table)
            except TypeError as error:
                raise UserError(f"{where}: [{name}]: {error}") from None
    return found


def checkpoint(name: str) -> Checkpoint:
    """A checkpoint by name, or `UnknownName` with suggestions."""
    import difflib

    if name in catalogue():
        return catalogue()[name]
    near = ", ".join(difflib.get_close_matches(name, catalogue(), n=3))
    hint = f"\n  did you mean: {near}" if near else ""
    raise UnknownName(f"no weights named {name!r}{hint}\n  all: avbench weights list")


@dataclass(frozen=True)
class Located:
    """A checkpoint's local file. `verified`: its digest is the published one."""

    name: str
    path: Path
    sha256: str
    verified: bool

    @property
    def manifest(self) -> dict[str, Any]:
        one = checkpoint(self.name)
        return {
            "name": self.name, "sha256": self.sha256, "verified": self.verified,
            "source": one.url or one.hf.get("repo", ""), "licence": one.licence,
        }  # fmt: skip


def locate(name: str, overrides: Mapping[str, Path]) -> Located:
    """Find and digest a checkpoint; `MissingResource` names the command or the place to put it."""
    one = checkpoint(name)
    path = overrides.get(name, one.place)
    if not path.exists():
        raise MissingResource(missing_message(one, path, name in overrides))
    sha = cached_digest(path)
    return Located(name, path, sha, bool(one.sha256) and sha == one.sha256)


def locate_all(names: Iterable[str], overrides: Mapping[str, Path]) -> dict[str, Located]:
    """`locate` for several; what is missing is reported together, in one error."""
    for name in overrides:
        checkpoint(name)
    found, missing = {}, []
    for name in sorted(set(names)):
        try:
            found[name] = locate(name, overrides)
        except MissingResource as error:
            missing.append(str(error))
    if missing:
        raise MissingResource("\n".join(missing))
    return found


def missing_message(one: Checkpoint, path: Path, overridden: bool) -> str:
    """What, where, what to do."""
    if overridden:
        return f"weights {one.name!r}: {path} does not exist; correct --weights {one.name}=FILE"
    size = f"{one.bytes / 1e6:,.0f} MB, " if one.bytes else ""
    digest = f"; its sha256 is {one.sha256}" if one.sha256 else ""
    return (
        f"weights {one.name!r} are not here ({size}{one.licence or 'licence: see source'})\n"
        f"  avbench weights pull {one.name}\n"
        f"  offline? put the file at {one.place}{digest}, or give --weights {one.name}=FILE"
    )


def cached_digest(path: Path) -> str:
    """sha256 of a file or folder, remembered by path, size and time of change."""
    stamp = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in parts(path)]
    book = cache_root() / "weights" / "digests.json"
    try:
        known = json.loads(book.read_text())
    except (OSError, ValueError):
        known = {}
    entry = known.get(str(path.resolve()))
    if entry and entry["stamp"] == stamp:
        return str(entry["sha256"])
    sha = file_digest(path)
    with suppress(OSError):  # a read-only cache costs time, not correctness
        write_json(book, {**known, str(path.resolve()): {"stamp": stamp, "sha256": sha}})
    return sha


def verify(name: str, overrides: Mapping[str, Path]) -> Located:
    """`locate`, and a `UserError` where the published digest is known and differs."""
    found, one = locate(name, overrides), checkpoint(name)
    if one.sha256 and not found.verified:
        raise UserError(f"weights {name!r}: {found.path} has sha256 {found.sha256}, published is {one.sha256}")
    return found


def pull(name: str, progress: Progress = lambda done, total: None) -> Path:
    """Download a checkpoint into the cache: resumable, checked, one process at a time."""
    from filelock import FileLock

    one = checkpoint(name)
    if one.place.exists():
        return verify(name, {}).path
    if offline():
        raise MissingResource(f"offline: {missing_message(one, one.place, False)}")
    one.place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(one.place.parent / ".lock"):
        if not one.place.exists():
            (pull_hub if one.hf else pull_url)(one, progress)
    return verify(name, {}).path


def pull_hub(one: Checkpoint, progress: Progress) -> None:
    """From the Hugging Face hub, whose client resumes and checks."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if one.format == "folder":
            snapshot_download(one.hf["repo"], revision=one.hf.get("revision"), local_dir=one.place)
            return
        got = hf_hub_download(one.hf["repo"], one.hf["file"], revision=one.hf.get("revision"))
    except (HfHubHTTPError, OSError) as error:
        raise MissingResource(f"cannot fetch {one.name}: {error}\n{missing_message(one, one.place, False)}") from None
    part = one.place.with_suffix(one.place.suffix + ".part")
    shutil.copyfile(got, part)
    part.replace(one.place)


def pull_url(one: Checkpoint, progress: Progress) -> None:
    """Over HTTP, continued where an earlier try ended, checked before it takes its name."""
    if not one.url:
        raise MissingResource(f"weights {one.name!r} have no public address. {one.note}\n  put the file at {one.place}")
    try:
        fetch_url(one.url, one.place, one.sha256, progress)
    except MissingResource as error:
        raise MissingResource(f"{error}\n{missing_message(one, one.place, False)}") from None
