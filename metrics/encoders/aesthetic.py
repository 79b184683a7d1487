"""Predictors of how much people like an image, on features of CLIP and of SigLIP.

LAION's first, linear predictor on CLIP ViT-L/14 (LAION-AI/aesthetic-predictor, 2022), and predictor v2.5 on SigLIP
so400m/14 at 384 pixels (discus0434/aesthetic-predictor-v2-5 c0e1556). The head of v2.5 is a chain of five linear layers
with nothing between them, so it is one affine map; only its weights are read here, none of its code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill
from avbench.metrics.encoders.pretrained import pretrained

WIDTHS = (1152, 1024, 128, 64, 16, 1)


def build_linear(state: Mapping[str, Tensor]) -> nn.Linear:
    """LAION's `sa_0_4_vit_l_14_linear.pth`."""
    return fill(lambda: nn.Linear(768, 1), state, what="LAION's linear aesthetic predictor for CLIP ViT-L/14")


def linear(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: features of CLIP ViT-L/14 float [N, 768]. Features: float32 [N], about 1...10."""
    model = build_linear(read_state(context.weights["laion_aesthetic_l14"])).to(context.device)
    return lambda items: model(F.normalize(items.float(), dim=-1))[:, 0]


class Head(nn.Module):
    """The five layers of v2.5 with the gaps in their numbering where dropout was."""

    def __init__(self) -> None:
        super().__init__()
        self.scoring_head = nn.ModuleDict(
            {str(2 * place): nn.Linear(*pair) for place, pair in enumerate(pairwise(WIDTHS))}
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]

    @property
    def layers(self) -> list[nn.Linear]:
        """In order of application."""
        return [layer for layer in self.scoring_head.values() if isinstance(layer, nn.Linear)]


def build_head(state: Mapping[str, Tensor]) -> Head:
    """The head of `aesthetic_predictor_v2_5.pth`."""
    return fill(Head, state, what="aesthetic predictor v2.5")


def folded(head: Head) -> tuple[Tensor, Tensor]:
    """The head as one affine map: weight [1152] and bias [], float64."""
    weight, bias = torch.eye(WIDTHS[0], dtype=torch.float64), torch.zeros(WIDTHS[0], dtype=torch.float64)
    for layer in head.layers:
        weight, bias = layer.weight.double() @ weight, layer.weight.double() @ bias + layer.bias.double()
    return weight[0], bias[0]


def siglip(context: Context) -> Callable[[Tensor], Tensor]:
    """uint8 [N, 384, 384, 3] to unit vectors [N, 1152] of SigLIP's attention pooling, in the context's precision."""
    from transformers import SiglipVisionModel

    model = pretrained(SiglipVisionModel, context.weights["siglip_so400m_384"], context)

    def encode(items: Tensor) -> Tensor:
        pixels = (items.movedim(-1, 1).float() / 255 - 0.5) / 0.5
        pooled = model(pixel_values=pixels.to(context.dtype)).pooler_output
        return pooled / pooled.norm(dim=-1, keepdim=True)

    return encode


def v2_5(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: uint8 RGB [N, 384, 384, 3]. Features: float32 [N], about 1...10; the head in float64."""
    encode = siglip(context)
    weight, bias = (x.to(context.device) for x in folded(build_head(read_state(context.weights["aesthetic_v2_5"]))))
    return lambda items: (encode(items).double() @ weight + bias).float()


def v2_5_bf16(context: Context) -> Callable[[Tensor], Tensor]:
    """As `v2_5`, but everything in bfloat16 and layer by layer, as all public users run it: steps of 1/32 above 4."""
    context = replace(context, dtype=torch.bfloat16)
    encode = siglip(context)
    head = build_head(read_state(context.weights["aesthetic_v2_5"])).to(context.device, context.dtype)
    return lambda items: head(encode(items)).float()
