"""What an experiment is, read from its file: variants, contrasts, scales, and the trainings they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from avbench.errors import UserError
from avbench.reference_models.training.config import Config, parse_config
from avbench.suite import read_toml

Role = Literal["check", "twin", "control", "ablation", "system"]
REST = ("ablation", "system")


class Part(BaseModel):
    """A table of the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(Part):
    """Something that is trained. model: a name with `{size}`. training: changes of the experiment's.

    role: a "check" is trained for the first `steps` of its training and one seed, to compare its log with a twin's, and
    never scored.
    """

    name: str
    label: str
    about: str
    arm: str
    role: Role
    model: str = "avfulldit-{size}"
    training: dict[str, Any] = {}
    steps: int = 0


class Contrast(Part):
    """Variant `b` against variant `a`, and what is asked by it."""

    name: str
    a: str
    b: str
    asks: str


class Primary(Part):
    """The one comparison that decides; all others are secondary."""

    contrast: str
    metric: str
    field: str
    subset: str


class Scale(Part):
    """How much is spent. seeds: of twins and controls, and of the rest. variants: only these; empty: all of `roles`.

    training: changes of the experiment's; rest: further ones for what is no check, twin or control.
    limit: prompts of the suite; None: all. shipped: whether to take the trainings that come with the package.
    """

    about: str
    size: str
    suite: str
    seeds: tuple[int, int]
    roles: tuple[Role, ...]
    variants: tuple[str, ...] = ()
    training: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    limit: int | None = None
    shipped: bool = False


class Experiment(Part):
    """A whole file.

    metrics: what clips are scored by. seen, heard: columns of the two tables of values.
    baselines: models beside the trained ones that show what good and spoilt clips score.
    """

    title: str
    question: str
    metrics: tuple[str, ...]
    subsets: tuple[str, ...]
    seen: tuple[str, ...]
    heard: tuple[str, ...]
    baselines: tuple[str, ...]
    primary: Primary
    training: dict[str, Any]
    scales: dict[str, Scale]
    variants: tuple[Variant, ...]
    contrasts: tuple[Contrast, ...]
    name: str = ""

    def variant(self, name: str) -> Variant:
        return next(one for one in self.variants if one.name == name)


@dataclass(frozen=True)
class Job:
    """One training: a variant with a seed. `name` is that of its folder and of the model in the runs."""

    variant: Variant
    seed: int
    config: Config = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.variant.name}-s{self.seed}"

    @property
    def until(self) -> int:
        """The step that the training goes to: its last one, of a check an earlier one of the same schedule."""
        return min(self.variant.steps or self.config.steps, self.config.steps)


def load(name: str) -> Experiment:
    """The experiment of this name; `UserError` with every mistake of its file."""
    path = Path(__file__).parent / f"{name}.toml"
    try:
        found = Experiment(**read_toml(path), name=name)
    except ValidationError as error:
        raise UserError(f"{path.name}: {error}") from None
    known = {one.name for one in found.variants}
    for contrast in found.contrasts:
        if lacking := {contrast.a, contrast.b} - known:
            raise UserError(f"{path.name}: contrast {contrast.name!r} needs {', '.join(sorted(lacking))}")
    return found


def jobs(experiment: Experiment, scale: Scale) -> list[Job]:
    """All trainings, those first that the primary question needs: seed by seed, twins and controls before the rest."""
    found = []
    for variant in chosen(experiment, scale):
        seeds = 1 if variant.role == "check" else scale.seeds[variant.role in REST]
        for seed in range(seeds):
            found.append(Job(variant, seed, configuration(experiment, scale, variant, seed)))
    return sorted(found, key=lambda job: (job.variant.role in REST, job.seed))


def chosen(experiment: Experiment, scale: Scale) -> list[Variant]:
    """The variants of a scale."""
    wanted = [one for one in experiment.variants if one.role in scale.roles]
    return [one for one in wanted if not scale.variants or one.name in scale.variants]


def configuration(experiment: Experiment, scale: Scale, variant: Variant, seed: int) -> Config:
    """The training of a variant: the experiment's settings, changed by the scale's and by its own."""
    table = merged(experiment.training, scale.training)
    table = merged(merged(table, scale.rest if variant.role in REST else {}), variant.training)
    table |= {"model": variant.model.format(size=scale.size), "arm": variant.arm, "seed": seed}
    return parse_config(table, f"{experiment.name}, {variant.name}")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of tables, the second's values over the first's."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def contrasts(experiment: Experiment, scale: Scale) -> list[Contrast]:
    """Those of which both sides are trained."""
    names = {one.name for one in chosen(experiment, scale)}
    return [one for one in experiment.contrasts if {one.a, one.b} <= names]
