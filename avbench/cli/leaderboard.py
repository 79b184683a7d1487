"""`leaderboard`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.common import command, print_json, print_table

if TYPE_CHECKING:
    from avbench.leaderboard import Board, Boards, Cell, Column, Row

FORMATS = ("table", "md", "latex", "csv", "json", "html")
WIDTH = 160  # characters of a table on the terminal
PRINTED = "†"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("leaderboard")(leaderboard_command)


@command
def leaderboard_command(
    suite: list[str] = typer.Option([], "--suite", "-s", help="The suite; with --format html several, or all."),
    metrics: str = typer.Option("", "--metrics", help="Metric ids and groups, comma-separated; all if not given."),
    subset: str = typer.Option("", "--subset", help="Only the samples of this subset."),
    sort: str = typer.Option("", "--sort", help="Column to sort by, or `model`; the first metric if not given."),
    published: bool = typer.Option(False, "--published", help="Add the rows that papers print, unranked."),
    correlations: bool = typer.Option(False, "--correlations", help="How the metrics agree, instead of the table."),
    format: str = typer.Option("table", "--format", help="table, md, latex, csv, json or html."),
    partial: bool = typer.Option(False, "--partial", help="Also models whose only finished run lacks clips, unranked."),
    clips: int = typer.Option(12, "--clips", help="html: prompts whose clips can be played side by side."),
    output: Path | None = typer.Option(None, "-o", "--output", help="A file; with --format html a folder."),
    out: Path = typer.Option(Path("runs"), "--out", help="Folder of runs."),
) -> None:
    """All models of a suite in one table: values, intervals and rank groups that noise cannot turn."""
    from avbench.errors import UserError
    from avbench.leaderboard import Boards, document

    if format not in FORMATS:
        raise UserError(f"--format {format}: use one of {', '.join(FORMATS)}")
    asked = [name.strip() for name in metrics.split(",") if name.strip()]
    if format == "html":
        write_html(out, suite, asked, published, clips, output, partial)
        return
    if len(suite) != 1:
        raise UserError("give one --suite (several, or all, only with --format html)")
    boards = Boards(out, suite[0], asked, partial)
    if correlations:
        show_correlations(boards, format, output)
        return
    board = boards.board(subset, sort, published)
    if format == "json":
        print_json(document(board)) if output is None else save(output, dumps(document(board)))
    elif format == "table" and output is None:
        show_table(board)
    else:
        text = RENDERERS["md" if format == "table" else format](board)
        typer.echo(text) if output is None else save(output, text)


def write_html(
    out: Path,
    suites: Sequence[str],
    metrics: Sequence[str],
    published: bool,
    clips: int,
    output: Path | None,
    partial: bool,
) -> None:
    """The static site."""
    from avbench.entries import suites_in
    from avbench.errors import UserError
    from avbench.site import write_site

    if output is None:
        raise UserError("--format html writes a folder: name it with -o DIR")
    names = list(suites) or suites_in(out, partial)
    if not names:
        raise UserError(f"{out} holds no complete run")

    def say(line: str) -> None:
        typer.echo(line, err=True)

    typer.echo(str(write_site(out, names, output, metrics, published, clips, say, partial)))


def save(path: Path, text: str) -> None:
    """Write a file and say where."""
    from avbench.store import write_atomic

    write_atomic(path, (text.rstrip("\n") + "\n").encode())
    typer.echo(str(path))


def dumps(value: object) -> str:
    import json

    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


# Cells in words -------------------------------------------------------------------------------------------------------


def head(column: Column) -> str:
    """A column's name with its direction."""
    from avbench.results import arrow

    return f"{column.id} {arrow(column.better)}".strip()


def words(cell: Cell, common: int | None) -> str:
    """value [low, high] group, and n where it is not that of all."""
    from avbench.results import number

    if cell.value is None:
        return cell.note.partition(";")[0] or "n/a"
    interval = f" [{number(cell.low, 3)}, {number(cell.high, 3)}]" if cell.low is not None else ""
    group = f" ({cell.group})" if cell.group else ""
    size = f" n={cell.n}" if common is None and cell.n else ""
    return f"{number(cell.value)}{interval}{group}{size}"


def common_n(board: Board, column: Column) -> int | None:
    """The number of samples behind all values of a column, None where they differ."""
    found = {row.cells[column.id].n for row in board.rows if row.cells[column.id].value is not None}
    return found.pop() if len(found) == 1 else None


def title(board: Board) -> str:
    """Suite, subset, number of samples."""
    where = f"{board.suite}/{board.subset}" if board.subset else board.suite
    return f"{where} (version {board.version}, digest {board.digest[:12]}), {board.samples} samples"


LEGEND = (
    "value [95 % interval of the mean] (rank group): models of one group are not shown to differ (paired tests, Holm "
    "over the column). Set metrics have one value per model and no group; the best is marked by value alone."
)


def remarks(board: Board) -> list[str]:
    """What belongs under every form of the table."""
    found = [LEGEND]
    for column in board.columns:
        sizes = sorted({row.cells[column.id].n for row in board.rows if row.cells[column.id].value is not None})
        if len(sizes) == 1 and sizes[0] != board.samples:
            found.append(f"{column.id}: n = {sizes[0]}")
    if board.unverified:
        found.append(f"unverified weights (digest is not the published one): {', '.join(board.unverified)}")
    found += [f"warning: {text}" for text in board.warnings]
    found += [f"left out: {text}" for text in board.left_out]
    if board.published:
        found.append(f"{PRINTED} printed in the paper named, under the paper's own protocol; never ranked")
        found += [f"{PRINTED} {table}: {notes}" for table, notes in printed_notes(board).items()]
    return found


def printed_notes(board: Board) -> dict[str, str]:
    """{printed table: protocols and doubts of its cells}."""
    found: dict[str, dict[str, None]] = {}
    for row in board.published:
        parts = (part for cell in row.cells.values() for part in cell.note.split("; "))
        found.setdefault(row.published, {}).update(dict.fromkeys(parts))
    return {table: "; ".join(parts) for table, parts in found.items()}


def name_of(row: Row) -> str:
    return f"{row.model} {PRINTED} {row.published}" if row.published else row.model


def grid(board: Board, columns: Sequence[Column]) -> list[list[str]]:
    """All rows as text."""
    from avbench.leaderboard import Cell

    sizes = {column.id: common_n(board, column) for column in columns}
    printed = [row for row in board.published if any(row.cells.get(c.id, Cell()).value is not None for c in columns)]
    return [
        [name_of(row), *(words(row.cells[c.id], sizes[c.id]) if c.id in row.cells else "" for c in columns)]
        for row in (*board.rows, *printed)
    ]


def show_table(board: Board) -> None:
    """The table on the terminal, in blocks of as many columns as fit."""
    typer.echo(title(board))
    start = 0
    while start < len(board.columns):
        stop = start + 1
        while stop < len(board.columns) and fits(board, board.columns[start : stop + 1]):
            stop += 1
        columns = board.columns[start:stop]
        typer.echo("")
        print_table(["model", *map(head, columns)], grid(board, columns))
        start = stop
    typer.echo("\n" + "\n".join(remarks(board)))


def fits(board: Board, columns: Sequence[Column]) -> bool:
    """Whether these columns fit a line."""
    lines = [["model", *map(head, columns)], *grid(board, columns)]
    return sum(max(len(line[i]) for line in lines) + 2 for i in range(len(columns) + 1)) <= WIDTH


def markdown(board: Board) -> str:
    """A Markdown table; the best bold, the second underlined."""
    from avbench.cli.compare import markdown as table

    rows = styled(board, {1: "**{}**", 2: "<u>{}</u>"})
    notes = "\n".join(f"- {line}" for line in remarks(board))
    return f"### {title(board)}\n\n{table(['model', *map(head, board.columns)], rows)}\n\n{notes}\n"


def styled(board: Board, marks: Mapping[int, str], clean: Callable[[str], str] = str) -> list[list[str]]:
    """The grid with every cell cleaned and the marked values dressed; interval and group stay plain."""
    rows = {name_of(row): row for row in (*board.rows, *board.published)}

    def dressed(text: str, row: Row, column: Column) -> str:
        cell = row.cells.get(column.id)
        if cell is None or not cell.mark:
            return clean(text)
        value, space, rest = text.partition(" ")
        return marks[cell.mark].format(clean(value)) + clean(space + rest)

    return [
        [clean(line[0]), *(dressed(text, rows[line[0]], column) for column, text in zip(board.columns, line[1:]))]
        for line in grid(board, board.columns)
    ]


def latex(board: Board) -> str:
    """A booktabs table; notes as comments above it."""
    from avbench.cli.compare import ESCAPES

    escapes = {**ESCAPES, PRINTED: r"$\dagger$", ">": "$>$"}

    def clean(text: str) -> str:
        return "".join(escapes.get(c, c) for c in text)

    lines = styled(board, {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}, clean)
    body = [" & ".join(line) + r" \\" for line in lines]
    measured = len(board.rows)
    rows = [*body[:measured], *([r"\midrule", *body[measured:]] if body[measured:] else [])]
    top = " & ".join(clean(text) for text in ["model", *map(head, board.columns)]) + r" \\"
    begin = rf"\begin{{tabular}}{{l{'r' * len(board.columns)}}}"
    notes = [f"% {line}" for line in (title(board), *remarks(board))]
    return "\n".join([*notes, begin, r"\toprule", top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])


def csv_text(board: Board) -> str:
    """Long form: one line per model and column."""
    import csv
    import io

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for row in (*board.rows, *board.published):
        for column in board.columns:
            cell = row.cells.get(column.id)
            if cell is None:
                continue
            writer.writerow(
                [board.suite, board.subset, row.model, row.published, column.id, column.better, column.unit,
                 *("" if v is None else v for v in (cell.value, cell.low, cell.high, cell.n, cell.group)), cell.note,
                 " ".join(column.unverified)]
            )  # fmt: skip
    return sink.getvalue()


CSV_HEAD = (
    "suite", "subset", "model", "published", "metric", "better", "unit", "value", "low", "high", "n", "group", "note",
    "unverified_weights",
)  # fmt: skip
RENDERERS = {"md": markdown, "latex": latex, "csv": csv_text}


# Correlations ---------------------------------------------------------------------------------------------------------


def show_correlations(boards: Boards, format: str, output: Path | None) -> None:
    """How the metrics agree over samples and over models."""
    from dataclasses import asdict

    from avbench.correlation import correlations
    from avbench.errors import UserError

    found = correlations(boards)
    if format == "json":
        text = dumps({"suite": boards.suite, "correlations": [asdict(one) for one in found]})
    elif format in ("table", "md", "csv"):
        columns = ["metric", "metric ", "over samples", "samples", "models", "over models", "models "]
        rows = [
            [
                one.first,
                one.second,
                rho(one.within),
                str(one.samples),
                str(one.models),
                rho(one.between),
                str(one.means),
            ]
            for one in found
        ]
        if format == "table" and output is None:
            print_table(columns, rows, right=columns[2:])
            typer.echo("\n" + CORRELATION_LEGEND)
            return
        from avbench.cli.compare import markdown as table

        text = "\n".join(",".join(line) for line in [columns, *rows]) if format == "csv" else table(columns, rows)
    else:
        raise UserError(f"--correlations has no format {format}; use table, md, csv, json, or --format html for a site")
    typer.echo(text) if output is None else save(output, text)


CORRELATION_LEGEND = (
    "Spearman's rho, turned so that positive means agreement on what is better. Over samples: within each model, then "
    "averaged over models.\nOver models: of the models' means; few models say little."
)


def rho(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
