"""`compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from avbench.cli.common import command, print_json, print_table

if TYPE_CHECKING:
    from avbench.run import Run

FORMATS = ("table", "md", "latex", "json")
HEAD = (
    "metric",
    "subset",
    "A",
    "B",
    "B - A",
    "95 % interval",
    "change",
    "p (Holm)",
    "wins",
    "detectable",
    "n",
    "verdict",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_command)


@command
def compare_command(
    a: str = typer.Argument(..., help="A run folder, or a model's name: its latest finished run."),
    b: str = typer.Argument(..., help="The run that is judged against A."),
    suite: str = typer.Option("", "--suite", "-s", help="The suite whose runs are meant, where A and B are names."),
    by: str = typer.Option("", "--by", help="Subsets, comma-separated; all samples if not given."),
    format: str = typer.Option("table", "--format", help="table, md, latex or json."),
    out: Path = typer.Option(Path("runs"), "--out", help="Folder of runs."),
) -> None:
    """Is B better than A? Paired over the samples both scored, with interval, permutation p and Holm's correction."""
    from avbench.compare import compare, document
    from avbench.errors import UserError
    from avbench.run import find_run

    if format not in FORMATS:
        raise UserError(f"--format {format}: use one of {', '.join(FORMATS)}")
    first, second = find_run(a, out, suite or None), find_run(b, out, suite or None)
    rows = compare(first, second, [name.strip() for name in by.split(",") if name.strip()])
    if format == "json":
        print_json(document(first, second, rows))
        return
    cells = [line(row) for row in rows]
    if format == "table":
        typer.echo(f"{described('A', first)}\n{described('B', second)}\n")
        print_table(HEAD, cells, right=("A", "B", "B - A", "change", "p (Holm)", "wins", "detectable", "n"))
        sets = [SETS] if any(row.estimate is not None for row in rows) else []
        typer.echo("\n" + "\n".join([LEGEND, *sets, *too_few(rows)]))
    else:
        typer.echo((markdown if format == "md" else latex)(HEAD, cells))


LEGEND = (
    "Paired over samples both scored. p: sign-flip permutation, Holm-adjusted over all rows shown. detectable: a true\n"
    "difference of this size would have been shown in four cases of five, among so many rows."
)
SETS = (
    "Set metrics: interval and p are of the difference without the bias of n samples (joint half-samples), so the\n"
    "interval need not surround B - A."
)


def described(side: str, run: Run) -> str:
    """A side of the comparison, and how many clips it has where some lack."""
    from avbench.entries import clips_ok

    lacks = "" if run.manifest["status"] == "complete" else f"; {run.manifest['status']} run, {clips_ok(run)}"
    return f"{side} = {run.model} ({run.folder}){lacks}"


def too_few(rows: Sequence[Any]) -> list[str]:
    """Say where a verdict was out of reach from the start."""
    from avbench.stats import fewest

    tested = [row for row in rows if row.p is not None]
    least = fewest(len(tested)) if tested else 0
    sizes = sorted({row.n for row in tested if row.kind == "sample" and row.n < least})
    if not sizes:
        return []
    few, among = ", ".join(map(str, sizes)), f" among {len(tested)} rows" if len(tested) > 1 else ""
    return [f"n = {few}: no difference can be shown with fewer than {least} samples{among}, however large."]


def line(row: Any) -> list[str]:
    """A row of the table."""
    from avbench.results import arrow, number

    def cell(value: float | None) -> str:
        return "" if value is None else number(value)

    interval = f"[{cell(row.low)}, {cell(row.high)}]" if row.low is not None else ""
    return [
        f"{row.metric} {arrow(row.better)}".strip(), row.subset, cell(row.a), cell(row.b), cell(row.difference),
        interval, "" if row.relative is None else f"{row.relative:+.1%}", "" if row.holm is None else p_words(row.holm),
        "" if row.win_rate is None else f"{row.win_rate:.0%}", cell(row.detectable), str(row.n or ""), row.verdict,
    ]  # fmt: skip


def p_words(p: float) -> str:
    """A p value; very small ones as a bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


ESCAPES = {
    **{c: "\\" + c for c in "_%&#${}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"$<$",
}  # fmt: skip


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A booktabs table."""

    def escaped(cells: Sequence[str]) -> str:
        return " & ".join("".join(ESCAPES.get(c, c) for c in cell) for cell in cells) + r" \\"

    body = [escaped(row) for row in rows]
    columns = "ll" + "r" * (len(head) - 3) + "l"
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", escaped(head), r"\midrule", *body, r"\bottomrule", end])
