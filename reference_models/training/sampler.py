"""From a checkpoint folder and captions to clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from avbench.clip import Clip, Video
from avbench.errors import UserError
from avbench.reference_models.catalogue import SYSTEMS, build, parse
from avbench.reference_models.codecs import audio_codec, silence, video_codec
from avbench.reference_models.common.sampling import SamplerSpec, sample
from avbench.reference_models.common.streams import generator
from avbench.reference_models.training.checkpoint import load_weights, read_config
from avbench.reference_models.training.conditions import Conditioner, as_model, shown, watches
from avbench.reference_models.training.config import Config, is_video

SMALL = {"steps": 25, "shift": 1.0, "s_v": 2.0, "s_a": 2.0}
"""Of models without an autoencoder: fewer steps, weak guidance, an even grid."""


def pick_device(name: str) -> torch.device:
    """Resolve "auto"."""
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)


def sampler_spec(config: Config, changes: Mapping[str, Any]) -> SamplerSpec:
    """The system's defaults, those of its size, the checkpoint's and the caller's, in this order."""
    name = parse(config.model)
    system = SYSTEMS[name.system]
    small = {} if name.size == "paper" else {**SMALL, **system.tiny_sampler}
    chosen = {**system.sampler, **small, **config.sampler, **changes}
    known = {field.name for field in fields(SamplerSpec)}
    if unknown := set(chosen) - known:
        raise UserError(f"sampler: unknown {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    try:
        return SamplerSpec(**chosen)
    except ValueError as error:
        raise UserError(str(error)) from None


class Watched(NamedTuple):
    """A video that a model which only makes sound is shown: as long as the model's clips, and its latents."""

    video: Video
    latents: np.ndarray


class Sampler:
    """A loaded checkpoint: `clips(rows, seeds)`."""

    def __init__(self, folder: Path, changes: Mapping[str, Any], device: str) -> None:
        self.config = config = read_config(folder)
        self.spec = sampler_spec(config, changes)
        self.device = pick_device(device)
        self.model = build(config.model, config.seed, **config.settings)
        load_weights(self.model, folder, lambda name: config.choice.audio or is_video(name))
        self.model.to(self.device).eval()
        one_prompt = bool(getattr(self.model, "one_prompt", False))
        self.conditioner = Conditioner(config.text_v, config.text_a, config.choice, one_prompt, self.device)
        self.video = video_codec(config.data.video, str(self.device))
        self.audio = audio_codec(config.data.audio, str(self.device))
        self.watches = watches(self.model)
        self.layout = str(getattr(self.model, "audio_layout", "tokens"))

    @cached_property
    def mute(self) -> np.ndarray:
        """Latents of silence; also how the shape of audio latents is known."""
        return self.audio.encode(silence(self.audio.seconds))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of video latents: of a black clip's."""
        return black(self.video).shape

    def watch(self, video: Video) -> Watched:
        """What a model that only makes sound is shown; `SampleError` where the video is too short."""
        return Watched(cut(video, self.audio.seconds), self.video.encode(video))

    def clips(
        self, rows: Sequence[Mapping[str, str]], seeds: Sequence[int], watched: Sequence[Watched] = ()
    ) -> list[Clip]:
        """One clip per row of captions. Each seed decides the noise of its clip, the video's apart from the audio's.

        watched: for a model that only makes sound, what it is shown; its clips are these videos with their new sound.
        """
        seconds, heard = self.audio.seconds, self.config.choice.audio
        cond, null = self.conditioner(rows, seconds), self.conditioner.null(len(rows), seconds)
        mute = self.stack([as_model(self.mute[None], self.layout)[0]] * len(rows)) if heard else None
        if self.watches:
            cond, null = shown(cond, null, self.stack([one.latents for one in watched]))
        eps_v = None if self.watches else self.noise(seeds, "eps_v", self.shape)
        eps_a = self.noise(seeds, "eps_a", tuple(mute.shape[1:])) if mute is not None else None
        path = str(getattr(self.model, "audio_path", "linear"))
        isolate = self.config.choice.isolate

        out = sample(partial(self.model, isolate=isolate), cond, null, self.spec, eps_v, eps_a, path, mute)
        if out.video is None:
            videos = [one.video for one in watched]
        else:
            videos = [self.video.decode(x) for x in out.video.float().cpu().numpy()]
        if out.audio is None:
            return [Clip(video) for video in videos]
        sounds = [self.audio.decode(x) for x in out.audio.float().cpu().numpy()]
        return [Clip(video, sound) for video, sound in zip(videos, sounds)]

    def stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)

    def noise(self, seeds: Sequence[int], stream: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, drawn on the CPU."""
        return torch.stack([torch.randn(shape, generator=generator(seed, stream)) for seed in seeds]).to(self.device)


def cut(video: Video, seconds: float) -> Video:
    """The first seconds of a video."""
    kept = max(1, int((video.times < seconds - 1e-6).sum()))
    return Video(video.frames[:kept], video.times[:kept], video.fps)


def black(codec: Any) -> np.ndarray:
    """Latents of a black video."""
    frames = np.zeros((codec.frames, codec.height, codec.width, 3), np.uint8)
    found: np.ndarray = codec.encode(Video(frames, np.arange(codec.frames) / float(codec.fps), codec.fps))
    return found
