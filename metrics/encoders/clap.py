"""CLAP: audio and text in one space, three public families on the networks of transformers.

* `htsat_*`: laion/clap-htsat-unfused in transformers' own format.
* `laion_*`: checkpoints of LAION-AI/CLAP (Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature
  Fusion and Keyword-to-Caption Augmentation", ICASSP 2023), e.g. music_speech_audioset_epoch_15_esc_89.98.pt.
* `ms_*`: microsoft/CLAP 2023 (Elizalde et al., "Natural Language Supervision for General-Purpose Audio
  Representations", ICASSP 2024), CLAP_weights_2023.pth: an HTSAT-tiny and a GPT-2, each with its own projection.

Sizes are read off the shapes of the state dict. The log-mel front ends are views, in `avbench.metrics.clap`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders.loading import refuse

Network = Callable[[Any], Tensor]
M = TypeVar("M", bound=nn.Module)

ROBERTA_POSITIONS = 512  # tokens; two of the 514 positions are reserved
LAION_TOKENS = MS_TOKENS = 77
INDEX_BUFFERS = ("relative_position_index", "position_ids", "token_type_ids")  # constants, held by some checkpoints
FRONT_END = ("spectrogram_extractor", "logmel_extractor", "attn_mask", "tscam_conv", "head.", "htsat.head")


# --- loading ---


def sub_state(state: Mapping[str, Tensor], prefixes: Iterable[str], aside: Iterable[str] = ()) -> dict[str, Tensor]:
    """The tensors under any of the prefixes, without those whose key holds a word of `aside`."""
    return {
        key: value
        for key, value in state.items()
        if key.startswith(tuple(prefixes)) and not any(word in key for word in aside)
    }


def fill(model: M, state: Mapping[str, Tensor], what: str) -> M:
    """Give a module its tensors, every key consumed; constant index buffers may come from either side.

    As `loading.fill`, for classes of transformers, whose index buffers cannot be made on the meta device.
    """
    own = {key: value for key, value in model.state_dict().items() if not key.endswith(INDEX_BUFFERS)}
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key.endswith("num_batches_tracked")}
    state = {**counters, **{key: value for key, value in state.items() if not key.endswith(INDEX_BUFFERS)}}
    refuse(what, "lacks", [key for key in own if key not in state])
    refuse(what, "has unknown keys", [key for key in state if key not in own])
    refuse(what, "has other shapes", [key for key, value in own.items() if state[key].shape != value.shape])
    model.load_state_dict(state, assign=True, strict=False)
    return model.requires_grad_(False).eval()


def tensor(state: Mapping[str, Tensor], key: str) -> Tensor:
    """One tensor, or a `UserError` that says which is not there."""
    try:
        return state[key]
    except KeyError:
        raise UserError(f"not a CLAP checkpoint of the expected family: no {key}") from None


def audio_config(state: Mapping[str, Tensor], prefix: str) -> Any:
    """HTSAT's configuration from the shapes of its tensors, transformers' names under `prefix`."""
    from transformers import ClapAudioConfig

    if any("fusion_model" in key or "mel_conv2d" in key for key in state):
        raise UserError("this is a fused CLAP checkpoint; only unfused ones are supported")
    width = tensor(state, f"{prefix}patch_embed.proj.weight").shape[0]
    pattern = re.compile(
        re.escape(prefix) + r"layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.relative_position_bias_table"
    )
    blocks = {(int(m[1]), int(m[2])): state[key].shape[1] for key in state if (m := pattern.fullmatch(key))}
    stages = sorted({stage for stage, _ in blocks})
    return ClapAudioConfig(
        patch_embeds_hidden_size=width,
        hidden_size=width * 2 ** (len(stages) - 1),
        depths=[sum(stage == one for stage, _ in blocks) for one in stages],
        num_attention_heads=[blocks[stage, 0] for stage in stages],
    )


def text_config(state: Mapping[str, Tensor], eps: float) -> Any:
    """RoBERTa's configuration from the shapes of its tensors."""
    from transformers import ClapTextConfig

    words = tensor(state, "text_model.embeddings.word_embeddings.weight")
    layers = {int(m[1]) for key in state if (m := re.match(r"text_model\.encoder\.layer\.(\d+)\.", key))}
    return ClapTextConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=len(layers),
        num_attention_heads=words.shape[1] // 64,
        intermediate_size=state["text_model.encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=state["text_model.embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=eps,
    )


def build_audio(state: Mapping[str, Tensor]) -> nn.Module:
    """Audio tower and projection from tensors named `audio_model.*` and `audio_projection.*`; others are ignored."""
    from transformers import ClapAudioModelWithProjection
    from transformers.initialization import no_init_weights

    mine = sub_state(state, ("audio_model.", "audio_projection."))
    with no_init_weights():
        model = ClapAudioModelWithProjection(audio_config(mine, "audio_model.audio_encoder."))
    return fill(model, mine, "the audio tower of a CLAP checkpoint")


def build_text(state: Mapping[str, Tensor], eps: float = 1e-12) -> nn.Module:
    """Text tower and projection from tensors named `text_model.*` and `text_projection.*`; others are ignored.

    eps: of its LayerNorms, which no tensor tells (1e-12 in transformers' CLAP, 1e-5 in RoBERTa and so in LAION's).
    """
    from transformers import ClapTextModelWithProjection
    from transformers.initialization import no_init_weights

    mine = sub_state(state, ("text_model.", "text_projection."))
    with no_init_weights():
        model = ClapTextModelWithProjection(text_config(mine, eps))
    return fill(model, mine, "the text tower of a CLAP checkpoint")


def embed_audio(model: nn.Module, mels: Tensor) -> Tensor:
    """Log-mels in dB [N, 1001, 64] to unit vectors [N, 512]."""
    return F.normalize(model(input_features=mels[:, None]).audio_embeds, dim=-1)


def embed_text(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Token ids and attention mask [N, L] to unit vectors [N, 512]."""
    return F.normalize(model(input_ids=ids, attention_mask=mask).text_embeds, dim=-1)


# --- tokenizers ---


def read_tokenizer(file: Path) -> Any:
    """A `tokenizer.json`, or `UserError`."""
    from tokenizers import Tokenizer

    if not file.is_file():
        raise UserError(
            f"CLAP's text tower needs {file.name} in {file.parent}; give the whole folder of the checkpoint"
        )
    return Tokenizer.from_file(str(file))


def roberta_ids(tokenizer: Any, texts: Sequence[str], limit: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [N, L], right-padded to the longest, cut to `limit` tokens with both end tokens kept."""
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    rows = tokenizer.encode_batch(list(texts))
    return torch.tensor([row.ids for row in rows]), torch.tensor([row.attention_mask for row in rows])


# --- transformers' format ---


def read_folder(path: Path) -> dict[str, Tensor]:
    """The state dict in a folder as published on the hub, or in one file."""
    if path.is_file():
        return read_state(path)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return read_state(path / name)
    raise UserError(f"{path} holds neither model.safetensors nor pytorch_model.bin")


def folder_eps(path: Path) -> float:
    """LayerNorm epsilon of the text tower as the folder's `config.json` says."""
    file = path / "config.json"
    if not file.is_file():
        return 1e-12
    return float(json.loads(file.read_text(encoding="utf-8")).get("text_config", {}).get("layer_norm_eps", 1e-12))


def htsat_audio(context: Context) -> Network:
    """Items: log-mels in dB float32 [N, 1001, 64]. Features: float32 [N, 512], unit length."""
    model = build_audio(read_folder(context.weights["clap_htsat_unfused"])).to(context.device, context.dtype)
    return lambda items: embed_audio(model, items.to(context.dtype)).float()


def htsat_text(context: Context) -> Network:
    """Items: strings (512 tokens at most). Features: float32 [N, 512], unit length."""
    folder = context.weights["clap_htsat_unfused"]
    model = build_text(read_folder(folder), folder_eps(folder)).to(context.device, context.dtype)
    return roberta_network(model, folder / "tokenizer.json", ROBERTA_POSITIONS, context)


def roberta_network(model: nn.Module, file: Path, limit: int, context: Context) -> Network:
    """Strings to features through a RoBERTa tokenizer."""
    tokenizer = read_tokenizer(file)

    def encode(texts: Sequence[str]) -> Tensor:
        ids, mask = roberta_ids(tokenizer, texts, limit)
        return embed_text(model, ids.to(context.device), mask.to(context.device)).float()

    return encode


# --- LAION's format ---

HTSAT_NAMES = (
    (r"\bbn0\.", "batch_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)


def rename_htsat(state: Mapping[str, Tensor], prefix: str, to: str) -> dict[str, Tensor]:
    """HTSAT's tensors in the original names under `prefix` to transformers' names under `to`; fused qkv is split."""
    found: dict[str, Tensor] = {}
    for key, value in sub_state(state, [prefix], FRONT_END).items():
        name = key.removeprefix(prefix)
        for pattern, new in HTSAT_NAMES:
            name = re.sub(pattern, new, name)
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3)):
                found[to + name.replace("qkv", part)] = third
        else:
            found[to + name] = value
    return found


def rename_laion(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of LAION-AI/CLAP (keys with or without `module.`) in transformers' names."""
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    found = rename_htsat(plain, "audio_branch.", "audio_model.audio_encoder.")
    for key, value in plain.items():
        if key.startswith("text_branch."):
            found["text_model." + key.removeprefix("text_branch.")] = value
        elif match := re.fullmatch(r"(audio|text)_projection\.([02])\.(weight|bias)", key):
            found[f"{match[1]}_projection.linear{1 if match[2] == '0' else 2}.{match[3]}"] = value
    return found


def laion_audio(context: Context) -> Network:
    """As `htsat_audio`, for a checkpoint in LAION's format."""
    state = rename_laion(read_state(context.weights["clap_laion_music_speech"]))
    model = build_audio(state).to(context.device, context.dtype)
    return lambda items: embed_audio(model, items.to(context.dtype)).float()


def laion_text(context: Context) -> Network:
    """As `htsat_text`, for a checkpoint in LAION's format; 77 tokens at most."""
    state = rename_laion(read_state(context.weights["clap_laion_music_speech"]))
    model = build_text(state, eps=1e-5).to(context.device, context.dtype)
    return roberta_network(model, context.weights["roberta_tokenizer"], LAION_TOKENS, context)


# --- microsoft/CLAP 2023 ---


class Projection(nn.Module):
    """e = W1 x; LayerNorm(e + W2 GELU(e))."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, out, bias=False)
        self.linear2 = nn.Linear(out, out, bias=False)
        self.layer_norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        e = self.linear1(x)
        return self.layer_norm(e + self.linear2(F.gelu(e)))


def build_projection(state: Mapping[str, Tensor], prefix: str) -> nn.Module:
    out, width = tensor(state, f"{prefix}linear1.weight").shape
    with torch.device("meta"):
        model = Projection(width, out)
    return fill(model, {k.removeprefix(prefix): v for k, v in sub_state(state, [prefix]).items()}, f"a CLAP {prefix}")


class MSAudio(nn.Module):
    """HTSAT-tiny and its projection: log-mels in dB [N, 965, 64] to [N, 1024]."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        from transformers import ClapAudioModel
        from transformers.initialization import no_init_weights

        renamed = rename_htsat(state, "audio_encoder.base.htsat.", "audio_encoder.")
        with no_init_weights():
            base = ClapAudioModel(audio_config(renamed, "audio_encoder."))
        self.base = fill(base, renamed, "the audio tower of CLAP_weights_2023.pth")
        self.projection = build_projection(state, "audio_encoder.projection.")

    def forward(self, mels: Tensor) -> Tensor:
        return self.projection(self.base(input_features=mels[:, None]).pooler_output)


class MSText(nn.Module):
    """GPT-2 and its projection: token ids [N, 77] to [N, 1024], read where the last id that is not 0 stands."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model
        from transformers.initialization import no_init_weights

        prefix = "caption_encoder.base."
        mine = {k.removeprefix(prefix): v for k, v in sub_state(state, [prefix]).items()}
        mine = {k: v for k, v in mine.items() if not k.endswith((".attn.bias", ".attn.masked_bias"))}
        vocabulary, width = tensor(mine, "wte.weight").shape
        layers = {int(m[1]) for key in mine if (m := re.match(r"h\.(\d+)\.", key))}
        with no_init_weights():
            base = GPT2Model(
                GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=len(layers), n_head=width // 64,
                           n_positions=mine["wpe.weight"].shape[0])
            )  # fmt: skip
        self.base = fill(base, mine, "the text tower of CLAP_weights_2023.pth")
        self.projection = build_projection(state, "caption_encoder.projection.")

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.base(input_ids=ids).last_hidden_state
        last = (ids != 0).sum(dim=-1) - 1
        return self.projection(hidden[torch.arange(len(ids), device=ids.device), last])


def gpt2_ids(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Ids [N, 77]: the text, a space, the end-of-text token, and zeros (the id of "!")."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = torch.zeros(len(texts), MS_TOKENS, dtype=torch.long)
    for row, text in zip(rows, texts):
        ids = tokenizer.encode(f"{text} <|endoftext|>").ids[:MS_TOKENS]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def ms_audio(context: Context) -> Network:
    """Items: log-mels in dB float32 [N, 965, 64]. Features: float32 [N, 1024], not normalised."""
    model = MSAudio(read_state(context.weights["clap_ms_2023"])).to(context.device, context.dtype).eval()
    return lambda items: model(items.to(context.dtype)).float()


def ms_text(context: Context) -> Network:
    """Items: strings. Features: float32 [N, 1024], not normalised."""
    model = MSText(read_state(context.weights["clap_ms_2023"])).to(context.device, context.dtype).eval()
    tokenizer = read_tokenizer(context.weights["gpt2_tokenizer"])
    return lambda texts: model(gpt2_ids(tokenizer, texts).to(context.device)).float()
