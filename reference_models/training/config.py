"""What a training is: one TOML file. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from avbench.errors import UserError
from avbench.reference_models.catalogue import SYSTEMS, parse
from avbench.suite import read_toml

CHECKPOINT_CONFIG, CHECKPOINT_WEIGHTS = "config.json", "model.safetensors"
"""What a checkpoint folder holds."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: what of sound and captions a model gets. All else is equal between arms.

    audio: the joint model, else video alone. isolate: both towers run, and neither sees the other.
    sound: "own"; "shuffled" among clips of the same event (information gone, tokens and compute kept); "silent".
    audio_caption: whether the audio tower reads its caption. told: whether video's caption tells of the sound too.
    """

    about: str
    audio: bool = True
    isolate: bool = False
    sound: Literal["own", "shuffled", "silent"] = "own"
    audio_caption: bool = True
    told: bool = False


ARMS: dict[str, Arm] = {
    "t2av": Arm("video and audio, denoised jointly"),
    "t2v": Arm("the same video tower alone", audio=False),
    "isolated": Arm("both towers, which do not see each other: must equal t2v", isolate=True),
    "shuffled-audio": Arm("joint, with the sound of another clip of the same event", sound="shuffled"),
    "silent-audio": Arm("joint, with silence", sound="silent"),
    "no-audio-caption": Arm("joint, with an empty audio caption", audio_caption=False),
    "t2v-audio-caption": Arm("video alone, its caption followed by the audio caption", audio=False, told=True),
}


def is_video(parameter: str) -> bool:
    """Whether a parameter, by its name, belongs to the video tower: what the T2V-only twin has and trains."""
    return parameter.startswith("video.")


class Part(BaseModel):
    """A table of the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Part):
    """What is learned from.

    source: "clatter", or the name or file of a suite whose real clips are at hand.
    clips: of clatter, made on the spot; of a suite, the first so many (0: all). split: of clatter.
    sound: soundtracks of clatter: "tight" (visible contacts sound), "loose" (the same videos with ambience) or "mixed".
    events: of clatter; the desk world's if empty. valid: clips held out to measure the loss on.
    video, audio: codecs, `kind` and the fields of its class in `avbench.reference_models.codecs`.
    """

    source: str = "clatter"
    clips: Annotated[int, Field(ge=0)] = 4096
    split: str = "train"
    sound: Literal["tight", "loose", "mixed"] = "tight"
    events: tuple[str, ...] = ()
    valid: Annotated[int, Field(ge=1)] = 64
    video: dict[str, Any] = {"kind": "pixels"}
    audio: dict[str, Any] = {"kind": "log-mel"}


class Text(Part):
    """An encoder of captions: "hash" (a fixed vector per word, no weights) or "t5" (T5, Flan-T5, UMT5 of a repository).

    width: of the hashed vectors. tokens: length kept. repo, folder, tokenizer: a repository, and where in it the
    transformer and its tokenizer lie.
    """

    kind: Literal["hash", "t5"] = "hash"
    width: Annotated[int, Field(ge=1)] = 32
    tokens: Annotated[int, Field(ge=1)] = 24
    repo: str = ""
    folder: str = ""
    tokenizer: str = ""


class Optimiser(Part):
    """AdamW. clip: largest gradient norm, of each tower for itself (0: none). warmup: steps from 0 to lr.

    schedule: "constant", or "cosine" down to lr_end at the last step. ema: decay of the averaged weights that are
    sampled (0: none); it starts lower, as (1 + step) / (10 + step).
    """

    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    eps: float = 1e-8
    clip: Annotated[float, Field(ge=0)] = 1.0
    warmup: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["constant", "cosine"] = "constant"
    lr_end: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999


class Loss(Part):
    """What is minimised: video L_v + audio L_a.

    objective: "flow", or "cts" (Harmony's cross-task synergy: + audio_driven L_v(clean audio) + video_driven
    L_a(clean video)); empty: the system's own. t: distribution of times, pushed towards noise by shift.
    drop: share of captions replaced by nothing, drawn for each tower.
    """

    video: Annotated[float, Field(ge=0)] = 1.0
    audio: Annotated[float, Field(ge=0)] = 1.0
    objective: Literal["", "flow", "cts"] = ""
    audio_driven: Annotated[float, Field(ge=0)] = 0.1
    video_driven: Annotated[float, Field(ge=0)] = 0.3
    t: Literal["uniform", "logit_normal", "sobol"] = "uniform"
    shift: Annotated[float, Field(gt=0)] = 1.0
    drop: Annotated[float, Field(ge=0, le=1)] = 0.1


class Pretrained(Part):
    """Weights to begin with: a tower's diffusers repository (or folder), or a checkpoint folder of this trainer."""

    video: str = ""
    audio: str = ""
    folder: str = "transformer"
    checkpoint: str = ""


class Config(Part):
    """A training. `model` is a name of the catalogue; `settings` change its preset.

    freeze: patterns of parameter names that do not train (regular expressions, from the start of the name).
    sampler: changes of the system's sampling defaults, kept in the checkpoint.
    precision: of the forward pass; weights and optimiser are float32.
    log_every, validate_every, save_every: steps. keep_every: steps whose averaged weights are kept apart (0: none).
    """

    model: str
    arm: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1)] = 6000
    batch: Annotated[int, Field(ge=1)] = 32
    precision: Literal["fp32", "bf16"] = "fp32"
    settings: dict[str, Any] = {}
    sampler: dict[str, Any] = {}
    freeze: tuple[str, ...] = ()
    start: Pretrained = Pretrained()
    data: Data = Data()
    text_v: Text = Text()
    text_a: Text = Text()
    optimiser: Optimiser = Optimiser()
    loss: Loss = Loss()
    log_every: Annotated[int, Field(ge=1)] = 20
    validate_every: Annotated[int, Field(ge=1)] = 200
    save_every: Annotated[int, Field(ge=1)] = 200
    keep_every: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _arm(cls, values: Any) -> Any:
        """The arm that a name means: `-t2v-` models are the arm t2v."""
        if isinstance(values, Mapping) and "model" in values and not values.get("arm"):
            return {**values, "arm": "t2v" if parse(str(values["model"])).t2v else "t2av"}
        return values

    @model_validator(mode="after")
    def _known(self) -> Config:
        if self.arm not in ARMS:
            raise ValueError(f"arm {self.arm!r} is unknown; use one of {', '.join(ARMS)}")
        name = parse(self.model)
        if name.t2v and ARMS[self.arm].audio:
            raise ValueError(f"{self.model} has no audio, the arm {self.arm} needs it; use the joint model's name")
        if not SYSTEMS[name.system].twin and not ARMS[self.arm].audio:
            raise ValueError(f"{self.model} has no video-only twin, so there is no arm {self.arm}")
        return self

    @property
    def choice(self) -> Arm:
        return ARMS[self.arm]

    @property
    def objective(self) -> str:
        return self.loss.objective or SYSTEMS[parse(self.model).system].objective

    @property
    def digest(self) -> str:
        """sha256, 12 digits, of all that decides the weights at a step; so not of how often something is written."""
        free = {"log_every", "validate_every", "save_every", "keep_every", "sampler"}
        free |= {"steps"} if self.optimiser.schedule == "constant" else set()
        text = json.dumps(self.model_dump(mode="json", exclude=free), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """A TOML file with `changes` ("optimiser.lr=1e-4", TOML values; a bare word is a string) on top.

    A checkpoint's `config.json` is taken too: the same training again. Raises `UserError` with the file and the key.
    """
    import tomllib

    if not path.is_file():
        raise UserError(f"{path} does not exist; give a TOML file (docs/training.md shows one)")
    table = read_table(path)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: write KEY=VALUE, such as optimiser.lr=1e-4")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        _put(table, key.split("."), value)
    return parse_config(table, str(path))


def read_table(path: Path) -> dict[str, Any]:
    """The settings in a TOML file or in a checkpoint's `config.json`."""
    if path.suffix != ".json":
        return read_toml(path)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["training"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no configuration of a checkpoint: {error}") from None
    return found


def parse_config(table: Mapping[str, Any], where: str) -> Config:
    """A checked configuration, or `UserError` with every mistake."""
    try:
        return Config(**table)
    except ValidationError as error:
        wrong = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
        lines = [f"  {key}: {message}" if key else f"  {message}" for key, message in wrong]
        raise UserError("\n".join([f"{where}: not a training", *lines])) from None


def _put(table: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a nested key."""
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {'.'.join(keys)}: {key} is no table")
    table[keys[-1]] = value
