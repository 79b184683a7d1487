"""Captions to conditions, the same way in training and in sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
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


class Remembered:
    """An encoder of these texts alone, each encoded once and by itself, so that none depends on its neighbours.

    Kept on the CPU, without the padding. step: told of each.
    """

    def __init__(self, encoder: Encoder, texts: Iterable[str], step: Callable[[], None]) -> None:
        self.known: dict[str, tuple[Tensor, Tensor]] = {}
        self.tokens = 0
        for text in dict.fromkeys(texts):
            found, mask = (one[0].cpu() for one in encoder([text]))
            self.tokens, used = len(mask), int(mask.nonzero().max()) + 1 if mask.any() else 0
            self.known[text] = found[:used].clone(), mask[:used].clone()
            step()

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = [self.known[text] for text in texts]
        lacking = [self.tokens - len(mask) for _, mask in found]
        return (
            torch.stack([nn.functional.pad(one, (0, 0, 0, n)) for (one, _), n in zip(found, lacking)]),
            torch.stack([nn.functional.pad(mask, (0, n)) for (_, mask), n in zip(found, lacking)]),
        )


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
        self.video: Encoder = text_encoder(text_v, device)
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

    def remembering(
        self, rows: Iterable[Mapping[str, str]], begin: Callable[[int], None], step: Callable[[], None]
    ) -> Conditioner:
        """The same for these rows and nothing said, on the CPU: no text is encoded again, and no encoder is kept.

        begin: told how many texts there are to encode. step: told of each.
        """
        video, audio = zip(("", ""), *(captions(row, self.arm, self.one_prompt) for row in rows))
        texts: dict[Encoder, dict[str, None]] = {}
        for encoder, some in ((self.video, video), (self.audio, audio)):
            if encoder is not None:
                texts.setdefault(encoder, {}).update(dict.fromkeys(some))
        begin(sum(map(len, texts.values())))
        known = {encoder: Remembered(encoder, some, step) for encoder, some in texts.items()}
        found = copy(self)
        found.device, found.video = torch.device("cpu"), known[self.video]
        found.audio = known[self.audio] if self.audio is not None else None
        return found

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
