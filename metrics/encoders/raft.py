"""RAFT (large, FlyingChairs then FlyingThings3D): how far the pixels of one frame move to the next.

Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020; princeton-vl/RAFT
`raft-things.pth`. The network is torchvision's `raft_large`, whose `C_T_V1` weights are that file under other names;
either file loads. It always runs in float32: pixel positions do not fit into 16 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import RAFT, raft_large

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

UPDATES = 20
MULTIPLE = 8
SMALLEST = 128  # a shorter padded side leaves one pixel in the coarsest correlation map
COLUMNS = ("top5", "top2", "top5_inside", "mean", "side")

RENAMED = (  # princeton-vl/RAFT -> torchvision, in order
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"^(\w+_encoder\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"^(\w+_encoder\.layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
TWINS = (r".*\.norm3\..*",)  # the shortcut's norm, which the original file also holds as downsample.1


def renamed(key: str) -> str:
    """torchvision's name of a parameter of `raft-things.pth`."""
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def build(state: Mapping[str, Tensor]) -> RAFT:
    """The network of `raft-things.pth`, or of torchvision's `raft_large_C_T_V1`."""
    original = any(key.removeprefix("module.").startswith("fnet.") for key in state)
    if original:
        state = {renamed(key): value for key, value in state.items()}
    return fill(raft_large, state, what="RAFT (large)", ignore=TWINS if original else ())


def pad(images: Tensor, multiple: int = MULTIPLE) -> tuple[Tensor, tuple[slice, slice]]:
    """[N, 3, H, W] with its border repeated on all sides up to a multiple, and where the image lies in it."""
    height, width = images.shape[-2:]
    more_y, more_x = -height % multiple, -width % multiple
    top, left = more_y // 2, more_x // 2
    padded = F.pad(images, (left, more_x - left, top, more_y - top), mode="replicate")
    return padded, (slice(top, top + height), slice(left, left + width))


def top_mean(magnitudes: Tensor, share: float) -> Tensor:
    """Mean of the largest `share` of [N, H, W], counted down to a whole number of at least one: [N]."""
    values = magnitudes.flatten(1)
    return values.topk(max(1, int(share * values.shape[1])), dim=1).values.mean(dim=1)


def motion(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: frame pairs uint8 [N, 2, H, W, 3]. Features: float32 [N, 5], pixels.

    top5, top2:   mean of the largest 5 % and 2 % of flow magnitudes over the padded frame, as VBench takes them.
    top5_inside:  the same without the padding.
    mean:         mean of |u| and |v| over the padded frame.
    side:         the shorter side of the frame.
    """
    model = build(read_state(context.weights["raft_things"])).to(context.device)

    def encode(items: Tensor) -> Tensor:
        images = items.movedim(-1, 2).float() / 255 * 2 - 1
        (first, inside), (second, _) = pad(images[:, 0]), pad(images[:, 1])
        vectors = model(first, second, UPDATES)[-1]
        lengths = vectors.norm(dim=1)
        side = torch.full((len(items),), min(items.shape[2:4]), device=items.device)
        columns = [
            top_mean(lengths, 0.05), top_mean(lengths, 0.02), top_mean(lengths[..., *inside], 0.05),
            vectors.abs().flatten(1).mean(dim=1), side.float(),
        ]  # fmt: skip
        return torch.stack(columns, dim=1)

    return encode
