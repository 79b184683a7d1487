"""Adapters to systems that run in environments of their own: their commands and the layout of their outputs, as data.

One TOML file a system beside this one; docs/outside-systems.md tells how to use them.

    python -m avbench.baselines.outside list
    python -m avbench.baselines.outside plan javisdit --repo DIR --prompts FILE --out DIR     prints, runs nothing
    python -m avbench.baselines.outside run ...                                                runs, then collects
    python -m avbench.baselines.outside collect ...                                            outputs that exist

In avbench.toml a system is a model of the kind "command", which `avbench eval` and a cascade run by itself:

    [models.javisdit]
    kind = "command"
    run = "python -m avbench.baselines.outside run javisdit --repo DIR --prompts {prompts} --out {out}"
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from avbench.errors import MissingResource, UnknownName, UserError

HERE = Path(__file__).parent
Row = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """One file.

    makes: "t2av", "v2a" (adds sound to the clip that a cascade gives), "a2v", or "unconditional".
    per: one command for the whole "suite", or one for each "sample". folder: of the repository to run in.
    command: its words; options: further fields with their defaults. files: written before, {name: text}.
    inputs: {name: what}, made of a row's `given` clip or image: "video", "sound" (WAV) or "image" (PNG).
    video, audio: where the outputs lie; "*" matches where the name cannot be foretold. audio may be empty.
    prompt: how its one prompt is put together. prompts, columns: the list of a suite, "csv" or "txt", {column: field}.
    Fields in braces: python, repo, work, row, id, index, seed, prompts, each of the options; text, video_text,
    audio_text, speech_text, speech_tag (<S>speech<E>, or nothing) and prompt; of every text NAME_json and NAME_csv,
    quoted for such files.
    """

    name: str
    title: str
    source: str
    repository: str
    commit: str
    licence: str
    makes: str
    per: str
    command: tuple[str, ...]
    video: str
    audio: str = ""
    folder: str = "."
    prompt: str = "{text}"
    prompts: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@cache
def systems() -> dict[str, System]:
    """All of them, by name."""
    found = {}
    for path in sorted(HERE.glob("*.toml")):
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        table |= {name: tuple(table[name]) for name in ("command", "notes")}
        found[path.stem] = System(name=path.stem, **table)
    return found


def system(name: str) -> System:
    """A system, or `UnknownName`."""
    if name not in systems():
        raise UnknownName(f"no outside system named {name!r}; there are {', '.join(systems())}")
    return systems()[name]


def read_rows(path: Path) -> list[Row]:
    """The prompts file that avbench gives to commands (JSONL)."""
    try:
        rows: list[Row] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: {error}; give the JSON lines that avbench writes for commands") from None
    if missing := [i for i, row in enumerate(rows) if "id" not in row]:
        raise UserError(f"{path}: line {missing[0] + 1} has no id")
    return rows


@dataclass(frozen=True)
class Job:
    """A system over some prompts. repo: its checkout; python: of its environment; work: where its raw outputs go."""

    system: System
    rows: Sequence[Row]
    repo: Path
    work: Path
    python: str = "python"
    options: Mapping[str, Any] = field(default_factory=dict)
    images: Path | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.options) - set(self.system.options):
            known = ", ".join(self.system.options) or "none"
            raise UserError(f"{self.system.name}: no option {', '.join(sorted(unknown))}; there are {known}")

    def fields(self, row: Row, position: int) -> dict[str, Any]:
        """What stands for the braces."""
        texts = ("text", "video_text", "audio_text", "speech_text")
        found = {name: str(row.get(name, "")) for name in texts}
        found["speech_tag"] = f" <S>{found['speech_text']}<E>" if found["speech_text"] else ""
        found["prompt"] = self.system.prompt.format(**found)
        found |= {f"{name}_json": json.dumps(value, ensure_ascii=False) for name, value in found.items()} | {
            f"{name}_csv": '"' + value.replace('"', '""') + '"' for name, value in found.items()
        }
        one = {"id": row["id"], "index": row.get("index", position), "seed": row.get("seed", 0), "row": position}
        place = {"python": self.python, "repo": self.repo.resolve(), "work": self.work.resolve()}
        return {**self.system.options, **self.options, **found, **one, **place, "prompts": self.prompts}

    @property
    def prompts(self) -> Path:
        return self.work.resolve() / f"prompts.{self.system.prompts or 'csv'}"

    @property
    def places(self) -> list[dict[str, Any]]:
        """The fields of every row."""
        return [self.fields(row, position) for position, row in enumerate(self.rows)]

    def commands(self) -> list[list[str]]:
        """What is run, word by word; no shell reads it."""
        chosen = self.places[:1] if self.system.per == "suite" else self.places
        return [[word.format(**fields) for word in self.system.command] for fields in chosen]

    def texts(self) -> dict[Path, str]:
        """Files to be written before."""
        found = {Path(n.format(**f)): t.format(**f) for f in self.places for n, t in self.system.files.items()}
        if self.system.prompts:
            found[self.prompts] = TABLES[self.system.prompts](self.system.columns, self.places)
        return found

    def prepare(self) -> None:
        """Write prompts, configurations and inputs."""
        self.work.mkdir(parents=True, exist_ok=True)
        for path, text in self.texts().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for row, fields in zip(self.rows, self.places):
            for name, what in self.system.inputs.items():
                path = Path(name.format(**fields))
                path.parent.mkdir(parents=True, exist_ok=True)
                INPUTS[what](self.given(row, what), path)

    def given(self, row: Row, what: str) -> Path:
        """The file that a row's input is made of."""
        if what == "image" and self.images is not None:
            for suffix in (".png", ".jpg", ".jpeg", ".webp"):
                if (path := self.images / f"{row['id']}{suffix}").is_file():
                    return path
        if given := row.get("given"):
            return Path(given)
        how = "give --images DIR with <id>.png, or use it" if what == "image" else "use it"
        raise MissingResource(f"{self.system.name} needs a clip for {row['id']}: {how} as a second part of a cascade")

    def run(self) -> None:
        """Run every command; `UserError` where one cannot start or fails."""
        self.prepare()
        for words in self.commands():
            try:
                done = subprocess.run(words, cwd=self.repo / self.system.folder, check=False)
            except OSError as error:
                raise UserError(f"{self.system.name}: cannot start {words[0]}: {error}") from None
            if done.returncode:
                raise UserError(f"{self.system.name}: `{shlex.join(words)}` ended with status {done.returncode}")

    def collect(self, out: Path) -> list[str]:
        """Copy outputs to `<id>.mp4` (and `<id>.wav`) below `out`; the ids that were found."""
        out.mkdir(parents=True, exist_ok=True)
        found = []
        for row, fields in zip(self.rows, self.places):
            if (video := newest(self.system.video, fields)) is None:
                continue
            shutil.copyfile(video, out / f"{row['id']}{video.suffix}")
            if self.system.audio and (sound := newest(self.system.audio, fields)) is not None:
                shutil.copyfile(sound, out / f"{row['id']}{sound.suffix}")
            found.append(str(row["id"]))
        return found


def newest(pattern: str, fields: Mapping[str, Any]) -> Path | None:
    """The youngest file that fits an absolute pattern; what stands for the braces matches itself and nothing else."""
    safe = {name: escape(str(v)) if isinstance(v, str | Path) else v for name, v in fields.items()}
    path = Path(pattern.format(**safe))
    matches = [p for p in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if p.is_file()]
    return max(matches, key=lambda p: (p.stat().st_mtime_ns, p.name), default=None)


def as_csv(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """columns: {column: template}."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([template.format(**row) for template in columns.values()] for row in rows)
    return file.getvalue()


def as_lines(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The first column, one line a row; line breaks within a prompt become spaces."""
    template = next(iter(columns.values()))
    return "".join(" ".join(template.format(**row).split()) + "\n" for row in rows)


TABLES: dict[str, Callable[[Mapping[str, str], Iterable[Mapping[str, Any]]], str]] = {"csv": as_csv, "txt": as_lines}


def put_video(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def put_sound(source: Path, path: Path) -> None:
    """The clip's sound as 16-bit WAV."""
    import wave

    import numpy as np

    from avbench.media import decode

    audio = decode(source, media=("audio",)).need_audio()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(audio.samples))
        file.setsampwidth(2)
        file.setframerate(audio.rate)
        file.writeframes((np.clip(audio.samples.T, -1, 1) * 32767).round().astype("<i2").tobytes())


def put_image(source: Path, path: Path) -> None:
    """An image, or the first frame of a clip, as PNG."""
    import cv2

    if source.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
        picture = cv2.imread(str(source), cv2.IMREAD_COLOR)
    else:
        from avbench.media import decode

        frames = decode(source, media=("video",)).need_video().frames
        picture = cv2.cvtColor(frames[0], cv2.COLOR_RGB2BGR)
    if picture is None or not cv2.imwrite(str(path), picture):
        raise UserError(f"{source}: cannot be read as an image")


INPUTS: dict[str, Callable[[Path, Path], None]] = {"video": put_video, "sound": put_sound, "image": put_image}
