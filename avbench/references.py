"""What stands for the real clips of a suite: local media, clips it renders itself, or a pack of features.

A set metric takes its real side from one place: the pack the user gave (`--reference`, or `[references]` of
avbench.toml); else the media, where every sample has its real clip; else the features the suite's authors published,
where they answer to the metric; else what media there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.clip import Clip
from avbench.errors import NotComparable, SampleError
from avbench.generator import CONFIG, ClipFile
from avbench.metric import Metric
from avbench.progress import Progress
from avbench.store import cache_root
from avbench.suite import Sample, Suite, load_suite, read_toml

if TYPE_CHECKING:
    from avbench.metrics.packs import Pack


class References:
    """Real clips by sample id.

    digest: of the whole suite: rendered files are shared by its parts.
    given:  the pack the user named; it stands for the real clips of every set metric or is refused.
    """

    def __init__(self, suite: Suite, digest: str, given: Pack | None = None) -> None:
        self.suite, self.digest, self.given = suite, digest, given
        self.samples = {sample.id: sample for sample in suite.samples}

    @cached_property
    def found(self) -> dict[str, ClipFile]:
        """The real clips that lie here as files."""
        return {s.id: file for s in self.suite.samples if (file := real_file(s)) is not None}

    @cached_property
    def published(self) -> Pack | None:
        """The features the suite's authors published, where their file is here."""
        return self.suite.pack() if self.suite.pack is not None else None

    def pack(self, metric: Metric) -> Pack | None:
        """The pack that stands for the real clips in this metric, None where their media do."""
        if not wants_reference(metric) or self.given is not None:
            return self.given if wants_reference(metric) else None
        if self.suite.render is not None or len(self.found) == len(self.samples) or self.published is None:
            return None
        return self.published if not self.found or self.published.answers(metric) else None

    def check(self, metrics: Iterable[Metric], weights: Mapping[str, str], precision: str) -> None:
        """Refuse a given pack that does not fit the suite or cannot serve a metric, before anything is computed."""
        if self.given is None:
            return
        self.given.fits(self.suite.name, self.suite.version, self.digest, precision)
        try:
            for metric in filter(wants_reference, metrics):
                self.given.rows(metric, list(self.samples), weights)
        except NotComparable as error:
            raise NotComparable(
                f"{error}\n  {self.given.path} cannot stand for the real clips here; choose other --metrics, or leave "
                "--reference out"
            ) from None

    def used(self, metrics: Iterable[Metric]) -> dict[str, Any] | None:
        """What the manifest says of the pack behind these metrics, None where there is none."""
        served = {metric.card.id: pack for metric in metrics if (pack := self.pack(metric)) is not None}
        if not served:
            return None
        pack = next(iter(served.values()))
        origin = {key: value for key, value in vars(pack.origin).items() if value}
        return {"sha256": pack.digest, "n": len(pack.ids), "metrics": sorted(served), "origin": origin}

    def clip(self, id: str) -> Clip:
        """The decoded real clip; `SampleError("reference.none")` where the suite has none."""
        from avbench.media import decode

        sample = self.samples[id]
        if self.suite.render is not None:
            return self.suite.render(sample)
        file = real_file(sample)
        if file is None:
            raise SampleError("reference.none", f"suite {self.suite.name} has no real clip for {id}")
        return decode(file.main, file.audio)

    def file(self, spec: str, metrics: Iterable[Metric]) -> dict[str, Any] | None:
        """How to open the pack behind these metrics again: beside the digest, no part of a run's identity."""
        pack = next(filter(None, map(self.pack, metrics)), None)
        return None if pack is None else {"path": pack.path, "suite": spec, "name": self.suite.name}

    def files(self, progress: Progress) -> dict[str, ClipFile]:
        """The real clips as files; rendered ones are written to the cache, encoded as generated clips are."""
        if self.suite.render is None:
            return self.found
        from avbench.encode import write_clip

        folder = cache_root() / "media" / self.digest[:16]
        found = {s.id: ClipFile(folder / f"{s.id}.mp4") for s in self.suite.samples}
        missing: list[Sample] = [s for s in self.suite.samples if not found[s.id].main.is_file()]
        progress.phase("rendering references", len(missing))
        for sample in missing:
            write_clip(found[sample.id].main, self.suite.render(sample))
            progress.step(sample.id)
        return found


def real_file(sample: Sample) -> ClipFile | None:
    """The real clip of a sample as a file: a video, a video and its sound, or sound alone."""
    if sample.reference is None and sample.reference_audio is None:
        return None
    return ClipFile(sample.reference, sample.reference_audio)


def wants_reference(metric: Metric) -> bool:
    """Whether it compares with real clips."""
    return metric.card.kind == "set" and bool(metric.card.reference)


def given_pack(spec: str, name: str, path: Path | None, frames: int | None) -> Pack | None:
    """The pack of `--reference`, else of `[references]` in avbench.toml for this suite, else None.

    spec: the suite as it was asked for (`name`, `name/subset`, `name=DIR`, a file); name: of the suite found. A table
    entry is a path, or {file = path, frames = 16}.
    """
    from avbench.metrics.packs import open_pack

    if path is None:
        config = Path(CONFIG)
        declared = read_toml(config).get("references", {}) if config.is_file() else {}
        entry = declared.get(name, declared.get(name.partition("/")[0]))
        if entry is None:
            return None
        entry = entry if isinstance(entry, dict) else {"file": entry}
        path, frames = (config.parent / str(entry.get("file", ""))).expanduser(), entry.get("frames", frames)
    return open_pack(Path(path), lambda: whole_ids(spec, name), frames)


def whole_ids(spec: str, name: str) -> list[str]:
    """All sample ids of the suite a part belongs to, in order."""
    base, _, subset = name.partition("/")
    return [sample.id for sample in load_suite(spec.replace(f"{base}/{subset}", base, 1) if subset else spec).samples]


def reopened(manifest: Mapping[str, Any], metric: str) -> Pack | None:
    """The pack behind a set metric of a finished run, None where its real side were media. `NotComparable` where the
    file is no longer what it was."""
    from avbench.metrics.packs import open_pack

    used: Mapping[str, Any] | None = manifest.get("reference")
    place: Mapping[str, Any] = manifest.get("reference_file") or {}
    if not used or metric not in used["metrics"]:
        return None
    path = Path(place["path"])
    if not path.exists():
        raise NotComparable(f"the reference pack {path} is gone; score both again with --reference")
    pack = open_pack(path, lambda: whole_ids(place["suite"], place["name"]))
    if pack.digest != used["sha256"]:
        raise NotComparable(f"the reference pack {path} is not the one of the run; score both again")
    return pack
