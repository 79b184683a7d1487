"""`reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from avbench.cli.common import Json, command, parse_weights, print_json, print_table
from avbench.cli.evaluate import DEVICE, LIMIT, OUT, WEIGHTS, progress_for

if TYPE_CHECKING:
    from avbench.reproduce import Line, Reproduction

FORMATS = ("table", "md", "latex", "csv", "json")
MARK = "≠"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce")(reproduce_command)


@command
def reproduce_command(
    table: str = typer.Argument("", help="A published table, such as bridgedit-1, or an experiment."),
    list_: bool = typer.Option(False, "--list", help="All published tables with results."),
    model: list[str] = typer.Option([], "--model", "-m", help="A model or run folder; all with runs if none."),
    runs_only: bool = typer.Option(False, "--runs-only", help="Assemble finished runs; evaluate nothing."),
    format: str = typer.Option("table", "--format", help="table, md, latex, csv or json."),
    out: Path = OUT,
    device: str = DEVICE,
    limit: int | None = LIMIT,
    scale: str = typer.Option("", "--scale", help="Of an experiment that trains: smoke, shipped, cpu or gpu."),
    weights: list[str] = WEIGHTS,
    json: bool = Json,
) -> None:
    """A table of a paper with our numbers beside the printed ones, and why which cannot be compared."""
    from avbench.errors import MissingResource, UserError
    from avbench.reproduce import RECIPES, collect, document, models_with_runs, recipe, reproduce, results

    format = "json" if json else format
    if format not in FORMATS:
        raise UserError(f"--format {format}: use one of {', '.join(FORMATS)}")
    if list_ or not table:
        list_tables(format == "json")
        return
    if table in RECIPES:
        with progress_for(quiet=False) as progress:
            said = recipe(table, scale or "smoke")(scale or "smoke", out, device, progress)
        typer.echo(said)
        return
    if scale:
        known = f"experiments: {', '.join(RECIPES)}" if RECIPES else "no experiment is installed"
        raise UserError(f"--scale belongs to experiments, and {table} is none ({known})")
    found = results(table)
    make = None if runs_only or not model else evaluator(out, device, limit, weights)
    runs, lacking = collect(found, model or models_with_runs(found, out), out, make)
    if model and not runs:
        raise MissingResource("\n".join(lacking) or f"no run of {', '.join(model)} belongs to table {table}")
    one = reproduce(found, runs, lacking)
    if format == "json":
        print_json(document(one))
    else:
        typer.echo(render(one, format) if format != "table" else "", nl=format != "table")
        if format == "table":
            show(one)


def evaluator(out: Path, device: str, limit: int | None, weights: list[str]) -> Any:
    """What evaluates a model on a suite with the metrics that no run has yet."""
    from avbench.evaluation import Spec, perform, pick_device
    from avbench.execute import Settings

    settings, local = Settings(device=pick_device(device)), parse_weights(weights)

    def evaluate(model: str, suite: str, metrics: list[str]) -> Any:
        spec = Spec(model, suite, tuple(metrics), limit, weights=local, out=out, allow_failed="100%", settings=settings)
        with progress_for(quiet=False) as progress:
            return perform(spec, progress)

    return evaluate


def list_tables(as_json: bool) -> None:
    """All published tables with results, and the experiments that train."""
    from avbench.baselines.published import tables
    from avbench.reproduce import RECIPES, SCALES

    found = [one for one in tables() if one.kind == "results"]
    if as_json:
        print_json([{"table": t.id, "title": t.title, "source": t.source, "cells": len(t.cells)} for t in found])
        return
    rows = [[t.id, ", ".join(dict.fromkeys(c.suite for c in t.cells)), str(len(t.rows)), t.title] for t in found]
    print_table(["table", "suites", "rows", "title"], rows, right=["rows"])
    typer.echo(f"\nexperiments, with --scale {'|'.join(SCALES)}: {', '.join(RECIPES)}")


def head(one: Reproduction) -> list[str]:
    """Column names with direction; the suite too where the columns have several."""
    from avbench.results import arrow

    first = one.lines[0].context
    several = len(set(first)) > 1
    places = [f" · {place(where)}" if several else "" for where in first]
    return ["model", *(f"{c.name} {arrow(c.better)}".strip() + where for c, where in zip(one.table.columns, places))]


def place(where: tuple[str, str]) -> str:
    """suite/subset."""
    suite, subset = where
    return f"{suite}/{subset}" if subset else suite


def grid(one: Reproduction) -> list[list[str]]:
    """All lines as text: printed digits as they are, our cells with the numbers of their reasons."""
    numbers = {why: str(index) for index, why in enumerate(one.notes, 1)}
    rows: list[list[str]] = []
    last = None
    for line in one.lines:
        if line.context != last and len(set(line.context)) == 1 and len({found.context for found in one.lines}) > 1:
            rows.append([f"— {place(line.context[0])} —", *([""] * len(one.table.columns))])
        last = line.context
        rows.append([label(line), *(words(line, index, numbers) for index in range(len(one.table.columns)))])
    return rows


def label(line: Line) -> str:
    """Whose row it is."""
    return f"{line.name} [ours]" if line.ours else line.name


def words(line: Line, index: int, numbers: dict[str, str]) -> str:
    """One cell."""
    from avbench.results import number

    if not line.ours:
        return line.cells[index].printed or "-"
    cell = line.ours[index]
    reasons = ",".join(numbers[why] for why in cell.why)
    value = number(cell.value) if cell.value is not None else "n/a"
    return f"{value} {MARK}({reasons})" if reasons else value


def remarks(one: Reproduction) -> list[str]:
    """What belongs under every form."""
    found = [f"{one.table.source}", *(f"protocol {name}: {about}" for name, about in one.table.protocols.items())]
    found += [f"({index}) {why}" for index, why in enumerate(one.notes, 1)]
    if one.notes:
        found.append(f"{MARK}: not to be compared with the printed values of its column, for the reasons numbered")
    found += [f"erratum of the paper: {text}" for text in one.table.errata]
    found += [f"lacking: {text}" for text in one.lacking]
    if not any(line.ours for line in one.lines):
        found.append("none of our runs belongs to this table yet: give --model")
    return found


def show(one: Reproduction) -> None:
    """On the terminal."""
    typer.echo(f"{one.table.id}: {one.table.title}\n")
    print_table(head(one), grid(one), right=head(one)[1:])
    typer.echo("\n" + "\n".join(remarks(one)))


def render(one: Reproduction, format: str) -> str:
    """Markdown, LaTeX or CSV."""
    from avbench.cli.compare import ESCAPES, markdown

    if format == "md":
        notes = "\n".join(f"- {line}" for line in remarks(one))
        return f"### {one.table.id}: {one.table.title}\n\n{markdown(head(one), grid(one))}\n\n{notes}"
    if format == "csv":
        return csv_text(one)

    def clean(text: str) -> str:
        return "".join(
            {**ESCAPES, MARK: r"$\neq$", "—": "---", "∥": r"$\parallel$", "→": r"$\to$"}.get(c, c) for c in text
        )

    body = [" & ".join(map(clean, line)) + r" \\" for line in grid(one)]
    begin = rf"\begin{{tabular}}{{l{'r' * len(one.table.columns)}}}"
    top = " & ".join(map(clean, head(one))) + r" \\"
    comments = [f"% {line}" for text in remarks(one) for line in text.splitlines()]
    return "\n".join([*comments, begin, r"\toprule", top, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"])


def csv_text(one: Reproduction) -> str:
    """Long form: one line per cell."""
    import csv
    import io

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(
        ["table", "model", "published", "suite", "subset", "column", "metric", "value", "n", "not_comparable"]
    )
    for line in one.lines:
        for index, (column, (suite, subset)) in enumerate(zip(one.table.columns, line.context)):
            if line.ours:
                ours = line.ours[index]
                cell = [ours.metric, "" if ours.value is None else ours.value, ours.n, "; ".join(ours.why)]
            else:
                printed = line.cells[index]
                cell = [printed.metric, "" if printed.value is None else printed.printed, "", ""]
            writer.writerow([one.table.id, line.name, not line.ours, suite, subset, column.name, *cell])
    return sink.getvalue().rstrip("\n")
