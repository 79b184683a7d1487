"""`train`: a reference model by a TOML file."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import typer

from avbench.cli.common import Json, command, print_json
from avbench.cli.evaluate import progress_for


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train_command)


@command
def train_command(
    config: Path = typer.Argument(..., metavar="CONFIG", help="A TOML file; see docs/training.md."),
    out: Path | None = typer.Option(None, "--out", help="Run folder; training/<name of CONFIG> if not given."),
    change: list[str] = typer.Option(
        [], "--set", help="KEY=VALUE over the file, such as arm=t2v or optimiser.lr=1e-4."
    ),
    until: int = typer.Option(
        0, "--until", min=0, help="Stop after this step (0: the last); repeat it without to go on."
    ),
    device: str = typer.Option(
        "auto", "--device", help="auto or cpu; several GPUs: accelerate launch -m avbench train ..."
    ),
    json: bool = Json,
) -> None:
    """Train a reference model. Repeating the command continues where it stopped, to the same weights.

    The run folder is a checkpoint that `avbench eval --model` and `avbench generate --model` take.
    """
    from avbench.errors import UserError
    from avbench.progress import Silent
    from avbench.reference_models.training.config import load_config

    if device not in ("auto", "cpu"):
        raise UserError(f"--device {device}: use auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs")
    chosen = load_config(config, change)
    folder = out or Path("training") / config.stem
    from avbench.reference_models.training.trainer import Trainer

    main = os.environ.get("RANK", "0") == "0"
    with progress_for(quiet=json) if main else nullcontext(Silent()) as progress:
        trainer = Trainer(chosen, folder, device, progress)
        trainer.run(until)
    if not main:
        return
    if json:
        print_json({"out": str(folder), "step": trainer.step, "digest": chosen.digest, **trainer.last})
        return
    typer.echo(f"{folder}: {trainer.step} steps of {chosen.model} ({chosen.arm}); curves in {folder / 'loss.svg'}")
    suite = "clatter-desk-mini" if chosen.data.source == "clatter" else chosen.data.source
    typer.echo(f"avbench eval --model {folder} --suite {suite}")
