"""Flow matching on the straight path and v-prediction on the cosine path, on one clock: t = 0 clean, t = 1 noise."""

from __future__ import annotations

from math import log, pi
from typing import Protocol

import torch
from torch import Tensor


def like(t: Tensor, x: Tensor) -> Tensor:
    """t [B] with as many axes as x."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


class Path(Protocol):
    """x_t, what the network is asked for there, and how to move along with it. t and s are [B]."""

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor: ...
    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor: ...
    def clean(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor: ...
    def step(self, x: Tensor, v: Tensor, t: Tensor, s: Tensor) -> Tensor: ...


class LinearPath:
    """x_t = (1 - t) x0 + t eps, v = eps - x0 (rectified flow)."""

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        t = like(t, x0)
        return (1 - t) * x0 + t * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps - x0

    def clean(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        return x - like(t, x) * v

    def step(self, x: Tensor, v: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Euler from t to s."""
        return x + like(s - t, x) * v


class CosinePath:
    """x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps, v = cos eps - sin x0 (Stable Audio Open)."""

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        angle = like(t, x0) * (pi / 2)
        return angle.cos() * x0 + angle.sin() * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        angle = like(t, x0) * (pi / 2)
        return angle.cos() * eps - angle.sin() * x0

    def clean(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        angle = like(t, x) * (pi / 2)
        return angle.cos() * x - angle.sin() * v

    def step(self, x: Tensor, v: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The deterministic (DDIM) step from t to s: a rotation by the angle between them."""
        turn = like(t - s, x) * (pi / 2)
        return turn.cos() * x - turn.sin() * v


PATHS: dict[str, Path] = {"linear": LinearPath(), "cosine": CosinePath()}


def shift_t(u: Tensor, shift: float) -> Tensor:
    """Push times towards noise: s u / (1 + (s - 1) u)."""
    return shift * u / (1 + (shift - 1) * u)


def sigma_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Times 1 = t_0 > ... > t_steps = 0, float64 [steps + 1]: evenly spaced ones, shifted."""
    return torch.cat([shift_t(torch.linspace(1, 1 / steps, steps, dtype=torch.float64), shift), torch.zeros(1)])


def stable_audio_grid(steps: int, low: float = 0.3, high: float = 500.0) -> Tensor:
    """Stable Audio's times, float64 [steps + 1]: sigmas evenly spaced in their logarithm, t = 2 / pi atan(sigma), 0."""
    sigmas = torch.linspace(log(high), log(low), steps, dtype=torch.float64).exp()
    return torch.cat([sigmas.atan() * (2 / pi), torch.zeros(1)])


def sample_t(count: int, kind: str, shift: float, generator: torch.Generator) -> Tensor:
    """Training times [count]: "uniform" (then shifted), "logit_normal" (TangoFlux, JavisDiT), "sobol" (BridgeDiT)."""
    if kind == "uniform":
        u = torch.rand(count, generator=generator)
    elif kind == "logit_normal":
        u = torch.randn(count, generator=generator).sigmoid()
    elif kind == "sobol":
        seed = int(torch.randint(2**31, (1,), generator=generator))
        u = torch.quasirandom.SobolEngine(1, scramble=True, seed=seed).draw(count)[:, 0]
    else:
        raise ValueError(f"distribution of t {kind!r} is unknown; use uniform, logit_normal or sobol")
    return shift_t(u, shift)


def flow_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample, [B]."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)
