"""OpenAI CLIP (ViT-B/32, B/16, L/14): images and text in one space, through open_clip's network.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; openai/CLIP. The
architecture is read off the shapes of the state dict, whose keys OpenAI and open_clip share; the activation is OpenAI's
quick GELU, which shapes do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from avbench.checkpoints import is_torchscript, read_state
from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders.loading import fill
from avbench.metrics.encoders.torchscript import read_torchscript, strip_root

if TYPE_CHECKING:
    from open_clip import CLIP

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
# What OpenAI's archives hold beside the weights: three integers and the causal mask.
ASIDE = ("input_resolution", "context_length", "vocab_size", r".*\.attn_mask")

Truncation = Literal["end", "cut"]


@cache
def tokenizer() -> Any:
    """CLIP's byte-pair tokenizer, whose vocabulary open_clip ships."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


def tokenize(texts: Sequence[str], truncate: Truncation = "end", context: int = 77) -> Tensor:
    """Token ids int64 [N, context]: start, tokens, end, zeros.

    A text that is too long is cut so that the end token stays ("end", openai/CLIP) or is lost ("cut").
    """
    bpe = tokenizer()
    rows = torch.zeros(len(texts), context, dtype=torch.long)
    for row, text in zip(rows, texts):
        ids = [bpe.sot_token_id, *bpe.encode(text), bpe.eot_token_id][:context]
        if truncate == "end" and len(ids) == context:
            ids[-1] = bpe.eot_token_id
        row[: len(ids)] = torch.tensor(ids)
    return rows


def architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `open_clip.CLIP` for a state dict of a CLIP with a vision transformer."""
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        positions = state["visual.positional_embedding"].shape[0]
        text_width, embed = state["text_projection"].shape
        context = state["positional_embedding"].shape[0]
        vocabulary = state["token_embedding.weight"].shape[0]
    except KeyError as error:
        raise UserError(f"not a CLIP checkpoint in OpenAI's or open_clip's format: no {error} in it") from None
    side = round((positions - 1) ** 0.5) * patch
    return {
        "embed_dim": embed,
        "quick_gelu": True,
        "vision_cfg": {"image_size": side, "layers": depth(state, "visual."), "width": width, "patch_size": patch},
        "text_cfg": {
            "context_length": context, "vocab_size": vocabulary, "width": text_width,
            "heads": text_width // 64, "layers": depth(state, ""),
        },
    }  # fmt: skip


def depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of transformer blocks under a prefix."""
    pattern = re.compile(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    return 1 + max((int(m[1]) for m in map(pattern.match, state) if m), default=-1)


def build(state: Mapping[str, Tensor]) -> CLIP:
    """The network with the tensors of a state dict; `UserError` lists keys that are missing, unknown or misshapen."""
    from open_clip import CLIP

    config = architecture(state)
    model = fill(lambda: CLIP(**config), state, what=f"CLIP of these sizes ({config})", ignore=ASIDE)
    model.attn_mask = causal(model.context_length)
    return model


def causal(length: int) -> Tensor:
    """Additive mask [length, length] that hides later tokens."""
    return torch.full((length, length), float("-inf")).triu(1)


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a local file: OpenAI's own TorchScript archive (read, never run), or a plain state dict."""
    return strip_root(read_torchscript(path), "text_projection") if is_torchscript(path) else read_state(path)


def load(context: Context) -> CLIP:
    """The one checkpoint in `context.weights`, in `context.dtype`."""
    (path,) = context.weights.values()
    return build(read(path)).to(context.device, context.dtype)


def image(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: images [N, H, W, 3], RGB, uint8, or float where 1 is white (resizing may overshoot [0, 1]).

    Features: float32 [N, D], not normalised.
    """
    model = load(context)
    model.transformer = model.token_embedding = None
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        images = items.float() / 255 if items.dtype == torch.uint8 else items.float()
        return model.encode_image(((images - mean) / std).movedim(-1, 1).to(context.dtype)).float()

    return encode


def text_tower(context: Context, truncate: Truncation) -> Callable[[Sequence[str]], Tensor]:
    model = load(context)
    model.visual = None
    return lambda texts: model.encode_text(tokenize(texts, truncate).to(context.device)).float()


text = partial(text_tower, truncate="end")
text.__doc__ = "Items: strings. Features: float32 [N, D], not normalised. A long text is cut, its end token stays."

text_cut = partial(text_tower, truncate="cut")
text_cut.__doc__ = "As `text`, but a text of 76 tokens or more loses its end token, and with it its meaning."
