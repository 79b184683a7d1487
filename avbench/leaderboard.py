"""`leaderboard`: the runs of one suite in one table, ranked no finer than the data allow.

One run per model (avbench/entries.py); metrics that it lacks are taken from its older runs of the same clips.
A column holds only values made in one way (metric version, weights, precision, decoder); what was made in another is
left out and named. Sample metrics carry intervals and rank groups (paired tests, Holm over the column); set metrics
carry neither, as one value per model holds no information on its noise.
"""

from __future__ import annotations

import json
import statistics
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from avbench import entries as runs_module
from avbench.entries import Entry, commonest, entries_in
from avbench.errors import UnknownName, UserError
from avbench.metric import Direction
from avbench.results import qualified
from avbench.run import Run
from avbench.store import cache_root, combine, file_digest, write_atomic

SEED = 0
MAIN = ""  # a metric's main value, as a field


@dataclass(frozen=True)
class Column:
    """A metric, or a field of one that is shown as a diagnosis.

    protocol:   metric version, weights with digest, precision and decoder that all values of the column share.
    unverified: those weights whose digest is not the published one.
    shares:     whether values of 0 and 1 are failures and successes.
    """

    metric: str
    field: str
    kind: str
    better: Direction
    unit: str
    title: str
    protocol: str
    unverified: tuple[str, ...] = ()
    shares: bool = False

    @property
    def id(self) -> str:
        return f"{self.metric}.{self.field}" if self.field else self.metric


@dataclass(frozen=True)
class Cell:
    """A model's value.

    group: rank group within the column (1 is the best), None for set metrics, diagnoses and published values.
    mark:  1 for the best, 2 for the second best: by group, for set metrics by value among equal n.
    note:  what qualifies the value, or why there is none.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    group: int | None = None
    mark: int = 0
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A model with its cells by column id. `published`: paper and table of a printed row, "" for measured ones."""

    model: str
    run: str
    cells: Mapping[str, Cell]
    published: str = ""


@dataclass(frozen=True)
class Board:
    """The table: `left_out` names runs and values that are not in it with the reason, `warnings` what to distrust."""

    suite: str
    version: str
    digest: str
    subset: str
    samples: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    published: tuple[Row, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unverified(self) -> tuple[str, ...]:
        """Unverified weights behind any column."""
        return tuple(dict.fromkeys(name for column in self.columns for name in column.unverified))


# Which columns --------------------------------------------------------------------------------------------------------


@cache
def knowledge() -> dict[str, Any]:
    """`metrics/leaderboard.toml`: which metrics need a measure of motion beside them, and the bounds of radars."""
    return tomllib.loads((files("avbench.metrics") / "leaderboard.toml").read_text(encoding="utf-8"))


def protocol_of(run: Run, metric: str) -> tuple[str, tuple[str, ...]]:
    """(what a value depends on beside the clips, names of unverified weights)."""
    version = next(one["version"] for one in run.manifest["metrics"] if one["id"] == metric)
    used = set(weights_of(metric))
    weights = [one for one in run.manifest["weights"] if one["name"] in used]
    parts = [f"version {version}", *(f"{one['name']} {one['sha256'][:12]}" for one in weights)]
    parts += [str(run.manifest["precision"]), str(run.manifest["environment"]["decoder"])]
    return ", ".join(parts), tuple(one["name"] for one in weights if not one["verified"])


@cache
def weights_of(metric: str) -> tuple[str, ...]:
    """Checkpoints behind a metric."""
    from avbench.metric import features
    from avbench.plan import encoders
    from avbench.registry import metrics

    needed = encoders(features(metrics.get(metric)).values())
    return tuple(dict.fromkeys(weight for encoder in needed for weight in encoder.weights))


def metrics_of(entries: Sequence[Entry], asked: Sequence[str], left_out: list[str]) -> list[str]:
    """Metrics to show: those asked for, else all of the runs; those that are not installed here are named."""
    from avbench.groups import resolve
    from avbench.registry import metrics

    have = list(dict.fromkeys(m["id"] for e in entries for run in e.runs for m in run.manifest["metrics"]))
    wanted = resolve(asked) if asked else have
    if lacking := [name for name in wanted if name not in have]:
        if len(lacking) == len(wanted):
            raise UserError(f"no run has {', '.join(lacking)}; the runs have: {', '.join(have)}")
        left_out += [f"{name}: no run has it" for name in lacking]
    known = set(metrics.list())
    left_out += [f"{name}: not installed here" for name in wanted if name not in known]
    return [name for name in wanted if name in known and name in have]


def column_of(
    entries: Sequence[Entry], metric: str, name: str, left_out: list[str]
) -> tuple[Column, list[Entry], list[str]]:
    """A column, the entries with values made in its way, and the models that lack it."""
    from avbench.registry import metrics

    card = metrics.get(metric).card
    runs = [(entry, run) for entry in entries if (run := entry.run_with(metric)) is not None]
    newest = sorted(runs, key=lambda pair: str(pair[1].manifest["started"]), reverse=True)
    protocol = commonest(protocol_of(run, metric)[0] for _, run in newest)
    same = [(entry, run) for entry, run in runs if protocol_of(run, metric)[0] == protocol]
    for entry, run in runs:
        if (other := protocol_of(run, metric)[0]) != protocol and not name:
            left_out.append(f"{entry.model}, {metric}: made with {differing(other, protocol)}; score it again")
    unverified = tuple(dict.fromkeys(w for _, run in same for w in protocol_of(run, metric)[1]))
    better: Direction = "none" if name else card.better
    title = dict(card.fields).get(name, "") if name else card.title
    column = Column(
        metric, name, card.kind, better, card.unit if not name else "", title, protocol, unverified, card.shares
    )
    kept = [entry for entry, _ in same]
    return column, kept, [entry.model for entry in entries if entry not in kept]


def differing(one: str, other: str) -> str:
    """The parts of a protocol that another has not, beside those it has instead."""
    mine, theirs = one.split(", "), other.split(", ")
    lacks = [part for part in theirs if part not in mine]
    return f"{', '.join(p for p in mine if p not in theirs)}, the others with {', '.join(lacks) or 'less'}"


# Cells ----------------------------------------------------------------------------------------------------------------


def sample_cells(column: Column, entries: Sequence[Entry], ids: set[str] | None) -> dict[str, Cell]:
    """Mean and interval of every model, and the rank group of those with a complete run."""
    from avbench.stats import mean_intervals, rank_groups, reason

    found = {e.model: restricted(e.values(column.metric, column.field), ids) for e in entries}
    scores = {model: values for model, values in found.items() if values}
    intervals = dict(zip(scores, mean_intervals([list(v.values()) for v in scores.values()], SEED, column.shares)))
    ranked = {entry.model: scores[entry.model] for entry in entries if entry.model in scores and not entry.partial}
    groups = rank_groups(ranked, SEED, column.better) if column.better != "none" and len(ranked) > 1 else {}
    cells = {}
    for entry in entries:
        values, interval, group = found[entry.model], intervals.get(entry.model), groups.get(entry.model)
        cells[entry.model] = Cell(
            float(np.mean(list(values.values()))) if values else None,
            interval.low if interval else None,
            interval.high if interval else None,
            len(values),
            group,
            group if group in (1, 2) else 0,
            reason(len(values)) if values else why_empty(entry, column),
        )
    return cells


def restricted(values: dict[str, float], ids: set[str] | None) -> dict[str, float]:
    """The values of a subset's samples (None: all)."""
    return values if ids is None else {sample: value for sample, value in values.items() if sample in ids}


def why_empty(entry: Entry, column: Column) -> str:
    """The commonest reason why a model has no value, such as `no_audio`."""
    run = entry.run_with(column.metric)
    rows = [row for row in run.records("scores") if row["metric"] == column.metric] if run else []
    bad = Counter(row["reason"].partition(":")[0] for row in rows if row["status"] != "ok")
    return f"n/a: {bad.most_common(1)[0][0]}" if bad else "n/a"


NO_SET = {"value": None, "n": 0, "n_ref": None, "floor": None, "self": None, "notes": "", "reason": "n/a"}


def set_cells(column: Column, entries: Sequence[Entry], subset: str) -> dict[str, Cell]:
    """The stored values of a set metric; the best are marked among values over equally many clips."""
    cells: dict[str, Cell] = {}
    sizes: dict[str, tuple[int, int | None]] = {}
    for entry in entries:
        run = entry.run_with(column.metric)
        assert run is not None, "entries of a column have its metric"
        rows = [
            row for row in run.records("sets")
            if (row["metric"], row["field"], row["subset"]) == (column.metric, column.field, subset)
        ]  # fmt: skip
        row: Mapping[str, Any] = rows[0] if rows else NO_SET
        cells[entry.model] = Cell(row["value"], n=row["n"], note=qualified(row))
        sizes[entry.model] = (row["n"], row["n_ref"])
    if column.better == "none" or not cells:
        return cells
    ranked = [entry.model for entry in entries if cells[entry.model].value is not None and not entry.partial]
    usual = Counter(sizes[model] for model in ranked).most_common(1)
    for model in ranked:
        if sizes[model] != usual[0][0]:
            cell = cells[model]
            more = f"over {sizes[model][0]} clips, the others over {usual[0][0][0]}: not marked"
            cells[model] = replace(cell, note="; ".join(part for part in (more, cell.note) if part))
    fair = [model for model in ranked if sizes[model] == usual[0][0]]
    values = sorted({cells[m].value for m in fair}, reverse=column.better == "higher")  # type: ignore[type-var]
    marks = {value: place + 1 for place, value in enumerate(values[:2])} if len(fair) > 1 else {}
    return {m: replace(cell, mark=marks.get(cell.value, 0)) if m in fair else cell for m, cell in cells.items()}


# The board ------------------------------------------------------------------------------------------------------------


class Boards:
    """The leaderboards of one suite: all samples and each subset, read once."""

    def __init__(self, out: Path, suite: str, metrics: Sequence[str] = (), partial: bool = False) -> None:
        self.suite = suite
        self.entries, self.left_out = entries_in(out, suite, partial)
        self.metrics = metrics_of(self.entries, metrics, self.left_out)

    @cached_property
    def subsets(self) -> dict[str, set[str]]:
        """{tag: sample ids}; one run speaks for all, as the suite's digest covers the tags."""
        found: dict[str, set[str]] = {}
        for row in self.entries[0].runs[0].records("samples"):
            for tag in row["tags"]:
                found.setdefault(tag, set()).add(row["sample"])
        return found

    @cached_property
    def content(self) -> str:
        """Digest of all that a table is made from: the bytes of the runs, and this version of avbench."""
        import avbench
        from avbench.registry import metrics

        names = ("run.json", "scores.parquet", "sets.parquet", "samples.parquet")
        runs = [file_digest(run.folder / name) for entry in self.entries for run in entry.runs for name in names]
        cards = [repr(metrics.get(name).card) for name in self.metrics]
        code = [file_digest(Path(path)) for path in (__file__, runs_module.__file__)]
        return combine(avbench.__version__, *code, *cards, *self.left_out, *runs)

    def board(self, subset: str = "", sort: str = "", published: bool = False) -> Board:
        """The table of a subset ("" for all samples), best first by the column `sort` (the first that has a direction).

        published: add printed rows of the same suite, unranked. A table of unchanged runs is read from the cache.
        """
        place = cache_root() / "leaderboards" / f"{combine(self.content, subset, sort, str(published))}.json"
        if place.is_file():
            return restored(place.read_text(encoding="utf-8"))
        board = self.compute(subset, sort, published)
        write_atomic(place, json.dumps(asdict(board)).encode())
        return board

    def compute(self, subset: str, sort: str, published: bool) -> Board:
        """The table, from the runs."""
        if subset and subset not in self.subsets:
            raise UnknownName(f"suite {self.suite} has no subset {subset!r}; subsets: {', '.join(self.subsets)}")
        ids = self.subsets[subset] if subset else None
        left_out = list(self.left_out)
        columns: list[Column] = []
        cells: dict[str, dict[str, Cell]] = {entry.model: {} for entry in self.entries}
        for metric, name in [*((m, MAIN) for m in self.metrics), *self.diagnoses()]:
            column, kept, lacking = column_of(self.entries, metric, name, left_out)
            made = sample_cells(column, kept, ids) if column.kind == "sample" else set_cells(column, kept, subset)
            columns.append(column)
            for model in [*made, *lacking]:
                cells[model][column.id] = made.get(model) or Cell(note="not scored in this way")
        rows = [Row(e.model, str(e.runs[0].folder), cells[e.model]) for e in self.entries]
        manifest = self.entries[0].runs[0].manifest["suite"]
        return Board(
            self.suite, str(manifest["version"]), str(manifest["digest"]), subset,
            len(ids) if ids is not None else int(manifest["samples"]), tuple(columns),
            tuple(ordered(rows, columns, sort)),
            tuple(published_rows(self.suite, subset, columns)) if published else (),
            tuple(dict.fromkeys(left_out)), (*self.unranked, *still_winners(rows, columns)),
        )  # fmt: skip

    @property
    def unranked(self) -> list[str]:
        """Models shown by a partial run."""
        return [f"{e.model}: partial run ({e.partial}), shown without a rank" for e in self.entries if e.partial]

    def diagnoses(self) -> list[tuple[str, str]]:
        """Measures of motion to show beside metrics that reward stillness, where they are not columns already."""
        if not set(self.metrics) & set(knowledge()["rewarded_by_stillness"]):
            return []
        have = {m["id"] for entry in self.entries for run in entry.runs for m in run.manifest["metrics"]}
        motion = next((one for one in knowledge()["motion"] if one["metric"] in have), None)
        if motion is None or (not motion["field"] and motion["metric"] in self.metrics):
            return []
        has = any(entry.values(motion["metric"], motion["field"]) for entry in self.entries)
        return [(motion["metric"], motion["field"])] if has else []


def ordered(rows: Sequence[Row], columns: Sequence[Column], sort: str) -> list[Row]:
    """Rows by a column, best first, those without a value last; by name where `sort` is "model"."""
    if sort == "model":
        return sorted(rows, key=lambda row: row.model)
    if sort and sort not in {column.id for column in columns}:
        raise UserError(f"--sort {sort}: no such column; columns: model, {', '.join(c.id for c in columns)}")
    column = next((c for c in columns if (c.id == sort if sort else c.better != "none")), None)
    if column is None:
        return sorted(rows, key=lambda row: row.model)
    sign = -1 if column.better == "higher" else 1
    last = 1 + max((row.cells[column.id].group or 0 for row in rows), default=0)

    def place(row: Row) -> tuple[bool, int, float, str]:
        cell = row.cells[column.id]
        return cell.value is None, cell.group or last, sign * (cell.value or 0.0), row.model

    return sorted(rows, key=place)


def still_winners(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Warnings for near-static models that stand best in a metric that rewards stillness."""
    shown = {column.id: column for column in columns}
    known = knowledge()
    motion = next((m for m in known["motion"] if f"{m['metric']}.{m['field']}".strip(".") in shown), None)
    watched = [shown[name] for name in known["rewarded_by_stillness"] if name in shown]
    if motion is None or not watched:
        return []
    name = f"{motion['metric']}.{motion['field']}".strip(".")
    moves = {row.model: v for row in rows if (v := row.cells[name].value) is not None}
    found = []
    for model, value in moves.items():
        others = [other for who, other in moves.items() if who != model]
        usual = statistics.median(others) if others else None
        if not near_static(value, usual, motion):
            continue
        won = [c.id for c in watched for row in rows if row.model == model and row.cells[c.id].mark == 1]
        if won:
            beside = "" if usual is None else f" (median of the others {usual:.3g})"
            found.append(
                f"{model} stands best in {', '.join(won)} but hardly moves: {name} {value:.3g}{beside}; a still video "
                "offends no measure of synchrony or consistency"
            )
    return found


def near_static(value: float, usual: float | None, motion: Mapping[str, Any]) -> bool:
    """Whether a measure of motion says that a model's videos hardly move."""
    if motion["still"] == "above":
        return bool(value >= motion["limit"])
    return bool(value <= motion["limit"] or (motion["relative"] and usual is not None and value < usual / 2))


def published_rows(suite: str, subset: str, columns: Sequence[Column]) -> list[Row]:
    """Printed results on this suite for the metrics shown, one row per system and table: values without a rank."""
    from avbench.baselines.published import tables

    base, _, part = suite.partition("/")
    wanted = subset or part
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for table in tables():
        if table.kind != "results":
            continue
        for cell in table.cells:
            for column in columns:
                name, _, protocol = column.metric.partition("@")
                if column.field or cell.value is None or (cell.suite, cell.subset.lower()) != (base, wanted):
                    continue
                if cell.column.metric != name or (protocol and cell.protocol != protocol):
                    continue
                system = " ".join(part for part in (cell.system, cell.arm) if part)
                doubts = [*cell.errata, cell.uncertain]
                note = "; ".join(text for text in (f"protocol {cell.protocol}", *doubts) if text)
                row = found.setdefault((system, table.id), {})
                row.setdefault(column.id, Cell(cell.natural, note=note))
    return [Row(system, "", cells, table) for (system, table), cells in found.items()]


def restored(text: str) -> Board:
    """A board from its JSON."""

    def row(raw: dict[str, Any]) -> Row:
        return Row(**{**raw, "cells": {name: Cell(**cell) for name, cell in raw["cells"].items()}})

    raw = json.loads(text)
    columns = tuple(Column(**{**one, "unverified": tuple(one["unverified"])}) for one in raw["columns"])
    rows = {name: tuple(map(row, raw[name])) for name in ("rows", "published")}
    texts = {name: tuple(raw[name]) for name in ("left_out", "warnings")}
    return Board(**{**raw, "columns": columns, **rows, **texts})


def document(board: Board) -> dict[str, Any]:
    """The board as one JSON document."""
    found = asdict(board)
    for column, one in zip(found["columns"], board.columns):
        column["id"] = one.id
    return {**found, "unverified_weights": list(board.unverified)}
