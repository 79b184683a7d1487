"""`suites lock`: the real side of set metrics, computed once and kept as a pack.

The pack holds every feature the metrics declare of every real clip, and says how each was made: view (with it the frame
count), encoder, digest of its weights, decoder, precision, suite, version, and digest and length of each clip. It holds
no date and no path, so that the same clips give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import avbench
from avbench.errors import SampleError, UserError
from avbench.execute import Settings
from avbench.features import Feature
from avbench.metric import Metric, features
from avbench.plan import Plan, Subject, encoders, subjects
from avbench.progress import Progress
from avbench.references import References, wants_reference
from avbench.suite import load_suite

FACTS = ("frames", "fps", "video_seconds", "sample_rate", "audio_seconds")


@dataclass(frozen=True)
class Locked:
    """What was written: where, its digest, how many clips, for which metrics, and {sample: why it is left out}."""

    path: Path
    sha256: str
    n: int
    metrics: tuple[str, ...]
    features: tuple[str, ...]
    lost: Mapping[str, str]


def lock(
    spec: str,
    names: Sequence[str],
    out: Path | None,
    weights: Mapping[str, Path],
    settings: Settings,
    allow_failed: str,
    progress: Progress,
) -> Locked:
    """Write the pack of a suite's real clips for these set metrics (the suite's own where none are named).

    out: the file; `<suite>.safetensors` where None. Raises `UserError` where there is no set metric, no real clip, or
    more broken clips than `allow_failed`.
    """
    from avbench.evaluation import allowed
    from avbench.groups import resolve
    from avbench.media import DECODER
    from avbench.metrics.packs import Entry, Origin, Pack, file_of, write_pack
    from avbench.registry import metrics
    from avbench.store import Store
    from avbench.weights import locate_all

    suite = load_suite(spec)
    wanted = [one for one in map(metrics.get, resolve(names or suite.metrics)) if wants_reference(one)]
    if not wanted:
        raise UserError(f"suite {suite.name}: no set metric among {', '.join(names or suite.metrics)}; name some")
    needed = {name for metric in wanted for one in encoders(features(metric).values()) for name in one.weights}
    located = locate_all(needed, weights)
    real = subjects("reference", suite.samples, References(suite, suite.digest).files(progress))
    if all(one.file is None for one in real):
        raise UserError(f"no real clip of suite {suite.name} is here; `avbench suites show` says where they belong")
    plan = Plan(wanted, real, Store(), located, settings.precision, DECODER)
    columns, lost = compute(plan, wanted, settings, progress)
    kept = [one for one in real if one.sample.id not in lost]
    if len(lost) > allowed(allow_failed, len(real)) or len(kept) < 2:
        some = "".join(f"\n  {id}: {why}" for id, why in list(lost.items())[:3])
        raise UserError(f"{len(lost)} of {len(real)} real clips lack features (--allow-failed {allow_failed}):{some}")
    digests = {name: one.sha256 for name, one in located.items()}
    entries = [Entry.of(one, [of[clip.sample.id] for clip in kept], digests) for one, of in columns.items()]
    origin = Origin(
        suite.name, suite.digest, f"avbench {avbench.__version__}, suites lock", DECODER, settings.precision,
        notes=(f"{len(lost)} of {len(real)} real clips are left out",) if lost else (), suite_version=suite.version,
    )  # fmt: skip
    ids = tuple(one.sample.id for one in kept)
    path = out or Path(f"{suite.name.replace('/', '+')}.safetensors")
    write_pack(path, Pack(ids, {entry.key: entry for entry in entries}, origin, clip_facts(kept)))
    described = tuple(f"{one.encoder.key} of {one.view.key.rpartition('views.')[2]}" for one in columns)
    return Locked(path, file_of(path)[1], len(ids), tuple(m.card.id for m in wanted), described, lost)


def compute(
    plan: Plan, wanted: Sequence[Metric], settings: Settings, progress: Progress
) -> tuple[dict[Feature, dict[str, Any]], dict[str, str]]:
    """{feature: {sample: rows}} of all declared features, and {sample: why it lacks one}."""
    from avbench.evaluation import workforce

    failures: dict[str, SampleError] = {}
    progress.start(len(plan.todo), plan.summary)
    for one, outcomes in workforce(plan, settings).execute():
        failures.update({plan.key(one, f): o for f, o in outcomes.items() if isinstance(o, SampleError)})
        progress.step(one.sample.id)
    declared = list(dict.fromkeys(feature for metric in wanted for feature in features(metric).values()))
    columns: dict[Feature, dict[str, Any]] = {feature: {} for feature in declared}
    lost: dict[str, str] = {}
    for one in plan.subjects:
        for feature in declared:
            key = plan.key(one, feature)
            error = one.error or failures.get(key)
            if error is not None:
                lost.setdefault(one.sample.id, str(error))
            else:
                columns[feature][one.sample.id] = plan.store.get(key)
    return columns, lost


def clip_facts(clips: Sequence[Subject]) -> dict[str, list[Any]]:
    """Digest and container facts of the real clips, one value a clip."""
    from avbench.media import probe

    found = [probe(one.file.video or one.file.main, one.file.audio) for one in clips if one.file is not None]
    facts = {name: [info.get(name) for info in found] for name in FACTS}
    return {"sha256": [one.media for one in clips], **facts}
