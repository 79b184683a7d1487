"""Captions to conditions, the same way in training and in sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from avbench.errors import MissingResource
from avbench.reference_models.common.conditioning import Conditions, HashText
from avbench.reference_models.training.config import Arm, Text, is_video

Encoder = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts -> embeddings [B, N, D], zero where there is no token, and mask [B, N]."""


class T5Text:
    """A frozen T5 encoder (T5, Flan-T5, UMT5) of a hub repository or folder."""

    def __init__(self, text: Text, device: torch.device) -> None:
        from transformers import AutoConfig, AutoTokenizer, T5EncoderModel, UMT5EncoderModel

        self.tokens, self.device = text.tokens, device
        try:
            kind = AutoConfig.from_pretrained(text.repo, subfolder=text.folder).model_type
            cls = UMT5EncoderModel if kind == "umt5" else T5EncoderModel
            model = cls.from_pretrained(text.repo, subfolder=text.folder)
            self.tokenizer = AutoTokenizer.from_pretrained(text.repo, subfolder=text.tokenizer)
        except OSError as error:
            raise MissingResource(f"text encoder {text.repo}: {error}") from None
        self.model = model.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        batch = self.tokenizer(
            list(texts), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        )
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)
        out = self.model(ids, attention_mask=mask).last_hidden_state
        return out * mask[..., None], mask.bool()


def text_encoder(text: Text, device: torch.device) -> Encoder:
    """The encoder that a table describes."""
    return HashText(text.width, text.tokens) if text.kind == "hash" else T5Text(text, device)


def captions(row: Mapping[str, str], arm: Arm, one_prompt: bool) -> tuple[str, str]:
    """What the video and the audio of a clip are told. One prompt: a system whose streams read the same text."""
    video = row["text"] if one_prompt and arm.audio_caption else row["video_text"]
    if arm.told and not one_prompt:
        video = f"{video} {row['audio_text']}"
    return video, row["audio_text"] if arm.audio_caption else ""


class Conditioner:
    """Rows with `text`, `video_text` and `audio_text` -> Conditions of an arm, on a device."""

    def __init__(self, text_v: Text, text_a: Text, arm: Arm, one_prompt: bool, device: torch.device) -> None:
        self.arm, self.one_prompt, self.device = arm, one_prompt, device
        self.video = text_encoder(text_v, device)
        self.audio = (self.video if text_a == text_v else text_encoder(text_a, device)) if arm.audio else None

    def __call__(self, rows: Sequence[Mapping[str, str]], seconds: float) -> Conditions:
        """Conditions of these clips, `seconds` long."""
        pairs = [captions(row, self.arm, self.one_prompt) for row in rows]
        return self.encode([v for v, _ in pairs], [a for _, a in pairs], seconds)

    def encode(self, video: Sequence[str], audio: Sequence[str], seconds: float) -> Conditions:
        """Conditions of captions as they are; empty ones are the null condition."""
        text_v, _ = self.video(video)
        length = torch.full((len(video),), seconds)
        if self.audio is None:
            return Conditions(text_v=text_v, seconds=length).to(self.device)
        text_a, mask_a = self.audio(audio)
        return Conditions(text_v=text_v, text_a=text_a, mask_a=mask_a, seconds=length).to(self.device)

    def null(self, count: int, seconds: float) -> Conditions:
        """Nothing said, of video and audio."""
        return self.encode([""] * count, [""] * count, seconds)


def watches(model: nn.Module) -> bool:
    """Whether a model only makes sound for a video it is shown: it has no video tower."""
    return not any(is_video(name) for name, _ in model.named_parameters())


def shown(cond: Conditions, null: Conditions, video: Tensor) -> tuple[Conditions, Conditions]:
    """Conditions with the features of a clean video, and null conditions without: 0 throughout."""
    from avbench.reference_models.systems.visiosonic import seen

    found = seen(cond, video)
    assert found.look is not None and found.sync is not None
    return found, replace(null, look=torch.zeros_like(found.look), sync=torch.zeros_like(found.sync))


def as_model(audio: np.ndarray, layout: str) -> np.ndarray:
    """Latents of a 1-D codec [B, L, C] as the model takes them: as they are, or as a grid [B, 1, L, C]."""
    return audio[:, None] if layout == "grid" and audio.ndim == 3 else audio
