"""Small networks trained by this project on `clatter`, in the shapes of CLIP, CLAP, ImageBind, Synchformer and I3D.

They know one procedural world and nothing else: what they say of any other clip is meaningless. `tools/
train_clatter_encoders.py` made them; `docs/clatter-encoders.md` is their card. Frames of any size are brought to
64 x 64 or 32 x 32, sound to log-mels of 128 bands every 10 ms (`avbench.metrics.clatter`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

SIDE = 64
WATCHED = 32  # side of the frames that synchrony is judged by
WIDTH = 128  # of the shared space
WORDS = 4096  # buckets of words and of pairs of neighbours
STEPS_PER_FRAME = 4  # mel columns (100 a second) of a video slot (25 a second)
HEADS, DEPTH = 8, 8  # of the correlation
LAGS = 52  # slots either way: 2 s and the margin of the outermost class
CLASSES = 21
FEATURES = 64
MEL_MEAN, MEL_STD = -9.0, 6.0  # about those of clatter


def pixels(frames: Tensor, side: int = SIDE) -> Tensor:
    """Frames [..., H, W, 3], uint8 or floats where 1 is white, to [..., 3, side, side], -1...1, antialiased."""
    x = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    shape = x.shape[:-3]
    x = x.reshape(-1, *x.shape[-3:]).movedim(-1, 1)
    if x.shape[-2:] != (side, side):
        x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    return (x * 2 - 1).reshape(*shape, 3, side, side)


def mels(x: Tensor) -> Tensor:
    """Log-mels [N, 128, T], natural logarithm, to [N, 1, 128, T] of about unit variance."""
    return ((x.float().clamp(min=-16) - MEL_MEAN) / MEL_STD)[:, None]


def block(inside: int, outside: int, stride: int | tuple[int, int], kernel: int = 3) -> nn.Sequential:
    """Convolution, group norm, GELU."""
    return nn.Sequential(nn.Conv2d(inside, outside, kernel, stride, kernel // 2), nn.GroupNorm(8, outside), nn.GELU())


def block3(inside: int, outside: int, stride: tuple[int, int, int]) -> nn.Sequential:
    """The same over time and space."""
    return nn.Sequential(nn.Conv3d(inside, outside, 3, stride, 1), nn.GroupNorm(8, outside), nn.GELU())


class Still(nn.Module):
    """One picture [N, 3, 64, 64] to [N, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 32, 2, 5), block(32, 64, 2), block(64, 96, 2), block(96, 160, 2))
        self.out = nn.Linear(160 * 2, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2)
        return self.out(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))


class Sound(nn.Module):
    """Two seconds [N, 1, 128, T] to [N, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(1, 32, (4, 2), 5), block(32, 64, 2), block(64, 96, (2, 2)), block(96, 160, (2, 2))
        )
        self.out = nn.Linear(160 * 2, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2)
        return self.out(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))


def buckets(text: str) -> list[int]:
    """The words of a text and their pairs of neighbours, as numbers from 0 to 4095."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [zlib.crc32(unit.encode()) % WORDS for unit in (*words, *map(" ".join, pairwise(words)))] or [0]


class Words(nn.Module):
    """Texts to [N, 128]: the mean vector of their words and pairs, through one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(WORDS, 64, mode="mean")
        self.out = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, WIDTH))

    def forward(self, texts: Sequence[str]) -> Tensor:
        found = [buckets(text) for text in texts]
        device = self.table.weight.device
        starts = torch.tensor([0, *map(len, found)][:-1], device=device).cumsum(0)
        return self.out(self.table(torch.tensor([n for one in found for n in one], device=device), starts))


class Embedder(nn.Module):
    """Texts, pictures and sounds in one space."""

    def __init__(self) -> None:
        super().__init__()
        self.still, self.sound, self.words = Still(), Sound(), Words()
        self.heat = nn.Parameter(torch.empty(()))  # log of the inverse temperature, used in training alone


class Watch(nn.Module):
    """Pictures at 25 per second [N, T, 3, 32, 32] to what happens in each [N, T, 64]: a picture and its change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(6, 16, 2), block(16, 32, 2), block(32, 64, 2))
        self.mix = nn.Linear(64 * 2, 96)
        self.time = nn.Sequential(
            nn.Conv1d(96, 96, 7, padding=3), nn.GELU(), nn.Conv1d(96, 96, 5, padding=2), nn.GELU(),
            nn.Conv1d(96, HEADS * DEPTH, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        change = 4 * (x - torch.cat([x[:, :1], x[:, :-1]], dim=1))
        seen = self.body(torch.cat([x, change], dim=2).flatten(0, 1)).flatten(2)
        seen = self.mix(torch.cat([seen.mean(dim=2), seen.amax(dim=2)], dim=1)).unflatten(0, x.shape[:2])
        return self.time(seen.transpose(1, 2)).transpose(1, 2)


class Listen(nn.Module):
    """Log-mels [N, 1, 128, 4 T] to what happens in each video slot [N, T, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(1, 16, (4, 1), 5), block(16, 32, (4, 2), 5), block(32, 32, (2, 2)))
        self.time = nn.Sequential(
            nn.Conv1d(32 * 4, 96, 7, padding=3), nn.GELU(), nn.Conv1d(96, 96, 5, padding=2), nn.GELU(),
            nn.Conv1d(96, HEADS * DEPTH, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.body(x).flatten(1, 2)).transpose(1, 2)


class Offset(nn.Module):
    """What was seen and heard [N, T, 2 x 64] to scores of 21 offsets [N, 21], -2...2 s, positive: sound too early."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Conv1d(HEADS, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 1, 5, stride=5))

    def forward(self, both: Tensor) -> Tensor:
        seen, heard = (x.unflatten(2, (HEADS, DEPTH)).transpose(1, 2) for x in both.split(HEADS * DEPTH, dim=2))
        return self.read(correlate(centred(seen), centred(heard)))[:, 0]


def centred(x: Tensor) -> Tensor:
    """Without its mean over time, and of unit power: [N, heads, T, depth]."""
    x = x - x.mean(dim=2, keepdim=True)
    return x / (x.pow(2).sum(dim=3, keepdim=True).mean(dim=2, keepdim=True) + 1e-4).sqrt()


def correlate(seen: Tensor, heard: Tensor) -> Tensor:
    """Sum over t of seen[t] . heard[t - lag], over the square root of T: [N, heads, 2 x 52 + 1], lag -52...52.

    A sound that comes `lag` slots too early has its peak at `lag`.
    """
    steps = seen.shape[2]
    late = F.pad(heard, (0, 0, LAGS, LAGS)).unfold(2, steps, 1)  # [N, heads, 105, depth, T]: heard[t + j - 52]
    found = torch.einsum("nhtd,nhjdt->nhj", seen, late).flip(2)
    return found / steps**0.5


class Synchrony(nn.Module):
    """Watch, listen, compare."""

    def __init__(self) -> None:
        super().__init__()
        self.watch, self.listen, self.offset = Watch(), Listen(), Offset()


class VideoNet(nn.Module):
    """24 frames [N, 24, 3, 64, 64] to features [N, 64], and from those to the answers it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(3, 24, (3, 7, 7), (1, 4, 4), (1, 3, 3)), nn.GroupNorm(8, 24), nn.GELU(),
            block3(24, 48, (2, 2, 2)), block3(48, 80, (2, 2, 2)), block3(80, 128, (2, 1, 1)),
        )  # fmt: skip
        self.out = nn.Linear(128 * 2, FEATURES)
        self.answers = nn.Linear(FEATURES, ANSWERS_VIDEO)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.transpose(1, 2)).flatten(2)
        return self.out(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))


class AudioNet(nn.Module):
    """A whole track [N, 1, 128, T] to features [N, 64], and from those to the answers it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(1, 24, (4, 4), 7), block(24, 48, 2), block(48, 80, 2), block(80, 128, 2))
        self.out = nn.Linear(128 * 2, FEATURES)
        self.answers = nn.Linear(FEATURES, ANSWERS_AUDIO)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2)
        return self.out(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))


EVENTS = 16
SPOILT_VIDEO = ("", "noise", "blur", "freeze", "shuffle", "reverse", "dark", "jitter")
SPOILT_AUDIO = ("", "noise", "dull", "gaps", "reverse", "quiet", "stretch")
ANSWERS_VIDEO = EVENTS + len(SPOILT_VIDEO)
ANSWERS_AUDIO = EVENTS + len(SPOILT_AUDIO)

NETWORKS: dict[str, type[nn.Module]] = {
    "clatter_embedder": Embedder, "clatter_synchrony": Synchrony, "clatter_video": VideoNet, "clatter_audio": AudioNet,
}  # fmt: skip


def build(state: Mapping[str, Tensor], name: str) -> nn.Module:
    """One of `NETWORKS` from its file, whose tensors are float16."""
    return fill(NETWORKS[name], {key: value.float() for key, value in state.items()}, what=name)


def load(context: Context, name: str) -> nn.Module:
    """The shipped network on the context's device; always float32, it is small."""
    return build(read_state(context.weights[name]), name).to(context.device)


def still(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: RGB [N, H, W, 3], or pairs [N, 2, H, W, 3] whose mean counts. Features: float32 [N, 128]."""
    model = load(context, "clatter_embedder").get_submodule("still")

    def encode(items: Tensor) -> Tensor:
        x = pixels(items)
        return model(x) if x.ndim == 4 else model(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)

    return encode


def sound(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: log-mels of two seconds float32 [N, 128, 204]. Features: float32 [N, 128]."""
    model = load(context, "clatter_embedder").get_submodule("sound")
    return lambda items: model(mels(items))


def words(context: Context) -> Callable[[Sequence[str]], Tensor]:
    """Items: strings. Features: float32 [N, 128]."""
    return load(context, "clatter_embedder").get_submodule("words")


def watch(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: frames at 25 per second, uint8 [N, T, 32, 32, 3]. Features: float32 [N, T, 64]."""
    model = load(context, "clatter_synchrony").get_submodule("watch")
    return lambda items: model(pixels(items, WATCHED))


def listen(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: log-mels float32 [N, 128, 4 T]. Features: float32 [N, T, 64]."""
    model = load(context, "clatter_synchrony").get_submodule("listen")
    return lambda items: model(mels(items))


def offset(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: features of both side by side, float32 [N, T, 128]. Features: float32 [N, 21]."""
    return load(context, "clatter_synchrony").get_submodule("offset")


def video(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: 24 frames RGB [N, 24, H, W, 3]. Features: float32 [N, 64]."""
    model = load(context, "clatter_video")
    return lambda items: model(pixels(items))


def audio(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: log-mels of a whole track float32 [N, 128, T]. Features: float32 [N, 64]."""
    model = load(context, "clatter_audio")
    return lambda items: model(mels(items))
