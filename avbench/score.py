"""From features to scores: pure bookkeeping around the metrics' own arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from avbench.errors import MissingClip, NotApplicable, SampleError
from avbench.features import Feature, Field
from avbench.metric import Metric, Rows, inputs
from avbench.plan import Plan, Subject
from avbench.store import combine
from avbench.suite import Suite


class Side(NamedTuple):
    """One side of a set metric: rows of the samples that have all features, why the others have not, what to note."""

    rows: Rows
    lost: Mapping[str, SampleError] = {}
    notes: Sequence[str] = ()


SetInputs = Callable[[str, Sequence[str]], Side]
NO_SIDE = Side(Rows([], {}))


@dataclass(frozen=True)
class Row:
    """One value of one metric on one sample; `value` is None unless `status` is "ok"."""

    field: str
    value: float | None
    status: str = "ok"
    reason: str = ""


def score_key(metric: Metric, one: Subject, plan: Plan) -> str:
    """Digest of all that a score depends on: the metric, its version, and the identity of every input."""
    parts = [metric.card.id, str(metric.card.version), one.error.code if one.error else ""]
    for name, need in inputs(metric).items():
        parts += [name, plan.key(one, need) if isinstance(need, Feature) else str(one.sample.get(need.name))]
    return combine(*parts)


def score(metric: Metric, one: Subject, value: Callable[[Feature], Any]) -> list[Row]:
    """The rows of one metric on one clip: values, or one row with status and reason."""
    try:
        if one.error is not None:
            raise one.error
        given = {name: given_input(need, one, value) for name, need in inputs(metric).items()}
        result = metric.score(**given)
        fields = result if isinstance(result, dict) else {"": result}
        return [Row(name, finite(number, name)) for name, number in sorted(fields.items())]
    except SampleError as error:
        return [Row("", None, error.status, str(error))]
    except Exception as error:
        return [Row("", None, "failed", f"metric.error: {type(error).__name__}: {error}")]


def given_input(need: Feature | Field, one: Subject, value: Callable[[Feature], Any]) -> Any:
    """What `score` receives for a declared input."""
    if isinstance(need, Feature):
        return value(need)
    raw = one.sample.get(need.name)
    if not raw and not need.optional:
        raise NotApplicable(f"no_{need.name}", f"the sample has no {need.name}")
    return raw


def finite(number: Any, name: str) -> float:
    """A finite float; NaN and infinity are errors, never values."""
    number = float(number)
    if not math.isfinite(number):
        raise SampleError("metric.not_finite", f"{name or 'value'} is {number}")
    return number


def set_rows(metric: Metric, suite: Suite, rows: SetInputs) -> Iterator[dict[str, Any]]:
    """The rows of a set metric: the whole suite (subset "") and each of its subsets."""
    for subset, ids in {"": tuple(s.id for s in suite.samples), **suite.subsets}.items():
        yield {"metric": metric.card.id, "field": "", "subset": subset, **set_value(metric, ids, rows)}


def set_value(metric: Metric, ids: Sequence[str], rows: SetInputs) -> dict[str, Any]:
    """Value, counts, floor and notes of a set metric on these samples."""
    counts: dict[str, int | None] = {"n": 0, "n_ref": None}
    try:
        made = rows("generated", ids)
        counts |= {"n": len(made.rows), **without(made)}
        real = rows("reference", ids) if metric.card.reference else NO_SIDE
        generated, reference = made.rows, real.rows if metric.card.reference else None
        if reference is not None:
            generated, reference = aligned(generated, reference) if metric.card.paired else (generated, reference)
            counts |= {"n": len(generated), "n_ref": len(reference)}
        check_sides(made, real, reference)
        value = finite(metric.reduce(generated, reference), "value")
        said = metric.notes(generated, reference) if hasattr(metric, "notes") else []
        return {
            **counts, "value": value, "status": "ok", "reason": "",
            "floor": optional(metric, "floor", reference), "self": optional(metric, "self_distance", reference),
            "notes": "; ".join([*said, *real.notes]),
        }  # fmt: skip
    except SampleError as error:
        return {**counts, "value": None, "status": error.status, "reason": str(error), "notes": ""}
    except Exception as error:
        reason = f"metric.error: {type(error).__name__}: {error}"
        return {**counts, "value": None, "status": "failed", "reason": reason, "notes": ""}


def without(side: Side) -> dict[str, int]:
    """How many clips of a side have no features, by why."""
    found = Counter(error.status for error in side.lost.values())
    return {status: found[status] for status in ("failed", "missing", "not_applicable")}


def check_sides(made: Side, real: Side, reference: Rows | None) -> None:
    """Raise where a side is empty, with the first reason there is."""
    if not len(made.rows):
        raise next(iter(made.lost.values()), SampleError("set.empty", "no clip of the set has the features"))
    if real.lost and not len(real.rows) and all(isinstance(error, MissingClip) for error in real.lost.values()):
        raise NotApplicable(
            "set.no_reference",
            "no real clips are here; `avbench suites show NAME` says where they belong, --reference takes a pack",
        )
    if reference is not None and not len(real.rows):
        raise next(iter(real.lost.values()), SampleError("set.no_reference", "no real clip has the features"))


def optional(metric: Metric, method: str, reference: Rows | None) -> float | None:
    """A diagnostic of set metrics that only some have, None where it has no value."""
    if reference is None or not hasattr(metric, method):
        return None
    try:
        return finite(getattr(metric, method)(reference), method)
    except (SampleError, ArithmeticError, np.linalg.LinAlgError):  # a singular half says nothing of the whole
        return None


def aligned(first: Rows, second: Rows) -> tuple[Rows, Rows]:
    """Both restricted to the ids they share, in the order of the first."""
    at = {id: index for index, id in enumerate(second.ids)}
    kept = [index for index, id in enumerate(first.ids) if id in at]
    return first.take(kept), second.take([at[first.ids[index]] for index in kept])
