"""DINOv3 ViT-L/16: what a frame looks like, for identity consistency. From transformers.

Siméoni et al., "DINOv3", 2025; facebook/dinov3-vitl16-pretrain-lvd1689m (gated, DINOv3 licence).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avbench.features import Context
from avbench.metrics.encoders.dino import MEAN, STD
from avbench.metrics.encoders.pretrained import pretrained


def image(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: RGB [N, 224, 224, 3], uint8, or float in [0, 1]. Features: float32 [N, 2, 1024], not normalised.

    The class token, and the last patch but one, which Verse-Bench takes for it.
    """
    from transformers import DINOv3ViTModel

    model = pretrained(DINOv3ViTModel, context.weights["dinov3_vitl16"], context)
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        images = items.float() / 255 if items.dtype == torch.uint8 else items.float()
        tokens = model(pixel_values=((images - mean) / std).movedim(-1, 1).to(context.dtype)).last_hidden_state
        return tokens[:, [0, -2]].float()

    return encode
