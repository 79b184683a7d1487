"""Loaders of public benchmarks: from the files as published to samples. Cards name them; formats are stated at each.

Nothing in these files is trusted: paths are opened only below the suite's folder, ids are made safe, and a table that
lacks a column is refused with its place. Ids are unique because `Suite` refuses what comes twice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avbench.dataset import Card, filled, media, need_columns, safe_id, slug
from avbench.errors import UserError
from avbench.suite import READERS, Sample, read_text

Row = Mapping[str, Any]


def needed(card: Card, root: Path) -> Path:
    """The file a card names first."""
    found = card.files[0].found(root)
    assert found is not None, "load_public has looked for it"
    return found


def document(path: Path, kind: type) -> Any:
    """A JSON file that must hold a list or an object."""
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(found, kind):
        raise UserError(f"{path} holds a {type(found).__name__}, expected a {kind.__name__}")
    return found


def objects(path: Path) -> list[tuple[int, Row]]:
    """The rows of a JSON list, counted from 1."""
    rows = list(enumerate(document(path, list), 1))
    if strange := next((line for line, row in rows if not isinstance(row, dict)), None):
        raise UserError(f"{path}: item {strange} is not an object")
    return rows


def word(row: Row, name: str) -> str:
    """A text cell, "" where it is empty."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


def required(row: Row, name: str, where: str) -> str:
    """A text cell that may not be empty."""
    if not (text := word(row, name)):
        raise UserError(f"{where}: {name} is empty")
    return text


def headless(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV without a header."""
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None


# JavisBench ---------------------------------------------------------------------------------------------------------


def javisbench(card: Card, root: Path) -> Iterator[Sample]:
    """CSV with `text`, and where present `video_text`, `audio_text`, `path`, `audio_path`, `cat0_ind` ... `cat4_ind`.

    A row's number is its name in every result folder (`sample_%04d`); a category cell is one index or several with
    commas. An empty `audio_text` falls back to `text`, where the released evaluator stops.
    """
    path = needed(card, root)
    rows = READERS[".csv"](path)
    need_columns(rows, ["text"], path)
    for index, (line, row) in enumerate(rows):
        yield Sample(
            f"sample_{index:04d}", index, required(row, "text", f"{path}:{line}"),
            video_text=word(row, "video_text"), audio_text=word(row, "audio_text"),
            tags=tuple(categories(row, card.options["taxonomy"], f"{path}:{line}")),
            reference=media(root, [word(row, "path")]), reference_audio=media(root, [word(row, "audio_path")]),
            extra={"source_id": word(row, "id")} if word(row, "id") else {},
        )  # fmt: skip


def categories(row: Row, taxonomy: Mapping[str, list[str]], where: str) -> Iterator[str]:
    """The tags of a row: of each aspect, the categories its column counts."""
    for aspect, (name, titles) in enumerate(taxonomy.items()):
        for part in filter(None, (one.strip() for one in word(row, f"cat{aspect}_ind").split(","))):
            try:
                index = float(part)  # pandas writes 1.0 where a column has gaps
            except ValueError:
                index = -1.0
            if index not in range(len(titles)):
                raise UserError(f"{where}: cat{aspect}_ind ({name}) is {part!r}, expected 0 to {len(titles) - 1}")
            yield slug(titles[int(index)])


# VGGSound and what is cut from it -----------------------------------------------------------------------------------


def vggsound(card: Card, root: Path) -> Iterator[Sample]:
    """`test.csv` (`<id>_<start>.mp4,label`) or `vggsound.csv` (`id,start,label,split`), both without a header.

    Labels of the subsets are known in VGGSound's and in the paper's spelling, with underscores too.
    """
    from avbench.suites.vggsound import spelt, subset_of

    path = needed(card, root)
    for line, row in headless(path):
        name, label = vggsound_row(row, f"{path}:{line}")
        if name:
            label = spelt(label)
            tag = subset_of(label)
            yield labelled(card, root, name, label, (tag,) if tag else ())


def vggsound_row(row: list[str], where: str) -> tuple[str, str]:
    """(clip, label) of a row, ("", "") where it belongs to the training part."""
    if len(row) == 2:
        return row[0].strip().removesuffix(".mp4"), row[1].strip()
    if len(row) == 4 and row[1].strip().isdigit():
        return ("", "") if row[3].strip() != "test" else (f"{row[0].strip()}_{int(row[1]):06d}", row[2].strip())
    raise UserError(f"{where}: {len(row)} columns; expected `clip,label` or `YouTube id,start seconds,label,split`")


def vggss(card: Card, root: Path) -> Iterator[Sample]:
    """`vggss.json`: a list of {file, class, bbox}."""
    path = needed(card, root)
    rows = objects(path)
    need_columns(rows, ["file", "class"], path)
    for line, row in rows:
        where = f"{path}: item {line}"
        yield labelled(card, root, required(row, "file", where), required(row, "class", where))


def labelled(card: Card, root: Path, name: str, label: str, tags: tuple[str, ...] = ()) -> Sample:
    """A clip that is described by its class alone."""
    id = safe_id(name)
    real = media(root, filled(card.options["media"], id=id, label=label.replace(" ", "_")))
    return Sample(id, 0, label, tags=tags, reference=real, extra={"label": label})


# AVSync15, Landscape, The Greatest Hits, in the folders of the ASVA repository --------------------------------------


def asva(card: Card, root: Path) -> Iterator[Sample]:
    """`<set>/test.txt`: one path a line, `<category>/<clip>.mp4` or `<clip>.mp4`, below `<set>/videos`.

    `<set>/class_mapping.json`, where present: {category: text}. Of several sets, `count` balanced samples of each.
    """
    from avbench.dataset import balanced, label_of

    seed = int(card.protocol.get("seed", 0))
    for tag, part in card.options["parts"].items():
        found = list(asva_part(part, root, (tag,) if len(card.options["parts"]) > 1 else ()))
        yield from balanced(found, part["count"], label_of, seed) if "count" in part else found


def asva_part(part: Row, root: Path, tags: tuple[str, ...]) -> Iterator[Sample]:
    """The test clips of one set."""
    folder = root / part["folder"]
    mapping = folder / "class_mapping.json"
    names = document(mapping, dict) if mapping.is_file() else {}
    for line in read_text(folder / "test.txt").splitlines():
        if not line.strip():
            continue
        path = Path(line.strip())
        category = path.parts[0] if len(path.parts) > 1 else ""
        text = str(names.get(category) or part.get("text") or category.replace("_", " "))
        if not text:
            raise UserError(f"{folder / 'test.txt'}: {line.strip()!r} has no category; expected <category>/<clip>.mp4")
        real = media(folder, filled(part["media"], path=path.as_posix()))
        yield Sample(
            safe_id("+".join(path.with_suffix("").parts)), 0, text, tags=tags, reference=real, extra={"label": text}
        )


# Prompt suites ------------------------------------------------------------------------------------------------------


def verse_bench(card: Card, root: Path) -> Iterator[Sample]:
    """`set1|set2|set3/<id>.json`: {video_prompt, audio_prompt: [text...], speech_prompt: {speaker, text}}.

    Beside it `<id>.jpg`, the image that image-conditioned models start from, and in set2 `<id>.wav`, the real sound.
    """
    for tag in card.subsets:
        for path in sorted((root / tag).glob("*.json")):
            row = document(path, dict)
            need_columns([(1, row)], ["video_prompt", "audio_prompt", "speech_prompt"], path)
            speech = row["speech_prompt"] or {}
            sounds = [row["audio_prompt"]] if isinstance(row["audio_prompt"], str) else row["audio_prompt"] or []
            if not isinstance(speech, dict) or not isinstance(sounds, list):
                raise UserError(f"{path}: speech_prompt must be an object, audio_prompt a list")
            sound = next((str(one).strip() for one in sounds if str(one).strip()), "")
            image, real = path.with_suffix(".jpg"), path.with_suffix(".wav")
            extra = {"speaker": word(speech, "speaker"), "image": f"{tag}/{image.name}" if image.is_file() else ""}
            picture = required(row, "video_prompt", str(path))
            yield Sample(
                safe_id(path.stem), 0, " ".join(filter(None, (picture, sound, quoted(word(speech, "text"))))),
                video_text=picture, audio_text=sound, speech_text=word(speech, "text"), tags=(tag,),
                reference_audio=real if real.is_file() else None, extra={k: v for k, v in extra.items() if v},
            )  # fmt: skip


def quoted(text: str) -> str:
    """What is said, as a sentence of a caption."""
    return f'Speech: "{text}"' if text else ""


def t2av_compass(card: Card, root: Path) -> Iterator[Sample]:
    """`prompts.json`: a list of {index (from 1), prompt, video_prompt, audio_prompt, speech_prompt: [{text}...], ...}.

    Several lines of speech are one transcript. The taxonomy columns become tags, the checklists stay in `extra`.
    """
    path = needed(card, root)
    rows = objects(path)
    prefixes: Mapping[str, str] = card.options["tags"]
    need_columns(rows, ["index", "prompt", "video_prompt", "audio_prompt", "speech_prompt", *prefixes], path)
    for line, row in rows:
        where = f"{path}: item {line}"
        lines = row["speech_prompt"]
        if not isinstance(row["index"], int) or not isinstance(lines, list):
            raise UserError(f"{where}: index must be a number and speech_prompt a list")
        tags = [prefix + slug(str(one)) for name, prefix in prefixes.items() for one in listed(row.get(name))]
        yield Sample(
            f"{row['index']:04d}", 0, required(row, "prompt", where),
            video_text=word(row, "video_prompt"), audio_text=word(row, "audio_prompt"),
            speech_text=" ".join(filter(None, (word(one, "text") for one in lines if isinstance(one, dict)))),
            tags=(*(["speech"] if lines else []), *dict.fromkeys(tags)),
            extra={name: row[name] for name in ("speech_prompt", "checklist_info") if row.get(name)},
        )  # fmt: skip


def listed(value: Any) -> list[Any]:
    """A cell that holds one category or several."""
    return value if isinstance(value, list) else [value] if value else []


def moviegen_audio(card: Card, root: Path) -> Iterator[Sample]:
    """`MovieGenAudioBenchSfx.jsonl`: {id, video_prompt, audio_prompt} a line; Movie Gen's own clips as `<id>.mp4`."""
    path = needed(card, root)
    rows = READERS[".jsonl"](path)
    need_columns(rows, ["id", "video_prompt", "audio_prompt"], path)
    for line, row in rows:
        where = f"{path}:{line}"
        id, picture, sound = (required(row, name, where) for name in ("id", "video_prompt", "audio_prompt"))
        id = safe_id(id)
        yield Sample(
            id, 0, f"{picture.rstrip(' .')}. {sound}", video_text=picture, audio_text=sound,
            reference=media(root, filled(card.options["media"], id=id)),
        )  # fmt: skip


def audiocaps(card: Card, root: Path) -> Iterator[Sample]:
    """`test.csv`: audiocap_id, youtube_id, start_time, caption; five captions a clip, the first of them the prompt."""
    path = needed(card, root)
    rows = READERS[".csv"](path)
    need_columns(rows, ["audiocap_id", "youtube_id", "start_time", "caption"], path)
    clips: dict[str, dict[str, Any]] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        youtube, start = (required(row, name, where) for name in ("youtube_id", "start_time"))
        one = clips.setdefault(safe_id(f"{youtube}_{start}"), {"youtube": youtube, "captions": []})
        one["captions"].append(required(row, "caption", where))
    for id, one in clips.items():
        first, *others = one["captions"]
        real = media(root, filled(card.options["media"], id=id, youtube=one["youtube"]))
        yield Sample(id, 0, first, audio_text=first, reference_audio=real, extra={"other_captions": others})
