"""SyncNet: lips of five frames and sound of 0.2 s in one space, near each other where they belong together.

Chung and Zisserman, "Out of Time: Automated Lip Sync in the Wild", ACCV Workshops 2016; joonson/syncnet_python,
`syncnet_v2.model`, whose key names the parameters carry. Only the first lip convolution has an extent in time and it
covers all five frames, so the whole tower runs as a 2-D network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

WINDOW, SIDE = 5, 224  # frames and pixels of a lip window
COEFFICIENTS, COLUMNS = 13, 20  # of an MFCC window
EMBED = 1024


class FlatConv3d(nn.Conv3d):
    """A 3-D convolution whose kernel covers the whole time axis: [B, C T, H, W] to [B, out, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.flatten(1, 2)
        return F.conv2d(x, weight, self.bias, self.stride[1:], self.padding[1:])


def lip_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, frames: int = 1) -> FlatConv3d:
    return FlatConv3d(inputs, outputs, (frames, kernel, kernel), (1, stride, stride), (0, padding, padding))


def tower(convs: list[nn.Module], pools: dict[int, nn.Module]) -> nn.Sequential:
    """Convolutions, each with BatchNorm and ReLU; `pools` follow the convolutions they are keyed by."""
    layers: list[nn.Module] = []
    for index, conv in enumerate(convs):
        layers += [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]  # type: ignore[arg-type]
        if index in pools:
            layers.append(pools[index])
    return nn.Sequential(*layers)


def dense() -> nn.Sequential:
    """512 features to the common space."""
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, EMBED))


class SyncNet(nn.Module):
    """Two towers; embeddings as the network gives them, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = tower(
            [
                nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(64, 192, 3, padding=1), nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 512, (5, 4)),
            ],
            {0: nn.Identity(), 1: nn.MaxPool2d(3, (1, 2)), 4: nn.MaxPool2d(3, 2)},
        )  # fmt: skip
        self.netcnnlip = tower(
            [
                lip_conv(3, 96, 7, 2, frames=WINDOW), lip_conv(96, 256, 5, 2, 1), lip_conv(256, 256, 3, padding=1),
                lip_conv(256, 256, 3, padding=1), lip_conv(256, 256, 3, padding=1), lip_conv(256, 512, 6),
            ],
            {0: nn.MaxPool2d(3, 2), 1: nn.MaxPool2d(3, 2, padding=1), 4: nn.MaxPool2d(3, 2)},
        )  # fmt: skip
        self.netfcaud, self.netfclip = dense(), dense()

    def audio(self, mfcc: Tensor) -> Tensor:
        """[B, 13, 20] to [B, 1024]."""
        return self.netfcaud(self.netcnnaud(mfcc[:, None]).flatten(1))

    def lips(self, frames: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224], BGR in 0..255, to [B, 1024]."""
        return self.netfclip(self.netcnnlip(frames.flatten(1, 2)).flatten(1))


def build(state: Mapping[str, Tensor]) -> SyncNet:
    """The network with the tensors of `syncnet_v2.model`."""
    return fill(SyncNet, state, what="SyncNet v2")


def load(context: Context) -> SyncNet:
    return build(read_state(context.weights["syncnet_v2"])).to(context.device, context.dtype)


def lips(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: windows of five crops, uint8 RGB [N, 5, 224, 224, 3]. Features: float32 [N, 1024]."""
    model = load(context)
    return lambda windows: model.lips(windows.flip(-1).permute(0, 4, 1, 2, 3).to(context.dtype)).float()


def audio(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: MFCC windows float32 [N, 13, 20] (of samples in 16-bit units). Features: float32 [N, 1024]."""
    model = load(context)
    return lambda windows: model.audio(windows.to(context.dtype)).float()
