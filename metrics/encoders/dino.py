"""DINO ViT-B/16: what the subject of a frame looks like, for subject consistency.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021; facebookresearch/dino. The
network is timm's, whose parameters carry the names of `dino_vitbase16_pretrain.pth`. The position table of images that
are not 224 x 224 is resized as the reference does it; timm and transformers do that otherwise and give other features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PATCH = 16
NUDGE = 0.1  # added to both grid sides before dividing, in the reference


def positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """The position table [1, 1 + n^2, C] for a grid of patches: [1, 1 + rows x columns, C].

    The reference resizes by the factors (rows + 0.1) / n and (columns + 0.1) / n, which also decide where the new
    cells sample the old table, so this is not a resize to (rows, columns).
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return table
    grid = table[:, 1:].unflatten(1, (side, side)).movedim(-1, 1)
    factors = ((rows + NUDGE) / side, (columns + NUDGE) / side)
    resized = F.interpolate(grid.float(), scale_factor=factors, mode="bicubic").to(table)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class DINO(nn.Module):
    """Images [N, 3, H, W], sides of at least 16, to the CLS token [N, 768]; what fills no patch is left aside."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        vit = self.vit
        assert vit.cls_token is not None and vit.pos_embed is not None  # timm makes both optional
        grid = vit.patch_embed.proj(images)
        tokens = torch.cat([vit.cls_token.expand(len(images), -1, -1), grid.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + positions(vit.pos_embed, grid.shape[-2], grid.shape[-1])
        return vit.norm(vit.blocks(tokens))[:, 0]


def build(state: Mapping[str, Tensor]) -> DINO:
    """The network of `dino_vitbase16_pretrain.pth`, which holds no head."""
    return DINO(fill(lambda: VisionTransformer(num_classes=0, weight_init="skip"), state, what="DINO ViT-B/16"))


def image(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: RGB [N, H, W, 3], uint8, or float where 1 is white. Features: float32 [N, 768], not normalised."""
    model = build(read_state(context.weights["dino_vitb16"])).to(context.device, context.dtype)
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        images = items.float() / 255 if items.dtype == torch.uint8 else items.float()
        return model(((images - mean) / std).movedim(-1, 1).to(context.dtype)).float()

    return encode
