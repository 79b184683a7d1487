"""What all commands share: errors to exit codes, JSON on stdout, tables."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer

from avbench.errors import SampleError, UserError

F = TypeVar("F", bound=Callable[..., None])
INTERRUPTED = 130
Json = typer.Option(False, "--json", help="Print one JSON document on stdout and nothing else there.")


def command(function: F) -> F:
    """Turn errors into one message on stderr and the exit code that belongs to it."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except UserError as error:
            fail(str(error), error.exit_code)
        except SampleError as error:
            fail(str(error), 3)
        except KeyboardInterrupt:
            fail("interrupted; repeat the command to continue where it stopped", INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            fail(disk_message(error), 1)

    return wrapped  # type: ignore[return-value]


def fail(message: str, code: int) -> None:
    """Say what is wrong and leave."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def disk_message(error: OSError) -> str:
    """A full or read-only disk in words."""
    where = f" {error.filename}" if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "make room" if full else "name writable folders (--out, and AVBENCH_CACHE for the store)"
    kept = f"what was computed is kept; {mend} and repeat the command to continue"
    return f"cannot write{where}: {error.strerror}\n  {kept}"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A plain table on stdout. Only the last column folds: a narrow terminal wraps lines rather than lose figures."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["right", "left"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    widths = [max(map(cell_len, cells)) + 2 for cells in list(zip(columns, *rows))[:-1]]
    screen = Console().width if sys.stdout.isatty() else 160
    Console(width=max(screen, sum(widths) + 24)).print(table, soft_wrap=True)


def parse_weights(pairs: Sequence[str]) -> dict[str, Path]:
    """`--weights NAME=FILE`, over `[weights]` of avbench.toml."""
    from avbench.generator import CONFIG
    from avbench.suite import read_toml

    config = Path(CONFIG)
    declared = read_toml(config).get("weights", {}) if config.is_file() else {}
    found = {name: (config.parent / str(path)).expanduser() for name, path in declared.items()}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise UserError(f"--weights {pair}: write NAME=FILE")
        found[name] = Path(path).expanduser()
    return found


def warn_failures(registry: Any) -> None:
    """Name the plugins that could not be loaded."""
    for name, reason in registry.failures.items():
        typer.echo(f"warning: {registry.kind} {name} is left out: {reason}", err=True)


def plain(value: Any) -> str:
    """A value for a table cell."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
