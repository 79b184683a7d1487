"""One sampling loop for all systems: from noise at t = 1 to latents at t = 0, video and audio on one clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.reference_models.common.conditioning import Conditions, JointPrediction
from avbench.reference_models.common.flow import PATHS, LinearPath, sigma_grid, stable_audio_grid
from avbench.reference_models.common.guidance import Denoiser, joint_cfg, sync_cfg

NOTHING = JointPrediction(None, None)
GRIDS = ("shared", "released")
GUIDANCE = ("cfg", "sync", "none")


@dataclass(frozen=True)
class SamplerSpec:
    """How to sample.

    steps: network evaluations. shift: of the grid, towards noise. s_v, s_a: guidance scales (1: none).
    guidance: "cfg" (both captions dropped at once), "sync" (Harmony's SyncCFG; "cfg" for one modality alone, which has
    no partner to be guided away from) or "none". grid: "shared", one clock for
    both modalities as in training; "released", BridgeDiT's code, whose audio follows Stable Audio's own times.
    """

    steps: int = 50
    shift: float = 5.0
    s_v: float = 5.0
    s_a: float = 4.5
    guidance: str = "cfg"
    grid: str = "shared"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.shift <= 0:
            raise ValueError(f"sampler: steps and shift must be positive, not {self.steps} and {self.shift}")
        if self.guidance not in GUIDANCE:
            raise ValueError(f"sampler: guidance {self.guidance!r} is unknown; use one of {', '.join(GUIDANCE)}")
        if self.grid not in GRIDS:
            raise ValueError(f"sampler: grid {self.grid!r} is unknown; use one of {', '.join(GRIDS)}")

    def times(self) -> tuple[Tensor, Tensor]:
        """Of video and of audio, float64 [steps + 1] each."""
        video = sigma_grid(self.steps, self.shift)
        return video, video if self.grid == "shared" else stable_audio_grid(self.steps)


@torch.no_grad()
def sample(
    model: Denoiser,
    cond: Conditions,
    null: Conditions,
    spec: SamplerSpec,
    eps_v: Tensor | None,
    eps_a: Tensor | None,
    audio_path: str = "linear",
    mute: Tensor | None = None,
    static: Tensor | None = None,
    given: JointPrediction = NOTHING,
    tell: Callable[[int], None] = lambda step: None,
) -> JointPrediction:
    """Latents from noise: eps_v [B, C, F, H, W], eps_a [B, L, C] or [B, C, T, M]; None for a modality that is not made.

    Equal eps_v with and without eps_a: that is how twins are compared. Euler on the straight path, the exact rotation
    on the cosine one. mute: latents of silence, for SyncCFG. static: latents of a still video for it; where None, the
    first latent frame of the current estimate, held. given: clean latents that drive the other modality; they stay as
    they are, at time 0 (audio-driven video, video-driven audio), and need no noise. tell: told of each step done.
    """
    paths = PATHS["linear"], PATHS[audio_path]
    x = [eps if clean is None else clean for clean, eps in zip(given, (eps_v, eps_a))]
    some = x[0] if x[0] is not None else x[1]
    if some is None or all(clean is not None for clean in given):
        raise ValueError("nothing to sample: give noise for at least one modality that is not given")
    sync = spec.guidance == "sync" and x[0] is not None and x[1] is not None
    if sync and mute is None:
        raise ValueError("SyncCFG needs the latents of silence")
    grids = [grid.to(some)[:, None].expand(-1, len(some)) for grid in spec.times()]
    last = None
    for step in range(spec.steps):
        now, then = ([grid[at] for grid in grids] for at in (step, step + 1))
        t_v, t_a = (None if one is None else t if clean is None else 0 * t for one, clean, t in zip(x, given, now))
        if sync:
            assert x[0] is not None and x[1] is not None and mute is not None and t_v is not None and t_a is not None
            still = static if static is not None else held_first(x[0], last, t_v, given.video is not None)
            out = sync_cfg(model, x[0], x[1], t_v, t_a, cond, mute, still, spec.s_v, spec.s_a)
        else:
            scales = (1.0, 1.0) if spec.guidance == "none" else (spec.s_v, spec.s_a)
            out = joint_cfg(model, x[0], x[1], t_v, t_a, cond, null, *scales)
        x = [
            one if one is None or v is None or clean is not None else path.step(one, v, t, s)
            for path, one, v, clean, t, s in zip(paths, x, out, given, now, then)
        ]
        last = out.video
        tell(step)
    return JointPrediction(x[0], x[1])


def held_first(x_v: Tensor, last: Tensor | None, t: Tensor, clean: bool = False) -> Tensor:
    """The first latent frame of the estimate of the clean video, repeated; of noise alone, a blank one."""
    if clean:
        return x_v[:, :, :1].expand_as(x_v)
    if last is None:
        return torch.zeros_like(x_v)
    return LinearPath().clean(x_v, last, t)[:, :, :1].expand_as(x_v)
