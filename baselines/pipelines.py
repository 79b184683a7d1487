"""Pipelines of diffusers as generators: a model, or a part of a cascade, with published weights. Imports no torch.

[models.wan]
kind = "python"
entry = "avbench.baselines.pipelines:Pipeline"
args = { kind = "wan", repo = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", options = { num_frames = 81 }, fps = 16 }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.errors import MissingResource, UserError
from avbench.generator import Request

Read = Callable[[Any, Any, Fraction], Clip]


def as_video(frames: Any, fps: Fraction) -> Video:
    """Frames [T, H, W, 3] in 0 ... 1 -> a video."""
    pixels = np.clip(np.rint(np.asarray(frames, np.float32) * 255), 0, 255).astype(np.uint8)
    return Video(pixels, np.arange(len(pixels)) / float(fps), fps)


def as_audio(samples: Any, rate: int) -> Audio:
    """Samples [N] or [C, N] of numpy or torch -> a sound within full scale."""
    array = np.atleast_2d(np.asarray(samples.float().cpu() if hasattr(samples, "cpu") else samples, np.float32))
    return Audio(np.clip(array, -1, 1), int(rate))


def read_video(out: Any, pipe: Any, fps: Fraction) -> Clip:
    return Clip(as_video(out.frames[0], fps))


def read_stable_audio(out: Any, pipe: Any, fps: Fraction) -> Clip:
    return Clip(audio=as_audio(out.audios[0], pipe.vae.config.sampling_rate))


def read_audioldm2(out: Any, pipe: Any, fps: Fraction) -> Clip:
    return Clip(audio=as_audio(out.audios[0], pipe.vocoder.config.sampling_rate))


def read_ltx2(out: Any, pipe: Any, fps: Fraction) -> Clip:
    return Clip(as_video(out.frames[0], fps), as_audio(out.audio[0], pipe.vocoder.config.output_sampling_rate))


@dataclass(frozen=True)
class Kind:
    """How a pipeline is asked and read.

    cls: of diffusers. repo: its published weights. text: field of the sample it reads. seconds, rate: the argument that
    takes the clip's length, and the one that takes its frame rate ("" where there is none). fps: of its videos.
    """

    cls: str
    repo: str
    text: str
    read: Read
    seconds: str = ""
    rate: str = ""
    fps: int = 16
    fixed: Mapping[str, Any] = field(default_factory=dict)


KINDS = {
    "wan": Kind(
        "WanPipeline", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "video_text", read_video, fixed={"output_type": "np"}
    ),
    "stable-audio": Kind(
        "StableAudioPipeline", "stabilityai/stable-audio-open-1.0", "audio_text", read_stable_audio, "audio_end_in_s"
    ),
    "audioldm2": Kind("AudioLDM2Pipeline", "cvssp/audioldm2", "audio_text", read_audioldm2, "audio_length_in_s"),
    "ltx-2": Kind(
        "LTX2Pipeline", "Lightricks/LTX-2", "text", read_ltx2, "", "frame_rate", 24, fixed={"output_type": "np"}
    ),
}


@dataclass(frozen=True)
class Pipeline:
    """A generator from one diffusers pipeline.

    kind: a key of `KINDS`. repo: a hub repository or a folder in diffusers' layout; the published one if empty.
    options: further arguments of the pipeline's call (steps, guidance, size, number of frames, negative prompt).
    seconds: length of sounds; of the clip that a cascade gives, where it gives one. fps: of videos; 0: the model's own.
    dtype: of the weights. offload: keep on the device only the part that works.
    """

    kind: str
    repo: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 5.0
    fps: float = 0
    device: str = "auto"
    dtype: str = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"pipeline kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")

    @property
    def recipe(self) -> Kind:
        return KINDS[self.kind]

    @cached_property
    def pipe(self) -> Any:
        """The loaded pipeline. `MissingResource` where weights or a package are not at hand."""
        import diffusers
        import torch

        repo = self.repo or self.recipe.repo
        try:
            pipe = getattr(diffusers, self.recipe.cls).from_pretrained(repo, torch_dtype=getattr(torch, self.dtype))
        except (OSError, ImportError, ValueError, AttributeError) as error:
            raise MissingResource(f"pipeline {self.kind}: cannot load {repo}: {error}") from None
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        pipe.set_progress_bar_config(disable=True)
        if self.offload:
            pipe.enable_model_cpu_offload(device=device)
            return pipe
        return pipe.to(device)

    def generate(self, requests: Sequence[Request]) -> Iterator[Clip]:
        """One clip per request; noise is drawn on the CPU from the sample's seed, so devices agree on it."""
        import torch

        fps = Fraction(self.fps or self.recipe.fps).limit_denominator(1001)
        for request in requests:
            asked = {
                "prompt": request.sample.get(self.recipe.text),
                "generator": torch.Generator("cpu").manual_seed(request.seed),
                **self.recipe.fixed,
                **self.options,
            }
            if self.recipe.seconds:
                asked[self.recipe.seconds] = self.seconds
            if self.recipe.rate:
                asked[self.recipe.rate] = float(fps)
            yield self.recipe.read(self.pipe(**asked), self.pipe, fps)
