"""ImageBind-huge: one embedding space for video, audio and text (1024-d).

Girdhar et al., "ImageBind: One Embedding Space To Bind Them All", CVPR 2023; facebookresearch/ImageBind. Parameters
carry the names of `imagebind_huge.pth`, so that file loads as it is. The towers of depth, thermal and IMU are not
built; their keys are the only ones left aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.clip import MEAN, STD, Truncation, tokenize
from avbench.metrics.encoders.loading import fill

EMBED = 1024
AUDIO_MEAN, AUDIO_STD = -4.268, 9.138
UNUSED = ("depth", "thermal", "imu")


@dataclass(frozen=True)
class Size:
    """Shape of one tower. `bias_kv`: attention has one learned extra key and value; `pre_norm`: LayerNorm before it."""

    width: int
    heads: int
    depth: int
    tokens: int
    bias_kv: bool = False
    pre_norm: bool = False


SIZES = {
    "vision": Size(1280, 16, 32, 257, pre_norm=True),
    "text": Size(1024, 16, 24, 77),
    "audio": Size(768, 12, 12, 229, bias_kv=True),
}


class Attention(nn.Module):
    """Multi-head self-attention under the parameter names of `nn.MultiheadAttention`, batch first."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * size.width, size.width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * size.width))
        self.out_proj = nn.Linear(size.width, size.width)
        self.bias_k = nn.Parameter(torch.empty(1, 1, size.width)) if size.bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, size.width)) if size.bias_kv else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(x), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(len(x), -1, -1)], dim=1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with exact GELU, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attn = Attention(size)
        self.norm_1 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = MLP(size.width)
        self.norm_2 = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm_1(x), mask)
        return x + self.mlp(self.norm_2(x))


class Trunk(nn.Module):
    """The transformer of one modality."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        if size.pre_norm:
            self.pre_transformer_layer = nn.Sequential(nn.LayerNorm(size.width, eps=1e-6))
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.pre_norm = size.pre_norm

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.pre_norm:
            x = self.pre_transformer_layer(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Patches(nn.Module):
    """CLS token and learned positions around the patch tokens, as vision and audio have them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embedding_helper = nn.Module()
        self.pos_embedding_helper.pos_embed = nn.Parameter(torch.empty(1, size.tokens, size.width))
        self.rgbt_stem = nn.Module()

    def embed(self, patches: Tensor) -> Tensor:
        cls = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([cls, patches], dim=1) + self.pos_embedding_helper.get_parameter("pos_embed")


class VisionPatches(Patches):
    """Frame pairs [N, 2, 224, 224, 3] to tokens [N, 257, 1280]: the 2 x 14 x 14 convolution as one product."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        conv = nn.Conv3d(3, size.width, (2, 14, 14), stride=(2, 14, 14), bias=False)
        self.rgbt_stem.proj = nn.Sequential(nn.Identity(), conv)

    def forward(self, pairs: Tensor) -> Tensor:
        cells = pairs.unflatten(3, (16, 14)).unflatten(2, (16, 14))  # [N, 2, 16, 14, 16, 14, 3]
        cells = cells.permute(0, 2, 4, 6, 1, 3, 5).flatten(3).flatten(1, 2)
        return self.embed(F.linear(cells, self.rgbt_stem.get_parameter("proj.1.weight").flatten(1)))


class AudioPatches(Patches):
    """Log-mel spectrograms [N, 128, 204] to tokens [N, 229, 768]: patches of 16 x 16, every 10."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.rgbt_stem.proj = nn.Conv2d(1, size.width, 16, stride=10, bias=False)
        self.rgbt_stem.norm_layer = nn.LayerNorm(size.width)

    def forward(self, mels: Tensor) -> Tensor:
        cells = F.unfold(mels[:, None], 16, stride=10).transpose(1, 2)
        tokens = F.linear(cells, self.rgbt_stem.get_parameter("proj.weight").flatten(1))
        return self.embed(self.rgbt_stem.get_submodule("norm_layer")(tokens))


class Tokens(nn.Module):
    """Token ids [N, 77] to embeddings. The checkpoint holds the causal mask, [77, 77], added to attention."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, size.tokens, size.width))
        self.token_embedding = nn.Embedding(49408, size.width)
        self.register_buffer("mask", torch.empty(size.tokens, size.tokens))

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.pos_embed


class Scale(nn.Module):
    """Multiply by a learned temperature of at most 100."""

    def __init__(self) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log_logit_scale.exp().clamp(max=100)


def head(size: Size) -> list[nn.Module]:
    """LayerNorm and projection to the common space."""
    return [nn.LayerNorm(size.width, eps=1e-6), nn.Linear(size.width, EMBED, bias=False)]


class TextHead(nn.Module):
    """The token with the largest id (EOT, where it is there) to the common space."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.proj = nn.Sequential(*head(size))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.proj(x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)])


class ImageBind(nn.Module):
    """The towers named in `sizes`; each method gives embeddings [N, 1024] as the released model returns them."""

    def __init__(self, sizes: Mapping[str, Size]) -> None:
        super().__init__()
        stems = {"vision": VisionPatches, "audio": AudioPatches, "text": Tokens}
        self.modality_preprocessors = nn.ModuleDict({m: stems[m](size) for m, size in sizes.items()})
        self.modality_trunks = nn.ModuleDict({m: Trunk(size) for m, size in sizes.items()})
        self.modality_heads = nn.ModuleDict()
        self.modality_postprocessors = nn.ModuleDict()
        for modality, size in sizes.items():
            if modality == "text":
                self.modality_heads[modality] = TextHead(size)
            else:
                norm, project = head(size)
                self.modality_heads[modality] = nn.Sequential(norm, nn.Identity(), project)
            if modality != "vision":
                self.modality_postprocessors[modality] = nn.Sequential(nn.Identity(), Scale())

    def vision(self, pairs: Tensor) -> Tensor:
        """Normalised frame pairs [N, 2, 224, 224, 3] to unit vectors."""
        x = self.modality_trunks["vision"](self.modality_preprocessors["vision"](pairs))
        return F.normalize(self.modality_heads["vision"](x[:, 0]), dim=-1)

    def audio(self, mels: Tensor) -> Tensor:
        """Normalised log-mels [N, 128, 204] to vectors of the learned length (20 in the released model)."""
        x = self.modality_trunks["audio"](self.modality_preprocessors["audio"](mels))
        unit = F.normalize(self.modality_heads["audio"](x[:, 0]), dim=-1)
        return self.modality_postprocessors["audio"](unit)

    def text(self, ids: Tensor) -> Tensor:
        """Token ids [N, 77] to vectors of the learned length."""
        tokens = self.modality_preprocessors["text"]
        x = self.modality_trunks["text"](tokens(ids), tokens.mask)
        unit = F.normalize(self.modality_heads["text"](x, ids), dim=-1)
        return self.modality_postprocessors["text"](unit)


def build(
    state: Mapping[str, Tensor], modalities: Iterable[str] = tuple(SIZES), depths: Mapping[str, int] | None = None
) -> ImageBind:
    """The towers of `modalities` with the tensors of a state dict in the names of `imagebind_huge.pth`.

    Keys of other towers may be there or not; `UserError` lists any other key too many, too few or of another shape.
    `depths` builds shorter towers (for tests).
    """
    sizes = {m: replace(SIZES[m], depth=(depths or {}).get(m, SIZES[m].depth)) for m in modalities}
    aside = "|".join(m for m in (*SIZES, *UNUSED) if m not in sizes)
    return fill(lambda: ImageBind(sizes), state, what="ImageBind-huge", ignore=[rf"modality_\w+\.({aside})\..*"])


def load(context: Context, modality: str) -> ImageBind:
    """One tower on the device; a memory-mapped checkpoint is read only where that tower lies."""
    state = read_state(context.weights["imagebind_huge"])
    return build(state, [modality]).to(context.device, context.dtype)


def vision(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: stills [N, 224, 224, 3] or frame pairs [N, 2, 224, 224, 3], RGB, uint8 or float in [0, 1].

    A still is shown twice, as the released model does. Features: float32 [N, 1024], unit length.
    """
    model = load(context, "vision")
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        frames = items.float() / 255 if items.dtype == torch.uint8 else items.float()
        pairs = (frames if frames.ndim == 5 else frames[:, None].expand(-1, 2, -1, -1, -1)) - mean
        return model.vision((pairs / std).to(context.dtype)).float()

    return encode


def audio(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: log-mels float32 [N, 128, 204] (natural log, padded with 0). Features: float32 [N, 1024], length 20."""
    model = load(context, "audio")
    return lambda items: model.audio(((items.float() - AUDIO_MEAN) / AUDIO_STD).to(context.dtype)).float()


def text_tower(context: Context, truncate: Truncation) -> Callable[[Sequence[str]], Tensor]:
    model = load(context, "text")
    return lambda texts: model.text(tokenize(texts, truncate=truncate).to(context.device)).float()


text = partial(text_tower, truncate="end")
text.__doc__ = "Items: strings. Features: float32 [N, 1024]. A long text is cut to 76 tokens and the end token."

text_released = partial(text_tower, truncate="cut")
text_released.__doc__ = (
    "As `text`, but cut to 77 tokens as the released tokenizer did before facebookresearch/ImageBind #82 was mended: a "
    "text of 76 tokens or more loses its end token, and its feature is the same for all such texts."
)
