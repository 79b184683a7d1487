"""`avbench suites`: list and show benchmarks, fetch their files, prepare their real clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from avbench.cli.common import Json, command, parse_weights, plain, print_json, print_table, warn_failures
from avbench.cli.evaluate import SEED

if TYPE_CHECKING:
    from avbench.dataset import Card, File
    from avbench.suite import Suite

DATA = typer.Option(None, "--data", help="Folder of the suite's files; else [data] of avbench.toml, else the cache.")
SUITE = typer.Argument(..., help="A suite's name.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    verbs: dict[str, Callable[..., None]] = {
        "list": list_suites, "show": show_suite, "pull": pull_suite, "prepare": prepare_suite,
        "lock": lock_suite, "prompts": write_suite_prompts,
    }  # fmt: skip
    group = typer.Typer(help="List, show, fetch, prepare and lock suites; write their prompts.", no_args_is_help=True)
    for verb, function in verbs.items():
        group.command(verb)(function)
    app.add_typer(group, name="suites")


@command
def list_suites(json: bool = Json) -> None:
    """All suites: how many samples, and whether their files are here."""
    from avbench.registry import suites

    rows = [summary(name) for name in suites.list()]
    warn_failures(suites)
    if json:
        print_json(rows)
        return
    print_table(
        ["suite", "samples", "data", "what"],
        [[r["name"], count(r["samples"]), STATES[r["data"]], r["title"]] for r in rows],
        right=["samples"],
    )
    if any(row["data"] == "missing" for row in rows):
        typer.echo(
            "\nmissing data: avbench suites pull NAME; your own folder: --suite NAME=DIR, or [data] of avbench.toml"
        )


STATES = {"part of it": "-", "here": "here", "missing": "missing", "unusable": "unusable"}


def summary(name: str) -> dict[str, Any]:
    """A line of the list. Nothing but cards is read of public suites; a plugin that fails is named, not fatal."""
    from avbench.dataset import absent, catalogue, folder_of
    from avbench.errors import UserError
    from avbench.registry import suites

    try:
        if card := catalogue().get(name):
            state = "missing" if absent(card, folder_of(card)) else "here"
            return {"name": name, "samples": card.expected, "data": state, "title": card.title}
        suite = suites.get(name)
        return {"name": name, "samples": len(suite.samples), "data": "part of it", "title": suite.description}
    except UserError as error:
        return {"name": name, "samples": None, "data": "unusable", "title": str(error).splitlines()[0]}


def count(number: int | None) -> str:
    """A number for a table, "" where it is not known."""
    return "" if number is None else f"{number:,}"


@command
def show_suite(
    name: str = typer.Argument(..., help="A suite's name (with /subset or =DIR), or a suite file."),
    data: Path | None = DATA,
    json: bool = Json,
) -> None:
    """A suite, whole: what it is, subsets, protocol, metrics, sources, licence, files and whether they are here."""
    from avbench.dataset import catalogue, folder_of
    from avbench.errors import MissingResource, UserError
    from avbench.suite import load_suite

    base, _, given = name.partition("=")
    card = catalogue().get(base.partition("/")[0])
    folder = data or (Path(given) if given else None)
    if data and card is None:
        raise UserError(f"suite {name!r} reads no files; leave --data out")
    try:
        suite = load_suite(f"{base}={folder}" if card and folder else name)
    except MissingResource:
        if card is None:
            raise
        suite = None
    facts = (suite_facts(suite) if suite else {}) | (card_facts(card, folder_of(card, folder)) if card else {})
    if json:
        print_json(facts)
        return
    print_suite(facts)
    for sample in suite.samples[:3] if suite else ():
        typer.echo(f"  {sample.id}: {shortened(sample.text)}")
    if suite is None:
        typer.echo(f"\nnot here yet: avbench suites pull {base.partition('/')[0]}")


@command
def write_suite_prompts(
    name: str = typer.Argument(..., help="A suite's name (with /subset or =DIR), or a suite file."),
    output: Path = typer.Option(Path("prompts.jsonl"), "--output", "-o", help="File to write."),
    seed: int = SEED,
) -> None:
    """Write the prompts of a suite for a program that makes its clips, one JSON object a line."""
    from avbench.generator import write_prompts
    from avbench.suite import load_suite

    suite = load_suite(name)
    write_prompts(output, suite.samples, seed)
    typer.echo(f"{output}: {len(suite.samples)} prompts; make FOLDER/<id>.mp4 of each, then")
    typer.echo(f"avbench eval --model FOLDER --suite {name}")


def suite_facts(suite: Suite) -> dict[str, Any]:
    """What a loaded suite says of itself."""
    from avbench.references import real_file

    return {
        "name": suite.name, "version": suite.version, "samples": len(suite.samples), "description": suite.description,
        "subsets": {tag: len(ids) for tag, ids in suite.subsets.items()}, "metrics": list(suite.metrics),
        "protocol": dict(suite.protocol), "pattern": suite.pattern, "licence": suite.licence, "source": suite.source,
        "digest": suite.digest, "real_clips": real_clips(suite, [one for one in suite.samples if real_file(one)]),
    }  # fmt: skip


def real_clips(suite: Suite, here: list[Any]) -> str:
    """What set metrics can be computed against."""
    if suite.render is not None:
        return "rendered by the suite itself"
    words = [f"{len(here):,} of {len(suite.samples):,} here"]
    if suite.pack is not None:
        words.append("published features here")
    return "; ".join(words)


def card_facts(card: Card, root: Path) -> dict[str, Any]:
    """What a card says, over what the loaded suite says."""
    facts: dict[str, Any] = {
        "description": card.title, "about": " ".join(card.about.split()), "layout": card.layout, "folder": str(root),
        "files": [file_facts(one, root) for one in card.files], "subset_notes": dict(card.subsets),
        "prepare": dict(card.prepare), "unverified": list(card.unverified),
    }  # fmt: skip
    from avbench.dataset import absent

    if absent(card, root):
        facts |= {
            "name": card.name, "version": card.version, "samples": card.expected, "metrics": list(card.metrics),
            "subsets": {tag: card.counts.get(tag) for tag in card.subsets}, "protocol": dict(card.protocol),
            "pattern": card.pattern, "licence": card.licence, "source": card.source,
        }  # fmt: skip
    return facts


def file_facts(one: File, root: Path) -> dict[str, Any]:
    """A file of a suite: where it is, or where it comes from."""
    found = one.found(root)
    return {
        "path": one.path, "what": one.what, "here": found is not None, "needed": one.needed, "bytes": one.bytes,
        "source": one.source, "sha256": one.sha256,
    }  # fmt: skip


def print_suite(facts: Mapping[str, Any]) -> None:
    """The facts for a reader."""
    number = "" if facts["samples"] is None else f"{facts['samples']:,} samples, "
    typer.echo(f"{facts['name']} ({number}version {facts['version']})\n\n{facts['description']}")
    if facts.get("about"):
        typer.echo(f"\n{wrapped(facts['about'])}")
    if facts["subsets"]:
        typer.echo("")
        print_subsets(facts["subsets"], facts.get("subset_notes", {}))
    lines = {
        "metrics": facts["metrics"], "protocol": facts["protocol"], "prepare": facts.get("prepare"),
        "clips named": facts["pattern"], "real clips": facts.get("real_clips"), "licence": facts["licence"],
        "source": facts["source"], "digest": facts.get("digest"), "folder": facts.get("folder"),
        "layout": facts.get("layout"),
    }  # fmt: skip
    typer.echo("")
    for key, value in lines.items():
        if value:
            typer.echo(wrapped(f"{key:<13}{plain(value)}", "", " " * 13))
    for one in facts.get("files", ()):
        size = f", {one['bytes'] / 1e6:,.1f} MB" if one["bytes"] else ""
        typer.echo(f"\n  {one['path']} [{file_state(one)}]: {one['what']}{size}\n    {one['source']}")
    if facts.get("unverified"):
        lines_of = "\n".join(wrapped(f"- {one}", "  ", "    ") for one in facts["unverified"])
        typer.echo(f"\nnot verified, or inferred:\n{lines_of}")
    if "digest" in facts:
        typer.echo("\nfirst samples:")


def print_subsets(sizes: Mapping[str, int | None], notes: Mapping[str, str]) -> None:
    """Subsets with their sizes, where they are known, and what they are, where a card says so."""
    tags = [*(tag for tag in notes if tag in sizes), *(tag for tag in sizes if tag not in notes)]
    columns = {
        "subset": tags, "samples": [count(sizes[tag]) for tag in tags], "what": [notes.get(tag, "") for tag in tags],
    }  # fmt: skip
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    print_table(list(shown), list(zip(*shown.values())), right=["samples"])


def file_state(one: Mapping[str, Any]) -> str:
    """Whether a file is here."""
    return "here" if one["here"] else ("missing" if one["needed"] else "not here, optional")


def wrapped(text: str, first: str = "", others: str = "") -> str:
    """Text at a readable width; addresses and paths stay whole."""
    import textwrap

    return textwrap.fill(
        text, 110, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def shortened(text: str, most: int = 120) -> str:
    """The beginning of a prompt."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


@command
def pull_suite(
    name: str = SUITE,
    data: Path | None = typer.Option(None, "--data", help="Folder to fill, in place of the cache."),
    again: bool = typer.Option(False, "--again", help="Also what is here already."),
    json: bool = Json,
) -> None:
    """Fetch a suite's files: resumable and checked. What has no public address is named, with how to get it."""
    from avbench.dataset import absent, card_of, folder_of, missing_message, pull
    from avbench.errors import MissingResource

    card = card_of(name)
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    root = folder_of(card, data)
    if not json:
        typer.echo(f"{card.name} ({card.licence or 'licence: see source'}) into {root}")
    done = pull(card, root, again)
    if json:
        print_json({"name": card.name, "folder": str(root), "files": [file_facts(one, root) for one, _ in done]})
    else:
        for one, found in done:
            typer.echo(f"  {one.path}: {found or file_state(file_facts(one, root))}")
            if found is None and one.by_hand:
                typer.echo(f"    by hand: {one.by_hand}")
    if lacking := absent(card, root):
        raise MissingResource(missing_message(card, root, lacking))
    if not json:
        chosen = f"{card.name}={root}" if data is not None else card.name
        typer.echo(f"next: avbench eval --model MODEL --suite {chosen}")


@command
def prepare_suite(
    name: str = SUITE,
    data: Path | None = DATA,
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda:0."),
    weights: list[str] = typer.Option([], "--weights", help="NAME=FILE: use this local checkpoint; repeatable."),
    json: bool = Json,
) -> None:
    """Choose and cut the real clips as the suite's paper did (see `suites show NAME`)."""
    from avbench.cli.evaluate import progress_for
    from avbench.dataset import absent, card_of, folder_of, missing_message
    from avbench.errors import MissingResource
    from avbench.evaluation import pick_device
    from avbench.execute import Settings
    from avbench.prepare import prepare

    card = card_of(name)
    root = folder_of(card, data)
    if lacking := absent(card, root):
        raise MissingResource(missing_message(card, root, lacking))
    with progress_for(quiet=json) as progress:
        done = prepare(card, root, Settings(device=pick_device(device)), parse_weights(weights), progress)
    if json:
        print_json({**vars(done), "folder": str(done.folder), "lost": dict(done.lost)})
        return
    typer.echo(f"{done.found} clips here, {done.passed} pass, {done.chosen} chosen and cut, in {done.folder}")
    for id, reason in done.lost.items():
        typer.echo(f"  left out: {id}: {reason}")


@command
def lock_suite(
    name: str = typer.Argument(..., help="A suite whose real clips are here: a name (with /subset or =DIR) or a file."),
    metrics: str = typer.Option("", "--metrics", help="Set metrics and groups; the suite's own if not given."),
    out: Path | None = typer.Option(None, "--out", "-o", help="The pack; <suite>.safetensors if not given."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda:0."),
    precision: str = typer.Option("fp32", help="As of the runs it will serve."),
    weights: list[str] = typer.Option([], "--weights", help="NAME=FILE: use this local checkpoint; repeatable."),
    allow_failed: str = typer.Option("0", help="Broken real clips tolerated and left out: N or P%."),
    json: bool = Json,
) -> None:
    """Compute the real side of set metrics once: a feature pack for `eval --reference`, with its provenance."""
    from avbench.cli.evaluate import progress_for
    from avbench.errors import UserError
    from avbench.evaluation import pick_device
    from avbench.execute import PRECISIONS, Settings
    from avbench.lock import lock

    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: use one of {', '.join(PRECISIONS)}")
    names = [one.strip() for one in metrics.split(",") if one.strip()]
    settings = Settings(device=pick_device(device), precision=precision)
    with progress_for(quiet=json) as progress:
        done = lock(name, names, out, parse_weights(weights), settings, allow_failed, progress)
    if json:
        print_json({**vars(done), "path": str(done.path), "lost": dict(done.lost)})
        return
    typer.echo(f"{done.path}: {done.n} real clips for {', '.join(done.metrics)}\nsha256 {done.sha256}")
    for line in done.features:
        typer.echo(f"  {line}")
    for id, reason in done.lost.items():
        typer.echo(f"  left out: {id}: {reason}")
    typer.echo(f"avbench eval --suite {name} --reference {done.path} ...")
