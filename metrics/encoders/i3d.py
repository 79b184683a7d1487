"""Inception I3D: 400 Kinetics logits of a clip, the classic features of FVD.

Carreira and Zisserman 2017. Key names of piergiaj/pytorch-i3d 05783d1, which the VideoGPT conversion of
deepmind/i3d-kinetics-400/1 (`i3d_pretrained_400.pt`, used by MM-Diffusion, TATS, cd-fvd and JavisBench) kept while its
BatchNorm epsilon became 1e-5. The epsilon changes logits by percents, so it is part of each encoder's definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.errors import SampleError
from avbench.features import Context
from avbench.metrics.encoders.loading import fill
from avbench.metrics.encoders.torchscript import read_torchscript, strip_root

SIZE = 224
MIN_FRAMES = 9  # three temporal strides of 2 must leave the last pooling two steps
Triple = tuple[int, int, int]

MIXED = {  # branch widths: b0, (b1a, b1b), (b2a, b2b), b3b
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """TensorFlow's SAME padding with zeros, front half rounded down, from the size of x [B, C, T, H, W]."""
    total = [max(k - (size % s or s), 0) for size, k, s in zip(x.shape[2:], kernel, stride)]
    return F.pad(x, [side for t in reversed(total) for side in (t // 2, t - t // 2)])


class Unit(nn.Module):
    """Convolution with SAME padding, then BatchNorm and ReLU where `eps` is given, else a bias. kernel: odd."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, eps: float | None = None) -> None:
        super().__init__()
        even = kernel // 2 if stride == 1 else 0  # padding that is the same on both sides needs no copy of x
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, even, bias=eps is None)
        self.bn = nn.BatchNorm3d(outputs, eps=eps) if eps is not None else None

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv3d.kernel_size, self.conv3d.stride
        x = self.conv3d(x if max(stride) == 1 else pad_same(x, kernel, stride))  # type: ignore[arg-type]
        return F.relu(self.bn(x)) if self.bn is not None else x


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pooling over SAME padding with zeros (x is never negative here)."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    """Inception block: 1x1x1; 1x1x1, 3x3x3; 1x1x1, 3x3x3; pool, 1x1x1, concatenated."""

    def __init__(self, inputs: int, widths: tuple[int, ...], eps: float) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit(inputs, b0, 1, eps=eps)
        self.b1a, self.b1b = Unit(inputs, b1a, 1, eps=eps), Unit(b1a, b1b, 3, eps=eps)
        self.b2a, self.b2b = Unit(inputs, b2a, 1, eps=eps), Unit(b2a, b2b, 3, eps=eps)
        self.b3b = Unit(inputs, b3b, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class InceptionI3d(nn.Module):
    """float [B, 3, T, 224, 224] in [-1, 1], T >= 9 -> logits [B, classes], averaged over time."""

    def __init__(self, classes: int = 400, eps: float = 1e-5) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2, eps)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1, eps=eps)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3, eps=eps)
        for name, (inputs, widths) in MIXED.items():
            self.add_module(name, Mixed(inputs, widths, eps))
        self.logits = Unit(1024, classes, 1)

    def pooled(self, x: Tensor) -> Tensor:
        """Features before the classifier, [B, 1024, T', 1, 1], T' = ceil(T / 8) - 1."""
        x = max_pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = max_pool(self.mixed(x, "3b", "3c"), (3, 3, 3), (2, 2, 2))
        x = max_pool(self.mixed(x, "4b", "4c", "4d", "4e", "4f"), (2, 2, 2), (2, 2, 2))
        features = self.mixed(x, "5b", "5c")
        pooled = F.avg_pool3d(features.float(), (2, 7, 7), stride=1)  # on a CPU, not there in bfloat16
        return pooled.to(features.dtype)

    def mixed(self, x: Tensor, *names: str) -> Tensor:
        """Inception blocks in sequence."""
        for name in names:
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.pooled(x)).flatten(2).mean(dim=2)


def build(state: Mapping[str, Tensor], eps: float = 1e-5) -> InceptionI3d:
    """The network with the tensors of a state dict; the number of classes is the checkpoint's.

    Weights lie channels-last, as `prepare` leaves the frames.
    """
    head = state.get("logits.conv3d.weight")
    classes = 400 if head is None else len(head)
    network = fill(lambda: InceptionI3d(classes, eps), state, what="Inception I3D")
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def prepare(items: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames [B, T, H, W, 3] in 0..255 -> [B, 3, T, 224, 224] in [-1, 1].

    Other sizes than 224 x 224: short side to 224 bilinear without antialias (long side rounded up), centre crop, as
    VideoGPT's loader does.
    """
    if items.shape[1] < MIN_FRAMES:
        raise SampleError("video.too_short", f"I3D needs {MIN_FRAMES} frames, got {items.shape[1]}")
    x = items.permute(0, 4, 1, 2, 3).to(torch.float32) / 255.0
    if x.shape[-2:] != (SIZE, SIZE):
        x = crop(short_side(x))
    return ((x - 0.5) * 2.0).to(dtype)


def short_side(x: Tensor) -> Tensor:
    """Frames of [B, C, T, H, W] with the short side at 224."""
    height, width = x.shape[-2:]
    scale = SIZE / min(height, width)
    size = (SIZE, ceil(width * scale)) if height < width else (ceil(height * scale), SIZE)
    frames = x.transpose(1, 2).flatten(0, 1)
    frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    return frames.unflatten(0, (len(x), -1)).transpose(1, 2)


def crop(x: Tensor) -> Tensor:
    """The central 224 x 224."""
    top, left = (x.shape[-2] - SIZE) // 2, (x.shape[-1] - SIZE) // 2
    return x[..., top : top + SIZE, left : left + SIZE]


def network(context: Context, module: InceptionI3d) -> Callable[[Tensor], Tensor]:
    """Frames [B, T, H, W, 3] in 0..255 -> float32 [B, 400]."""
    module = module.to(context.device, context.dtype)
    dtype = module.logits.conv3d.weight.dtype
    return lambda items: module(prepare(items, dtype)).float()


def k400(context: Context) -> Callable[[Tensor], Tensor]:
    """`i3d_pretrained_400.pt`, epsilon 1e-5."""
    return network(context, build(read_state(context.weights["i3d_k400"])))


def imagenet(context: Context) -> Callable[[Tensor], Tensor]:
    """piergiaj's `rgb_imagenet.pt` (ImageNet, then Kinetics), epsilon 1e-3."""
    return network(context, build(read_state(context.weights["i3d_rgb_imagenet"]), eps=1e-3))


def stylegan_v(context: Context) -> Callable[[Tensor], Tensor]:
    """The tensors of StyleGAN-V's `i3d_torchscript.pt`, read without running it, epsilon 1e-3 as in the original."""
    state = strip_root(read_torchscript(context.weights["i3d_stylegan_v"]), "Conv3d_1a_7x7.conv3d.weight")
    return network(context, build(state, eps=1e-3))
