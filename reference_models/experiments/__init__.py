"""Experiments: trainings, evaluations and statistics that answer one question, each a TOML file beside this one.

`avbench reproduce hearing-helps-seeing --scale smoke|cpu|gpu` runs one. A file says what is trained (`variants`), what
is compared (`contrasts`), which comparison decides (`primary`) and how much is spent (`scales`).
"""

from __future__ import annotations

from pathlib import Path


def run(name: str, scale: str, out: Path, device: str) -> None:
    """Carry out an experiment below `out`, or go on with it, and say where its page is."""
    from avbench.reference_models.experiments.conduct import conduct
    from avbench.reference_models.experiments.plan import load

    conduct(load(name), scale, out, device)


def hearing_helps_seeing(scale: str, out: Path, device: str) -> None:
    """Does training with sound make the video better?"""
    run("hearing-helps-seeing", scale, out, device)
