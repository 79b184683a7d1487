"""How a metric is declared: one class, its inputs as attributes, one pure method.

A decorator attaches a `Card` to the class and changes nothing else; the registry collects tagged classes. A sample
metric gives a value per clip (`score`), a set metric a value per set of clips (`reduce`). Both are pure functions of
features: they open no file and hold no state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from avbench.features import Feature, Field

Direction = Literal["higher", "lower", "none"]
T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Card:
    """What a reader must know before trusting a number.

    id:        name, with `@protocol` where it is a published variant.
    version:   raised whenever the same inputs give another value.
    better:    which direction is better ("none": neither, or a diagnosis).
    unit:      unit of the value, "" for none.
    range:     smallest and largest value there can be (None: unbounded).
    source:    paper, repository, commit.
    differs:   what a published variant does otherwise than our default, faults included.
    fields:    {name: meaning} of values beside the main one.
    suites:    patterns of suite names outside which the metric is refused; empty: it applies everywhere.
    optional:  set metrics only: computed on clips of the generator alone.
    """

    id: str
    kind: Literal["sample", "set"]
    version: int
    better: Direction
    unit: str
    range: tuple[float | None, float | None]
    source: str
    differs: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    text: str
    paired: bool = False
    reference: bool = True
    suites: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id without its protocol."""
        return self.id.partition("@")[0]

    @property
    def protocol(self) -> str:
        """The protocol, "" for our default."""
        return self.id.partition("@")[2]

    @property
    def shares(self) -> bool:
        """Whether values of 0 and 1 are failures and successes, so that their mean is a proportion."""
        return self.range == (0, 1)

    @property
    def title(self) -> str:
        """First line of the card's text."""
        return self.text.partition("\n")[0]


@dataclass(frozen=True, eq=False)
class Track:
    """Something over time that a report draws under a clip: a curve, marked instants, or both. Seconds throughout.

    A metric offers tracks through an optional method `timeline(**inputs) -> list[Track]`.
    """

    name: str
    times: np.ndarray | None = None
    values: np.ndarray | None = None
    events: np.ndarray | None = None


class SampleMetric(Protocol):
    """A value per clip."""

    card: Card
    score: Callable[..., float | dict[str, float]]


class Rows:
    """Features of a set of clips: attribute `name` is a list with one array per sample, all lists in one order."""

    def __init__(self, ids: Sequence[str], features: dict[str, list[np.ndarray]]) -> None:
        self.ids = list(ids)
        self._features = features

    def __getattr__(self, name: str) -> list[np.ndarray]:
        try:
            return self.__dict__["_features"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int]) -> Rows:
        """The rows at these positions, repeats allowed."""
        return Rows(
            [self.ids[i] for i in indices],
            {name: [rows[i] for i in indices] for name, rows in self._features.items()},
        )


class SetMetric(Protocol):
    """A value for a set of clips, against a reference set where `card.reference`."""

    card: Card
    reduce: Callable[[Rows, Rows | None], float]


Metric = Any  # SampleMetric | SetMetric; Protocols cannot express "has Feature attributes"


def sample_metric(
    id: str,
    *,
    version: int,
    better: Direction,
    source: str,
    unit: str = "",
    range: tuple[float | None, float | None] = (None, None),
    differs: Sequence[str] = (),
    fields: dict[str, str] | None = None,
    suites: Sequence[str] = (),
) -> Callable[[T], T]:
    """Declare a class with `score(self, **inputs)` as a metric that gives a value per clip."""
    return _tag("sample", "score", id, version, better, source, unit, range, differs, fields, suites=suites)


def set_metric(
    id: str,
    *,
    version: int,
    better: Direction,
    source: str,
    unit: str = "",
    range: tuple[float | None, float | None] = (None, None),
    differs: Sequence[str] = (),
    fields: dict[str, str] | None = None,
    paired: bool = False,
    reference: bool = True,
    suites: Sequence[str] = (),
) -> Callable[[T], T]:
    """Declare a class with `reduce(self, generated, reference)` as a metric that gives a value per set of clips.

    paired: generated and reference rows are of the same samples, in one order (KL).
    reference: False where the generated clips are judged alone (inception score).
    """
    return _tag("set", "reduce", id, version, better, source, unit, range, differs, fields, paired, reference, suites)


def _tag(
    kind: Literal["sample", "set"],
    method: str,
    id: str,
    version: int,
    better: Direction,
    source: str,
    unit: str,
    range: tuple[float | None, float | None],
    differs: Sequence[str],
    fields: dict[str, str] | None,
    paired: bool = False,
    reference: bool = True,
    suites: Sequence[str] = (),
) -> Callable[[T], T]:
    def tag(cls: T) -> T:
        if not callable(getattr(cls, method, None)):
            raise TypeError(f"{cls.__name__}: a {kind} metric needs a method {method}()")
        cls.card = Card(  # type: ignore[attr-defined]
            id, kind, version, better, unit, range, source, tuple(differs),
            tuple((fields or {}).items()), inspect.cleandoc(cls.__doc__ or ""), paired, reference, tuple(suites),
        )  # fmt: skip
        return cls

    return tag


def inputs(metric: Metric) -> dict[str, Feature | Field]:
    """The declared inputs {attribute: Feature or Field}, in sorted order of attribute."""
    found = ((name, inspect.getattr_static(type(metric), name)) for name in sorted(dir(type(metric))))
    return {name: value for name, value in found if isinstance(value, Feature | Field)}


def features(metric: Metric) -> dict[str, Feature]:
    """The declared features alone."""
    return {name: value for name, value in inputs(metric).items() if isinstance(value, Feature)}


def closure(feature: Feature) -> list[Feature]:
    """The feature and everything it is cut from, dependencies first."""
    return [*(inner for need in feature.view.requires for inner in closure(need)), feature]
