"""What a generator is conditioned on, and a text encoder that needs no weights."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

WORD = re.compile(r"[^\W_]+", re.UNICODE)


class JointPrediction(NamedTuple):
    """video: eps - x0, as x_v. audio: eps - x0 or the cosine path's v, as x_a. None where there is none."""

    video: Tensor | None
    audio: Tensor | None


@dataclass(frozen=True)
class Conditions:
    """Batch-first conditions; None where a system has no use for one.

    text_v [B, N, D_v], text_a [B, M, D_a]: token embeddings, zero where there is no token.
    mask_a [B, M]: True at tokens of text_a.
    seconds [B]: clip length. ref_a [B, L_r, C_a]: clean reference-audio latents, transcript [B, W, D_w]: embeddings of
    the spoken words (Harmony).
    look [B, T, D_l]: frame embeddings; sync [B, S, D_s]: synchrony features (VisioSonic, MMAudio).
    """

    text_v: Tensor | None = None
    text_a: Tensor | None = None
    mask_a: Tensor | None = None
    seconds: Tensor | None = None
    ref_a: Tensor | None = None
    transcript: Tensor | None = None
    look: Tensor | None = None
    sync: Tensor | None = None

    def to(self, device: torch.device) -> Conditions:
        return self.map(lambda x: x.to(device))

    def map(self, function: object) -> Conditions:
        """Apply to every tensor there is."""
        assert callable(function)
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return Conditions(**{name: None if x is None else function(x) for name, x in found.items()})

    def need(self, name: str) -> Tensor:
        """A field that this system cannot do without."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"Conditions.{name} is needed by this model and is not given")
        return value


def concat(parts: Sequence[Conditions]) -> Conditions:
    """Stack along the batch axis."""
    merged = {}
    for f in fields(Conditions):
        values = [getattr(part, f.name) for part in parts]
        present = [value for value in values if value is not None]
        if present and len(present) != len(values):
            raise ValueError(f"Conditions.{f.name} is given for some parts of the batch only")
        merged[f.name] = torch.cat(present) if present else None
    return Conditions(**merged)


def blanked(cond: Conditions, null: Conditions, video: Tensor, audio: Tensor) -> Conditions:
    """Replace what belongs to the video where `video` [B] is True, and to the audio where `audio` [B] is True."""

    def mix(name: str, where: Tensor) -> Tensor | None:
        value, empty = getattr(cond, name), getattr(null, name)
        if value is None:
            return None
        empty = torch.zeros_like(value) if empty is None else empty
        return torch.where(where.to(value.device).reshape(-1, *[1] * (value.ndim - 1)), empty, value)

    names = {"text_v": video, "look": video, "sync": video, "text_a": audio, "mask_a": audio, "transcript": audio}
    return replace(cond, **{name: mix(name, where) for name, where in names.items()})


class HashText:
    """Bag-of-words text embedding without weights: every word is a fixed normal vector drawn from its own name.

    Enough for the templated captions of small worlds. Every tower learns its own projection of it, so twins share
    nothing. `tokens`: words kept; `width`: of the vectors.
    """

    def __init__(self, width: int, tokens: int) -> None:
        self.width, self.tokens = width, tokens
        self._words: dict[str, np.ndarray] = {}

    def word(self, word: str) -> np.ndarray:
        """float32 [width], N(0, 1)."""
        if word not in self._words:
            rng = np.random.Generator(np.random.PCG64(zlib.crc32(word.encode())))
            self._words[word] = rng.standard_normal(self.width, dtype=np.float32)
        return self._words[word]

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> embeddings [B, tokens, width], zero after the last word, and mask [B, tokens]."""
        out = np.zeros((len(texts), self.tokens, self.width), np.float32)
        mask = np.zeros((len(texts), self.tokens), bool)
        for row, text in enumerate(texts):
            for column, word in enumerate(WORD.findall(text.lower())[: self.tokens]):
                out[row, column], mask[row, column] = self.word(word), True
        return torch.from_numpy(out), torch.from_numpy(mask)
