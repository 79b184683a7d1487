"""From clips to the numbers a model works on, and back. Imports no torch.

A codec is described by plain values (`{"kind": "pixels", ...}`), which a checkpoint keeps, so that what was trained can
be sampled. The small ones need no weights; the large ones are the published autoencoders, by diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from avbench.clip import Audio, Video
from avbench.errors import SampleError, UserError

TINY = 1e-8
LOUDEST = 0.89  # peak of a decoded sound at most, as in clatter: lossy codecs overshoot


class VideoCodec(Protocol):
    """encode: a video -> latents float32 [C, F, H, W]. decode: the reverse. frames, fps: of what it takes and gives."""

    @property
    def frames(self) -> int: ...
    @property
    def fps(self) -> Fraction: ...
    def encode(self, video: Video) -> np.ndarray: ...
    def decode(self, latents: np.ndarray) -> Video: ...


class AudioCodec(Protocol):
    """encode: audio -> latents float32 [L, C] or [C, T, M]. decode: the reverse."""

    @property
    def seconds(self) -> float: ...
    def encode(self, audio: Audio) -> np.ndarray: ...
    def decode(self, latents: np.ndarray) -> Audio: ...


def sampled(video: Video, frames: int, fps: Fraction, width: int, height: int) -> np.ndarray:
    """uint8 [frames, height, width, 3]: the frame shown at each k / fps, scaled to cover the size and cropped to it."""
    wanted = np.arange(frames) / float(fps)
    if wanted[-1] > float(video.times[-1]) + 1.5 / float(video.fps):
        raise SampleError("codec.short", f"{frames} frames at {fps} per second are longer than the clip")
    index = np.searchsorted(video.times, wanted + 1e-6, side="right") - 1
    pictures = video.frames[np.clip(index, 0, None)]
    if pictures.shape[1:3] == (height, width):
        return pictures
    import cv2

    scale = max(width / pictures.shape[2], height / pictures.shape[1])
    size = max(width, round(pictures.shape[2] * scale)), max(height, round(pictures.shape[1] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    large = np.stack([cv2.resize(picture, size, interpolation=how) for picture in pictures])
    top, left = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
    return large[:, top : top + height, left : left + width]


def resampled(audio: Audio, rate: int, samples: int) -> np.ndarray:
    """float32 [C, samples] at `rate`; short audio is filled with silence."""
    sound = audio.samples
    if audio.rate != rate:
        import soxr

        sound = soxr.resample(sound.T, audio.rate, rate, quality="HQ").T
    sound = sound[:, :samples]
    return np.pad(sound, ((0, 0), (0, samples - sound.shape[1]))).astype(np.float32)


@dataclass(frozen=True)
class Pixels:
    """Pixels themselves, centred and scaled to about unit variance: [channels, frames, height, width].

    channels: 1 (grey) or 3. mean, std: of pixels in -1 ... 1. show: decoded pixels become squares of this many, so that
    players and metrics with a least size take them; area averaging gives the pixels back.
    """

    frames: int = 16
    fps: Fraction = Fraction(8)
    width: int = 16
    height: int = 16
    channels: int = 1
    mean: float = -0.6
    std: float = 0.4
    show: int = 8

    def encode(self, video: Video) -> np.ndarray:
        pictures = sampled(video, self.frames, self.fps, self.width, self.height).astype(np.float32)
        if self.channels == 1:
            pictures = pictures @ np.array([[0.299], [0.587], [0.114]], np.float32)
        scaled = (pictures / 127.5 - 1 - self.mean) / self.std
        return np.ascontiguousarray(scaled.transpose(3, 0, 1, 2), dtype=np.float32)

    def decode(self, latents: np.ndarray) -> Video:
        pictures = (latents.transpose(1, 2, 3, 0) * self.std + self.mean + 1) * 127.5
        pixels = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        pixels = np.repeat(pixels, 3 // self.channels, axis=3).repeat(self.show, axis=1).repeat(self.show, axis=2)
        return Video(pixels, np.arange(self.frames) / float(self.fps), self.fps)


def silence(seconds: float, rate: int = 16000) -> Audio:
    """Digital silence."""
    return Audio(np.zeros((1, round(seconds * rate)), np.float32), rate)


def mel_filters(rate: int, fft: int, bands: int, low: float) -> np.ndarray:
    """Triangles of height 1 with equal steps on the mel scale (HTK), float64 [bands, fft / 2 + 1]."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + low / 700), top, bands + 2) / 2595) - 1)
    f = np.linspace(0, rate / 2, fft // 2 + 1)
    rise = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rise, fall), 0, None)


@dataclass(frozen=True)
class LogMel:
    """Log magnitude in mel bands, one token per hop: [L, bands].

    hop: samples; the window is twice as long and centred on the middle of its hop. floor: magnitude that counts as
    silence. mean, std: of the log. Decoding spreads a band over its bins and finds phases by Griffin and Lim's
    iteration (1984) from fixed random ones: timbre is coarse, moments and loudness are kept.
    """

    rate: int = 8000
    frames: int = 64
    hop: int = 250
    bands: int = 16
    low: float = 60.0
    floor: float = 0.1
    mean: float = 0.0
    std: float = 2.0
    iterations: int = 32

    @property
    def seconds(self) -> float:
        return self.frames * self.hop / self.rate

    @property
    def fft(self) -> int:
        """Transform length: the next power of two above the window."""
        return 1 << (2 * self.hop - 1).bit_length()

    @cached_property
    def filters(self) -> np.ndarray:
        return mel_filters(self.rate, self.fft, self.bands, self.low)

    @cached_property
    def window(self) -> np.ndarray:
        """Periodic Hann, float64 [2 hop]: at this overlap it adds up to 1."""
        return 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * self.hop) / self.hop)

    def analyse(self, sound: np.ndarray) -> np.ndarray:
        """Spectra of samples [frames x hop], complex [frames, bins]."""
        padded = np.pad(sound.astype(np.float64), (self.hop // 2, 2 * self.hop))
        at = np.arange(self.frames)[:, None] * self.hop + np.arange(2 * self.hop)
        return np.fft.rfft(padded[at] * self.window, self.fft)

    def synthesise(self, spectra: np.ndarray) -> np.ndarray:
        """Samples whose spectra are nearest: windowed overlap and add."""
        pieces = np.fft.irfft(spectra, self.fft)[:, : 2 * self.hop] * self.window
        sound, weight = np.zeros((2, (self.frames + 3) * self.hop))
        for k, piece in enumerate(pieces):
            sound[k * self.hop : (k + 2) * self.hop] += piece
            weight[k * self.hop : (k + 2) * self.hop] += self.window**2
        begin = self.hop // 2
        return (sound / np.maximum(weight, 1e-3))[begin : begin + self.frames * self.hop]

    def encode(self, audio: Audio) -> np.ndarray:
        sound = resampled(audio, self.rate, self.frames * self.hop).mean(0)
        mel = np.abs(self.analyse(sound)) @ self.filters.T
        return ((np.log(np.maximum(mel, self.floor)) - self.mean) / self.std).astype(np.float32)

    def decode(self, latents: np.ndarray) -> Audio:
        mel = np.exp(latents.reshape(self.frames, self.bands).astype(np.float64) * self.std + self.mean)
        mel = np.where(mel > 1.05 * self.floor, mel, 0.0)
        # least energy that gives these bands: bins in two bands get from both
        gram = self.filters @ self.filters.T
        size = np.clip(mel @ np.linalg.solve(gram, self.filters), 0, None)
        phase = np.exp(2j * np.pi * np.random.default_rng(0).random(size.shape))
        for _ in range(self.iterations):
            spectra = self.analyse(self.synthesise(size * phase))
            phase = spectra / np.maximum(np.abs(spectra), TINY)
        sound = self.synthesise(size * phase)
        sound *= LOUDEST / max(LOUDEST, float(np.abs(sound).max()))
        return Audio(sound[None].astype(np.float32), self.rate)


@dataclass(frozen=True)
class Autoencoder:
    """A published autoencoder of diffusers, frozen. `repo`: of the hub, or a folder; `folder`: within it."""

    repo: str
    folder: str = "vae"
    device: str = "cpu"

    def load(self, name: str) -> Any:
        """The module (a diffusers class of this name), in evaluation mode."""
        import diffusers

        found = getattr(diffusers, name).from_pretrained(self.repo, subfolder=self.folder or None)
        return found.requires_grad_(False).eval().to(self.device)


@dataclass(frozen=True)
class WanLatents(Autoencoder):
    """Wan's causal video autoencoder; latents are normalised by the means and deviations of its configuration."""

    frames: int = 49
    fps: Fraction = Fraction(24)
    width: int = 320
    height: int = 192

    @cached_property
    def vae(self) -> Any:
        return self.load("AutoencoderKLWan")

    @property
    def scale(self) -> tuple[Any, Any]:
        """Mean and deviation, [C, 1, 1, 1]."""
        import torch

        names = self.vae.config.latents_mean, self.vae.config.latents_std
        mean, std = (torch.tensor(x, device=self.device).reshape(-1, 1, 1, 1) for x in names)
        return mean, std

    def encode(self, video: Video) -> np.ndarray:
        import torch

        pictures = sampled(video, self.frames, self.fps, self.width, self.height)
        x = torch.from_numpy(pictures).to(self.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.no_grad():
            latents = self.vae.encode(x).latent_dist.mode()[0]
        mean, std = self.scale
        found: np.ndarray = ((latents - mean) / std).cpu().numpy()
        return found

    def decode(self, latents: np.ndarray) -> Video:
        import torch

        mean, std = self.scale
        with torch.no_grad():
            x = self.vae.decode((torch.from_numpy(latents).to(self.device) * std + mean)[None]).sample[0]
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()
        return Video(pixels, np.arange(len(pixels)) / float(self.fps), self.fps)


@dataclass(frozen=True)
class OobleckLatents(Autoencoder):
    """Stable Audio's autoencoder of waveforms (TangoFlux, Stable Audio Open): stereo, unscaled, [L, C]."""

    length: float = 2.0

    @property
    def seconds(self) -> float:
        return self.length

    @cached_property
    def vae(self) -> Any:
        return self.load("AutoencoderOobleck")

    def encode(self, audio: Audio) -> np.ndarray:
        import torch

        rate, hop = self.vae.config.sampling_rate, self.vae.hop_length
        sound = resampled(audio, rate, int(self.length * rate) // hop * hop)
        stereo = np.repeat(sound, 2, axis=0)[:2] if len(sound) == 1 else sound[:2]
        with torch.no_grad():
            latents = self.vae.encode(torch.from_numpy(stereo)[None].to(self.device)).latent_dist.mode()
        found: np.ndarray = latents[0].T.cpu().numpy()
        return found

    def decode(self, latents: np.ndarray) -> Audio:
        import torch

        with torch.no_grad():
            sound = self.vae.decode(torch.from_numpy(latents.T.copy())[None].to(self.device)).sample[0]
        return Audio(sound.clamp(-1, 1).cpu().numpy(), self.vae.config.sampling_rate)


@dataclass(frozen=True)
class AudioLDM2Latents(Autoencoder):
    """AudioLDM2's mel autoencoder and vocoder (JavisDiT++): 16 kHz, 64 bands, latents [C, T, M] times its factor.

    length: seconds; the mel is padded with silence to a multiple of 32 frames of 10 ms. vocoder: its folder.
    """

    length: float = 4.0
    vocoder: str = "vocoder"
    rate: int = 16000

    @property
    def seconds(self) -> float:
        return self.length

    @cached_property
    def vae(self) -> Any:
        return self.load("AutoencoderKL")

    @cached_property
    def voice(self) -> Any:
        from transformers import SpeechT5HifiGan

        found = SpeechT5HifiGan.from_pretrained(self.repo, subfolder=self.vocoder or None)
        return found.requires_grad_(False).eval().to(self.device)

    @property
    def frames(self) -> int:
        return -(-int(100 * self.length) // 32) * 32

    def mel(self, sound: np.ndarray) -> np.ndarray:
        """Natural log of Slaney-normalised mel magnitudes at least 1e-5, float32 [frames, 64] (TacotronSTFT's)."""
        import librosa

        size = np.abs(librosa.stft(sound, n_fft=1024, hop_length=160, win_length=1024, pad_mode="reflect"))
        filters = librosa.filters.mel(sr=self.rate, n_fft=1024, n_mels=64, fmin=0, fmax=8000)
        logs: np.ndarray = np.log(np.maximum(filters @ size, 1e-5)).T.astype(np.float32)
        logs = logs[: self.frames]
        return np.pad(logs, ((0, self.frames - len(logs)), (0, 0)), constant_values=np.log(1e-5))

    def encode(self, audio: Audio) -> np.ndarray:
        import torch

        mel = self.mel(resampled(audio, self.rate, int(self.length * self.rate)).mean(0))
        with torch.no_grad():
            latents = self.vae.encode(torch.from_numpy(mel)[None, None].to(self.device)).latent_dist.mode()[0]
        found: np.ndarray = (latents * self.vae.config.scaling_factor).cpu().numpy()
        return found

    def decode(self, latents: np.ndarray) -> Audio:
        import torch

        with torch.no_grad():
            x = torch.from_numpy(latents)[None].to(self.device) / self.vae.config.scaling_factor
            sound = self.voice(self.vae.decode(x).sample[:, 0])[0]
        return Audio(sound.clamp(-1, 1).cpu().numpy()[None, : int(self.length * self.rate)], self.rate)


VIDEO: dict[str, Callable[..., VideoCodec]] = {"pixels": Pixels, "wan": WanLatents}
AUDIO: dict[str, Callable[..., AudioCodec]] = {
    "log-mel": LogMel,
    "oobleck": OobleckLatents,
    "audioldm2": AudioLDM2Latents,
}


def video_codec(description: Mapping[str, Any], device: str = "cpu") -> VideoCodec:
    """A codec by its description: `kind` and the fields of its class."""
    return _codec(VIDEO, "video", description, device)


def audio_codec(description: Mapping[str, Any], device: str = "cpu") -> AudioCodec:
    """A codec by its description: `kind` and the fields of its class."""
    return _codec(AUDIO, "audio", description, device)


def _codec(known: Mapping[str, Callable[..., Any]], side: str, description: Mapping[str, Any], device: str) -> Any:
    fields = dict(description)
    kind = fields.pop("kind", None)
    if kind not in known:
        raise UserError(f"{side} codec {kind!r} is unknown; use one of {', '.join(known)}")
    if "fps" in fields:
        fields["fps"] = Fraction(str(fields["fps"]))
    if issubclass(known[kind], Autoencoder):  # type: ignore[arg-type]
        fields["device"] = device
    try:
        return known[kind](**fields)
    except TypeError as error:
        raise UserError(f"{side} codec {kind}: {error}") from None
