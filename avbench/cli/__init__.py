"""The command line. Command modules import nothing heavy until their command runs."""

from __future__ import annotations

import typer

from avbench.cli import compare, doctor, evaluate, leaderboard, listing, pages

app = typer.Typer(
    name="avbench",
    help="Evaluate sounding-video generators with numbers you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate.register(app)
compare.register(app)
leaderboard.register(app)
pages.register(app)
listing.register(app)
doctor.register(app)


def version(show: bool) -> None:
    """Print the version and stop."""
    if show:
        from avbench import __version__

        typer.echo(f"avbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    show: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version and stop."),
) -> None:
    """Evaluate sounding-video generators with numbers you can trust."""


def main() -> None:
    """Entry point of the `avbench` script and of `python -m avbench`."""
    app()
