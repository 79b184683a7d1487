"""Clips as latents, computed once and kept on disk: every arm, seed and model of the same codecs reads the same file.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from avbench.clip import Clip
from avbench.errors import SampleError, UserError
from avbench.reference_models.codecs import audio_codec, video_codec
from avbench.reference_models.training.config import Data
from avbench.store import cache_root, write_atomic

SHARD = 64  # clips; what an interruption may cost
Item = tuple[dict[str, str], Callable[[], Clip]]
"""Captions and group of a clip, and how to make it."""
Encoded = tuple[dict[str, str], dict[str, np.ndarray]]
"""Captions and group of a clip, and its latents: `video` and `audio`."""


@dataclass(frozen=True)
class Latents:
    """Encoded clips.

    video: float32 [N, C, F, H, W]; audio: float32 [N, L, C] or [N, C, T, M]; both memory-mapped.
    texts: per clip `video_text`, `audio_text`, `text`, and `group` (its event), within which sounds are shuffled.
    """

    video: np.ndarray
    audio: np.ndarray
    texts: list[dict[str, str]]
    folder: Path

    def __len__(self) -> int:
        return len(self.texts)


def latents(
    data: Data, split: str, count: int, device: str = "cpu", begin: Callable[[int], None] = lambda count: None,
    step: Callable[[str, str], None] = lambda name, problem: None,
) -> Latents:  # fmt: skip
    """The first `count` clips of a split, from the cache or into it.

    begin and step tell of encoding. Raises `UserError` where the source gives no clip.
    """
    folder = cache_root() / "latents" / key(data, split, count)
    if not whole(folder):
        items = source(data, split, count)
        begin(len(items))
        encode(data, items, folder, device, step)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    video, audio = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("video", "audio"))
    return Latents(video, audio, texts, folder)


def key(data: Data, split: str, count: int) -> str:
    """What decides the latents, digested."""
    from avbench.suites.clatter import VERSION

    fields = data.model_dump(mode="json", exclude={"clips", "valid", "split"})
    one = {**fields, "split": split, "count": count, "world": VERSION if data.source == "clatter" else None}
    if data.source != "clatter":
        one["files"] = [_stamp(item) for item in source(data, split, count)]
    return hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(item: Item) -> list[str]:
    return [item[0].get(name, "") for name in ("id", "file", "text", "video_text", "audio_text")]


def source(data: Data, split: str, count: int) -> Sequence[Item]:
    """What there is to encode, in order."""
    return clatter_items(data, split, count) if data.source == "clatter" else suite_items(data, split, count)


def clatter_items(data: Data, split: str, count: int) -> list[Item]:
    """Scenes of the desk world at the size the codecs ask for; "mixed" deals tight and loose in turn."""
    from avbench.suites.clatter import DESK, EVENTS, TIGHT, render, scene

    codec = video_codec(data.video)
    if unknown := set(data.events) - set(EVENTS):
        raise UserError(f"data.events: clatter has no {', '.join(sorted(unknown))}; there are {', '.join(EVENTS)}")
    size = {name: getattr(codec, name) for name in ("width", "height", "channels") if hasattr(codec, name)}
    seconds = codec.frames / float(codec.fps)
    rate = max(DESK.rate, int(data.audio.get("rate", DESK.rate)))
    world = replace(DESK, **size, fps=codec.fps, seconds=seconds, rate=rate, events=data.events or DESK.events)
    found: list[Item] = []
    for index in range(count):
        event = world.events[index % len(world.events)]
        kind = {"mixed": ("tight", "loose")[index // len(world.events) % 2]}.get(data.sound, data.sound)
        what = scene(split, index, world, sound=kind if event in TIGHT else "loose")
        texts = {"id": what.id, "video_text": what.video_text, "audio_text": what.audio_text, "text": what.text}
        found.append(({**texts, "group": what.event}, lambda what=what: render(what)))  # type: ignore[misc]
    return found


def suite_items(data: Data, split: str, count: int) -> list[Item]:
    """Real clips of a suite. The last `valid` of them are held out as the split "valid"."""
    from avbench.media import decode
    from avbench.suite import load_suite

    suite = load_suite(data.source)
    samples = [sample for sample in suite.samples if suite.render is not None or sample.reference is not None]
    samples = samples[: data.clips + data.valid] if data.clips else samples
    samples = samples[-data.valid :] if split == "valid" else samples[: -data.valid]
    if not samples:
        raise UserError(f"data.source {data.source}: the suite has too few real clips; {data.valid} are held out")
    found: list[Item] = []
    for sample in samples[:count] if count else samples:
        texts = {name: sample.get(name) for name in ("id", "video_text", "audio_text", "text")}
        texts |= {"group": sample.tags[0] if sample.tags else "", "file": str(sample.reference or suite.digest)}
        if suite.render is not None:
            found.append((texts, lambda sample=sample: suite.render(sample)))  # type: ignore[misc]
        else:
            paths = sample.reference, sample.reference_audio
            found.append((texts, lambda paths=paths: decode(*paths)))  # type: ignore[misc]
    return found


def encode(data: Data, items: Sequence[Item], folder: Path, device: str, step: Callable[[str, str], None]) -> None:
    """Encode in shards and move the whole into place. Clips that cannot be encoded are left out.

    Shards have their final names and each is whole or not there: an interrupted encoding goes on with the next one, and
    of several processes, whatever containers they are in, each takes up what another has done.
    """
    parts = folder.with_name(f".{folder.name}.parts")
    shards = [parts / f"{at:08d}.npz" for at in range(0, len(items), SHARD)]
    codecs = video_codec(data.video, device), audio_codec(data.audio, device)
    try:
        for k, shard in enumerate(shards):
            some = items[k * SHARD : (k + 1) * SHARD]
            if shard.is_file():
                for row, _ in some:
                    step(row["id"], "")
            elif not whole(folder):
                write_atomic(shard, packed(encoded(some, codecs, step)))
        if not whole(folder):
            gather(shards, folder, parts / secrets.token_hex(8), data.source)
    except OSError:
        if not whole(folder):  # unless another process was first
            raise
    except UserError:
        shutil.rmtree(parts, ignore_errors=True)  # what is wrong with these clips will be mended
        raise
    shutil.rmtree(parts, ignore_errors=True)


def whole(folder: Path) -> bool:
    """Whether latents are complete."""
    return (folder / "texts.json").is_file()


def gather(shards: Sequence[Path], folder: Path, scratch: Path, source: str) -> None:
    """Shards into one folder, which is made as `scratch`. `OSError` where it is there already."""
    texts = [row for shard in shards for row in texts_in(shard)]
    if not texts:
        raise UserError(f"data.source {source}: no clip could be encoded")
    scratch.mkdir()
    files: dict[str, np.ndarray] = {}
    for k, found in enumerate(one for shard in shards for one in latents_in(shard)):
        for name, array in found.items():
            if not k:
                shape = len(texts), *array.shape
                files[name] = np.lib.format.open_memmap(scratch / f"{name}.npy", "w+", np.dtype(np.float32), shape)
            if array.shape != files[name].shape[1:]:
                raise UserError(
                    f"{texts[k]['id']}: {name} latents of {array.shape}, others are {files[name].shape[1:]}"
                )
            files[name][k] = array
    files.clear()  # so that they are on disk
    (scratch / "texts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    scratch.replace(folder)


def packed(clips: Iterable[Encoded]) -> bytes:
    """Encoded clips as one .npz file."""
    texts, arrays = [], {}
    for k, (row, latents) in enumerate(clips):
        texts.append(row)
        arrays.update({f"{name}/{k}": np.ascontiguousarray(array, np.float32) for name, array in latents.items()})
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, texts=np.array(json.dumps(texts)), **arrays)
    return buffer.getvalue()


def texts_in(shard: Path) -> list[dict[str, str]]:
    """Captions of the clips in such a file."""
    with np.load(shard) as file:
        found: list[dict[str, str]] = json.loads(str(file["texts"]))
    return found


def latents_in(shard: Path) -> Iterator[dict[str, np.ndarray]]:
    """Latents of the clips in such a file."""
    with np.load(shard) as file:
        for k in range(len(json.loads(str(file["texts"])))):
            yield {name: file[f"{name}/{k}"] for name in ("video", "audio")}


def encoded(items: Sequence[Item], codecs: tuple[Any, Any], step: Callable[[str, str], None]) -> Iterator[Encoded]:
    """Captions and latents of every clip that has both streams and is long enough."""
    for row, make in items:
        try:
            clip = make()
            found = {"video": codecs[0].encode(clip.need_video()), "audio": codecs[1].encode(clip.need_audio())}
        except SampleError as error:
            step(row["id"], str(error))
            continue
        step(row["id"], "")
        yield row, found
