"""Experiments: trainings, evaluations and statistics that answer one question, each a TOML file beside this one.

`avbench reproduce hearing-helps-seeing --scale smoke|cpu|gpu` runs one. A file says what is trained (`variants`), what
is compared (`contrasts`), which comparison decides (`primary`) and how much is spent (`scales`).
"""

from __future__ import annotations

from pathlib import Path

from avbench.progress import Progress


def hearing_helps_seeing(scale: str, out: Path, device: str, progress: Progress) -> str:
    """Does training with sound make the video better? Carries it out below `out`, or goes on with it."""
    from avbench.reference_models.experiments.conduct import conduct
    from avbench.reference_models.experiments.plan import load

    return conduct(load("hearing-helps-seeing"), scale, out, device, progress)
