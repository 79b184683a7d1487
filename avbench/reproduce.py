"""`reproduce`: a published table with our own numbers beside the printed ones, and why some cannot be compared.

A printed cell names a suite, a subset, a metric and the paper's protocol. Where that protocol is a registered variant
(`fvd@javisbench`) ours is the same measurement; where it is not, the variant that comes nearest is shown and marked,
for two numbers made in two ways say nothing about two models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avbench.baselines.published import Cell, Table, table, tables
from avbench.errors import MissingResource, UserError
from avbench.progress import Progress
from avbench.run import Run, find_run, runs_in

GROUPS = {"javisdit-plus-plus": "javisbench", "visiosonic": "v2a"}  # a paper's metric group, where named otherwise
Context = tuple[tuple[str, str], ...]

# Experiments that make a table of a paper from nothing, training included: name -> "module:function" of
# function(scale, out, device, progress) -> what to print. Imported only when asked for.
RECIPES: dict[str, str] = {"hearing-helps-seeing": "avbench.reference_models.experiments:hearing_helps_seeing"}
SCALES = ("smoke", "shipped", "cpu", "gpu")


@dataclass(frozen=True)
class Ours:
    """Our value for one column.

    value: in the paper's scale; None where there is none. metric: the variant behind it. n: samples behind it.
    why:   why it must not be compared with the printed ones of its column; empty where it may.
    """

    value: float | None
    metric: str
    n: int
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A row of the table: a printed one (`cells`) or one of ours (`ours`), over one suite and subset per column."""

    name: str
    context: Context
    cells: tuple[Cell, ...] = ()
    ours: tuple[Ours, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """The printed table with our lines after the printed ones of their context. `lacking`: what could not be run."""

    table: Table
    lines: tuple[Line, ...]
    lacking: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Numbered reasons of our cells, in order of first use."""
        return list(dict.fromkeys(why for line in self.lines for one in line.ours for why in one.why))


def results(id: str) -> Table:
    """A published table that has results; others say what they are."""
    found = table(id)
    if found.kind != "results":
        known = ", ".join(one.id for one in tables() if one.kind == "results")
        raise UserError(f"table {found.id} holds {found.kind}, which no evaluation reproduces\n  tables: {known}")
    return found


def recipe(name: str, scale: str) -> Callable[[str, Path, str, Progress], str]:
    """The experiment of this name; a scale that there is not is refused before anything is imported."""
    from importlib import import_module

    if scale not in SCALES:
        raise UserError(f"--scale {scale}: use one of {', '.join(SCALES)}")
    module, _, function = RECIPES[name].partition(":")
    found: Callable[[str, Path, str, Progress], str] = getattr(import_module(module), function)
    return found


def variant(cell: Cell, paper: str) -> tuple[str, str]:
    """(our metric for a printed cell, why it is not the same measurement or "")."""
    from avbench.groups import resolve
    from avbench.registry import metrics

    base = cell.column.metric
    if not base:
        return "", f"{cell.column.name}: we have no such metric"
    known = set(metrics.list())
    if cell.metric in known:
        return cell.metric, ""
    near = [name for name in resolve([GROUPS.get(paper, paper)]) if name.partition("@")[0] == base]
    found = near[0] if near else base
    if found not in known:
        return "", f"{cell.column.name}: {base} is not installed here"
    return found, f"{found} is not the paper's protocol ({cell.protocol}), which is not wholly stated"


def contexts(found: Table) -> list[tuple[Context, list[tuple[Cell, ...]]]]:
    """The rows of a table by what they are measured on: (suite, subset) of every column."""
    groups: dict[Context, list[tuple[Cell, ...]]] = {}
    for row in found.rows:
        groups.setdefault(tuple((cell.suite, cell.subset) for cell in row), []).append(row)
    return list(groups.items())


def needed(found: Table) -> dict[str, list[str]]:
    """suite -> the metrics that its cells need."""
    wanted: dict[str, list[str]] = {}
    for cell in found.cells:
        name, _ = variant(cell, found.paper)
        if name and name not in wanted.setdefault(cell.suite, []):
            wanted[cell.suite].append(name)
    return wanted


def models_with_runs(found: Table, out: Path) -> list[str]:
    """Models with a finished run on any suite of the table, in order of name."""
    done = ("complete", "partial")
    return sorted({r.model for suite in needed(found) for r in runs_in(out, suite) if r.manifest["status"] in done})


def reproduce(
    found: Table, runs: Mapping[str, Mapping[str, Sequence[Run]]], lacking: Sequence[str] = ()
) -> Reproduction:
    """Assemble a table. runs: model -> suite -> its runs, best first."""
    lines: list[Line] = []
    for context, rows in contexts(found):
        for row in rows:
            name = f"{row[0].system} ({row[0].arm})" if row[0].arm else row[0].system
            lines.append(Line(name, context, cells=row))
        for model, by_suite in runs.items():
            if any(suite in by_suite for suite, _ in context):
                lines.append(
                    Line(model, context, ours=tuple(measured(cell, found.paper, by_suite) for cell in rows[0]))
                )
    return Reproduction(found, tuple(lines), tuple(lacking))


def measured(cell: Cell, paper: str, by_suite: Mapping[str, Sequence[Run]]) -> Ours:
    """Our value for the column, suite and subset of a printed cell."""
    name, other = variant(cell, paper)
    if not name:
        return Ours(None, "", 0, (other,))
    run = next((r for r in by_suite.get(cell.suite, ()) if name in {m["id"] for m in r.manifest["metrics"]}), None)
    if run is None:
        return Ours(None, name, 0, (f"no run on {cell.suite} has {name}",))
    found = summary(run, name, cell.subset)
    if found is None:
        return Ours(None, name, 0, (f"the run has no subset {cell.subset} of {cell.suite}",))
    expected = expected_in(run, cell.subset)
    why = [other]
    if "unverified weights" in found.note:
        why.append(f"{name}: unverified weights")
    if found.n != expected or run.manifest["status"] != "complete":
        why.append(f"{name}: {found.n} of {size_of(run, cell.subset)} samples")
    value = None if found.value is None else found.value * cell.column.scale
    if value is None:
        why.append(f"{name}: {found.note or 'no sample has a value'}")
    return Ours(value, name, found.n, tuple(filter(None, why)))


def summary(run: Run, metric: str, subset: str) -> Any:
    """The main value of one metric on a subset of a run; None where the run has no such subset."""
    from avbench.results import summarise

    if subset and not expected_in(run, subset):
        return None
    return next((row for row in summarise(run, subset) if row.metric == metric and not row.field), None)


def expected_in(run: Run, subset: str) -> int:
    """Samples of a run that belong to a subset."""
    return sum(not subset or subset in (tags if tags is not None else ()) for tags in run.samples["tags"])


def size_of(run: Run, subset: str) -> str:
    """How many samples the suite has, where it can be loaded here; else those of the run."""
    from avbench.suite import load_suite

    try:
        whole = load_suite(run.suite)
    except UserError:
        return str(expected_in(run, subset))
    return str(len(whole.subsets.get(subset, ())) if subset else len(whole.samples))


def collect(
    found: Table, models: Sequence[str], out: Path, evaluate: Any = None
) -> tuple[dict[str, dict[str, list[Run]]], list[str]]:
    """(model -> suite -> runs, what is lacking). evaluate(model, suite, metrics) -> Run makes what is not there."""
    runs: dict[str, dict[str, list[Run]]] = {}
    lacking: list[str] = []
    for model in models:
        for suite, wanted in needed(found).items():
            have = list(finished(model, suite, out))
            missing = [name for name in wanted if not any(name in ids(run) for run in have)]
            if missing and evaluate is not None:
                try:
                    have.insert(0, evaluate(model, suite, missing))
                except MissingResource as error:
                    lacking.append(f"{model} on {suite}: {error}")
            elif missing and not have:
                lacking.append(f"{model} on {suite}: no finished run\n  avbench eval --model {model} --suite {suite}")
            if have:
                runs.setdefault(have[0].model, {}).setdefault(suite, []).extend(have)
    return runs, lacking


def finished(model: str, suite: str, out: Path) -> Iterator[Run]:
    """A named run folder, or the finished runs of a model, complete ones and newest first."""
    if (Path(model) / "run.json").is_file():
        run = find_run(model, out)
        if run.suite == suite:
            yield run
        return
    done = [run for run in runs_in(out, suite, model) if run.manifest["status"] in ("complete", "partial")]
    yield from sorted(
        done, key=lambda run: (run.manifest["status"] == "complete", run.manifest["started"]), reverse=True
    )


def ids(run: Run) -> set[str]:
    """Metrics of a run."""
    return {one["id"] for one in run.manifest["metrics"]}


def document(one: Reproduction) -> dict[str, Any]:
    """As plain data, for JSON."""
    columns = [{"name": c.name, "metric": c.metric, "unit": c.unit, "scale": c.scale} for c in one.table.columns]

    def line(found: Line) -> dict[str, Any]:
        where = [{"suite": suite, "subset": subset} for suite, subset in found.context]
        if found.ours:
            values = [vars(cell) for cell in found.ours]
            return {"model": found.name, "published": False, "where": where, "cells": values}
        printed = [{"value": c.value, "printed": c.printed, "protocol": c.protocol} for c in found.cells]
        return {"model": found.name, "published": True, "where": where, "cells": printed}

    return {
        "table": one.table.id, "title": one.table.title, "source": one.table.source, "columns": columns,
        "rows": [line(found) for found in one.lines], "errata": list(one.table.errata), "lacking": list(one.lacking),
    }  # fmt: skip
