"""The plan: which features must be computed for which clips, each once.

The union of the features that all metrics need, deduplicated, with everything they are cut from, minus what the store
holds. Nothing is decoded to make it; clips are hashed, because a feature belongs to bytes and not to a file name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from avbench.errors import MissingClip, SampleError
from avbench.features import Encoder, Feature
from avbench.generator import ClipFile
from avbench.metric import Metric, closure, features
from avbench.store import Store, combine, file_digest, text_digest
from avbench.suite import Sample
from avbench.weights import Located


@dataclass(frozen=True, eq=False)
class Subject:
    """One clip in one role, with the sample it belongs to. `media` is the digest of its bytes."""

    role: str
    sample: Sample
    file: ClipFile | None
    media: str = ""
    error: SampleError | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.role, self.sample.id


def subject(role: str, sample: Sample, file: ClipFile | None) -> Subject:
    """Hash a clip's bytes. A clip that is not there or cannot be read carries its error."""
    if file is None:
        return Subject(role, sample, None, error=MissingClip("clip.missing", f"no clip for sample {sample.id}"))
    try:
        digests = [file_digest(path) for path in (file.video, file.audio) if path is not None]
    except OSError as error:
        return Subject(role, sample, file, error=SampleError("clip.unreadable", f"{file.main.name}: {error.strerror}"))
    # Two files are digested apart: an empty or moved boundary between them must not look like another clip.
    return Subject(role, sample, file, digests[0] if len(digests) == 1 else combine(*digests))


def subjects(role: str, samples: Sequence[Sample], files: Mapping[str, ClipFile], threads: int = 4) -> list[Subject]:
    """The subjects of a role, hashed in threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda sample: subject(role, sample, files.get(sample.id)), samples))


def needs_media(feature: Feature) -> bool:
    """Whether the feature, or one it is cut from, looks at the clip."""
    return any(one.view.media for one in closure(feature))


def looks_at(lacking: Iterable[Feature]) -> frozenset[str]:
    """The streams that must be decoded for these features, given all that they are cut from."""
    return frozenset().union(*(feature.view.media for feature in lacking))


def encoders(wanted: Iterable[Feature]) -> list[Encoder]:
    """The distinct encoders behind these features, in order of first need."""
    return list(dict.fromkeys(one.encoder for feature in wanted for one in closure(feature)))


Todo = list[tuple[Subject, list[Feature]]]


@dataclass
class Plan:
    """What is to be computed.

    against: metrics whose real side is features of media; None: all that compare with real clips.
    wanted:  role -> features, with all they are cut from, dependencies first.
    """

    metrics: list[Metric]
    subjects: list[Subject]
    store: Store
    weights: Mapping[str, Located]
    precision: str
    decoder: str
    against: list[Metric] | None = None
    wanted: dict[str, list[Feature]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generated = [f for metric in self.metrics for one in features(metric).values() for f in closure(one)]
        if self.against is None:
            self.against = [m for m in self.metrics if m.card.kind == "set" and m.card.reference]
        real = [f for metric in self.against for one in features(metric).values() for f in closure(one)]
        self.wanted = {"generated": list(dict.fromkeys(generated)), "reference": list(dict.fromkeys(real))}

    def key(self, one: Subject, feature: Feature) -> str:
        """The store key of a feature of a subject: everything that decides its value."""
        chain = closure(feature)
        digests = [self.weights[name].sha256 for part in chain for name in part.encoder.weights]
        texts = [text_digest(str(one.sample.get(field))) for part in chain for field in part.view.fields]
        media = [one.media, self.decoder] if needs_media(feature) else []
        return combine(feature.key, self.precision, *digests, *texts, *media)

    @cached_property
    def lacking(self) -> dict[Subject, dict[str, Feature]]:
        """The features of each subject that the store does not hold, by key; none where the clip itself is in error.

        Those of equal bytes or texts appear under each of their subjects.
        """
        held: dict[str, bool] = {}

        def lacks(key: str) -> bool:
            if key not in held:
                held[key] = key in self.store
            return not held[key]

        return {
            one: {
                key: feature
                for feature in self.wanted[one.role]
                if not (one.error and needs_media(feature)) and lacks(key := self.key(one, feature))
            }
            for one in self.subjects
        }

    @cached_property
    def rounds(self) -> list[Todo]:
        """The work: what each subject computes, in order. Equal bytes or texts are computed once, by the first.

        What is cut from a feature that another subject computes comes a round later: the store gives it by then.
        """
        first: dict[str, tuple[Subject, int]] = {}
        found: list[dict[Subject, list[Feature]]] = []
        for one, lacking in self.lacking.items():
            for key, feature in lacking.items():
                if key in first:
                    continue
                needs = (first.get(self.key(one, need)) for need in feature.view.requires)
                number = max((after + (owner is not one) for owner, after in filter(None, needs)), default=0)
                first[key] = one, number
                found += [{} for _ in range(number + 1 - len(found))]
                found[number].setdefault(one, []).append(feature)
        return [list(work.items()) for work in found]

    @property
    def todo(self) -> Todo:
        """The work of all rounds."""
        return [entry for work in self.rounds for entry in work]

    @property
    def summary(self) -> dict[str, Any]:
        """Counts for `--dry-run` and the head of a run."""
        work: dict[str, int] = {}
        todo = self.todo
        for _, lacking in todo:
            for feature in lacking:
                work[feature.encoder.name] = work.get(feature.encoder.name, 0) + 1
        present = [one for one in self.subjects if one.error is None]
        total = sum(len(self.wanted[one.role]) for one in present)
        return {
            "clips": len(present),
            "decodes": sum(bool(looks_at(lacking)) for _, lacking in todo),
            "features": total,
            "cached": total - sum(len(lacking) for _, lacking in todo),
            "encoders": work,
            "weights": {name: located.sha256[:12] for name, located in self.weights.items()},
        }
