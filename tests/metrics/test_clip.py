"""CLIP: tokens, sizes, loading, the four image recipes, and JavisBench's CLIP score on real clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics import clip as family
from avbench.metrics.encoders import clip
from avbench.registry import metrics
from tests.hashed import close, hashed_state_dict
from tests.metrics.alignment import CLIPS, GOLDENS, decode, golden, scores, synthetic

KEYS: dict[str, list[int]] = json.loads((GOLDENS / "clip_vit_b32_keys.json").read_text())


def meta(keys: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("clip") / "vit_b32.safetensors"
    save_file(hashed_state_dict(KEYS), path)
    return path


def context(path: Path) -> Context:
    return Context(torch.device("cpu"), torch.float32, {"clip_vit_b32": path})


def test_tokens_of_a_known_prompt() -> None:
    ids = clip.tokenize(["a person speaks to the camera"])[0]
    assert ids[:9].tolist() == [49406, 320, 2533, 5661, 531, 518, 3934, 49407, 0]
    assert not ids[8:].any()


@pytest.mark.parametrize(("words", "cut_at"), [(75, 76), (76, 0), (300, 0)])
def test_a_long_prompt_keeps_or_loses_its_end(words: int, cut_at: int) -> None:
    text = "dog " * words
    kept, cut = clip.tokenize([text], "end")[0], clip.tokenize([text], "cut")[0]
    assert kept.argmax() == 76 and kept[76] == 49407
    assert cut.argmax() == cut_at


@pytest.mark.parametrize(
    ("size", "patch", "width", "embed", "layers"), [("B/16", 16, 768, 512, 12), ("L/14", 14, 1024, 768, 24)]
)
def test_sizes_are_read_off_the_shapes(size: str, patch: int, width: int, embed: int, layers: int) -> None:
    from open_clip import CLIP, get_model_config

    config = get_model_config(f"ViT-{size.replace('/', '-')}-quickgelu")
    with torch.device("meta"):
        state = CLIP(**config).state_dict()
    found = clip.architecture(state)
    assert found["embed_dim"] == embed and found["quick_gelu"]
    assert found["vision_cfg"] == {"image_size": 224, "layers": layers, "width": width, "patch_size": patch}
    assert found["text_cfg"]["heads"] == config["text_cfg"]["heads"]
    clip.build(state)


def test_every_key_is_consumed_and_none_is_left_over() -> None:
    extras = {"input_resolution": torch.tensor(224), "transformer.resblocks.0.attn_mask": torch.zeros(77, 77)}
    assert clip.build({**meta(KEYS), **extras}).state_dict().keys() == KEYS.keys()
    with pytest.raises(UserError, match=r"ln_final\.bias"):
        clip.build(meta({key: shape for key, shape in KEYS.items() if key != "ln_final.bias"}))
    with pytest.raises(UserError, match="surprise"):
        clip.build(meta({**KEYS, "surprise": [3]}))
    with pytest.raises(UserError, match="other shapes"):
        clip.build(meta({**KEYS, "visual.ln_post.weight": [7]}))
    with pytest.raises(UserError, match="not a CLIP checkpoint"):
        clip.build(meta({"weight": [3]}))


def test_openai_archive_is_read_without_running_it(tmp_path: Path) -> None:
    """A scripted module whose attributes carry OpenAI's names gives the same tensors as a state dict."""

    class Visual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = torch.nn.Parameter(torch.arange(6.0).view(2, 3).half())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.proj

    class Archive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Visual()
            self.text_projection = torch.nn.Parameter(torch.ones(2, 3).half())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual(x) + self.text_projection.sum()

    path = tmp_path / "ViT-tiny.pt"
    torch.jit.script(Archive()).save(str(path))
    state = clip.read(path)
    assert state.keys() >= {"visual.proj", "text_projection"}
    assert torch.equal(state["visual.proj"], torch.arange(6.0).view(2, 3).half())


def test_quick_gelu_is_in_use() -> None:
    model = clip.build(meta(KEYS))
    assert type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def test_bytes_and_floats_are_one_image(weights: Path) -> None:
    encode = clip.image(context(weights))
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.allclose(encode(image), encode(image.float() / 255), atol=1e-5)


def test_frames_of_each_variant() -> None:
    short = synthetic(224, 224, frames=5)
    variants = (family.ClipScore, family.ClipScoreJavisBench, family.ClipScoreVBench, family.ClipScoreClipsim)
    assert [len(variant.frames.view(short)) for variant in variants] == [5, 48, 8, 5]


def test_exchanged_channels() -> None:
    one = synthetic(224, 300, frames=48)
    exchanged, plain = (variant.frames.view(one) for variant in (family.ClipScoreJavisBench, family.ClipScore))
    assert np.array_equal(exchanged, plain[..., ::-1]) and not np.array_equal(exchanged, plain)


def test_variants_name_what_they_do_otherwise() -> None:
    for name in metrics.list():
        if name.startswith("clip_score@"):
            assert metrics.get(name).card.differs, name


def test_score_is_the_mean_cosine() -> None:
    frames, text = np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([[1.0, 0.0]])
    assert family.ClipScore().score(frames, text) == pytest.approx(0.5)
    assert family.ClipScoreTorchmetrics().score(frames, text) == pytest.approx(50.0)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", CLIPS)
def test_javisbench_clip_score(name: str, weights: Path) -> None:
    one = decode(name, audio=False)
    expected = scores()["clip_score"][name]
    stills = family.ClipScoreJavisBench.frames.view(one)
    images, texts = clip.image(context(weights)), clip.text(context(weights))
    with torch.inference_mode():
        frames = np.concatenate([images(torch.from_numpy(np.ascontiguousarray(part))) for part in np.split(stills, 6)])
        text = texts([expected["prompt"]]).numpy()
    assert close(frames[0], golden(f"clip_image_first_{name}"))
    assert close(frames.mean(axis=0), golden(f"clip_image_mean_{name}"))
    assert close(text[0], golden(f"clip_text_{name}"))
    assert family.ClipScoreJavisBench().score(frames, text) == pytest.approx(expected["score"], abs=2e-6)
