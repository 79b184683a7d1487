"""VideoAlign: what the judge is shown, and its adapters and head on a tiny Qwen2-VL against PEFT's own."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.clip import Clip, Video
from avbench.errors import NotApplicable, SampleError, UserError
from avbench.features import Context
from avbench.metrics import videoalign as family
from avbench.metrics.encoders import videoalign
from avbench.registry import metrics
from tests.metrics.alignment import synthetic

PROMPT = "Rate. Text - {text_prompt} VQ: <|VQ_reward|> MQ: <|MQ_reward|> TA: <|TA_reward|>"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
CONFIG: dict[str, Any] = {
    "model_type": "qwen2_vl", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 999, "max_position_embeddings": 4096,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}, "tie_word_embeddings": True,
    "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2},
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "peft_lora_config": {"lora_r": 4, "lora_alpha": 8},
    "inference_config": {"VQ_mean": 3.0, "VQ_std": 2.0, "MQ_mean": 1.0, "MQ_std": 0.5, "TA_mean": 0.0, "TA_std": 1.0},
}


def video(frames: int, fps: int, height: int = 64, width: int = 64) -> Video:
    return Video(np.zeros((frames, height, width, 3), np.uint8), np.arange(frames) / fps, Fraction(fps))


@pytest.mark.parametrize(
    ("frames", "fps", "count"),
    [(96, 24, 8), (125, 25, 10), (240, 24, 20), (24, 24, 4), (3, 24, 2), (2, 8, 2), (49, 16, 6)],
)
def test_two_frames_a_second_in_even_numbers(frames: int, fps: int, count: int) -> None:
    assert family.frame_count(video(frames, fps)) == count


def test_one_frame_is_too_few() -> None:
    with pytest.raises(SampleError, match="too_short"):
        family.frame_count(video(1, 24))


@pytest.mark.parametrize(
    ("size", "to"),
    [((240, 426), (252, 420)), ((720, 1280), (336, 588)), ((480, 768), (336, 560)), ((100, 100), (336, 336))],
)
def test_sides_are_multiples_of_28(size: tuple[int, int], to: tuple[int, int]) -> None:
    assert family.frame_size(*size) == to
    assert family.SMALLEST <= to[0] * to[1] <= family.LARGEST


def test_the_question_is_frames_and_prompt() -> None:
    frames, prompt = family.Question()(synthetic(240, 426), "a dog")
    assert frames.shape == (8, 252, 420, 3) and frames.dtype == np.uint8 and prompt == "a dog"
    with pytest.raises(NotApplicable, match="no_text"):
        family.Question()(synthetic(240, 426), "")


def test_patches_follow_each_other_as_transformers_lays_them() -> None:
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 56, 84), dtype=np.uint8))
    processor = Qwen2VLVideoProcessor(cap_pixels_per_frame=False)
    expected = processor(videos=[frames], do_resize=False, do_sample_frames=False, return_tensors="pt")
    mean, std = (torch.tensor(c)[:, None, None] for c in (videoalign.MEAN, videoalign.STD))
    rows, grid = videoalign.patches((frames.float() / 255 - mean) / std)
    torch.testing.assert_close(rows, expected["pixel_values_videos"])
    assert torch.equal(grid, expected["video_grid_thw"]) and grid.tolist() == [[3, 4, 6]]


def test_only_the_published_prompt_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "prompt_template.py"
    path.write_text(f"{videoalign.TEMPLATE} = {PROMPT!r}\n")
    with pytest.raises(UserError, match="which is not published"):
        videoalign.template(path)
    path.write_text("def broken(:\n")
    with pytest.raises(UserError, match="not VideoAlign's file"):
        videoalign.template(path)


# --- the reward model ---


def tokenizer(path: Path) -> int:
    """A tokenizer of bytes with Qwen2-VL's special tokens; how many tokens it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    made.save(str(path))
    return made.get_vocab_size()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Checkpoint folders with the names of PEFT and transformers 4.45, and the PEFT model they were taken from."""
    peft = pytest.importorskip("peft")
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    root = tmp_path_factory.mktemp("videoalign")
    qwen, reward = root / "qwen", root / "reward"
    (reward / "checkpoint-12").mkdir(parents=True)
    (reward / "checkpoint-3").mkdir()
    qwen.mkdir()
    words = tokenizer(qwen / "tokenizer.json") + len(videoalign.REWARDS)
    (qwen / "config.json").write_text(json.dumps(CONFIG))
    (reward / "model_config.json").write_text(json.dumps(SETTINGS))
    torch.manual_seed(0)
    base = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict({**CONFIG, "vocab_size": words}))
    lora = peft.LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*(proj)", init_lora_weights=False)
    model = peft.get_peft_model(base, lora).eval()
    head = torch.randn(1, 32)
    state = {"base_model.model.rm_head.weight": head}
    for key, value in model.state_dict().items():
        old = key.replace(".model.model.visual.", ".model.visual.").replace(".model.language_model.", ".model.")
        state[old] = value.clone()
    torch.save(state, reward / "checkpoint-12" / "model.pth")
    return root, (model, head, state)


def test_names_of_the_training_code_become_ours(folder: tuple[Path, Any]) -> None:
    _, (_, _, state) = folder
    old = "base_model.model.model.layers.0.self_attn.q_proj"
    assert f"{old}.base_layer.weight" in state and f"{old}.lora_A.default.weight" in state
    assert videoalign.renamed(f"{old}.base_layer.weight") == "language_model.layers.0.self_attn.q_proj.weight"
    assert videoalign.renamed("base_model.model.visual.merger.mlp.0.bias") == "visual.merger.mlp.0.bias"
    assert videoalign.renamed("base_model.model.lm_head.weight") == ""


def test_hidden_states_are_peft_s(folder: tuple[Path, Any]) -> None:
    root, (reference, _, state) = folder
    config = json.loads((root / "qwen" / "config.json").read_text())
    model, _ = videoalign.build(state, config, videoalign.scaling(SETTINGS), torch.float32)
    words = torch.randn(1, 11, 32, generator=torch.Generator().manual_seed(1))
    places = torch.arange(11).expand(3, 1, -1)
    rows, grid = videoalign.patches(torch.randn(4, 3, 56, 56, generator=torch.Generator().manual_seed(2)))
    inner: Any = reference.base_model.model.model
    with torch.inference_mode():
        ours = model.language_model(inputs_embeds=words, position_ids=places)[0]
        theirs = inner.language_model(inputs_embeds=words, position_ids=places)[0]
        plain = model.visual(rows, grid_thw=grid)[0], inner.visual(rows, grid_thw=grid)[0]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*plain)


def test_rewards_come_from_the_three_tokens(folder: tuple[Path, Any], tmp_path: Path, monkeypatch: Any) -> None:
    root, (reference, head, _) = folder
    monkeypatch.setattr(videoalign, "PUBLISHED", hashlib.sha256(PROMPT.encode()).hexdigest())
    prompts = tmp_path / "prompt_template.py"
    prompts.write_text(f"{videoalign.TEMPLATE} = {PROMPT!r}\n")
    paths = {"videoreward": root / "reward", "qwen2_vl_2b": root / "qwen", "videoalign_prompts": prompts}
    context = Context(torch.device("cpu"), torch.float32, paths)
    judge = videoalign.Judge(context)
    assert judge.head.weight.dtype == torch.bfloat16
    adapters = [one for one in judge.model.modules() if isinstance(one, videoalign.Adapted)]
    assert len(adapters) == 14 and adapters[0].get_buffer("down").dtype == torch.float32

    frames = np.random.default_rng(0).integers(0, 256, (4, 56, 84, 3), dtype=np.uint8)
    answer = videoalign.judge(context)((frames, "a {dog}"))
    ids = judge.ids("a {dog}", 12)
    assert (ids == judge.tokenizer.token_to_id("<|video_pad|>")).sum() == 12
    assert "Text - a {dog} VQ:" in judge.tokenizer.decode(ids.tolist())
    assert [int((ids == token).sum()) for token in judge.rewards] == [1, 1, 1]

    inner: Any = reference.base_model.model.model
    mean, std = (torch.tensor(c) for c in (videoalign.MEAN, videoalign.STD))
    rows, grid = videoalign.patches(((torch.from_numpy(frames) / 255 - mean) / std).movedim(-1, 1))
    with torch.inference_mode():
        words = inner.language_model.embed_tokens(ids)
        seen = inner.visual(rows, grid_thw=grid)
        words[ids == judge.tokenizer.token_to_id("<|video_pad|>")] = getattr(seen, "pooler_output", seen)
        places = torch.arange(len(ids)).expand(3, 1, -1)
        hidden = inner.language_model(inputs_embeds=words[None], position_ids=places)[0][0]
    expected = torch.stack([hidden[ids == token][0] @ head[0] for token in judge.rewards]).numpy()
    np.testing.assert_allclose(answer["raw"], expected, atol=0.15 * np.abs(expected).max())  # bfloat16 against float32
    np.testing.assert_allclose(answer["calibrated"], (answer["raw"] - [3, 1, 0]) / [2, 0.5, 1], rtol=1e-5)
    assert metrics.get("videoalign_mq").score(answer) == pytest.approx((answer["raw"][1] - 1) / 0.5, rel=1e-5)
    assert metrics.get("videoalign_vq@javisbench").score(answer) == answer["raw"][0]


def test_what_is_missing_or_left_over_is_named(folder: tuple[Path, Any], tmp_path: Path) -> None:
    root, (_, _, state) = folder
    config = json.loads((root / "qwen" / "config.json").read_text())

    def refused(changed: dict[str, torch.Tensor], match: str) -> None:
        with pytest.raises(UserError, match=match):
            videoalign.build(changed, config, 2.0)

    layer = "base_model.model.model.layers.1.mlp.up_proj"
    refused({key: value for key, value in state.items() if "rm_head" not in key}, "rm_head")
    refused({key: value for key, value in state.items() if key != f"{layer}.base_layer.weight"}, r"lacks: .*up_proj")
    refused({key: value for key, value in state.items() if key != f"{layer}.lora_A.default.weight"}, "half an adapter")
    refused({**state, "base_model.model.surprise": torch.ones(1)}, "surprise")
    with pytest.raises(UserError, match="no checkpoint-STEP"):
        videoalign.newest(tmp_path)
    assert videoalign.newest(root / "reward").parent.name == "checkpoint-12"


def test_scale_of_the_adapters() -> None:
    assert videoalign.scaling({"peft_lora_config": {"lora_r": 64, "lora_alpha": 128}}) == 2
    assert videoalign.scaling({"peft_lora_config": {"lora_r": 64, "lora_alpha": 128, "use_rslora": True}}) == 16


def test_a_clip_without_video_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="no_video"):
        family.Question()(Clip(), "a dog")
