"""The command line. Command modules import nothing heavy until their command runs."""

from __future__ import annotations

import logging
import signal
import sys

import typer

from avbench.cli import compare, doctor, evaluate, leaderboard, listing, pages, reproduce, suites, train

app = typer.Typer(
    name="avbench",
    help="Evaluate sounding-video generators with numbers you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate.register(app)
train.register(app)
compare.register(app)
leaderboard.register(app)
reproduce.register(app)
pages.register(app)
suites.register(app)
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


def optional_value(words: list[str], option: str) -> list[str]:
    """Typer has no options with an optional value: give a bare one the empty value."""
    bare = [w == option and (i + 1 == len(words) or words[i + 1].startswith("-")) for i, w in enumerate(words)]
    return [f"{word}=" if lone else word for word, lone in zip(words, bare)]


def main() -> None:
    """Entry point of the `avbench` script and of `python -m avbench`."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns of a kernel that nothing here uses, when imported
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is as good as Ctrl-C
    app(optional_value(sys.argv[1:], "--ray"))
