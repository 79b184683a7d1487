"""Train the small encoders of `--profile clatter`: pictures, sounds and texts of the procedural world, nothing else.

    python tools/train_clatter_encoders.py WORK render [--part K/N]    scenes to arrays, resumable
    python tools/train_clatter_encoders.py WORK train NETWORK          one of embedder, synchrony, video, audio
    python tools/train_clatter_encoders.py WORK score                  held-out scores as JSON
    python tools/train_clatter_encoders.py WORK ship                   float16 safetensors into metrics/weights/clatter

Deterministic on one thread of one machine: scenes come from the split "encoders" (training) and "encoders-held-out",
which no suite uses; every batch is drawn from (seed, step); a checkpoint every 50 steps makes training resumable.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.clip import Video
from avbench.metrics.clatter import mel_track
from avbench.metrics.encoders import clatter as nets
from avbench.suites.clatter import DESK, EVENTS, FAULTS, VERSION, WorldSpec, render, scene
from avbench.views import AtFps, resample

SEED = 20260
SMALL = WorldSpec(64, 64)
COUNTS = {"encoders": (2000, 400), "encoders-held-out": (320, 48)}  # scenes of the full world, of the desk world
STEPS = {"embedder": 800, "synchrony": 1000, "video": 400, "audio": 700}
TAKEN = {**STEPS, "synchrony": 550, "video": 800}  # one schedule is cut short, one runs twice (warm restart)
BATCHES = {"embedder": 80, "synchrony": 16, "video": 20, "audio": 32}
RATE = 16000
WINDOW = 198  # columns of two seconds; ImageBind's view leaves the other six of 204 empty
STEP_SECONDS = 0.2


# --- data ---


def recipe(index: int, desk: bool) -> dict[str, Any]:
    """How the scene of this place is made: a quarter of tight ones get ambient sound, half the bounces a fault."""
    spec = DESK if desk else SMALL
    event = spec.events[index % len(spec.events)]
    fault = ["", *FAULTS][index // 16 % 2 * (1 + index // 32 % len(FAULTS))] if event == "bounce" and not desk else ""
    sound = "loose" if EVENTS.index(event) % 2 == 0 and index // 16 % 4 == 3 and not desk else ""
    return {"spec": spec, "fault": fault, "sound": sound}


def sizes(desk: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a scene's frames and log-mels."""
    spec = DESK if desk else SMALL
    return (spec.frames, spec.height, spec.width, 3), (128, int(spec.seconds * 100))


@dataclass
class Scenes:
    """The arrays of one split and world: frames uint8 [N, T, H, W, 3], log-mels float16 [N, 128, T'], words."""

    folder: Path
    split: str
    desk: bool

    @property
    def count(self) -> int:
        return COUNTS[self.split][self.desk]

    def place(self, what: str) -> Path:
        return self.folder / f"{self.split}-{'desk' if self.desk else 'full'}-{what}"

    def array(self, what: str, mode: Any) -> np.ndarray:
        path, shape = self.place(f"{what}.npy"), sizes(self.desk)[what == "mels"]
        if not path.exists():
            kind = np.float16 if what == "mels" else np.uint8
            np.lib.format.open_memmap(path, "w+", kind, (self.count, *shape)).flush()
        return np.load(path, mmap_mode=mode)

    def render(self, part: int, parts: int) -> None:
        """Make every `parts`-th scene that is not there yet."""
        frames, mels = self.array("frames", "r+"), self.array("mels", "r+")
        with self.place(f"words-{part}.jsonl").open("a+") as file:
            file.seek(0)
            made = {json.loads(line)["index"] for line in file}
            for index in range(part, self.count, parts):
                if index in made:
                    continue
                what = scene(self.split, index, **recipe(index, self.desk))
                clip = render(what)
                assert clip.video is not None and clip.audio is not None
                frames[index] = clip.video.frames
                wave = resample(clip.audio.samples, clip.audio.rate, RATE)[0]
                mels[index] = mel_track(wave, mels.shape[2])
                row = {"index": index, "text": what.text, "video_text": what.video_text, "audio_text": what.audio_text}
                facts = {"event": EVENTS.index(what.event), "tight": what.sound == "tight", "fault": what.fault}
                file.write(json.dumps({**row, **facts}) + "\n")
                file.flush()

    @cached_property
    def frames(self) -> np.ndarray:
        return self.array("frames", "r")

    @cached_property
    def mels(self) -> np.ndarray:
        return self.array("mels", "r")

    @cached_property
    def words(self) -> list[dict[str, Any]]:
        lines = [line for path in self.folder.glob(f"{self.place('words-').name}*") for line in path.open()]
        rows = {row["index"]: row for row in map(json.loads, lines)}
        return [rows[index] for index in range(self.count)]

    @cached_property
    def slots(self) -> np.ndarray:
        """The frames shown at 25 per second."""
        spec = DESK if self.desk else SMALL
        return AtFps(25)(Video(self.frames[0], spec.times, Fraction(spec.fps)))

    def shown(self, index: int, which: np.ndarray) -> Tensor:
        """Frames as networks see them: [T, 3, 64, 64]."""
        return nets.pixels(torch.from_numpy(self.frames[index][which]))

    @cached_property
    def watched(self) -> dict[int, np.ndarray]:
        """Whole clips of 32 x 32 pixels, kept: uint8 [T, 32, 32, 3]."""
        return {}

    def watch(self, index: int) -> Tensor:
        """A clip as the network of synchrony sees it: [T at 25 per second, 3, 32, 32]."""
        if index not in self.watched:
            small = nets.pixels(torch.from_numpy(np.array(self.frames[index])), nets.WATCHED)
            self.watched[index] = ((small + 1) * 127.5).round().byte().movedim(1, -1).numpy()
        return nets.pixels(torch.from_numpy(self.watched[index][self.slots]), nets.WATCHED)

    def heard(self, index: int) -> Tensor:
        """Log-mels [128, T]."""
        return torch.from_numpy(self.mels[index].astype(np.float32))


def draws(step: int) -> np.random.Generator:
    """The randomness of one step."""
    return np.random.default_rng([SEED, step])


# --- how clips are spoilt ---


def spoil_video(x: Tensor, kind: str, amount: float, rng: np.random.Generator) -> Tensor:
    """[T, 3, H, W] between -1 and 1; amount 0...1."""
    count = len(x)
    if kind == "noise":
        return (x + (0.1 + 0.7 * amount) * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))).clamp(
            -1, 1
        )
    if kind == "blur":
        small = F.interpolate(x, scale_factor=1 / (1.5 + 6 * amount), mode="bilinear", antialias=True)
        return F.interpolate(small, x.shape[-2:], mode="bilinear")
    if kind == "freeze":
        held = 1 + round((0.2 + 0.8 * amount) * (count - 1))
        first = int(rng.integers(0, count - held + 1))
        return torch.cat([x[:first], x[first : first + 1].expand(held, -1, -1, -1), x[first + held :]])
    if kind == "shuffle":
        order = np.arange(count) + (1 + 8 * amount) * rng.random(count)
        return x[np.argsort(order)]
    if kind == "reverse":
        return x.flip(0)
    if kind == "dark":
        return (x + 1) * (0.9 - 0.8 * amount) - 1
    if kind == "jitter":
        moves = rng.integers(-1 - int(5 * amount), 2 + int(5 * amount), (count, 2))
        return torch.stack([frame.roll(tuple(map(int, move)), (1, 2)) for frame, move in zip(x, moves)])
    return x


def spoil_audio(x: Tensor, kind: str, amount: float, rng: np.random.Generator) -> Tensor:
    """Log-mels [128, T]; amount 0...1."""
    if kind == "noise":
        level = -12 + 9 * amount + torch.from_numpy(0.8 * rng.standard_normal(x.shape, dtype=np.float32))
        return torch.logaddexp(x, level)
    if kind == "dull":
        first = round(100 - 80 * amount)
        fall = torch.linspace(0, 10, 128 - first)
        return torch.cat([x[:first], (x[first:] - fall[:, None]).clamp(min=-16)])
    if kind == "gaps":
        x = x.clone()
        for _ in range(1 + int(6 * amount)):
            start = int(rng.integers(0, x.shape[1] - 5))
            x[:, start : start + 4 + int(30 * amount)] = -15.9
        return x
    if kind == "reverse":
        return x.flip(1)
    if kind == "quiet":
        return (x - 2 - 6 * amount).clamp(min=-16)
    if kind == "stretch":
        rows = torch.linspace(0, 127 / (1.15 + 0.6 * amount), 128)
        low = rows.long()
        share = (rows - low)[:, None]
        return x[low] * (1 - share) + x[(low + 1).clamp(max=127)] * share
    return x


@cache
def grain() -> Tensor:
    """64 pictures of noise."""
    return torch.randn(64, 3, nets.SIDE, nets.SIDE, generator=torch.Generator().manual_seed(SEED))


def softened(x: Tensor, rng: np.random.Generator) -> Tensor:
    """A little of what encoders of files do: [..., 3, H, W] with grain and sometimes less detail."""
    shape, side = x.shape, x.shape[-1]
    x = x.reshape(-1, 3, side, side)
    if rng.random() < 0.3:
        small = F.interpolate(x, scale_factor=0.5 + 0.4 * rng.random(), mode="bilinear", antialias=True)
        x = F.interpolate(small, (side, side), mode="bilinear")
    amount = 0.03 * float(rng.random())
    noise = grain()[torch.from_numpy(rng.integers(0, 64, len(x))), :, :side, :side]
    return (x + amount * noise).reshape(shape)


# --- what is learnt ---

Worlds = tuple[Scenes, Scenes]
Loss = Callable[[nn.Module, Worlds, np.random.Generator, int], Tensor]


def window(scenes: Scenes, index: int, rng: np.random.Generator) -> Tensor:
    """Two seconds of sound as ImageBind's view lays them: [128, 204]."""
    x = scenes.heard(index)
    start = int(rng.integers(0, x.shape[1] - 2 - WINDOW + 1))
    return F.pad(x[:, start : start + WINDOW], (0, 6))


def likeness(a: Tensor, b: Tensor, heat: Tensor, same: Tensor) -> Tensor:
    """InfoNCE both ways; pairs with equal words, other than the pair itself, are left out."""
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * heat.exp().clamp(max=50)
    scores = scores.masked_fill(same & ~torch.eye(len(a), dtype=torch.bool), -1e4)
    truth = torch.arange(len(a))
    return (F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth)) / 2


def equal(words: list[str]) -> Tensor:
    return torch.tensor([[a == b for b in words] for a in words])


def embedder_loss(model: nn.Module, worlds: Worlds, rng: np.random.Generator, batch: int) -> Tensor:
    """Text, picture and sound of one scene lie close, those of others apart."""
    assert isinstance(model, nets.Embedder)
    scenes = worlds[int(rng.random() < 0.2)]
    places = [int(i) for i in rng.choice(scenes.count, batch, replace=False)]
    rows = [scenes.words[i] for i in places]
    rows_ok = [not row["fault"] for row in rows]
    places, rows = [p for p, ok in zip(places, rows_ok) if ok], [r for r, ok in zip(rows, rows_ok) if ok]
    stills = torch.stack([scenes.shown(i, rng.integers(0, scenes.frames.shape[1], 1))[0] for i in places])
    seen = model.still(softened(stills, rng))
    heard = model.sound(nets.mels(torch.stack([window(scenes, i, rng) for i in places])))
    texts = {name: [row[name] for row in rows] for name in ("text", "video_text", "audio_text")}
    said = {name: model.words(words) for name, words in texts.items()}
    same = {name: equal(words) for name, words in texts.items()}
    pairs = [
        (said["video_text"], seen, same["video_text"]), (said["audio_text"], heard, same["audio_text"]),
        (seen, heard, same["text"]), (said["text"], seen, same["text"]), (said["text"], heard, same["text"]),
    ]  # fmt: skip
    return torch.stack([likeness(a, b, model.heat, twins) for a, b, twins in pairs]).mean()


def moved(scenes: Scenes, index: int, steps: int) -> Tensor:
    """The sound made `steps` x 0.2 s too early, rotated: [128, T]."""
    return scenes.heard(index).roll(-steps * round(STEP_SECONDS * 100), 1)


def synchrony_loss(model: nn.Module, worlds: Worlds, rng: np.random.Generator, batch: int) -> Tensor:
    """By how much was the sound of a tight scene moved?"""
    assert isinstance(model, nets.Synchrony)
    scenes = worlds[int(rng.random() < 0.2)]
    tight = [row["index"] for row in scenes.words if row["tight"]]
    places = [int(i) for i in rng.choice(tight, batch, replace=False)]
    most = 4 if scenes.desk else 10
    steps = rng.integers(-most, most + 1, batch)
    shown = torch.stack([scenes.watch(i) for i in places])
    heard = nets.mels(torch.stack([moved(scenes, i, int(step)) for i, step in zip(places, steps)]))
    scores = model.offset(torch.cat([model.watch(softened(shown, rng)), model.listen(heard)], dim=2))
    return F.cross_entropy(scores, torch.from_numpy(steps + 10), label_smoothing=0.02)


def evenly(scenes: Scenes) -> np.ndarray:
    """24 frames equally spaced, as `fvd` takes them."""
    return np.rint(np.linspace(0, scenes.frames.shape[1] - 1, 24)).astype(int)


def answer_loss(answers: Tensor, events: list[int], kinds: list[int]) -> Tensor:
    """Which event, and what was done to it?"""
    event, kind = answers.split([nets.EVENTS, answers.shape[1] - nets.EVENTS], dim=1)
    return F.cross_entropy(event, torch.tensor(events)) + F.cross_entropy(kind, torch.tensor(kinds))


def video_loss(model: nn.Module, worlds: Worlds, rng: np.random.Generator, batch: int) -> Tensor:
    assert isinstance(model, nets.VideoNet)
    scenes = worlds[int(rng.random() < 0.2)]
    places = [int(i) for i in rng.choice(scenes.count, batch, replace=False)]
    kinds = [int(k) for k in rng.integers(0, len(nets.SPOILT_VIDEO), batch)]
    clean = [softened(scenes.shown(i, evenly(scenes)), rng) for i in places]
    shown = [spoil_video(x, nets.SPOILT_VIDEO[k], float(rng.random()), rng) for x, k in zip(clean, kinds)]
    return answer_loss(model.answers(model(torch.stack(shown))), [scenes.words[i]["event"] for i in places], kinds)


def audio_loss(model: nn.Module, worlds: Worlds, rng: np.random.Generator, batch: int) -> Tensor:
    assert isinstance(model, nets.AudioNet)
    scenes = worlds[int(rng.random() < 0.2)]
    own = [row["index"] for row in scenes.words if row["tight"] == (row["event"] % 2 == 0)]
    places = [int(i) for i in rng.choice(own, batch, replace=False)]
    kinds = [int(k) for k in rng.integers(0, len(nets.SPOILT_AUDIO), batch)]
    heard = [
        spoil_audio(scenes.heard(i), nets.SPOILT_AUDIO[k], float(rng.random()), rng) for i, k in zip(places, kinds)
    ]
    answers = model.answers(model(nets.mels(torch.stack(heard))))
    return answer_loss(answers, [scenes.words[i]["event"] for i in places], kinds)


LOSSES: dict[str, Loss] = {
    "embedder": embedder_loss, "synchrony": synchrony_loss, "video": video_loss, "audio": audio_loss,
}  # fmt: skip


# --- training ---


def begun(name: str) -> nn.Module:
    """A network with its first weights, drawn from the seed."""
    torch.manual_seed(SEED)
    model = nets.NETWORKS[f"clatter_{name}"]()
    if isinstance(model, nets.Embedder):
        nn.init.constant_(model.heat, np.log(10))
    return model


def train(folder: Path, name: str, steps: int, taken: int) -> None:
    """Train one network for `taken` steps of a schedule of `steps`, from its last checkpoint where there is one."""
    worlds = (Scenes(folder, "encoders", False), Scenes(folder, "encoders", True))
    model, path = begun(name), folder / f"{name}.pt"
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)

    def cycle() -> Any:
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.08)

    rate = cycle()
    done = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        rate.load_state_dict(saved["rate"])
        done = saved["step"]
    smooth, began = 0.0, time.perf_counter()
    for step in range(done, taken):
        if step and step % steps == 0:
            rate = cycle()
        optimiser.zero_grad()
        loss = LOSSES[name](model, worlds, draws(step), BATCHES[name])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        smooth = loss.item() if step == done else 0.95 * smooth + 0.05 * loss.item()
        if (step + 1) % 50 == 0 or step + 1 == taken:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "rate": rate.state_dict(),
                    "step": step + 1,
                },
                path.with_suffix(".part"),
            )
            path.with_suffix(".part").replace(path)
            print(f"{name} {step + 1}/{taken} loss {smooth:.3f} {time.perf_counter() - began:.0f} s", flush=True)


# --- held-out scores ---


def trained(folder: Path, name: str) -> nn.Module:
    """The network as it is shipped: float16 weights."""
    state = torch.load(folder / f"{name}.pt", weights_only=True)["model"]
    return nets.build({key: value.half() for key, value in state.items()}, f"clatter_{name}")


def in_parts(work: Callable[[list[int]], Tensor], places: list[int], size: int = 16) -> Tensor:
    return torch.cat([work(places[start : start + size]) for start in range(0, len(places), size)])


def retrieval(a: Tensor, b: Tensor, words: list[str], size: int = 16) -> float:
    """How often the nearest of `size` scenes with different words is the right one, both ways."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    rng, right, asked = np.random.default_rng(0), 0, 0
    for _ in range(200):
        order = rng.permutation(len(words))
        distinct = list({words[i]: int(i) for i in order}.values())[:size]
        scores = a[distinct] @ b[distinct].T
        truth = torch.arange(len(distinct))
        right += int((scores.argmax(1) == truth).sum() + (scores.argmax(0) == truth).sum())
        asked += 2 * len(distinct)
    return right / asked


def score_embedder(folder: Path, scenes: Scenes) -> dict[str, Any]:
    """Retrieval among 16 held-out scenes of different words; chance is 1 / 16."""
    model = trained(folder, "embedder")
    assert isinstance(model, nets.Embedder)
    places = [row["index"] for row in scenes.words if not row["fault"]]
    rows = [scenes.words[i] for i in places]
    middle = [scenes.frames.shape[1] * k // 4 for k in (1, 2, 3)]
    seen = in_parts(
        lambda part: torch.stack([model.still(scenes.shown(i, np.array(middle))).mean(0) for i in part]), places
    )
    windows = [F.pad(scenes.heard(i)[:, :WINDOW], (0, 6)) for i in places]
    heard = in_parts(
        lambda part: model.sound(nets.mels(torch.stack([windows[i] for i in part]))), [*range(len(places))]
    )
    said = {name: model.words([row[name] for row in rows]) for name in ("text", "video_text", "audio_text")}
    texts = {name: [row[name] for row in rows] for name in said}
    return {
        "text-frame": retrieval(said["video_text"], seen, texts["video_text"]),
        "text-sound": retrieval(said["audio_text"], heard, texts["audio_text"]),
        "frame-sound": retrieval(seen, heard, texts["text"]),
    }


def score_synchrony(folder: Path, scenes: Scenes) -> dict[str, Any]:
    """Offsets of held-out tight scenes, moved by -1 ... 1 s (chance: 1 / 21 of a class)."""
    model = trained(folder, "synchrony")
    assert isinstance(model, nets.Synchrony)
    places = [row["index"] for row in scenes.words if row["tight"] and not row["fault"]]
    watched = in_parts(lambda part: model.watch(torch.stack([scenes.watch(i) for i in part])), places)
    found: dict[str, Any] = {}
    for step in (0, 1, 2, 3, 5, -1, -2, -3, -5):
        heard = in_parts(
            lambda part, step=step: model.listen(nets.mels(torch.stack([moved(scenes, i, step) for i in part]))),
            places,
        )
        guesses = model.offset(torch.cat([watched, heard], dim=2)).argmax(dim=1) - 10
        away = (guesses - step).abs()
        found[f"{step * STEP_SECONDS:+.1f} s"] = {
            "exact": float((away == 0).float().mean()), "within 0.2 s": float((away <= 1).float().mean()),
            "mean absolute offset": float(guesses.abs().float().mean() * STEP_SECONDS),
        }  # fmt: skip
    return {"scenes": len(places), **found}


Spoil = Callable[[Tensor, str, float, np.random.Generator], Tensor]


def score_features(folder: Path, scenes: Scenes, name: str) -> dict[str, Any]:
    """Event accuracy, and the Fréchet distance to clean held-out scenes as these are spoilt more and more.

    The clean scenes are split in two: the distance of the halves is what amount 0 gives.
    """
    from avbench.metrics.distances import frechet_distance

    model, video = trained(folder, name), name == "video"
    kinds, spoil = (nets.SPOILT_VIDEO, spoil_video) if video else (nets.SPOILT_AUDIO, spoil_audio)
    places = [row["index"] for row in scenes.words if not row["fault"] and row["tight"] == (row["event"] % 2 == 0)]
    clean = {i: scenes.shown(i, evenly(scenes)) if video else scenes.heard(i) for i in places}

    def features(part: list[int], kind: str, amount: float) -> Tensor:
        rng = np.random.default_rng(0)
        spoilt = [spoil(clean[i], kind, amount, rng) if amount else clean[i] for i in part]
        return in_parts(
            lambda few: model(torch.stack([spoilt[k] if video else nets.mels(spoilt[k][None])[0] for k in few])),
            [*range(len(part))],
        )

    real, others = places[::2], places[1::2]
    rows = features(real, "", 0)
    answers = model.get_submodule("answers")(features(places, "", 0))[:, : nets.EVENTS].argmax(dim=1)
    truth = torch.tensor([scenes.words[i]["event"] for i in places])
    found: dict[str, Any] = {"event accuracy": float((answers == truth).float().mean())}
    for kind in kinds[1:]:
        amounts = (0.0, 1.0) if kind == "reverse" else (0.0, 0.25, 0.5, 1.0)
        found[kind] = [
            float(frechet_distance(features(others, kind, amount).numpy(), rows.numpy())) for amount in amounts
        ]
    return found


@torch.inference_mode()
def score(folder: Path) -> dict[str, Any]:
    """All held-out scores."""
    full, desk = (Scenes(folder, "encoders-held-out", desk) for desk in (False, True))
    return {
        "embedder": {"clatter": score_embedder(folder, full), "desk": score_embedder(folder, desk)},
        "synchrony": score_synchrony(folder, full),
        "video": score_features(folder, full, "video"),
        "audio": score_features(folder, full, "audio"),
    }


def ship(folder: Path, to: Path) -> None:
    """float16 safetensors, and the card's facts in their headers."""
    from safetensors.torch import save_file

    to.mkdir(parents=True, exist_ok=True)
    for name in LOSSES:
        saved = torch.load(folder / f"{name}.pt", weights_only=True)
        facts = {"network": f"clatter_{name}", "seed": str(SEED), "steps": str(saved["step"]), "world": str(VERSION)}
        state = {key: value.half().contiguous() for key, value in saved["model"].items()}
        save_file(state, to / f"{name}.safetensors", metadata=facts)


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("what", choices=("render", "train", "score", "ship"))
    parser.add_argument("network", nargs="?", choices=tuple(LOSSES))
    parser.add_argument("--part", default="0/1", metavar="K/N")
    parser.add_argument("--steps", type=int)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if chosen.what == "render":
        part, parts = map(int, chosen.part.split("/"))
        for split in COUNTS:
            for desk in (True, False):
                Scenes(chosen.work, split, desk).render(part, parts)
    elif chosen.what == "train":
        if chosen.network is None:
            parser.error(f"train needs one of {', '.join(LOSSES)}")
        steps = chosen.steps or STEPS[chosen.network]
        train(chosen.work, chosen.network, steps, chosen.steps or TAKEN[chosen.network])
    elif chosen.what == "score":
        print(json.dumps(score(chosen.work), indent=1))
    else:
        ship(chosen.work, Path(__file__).resolve().parent.parent / "metrics" / "weights" / "clatter")


if __name__ == "__main__":
    main()
