"""VideoAlign's reward model: visual quality, motion quality and text alignment of a video, as people preferred.

Liu et al., "Improving Video Generation with Human Feedback", 2025; KwaiVGI/VideoAlign 219ab9d. Qwen2-VL-2B (from
transformers) with low-rank adapters and a linear head on three added tokens. The names in `model.pth` follow from the
training code (PEFT around transformers 4.45); they could not be checked against the published file, so whatever is
missing or left over is refused with the list. The prompt is the authors' (MIT) and is read from their file; another one
is refused. Computed in bfloat16, adapters in float32, as published; attention is PyTorch's instead of flash-attention.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.errors import UserError
from avbench.features import Context, Network
from avbench.metrics.encoders.clip import MEAN, STD
from avbench.metrics.encoders.loading import refuse

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DTYPE = torch.bfloat16
REWARDS = ("<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>")
AXES = ("VQ", "MQ", "TA")
TEMPLATE = "DETAILED_PROMPT_WITH_SPECIAL_TOKEN"
PUBLISHED = "fdb6309bac618dd0c8b1b589d3a0970a974f7856eecbb355a190b2dce54af700"
PATCH, MERGE, DEPTH = 14, 2, 2  # pixels of a patch, patches of a token along each side, frames of a patch
PAD = "<|video_pad|>"
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{video}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)  # Qwen2-VL's chat format
ADAPTED = re.compile(r"(.+)\.lora_([AB])\.default\.weight")

# --- checkpoint ---


class Adapted(nn.Module):
    """A linear layer with a low-rank addition, which is computed in float32."""

    def __init__(self, base: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.register_buffer("down", down.float())
        self.register_buffer("up", up.float())

    def forward(self, x: Tensor) -> Tensor:
        addition = F.linear(F.linear(x.float(), self.get_buffer("down")), self.get_buffer("up")) * self.scale
        return (self.base(x) + addition).to(x.dtype)


def renamed(key: str) -> str:
    """A name of PEFT and transformers 4.45 as transformers 5 has it; "" for what is not needed."""
    key = key.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
    if key.startswith("lm_head.") or ".original_module." in key or key.endswith("inv_freq"):
        return ""
    return f"language_model.{key.removeprefix('model.')}" if key.startswith("model.") else key


def scaling(config: Mapping[str, Any]) -> float:
    """What the adapters are multiplied by, from model_config.json."""
    lora = config["peft_lora_config"]
    rank = float(lora["lora_r"])
    return float(lora["lora_alpha"]) / (rank**0.5 if lora.get("use_rslora") else rank)


def adapt(model: nn.Module, adapters: Mapping[str, Mapping[str, Tensor]], scale: float) -> None:
    """Put the adapters {layer: {"A": [r, in], "B": [out, r]}} around their layers."""
    refuse(
        "VideoReward", "has half an adapter of", [name for name, pair in adapters.items() if set(pair) != {"A", "B"}]
    )
    for name, pair in adapters.items():
        parent, _, child = name.rpartition(".")
        layer = getattr(model.get_submodule(parent), child, None)
        refuse("VideoReward", "has adapters of unknown layers", [] if isinstance(layer, nn.Linear) else [name])
        setattr(model.get_submodule(parent), child, Adapted(layer, pair["A"], pair["B"], scale))  # type: ignore[arg-type]


def build(
    state: Mapping[str, Tensor], config: Mapping[str, Any], scale: float, dtype: torch.dtype = DTYPE
) -> tuple[nn.Module, nn.Linear]:
    """Qwen2-VL with its adapters, and the reward head, from the state dict of `model.pth`.

    config: Qwen2-VL's config.json; the size of the vocabulary is the checkpoint's. dtype: of all but the adapters.
    """
    from accelerate import init_empty_weights
    from transformers import Qwen2VLConfig, Qwen2VLModel

    named = {renamed(key): value for key, value in state.items()}
    named.pop("", None)
    adapters: dict[str, dict[str, Tensor]] = {}
    for key in [key for key in named if ADAPTED.fullmatch(key)]:
        name, side = ADAPTED.fullmatch(key).groups()  # type: ignore[union-attr]
        adapters.setdefault(name, {})[side] = named.pop(key)
    weight = named.pop("rm_head.weight", None)
    words = named.get("language_model.embed_tokens.weight")
    if weight is None or words is None:
        raise UserError("this is not a checkpoint of VideoReward: it lacks rm_head.weight or the word embeddings")
    settings = Qwen2VLConfig.from_dict(dict(config))
    settings.get_text_config().vocab_size = len(words)
    with init_empty_weights(include_buffers=False):
        model = Qwen2VLModel(settings)
    expected = model.state_dict()
    refuse("VideoReward", "lacks", [key for key in expected if key not in named])
    refuse("VideoReward", "has unknown keys", [key for key in named if key not in expected])
    refuse("VideoReward", "has other shapes", [key for key in named if named[key].shape != expected[key].shape])
    model.load_state_dict({key: value.to(dtype) for key, value in named.items()}, assign=True)
    adapt(model, adapters, scale)
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.load_state_dict({"weight": weight.to(dtype)}, assign=True)
    return model.eval().requires_grad_(False), head.requires_grad_(False)


def newest(folder: Path) -> Path:
    """`model.pth` of the last training step in the folder."""
    steps = {
        int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()
    }
    if not steps or not (path := steps[max(steps)] / "model.pth").is_file():
        raise UserError(f"{folder} holds no checkpoint-STEP/model.pth")
    return path


def load_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def template(path: Path) -> str:
    """The authors' prompt from their prompt_template.py, which is read and not run."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not VideoAlign's file of prompts: {error}") from None
    assigned = [one for one in body if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)]
    text = next((one.value.value for one in assigned if ast.unparse(one.targets[0]) == TEMPLATE), "")  # type: ignore[attr-defined]
    digest = hashlib.sha256(str(text).encode()).hexdigest()
    if digest != PUBLISHED:
        raise UserError(f"{path}: its {TEMPLATE} has sha256 {digest}, which is not published")
    return str(text)


# --- what the model reads ---


def patches(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [T, 3, H, W], sides multiples of 28, to rows of patches and their grid [1, 3] (time, height, width).

    Two frames make one patch, the last of an odd number is repeated; the four patches of a token follow each other.
    """
    frames = torch.cat([frames, frames[-1:]]) if len(frames) % DEPTH else frames
    time, height, width = len(frames) // DEPTH, frames.shape[2] // PATCH, frames.shape[3] // PATCH
    x = frames.reshape(time, DEPTH, 3, height // MERGE, MERGE, PATCH, width // MERGE, MERGE, PATCH)
    rows = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(time * height * width, -1)
    return rows, torch.tensor([[time, height, width]], device=frames.device)


class Judge:
    """The reward model with its tokenizer."""

    def __init__(self, context: Context) -> None:
        from tokenizers import Tokenizer

        folder, qwen = context.weights["videoreward"], context.weights["qwen2_vl_2b"]
        config = load_json(folder / "model_config.json")
        self.device = context.device
        model, head = build(read_state(newest(folder)), load_json(qwen / "config.json"), scaling(config))
        self.model: Any = model.to(self.device)
        self.head = head.to(self.device)
        self.calibration = calibration(config)
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(qwen / "tokenizer.json"))
        self.tokenizer.add_special_tokens(list(REWARDS))
        self.rewards = [self.tokenizer.token_to_id(token) for token in REWARDS]
        self.template = template(context.weights["videoalign_prompts"])

    def ids(self, prompt: str, tokens: int) -> Tensor:
        """Token ids [L] of the question about a video of so many tokens."""
        text = self.template.replace("{text_prompt}", prompt)
        chat = CHAT.replace("{text}", text).replace("{video}", PAD * tokens)
        return torch.tensor(self.tokenizer.encode(chat, add_special_tokens=False).ids, device=self.device)

    def rewards_of(self, frames: Tensor, prompt: str) -> Tensor:
        """Frames uint8 [T, H, W, 3] and a prompt to raw rewards [3]."""
        mean, std = (torch.tensor(c, device=self.device) for c in (MEAN, STD))
        rows, grid = patches(((frames.to(self.device).float() / 255 - mean) / std).movedim(-1, 1))
        seen = self.model.visual(rows.to(self.head.weight.dtype), grid_thw=grid)
        seen = getattr(seen, "pooler_output", seen)
        ids = self.ids(prompt, len(seen))
        words = self.model.language_model.embed_tokens(ids)
        words[ids == self.tokenizer.token_to_id(PAD)] = seen.to(words.dtype)
        places = torch.arange(len(ids), device=self.device).expand(3, 1, -1)  # plain, as the reward model was trained
        hidden = self.model.language_model(inputs_embeds=words[None], position_ids=places, use_cache=False)[0][0]
        return torch.stack([self.head(hidden[ids == token][0])[0] for token in self.rewards]).float()


def calibration(config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the rewards over the authors' data, from model_config.json."""
    table = config.get("inference_config") or {}
    try:
        return tuple(np.array([float(table[f"{axis}_{kind}"]) for axis in AXES]) for kind in ("mean", "std"))  # type: ignore[return-value]
    except KeyError as error:
        raise UserError(f"VideoReward: model_config.json has no {error} in inference_config") from None


def judge(context: Context) -> Network:
    """(frames uint8 [T, H, W, 3], prompt) -> {"raw": float32 [3], "calibrated": float32 [3]}, by `AXES`."""
    one = Judge(context)

    @torch.inference_mode()
    def encode(question: tuple[np.ndarray, str]) -> dict[str, np.ndarray]:
        frames, prompt = question
        raw = one.rewards_of(torch.from_numpy(frames), prompt).cpu().numpy()
        mean, std = one.calibration
        return {"raw": raw, "calibrated": ((raw - mean) / std).astype(np.float32)}

    return encode
