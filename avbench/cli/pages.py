"""`report` (and, with them, all commands that make pages from runs)."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.cli.common import command

OUT = typer.Option(Path("runs"), "--out", help="Folder of runs, where RUN is the name of a model.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("report")(report_command)


@command
def report_command(
    run: str = typer.Argument(..., help="A run folder, or a model's name: its latest run."),
    output: Path | None = typer.Option(None, "-o", "--output", help="The page; RUN/report.html if not given."),
    out: Path = OUT,
) -> None:
    """One self-contained HTML page of a run: summary, distributions, best and worst clips with players."""
    from avbench.report import write_report
    from avbench.run import find_run

    found = find_run(run, out)
    typer.echo(str(write_report(found, output or found.folder / "report.html")))
