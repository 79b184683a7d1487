"""Cascades: a sounding video from models that make one stream each.

    [models.wan-then-mmaudio]
    kind = "python"
    entry = "avbench.baselines.cascades:Cascade"
    [models.wan-then-mmaudio.args]
    order = "t-v-a"                                # or "t-v|t-a", "t-a-v"
    video = { kind = "wan" }                       # a pipeline of diffusers (avbench.baselines.pipelines)
    audio = { model = "mmaudio" }                  # any model of avbench: a command, a checkpoint, a folder

A part that comes second finds the clip of the first where it finds a suite's real clip otherwise: in
`request.reference(id)`. A command finds it as a file, named by `given` in its prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avbench.baselines.pipelines import Pipeline
from avbench.clip import Audio, Clip
from avbench.errors import SampleError, UserError
from avbench.generator import Generating, Made, Model, Request, attempted, find_clips, load_model, next_clip, prompt_row

ORDERS = {"t-v|t-a": ("video", "audio"), "t-v-a": ("video", "audio"), "t-a-v": ("audio", "video")}
Maker = Callable[[Sequence[Request]], list[Made]]


@dataclass(frozen=True)
class Cascade:
    """T->V || T->A ("t-v|t-a"), T->V->A ("t-v-a") or T->A->V ("t-a-v").

    video, audio: the parts, `{model = NAME}` or the arguments of a `Pipeline`. cut: end sound that is longer than the
    video with it. chunk: samples that pass through both parts together; more than 1 pays where a part is a command
    that loads its weights anew each time.
    """

    order: str
    video: Mapping[str, Any]
    audio: Mapping[str, Any]
    cut: bool = True
    chunk: int = 1

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UserError(f"cascade: order {self.order!r} is unknown; use one of {', '.join(ORDERS)}")
        if self.chunk < 1:
            raise UserError(f"cascade: chunk must be at least 1, not {self.chunk}")

    @cached_property
    def makers(self) -> dict[str, Maker]:
        """The two parts, ready."""
        first, second = ORDERS[self.order]
        reads = {first: False, second: self.order != "t-v|t-a"}
        return {"video": maker(self.video, reads["video"]), "audio": maker(self.audio, reads["audio"])}

    def generate(self, requests: Sequence[Request]) -> Iterator[Made]:
        """One clip per request, in order, or why there is none."""
        for at in range(0, len(requests), self.chunk):
            yield from self.together(requests[at : at + self.chunk])

    def together(self, requests: Sequence[Request]) -> list[Made]:
        """Both parts over some requests; where one fails for a sample, its error stands in the sample's place."""
        first, second = ORDERS[self.order]
        begun = self.makers[first](requests)
        going = [i for i, one in enumerate(begun) if isinstance(one, Clip)]
        asked = [requests[i] for i in going]
        if self.order != "t-v|t-a":
            asked = [given(requests[i], only(begun[i], first)) for i in going]
        found = dict(zip(going, self.makers[second](asked) if asked else []))
        return [self.joined({first: one, second: found.get(i, one)}) for i, one in enumerate(begun)]

    def joined(self, parts: Mapping[str, Made]) -> Made:
        """A clip of both streams, or the first error."""
        for made in parts.values():
            if isinstance(made, SampleError):
                return made
        try:
            video, audio = only(parts["video"], "video").need_video(), only(parts["audio"], "audio").need_audio()
        except SampleError as error:
            return SampleError("cascade.part", f"a part of the cascade made no such stream: {error.detail}")
        return Clip(video, trimmed(audio, video.seconds) if self.cut else audio)


def only(clip: Made, stream: str) -> Clip:
    """The clip with one of its streams."""
    assert isinstance(clip, Clip)
    return Clip(clip.video) if stream == "video" else Clip(audio=clip.audio)


def trimmed(audio: Audio, seconds: float) -> Audio:
    """At most `seconds` of it."""
    return replace(audio, samples=audio.samples[:, : round((seconds - audio.start) * audio.rate)])


def given(request: Request, clip: Clip) -> Request:
    """The request with an earlier part's clip as its reference."""

    def reference(sample: str) -> Clip:
        return clip if sample == request.sample.id else request.reference(sample)

    return replace(request, reference=reference)


def maker(part: Mapping[str, Any], reads: bool) -> Maker:
    """What makes the clips of a part. reads: whether it is given an earlier part's clips."""
    if "model" not in part:
        return partial(by_generator, Pipeline(**part))
    if set(part) != {"model"}:
        raise UserError(f"cascade: a part names a model or describes a pipeline, not both: {dict(part)}")
    model = load_model(str(part["model"]))
    if model.make is not None:
        return partial(by_generator, model.make())
    return partial(by_folder, model) if model.run is None else partial(by_command, model, reads)


def by_generator(generator: Generating, requests: Sequence[Request]) -> list[Made]:
    """One at a time, so that one that fails stops no other."""
    return [next_clip(iter(generator.generate([request]))) for request in requests]


def by_folder(model: Model, requests: Sequence[Request]) -> list[Made]:
    """Clips that lie there already."""
    assert model.locate is not None
    return read_clips(model.locate(requests[0].suite), requests)


def by_command(model: Model, reads: bool, requests: Sequence[Request]) -> list[Made]:
    """A command, with its prompts and (if it `reads`) an earlier part's clips in a folder of their own."""
    assert model.run is not None
    with TemporaryDirectory(prefix="avbench-cascade-") as folder:
        out, given = Path(folder) / "out", Path(folder) / "given" if reads else None
        out.mkdir()
        rows = [attempted(partial(told, request, given)) for request in requests]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows if not isinstance(row, SampleError)]
        if lines:
            prompts = Path(folder) / "prompts.jsonl"
            prompts.write_text("".join(lines), encoding="utf-8")
            model.run(prompts, out)
        made = read_clips(find_clips(out, requests[0].suite, model.config.get("pattern")), requests)
        return [row if isinstance(row, SampleError) else one for row, one in zip(rows, made)]


def told(request: Request, folder: Path | None) -> dict[str, Any]:
    """A command's prompt; with a folder, the earlier part's clip is written there and named by `given`."""
    from avbench.encode import write_clip

    row = prompt_row(request.sample, request.seed)
    if folder is not None:
        row["given"] = str(folder / f"{request.sample.id}.mp4")
        write_clip(Path(row["given"]), request.reference(request.sample.id))
    return row


def read_clips(files: Mapping[str, Any], requests: Sequence[Request]) -> list[Made]:
    """Decoded files of these samples."""
    from avbench.media import decode

    found: list[Made] = []
    for request in requests:
        file = files.get(request.sample.id)
        if file is None:
            found.append(SampleError("generate.none", "a part of the cascade made no clip of this sample"))
            continue
        found.append(attempted(partial(decode, file.main, file.audio if file.video is not None else None)))
    return found
