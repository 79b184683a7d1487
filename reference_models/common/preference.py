"""Direct preference optimisation of flow models, and how pairs are mined.

AV-DPO: JavisDiT++ (arXiv 2602.19163). STAR-DPO: VisioSonic (CVPR 2026 supplement).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.common.flow import PATHS, flow_loss
from avbench.reference_models.common.guidance import Denoiser

# which metrics judge which modality; "desync" is better when low
AV_DPO_METRICS = {
    "video": ("visual_quality", "motion_quality", "tv_ib"),
    "audio": ("audiobox", "ta_ib"),
    "av": ("av_ib", "-desync"),
}


class Preference(NamedTuple):
    """Flow losses of one modality, [B] each, at shared noise and time: policy and reference, on winner and loser."""

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor
    reference_l: Tensor

    @property
    def gap(self) -> Tensor:
        """[policy(w) - policy(l)] - [reference(w) - reference(l)]: below 0 where the policy prefers the winner more."""
        return (self.policy_w - self.policy_l) - (self.reference_w - self.reference_l)

    @property
    def accuracy(self) -> Tensor:
        """Share of pairs that the policy ranks better than the reference does."""
        return (self.gap < 0).float().mean()


def av_dpo_loss(
    pairs: Mapping[str, Preference],
    beta: Mapping[str, float],
    coupling: str = "separate",
    half: bool = True,
    flow_weight: float = 0.1,
) -> Tensor:
    """Audio-video DPO.

    coupling "separate" (released): sum over modalities of -log sigmoid(-0.5 beta gap) + flow_weight L(winner).
    coupling "joint" (paper, with half=False, flow_weight=0): -log sigmoid(-sum beta gap). `half`: the factor 0.5.
    At the start, where the policy is the reference: log 2 ("joint"); log 2 per modality + the flow term ("separate").
    """
    factor = 0.5 if half else 1.0
    scores = [-factor * beta[name] * pair.gap for name, pair in pairs.items()]
    if coupling == "joint":
        loss = -logsigmoid(torch.stack(scores).sum(0)).mean()
    elif coupling == "separate":
        loss = -torch.stack([logsigmoid(score).mean() for score in scores]).sum()
    else:
        raise ValueError(f"coupling {coupling!r} is unknown; use joint (paper) or separate (released)")
    if not flow_weight:
        return loss
    return loss + flow_weight * torch.stack([pair.policy_w.mean() for pair in pairs.values()]).sum()


Latents = tuple[Tensor, Tensor]


def flow_losses(
    model: Denoiser, clean: Latents, noise: Latents, t: Tensor, cond: Conditions, audio_path: str = "linear"
) -> dict[str, Tensor]:
    """Squared velocity errors {"video": [B], "audio": [B]} of clean (video, audio) latents noised to t."""
    paths = PATHS["linear"], PATHS[audio_path]
    x_v, x_a = (path.noised(x, eps, t) for path, x, eps in zip(paths, clean, noise))
    out = model(x_v, x_a, t, t, cond)
    targets = (path.target(x, eps, t) for path, x, eps in zip(paths, clean, noise))
    triples = zip(("video", "audio"), out, targets)
    return {name: flow_loss(v, target) for name, v, target in triples if v is not None}


def preferences(
    model: Denoiser,
    winner: Latents,
    loser: Latents,
    noise: Latents,
    t: Tensor,
    cond: Conditions,
    reference: Denoiser | None = None,
    as_reference: Callable[[], AbstractContextManager[None]] = nullcontext,
    audio_path: str = "linear",
) -> dict[str, Preference]:
    """Flow losses of policy and reference on pairs that share caption, noise and time, as `av_dpo_loss` wants them.

    reference: a frozen model; None: the policy itself inside `as_reference()`, such as `lora.silenced`.
    """
    policy = [flow_losses(model, side, noise, t, cond, audio_path) for side in (winner, loser)]
    with torch.no_grad(), as_reference():
        fixed = [flow_losses(reference or model, side, noise, t, cond, audio_path) for side in (winner, loser)]
    return {name: Preference(*(losses[name] for losses in (*policy, *fixed))) for name in policy[0]}


def star_dpo_loss(pair: Preference, beta: float = 2000.0, half: bool = True) -> Tensor:
    """-log sigmoid(-beta gap) + the winner's flow loss. The supplement gives no beta; TangoFlux has 2000 with 0.5."""
    return -logsigmoid(-(0.5 if half else 1.0) * beta * pair.gap).mean() + pair.policy_w.mean()


def zscore(x: np.ndarray) -> np.ndarray:
    """Centre and scale over the whole pool; a metric that never varies counts for nothing."""
    x = np.asarray(x, np.float64)
    spread = x.std()
    return (x - x.mean()) / spread if spread > 0 else np.zeros_like(x)


def modality_scores(
    pool: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]] = AV_DPO_METRICS,
    mode: str = "micro",
    normalise: bool = True,
) -> dict[str, np.ndarray]:
    """pool: metric -> [P, K], prompts by candidates -> modality -> [P, K].

    Every metric is normalised over all prompts and candidates unless told otherwise; "-name" turns its sign. mode
    "micro": mean of these; "macro": mean of ranks among a prompt's candidates.
    """
    if mode not in ("micro", "macro"):
        raise ValueError(f"ranking mode {mode!r} is unknown; use micro or macro")
    found = {}
    for modality, metrics in groups.items():
        scaled = zscore if normalise else np.asarray
        parts = [(-1 if m.startswith("-") else 1) * scaled(pool[m.removeprefix("-")]) for m in metrics]
        if mode == "macro":
            parts = [part.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").astype(float) for part in parts]
        found[modality] = np.mean(parts, axis=0)
    return found


# the paper's Table 4: by what the pairs of AV-DPO are chosen. "modality": a winner leads in video, in audio and in both
# together; "average": over all metrics at once. The last two take something away from modality-micro.
REWARDS: dict[str, Mapping[str, bool | str]] = {
    "modality-micro": {},
    "modality-macro": {"mode": "macro"},
    "average-micro": {"by_modality": False},
    "average-macro": {"by_modality": False, "mode": "macro"},
    "without-normalisation": {"normalise": False},
    "without-ground-truth": {"ground_truth": False},
}


def av_dpo_pairs(
    pool: Mapping[str, np.ndarray],
    strategy: str = "modality-micro",
    groups: Mapping[str, Sequence[str]] = AV_DPO_METRICS,
) -> list[tuple[int, int, int]]:
    """(prompt, winner, loser) by a reward of Table 4 from a pool metric -> [P, K], the ground truth its last candidate.

    A prompt gives one pair or none. Released: modality-micro.
    """
    if strategy not in REWARDS:
        raise ValueError(f"reward {strategy!r} is unknown; use one of {', '.join(REWARDS)}")
    choice = {"by_modality": True, "mode": "micro", "normalise": True, "ground_truth": True, **REWARDS[strategy]}
    if not choice["by_modality"]:
        groups = {"all": [metric for metrics in groups.values() for metric in metrics]}
    if not choice["ground_truth"]:
        pool = {name: np.asarray(values)[:, :-1] for name, values in pool.items()}
    return pareto_pairs(modality_scores(pool, groups, str(choice["mode"]), bool(choice["normalise"])))


def pareto_pairs(scores: Mapping[str, np.ndarray]) -> list[tuple[int, int, int]]:
    """(prompt, winner, loser): the pair with the widest summed gap among those whose winner leads on every modality.

    scores: modality -> [P, K]. Prompts without such a pair are dropped; ties go to the first pair.
    """
    stack = np.stack(list(scores.values()))
    gaps = stack[:, :, :, None] - stack[:, :, None, :]
    total = np.where((gaps > 0).all(0), gaps.sum(0), -np.inf)
    found = []
    for prompt, table in enumerate(total):
        if np.isfinite(table).any():
            winner, loser = np.unravel_index(int(table.argmax()), table.shape)
            found.append((prompt, int(winner), int(loser)))
    return found


def star_pairs(
    semantic: np.ndarray, temporal: np.ndarray, ratio: tuple[float, float] = (1, 1)
) -> list[tuple[int, int, int]]:
    """(prompt, best, worst) of N candidates by ratio-weighted ImageBind and synchrony rewards, [P, N], high is good.

    Rewards are normalised over the whole pool (the supplement does not say over what). Ties go to the first candidate;
    a prompt whose candidates all tie is dropped.
    """
    reward = ratio[0] * zscore(semantic) + ratio[1] * zscore(temporal)
    pairs = [(i, int(row.argmax()), int(row.argmin())) for i, row in enumerate(reward)]
    return [pair for pair in pairs if pair[1] != pair[2]]
