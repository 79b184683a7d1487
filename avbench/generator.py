"""Generators: whatever makes the clips of a suite.

A folder of files is located; everything else generates. What generates gives decoded clips, which are written once with
one encoder setting (part of what is measured) into a folder that is then read like any other, so a run always scores
files, and resuming means making the files that are not there.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import traceback
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import Any, Protocol, TypeVar

from avbench.clip import Clip
from avbench.errors import SampleError, UserError
from avbench.suite import CONFIG, TEXTS, Sample, Suite, inside, read_toml

VIDEO = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
AUDIO = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
CHECKPOINT, SAMPLES = ("config.json", "model.safetensors"), "avbench.reference_models.generate"
ENCODING = {"video": "h264 crf 18 yuv420p", "audio": "aac 192k"}
C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")
Made = Clip | SampleError
"""A clip, or why there is none."""


@dataclass(frozen=True)
class ClipFile:
    """Where the clip of a sample lies. `audio` is set where the sound is a file of its own."""

    video: Path | None
    audio: Path | None = None

    @property
    def main(self) -> Path:
        path = self.video or self.audio
        assert path is not None, "a clip file names a video, an audio file or both"
        return path


@dataclass(frozen=True)
class Request:
    """What a generator is asked for.

    sample:    the prompt record.
    suite:     the whole suite, for generators that need the others (a shuffle).
    seed:      of this sample: depends on the run's seed and the sample's id only.
    reference: sample id -> the decoded real clip; raises `SampleError` where the suite has none.
    device:    where networks run: "auto", "cpu" or "cuda:0".
    """

    sample: Sample
    suite: Suite
    seed: int
    reference: Callable[[str], Clip]
    device: str = "auto"


class Generating(Protocol):
    """A Python generator: `generate(requests)` yields one clip per request, in order.

    A `SampleError` in a clip's place says why there is none, and the generator goes on. One that raises has ended: the
    request whose turn it was gets the error, and the rest is asked for anew.
    """

    def generate(self, requests: Sequence[Request]) -> Iterator[Made]: ...


@dataclass(frozen=True)
class Model:
    """A named generator.

    config: what identifies it (kind, pattern, entry, arguments): recorded in the manifest and digested.
    locate: for folders and commands: suite -> {sample id: ClipFile}.
    make:   for generators in Python: () -> object with `generate`.
    run:    for external commands: (prompts file, out folder) -> None.
    """

    name: str
    config: Mapping[str, Any]
    locate: Callable[[Suite], dict[str, ClipFile]] | None = None
    make: Callable[[], Generating] | None = None
    run: Callable[[Path, Path], None] | None = None
    about: str = field(default="", compare=False)

    @property
    def digest(self) -> str:
        """sha256 of the configuration, 12 hex digits."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True, default=str).encode()).hexdigest()[:12]


def model(*names: str) -> Callable[[C], C]:
    """Tag a factory `(name) -> object with generate()` as a built-in or third-party generator."""

    def tag(factory: C) -> C:
        factory.model_names = names  # type: ignore[attr-defined]
        return factory

    return tag


def load_model(name: str, config: Path = Path(CONFIG)) -> Model:
    """A model by a name in `avbench.toml` ([models.NAME]), by a registered name, or by folder: of clips, or of a
    checkpoint that `avbench train` wrote.

    A folder that bears a registered name is meant by `./NAME`.
    """
    from avbench.registry import models

    declared = read_toml(config).get("models", {}) if config.is_file() else {}
    if name in declared:
        return declared_model(name, declared[name], config)
    path = Path(name).expanduser()
    if path.is_dir() and name not in models.list():
        if is_checkpoint(path):
            return checkpoint_model(path.resolve().name, path.resolve())
        return folder_model(path.resolve().name, path.resolve(), None)
    if any(mark in name for mark in "/\\") or (path.exists() and name not in models.list()):
        raise UserError(f"--model {name}: no such folder; give a folder of clips or the name of a model")
    try:
        made = models.get(name)
    except UserError as error:
        extra = f"\n  in {config}: {', '.join(declared)}" if declared else ""
        raise type(error)(f"{error}{extra}\n  or give a folder that holds the clips") from None
    return made if isinstance(made, Model) else Model(name, {"kind": "built in", "name": name}, make=lambda: made)


def declared_model(name: str, table: Mapping[str, Any], config: Path) -> Model:
    """A `[models.NAME]` table: kind = "folder" | "python" | "command" | "checkpoint"."""
    where = f"{config}: [models.{name}]"
    kinds = {
        "folder": ({"path"}, {"pattern", "audio"}),
        "python": ({"entry"}, {"args"}),
        "command": ({"run"}, {"pattern"}),
        "checkpoint": ({"path"}, {"sampler", "batch"}),
    }
    kind = table.get("kind", "folder")
    if kind not in kinds:
        raise UserError(f"{where}: kind {kind!r} is unknown; use one of {', '.join(kinds)}")
    needed, optional = kinds[kind]
    if missing := needed - set(table):
        raise UserError(f"{where}: {', '.join(sorted(missing))} is missing")
    if unknown := set(table) - needed - optional - {"kind", "card", "licence"}:
        raise UserError(f"{where}: unknown keys {', '.join(sorted(unknown))}")
    if kind == "folder":
        folder = (config.parent / str(table["path"])).expanduser().resolve()
        return folder_model(name, folder, table.get("pattern"), table.get("audio"))
    if kind == "python":
        return python_model(name, str(table["entry"]), dict(table.get("args", {})), where, config.resolve().parent)
    if kind == "checkpoint":
        folder = (config.parent / str(table["path"])).expanduser().resolve()
        if not is_checkpoint(folder):
            raise UserError(f"{where}: {folder} is no checkpoint folder of `avbench train`")
        return checkpoint_model(name, folder, table.get("sampler"), int(table.get("batch", 0)))
    return command_model(name, str(table["run"]), table.get("pattern"))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is what `avbench train` writes."""
    return all((folder / name).is_file() for name in CHECKPOINT)


def checkpoint_model(name: str, folder: Path, sampler: Mapping[str, Any] | None = None, batch: int = 0) -> Model:
    """A trained reference model. What identifies it is its weights and how they are sampled, not its place.

    sampler: changes of the settings kept in the checkpoint. batch: clips at once (0: the default).
    """
    from avbench.store import file_digest

    settings = {"sampler": dict(sampler or {}), **({"batch": batch} if batch else {})}
    config = {"kind": "checkpoint", "weights": file_digest(*(folder / part for part in CHECKPOINT)), **settings}

    def make() -> Generating:
        from importlib import import_module

        made: Generating = import_module(SAMPLES).Checkpoint(folder, **settings)
        return made

    return Model(name, config, make=make)


def folder_model(name: str, folder: Path, pattern: str | None, audio: str | None = None) -> Model:
    """Clips that exist: `pattern` has fields {id} and {index}; without one, the usual namings are tried."""

    def locate(suite: Suite) -> dict[str, ClipFile]:
        if not folder.is_dir():
            raise UserError(f"model {name}: folder {folder} does not exist")
        return find_clips(folder, suite, pattern, audio)

    return Model(name, {"kind": "folder", "path": str(folder), "pattern": pattern, "audio": audio}, locate=locate)


def python_model(name: str, entry: str, args: dict[str, Any], where: str, folder: Path) -> Model:
    """`entry` = "package.module:Class"; the class is called with the table's args and has `generate(requests)`.

    Modules beside the configuration are found too, after everything installed: they cannot shadow a package.
    """

    def make() -> Generating:
        from importlib import import_module

        module, _, attribute = entry.partition(":")
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        try:
            factory = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            hint = f'write entry = "module:Class" of a module that is installed or lies in {folder}'
            raise UserError(f"{where}: cannot import {entry}: {error}\n  {hint}") from error
        try:
            made: Generating = factory(**args)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({at.filename}:{at.lineno})"
            raise UserError(f"{where}: {entry} cannot be made with args = {args}: {what}") from error
        return made

    return Model(name, {"kind": "python", "entry": entry, "args": args}, make=make)


def command_model(name: str, command: str, pattern: str | None) -> Model:
    """A program in another environment: it gets {prompts} (JSONL) and {out} (folder) and writes `<id>.mp4` there."""
    if "{out}" not in command:
        raise UserError(f"model {name}: the command must name {{out}}, the folder that receives the clips")

    def run(prompts: Path, out: Path) -> None:
        paths = {"{prompts}": str(prompts.resolve()), "{out}": str(out.resolve())}
        words = []
        for word in shlex.split(command):
            for field_name, path in paths.items():  # not str.format: the command may hold braces of its own
                word = word.replace(field_name, path)
            words.append(word)
        try:
            done = subprocess.run(words, check=False)
        except OSError as error:
            raise UserError(f"model {name}: cannot start {words[0]}: {error}") from None
        if done.returncode:
            raise UserError(f"model {name}: `{shlex.join(words)}` ended with status {done.returncode}")

    return Model(name, {"kind": "command", "run": command, "pattern": pattern}, run=run)


def find_clips(folder: Path, suite: Suite, pattern: str | None = None, audio: str | None = None) -> dict[str, ClipFile]:
    """{sample id: ClipFile} of what exists; of several namings, the one that finds the most clips."""
    patterns = [pattern] if pattern else naming(suite)
    found = [{s.id: p for s in suite.samples if (p := named(folder, one, s)).is_file()} for one in patterns]
    best = max(found, key=len)
    clips = {}
    for sample in suite.samples:
        path = best.get(sample.id)
        sound = sidecar(folder, sample, path, audio)
        if path is not None and path.suffix.lower() in AUDIO:
            clips[sample.id] = ClipFile(None, path)
        elif path is not None or sound is not None:
            clips[sample.id] = ClipFile(path, sound)
    return clips


def naming(suite: Suite) -> list[str]:
    """Patterns to try in a folder, in order of preference."""
    stems = dict.fromkeys([str(Path(suite.pattern).with_suffix("")), "{id}", "sample_{index:04d}"])
    return [suite.pattern, *(stem + suffix for stem in stems for suffix in (*VIDEO, *AUDIO))]


def named(folder: Path, pattern: str, sample: Sample) -> Path:
    """The path a pattern gives for a sample; it may not leave the folder."""
    try:
        name = pattern.format(id=sample.id, index=sample.index)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"pattern {pattern!r}: {error}; fields are {{id}} and {{index}}") from None
    return inside(folder, name, f"pattern {pattern!r}")


def sidecar(folder: Path, sample: Sample, video: Path | None, audio: str | None) -> Path | None:
    """The sound file of a clip: by the model's `audio` pattern, else `<same stem>.wav` beside the video."""
    if audio == "none" or (audio is None and video is None):
        return None
    path = named(folder, audio, sample) if audio else video.with_suffix(".wav")  # type: ignore[union-attr]
    return path if path.is_file() and path != video else None


def seed_of(seed: int, sample: Sample) -> int:
    """The seed of one sample."""
    return zlib.crc32(f"{seed}:{sample.id}".encode())


def generate_clips(
    made: Model,
    suite: Suite,
    out: Path,
    reference: Callable[[str], Clip],
    seed: int = 0,
    report: Callable[[str, SampleError | None], None] = lambda sample, error: None,
    begin: Callable[[int], None] = lambda count: None,
    device: str = "auto",
) -> dict[str, ClipFile]:
    """Make the clips that `out` does not hold yet; return all that lie there.

    begin: told how many are to be made, before the first. report: told of each, with its error if it has one.
    A sample whose generation raises is reported with code `generate.error` and the rest go on.
    """
    out.mkdir(parents=True, exist_ok=True)
    have = find_clips(out, suite, made.config.get("pattern"))
    todo = [sample for sample in suite.samples if sample.id not in have]
    if todo:
        begin(len(todo))
    if todo and made.run is not None:
        made.run(write_prompts(out / "prompts.jsonl", todo, seed), out)
    elif todo and made.make is not None:
        requests = [Request(sample, suite, seed_of(seed, sample), reference, device) for sample in todo]
        write_all(made.make(), requests, out, report)
    return find_clips(out, suite, made.config.get("pattern"))


def prompt_row(sample: Sample, seed: int) -> dict[str, Any]:
    """What an external program is told of one sample. seed: of this sample."""
    texts = {name: sample.get(name) for name in TEXTS}
    return {"id": sample.id, "index": sample.index, "seed": seed, **texts, "tags": sample.tags}


def write_prompts(path: Path, samples: Iterable[Sample], seed: int = 0) -> Path:
    """The prompts file an external program reads, one JSON object a line."""
    rows = (prompt_row(sample, seed_of(seed, sample)) for sample in samples)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_all(
    generator: Generating, requests: list[Request], out: Path, report: Callable[[str, SampleError | None], None]
) -> None:
    """Drain the generator into files. Where the iterator has ended or raised, the rest is asked for anew."""
    from avbench.encode import write_clip

    clips = asked(generator, requests)
    for position, request in enumerate(requests):
        made = next_clip(clips)
        if isinstance(made, Clip):
            try:
                write_clip(out / f"{request.sample.id}.mp4", made)
            except SampleError as error:  # such as NaN samples: the iterator itself goes on
                report(request.sample.id, error)
            else:
                report(request.sample.id, None)
        else:
            report(request.sample.id, made)
            if getgeneratorstate(clips) == GEN_CLOSED:
                clips = asked(generator, requests[position + 1 :])


def asked(generator: Generating, requests: Sequence[Request]) -> Generator[Made, None, None]:
    """The generator's clips, asked for at the first `next`, so that one that raises at once is told like any other."""
    clips = generator.generate(requests)
    if not isinstance(clips, Iterable):
        kind = type(generator).__name__
        raise UserError(
            f"{kind}.generate returned {type(clips).__name__}; it must yield one avbench.clip.Clip a request"
        )
    yield from clips


def next_clip(clips: Iterator[Made]) -> Made:
    """The next clip, or why there is none."""
    none = SampleError("generate.none", "the generator ended without this clip")
    made = attempted(lambda: next(clips, none))
    if isinstance(made, Clip | SampleError):
        return made
    return SampleError("generate.not_a_clip", f"the generator gave {type(made).__name__}, not an avbench.clip.Clip")


def attempted(make: Callable[[], T]) -> T | SampleError:
    """What a call gives, or why it gives nothing. What the user can mend (`UserError`) still stops the command."""
    try:
        return make()
    except SampleError as error:
        return error
    except UserError:
        raise
    except Exception as error:
        return SampleError("generate.error", f"{type(error).__name__}: {error}")
