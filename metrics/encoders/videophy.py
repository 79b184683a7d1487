"""VideoPhy's judges: a video, a question, and what an mPLUG-Owl-Video says or thinks.

Bansal et al., "VideoPhy", 2024, and "VideoPhy-2", 2025; Hritikbansal/videophy 01d366c. The eyes are `owl`, the language
model is transformers' LLaMA. A checkpoint is the hub's folder: config.json, tokenizer.model, shards with their index.
The prompts are the authors' (MIT) and are read from their file, never stored here; a prompt whose digest is not the
published one is refused. Everything runs in bfloat16, as published.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avbench.checkpoints import read_state
from avbench.errors import MissingResource, SampleError, UserError
from avbench.features import Context, Network
from avbench.metrics.encoders.clip import MEAN, STD
from avbench.metrics.encoders.loading import fill, refuse
from avbench.metrics.encoders.owl import FrontEnd, Size

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaForCausalLM

DTYPE = torch.bfloat16
LANGUAGE = "language_model."
VIDEO = "<|video|>"
ANSWER_TOKENS = 255  # what is left of the reference's max_length of 256 after the begin token
READ_TOKENS = 257  # what VideoPhy-1 pads its prompts to
CHARACTERS = 128  # of an answer that are kept
DIGITS = "12345"
NAMES = {"sa": ("PROMPT_SA", "PROMPT_VTA"), "pc": ("PROMPT_PHYSICS",)}
PUBLISHED = {  # sha256 of the prompts, before anything is filled in
    "76de8b9aaa1085150b210b87c5131b8110f911bd38b4b0511e1b20cb0d51de8a": "VideoPhy-2, semantic adherence",
    "253f1229a0c4751494cb98e22a0adf5d141ed421c0bd7f86ff40e6434aea1fd3": "VideoPhy-2, physical commonsense",
    "f53c3e92a4025d579dfbe8c07f29b258f83bc59925c6d70ac66ced9d64054db9": "VideoPhy, semantic adherence",
    "7c5ec3a6fa369fd01f4c59f2bce7dfe7e47130b0131a6a84dc8798f691ef99d1": "VideoPhy, physical commonsense",
}

# --- checkpoint ---


def shards(folder: Path) -> Iterator[dict[str, Tensor]]:
    """The state dicts of a sharded checkpoint, one file at a time."""
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / name).exists():
            index = json.loads((folder / name).read_text(encoding="utf-8"))
            files = sorted(set(index["weight_map"].values()))
            break
    else:
        files = [name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).exists()][:1]
    if not files:
        raise UserError(f"{folder} holds neither model.safetensors nor pytorch_model.bin, whole or in shards")
    for name in files:
        if Path(name).name != name:
            raise UserError(f"{folder}: its index names {name!r}, which is not a file beside it")
        yield read_state(folder / name)


def settings(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable config.json: {error}") from None


def build(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> FrontEnd:
    """The front end from all tensors of the checkpoint but the language model's."""
    size = Size.of(config)
    return fill(lambda: FrontEnd(size), state, what="mPLUG-Owl-Video's front end", ignore=(LANGUAGE + ".*",))


def eyes(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: frames uint8 RGB [N, 32, 224, 224, 3]. Features: float32 [N, 65, 4096], word vectors of the video."""
    (folder,) = context.weights.values()
    state: dict[str, Tensor] = {}
    for shard in shards(folder):
        state |= {key: value for key, value in shard.items() if not key.startswith(LANGUAGE)}
    model = build(state, settings(folder)).to(context.device, DTYPE)
    mean, std = (torch.tensor(c, device=context.device) for c in (MEAN, STD))

    def encode(items: Tensor) -> Tensor:
        frames = ((items.float() / 255 - mean) / std).movedim(-1, 2)
        return model(frames.to(DTYPE)).float()

    return encode


def language_model(folder: Path, context: Context) -> LlamaForCausalLM:
    """The LLaMA of a checkpoint, filled shard by shard.

    It lies on the context's device, or is spread over all devices where the option `device_map` is "auto".
    """
    from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
    from accelerate.utils import set_module_tensor_to_device
    from transformers import LlamaConfig, LlamaForCausalLM

    with init_empty_weights(include_buffers=False):
        model = LlamaForCausalLM(LlamaConfig.from_dict(settings(folder)["text_config"]))
    places: dict[str, Any] = {"": context.device}
    if context.options.get("device_map") == "auto":
        places = infer_auto_device_map(model, no_split_module_classes=["LlamaDecoderLayer"], dtype=DTYPE)
    expected, seen = model.state_dict(), set()
    for shard in shards(folder):
        for key, value in shard.items():
            name = key.removeprefix(LANGUAGE)
            if not key.startswith(LANGUAGE) or name.endswith("rotary_emb.inv_freq"):
                continue
            refuse("VideoPhy's language model", "has unknown keys", [] if name in expected else [key])
            set_module_tensor_to_device(model, name, place_of(name, places), value=value, dtype=DTYPE)
            seen.add(name)
    refuse("VideoPhy's language model", "lacks", [key for key in expected if key not in seen])
    if len(places) > 1:
        model = dispatch_model(model, places)
    else:
        model.to(context.device)  # type: ignore[arg-type]  # its annotations take a method for a function
    return model.eval().requires_grad_(False)


def place_of(name: str, places: Mapping[str, Any]) -> Any:
    """The device of a parameter: that of the longest module name it begins with."""
    return places[max((part for part in places if not part or f"{name}.".startswith(f"{part}.")), key=len)]


# --- prompts ---


def prompts(path: Path) -> dict[str, str]:
    """{"sa": ..., "pc": ...} from the authors' template.py or constants.py, which is read and not run."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        found = {one.targets[0].id: ast.literal_eval(one.value) for one in body if isinstance(one, ast.Assign)}  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not VideoPhy's file of prompts: {error}") from None
    named = {kind: next((found[name] for name in names if name in found), "") for kind, names in NAMES.items()}
    for kind, text in named.items():
        digest = hashlib.sha256(str(text).encode()).hexdigest()
        if digest not in PUBLISHED:
            raise UserError(
                f"{path}: its prompt {' or '.join(NAMES[kind])} has sha256 {digest}, which is not published"
            )
    return named


def pieces(prompt: str, marks: tuple[str, ...]) -> list[str]:
    """The prompt cut before and after each mark; nothing is lost but empty pieces."""
    found = [prompt]
    for mark in marks:
        found = [part for one in found for part in split_at(one, mark)]
    return found


def split_at(text: str, mark: str) -> list[str]:
    """`text` in parts, every occurrence of `mark` a part of its own."""
    if text == mark:
        return [text]
    first, *others = text.split(mark)
    parts = [first, *(part for other in others for part in (mark, other))]
    return [part for part in parts if part]


class Reader:
    """A language model that reads text and video: shared by both judges."""

    def __init__(self, context: Context, checkpoint: str, texts: str) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise MissingResource(
                f"VideoPhy needs sentencepiece, which cannot be imported: {error}\n  pip install sentencepiece"
            ) from None
        folder = context.weights[checkpoint]
        self.prompts = prompts(context.weights[texts])
        self.tokenizer: SentencePieceProcessor = SentencePieceProcessor(str(folder / "tokenizer.model"))
        self.model = language_model(folder, context)
        self.device = context.device

    def embed(self, seen: np.ndarray, kind: str, caption: str, marks: tuple[str, ...]) -> Tensor:
        """Prompt and video as vectors [1, L, 4096]; each piece of text is tokenized alone."""
        words = self.model.get_input_embeddings()
        prompt = self.prompts[kind].replace("{caption}", caption)
        before, _, after = prompt.partition(VIDEO)
        texts = [[self.tokenizer.bos_id()], []]
        for ids, half in zip(texts, (before, after)):
            for piece in pieces(half, marks):
                ids += self.tokenizer.encode(piece)
        vectors = [words(torch.tensor(ids, device=self.device)).to(self.device) for ids in texts]
        return torch.cat([vectors[0], torch.from_numpy(seen).to(vectors[0]), vectors[1]])[None]


def judge2(context: Context) -> Network:
    """VideoPhy-2: (kind, word vectors [65, 4096], caption) -> {"answer": uint8 [n], "digits": float32 [5]}.

    answer: the greedy answer as UTF-8, at most 128 bytes. digits: probabilities of "1" to "5" among themselves where
    the answer first has a digit, all zero where it has none.
    """
    reader = Reader(context, "videophy2_auto", "videophy2_prompts")
    ids = [reader.tokenizer.piece_to_id(digit) for digit in DIGITS]

    @torch.inference_mode()
    def encode(question: tuple[str, np.ndarray, str]) -> dict[str, np.ndarray]:
        kind, seen, caption = question
        vectors = reader.embed(seen, kind, caption, ())
        limit = reader.model.config.max_position_embeddings
        if vectors.shape[1] >= limit:
            raise SampleError("prompt.too_long", f"{vectors.shape[1]} tokens; the judge reads {limit}")
        said: Any = reader.model.generate(  # type: ignore[misc]  # annotated for a protocol of its own
            inputs_embeds=vectors, attention_mask=torch.ones(vectors.shape[:2], dtype=torch.long, device=reader.device),
            do_sample=False, temperature=None, top_p=None, top_k=None, max_new_tokens=ANSWER_TOKENS,
            eos_token_id=reader.tokenizer.eos_id(), pad_token_id=reader.tokenizer.eos_id(),
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        tokens = said.sequences[0].tolist()
        step = next((i for i, token in enumerate(tokens) if token in ids), None)
        digits = torch.zeros(5) if step is None else said.logits[step][0, ids].float().softmax(0).cpu()
        text = reader.tokenizer.decode([token for token in tokens if not reader.tokenizer.is_control(token)])
        return {"answer": np.frombuffer(text.encode()[:CHARACTERS] or b" ", np.uint8).copy(), "digits": digits.numpy()}

    return encode


def judge1(context: Context) -> Network:
    """VideoPhy: (kind, word vectors [65, 4096], caption) -> float32 [1], p(Yes) / (p(Yes) + p(No)) as the next word."""
    reader = Reader(context, "videophy1_judge", "videophy1_prompts")
    yes, no = (reader.tokenizer.encode(word)[0] for word in ("Yes", "No"))

    @torch.inference_mode()
    def encode(question: tuple[str, np.ndarray, str]) -> np.ndarray:
        kind, seen, caption = question
        vectors = reader.embed(seen, kind, caption, ("AI: ", "\nHuman: "))
        if vectors.shape[1] > READ_TOKENS:
            raise SampleError("prompt.too_long", f"{vectors.shape[1]} tokens; the judge reads {READ_TOKENS}")
        logits = reader.model(inputs_embeds=vectors, logits_to_keep=1).logits[0, -1].float()
        return (logits[yes] - logits[no]).sigmoid()[None].cpu().numpy()

    return encode
