"""VideoPhy: how answers are read, the whole path on a tiny random judge, and its front end against the reference."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.errors import NotApplicable, SampleError, UserError
from avbench.features import Context
from avbench.metrics import videophy as family
from avbench.metrics.encoders import owl, videophy
from avbench.metrics.encoders.loading import fill
from avbench.registry import metrics
from tests.hashed import close, hashed
from tests.metrics.alignment import synthetic
from tests.metrics.quality import arrays, compute, score, weights

TINY = owl.Size(owl.VisionSize(64, 128, 2, 4, 56), owl.AbstractorSize(64, 128, 2, 4, 64), 8, 48)
PROMPT = "A person asks.\nHuman: <|video|>\nHuman: {} Answer 1 to 5.\nAI: "
PROMPTS = {"PROMPT_SA": PROMPT.format('Is this "{caption}"?'), "PROMPT_PHYSICS": PROMPT.format("Is it {physical}?")}


def said(text: str, digits: tuple[float, ...] = (0, 0, 0, 0, 0)) -> family.Answer:
    return {"answer": np.frombuffer(text.encode(), np.uint8), "digits": np.array(digits, np.float32)}


# --- answers ---


@pytest.mark.parametrize(
    ("text", "robust", "released"),
    [
        ("4", 4, 4), (" 5 ", 5, 5), ("Four.", 4, 4), ("3/5", 3, 3), ("4.0", 4, 0), ("none", None, 1), ("", None, 0),
        ("Score: 2 out of 5", 2, 2), ("2 of five", 2, 5), ("10", None, 0), ("4.5", None, 4), ("0", None, 0),
        ("someone", None, 1), ("five or four", 5, 4), ("7", None, 0), ("I would say 3, not 1", 3, 1),
    ],
)  # fmt: skip
def test_the_robust_reading_and_the_released_one(text: str, robust: int | None, released: int) -> None:
    assert family.read_released(text) == released
    if robust is None:
        with pytest.raises(SampleError, match="unreadable"):
            family.read(text)
    else:
        assert family.read(text) == robust


def test_scores_of_answers() -> None:
    found = metrics.get("videophy2_sa").score(said("4", (0.1, 0.1, 0.2, 0.5, 0.1)))
    assert found[""] == 4 and found["expected"] == pytest.approx(0.1 + 0.2 + 0.6 + 2.0 + 0.5)
    assert metrics.get("videophy2_pc").score(said("four")) == {"": 4.0}
    joint = metrics.get("videophy2_joint")
    assert [joint.score(said(a), said(b)) for a, b in [("4", "5"), ("3", "5"), ("5", "3")]] == [1, 0, 0]
    assert metrics.get("videophy2_joint@videophy2").score(said("4.0"), said("5")) == 0
    with pytest.raises(SampleError, match="unreadable"):
        joint.score(said("4"), said("none"))


# --- prompts ---


def test_only_published_prompts_are_asked(tmp_path: Path) -> None:
    path = write_prompts(tmp_path)
    with pytest.raises(UserError, match=r"PROMPT_SA or PROMPT_VTA has sha256 [0-9a-f]{64}, which is not published"):
        videophy.prompts(path)
    path.write_text("import os\nPROMPT_SA = os.name\n")
    with pytest.raises(UserError, match="not VideoPhy's file of prompts"):
        videophy.prompts(path)


def test_pieces_lose_nothing() -> None:
    text = "a\nHuman: b\nAI: \nHuman: AI: "
    found = videophy.pieces(text, ("AI: ", "\nHuman: "))
    assert found == ["a", "\nHuman: ", "b\n", "AI: ", "\nHuman: ", "AI: "] and "".join(found) == text


# --- the front end ---


@pytest.mark.parity
def test_the_front_end_is_the_reference_s() -> None:
    model = fill(lambda: owl.FrontEnd(TINY), weights("videophy_owl_tiny"), what="tiny")
    video = torch.from_numpy(hashed("input:owl.video", (1, 3, 6, 56, 56))).transpose(1, 2)
    with torch.inference_mode():
        tokens = model.vision_model(video)
        words = model.read(tokens)
    assert close(tokens.numpy(), arrays()["videophy_owl_tiny.vision"])
    assert close(words.numpy(), arrays()["videophy_owl_tiny.abstractor"])


def test_sizes_come_from_the_configuration() -> None:
    assert owl.Size.of({}) == owl.Size()
    config = {"vision_config": {"hidden_size": 64, "use_flash_attn": False}, "text_config": {"hidden_size": 48}}
    assert owl.Size.of(config) == owl.Size(owl.VisionSize(hidden_size=64), language=48)
    assert owl.AbstractorSize().gated_size == 2816


def test_real_sizes_have_real_shapes() -> None:
    with torch.device("meta"):
        model = owl.FrontEnd(owl.Size())
        words = model(torch.empty(1, 32, 3, 224, 224))
    assert words.shape == (1, 65, 4096)
    assert model.vision_model.embeddings.position_embedding.shape == (1, 257, 1024)
    assert model.abstractor.encoder.layers[5].crossattention.output.mlp.w1.weight.shape == (2816, 1024)


# --- the whole path ---


def tokenizer() -> bytes:
    """A LLaMA-like SentencePiece model: bytes as a fallback, digits apart, a space before every text."""
    sentencepiece = pytest.importorskip("sentencepiece")
    words = ["Yes No Human AI Answer person video"] * 20 + [PROMPT, "0 1 2 3 4 5"] * 20
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=stream, vocab_size=330, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    )  # fmt: skip
    return stream.getvalue()


CONFIG: dict[str, Any] = {
    "num_query_tokens": 8,
    "vision_config": {**vars(TINY.vision), "image_size": 224, "patch_size": 56},
    "visual_abstractor_config": vars(TINY.abstractor),
    "text_config": {
        "model_type": "llama", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 330, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
        "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


def write_prompts(folder: Path) -> Path:
    path = folder / "template.py"
    path.write_text("".join(f"{name} = {text!r}\n" for name, text in PROMPTS.items()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judge(tmp_path_factory.mktemp("made"))


def write_judge(parent: Path) -> Path:
    """A checkpoint in two shards with the real names and tiny sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    found = parent / "videophy"
    found.mkdir()
    (found / "tokenizer.model").write_bytes(tokenizer())
    (found / "config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    language = LlamaForCausalLM(LlamaConfig(**CONFIG["text_config"])).state_dict()
    front = {key: torch.randn(one.shape) / 8 for key, one in owl.FrontEnd(owl.Size.of(CONFIG)).state_dict().items()}
    state = {**front, **{f"language_model.{key}": 4 * value for key, value in language.items()}}
    state = {key: value.bfloat16() for key, value in state.items()}
    state["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    where = {key: names[index % 2] for index, key in enumerate(state)}
    for name in names:
        torch.save({key: value for key, value in state.items() if where[key] == name}, found / name)
    (found / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return found


@pytest.fixture
def context(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    digests = {hashlib.sha256(text.encode()).hexdigest(): "test" for text in PROMPTS.values()}
    monkeypatch.setattr(videophy, "PUBLISHED", digests)
    prompts = write_prompts(tmp_path)
    paths = {"videophy2_auto": folder, "videophy2_prompts": prompts}
    return Context(
        torch.device("cpu"), torch.float32, {**paths, "videophy1_judge": folder, "videophy1_prompts": prompts}
    )


def only(context: Context, name: str) -> Context:
    return replace(context, weights={name: context.weights[name]})


def test_both_judges_from_frames_to_scores(context: Context) -> None:
    networks = {
        family.EYES_2: videophy.eyes(only(context, "videophy2_auto")),
        family.EYES_1: videophy.eyes(only(context, "videophy1_judge")),
        family.JUDGE_2: videophy.judge2(context),
        family.JUDGE_1: videophy.judge1(context),
    }
    clip = synthetic(64, 96, frames=40)
    seen = compute(family.SA_2.view.requires[0], clip, networks, {})
    assert seen.shape == (1, 9, 48) and np.isfinite(seen).all()
    answers = [compute(family.SA_2, clip, networks, {"video_text": caption}) for caption in ("a dog", "a cat", "a dog")]
    assert family.text_of(answers[0]) == family.text_of(answers[2])
    assert all(answer["digits"].sum() == pytest.approx(1) or not answer["digits"].any() for answer in answers)
    yes = [score("videophy1_sa", clip, networks, video_text=text) for text in ("a dog", "a cat", "a dog")]
    assert yes[0] == yes[2] != yes[1] and all(0 < one < 1 for one in yes)
    assert score("videophy1_pc", clip, networks) == score("videophy1_pc", clip, networks, video_text="a dog")
    assert score("videophy2_sa@videophy2", clip, networks, video_text="a dog") in range(6)
    with pytest.raises(NotApplicable, match="video_text"):
        score("videophy2_sa", clip, networks)


def test_the_answer_is_the_greedy_one_after_prompt_and_video(context: Context) -> None:
    """Word by word, with the whole sequence read anew each time, in place of the cached generation."""
    reader = videophy.Reader(context, "videophy2_auto", "videophy2_prompts")
    seen = np.random.default_rng(0).standard_normal((9, 48)).astype(np.float32)
    first, second = '"{caption}"?'.join(PROMPTS["PROMPT_SA"].split('"{caption}"?')).split("<|video|>")
    ids = [1, *reader.tokenizer.encode(first)], reader.tokenizer.encode(second.replace("{caption}", "{dog}"))
    table = reader.model.get_input_embeddings().weight
    vectors = torch.cat([table[ids[0]], torch.from_numpy(seen).bfloat16(), table[ids[1]]])[None]
    assert torch.equal(reader.embed(seen, "sa", "{dog}", ()), vectors)
    tokens: list[int] = []
    with torch.inference_mode():
        for _ in range(6):
            grown = torch.cat([vectors, table[tokens][None]], dim=1)
            tokens.append(int(reader.model(inputs_embeds=grown).logits[0, -1].argmax()))
    judged = videophy.judge2(context)(("sa", seen, "{dog}"))
    assert min(tokens) > 2
    assert family.text_of(judged).startswith(reader.tokenizer.decode(tokens))


def test_a_prompt_that_is_too_long_is_a_failure(context: Context) -> None:
    seen = np.zeros((9, 48), np.float32)
    with pytest.raises(SampleError, match=r"prompt\.too_long"):
        videophy.judge2(context)(("sa", seen, "dog " * 400))
    with pytest.raises(SampleError, match=r"prompt\.too_long"):
        videophy.judge1(context)(("sa", seen, "dog " * 200))


def test_a_whole_file_loads_like_shards(folder: Path, context: Context, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    whole = tmp_path / "whole"
    whole.mkdir()
    for name in ("config.json", "tokenizer.model"):
        (whole / name).write_bytes((folder / name).read_bytes())
    state = {key: value for shard in videophy.shards(folder) for key, value in shard.items()}
    save_file(state, whole / "model.safetensors")
    one, two = (videophy.language_model(path, context).state_dict() for path in (folder, whole))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    save_file({**state, "language_model.surprise": torch.ones(2)}, whole / "model.safetensors")
    with pytest.raises(UserError, match="surprise"):
        videophy.language_model(whole, context)
    save_file({k: v for k, v in state.items() if "lm_head" not in k}, whole / "model.safetensors")
    with pytest.raises(UserError, match="lacks: lm_head"):
        videophy.language_model(whole, context)
    save_file({**state, "surprise": torch.ones(2)}, whole / "model.safetensors")
    with pytest.raises(UserError, match="surprise"):
        videophy.eyes(replace(context, weights={"videophy2_auto": whole}))
    (whole / "model.safetensors").unlink()
    with pytest.raises(UserError, match="neither"):
        videophy.language_model(whole, context)


def test_an_index_cannot_point_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../b.bin"}}))
    with pytest.raises(UserError, match="not a file beside it"):
        list(videophy.shards(tmp_path))


def test_parameters_follow_the_device_map() -> None:
    places = {"model.embed_tokens": 0, "model.layers.1": 0, "model.layers.10": 1, "model.norm": "cpu", "lm_head": 1}
    assert videophy.place_of("model.layers.10.mlp.up_proj.weight", places) == 1
    assert videophy.place_of("model.layers.1.mlp.up_proj.weight", places) == 0
    assert videophy.place_of("model.norm.weight", places) == "cpu"
    assert videophy.place_of("anything", {"": "cpu"}) == "cpu"


def test_a_device_map_gives_the_same_answers(context: Context) -> None:
    seen = np.ones((9, 48), np.float32)
    spread = replace(context, options={"device_map": "auto"})
    one, two = (videophy.judge1(each)(("pc", seen, "")) for each in (context, spread))
    assert np.array_equal(one, two)
