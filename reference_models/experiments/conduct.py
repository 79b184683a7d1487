"""An experiment carried out: trainings side by side, clips, scores, effects, page. Repeated, it does what is missing.

OUT/<experiment>/<scale>/
  training/<variant>-s<seed>/   checkpoint and log of every training
  runs/                         run folders of every model on the suite
  effects.json                  every number of the page
  report.html
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import UserError
from avbench.progress import Progress
from avbench.reference_models.experiments.effects import Effect, between, collect, corrected, measured, verdict
from avbench.reference_models.experiments.plan import Experiment, Job, Scale, contrasts, jobs
from avbench.reference_models.generate import SHIPPED
from avbench.reference_models.training.config import CHECKPOINT_WEIGHTS, Config
from avbench.run import Run, runs_in
from avbench.store import write_json

if TYPE_CHECKING:
    from avbench.evaluation import Spec

ALLOWED = "5%"  # samples that may fail or be missing in a run that is compared
GPU_TRAININGS = 4  # models this small leave most of a GPU idle
LOG, LOSSES = "train.log", "loss.jsonl"
SAME = ("video", "norm_video", "valid_video")


def conduct(experiment: Experiment, scale_name: str, out: Path, device: str, progress: Progress) -> str:
    """Train, generate, score, compare, and write the page; returns the answer and where the page is."""
    from avbench.evaluation import pick_device
    from avbench.reference_models.experiments.page import write_page

    scale = experiment.scales[scale_name]
    folder = out / experiment.name / scale_name
    device = pick_device(device)
    todo = jobs(experiment, scale)
    progress.note(f"{experiment.question}\n{scale_name}: {scale.about}; {len(todo)} trainings, {folder}")
    if scale.shipped:
        take_shipped(todo, folder / "training")
    train(todo, folder / "training", device, progress)
    found = results(experiment, scale, todo, score(experiment, scale, todo, folder, device, progress), folder)
    write_json(folder / "effects.json", {"experiment": experiment.name, "scale": scale_name, **found.document})
    return f"{found.answer}\n{write_page(experiment, scale_name, found, folder)}"


# Training ------------------------------------------------------------------------------------------------------------


def train(todo: Sequence[Job], folder: Path, device: str, progress: Progress) -> None:
    """All trainings, one thread each and as many at once as there are cores (on a GPU: `GPU_TRAININGS`)."""
    waiting = [job for job in todo if steps_done(folder / job.name, job.config) < job.until]
    if not waiting:
        return
    prepare(waiting, device, progress)
    workers = min(len(waiting), len(os.sched_getaffinity(0)) if device == "cpu" else GPU_TRAININGS)
    every = waiting[0].config.log_every
    lines = sum(job.until // every for job in waiting)  # of all logs
    progress.phase(f"training {len(waiting)} models, {workers} at once", lines, f"{every} steps")
    running: dict[str, subprocess.Popen[bytes]] = {}
    seen = {job.name: logged(folder / job.name) // every for job in waiting}
    for _ in range(sum(seen.values())):
        progress.step("")
    queue = list(waiting)
    try:
        while queue or running:
            while queue and len(running) < workers:
                job = queue.pop(0)
                running[job.name] = start(job, folder / job.name, device)
            time.sleep(1.0)
            for name, process in list(running.items()):
                now = logged(folder / name) // every
                for _ in range(now - seen[name]):
                    progress.step(name)
                seen[name] = max(now, seen[name])
                if process.poll() is not None:
                    del running[name]
                    if process.returncode:
                        raise UserError(f"training {name} failed:\n{tail(folder / name / LOG)}")
    finally:
        stop(running.values())


def take_shipped(todo: Sequence[Job], folder: Path) -> None:
    """Copy the trainings that the package holds to where they are missing.

    A training is known by its configuration's digest, so a checkpoint is taken for the very training it is of.
    """
    from avbench.reference_models.training.checkpoint import facts

    known = {facts(path)["digest"]: path.parent for path in SHIPPED.glob(f"*/{CHECKPOINT_WEIGHTS}")}
    for job in todo:
        at = folder / job.name
        if job.config.digest in known and not (at / CHECKPOINT_WEIGHTS).exists():
            shutil.copytree(known[job.config.digest], at, dirs_exist_ok=True)


def prepare(todo: Sequence[Job], device: str, progress: Progress) -> None:
    """Encode what is learned from once, before the trainings would all begin with it."""
    from avbench.execute import set_precision
    from avbench.reference_models.training.data import latents

    set_precision(device)
    for data in {job.config.data.model_dump_json(): job.config.data for job in todo}.values():
        for split, count in ((data.split, data.clips), ("valid", data.valid)):
            latents(data, split, count, device, lambda n: progress.phase("encoding clips", n), progress.step)


def start(job: Job, folder: Path, device: str) -> subprocess.Popen[bytes]:
    """A training in a process of its own, its words in a file."""
    from avbench.reference_models.training.checkpoint import write_config
    from avbench.reference_models.training.trainer import check_folder

    folder.mkdir(parents=True, exist_ok=True)
    check_folder(job.config, folder)
    write_config(folder, job.config)
    command = [sys.executable, "-m", "avbench", "train", str(folder / "config.json"), "--out", str(folder)]
    command += ["--device", "cpu" if device == "cpu" else "auto", "--until", str(job.until)]
    environment = {**os.environ, **on_device(device, os.environ)}
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def on_device(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables by which a process has one thread of the CPU, or sees one GPU alone.

    device: "cpu", or "cuda:1": of the GPUs that this process sees, which may be a choice already.
    """
    if device == "cpu":
        return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    index = int(device.partition(":")[2] or 0)
    seen = environment.get("CUDA_VISIBLE_DEVICES", "")
    return {"CUDA_VISIBLE_DEVICES": seen.split(",")[index].strip() if seen else str(index)}


def stop(running: Any) -> None:
    """Ask trainings to save and end, and wait for them."""
    for process in running:
        process.terminate()
    for process in running:
        process.wait()


def steps_done(folder: Path, config: Config) -> int:
    """Steps behind the checkpoint in a folder; 0 where there is none of this training."""
    from avbench.reference_models.training.checkpoint import facts

    path = folder / CHECKPOINT_WEIGHTS
    if not path.is_file():
        return 0
    found = facts(path)
    return int(found["step"]) if found.get("digest") == config.digest else 0


def logged(folder: Path) -> int:
    """The last step in a training's log."""
    from avbench.reference_models.training.curves import read_log

    path = folder / LOSSES
    try:
        rows = read_log(path) if path.is_file() else []
    except ValueError:  # a line that is being written
        return 0
    return int(rows[-1]["step"]) if rows else 0


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


# Scores --------------------------------------------------------------------------------------------------------------


def score(
    experiment: Experiment, scale: Scale, todo: Sequence[Job], folder: Path, device: str, progress: Progress
) -> dict[str, Run]:
    """A run of every trained model and of every baseline, by name."""
    from avbench.evaluation import Spec
    from avbench.execute import Settings

    found = {}
    for name in (*experiment.baselines, *(job.name for job in todo if job.variant.role != "check")):
        model = name if name in experiment.baselines else str(folder / "training" / name)
        spec = Spec(
            model, scale.suite, experiment.metrics, scale.limit, out=folder / "runs", settings=Settings(device=device),
            allow_failed=ALLOWED,
        )  # fmt: skip
        found[name] = scored(spec, progress)
    return found


def scored(spec: Spec, progress: Progress) -> Run:
    """The run of a specification: one that is there, or a new one.

    One that lost more samples than are allowed is performed once more, for what has failed may have been the machine (a
    full disk or GPU); `UserError` where that is no better.
    """
    from avbench.evaluation import perform, resolve_spec

    manifest = resolve_spec(spec).manifest
    done = [
        run for run in runs_in(spec.out, manifest["suite"]["name"])
        if run.manifest["digest"] == manifest["digest"] and run.manifest["status"] in ("complete", "partial")
    ]  # fmt: skip
    run = done[-1] if done else perform(spec, progress)
    if too_many := lost(run, spec.allow_failed):
        progress.note(f"{too_many}; once more")
        run = perform(spec, progress)
    if too_many := lost(run, spec.allow_failed):
        raise UserError(f"{too_many}\n  mend the cause and repeat the command; what is made is kept ({run.folder})")
    return run


def lost(run: Run, allow_failed: str) -> str:
    """What a run lacks, with the first reason; nothing where it is within the allowance."""
    from avbench.evaluation import allowed

    counts = run.manifest["counts"]
    most = allowed(allow_failed, counts["expected"])
    if counts["failed"] + counts["missing"] <= most:
        return ""
    first = next(row for row in run.records("samples") if row["status"] != "ok")
    return (
        f"{run.model}: {counts['failed']} failed and {counts['missing']} missing of {counts['expected']} samples, "
        f"{most} allowed ({allow_failed}); {first['sample']}: {first['reason']}"
    )


# Results -------------------------------------------------------------------------------------------------------------


class Results:
    """What was found: effects of all contrasts, the primary ones singled out, and the answer in words.

    models, baselines: variant -> seed -> run, and name -> run; values, plain: the same, what the runs measured.
    equal: whether the isolated joint model learnt video as the T2V-only twin did, to the last bit; None where it was
    not trained.
    """

    def __init__(
        self, experiment: Experiment, models: dict[str, dict[int, Run]], baselines: dict[str, Run],
        sides: Sequence[tuple[str, str, str]], equal: bool | None,
    ) -> None:  # fmt: skip
        from avbench.registry import metrics

        self.experiment, self.models, self.baselines, self.equal = experiment, models, baselines, equal
        subsets, cards = experiment.subsets, {name: metrics.get(name).card for name in experiment.metrics}
        self.values = {name: {s: measured(run, subsets) for s, run in by.items()} for name, by in models.items()}
        self.plain = {name: measured(run, subsets) for name, run in baselines.items()}
        effects = collect(self.values, sides, subsets, cards)
        self.effects = corrected(effects, self._find(effects, experiment.primary.contrast))
        self.primary = self._find(self.effects, experiment.primary.contrast)
        self.information = self._find(self.effects, "information")
        tight, loose = (self.find(subset=subset) for subset in ("av-tight", "av-loose"))
        self.interaction = between(tight, loose) if tight and loose else None
        self.answer = verdict(self.primary, self.information)

    def _find(self, effects: Sequence[Effect], contrast: str, **other: str) -> Effect | None:
        primary = self.experiment.primary
        want = {"metric": primary.metric, "field": primary.field, "subset": primary.subset, **other}
        return next(
            (e for e in effects if e.contrast == contrast and all(getattr(e, k) == v for k, v in want.items())), None
        )

    def find(self, contrast: str = "", **other: str) -> Effect | None:
        """An effect; of the primary contrast, metric, field and subset unless told otherwise."""
        return self._find(self.effects, contrast or self.experiment.primary.contrast, **other)

    @property
    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "answer": self.answer,
            "isolated_equals_t2v": self.equal,
            "primary": asdict(self.primary) if self.primary else None,
            "tight_minus_loose": asdict(self.interaction) if self.interaction else None,
            "effects": [asdict(one) for one in self.effects],
            "runs": {
                **{f"{name}-s{seed}": str(run.folder) for name, by in self.models.items() for seed, run in by.items()},
                **{name: str(run.folder) for name, run in self.baselines.items()},
            },
        }


def results(experiment: Experiment, scale: Scale, todo: Sequence[Job], runs: dict[str, Run], folder: Path) -> Results:
    """Effects of the runs."""
    models: dict[str, dict[int, Run]] = {}
    for job in todo:
        if job.name in runs:
            models.setdefault(job.variant.name, {})[job.seed] = runs[job.name]
    sides = [(one.name, one.a, one.b) for one in contrasts(experiment, scale)]
    baselines = {name: runs[name] for name in experiment.baselines}
    return Results(experiment, models, baselines, sides, isolated_equals(folder / "training"))


def isolated_equals(training: Path) -> bool | None:
    """Whether the isolated model's video tower learnt as the T2V-only twin of its seed did.

    Every logged loss and gradient norm of the video must be the same number. None where one of them was not trained.
    """
    from avbench.reference_models.training.curves import read_log

    paths = [training / f"{name}-s0" / LOSSES for name in ("t2v", "isolated")]
    if not all(path.is_file() for path in paths):
        return None
    alone, both = (
        {(row["step"], name): row[name] for row in read_log(path) for name in SAME if name in row} for path in paths
    )
    shared = alone.keys() & both.keys()
    return bool(shared) and all(alone[key] == both[key] for key in shared)
