"""`eval`, `score`, `generate`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import typer

from avbench.cli.common import Json, command, parse_weights, print_json, print_table

MODEL = typer.Option(..., "--model", "-m", help="A folder of clips, a name in avbench.toml, or a registered model.")
SUITE = typer.Option(
    ..., "--suite", "-s", help="A suite's name (/subset, =FOLDER of its data), or a .jsonl, .csv or .toml file."
)
PROFILE = typer.Option(
    "", "--profile", help="Take each metric's variant @PROFILE where there is one: clatter, vbench, ..."
)
METRICS = typer.Option("", "--metrics", help="Metric ids and groups, comma-separated; the suite's own if not given.")
DEVICE = typer.Option("auto", "--device", help="auto, cpu or cuda:0.")
LIMIT = typer.Option(None, "--limit", min=1, help="Only the first N samples; the run is marked partial.")
OUT = typer.Option(Path("runs"), "--out", help="Folder of runs.")
WEIGHTS = typer.Option([], "--weights", help="NAME=FILE: use this local checkpoint; repeatable.")
SEED = typer.Option(0, "--seed", help="Seed of generation.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("eval")(eval_command)
    app.command("score")(score_command)
    app.command("generate")(generate_command)


@command
def eval_command(
    model: str = MODEL,
    suite: str = SUITE,
    metrics: str = METRICS,
    device: str = DEVICE,
    limit: int | None = LIMIT,
    out: Path = OUT,
    allow_failed: str = typer.Option("0", help="Failed or missing samples tolerated: N or P%."),
    weights: list[str] = WEIGHTS,
    seed: int = SEED,
    precision: str = typer.Option("fp32", help="fp32 (parity is stated for it), tf32 (a GPU), bf16 or fp16."),
    threads: int = typer.Option(2, min=1, help="Threads that decode and cut views."),
    ray: str | None = typer.Option(
        None, "--ray", metavar="[ADDRESS]", help="On a Ray cluster: at this address, at hand, or here."
    ),
    reference: Path | None = typer.Option(
        None, "--reference", help="Feature pack that stands for the real clips in set metrics (see `suites lock`)."
    ),
    reference_frames: int | None = typer.Option(
        None, help="Frames a clip that a published cache was made with, where you know (JavisBench: 16 or 24)."
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Begin a new run even where an unfinished one can be resumed."),
    profile: str = PROFILE,
    details: bool = typer.Option(False, "--details", help="Show the fields of every metric, not only its value."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the plan and stop."),
    json: bool = Json,
) -> None:
    """Score a generator on a suite: a table here, a run folder, and `avbench report` for the page."""
    from avbench.errors import UserError
    from avbench.evaluation import Spec, perform, pick_device
    from avbench.execute import PRECISIONS, Settings

    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: use one of {', '.join(PRECISIONS)}")
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    settings = Settings(
        device=pick_device(device) if ray is None else device, precision=precision, threads=threads, ray=ray
    )
    spec = Spec(
        model, suite, names, limit, seed, parse_weights(weights), out, allow_failed, fresh, reference,
        reference_frames, settings, profile,
    )  # fmt: skip
    if dry_run:
        print_plan(spec, json)
        return
    with progress_for(quiet=json) as progress:
        run = perform(spec, progress)
    print_run(run, json, details)
    counts = run.manifest["counts"]
    if counts["failed"] + counts["missing"] > run.manifest["allowed"]:
        lost = counts["failed"] + counts["missing"]
        typer.echo(
            f"{lost} failed or missing, {run.manifest['allowed']} allowed (--allow-failed): exit code 3", err=True
        )
        if counts["missing"] == counts["expected"]:
            typer.echo(
                "no clip was found: name them <id>.mp4, or give a pattern in avbench.toml (models.NAME)", err=True
            )
        raise typer.Exit(3)


def progress_for(quiet: bool) -> AbstractContextManager[Any]:
    """A live bar on a terminal, plain lines elsewhere."""
    from avbench.progress import Live, Plain

    return Live() if sys.stderr.isatty() and not quiet else nullcontext(Plain())


def print_plan(spec: Any, as_json: bool) -> None:
    """What would be done."""
    from avbench.evaluation import preview

    summary = preview(spec)
    if as_json:
        print_json(summary)
        return
    facts = {key: value for key, value in summary.items() if key not in ("encoders", "floor") and value != {}}
    print_table(["plan", ""], [[key, str(value)] for key, value in facts.items()])
    if summary["floor"]:
        print_floor(summary["floor"])


def print_floor(floor: dict[str, Any]) -> None:
    """The least this takes on this machine, by encoder and in all."""
    from avbench.results import quantity

    columns = ["encoder", "clips", "items", "forwards", "FLOP", "seconds"]
    rows = []
    for one in floor["encoders"]:
        known = {name: "?" if one[name] is None else str(one[name]) for name in columns[:4]}
        flops = "" if one["flops"] is None else quantity(one["flops"])
        rows.append([*known.values(), flops, f"{one['seconds']:.3g}"])
    typer.echo("")
    print_table(columns, rows, right=columns[1:])
    typer.echo(
        f"\nat least, on {floor['device']} ({quantity(floor['matmul_flops_per_second'])}FLOP/s, copies "
        f"{quantity(floor['copy_bytes_per_second'])}B/s, measured): {floor['device_seconds']:.3g} s for "
        f"{quantity(floor['flops'])}FLOP and {quantity(floor['upload_bytes'])}B;\nbeside it on the host "
        f"{floor['host_seconds']:.3g} s, of which {floor['decode_seconds']:.3g} s for {floor['decodes']} decodes "
        f"({quantity(floor['decoded_bytes'])}B) and {floor['view_seconds']:.3g} s for views"
    )


def print_run(run: Any, as_json: bool, details: bool) -> None:
    """The table of a run, its counts and its unverified weights."""
    from avbench.results import document, summarise

    if as_json:
        print_json(document(run))
        return
    manifest, counts = run.manifest, run.manifest["counts"]
    print_results([row for row in summarise(run) if details or not row.field])
    typer.echo(
        f"\n{manifest['suite']['name']} {manifest['suite']['version']} · {manifest['model']['name']} · "
        f"{counts['expected']} samples: {counts['ok']} ok, {counts['failed']} failed, {counts['missing']} missing"
    )
    if manifest["unverified_weights"]:
        typer.echo(f"UNVERIFIED WEIGHTS: {', '.join(manifest['unverified_weights'])} (digest is not the published one)")
    for line in failures(run):
        typer.echo(line)
    typer.echo(f"{run.folder}\navbench report {run.folder}")


def print_results(rows: list[Any]) -> None:
    """One line per metric."""
    from avbench.results import arrow, number

    lines = []
    for row in rows:
        interval = f"[{number(row.low)}, {number(row.high)}]" if row.low is not None else ""
        name = f"{row.metric} {arrow(row.better)}" if not row.field else f"  · {row.field}"
        without = {"failed": row.failed, "missing": row.missing, "n/a": row.not_applicable} if not row.field else {}
        lost = [f"{count} {word}" for word, count in without.items() if count]
        lines.append([name, number(row.value), row.unit, interval, str(row.n), ", ".join(lost), row.note])
    print_table(["metric", "value", "unit", "95 % interval", "n", "without", "note"], lines, right=["value", "n"])


def failures(run: Any, most: int = 3) -> list[str]:
    """What failed or is missing, grouped by reason code."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in run.records("samples"):
        if row["status"] != "ok":
            code, _, detail = row["reason"].partition(": ")
            groups.setdefault(code, []).append((row["sample"], detail))
    lines = []
    for code, group in groups.items():
        names = ", ".join(name for name, _ in group[:most]) + (", ..." if len(group) > most else "")
        lines.append(f"{len(group)} × {code}: {names}: {group[0][1]}")
    return lines


@command
def score_command(
    clip: Path = typer.Argument(..., help="A video or audio file."),
    prompt: str = typer.Option("", help="The caption, for metrics that compare with text."),
    speech: str = typer.Option("", help="What should be said, for WER and CER."),
    metrics: str = typer.Option("fast", help="Sample metrics or groups, comma-separated."),
    device: str = DEVICE,
    weights: list[str] = WEIGHTS,
    json: bool = Json,
) -> None:
    """Score one clip: sample metrics only, no suite, no run folder."""
    from avbench.evaluation import score_clip

    rows = score_clip(clip, prompt, speech, metrics, device, parse_weights(weights))
    if json:
        print_json(rows)
        leave_if_failed(rows)
        return
    table = []
    for row in rows:
        name = f"  · {row['field']}" if row["field"] else row["metric"]
        value = f"{row['value']:.4g}" if row["status"] == "ok" else row["status"]
        table.append([name, value, row["unit"], row["reason"]])
    print_table(["metric", "value", "unit", "why"], table, right=["value"])
    leave_if_failed(rows)


def leave_if_failed(rows: list[dict[str, Any]]) -> None:
    """Exit code 3 where a metric failed; one that does not apply has not."""
    if any(row["status"] == "failed" for row in rows):
        raise typer.Exit(3)


@command
def generate_command(
    model: str = MODEL,
    suite: str = SUITE,
    out: Path = typer.Option(..., "--out", help="Folder that receives <id>.mp4."),
    limit: int | None = LIMIT,
    seed: int = SEED,
    device: str = DEVICE,
    json: bool = Json,
) -> None:
    """Make the clips of a suite; those that exist are kept, so repeating the command continues it."""
    from avbench.evaluation import generate, pick_device

    with progress_for(quiet=json) as progress:
        made, problems = generate(model, suite, out, limit, seed, progress, pick_device(device))
    if json:
        print_json({"out": str(out), "clips": sorted(made), "failed": problems})
    else:
        typer.echo(f"{len(made)} clips in {out}")
    if problems:
        raise typer.Exit(3)
