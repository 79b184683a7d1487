"""The training loop: one step is a function of (configuration, step number, weights) and of nothing else.

So a training that was killed goes on from its last state to the very weights it would have reached, and twins differ in
what their arm says and in nothing else. Runs on the CPU, one GPU or, under `accelerate launch`, on several.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avbench.errors import UserError
from avbench.execute import set_precision
from avbench.progress import Progress, Silent
from avbench.reference_models.catalogue import build
from avbench.reference_models.codecs import audio_codec, silence
from avbench.reference_models.common.streams import stream_seed
from avbench.reference_models.training.checkpoint import (
    CONFIG,
    STATE,
    WEIGHTS,
    copy_into,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from avbench.reference_models.training.conditions import Conditioner, as_model, shown, watches
from avbench.reference_models.training.config import Config, Loss, is_video
from avbench.reference_models.training.curves import write_curves
from avbench.reference_models.training.data import Latents, latents
from avbench.reference_models.training.objectives import OBJECTIVES, Batch, draw, errors, order
from avbench.reference_models.training.start import begin_from
from avbench.store import write_atomic

LOG = "loss.jsonl"
T_BINS = 4
PATIENCE = timedelta(days=1)  # of processes that wait while the first one encodes


class Trainer:
    """One training in a folder. `run()` begins it or goes on with it."""

    def __init__(self, config: Config, folder: Path, device: str = "auto", progress: Progress | None = None) -> None:
        self.config, self.folder, self.progress = config, folder, progress or Silent()
        self.accelerator = accelerator(device)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        set_precision(str(self.device))
        if config.batch % self.accelerator.num_processes:
            raise UserError(f"batch {config.batch} does not divide among {self.accelerator.num_processes} processes")
        check_folder(config, folder)
        self.codec = audio_codec(config.data.audio, str(self.device))
        self.data, self.valid = self.load_data()
        self.partners = {
            one.folder: partners([row["group"] for row in one.texts], config.seed) for one in (self.data, self.valid)
        }
        self.model = build(config.model, config.seed, **config.settings)
        begin_from(self.model, config.start)
        self.towers = trainable(self.model, config)
        self.model.to(self.device)
        wrapped = self.accelerator.prepare_model(self.model) if self.accelerator.num_processes > 1 else self.model
        self.wrapped = wrapped
        groups = [{"params": list(tower.values())} for tower in self.towers if tower]
        o = config.optimiser
        self.optimiser = torch.optim.AdamW(groups, lr=o.lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay)
        self.parameters = {name: p for tower in self.towers for name, p in tower.items()}
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()} if o.ema else {}
        self.watches = watches(self.model)
        self.audio_path, self.layout = str(self.model.audio_path), str(self.model.audio_layout)
        one_prompt = bool(getattr(self.model, "one_prompt", False))
        told = Conditioner(config.text_v, config.text_a, config.choice, one_prompt, self.device)
        self.conditioner = told.remembering(
            [*self.data.texts, *self.valid.texts],
            lambda count: self.progress.phase("encoding captions", count, "caption"),
            lambda: self.progress.step("a caption"),
        )
        self.step = 0
        self.last: dict[str, Any] = {}

    def load_data(self) -> tuple[Latents, Latents]:
        """Training and validation latents; with several processes, the first makes them."""
        data = self.config.data
        report: dict[str, Any] = {
            "device": str(self.device),
            "begin": lambda count: self.progress.phase("encoding clips", count),
            "step": self.progress.step,
        }
        with self.accelerator.main_process_first():
            found = latents(data, data.split, data.clips, **report)
            return found, latents(data, "valid", data.valid, **report)

    def run(self, until: int = 0) -> Path:
        """Train to the last step, or to step `until`; returns the checkpoint folder. Repeated, it continues or does
        nothing.
        """
        end = min(until or self.config.steps, self.config.steps)
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_config(self.folder, self.config)
        self.resume()
        left = end - self.step
        if left <= 0 and (self.folder / WEIGHTS).is_file():
            self.progress.note(f"{self.folder} has {self.step} steps already")
            return self.folder
        self.progress.phase(f"training {self.config.model} ({self.config.arm})", left, "step")
        with stopping() as stopped, deterministic(), torch.random.fork_rng():
            if self.step == 0:
                self.validate()
            while self.step < end:
                self.advance(end)
                if stopped():
                    self.save()
                    raise KeyboardInterrupt
        return self.folder

    def advance(self, end: int) -> None:
        """One optimiser step, and what is due after it. end: the last one of this run, after which everything is."""
        config, began = self.config, time.perf_counter()
        losses, norms = self.update()
        self.step += 1
        last = self.step == end
        if last or self.step % config.log_every == 0:
            values = {name: float(value) for name, value in losses.items()}
            rate = self.optimiser.param_groups[0]["lr"]
            self.log({**values, **norms, "lr": rate, "seconds": round(time.perf_counter() - began, 4)})
        if last or self.step % config.validate_every == 0:
            self.validate()
        if config.keep_every and self.step % config.keep_every == 0:  # before the state, which a resume begins after
            self.publish(self.folder / f"step-{self.step:07d}")
        if last or self.step % config.save_every == 0:
            self.save()
        self.progress.step("")

    def update(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Forward, backward, clip each tower, AdamW, average. Losses are means over all processes."""
        config, o = self.config, self.config.optimiser
        torch.manual_seed(stream_seed(config.seed, "layers", self.step))
        batch = self.batch(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        objective = OBJECTIVES[config.objective]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            losses = objective(self.wrapped, batch, self.audio_path, config.choice.isolate, config.loss)
        self.accelerator.backward(losses["loss"])
        norms = {}
        for name, tower in zip(("norm_video", "norm_audio"), self.towers):
            if tower:
                limit = o.clip or math.inf
                norms[name] = float(nn.utils.clip_grad_norm_(list(tower.values()), limit))
        if not all(map(math.isfinite, norms.values())):
            raise UserError(
                f"{self.folder}: step {self.step + 1} has gradients that are not finite ({norms}); lower optimiser.lr "
                f"or raise optimiser.warmup, and begin anew in another --out"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.step()
        self.average()
        reduced = {name: self.accelerator.reduce(value.detach(), "mean") for name, value in losses.items()}
        return reduced, norms

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of a step."""
        config = self.config
        index = order(config.seed, len(self.data), step, config.batch)
        share = config.batch // self.accelerator.num_processes
        at = self.accelerator.process_index * share
        return self.assemble(self.data, index[at : at + share], config.loss, step, at, len(index)).to(self.device)

    def assemble(
        self, data: Latents, index: Sequence[int], loss: Loss, step: int, at: int = 0, whole: int = 0
    ) -> Batch:
        """Clips of these indices under the arm, with the draws of a step. at, whole: as in `draw`."""
        config, arm = self.config, self.config.choice
        rows, seconds = [data.texts[i] for i in index], self.codec.seconds
        cond, null = self.conditioner(rows, seconds), self.conditioner.null(len(rows), seconds)
        video = torch.from_numpy(data.video[list(index)])
        audio = torch.from_numpy(self.sounds(data, index)) if arm.audio else None
        if self.watches:
            cond, null = shown(cond, null, video)
        return draw(None if self.watches else video, audio, cond, null, loss, config.seed, step, at, whole)

    @cached_property
    def silence(self) -> np.ndarray:
        """Latents of digital silence."""
        return self.codec.encode(silence(self.codec.seconds))

    def sounds(self, data: Latents, index: Sequence[int]) -> np.ndarray:
        """The sound that the arm gives to these clips, in the model's layout."""
        kind = self.config.choice.sound
        if kind == "silent":
            sound = np.repeat(self.silence[None], len(index), 0)
        elif kind == "shuffled":
            sound = data.audio[[self.partners[data.folder][i] for i in index]]
        else:
            sound = data.audio[list(index)]
        return as_model(sound, self.layout)

    def rate(self) -> float:
        """Learning rate of the coming step."""
        o, at = self.config.optimiser, self.step
        warm = min(1.0, (at + 1) / o.warmup) if o.warmup else 1.0
        if o.schedule == "constant":
            return o.lr * warm
        done = min(1.0, at / self.config.steps)
        return warm * (o.lr_end + (o.lr - o.lr_end) * 0.5 * (1 + math.cos(math.pi * done)))

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights towards the new ones."""
        decay = min(self.config.optimiser.ema, (2 + self.step) / (11 + self.step))
        for name, mean in self.ema.items():
            mean.lerp_(self.parameters[name].detach(), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()} if self.ema else {}
        if self.ema:
            copy_into(self.parameters, self.ema)
        try:
            yield
        finally:
            if kept:
                copy_into(self.parameters, kept)

    @torch.no_grad()
    def validate(self) -> None:
        """Loss of the averaged weights on clips, times and noises that are the same for every arm and step."""
        if not self.main:
            return
        found: dict[str, list[Tensor]] = {}
        count, size = len(self.valid), self.config.batch
        told = self.config.loss.model_copy(update={"drop": 0.0})
        self.model.eval()
        with self.averaged():
            for at in range(0, count, size):
                index = list(range(at, min(at + size, count)))
                batch = self.assemble(self.valid, index, told, -1 - at)
                t = (torch.tensor(index) * 7919 % count + 0.5) / count
                batch = Batch(batch.video, batch.audio, batch.cond, t, batch.eps_v, batch.eps_a).to(self.device)
                one = errors(self.model, batch, self.audio_path, self.config.choice.isolate)
                for name, value in {**one, "t": t}.items():
                    found.setdefault(name, []).append(value.float().cpu())
        self.model.train()
        whole = {name: torch.cat(parts) for name, parts in found.items()}
        bins = (whole.pop("t") * T_BINS).long()
        row: dict[str, Any] = {}
        for name, value in whole.items():
            row[f"valid_{name}"] = float(value.mean())
            row[f"valid_{name}_by_t"] = [round(float(value[bins == k].mean()), 6) for k in range(T_BINS)]
        self.log(row)
        self.last = row
        values = ", ".join(f"{n} {row[f'valid_{n}']:.4f}" for n in whole)
        self.progress.note(f"step {self.step}: held-out loss {values}")

    def log(self, row: Mapping[str, Any]) -> None:
        if self.main:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.step, **row}) + "\n")

    def save(self) -> None:
        """State for a resume, averaged weights for sampling, the loss curves."""
        if not self.main:
            return
        tensors: dict[str, Tensor] = {f"weight/{name}": p for name, p in self.parameters.items()}
        tensors |= {f"ema/{name}": p for name, p in self.ema.items()}
        for name, p in self.parameters.items():
            tensors |= {f"{key}/{name}": value for key, value in self.optimiser.state.get(p, {}).items()}
        self.publish(self.folder)
        write_tensors(self.folder / STATE, tensors, {"step": self.step, "digest": self.config.digest})
        write_curves(self.folder)

    def publish(self, folder: Path) -> None:
        """A checkpoint folder with the averaged weights; of a video-only arm, the video tower alone."""
        if not self.main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if folder != self.folder:
            write_config(folder, self.config)
        with self.averaged():
            state = self.model.state_dict()
            kept = {name: value for name, value in state.items() if self.config.choice.audio or is_video(name)}
            write_tensors(folder / WEIGHTS, kept, {"step": self.step, "digest": self.config.digest})

    def resume(self) -> None:
        """Take up the saved state, if there is one."""
        path = self.folder / STATE
        if not path.is_file():
            self.trim_log(-1)
            return
        tensors, facts = read_tensors(path)
        self.step = int(facts["step"])
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            parts.setdefault(kind, {})[name] = value
        copy_into(self.parameters, parts["weight"])
        copy_into(self.ema, parts.get("ema", {}))
        for name, p in self.parameters.items():
            kept = {kind: parts[kind][name] for kind in parts if kind not in ("weight", "ema") and name in parts[kind]}
            if kept:
                self.optimiser.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in kept.items()}
        self.trim_log(self.step)
        self.progress.note(f"resuming {self.folder} at step {self.step}")

    def trim_log(self, step: int) -> None:
        """Forget what was logged after a step: it will be done again."""
        path = self.folder / LOG
        if self.main and path.is_file():
            rows = [line for line in path.read_text(encoding="utf-8").splitlines() if whole_row(line, step)]
            write_atomic(path, "".join(f"{row}\n" for row in rows).encode())


def accelerator(device: str) -> Any:
    """The device and the processes: a given device, or what `accelerate launch` and the machine offer."""
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else its sums differ; read when CUDA begins
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True), InitProcessGroupKwargs(timeout=PATIENCE)]
    return Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision="no", kwargs_handlers=handlers
    )


def trainable(model: nn.Module, config: Config) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Parameters that train, of the video tower and of the rest; all others are frozen."""
    towers: tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]] = ({}, {})
    frozen = [re.compile(pattern) for pattern in config.freeze]
    for name, p in model.named_parameters():
        wanted = p.requires_grad and not any(pattern.match(name) for pattern in frozen)
        wanted = wanted and (config.choice.audio or is_video(name))
        p.requires_grad_(wanted)
        if wanted:
            towers[not is_video(name)][name] = p
    if not any(towers):
        raise UserError("freeze leaves nothing to train")
    return towers


def partners(groups: Sequence[str], seed: int) -> list[int]:
    """For every clip another one of its group (itself only where it is alone)."""
    found = list(range(len(groups)))
    for group in sorted(set(groups)):
        members = [i for i, g in enumerate(groups) if g == group]
        mixed = np.random.default_rng([seed, len(members)]).permutation(members)
        for a, b in zip(mixed, np.roll(mixed, 1)):
            found[int(a)] = int(b)
    return found


def check_folder(config: Config, folder: Path) -> None:
    """Refuse a folder that holds another training."""
    if (folder / CONFIG).is_file():
        there = read_config(folder)
        if there.digest != config.digest:
            raise UserError(f"{folder} holds another training ({differences(there, config)}); choose another --out")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no training; choose another --out")


def differences(a: Config, b: Config) -> str:
    """The settings in which two configurations differ."""
    flat = [dict(_flat(one.model_dump(mode="json"))) for one in (a, b)]
    keys = [key for key in flat[0] | flat[1] if flat[0].get(key) != flat[1].get(key)]
    return ", ".join(f"{key}: {flat[0].get(key)!r} there, {flat[1].get(key)!r} here" for key in keys[:4])


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def whole_row(line: str, step: int) -> bool:
    """Whether a line is complete and not after `step`."""
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError):
        return False


@contextmanager
def stopping() -> Iterator[Any]:
    """SIGINT and SIGTERM ask for a stop after the running step, so that what is saved is whole."""
    asked: list[int] = []
    try:
        before = {
            s: signal.signal(s, lambda number, frame: asked.append(number)) for s in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not in the main thread: signals are someone else's
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deterministic() -> Iterator[None]:
    """Equal runs give equal bits on one machine. Operations without such a form only warn: GPUs have some, among them
    the gradients of fused attention, and a training that ends for want of one would be worse.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
