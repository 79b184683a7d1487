"""`metrics`, `models`, `weights`: list, show, pull, verify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from avbench.cli.common import Json, command, fail, parse_weights, plain, print_json, print_table, warn_failures

WEIGHTS = typer.Option([], "--weights", help="NAME=FILE: look here instead of the cache; repeatable.")


def register(app: typer.Typer) -> None:
    """Add the command groups."""
    groups: dict[str, dict[str, Callable[..., None]]] = {
        "metrics": {"list": list_metrics, "show": show_metric},
        "models": {"list": list_models, "show": show_model},
        "weights": {"list": list_weights, "show": show_weights, "pull": pull, "verify": verify, "path": where},
    }
    for name, pairs in groups.items():
        group = typer.Typer(help=f"List and show {name}.", no_args_is_help=True)
        for verb, function in pairs.items():
            group.command(verb)(function)
        app.add_typer(group, name=name)


def loadable(registry: Any) -> list[tuple[str, Any]]:
    """All things of a registry that load."""
    from avbench.errors import UserError

    found = []
    for name in registry.list():
        try:
            found.append((name, registry.get(name)))
        except UserError as error:
            registry.failures.setdefault(name, str(error))
    warn_failures(registry)
    return found


@command
def list_metrics(json: bool = Json) -> None:
    """All metrics, our defaults first, published variants below them."""
    from avbench.groups import groups
    from avbench.registry import metrics
    from avbench.results import arrow

    cards = [metric.card for _, metric in loadable(metrics)]
    if json:
        print_json([card_document(card) for card in cards])
        return
    rows = [[card.id, arrow(card.better), card.unit, card.kind, card.title] for card in cards]
    print_table(["metric", "", "unit", "kind", "what"], rows)
    typer.echo("")
    print_table(["group", "metrics"], [[name, ", ".join(ids)] for name, ids in groups().items()])


def card_document(card: Any) -> dict[str, Any]:
    """A card as JSON."""
    return {
        **vars(card),
        "fields": dict(card.fields),
        "range": list(card.range),
        "differs": list(card.differs),
        "suites": list(card.suites),
    }


@command
def show_metric(name: str, json: bool = Json) -> None:
    """The card of a metric: what it measures, how it is computed, what it needs, how variants differ."""
    from avbench.metric import inputs
    from avbench.registry import metrics
    from avbench.weights import checkpoint

    metric = metrics.get(name)
    card = metric.card
    needs = {attribute: describe_input(need) for attribute, need in inputs(metric).items()}
    names = weight_names(metric)
    if json:
        print_json({**card_document(card), "inputs": needs, "weights": names, "origin": metrics.origin(name)})
        return
    low, high = ("-∞" if card.range[0] is None else card.range[0]), ("∞" if card.range[1] is None else card.range[1])
    typer.echo(f"{card.id} (version {card.version}, {card.kind} metric)\n\n{card.text}\n")
    typer.echo(f"better: {card.better}   unit: {card.unit or 'none'}   range: [{low}, {high}]\nsource: {card.source}")
    sections = {
        "differs from our default": card.differs,
        "valid on": card.suites,
        "fields": [f"{field}: {meaning}" for field, meaning in card.fields],
        "computed from": [f"{attribute}: {text}" for attribute, text in needs.items()],
        "weights": [f"{n}: {checkpoint(n).title} ({checkpoint(n).licence or 'licence: see source'})" for n in names],
        "other protocols": [
            other for other in metrics.list() if other.partition("@")[0] == card.name and other != card.id
        ],
    }
    for title, lines in sections.items():
        if lines:
            typer.echo(f"\n{title}:\n" + "\n".join(f"  - {line}" for line in lines))
    typer.echo(f"\ndefined in {metrics.origin(name)}")


def weight_names(metric: Any) -> list[str]:
    """Checkpoints a metric needs."""
    from avbench.metric import features
    from avbench.plan import encoders

    return list(dict.fromkeys(w for e in encoders(features(metric).values()) for w in e.weights))


def describe_input(need: Any) -> str:
    """A feature or field in words."""
    from avbench.features import Feature

    if isinstance(need, Feature):
        return f"{need.encoder.key} of {need.view!r}"
    return f"the sample's {need.name}" + (" (optional)" if need.optional else "")


@command
def list_models(
    every: bool = typer.Option(False, "--all", help="Every name on a line of its own."), json: bool = Json
) -> None:
    """Registered generators, by system, and those of avbench.toml."""
    from avbench.generator import CONFIG
    from avbench.reference_models.generate import SHIPPED
    from avbench.registry import models
    from avbench.suite import read_toml

    declared = read_toml(Path(CONFIG)).get("models", {}) if Path(CONFIG).is_file() else {}
    names = models.list()
    warn_failures(models)
    if json:
        print_json({"registered": names, "declared": list(declared)})
        return
    grouped = {} if every else families(names)
    within = {name for system, (variants, sizes) in grouped.items() for name in members(system, variants, sizes)}
    alone = [name for name in names if name not in within]
    typer.echo("\n".join([*alone, *(f"{name} ({CONFIG})" for name in declared)]))
    if grouped:
        typer.echo("")
        rows = [[s, ", ".join(sizes), ", ".join(v for v in variants if v)] for s, (variants, sizes) in grouped.items()]
        print_table(["system", "sizes", "ablations"], rows)
        system, (variants, sizes) = next(iter(grouped.items()))
        plain_one, ablated = members(system, ["", variants[-1]], sizes[:1])
        typer.echo(f"\nA name is SYSTEM[-ABLATION]-SIZE, such as {plain_one} or {ablated}; --all lists every one.")
        trained = ", ".join(name for name in names if (SHIPPED / name).is_dir())
        typer.echo(f"Trained weights come with {trained}; others are trained by `avbench train`.")


def members(system: str, variants: Sequence[str], sizes: Sequence[str]) -> list[str]:
    """The names SYSTEM[-VARIANT]-SIZE of a system."""
    return ["-".join(filter(None, (system, variant, size))) for variant in variants for size in sizes]


def families(names: Sequence[str]) -> dict[str, tuple[list[str], list[str]]]:
    """{system: (variants, sizes)} of names that are every SYSTEM[-VARIANT]-SIZE; "" is the system itself."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for system in dict.fromkeys(name.partition("-")[0] for name in names):
        own = [name for name in names if name.startswith(f"{system}-")]
        parts = [name.removeprefix(f"{system}-").rpartition("-") for name in own]
        variants = sorted({variant for variant, _, _ in parts})
        sizes = sorted({size for _, _, size in parts})
        if min(len(variants), len(sizes)) > 1 and sorted(members(system, variants, sizes)) == sorted(own):
            found[system] = variants, sizes
    return found


@command
def show_model(name: str, json: bool = Json) -> None:
    """A generator: its kind and configuration."""
    from avbench.generator import load_model

    model = load_model(name)
    facts = {"name": model.name, "digest": model.digest, "config": dict(model.config), "about": model.about}
    print_json(facts) if json else print_table(["model", name], [[key, plain(v)] for key, v in facts.items() if v])


@command
def list_weights(weights: list[str] = WEIGHTS, json: bool = Json) -> None:
    """All checkpoints: present or not, size, licence, which metrics need them."""
    from avbench.weights import catalogue

    overrides, users = parse_weights(weights), weight_users()
    rows: list[dict[str, Any]] = [
        {"name": name, "present": overrides.get(name, one.place).exists(), "megabytes": round(one.bytes / 1e6),
         "licence": one.licence, "title": one.title, "metrics": users.get(name, [])}
        for name, one in sorted(catalogue().items())
    ]  # fmt: skip
    if json:
        print_json(rows)
        return
    table = [
        [r["name"], "yes" if r["present"] else "no", f"{r['megabytes']:,}" if r["megabytes"] else "", r["licence"],
         ", ".join(r["metrics"])]
        for r in rows
    ]  # fmt: skip
    print_table(["weights", "here", "MB", "licence", "needed by"], table, right=["MB"])


def weight_users() -> dict[str, list[str]]:
    """{checkpoint: metric ids that need it}."""
    from avbench.registry import metrics

    users: dict[str, list[str]] = {}
    for name, metric in loadable(metrics):
        for weight in weight_names(metric):
            users.setdefault(weight, []).append(name)
    return users


@command
def show_weights(name: str, json: bool = Json) -> None:
    """A checkpoint: source, file, digest, licence, place."""
    from avbench.weights import checkpoint

    one = checkpoint(name)
    facts = {**{key: dict(v) if key == "hf" else v for key, v in vars(one).items()}, "place": str(one.place)}
    facts["needed by"] = weight_users().get(name, [])
    print_json(facts) if json else print_table(["weights", name], [[k, plain(v)] for k, v in facts.items() if v])


@command
def pull(names: list[str] = typer.Argument(..., help="Checkpoints, or metrics and groups that need them.")) -> None:
    """Fetch checkpoints into the cache: resumable and checked."""
    from avbench.weights import catalogue
    from avbench.weights import pull as fetch

    wanted: list[str] = []
    for name in names:
        wanted += [name] if name in catalogue() else needed_by(name)
    for name in dict.fromkeys(wanted):
        typer.echo(f"{name} ({catalogue()[name].licence or 'licence: see source'})")
        typer.echo(f"  {fetch(name)}")


def needed_by(name: str) -> list[str]:
    """Checkpoints behind a metric or group; an unknown name is reported as an unknown checkpoint."""
    from avbench.errors import UnknownName
    from avbench.groups import resolve
    from avbench.registry import metrics
    from avbench.weights import checkpoint

    try:
        return [w for metric in resolve([name]) for w in weight_names(metrics.get(metric))]
    except UnknownName:
        return [checkpoint(name).name]


@command
def verify(names: list[str] = typer.Argument(None), weights: list[str] = WEIGHTS, json: bool = Json) -> None:
    """Digest the checkpoints that are here and compare with what was published."""
    from avbench.weights import catalogue, locate

    overrides = parse_weights(weights)
    chosen = names or [name for name, one in catalogue().items() if overrides.get(name, one.place).exists()]
    rows = []
    for name in chosen:
        found, published = locate(name, overrides), catalogue()[name].sha256
        state = "verified" if found.verified else ("differs" if published else "unverified: no published digest known")
        rows.append({"name": name, "path": str(found.path), "sha256": found.sha256, "state": state})
    if json:
        print_json(rows)
    else:
        print_table(
            ["weights", "state", "sha256", "file"], [[r["name"], r["state"], r["sha256"], r["path"]] for r in rows]
        )
    if wrong := [row["name"] for row in rows if row["state"] == "differs"]:
        fail(f"not the published file: {', '.join(wrong)}", 2)


@command
def where(name: str, weights: list[str] = WEIGHTS) -> None:
    """Print the path a checkpoint is read from."""
    from avbench.weights import checkpoint

    typer.echo(str(parse_weights(weights).get(name, checkpoint(name).place)))
