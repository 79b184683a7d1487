"""Public checkpoints under our modules' names: renaming rules, and loading that accounts for every key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from avbench.errors import UserError

Rules = tuple[tuple[str, str], ...]

# Wan's own names -> diffusers'. Each rule is a regular expression matched at the start of what is left of the key.
WAN: Rules = (
    (r"time_embedding\.0\.", r"condition_embedder.time_embedder.linear_1."),
    (r"time_embedding\.2\.", r"condition_embedder.time_embedder.linear_2."),
    (r"text_embedding\.0\.", r"condition_embedder.text_embedder.linear_1."),
    (r"text_embedding\.2\.", r"condition_embedder.text_embedder.linear_2."),
    (r"time_projection\.1\.", r"condition_embedder.time_proj."),
    (r"head\.modulation$", r"scale_shift_table"),
    (r"head\.head\.", r"proj_out."),
    (r"blocks\.(\d+)\.modulation(\.modulation)?$", r"blocks.\1.scale_shift_table"),
    (r"blocks\.(\d+)\.self_attn\.(norm_[qk])\.", r"blocks.\1.attn1.\2."),
    (r"blocks\.(\d+)\.self_attn\.([qkv])\.", r"blocks.\1.attn1.to_\2."),
    (r"blocks\.(\d+)\.self_attn\.o\.", r"blocks.\1.attn1.to_out.0."),
    (r"blocks\.(\d+)\.cross_attn\.(norm_[qk])\.", r"blocks.\1.attn2.\2."),
    (r"blocks\.(\d+)\.cross_attn\.([qkv])\.", r"blocks.\1.attn2.to_\2."),
    (r"blocks\.(\d+)\.cross_attn\.o\.", r"blocks.\1.attn2.to_out.0."),
    (r"blocks\.(\d+)\.norm3\.", r"blocks.\1.norm2."),
    (r"blocks\.(\d+)\.ffn\.0\.", r"blocks.\1.ffn.net.0.proj."),
    (r"blocks\.(\d+)\.ffn\.2\.", r"blocks.\1.ffn.net.2."),
    (r"patch_embedding\.", r"patch_embedding."),
)


def under(prefix: str, rules: Rules, source: str = "") -> Rules:
    """The same rules for keys that begin with `source`, their targets below `prefix`."""
    return tuple((re.escape(source) + pattern, prefix + target) for pattern, target in rules)


def rename(keys: Iterable[str], rules: Rules) -> dict[str, str]:
    """{checkpoint key: our name}; the first rule that matches the whole head of a key wins.

    Raises `UserError` that lists the keys no rule knows, and where two keys fall on one name.
    """
    named, unknown = {}, []
    for key in keys:
        for pattern, target in rules:
            if found := re.match(pattern, key):
                named[key] = found.expand(target) + key[found.end() :]
                break
        else:
            unknown.append(key)
    if unknown:
        raise UserError(f"{len(unknown)} keys of the checkpoint are unknown here: {_some(unknown)}")
    if len(set(named.values())) != len(named):
        raise UserError("two keys of the checkpoint fall on one name; is it a merge of two checkpoints?")
    return named


def load(model: nn.Module, state: Mapping[str, Tensor], rules: Rules) -> None:
    """Put a public checkpoint into `model`: every key is consumed and every parameter filled, or `UserError`."""
    named = rename(state, rules)
    own = model.state_dict()
    extra = [key for key, name in named.items() if name not in own]
    missing = sorted(set(own) - set(named.values()))
    wrong = [key for key, name in named.items() if name in own and own[name].shape != state[key].shape]
    for title, keys in (("no place here", extra), ("another shape here", wrong)):
        if keys:
            raise UserError(f"{len(keys)} keys of the checkpoint have {title}: {_some(keys)}")
    if missing:
        raise UserError(f"the checkpoint lacks {len(missing)} of the model's parameters: {_some(missing)}")
    model.load_state_dict({name: state[key] for key, name in named.items()}, strict=True)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
