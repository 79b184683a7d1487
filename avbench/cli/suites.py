"""`avbench suites`: list and show benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from avbench.cli.common import Json, command, plain, print_json, print_table, warn_failures


def register(app: typer.Typer) -> None:
    """Add the group."""
    verbs: dict[str, Callable[..., None]] = {"list": list_suites, "show": show_suite}
    group = typer.Typer(help="List and show suites.", no_args_is_help=True)
    for verb, function in verbs.items():
        group.command(verb)(function)
    app.add_typer(group, name="suites")


@command
def list_suites(json: bool = Json) -> None:
    """All suites."""
    from avbench.registry import suites

    names = suites.list()
    warn_failures(suites)
    if json:
        print_json(names)
        return
    typer.echo("\n".join(names) or "no suites")


@command
def show_suite(name: str, json: bool = Json) -> None:
    """A suite: samples, subsets, metrics, protocol, licence."""
    from avbench.suite import load_suite

    suite = load_suite(name)
    facts: dict[str, Any] = {
        "name": suite.name, "version": suite.version, "samples": len(suite.samples), "description": suite.description,
        "metrics": list(suite.metrics), "protocol": dict(suite.protocol), "pattern": suite.pattern,
        "licence": suite.licence, "source": suite.source, "digest": suite.digest,
        "subsets": {tag: len(ids) for tag, ids in suite.subsets.items()},
    }  # fmt: skip
    if json:
        print_json(facts)
        return
    print_table(["suite", suite.name], [[key, plain(value)] for key, value in facts.items() if key != "name" and value])
    typer.echo("\nfirst samples:")
    for sample in suite.samples[:3]:
        typer.echo(f"  {sample.id}: {sample.text}")
