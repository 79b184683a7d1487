"""Where latents lie in time."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor


@dataclass(frozen=True)
class LatentClock:
    """Video latents of a temporal autoencoder beside a 1-D audio latent.

    fps: frames per second. frames: of the clip. audio_hz: audio latents per second. vae_t: frames per video latent;
    a causal autoencoder (Wan) puts the first frame alone into the first latent.
    """

    fps: float
    frames: int
    audio_hz: float
    vae_t: int = 4

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def video_latents(self) -> int:
        return 1 + (self.frames - 1) // self.vae_t

    @property
    def audio_latents(self) -> int:
        return floor(self.seconds * self.audio_hz)

    @property
    def tau(self) -> float:
        """Audio latents per video latent, by rate."""
        return self.vae_t / self.fps * self.audio_hz

    @property
    def tau_count(self) -> float:
        """Audio latents per video latent, by count; smaller than `tau`, for the first latent holds one frame."""
        return self.audio_latents / self.video_latents

    @property
    def causal_phase(self) -> float:
        """Video latents to add to p / tau so that an audio latent meets the video latent with its own centre.

        Video latent k >= 1 holds frames vae_t k - (vae_t - 1) ... vae_t k, whose centre in seconds is
        (vae_t k - (vae_t - 2) / 2) / fps; audio latent p is centred at (p + 1/2) / audio_hz.
        """
        return 0.5 / self.tau + (self.vae_t - 2) / (2 * self.vae_t)

    def causal_index(self, seconds: float) -> int:
        """The video latent that holds this moment."""
        return ceil(floor(seconds * self.fps) / self.vae_t)
