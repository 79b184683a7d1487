"""MUSIQ: image quality at several scales, from pyiqa, an optional package.

Ke et al., "MUSIQ: Multi-scale Image Quality Transformer", ICCV 2021; chaofengc/IQA-PyTorch, whose licence forbids
commercial use (PolyForm Noncommercial 1.0.0). One architecture, one checkpoint for each data set it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.errors import MissingResource
from avbench.features import Context
from avbench.metrics.encoders.loading import fill


def build(state: Mapping[str, Tensor]) -> nn.Module:
    """The network for one score per image (SPAQ, KonIQ-10k)."""
    try:
        from pyiqa.archs.musiq_arch import MUSIQ
    except ImportError as error:
        raise MissingResource(
            f"MUSIQ comes with pyiqa (PolyForm Noncommercial licence), which cannot be imported: {error}\n"
            "  pip install pyiqa"
        ) from None
    state = {key.removeprefix("module."): value for key, value in state.items()}
    return fill(lambda: MUSIQ(pretrained=False), state, what="MUSIQ with one output")


def quality(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: RGB [N, H, W, 3], uint8, or float in [0, 1]. Features: float32 [N], about 0...100."""
    (path,) = context.weights.values()
    model = build(read_state(path)).to(context.device, context.dtype)

    def encode(items: Tensor) -> Tensor:
        images = items.float() / 255 if items.dtype == torch.uint8 else items.float()
        return model(images.movedim(-1, 1).to(context.dtype))[:, 0].float()

    return encode
