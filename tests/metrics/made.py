"""Made checkpoints of the quality metrics: random weights in the files' own formats, small where the format allows.

They show that the whole path runs; what comes out is no score, and every table says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avbench.metrics.encoders import aesthetic
from tests.metrics import test_videophy as owl
from tests.metrics.quality import weights

State = dict[str, Tensor]


def drawn(module: nn.Module) -> State:
    """Random weights of a module, its matrices about as large as they would be at its start."""
    made = torch.Generator().manual_seed(0)

    def one(key: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value.clone()
        if value.ndim < 2:
            return torch.ones_like(value) if key.endswith("weight") else torch.zeros_like(value)
        return torch.randn(value.shape, generator=made) / value[0].numel() ** 0.5

    return {key: one(key, value) for key, value in module.state_dict().items()}


def clip(embed: int, width: int, layers: int, patch: int) -> State:
    """A CLIP with a vision transformer; the sizes are read off its shapes."""
    from open_clip import CLIP

    vision = {"image_size": 224, "layers": layers, "width": width, "patch_size": patch}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    return drawn(CLIP(embed, vision, text, quick_gelu=True))


def musiq() -> State:
    """MUSIQ has one size."""
    from pyiqa.archs.musiq_arch import MUSIQ

    return drawn(MUSIQ(pretrained=False))


def v2_5() -> State:
    """The head of aesthetic predictor v2.5 has one size."""
    return drawn(aesthetic.Head())


def save(folder: Path, name: str, state: State) -> Path:
    """A PyTorch file."""
    torch.save({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.pth")
    return folder / f"{name}.pth"


def library(folder: Path, name: str, full: bool) -> Path:
    """A folder of transformers: SigLIP or DINOv3."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    if name == "siglip_so400m_384":
        size = (
            {"num_hidden_layers": 27, "intermediate_size": 4304}
            if full
            else {"num_hidden_layers": 1, "intermediate_size": 64}
        )
        config = SiglipVisionConfig(hidden_size=1152, num_attention_heads=16, image_size=384, patch_size=14, **size)
        SiglipVisionModel(config).save_pretrained(folder / name)
    else:
        size = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        tiny = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = DINOv3ViTConfig(image_size=224, patch_size=16, num_register_tokens=4, **(size if full else tiny))
        DINOv3ViTModel(config).save_pretrained(folder / name)
    return folder / name


def audiobox(folder: Path) -> Path:
    """The folder of AudioBox-Aesthetics, which has one size."""
    from audiobox_aesthetics.model.aes import AesMultiOutput
    from safetensors.torch import save_file

    from avbench.metrics.encoders.audiobox import SETTINGS
    from tests.metrics.test_audiobox import CONFIG

    torch.manual_seed(0)
    made = AesMultiOutput(**{name: CONFIG[name] for name in SETTINGS}, target_transform=CONFIG["target_transform"])
    found = folder / "audiobox_aesthetics"
    found.mkdir()
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, found / "model.safetensors")
    (found / "config.json").write_text(json.dumps(CONFIG))
    return found


MAKERS: dict[str, Callable[[Path, bool], Path]] = {
    "clip_vit_b32": lambda to, full: save(
        to, "clip_vit_b32", clip(512, 768, 12, 32) if full else clip(512, 64, 1, 32)
    ),
    "clip_vit_l14": lambda to, full: save(
        to, "clip_vit_l14", clip(768, 1024, 24, 14) if full else clip(768, 64, 1, 32)
    ),
    "laion_aesthetic_l14": lambda to, full: save(to, "laion", drawn(nn.Linear(768, 1))),
    "musiq_spaq": lambda to, full: save(to, "musiq_spaq", musiq()),
    "musiq_koniq": lambda to, full: save(to, "musiq_koniq", musiq()),
    "aesthetic_v2_5": lambda to, full: save(to, "aesthetic_v2_5", v2_5()),
    "siglip_so400m_384": lambda to, full: library(to, "siglip_so400m_384", full),
    "dinov3_vitl16": lambda to, full: library(to, "dinov3_vitl16", full),
    "audiobox_aesthetics": lambda to, full: audiobox(to),
    "dino_vitb16": lambda to, full: save(to, "dino_vitb16", weights("dino_vitb16")),
    "raft_things": lambda to, full: save(to, "raft_things", weights("raft")),
    "amt_s": lambda to, full: save(to, "amt_s", weights("amt_s")),
    "viclip": lambda to, full: save(to, "viclip", weights("viclip_l")),
    "videophy2_auto": lambda to, full: owl.write_judge(to),
    "videophy2_prompts": lambda to, full: owl.write_prompts(to),
}  # fmt: skip


def digests() -> dict[str, str]:
    """What a test must put in place of the digests of VideoPhy's published questions, which are not ours to ship."""
    return {hashlib.sha256(text.encode()).hexdigest(): "test" for text in owl.PROMPTS.values()}


def write(folder: Path, names: list[str], full: bool = False) -> dict[str, Path]:
    """Checkpoints by name. full: of the published sizes, gigabytes."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: MAKERS[name](folder, full) for name in names}


def options(made: dict[str, Path]) -> list[Any]:
    """`--weights NAME=FILE` for the command line."""
    return [word for name, path in made.items() for word in ("--weights", f"{name}={path}")]
