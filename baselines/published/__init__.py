"""Published results as data: every table of five papers, cell by cell, with what qualifies them.

One TOML file per paper:

    paper, title, source         who printed it
    [protocols.NAME] about       how the numbers were made, as far as the paper says
    [[table]]
      id, title                  the paper's number, our words
      kind                       "results" (default), "human" (ratings by people), or without scores: "settings",
                                 "list", "examples"
      suite, subset, protocol    of all cells; a column or a row may name its own
      columns                    name (the paper's), metric (our bare id, "" where there is none), better, unit, scale
                                 (what the paper multiplied natural values with: 100 for a cosine in percent), note
      rows                       system, arm (the variant), values in order of the columns ("-" where there is none),
                                 changes (relative changes in percent, where printed), ours (the row the paper proposes)
      notes                      on the table
      errata, uncertain          {row (system or arm), suite, subset, column (index), text}: every key given must match

Values keep the digits printed. They are what a paper says, not what is true: `Cell.errata` and `Cell.uncertain` travel
with them, and numbers made under different protocols are never ranked together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from avbench.errors import UnknownName
from avbench.metric import Direction

Kind = Literal["results", "human", "settings", "list", "examples"]
BLANK = "-"
TABLE_KEYS = {
    "id", "kind", "title", "suite", "subset", "protocol", "columns", "rows", "notes", "errata", "uncertain",
}  # fmt: skip
COLUMN_KEYS = {"name", "metric", "better", "unit", "scale", "suite", "subset", "protocol", "note"}
ROW_KEYS = {"system", "arm", "suite", "subset", "values", "changes", "ours"}
REMARK_KEYS = {"row", "suite", "subset", "column", "text"}


@dataclass(frozen=True)
class Column:
    """One column as printed; `metric` is our bare id, "" where we have none."""

    name: str
    metric: str
    better: Direction
    unit: str
    scale: float
    note: str


@dataclass(frozen=True)
class Cell:
    """One cell with all that it depends on.

    value:     the number as printed, None where the paper has none or prints words.
    printed:   its digits (or words), "" where blank.
    natural:   value / column.scale: in the metric's natural unit.
    change:    the relative change in percent that the paper prints beside the value, None where it prints none.
    errata:    mistakes and contradictions of the paper that concern this cell.
    uncertain: why the value may not be what the paper prints, "" where there is no doubt.
    """

    table: str
    system: str
    arm: str
    ours: bool
    column: Column
    suite: str
    subset: str
    protocol: str
    value: float | None
    printed: str
    change: float | None
    errata: tuple[str, ...]
    uncertain: str

    @property
    def natural(self) -> float | None:
        return None if self.value is None else self.value / self.column.scale

    @property
    def metric(self) -> str:
        """Our id under the paper's protocol, such as `fvd@javisbench`: comparable where that is a registered metric."""
        return f"{self.column.metric}@{self.protocol}" if self.column.metric else ""


@dataclass(frozen=True)
class Table:
    """One printed table; `cells` are row by row."""

    id: str
    paper: str
    number: str
    kind: Kind
    title: str
    source: str
    protocols: Mapping[str, str]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    errata: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells in rows."""
        width = len(self.columns)
        return [self.cells[i : i + width] for i in range(0, len(self.cells), width)] if width else []

    @property
    def blanks(self) -> int:
        """How many cells the paper leaves empty."""
        return sum(not cell.printed for cell in self.cells)


@cache
def tables() -> tuple[Table, ...]:
    """All tables, by paper and in printed order."""
    folder = files(__name__)
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return tuple(found for name in names for found in read_paper((folder / name).read_text(encoding="utf-8"), name))


def table(id: str) -> Table:
    """One table by id, such as `bridgedit-1` or `javisdit-plus-plus-A2`."""
    for found in tables():
        if found.id.lower() == id.lower():
            return found
    raise UnknownName(f"no published table {id!r}\n  tables: {', '.join(found.id for found in tables())}")


def rows_for(suite: str, metric: str, subset: str | None = None) -> list[Cell]:
    """All published values of a metric on a suite, for a bare id (`fvd`) or one with its protocol (`fvd@javisbench`).

    subset: only this one ("" for the whole suite); all subsets where None. Cells without a number are left out.
    """
    name, _, protocol = metric.partition("@")
    return [
        cell
        for found in tables()
        for cell in found.cells
        if cell.value is not None
        and (cell.suite, cell.column.metric) == (suite, name)
        and (not protocol or cell.protocol == protocol)
        and (subset is None or cell.subset == subset)
    ]


def read_paper(text: str, where: str) -> Iterator[Table]:
    """The tables of one file. Unknown keys and rows that do not fit their columns are refused."""
    paper = tomllib.loads(text, parse_float=Decimal)
    protocols = {name: " ".join(one["about"].split()) for name, one in paper.get("protocols", {}).items()}
    for raw in paper["table"]:
        place = f"{where}: table {raw['id']}"
        _check_keys(raw, TABLE_KEYS, place)
        columns = tuple(_column(one, place) for one in raw.get("columns", ()))
        table_id = f"{paper['paper']}-{raw['id']}"
        cells = tuple(cell for row in raw.get("rows", ()) for cell in _cells(table_id, raw, row, columns, place))
        for remark in (*raw.get("errata", ()), *raw.get("uncertain", ())):
            _check_keys(remark, REMARK_KEYS, place)
            if cells and not _matches_any(remark, raw):
                raise ValueError(f"{place}: a remark matches no cell: {remark}")
        used = {cell.protocol for cell in cells}
        if used - set(protocols):
            raise ValueError(f"{place}: protocols without a description: {used - set(protocols)}")
        yield Table(
            id=table_id,
            paper=paper["paper"],
            number=raw["id"],
            kind=raw.get("kind", "results"),
            title=raw["title"],
            source=f"{paper['title']}. {paper['source']}",
            protocols={name: protocols[name] for name in sorted(used)},
            columns=columns,
            cells=cells,
            notes=tuple(raw.get("notes", ())),
            errata=tuple(one["text"] for one in raw.get("errata", ())),
        )


def _column(raw: Mapping[str, Any], place: str) -> Column:
    _check_keys(raw, COLUMN_KEYS, place)
    return Column(
        name=raw["name"],
        metric=raw.get("metric", ""),
        better=raw.get("better", "none"),
        unit=raw.get("unit", ""),
        scale=float(raw.get("scale", 1)),
        note=raw.get("note", ""),
    )


def _cells(
    id: str, raw: Mapping[str, Any], row: Mapping[str, Any], columns: tuple[Column, ...], place: str
) -> Iterator[Cell]:
    """The cells of one row."""
    _check_keys(row, ROW_KEYS, place)
    values, changes = row["values"], row.get("changes", [None] * len(columns))
    if not len(values) == len(changes) == len(columns):
        raise ValueError(f"{place}: {row['system']}: {len(values)} values for {len(columns)} columns")
    for index, (column, value, change) in enumerate(zip(columns, values, changes)):
        where = _where(raw, row, index)
        errata = tuple(
            one["text"]
            for one in raw.get("errata", ())
            if one.keys() & {"row", "column"} and _matches(one, row, where, index)
        )
        doubts = [one["text"] for one in raw.get("uncertain", ()) if _matches(one, row, where, index)]
        yield Cell(
            table=id,
            system=row["system"],
            arm=row.get("arm", ""),
            ours=row.get("ours", False),
            column=column,
            **where,
            value=float(value) if isinstance(value, Decimal | int) else None,
            printed="" if value == BLANK else str(value),
            change=None if change is None else float(change),
            errata=errata,
            uncertain=" ".join(doubts),
        )


def _where(raw: Mapping[str, Any], row: Mapping[str, Any], index: int) -> dict[str, str]:
    """Suite, subset and protocol of a cell: the row's, else the column's, else the table's."""
    column = raw["columns"][index]
    return {key: row.get(key, column.get(key, raw.get(key, ""))) for key in ("suite", "subset", "protocol")}


def _matches(remark: Mapping[str, Any], row: Mapping[str, Any], where: Mapping[str, str], index: int) -> bool:
    """Whether a remark concerns this cell: all that it names must agree."""
    return (
        remark.get("row", row["system"]) in (row["system"], row.get("arm"))
        and remark.get("column", index) == index
        and all(remark.get(key, where[key]) == where[key] for key in ("suite", "subset"))
    )


def _matches_any(remark: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
    return any(
        _matches(remark, row, _where(raw, row, index), index)
        for row in raw["rows"]
        for index in range(len(raw["columns"]))
    )


def _check_keys(raw: Mapping[str, Any], known: set[str], place: str) -> None:
    if unknown := set(raw) - known:
        raise ValueError(f"{place}: unknown keys {', '.join(sorted(unknown))}")
