"""Small made-up files in the forms of the public benchmarks: what a user's folders hold. No text of theirs is used."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TAXONOMY = (5, 3, 5, 3, 3)  # categories in each of JavisBench's aspects
CLASSES = ("chopping wood", "typing on computer keyboard", "dog barking", "owl hooting", "playing harp")


def table(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def javisbench(root: Path, count: int = 1000, name: str = "JavisBench-mini", **cells: Mapping[int, str]) -> Path:
    """Row i has category i modulo their number; sound types come in pairs. cells: {column: {row: value}}."""
    columns = ["path", "id", "num_frames", "text", "video_text", "audio_text", *(f"cat{a}_ind" for a in range(5))]
    rows: list[list[Any]] = []
    for i in range(count):
        categories = [str(i % n) for n in TAXONOMY]
        categories[2] = f"{i % 5},{(i + 1) % 5}"
        row = [f"videos/{i}.mp4", f"yt{i % 7}", 102, f"scene {i}, loud", f"picture {i}", f"sound {i}", *categories]
        rows.append([cells.get(column, {}).get(i, value) for column, value in zip(columns, row)])
    table(root / f"{name}.csv", [columns, *rows])
    return root


def vggsound(root: Path, each: int = 4, labels: Sequence[str] = CLASSES, form: str = "test.csv") -> Path:
    """Test clips of these classes, and in the four-column form as many training clips."""
    clips = [(f"{i:02d}abcdef-{j:02d}", 10 * j, label) for i, label in enumerate(labels) for j in range(each)]
    if form == "test.csv":
        table(root / form, [(f"{id}_{start:06d}.mp4", label) for id, start, label in clips])
    else:
        rows = [(id, start, label, "test") for id, start, label in clips]
        table(root / form, [*rows, *((f"{id[:-1]}T", start, label, "train") for id, start, label, _ in rows)])
    return root


def every_class() -> list[str]:
    """All 309: those of AV-Tight, AV-Loose, and others by number."""
    from avbench.suites.vggsound import subset_classes

    named = [label for labels in subset_classes().values() for label in labels]
    return named + [f"other class {i}" for i in range(309 - len(named))]


def vggss(root: Path, count: int = 300, classes: int = 20) -> Path:
    names = [f"{i:06d}-abcd_{i:06d}" for i in range(count)]
    rows = [{"file": name, "class": f"class {i % classes}", "bbox": [[0, 0, 1, 1]]} for i, name in enumerate(names)]
    text(root / "vggss.json", json.dumps(rows))
    return root


def asva(root: Path, avsync: int = 150, landscape: int = 90, hits: int = 110) -> Path:
    names = [f"class_{i % 15}/clip {i:03d} (1).mp4" for i in range(avsync)]
    text(root / "AVSync15" / "test.txt", "\n".join(names) + "\n")
    text(root / "AVSync15" / "class_mapping.json", json.dumps({"class_0": "the zeroth class"}))
    text(root / "Landscapes" / "test.txt", "\n".join(f"kind_{i % 9}/land{i:03d}.mp4" for i in range(landscape)))
    text(root / "TheGreatestHits" / "test.txt", "\n".join(f"hit{i:03d}_denoised_thumb.mp4" for i in range(hits)))
    return root


def verse_bench(root: Path, counts: Sequence[int] = (205, 295, 100)) -> Path:
    start = 0
    for set, count in zip(("set1", "set2", "set3"), counts):
        for i in range(start, start + count):
            row = {
                "video_prompt": f"picture {i}",
                "audio_prompt": [""] if i % 10 == 0 else [f"sound {i}", "more"],
                "speech_prompt": {"speaker": "a man", "text": f"word {i}"} if set == "set3" else {},
            }
            text(root / set / f"{i:05d}.json", json.dumps(row))
            (root / set / f"{i:05d}.jpg").write_bytes(b"jpg")
            if set == "set2":
                (root / set / f"{i:05d}.wav").write_bytes(b"wav")
        start += count
    return root


def compass_rows(count: int = 500) -> list[dict[str, Any]]:
    said = [{"speaker": "A", "description": "calm", "text": "Good day."}, {"speaker": "B", "text": "Hm."}]
    return [
        {
            "index": i + 1, "prompt": f"whole {i}", "video_prompt": f"picture {i}",
            "audio_prompt": "" if i == 5 else f"sound {i}", "speech_prompt": said[: i % 3],
            "source": "RealVideo", "subject_matter": "History & Documentary", "core_subject": ["People", "Objects"],
            "event_scenario": ["Urban Scenario"], "sound_type": ["Speech Sounds"],
            "camera_movement": ["Static"], "visual_spatial_composition": "Crowd",
            "visual_temporal_composition": "Single Event", "audio_spatial_composition": "Mixed On/Off-screen",
            "audio_temporal_composition": "Single Event", "video": "", "checklist_info": {"Sound": {"Music": None}},
        }
        for i in range(count)
    ]  # fmt: skip


def compass(root: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    text(root / "prompts.json", json.dumps(compass_rows() if rows is None else rows))
    return root


def moviegen(root: Path, ids: Iterable[object] = range(527)) -> Path:
    rows = [{"id": id, "video_prompt": f"Picture {id}. ", "audio_prompt": f"sound {id}."} for id in ids]
    text(root / "MovieGenAudioBenchSfx.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    return root


def audiocaps(root: Path, clips: int = 975) -> Path:
    head = ["audiocap_id", "youtube_id", "start_time", "caption"]
    rows = [(5 * i + j, f"-{i:04d}yt", 30, f"caption {j} of {i}") for j in range(5) for i in range(clips)]
    table(root / "test.csv", [head, *rows])
    return root
