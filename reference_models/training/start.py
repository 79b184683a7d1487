"""Weights to begin with: public towers through diffusers, or a checkpoint of this trainer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from avbench.errors import MissingResource, UserError
from avbench.reference_models.training.checkpoint import load_weights
from avbench.reference_models.training.config import Pretrained, is_video


def begin_from(model: nn.Module, start: Pretrained) -> None:
    """Fill a fresh model in place.

    Raises `MissingResource` where weights are not at hand, `UserError` where they do not fit.
    """
    for name, repo in (("video", start.video), ("audio", start.audio)):
        if repo:
            fill_tower(model, name, repo, start.folder)
    if start.checkpoint:
        load_weights(model, Path(start.checkpoint), is_video)


def fill_tower(model: nn.Module, name: str, repo: str, folder: str) -> None:
    """A tower from a repository in diffusers' layout: its own class, `from_pretrained`, every key."""
    tower = getattr(model, name, None)
    if not hasattr(tower, "from_pretrained"):
        raise UserError(f"start.{name}: {type(model).__name__} has no {name} tower of diffusers")
    assert isinstance(tower, nn.Module)
    try:
        found = type(tower).from_pretrained(repo, subfolder=folder or None)  # type: ignore[attr-defined]
    except OSError as error:
        raise MissingResource(f"start.{name}: {repo}: {error}") from None
    try:
        tower.load_state_dict(found.state_dict())
    except RuntimeError as error:
        raise UserError(f"start.{name}: {repo} does not fit {type(model).__name__}: {error}") from None
