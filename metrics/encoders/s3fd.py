"""S3FD: where are faces, and how sure is that?

Zhang et al., "S3FD: Single Shot Scale-invariant Face Detector", ICCV 2017; the `sfd_face.pth` of joonson/syncnet_python
6efbb1c, whose key names the parameters carry. VGG-16 with six detection levels, one square prior per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

RGB_MEANS = (123.0, 117.0, 104.0)
TRUNK = {  # index in `vgg`: channels; 3 x 3 with padding 1, but for the last two
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
SOURCES = {15: "L2Norm3_3", 22: "L2Norm4_3", 29: "L2Norm5_3"}  # after these layers, normalised
WIDTHS = (256, 512, 512, 1024, 512, 256)
FACE_SCORE, CANDIDATES, KEPT, HEAD_OVERLAP = 0.05, 5000, 750, 0.3
VARIANCES = (0.1, 0.2)
FACES, SURE, OVERLAP = 100, 0.9, 0.1  # of the detector around the network


class L2Norm(nn.Module):
    """Unit length over channels times a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10) * self.weight[:, None, None]


def trunk() -> nn.ModuleList:
    """VGG-16 to its fifth stage, then two convolutions in place of the dense layers; every layer by its index."""
    layers: list[nn.Module] = [nn.ReLU(inplace=True) for _ in range(35)]
    for index, (inputs, outputs) in TRUNK.items():
        layers[index] = nn.Conv2d(inputs, outputs, 3, padding=1)
    for index in (4, 9, 16, 23, 30):
        layers[index] = nn.MaxPool2d(2, ceil_mode=index == 16)
    layers[31] = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
    layers[33] = nn.Conv2d(1024, 1024, 1)
    return nn.ModuleList(layers)


class S3FD(nn.Module):
    """Images minus `RGB_MEANS`, [B, 3, H, W], to face scores [B, P] and boxes [B, P, 4]: corners, image = 1."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = trunk()
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = L2Norm(256), L2Norm(512), L2Norm(512)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1), nn.Conv2d(256, 512, 3, 2, 1),
                nn.Conv2d(512, 128, 1), nn.Conv2d(128, 256, 3, 2, 1),
            ]
        )  # fmt: skip
        self.loc = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in WIDTHS)
        self.conf = nn.ModuleList(
            nn.Conv2d(width, 2 if level else 4, 3, padding=1) for level, width in enumerate(WIDTHS)
        )

    def levels(self, x: Tensor) -> list[Tensor]:
        """The six feature maps that faces are looked for in."""
        found = []
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in SOURCES:
                found.append(self.get_submodule(SOURCES[index])(x))
        found.append(x)
        for index, layer in enumerate(self.extras):
            x = F.relu(layer(x))
            if index % 2:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.levels(images)
        moves = torch.cat([flat(head(x)) for head, x in zip(self.loc, maps)], dim=1).unflatten(1, (-1, 4))
        scores = [head(x) for head, x in zip(self.conf, maps)]
        background = scores[0][:, :3].amax(dim=1, keepdim=True)  # the finest level has three backgrounds
        scores[0] = torch.cat([background, scores[0][:, 3:]], dim=1)
        faces = torch.cat([flat(x) for x in scores], dim=1).unflatten(1, (-1, 2)).float().softmax(dim=-1)[..., 1]
        sizes = tuple((x.shape[2], x.shape[3]) for x in maps)
        return faces, corners(moves.float(), priors(sizes, images.shape[2], images.shape[3]).to(moves.device))


def flat(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H W C]."""
    return x.permute(0, 2, 3, 1).flatten(1)


@cache
def priors(sizes: tuple[tuple[int, int], ...], height: int, width: int) -> Tensor:
    """Centre and size of the square of every cell, relative to the image: float32 [P, 4]. Sides are 4 steps."""
    boxes = []
    for level, (rows, columns) in enumerate(sizes):
        step, side = 4 * 2**level, 16 * 2**level
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        w, h = torch.full_like(x, side / width), torch.full_like(x, side / height)
        boxes.append(torch.stack([x * step / width, y * step / height, w, h], dim=-1).flatten(0, 1))
    return torch.cat(boxes)


def corners(moves: Tensor, squares: Tensor) -> Tensor:
    """Predicted moves [B, P, 4] of prior boxes [P, 4] to corners x1, y1, x2, y2."""
    centres = squares[:, :2] + VARIANCES[0] * moves[..., :2] * squares[:, 2:]
    sizes = squares[:, 2:] * torch.exp(VARIANCES[1] * moves[..., 2:])
    first = centres - sizes / 2
    return torch.cat([first, first + sizes], dim=-1)


def suppressed(scores: Tensor, boxes: Tensor, overlap: float, most: int) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression, best first: of [P] and [P, 4], those that overlap no better one by more."""
    from torchvision.ops import nms

    kept = nms(boxes, scores, overlap)[:most]
    return scores[kept], boxes[kept]


def candidates(scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What the reference network returns of one image: at most 750 faces of score above 0.05, best first."""
    likely = scores > FACE_SCORE
    scores, boxes = scores[likely], boxes[likely]
    best = scores.argsort(descending=True, stable=True)[:CANDIDATES]
    return suppressed(scores[best], boxes[best], HEAD_OVERLAP, KEPT)


def faces_of(scores: Tensor, boxes: Tensor) -> Tensor:
    """Faces of one image, best first: [100, 5], score and corners; rows beyond the last face are 0."""
    scores, boxes = candidates(scores, boxes)
    sure = scores > SURE
    scores, boxes = suppressed(scores[sure], boxes[sure], OVERLAP, FACES)
    return F.pad(torch.cat([scores[:, None], boxes], dim=1), (0, 0, 0, FACES - len(scores)))


def build(state: Mapping[str, Tensor]) -> S3FD:
    """The network with the tensors of `sfd_face.pth`."""
    return fill(S3FD, state, what="S3FD")


def faces(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: images uint8 RGB [N, H, W, 3], already scaled as faces are to be looked for.

    Features: float32 [N, 100, 5]: score above 0.9, then x1, y1, x2, y2 relative to the image (not clipped), best first;
    rows beyond the last face are 0. Faces that overlap a better one by more than 0.1 are left out.
    """
    model = build(read_state(context.weights["s3fd"])).to(context.device, context.dtype)
    means = torch.tensor(RGB_MEANS, device=context.device)

    def detect(images: Tensor) -> Tensor:
        scores, boxes = model((images.float() - means).movedim(-1, 1).to(context.dtype))
        return torch.stack([faces_of(one, where) for one, where in zip(scores, boxes)])

    return detect
