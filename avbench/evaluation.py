"""`evaluate`: one generator on one suite, from prompts to a run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from avbench.errors import NotApplicable, NotComparable, SampleError, UserError
from avbench.execute import Counts, Executor, Outcome, Settings, given, set_precision, settled
from avbench.features import Feature
from avbench.generator import AUDIO, ClipFile, Model, find_clips, generate_clips, load_model
from avbench.groups import profiled, resolve
from avbench.manifest import describe
from avbench.metric import Metric, Rows, features
from avbench.plan import Plan, Subject, encoders, subjects
from avbench.progress import Progress, Silent
from avbench.references import References, given_pack, wants_reference
from avbench.run import Journal, Run, model_folder, now, open_run, read_journal, stopped, update, write_table
from avbench.score import Row, SetInputs, Side, score, score_key, set_rows
from avbench.store import Store
from avbench.suite import Sample, Suite, load_suite
from avbench.weights import Located, locate_all

LASTING = ("ok", "not_applicable")  # statuses that a resume takes from the journal


@dataclass(frozen=True)
class Spec:
    """What is asked for: everything that decides the results, and how to compute them."""

    model: str
    suite: str
    metrics: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    weights: Mapping[str, Path] = field(default_factory=dict)
    out: Path = Path("runs")
    allow_failed: str = "0"
    fresh: bool = False
    reference: Path | None = None
    reference_frames: int | None = None
    settings: Settings = field(default_factory=Settings)
    profile: str = ""


@dataclass
class Job:
    """A resolved specification. `whole` is the digest of the suite before `limit`: what made clips belong to."""

    spec: Spec
    suite: Suite
    whole: str
    model: Model
    metrics: list[Metric]
    weights: dict[str, Located]
    store: Store
    references: References

    @property
    def clips_folder(self) -> Path:
        """Where generated clips lie: shared by all runs of this model configuration on this suite."""
        name = f"clips-{self.model.digest}-{self.whole[:8]}-{self.spec.seed}"
        return model_folder(self.spec.out, self.suite.name, self.model.name) / name

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run is, before it has begun."""
        one = {
            "suite": {
                "name": self.suite.name, "version": self.suite.version, "digest": self.suite.digest,
                "samples": len(self.suite.samples), "licence": self.suite.licence,
            },
            "model": {"name": self.model.name, "digest": self.model.digest, "config": dict(self.model.config)},
            "metrics": [{"id": m.card.id, "version": m.card.version} for m in self.metrics],
            "weights": [located.manifest for located in self.weights.values()],
            "precision": self.spec.settings.precision,
            "seed": self.spec.seed,
            "limit": self.spec.limit,
            "reference": self.references.used(self.metrics),
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(one, sort_keys=True, default=str).encode()).hexdigest()
        return {"digest": digest, **one, "unverified_weights": [n for n, w in self.weights.items() if not w.verified]}


def resolve_spec(spec: Spec) -> Job:
    """Look everything up before anything is computed; what is unknown or missing is said here."""
    from avbench.registry import metrics

    whole = load_suite(spec.suite)
    suite = whole.limit(spec.limit)
    names = resolve(spec.metrics or suite.metrics)
    found = [metrics.get(name) for name in (profiled(names, spec.profile) if spec.profile else names)]
    refuse_elsewhere(found, suite.name)
    needed = {w for metric in found for e in encoders(features(metric).values()) for w in e.weights}
    references = References(
        suite, whole.digest, given_pack(spec.suite, whole.name, spec.reference, spec.reference_frames)
    )
    model, weights = load_model(spec.model), locate_all(needed, spec.weights)
    references.check(found, {name: one.sha256 for name, one in weights.items()}, spec.settings.precision)
    return Job(spec, suite, whole.digest, model, found, weights, Store(), references)


def refuse_elsewhere(found: Iterable[Metric], suite: str) -> None:
    """A `UserError` for metrics that mean nothing on a suite of this name."""
    for card in (metric.card for metric in found):
        if card.suites and not any(fnmatch(suite, pattern) for pattern in card.suites):
            raise UserError(f"{card.id} is valid on {', '.join(card.suites)} only, not on {suite or 'a single clip'}")


def evaluate(
    model: str,
    suite: str,
    metrics: Sequence[str] | str = (),
    *,
    device: str = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Score a generator on a suite and return the run, with `run.scores` and `run.samples` as pandas frames.

    model:   folder of clips, name in `avbench.toml`, or a registered name.
    suite:   name, or a .jsonl/.csv/.toml file.
    metrics: ids or groups, a list or comma-separated; the suite's own where empty.
    device:  "auto", "cpu" or "cuda:0".
    options: the other fields of `Spec` (`reference`: a feature pack that stands for the real clips); `precision`,
             `threads` and `ray` of `Settings`.
    """
    chosen = [m.strip() for m in metrics.split(",") if m.strip()] if isinstance(metrics, str) else list(metrics)
    tuned = {key: options.pop(key) for key in ("precision", "threads", "ray") if key in options}
    settings = Settings(device=device if tuned.get("ray") is not None else pick_device(device), **tuned)
    return perform(Spec(model, suite, tuple(chosen), settings=settings, **options), progress or Silent())


def pick_device(name: str) -> str:
    """Resolve "auto"; refuse a device that is not there."""
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return name


def perform(spec: Spec, progress: Progress) -> Run:
    """Carry out a specification. Interrupted at any point, the same call continues it."""
    job = resolve_spec(spec)
    allowed(spec.allow_failed, 1)
    facts = {"environment": describe(spec.settings), "reference_file": job.references.file(spec.suite, job.metrics)}
    with open_run(spec.out, {**job.manifest, **facts}, spec.fresh) as (run, resumed):
        progress.note(f"{'resuming' if resumed else 'run'} {run.folder}")
        try:
            with Journal(run.journal) as journal:
                work = Evaluation(job, run, journal, progress)
                work.finish(work.compute())
        except KeyboardInterrupt:
            stopped(run, status="interrupted")
            raise
        except BaseException as error:
            stopped(run, status="failed", error=f"{type(error).__name__}: {error}")
            raise
    return run


class Workforce(Protocol):
    """What carries out a plan: an `Executor` in this process, or a `Cluster`."""

    counts: Counts

    def execute(self) -> Iterator[tuple[Subject, Mapping[Feature, Outcome | None]]]:
        """Subjects with features that are done, or their errors; None for a value that the store alone has."""
        ...


def workforce(plan: Plan, settings: Settings) -> Workforce:
    """This process, or Ray where the settings name it."""
    if settings.ray is None:
        return Executor(plan, settings)
    from avbench.cluster import Cluster

    return Cluster(plan, settings)


class Evaluation:
    """One run under way: clips, plan, scores."""

    def __init__(self, job: Job, run: Run, journal: Journal, progress: Progress) -> None:
        from avbench.media import DECODER

        self.job, self.run, self.journal, self.progress = job, run, journal, progress
        self.errors: dict[str, SampleError] = {}
        self.rows: dict[tuple[str, str], list[Row]] = {}
        self.failures: dict[str, SampleError] = {}
        self.recorded = {(r["sample"], r["metric"]): r for r in read_journal(run.journal) if "metric" in r}
        self.references = job.references
        files = self.clips()
        generated = subjects("generated", job.suite.samples, files)
        against = [m for m in job.metrics if wants_reference(m) and self.references.pack(m) is None]
        real = subjects("reference", job.suite.samples, self.references.files(progress)) if against else []
        self.real = {one.sample.id: one for one in real}
        precision = job.spec.settings.precision
        self.plan = Plan(job.metrics, [*generated, *real], job.store, job.weights, precision, DECODER, against)
        self.generated = [self.with_error(one) for one in generated]
        self.plan.subjects = [*self.generated, *real]

    def clips(self) -> dict[str, ClipFile]:
        """Locate the clips, or make those that are not there."""
        job = self.job
        if job.model.locate is not None:
            return job.model.locate(job.suite)
        return make_clips(job, self.references, self.progress, self.generation_failed)

    def generation_failed(self, sample: str, error: SampleError) -> None:
        self.errors[sample] = error

    def with_error(self, one: Subject) -> Subject:
        """A clip that could not be generated says why, not only that it is missing."""
        error = self.errors.get(one.sample.id)
        return Subject(one.role, one.sample, one.file, one.media, error) if error and one.file is None else one

    def compute(self) -> Workforce:
        """Features and sample scores, clip by clip."""
        plan = self.plan
        executor = workforce(plan, self.job.spec.settings)
        owed = {one: set(lacking) for one, lacking in plan.lacking.items()}
        users: dict[str, list[Subject]] = {}
        for one, keys in owed.items():
            for key in keys:
                users.setdefault(key, []).append(one)
        self.progress.start(len(plan.subjects), plan.summary)
        for one, keys in owed.items():
            if not keys:
                self.settle(one)
        for one, outcomes in executor.execute():
            for feature, outcome in outcomes.items():
                key = plan.key(one, feature)
                if isinstance(outcome, SampleError):
                    self.failures[key] = outcome
                for user in users.pop(key, ()):  # it may be another's too: of equal bytes, or with the same text
                    owed[user].discard(key)
                    if not owed[user]:
                        self.settle(user, outcomes if user is one else {})
        return executor

    def settle(self, one: Subject, fresh: Mapping[Feature, Outcome | None] = {}) -> None:
        """Score a clip whose features are in the store or known to fail; a real clip is just counted."""
        metrics = [m for m in self.job.metrics if m.card.kind == "sample" and one.role == "generated"]
        rows = [row for metric in metrics for row in self.score(metric, one, fresh)]
        bad = next((row for row in rows if row.status in ("failed", "missing")), None)
        self.progress.step(one.sample.id, bad.reason if bad else "")

    def score(self, metric: Metric, one: Subject, fresh: Mapping[Feature, Outcome | None]) -> list[Row]:
        """A sample metric of a clip. What the journal holds for the same inputs is taken from there, failures are not:
        they may have been the machine's, and this run has asked for their features again."""
        key, name = score_key(metric, one, self.plan), (one.sample.id, metric.card.id)
        known = self.recorded.get(name)
        if known is not None and known["key"] == key and all(row["status"] in LASTING for row in known["rows"]):
            rows = [Row(**row) for row in known["rows"]]
        else:
            rows = score(metric, one, given(settled(self.plan, one, features(metric).values(), self.failures, fresh)))
            record = {"sample": name[0], "metric": name[1], "key": key}
            self.journal.write({**record, "rows": [vars(row) for row in rows]})
        self.rows[name] = rows
        return rows

    def finish(self, executor: Workforce) -> None:
        """Set metrics, tables, manifest."""
        job, folder = self.job, self.run.folder
        sample_rows = [
            {"sample": sample.id, "metric": metric.card.id, **vars(row)}
            for sample in job.suite.samples
            for metric in job.metrics
            if metric.card.kind == "sample"
            for row in self.rows[sample.id, metric.card.id]
        ]
        sets = [row for m in job.metrics if m.card.kind == "set" for row in set_rows(m, job.suite, self.set_inputs(m))]
        described = [self.describe(one) for one in self.generated]
        write_table(folder / "scores.parquet", "scores", sample_rows)
        write_table(folder / "samples.parquet", "samples", described)
        write_table(folder / "sets.parquet", "sets", sets)
        counts = count(described, sample_rows)
        partial = job.spec.limit is not None or counts["ok"] < counts["expected"]
        update(
            self.run, status="partial" if partial else "complete", ended=now(), counts=counts,
            allowed=allowed(job.spec.allow_failed, counts["expected"]), work=vars(executor.counts), sets=sets,
        )  # fmt: skip

    def describe(self, one: Subject) -> dict[str, Any]:
        """The row of a sample in samples.parquet."""
        from avbench.manifest import describe_clip

        failed = [r for m in self.job.metrics if m.card.kind == "sample" for r in self.rows[one.sample.id, m.card.id]]
        return describe_clip(one, failed, self.real.get(one.sample.id))

    def set_inputs(self, metric: Metric) -> SetInputs:
        """role, sample ids -> rows of the clips that have all features, and why the others have not."""
        pack = self.references.pack(metric)
        declared = features(metric)
        roles = ("generated", "reference") if wants_reference(metric) and pack is None else ("generated",)
        found = {
            one.name: settled(self.plan, one, declared.values(), self.failures)
            for one in self.plan.subjects
            if one.role in roles
        }

        def rows(role: str, ids: Sequence[str]) -> Side:
            if role == "reference" and pack is not None:
                return self.packed(metric, pack, ids)
            kept: list[str] = []
            columns: dict[str, list[Any]] = {name: [] for name in declared}
            lost: dict[str, SampleError] = {}
            for id in ids:
                value = given(found[role, id])
                try:
                    values = {name: value(feature) for name, feature in declared.items()}
                except SampleError as error:
                    lost[id] = error
                    continue
                kept.append(id)
                for name, one in values.items():
                    columns[name].append(one)
            return Side(Rows(kept, columns), lost)

        return rows

    def packed(self, metric: Metric, pack: Any, ids: Sequence[str]) -> Side:
        """The real side from a pack; what does not fit does not apply, with the reason."""
        weights = {name: one.sha256 for name, one in self.job.weights.items()}
        try:
            found, notes = pack.rows(metric, ids, weights)
        except NotComparable as error:
            raise NotApplicable("reference.not_comparable", str(error)) from None
        other = pack.origin.decoder
        if other and other != self.plan.decoder:
            notes = [*notes, f"real clips were decoded by {other}, generated ones by {self.plan.decoder}"]
        return Side(found, {}, [f"real side: {Path(pack.path).name}", *notes])


def make_clips(
    job: Job, references: References, progress: Progress, failed: Callable[[str, SampleError], None]
) -> dict[str, ClipFile]:
    """Generate the clips that are not there yet."""

    def begin(count: int) -> None:
        progress.phase(f"generating with {job.model.name}", count)

    def report(sample: str, error: SampleError | None) -> None:
        if error is not None:
            failed(sample, error)
        progress.step(sample, str(error or ""))

    device = job.spec.settings.device
    set_precision(device)
    return generate_clips(job.model, job.suite, job.clips_folder, references.clip, job.spec.seed, report, begin, device)


def allowed(text: str, expected: int) -> int:
    """`--allow-failed`: a count, or a percentage of the samples ("5%"), rounded down."""
    try:
        count = int(float(text[:-1]) / 100 * expected) if text.endswith("%") else int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise UserError(f"--allow-failed {text}: give a count or a percentage, such as 3 or 5%")
    return count


def count(samples: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many samples are ok, failed and missing, and how many scores do not apply."""
    found = {status: sum(row["status"] == status for row in samples) for status in ("ok", "failed", "missing")}
    return {
        "expected": len(samples), **found,
        "not_applicable": sum(row["status"] == "not_applicable" for row in scores),
    }  # fmt: skip


def preview(spec: Spec) -> dict[str, Any]:
    """The plan of a specification and its floor on this machine, without writing anything or running a model."""
    from avbench.media import DECODER
    from avbench.roofline import floor

    job = resolve_spec(spec)
    files = job.model.locate(job.suite) if job.model.locate else find_clips(job.clips_folder, job.suite)
    generated = subjects("generated", job.suite.samples, files)
    plan = Plan(job.metrics, generated, job.store, job.weights, spec.settings.precision, DECODER)
    at_hand = spec.settings.ray is None
    return {
        "suite": job.suite.name,
        "model": job.model.name,
        "metrics": ", ".join(metric.card.id for metric in job.metrics),
        "present": sum(one.file is not None for one in generated),
        **plan.summary,
        "floor": floor(plan, spec.settings).summary(spec.settings) if plan.todo and at_hand else {},
    }


def score_clip(
    path: Path, prompt: str, speech: str, metrics: str, device: str, weights: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """The sample metrics of one file, as rows with metric, field, value, unit, status and reason."""
    from avbench.media import DECODER
    from avbench.registry import metrics as registry

    if not path.is_file():
        raise UserError(f"{path} does not exist")
    found = [registry.get(name) for name in resolve(name.strip() for name in metrics.split(","))]
    refuse_elsewhere(found, "")
    found = [metric for metric in found if metric.card.kind == "sample"]
    sample = Sample("clip", 0, prompt, speech_text=speech)
    file = ClipFile(None, path) if path.suffix.lower() in AUDIO else ClipFile(path)
    needed = {w for metric in found for e in encoders(features(metric).values()) for w in e.weights}
    one = subjects("generated", [sample], {"clip": file})[0]
    plan = Plan(found, [one], Store(), locate_all(needed, weights), "fp32", DECODER)
    failures: dict[str, SampleError] = {}
    for _, new in Executor(plan, Settings(device=pick_device(device))).execute():
        failures.update({plan.key(one, f): o for f, o in new.items() if isinstance(o, SampleError)})
    return [
        {"metric": metric.card.id, "unit": metric.card.unit if not row.field else "", **vars(row)}
        for metric in found
        for row in score(metric, one, given(settled(plan, one, features(metric).values(), failures)))
    ]


def generate(
    model: str, suite: str, out: Path, limit: int | None, seed: int, progress: Progress, device: str = "auto"
) -> tuple[dict[str, ClipFile], dict[str, str]]:
    """Make the clips of a suite into `out`; returns what lies there and {sample: why not}."""
    whole, made = load_suite(suite), load_model(model)
    found = whole.limit(limit)
    if made.locate is not None:
        raise UserError(f"{made.name} is a folder of clips; there is nothing to generate")
    problems: dict[str, str] = {}

    def begin(count: int) -> None:
        progress.phase(f"generating with {made.name}", count)

    def report(sample: str, error: SampleError | None) -> None:
        if error is not None:
            problems[sample] = str(error)
        progress.step(sample, str(error or ""))

    set_precision(device)
    clips = generate_clips(made, found, out, References(found, whole.digest).clip, seed, report, begin, device)
    for sample in found.samples:
        if sample.id not in clips:
            problems.setdefault(sample.id, "generate.none: the generator made no such clip")
    return clips, problems
