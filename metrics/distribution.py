"""What all distances between two sets of clips share: rows from features, the floor, warnings beside a value."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from avbench.errors import SampleError
from avbench.metric import Rows
from avbench.metrics.distances import Moments, frechet_distance, halves, polynomial_mmd

Side = np.ndarray | Moments


class SetDistance:
    """Base of metrics that compare the rows of one feature in two sets.

    feature:  name of the declared Feature the rows come from.
    columns:  the part of it that counts, where an encoder gives several things at once.
    equal_n:  keep only the first min(N, N_ref) clips of each side, as some published evaluators do.
    """

    feature: ClassVar[str] = "video"
    columns: ClassVar[slice] = slice(None)
    equal_n: ClassVar[bool] = False

    def distance(self, generated: Side, reference: Side) -> float:
        """The distance of two matrices of rows [N, D]."""
        raise TypeError(f"{type(self).__name__} defines no distance")

    def reduce(self, generated: Rows, reference: Rows) -> float:
        if self.equal_n:
            needs_rows(self.side(reference))
            n = min(len(generated), len(reference))
            generated, reference = generated.take(range(n)), reference.take(range(n))
        return self.distance(self.side(generated), self.side(reference))

    def side(self, features: Rows) -> Side:
        """Rows of all clips below each other (or ready `Moments`); `SampleError` where there are fewer than two."""
        found = getattr(features, self.feature)
        if isinstance(found, Moments):
            return found.part(self.columns)
        rows = np.concatenate(found)[:, self.columns] if found else np.zeros((0, 0))
        if len(rows) < 2:
            raise SampleError("set.too_small", f"a distance between sets needs 2 rows on each side, got {len(rows)}")
        return rows

    def floor(self, reference: Rows) -> float:
        """The distance between two random halves of the reference clips: a generator this good is indistinguishable
        at this size. It is measured at half the N of the value, where a Fréchet distance is larger."""
        if isinstance(getattr(reference, self.feature), Moments):
            raise SampleError("set.no_rows", "a reference of statistics alone cannot be halved")
        first, second = halves(len(reference))
        return self.distance(self.side(reference.take(list(first))), self.side(reference.take(list(second))))

    def notes(self, generated: Rows, reference: Rows) -> list[str]:
        """Strings to show beside the value."""
        sizes = [count(self.side(side)) for side in (generated, reference)]
        found = []
        if sizes[0] != len(generated):
            found.append(f"rows are windows: {sizes[0]} and {sizes[1]} of {len(generated)} and {len(reference)} clips")
        if sizes[0] != sizes[1]:
            kept = "; the first of each are used" if self.equal_n else ""
            found.append(f"N differs: {sizes[0]} generated, {sizes[1]} reference rows{kept}")
        return found


class Frechet(SetDistance):
    """Fréchet distance of Gaussians, float64."""

    def distance(self, generated: Side, reference: Side) -> float:
        return frechet_distance(generated, reference)

    def self_distance(self, reference: Rows) -> float:
        """The distance of the reference from itself: 0 unless the arithmetic is at fault."""
        rows = self.side(reference)
        return self.distance(rows, rows)

    def unresolved(self, generated: Rows, reference: Rows) -> str:
        """Why differences at this N say little of the models, "" where they do: with no more rows than dimensions, the
        bias follows no known law and differs between models."""
        side = self.side(reference)
        n, dims = min(count(self.side(generated)), count(side)), width(side)
        return f"N = {n} in {dims} dimensions" if n <= dims else ""

    def notes(self, generated: Rows, reference: Rows) -> list[str]:
        few = self.unresolved(generated, reference)
        said = [f"{few}: biased upwards, comparable only at this N"] if few else []
        return said + super().notes(generated, reference)


class Kernel(SetDistance):
    """Unbiased polynomial kernel distance, float64; may be slightly negative."""

    def distance(self, generated: Side, reference: Side) -> float:
        return polynomial_mmd(needs_rows(generated), needs_rows(reference))


def count(side: Side) -> int:
    """Number of rows."""
    return side.n if isinstance(side, Moments) else len(side)


def width(side: Side) -> int:
    """Number of features."""
    return len(side.mean) if isinstance(side, Moments) else side.shape[1]


def needs_rows(side: Side) -> np.ndarray:
    """Rows, or a `SampleError` where there are statistics alone."""
    if not isinstance(side, np.ndarray):
        raise SampleError("set.no_rows", "this distance needs rows, the reference has statistics alone")
    return side
