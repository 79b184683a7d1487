"""What metrics declare: views (recipes from a clip to tensors), encoders (frozen networks) and features (both).

This module is imported by every metric file and imports no torch.

View
    A frozen dataclass with `__call__(self, clip) -> np.ndarray` whose first axis counts *items* (frames, windows,
    segments). It must be deterministic; its `repr` together with its `version` is its identity. Views return compact
    arrays (uint8 frames, float32 waveforms or mels); normalisation by constants belongs to the encoder, on the device.
    A view raises `NotApplicable` or `SampleError` where the clip cannot give it, never returns an empty array. One that
    is cut from other features (a head over segment features, a face track) names them in `requires` and is called as
    `view(clip, *features)`; one that needs no pixels or samples says `media = frozenset()` and gets `clip=None`.
    One that depends on texts of the sample names them in `fields` and is called as `view(clip, *features, *texts)`;
    `Text(field)` is the view of a prompt.

Encoder
    A frozen network named by a lazy `"module:function"`. The function is called once as `function(context)`
    and returns a callable from a batch of items (a torch tensor on `context.device`, first axis = items of one or
    several clips) to features (tensor, first axis = items). `unit="clip"` encoders instead get one whole view (numpy)
    at a time and return a numpy array or a dict of arrays: for optical flow, onsets, transcription.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from avbench.errors import NotApplicable

if TYPE_CHECKING:
    import torch

    from avbench.clip import Clip


@dataclass(frozen=True)
class View:
    """Base of all views: a hashable recipe. Subclass as a frozen dataclass and implement `__call__`."""

    media: ClassVar[frozenset[str]] = frozenset({"video"})
    version: ClassVar[int] = 1

    @property
    def requires(self) -> tuple[Feature, ...]:
        """Features of the same sample this view is cut from, besides the clip."""
        return ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Text fields of the sample this view depends on."""
        return ()

    @property
    def key(self) -> str:
        """Identity of the recipe: its class, version and fields."""
        return f"{type(self).__module__}.{self!r}@{self.version}"

    def __call__(self, clip: Clip, *inputs: Any) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


@dataclass(frozen=True)
class Text(View):
    """One text field of the sample, as a single item of dtype object (a `str`); not applicable where it is empty."""

    field: str = "text"
    media: ClassVar[frozenset[str]] = frozenset()

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,)

    def __call__(self, clip: Any, *inputs: Any) -> np.ndarray:
        if not inputs[0]:
            raise NotApplicable(f"no_{self.field}", f"the sample has no {self.field}")
        return np.array([inputs[0]], dtype=object)


@dataclass(frozen=True)
class Whole(View):
    """The decoded streams themselves (`Video`, `Audio`, or the `Clip` for both), for `unit="clip"` encoders."""

    stream: Literal["video", "audio", "clip"]

    @property
    def media(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"video", "audio"}) if self.stream == "clip" else frozenset({self.stream})

    def __call__(self, clip: Clip, *inputs: Any) -> Any:
        if self.stream == "clip":
            return clip
        return clip.need_video() if self.stream == "video" else clip.need_audio()


@dataclass(frozen=True)
class Context:
    """What an encoder's loader is given.

    device, dtype: where and in which precision the network runs; None for algorithms (`unit="clip"`, no weights).
    weights: local file or folder of each checkpoint the encoder names.
    options: settings from the command line or `avbench.toml` that belong to this encoder.
    """

    device: torch.device | None
    dtype: torch.dtype | None
    weights: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


Network = Callable[[Any], Any]
"""What a loader returns: a batch of items to a batch of features."""


@dataclass(frozen=True)
class Encoder:
    """A frozen network, or a fixed algorithm, by name.

    name:     stable id, part of the feature's key, e.g. "imagebind.vision".
    load:     "package.module:function", resolved when first needed.
    version:  of our code; raise it whenever the numbers may change.
    weights:  names in the weights registry (empty for algorithms).
    unit:     "item" (batched across clips) or "clip" (one view at a time).
    batch:    items per forward pass that suit a 24 GB device.
    params:   fixed settings that change numbers, e.g. (("model", "large-v3"),).
    flops:    multiply-adds x 2 of one item, for the plan (0: unknown).
    """

    name: str
    load: str
    version: int = 1
    weights: tuple[str, ...] = ()
    unit: Literal["item", "clip"] = "item"
    batch: int = 64
    params: tuple[tuple[str, Any], ...] = ()
    flops: float = 0.0

    @property
    def key(self) -> str:
        """Identity without the digest of the weights, which the store adds."""
        return f"{self.name}@{self.version}{dict(self.params) if self.params else ''}"

    def loader(self) -> Callable[[Context], Network]:
        """Import the loader."""
        from importlib import import_module

        module, _, function = self.load.partition(":")
        return getattr(import_module(module), function)


def as_is(context: Context) -> Callable[[Any], Any]:
    """The loader of a feature that is its view."""
    return lambda view: view


@dataclass(frozen=True)
class Feature:
    """encoder(view(clip)). A metric class declares features as attributes."""

    encoder: Encoder
    view: View

    @property
    def key(self) -> str:
        """Identity, except for the media and the weights."""
        inner = ",".join(feature.key for feature in self.view.requires)
        return hashlib.sha256(f"{self.encoder.key}|{self.view.key}|{inner}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Field:
    """A raw field of the sample (a prompt, a transcript, a tag list), given to `score` as it stands.

    A sample whose field is empty is not applicable unless `optional`.
    """

    name: str
    optional: bool = False
