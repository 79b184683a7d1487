"""CLAP: loading of three public formats, the front ends, and JavisBench's CLAP score on real clips."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip
from avbench.errors import NotApplicable, SampleError, UserError
from avbench.features import Context
from avbench.metrics import clap as family
from avbench.metrics.encoders import clap
from tests.hashed import close, hashed, hashed_state_dict
from tests.metrics.alignment import CLIPS, GOLDENS, decode, golden, scores, synthetic

KEYS: dict[str, list[int]] = json.loads((GOLDENS / "clap_htsat_unfused_keys.json").read_text())
Shapes = dict[str, tuple[int, ...]]


@cache
def hashed_checkpoint() -> dict[str, torch.Tensor]:
    return hashed_state_dict(KEYS)


def htsat(dim: int, depths: tuple[int, ...]) -> Shapes:
    """Keys and shapes of an HTSAT under its authors' names."""
    found: Shapes = {f"bn0.{leaf}": (64,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    found |= {"patch_embed.proj.weight": (dim, 1, 4, 4), "patch_embed.proj.bias": (dim,)}
    found |= norm("patch_embed.norm", dim)
    for stage, (depth, heads) in enumerate(zip(depths, (4, 8, 16, 32))):
        width = dim * 2**stage
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            found |= norm(f"{at}.norm1", width) | norm(f"{at}.norm2", width)
            found |= linear(f"{at}.attn.qkv", width, 3 * width) | linear(f"{at}.attn.proj", width, width)
            found |= linear(f"{at}.mlp.fc1", width, 4 * width) | linear(f"{at}.mlp.fc2", 4 * width, width)
            found[f"{at}.attn.relative_position_bias_table"] = (225, heads)
        if stage < 3:
            at = f"layers.{stage}.downsample"
            found |= norm(f"{at}.norm", 4 * width) | {f"{at}.reduction.weight": (2 * width, 4 * width)}
    found |= norm("norm", 8 * dim) | linear("head", 527, 527)
    return found | {"tscam_conv.weight": (527, 8 * dim, 2, 3), "tscam_conv.bias": (527,)}


def norm(at: str, width: int) -> Shapes:
    return {f"{at}.weight": (width,), f"{at}.bias": (width,)}


def linear(at: str, width: int, out: int) -> Shapes:
    return {f"{at}.weight": (out, width), f"{at}.bias": (out,)}


def numbered(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Weights drawn by the place of each key in sorted order, the recipe of the published HTSAT-base figures."""
    found = {}
    for index, key in enumerate(sorted(shapes)):
        draw = np.random.RandomState(index).randn(*shapes[key])
        if len(shapes[key]) == 1 and key.endswith("weight"):
            draw = 1 + 0.1 * draw
        elif key.endswith("running_var"):
            draw = 1 + 0.1 * np.abs(draw)
        else:
            draw = 0.02 * draw
        found[key] = torch.from_numpy(draw.astype(np.float32))
    return found


def signal(rate: int, seconds: float) -> np.ndarray:
    """A tone, a rising tone and noise."""
    t = np.arange(int(rate * seconds)) / rate
    noise = np.random.RandomState(7).randn(len(t))
    wave = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * noise
    return wave.astype(np.float32)


def sound(wave: np.ndarray, rate: int) -> Clip:
    return Clip(None, Audio(np.atleast_2d(wave), rate))


def test_every_key_is_consumed_and_none_is_left_over() -> None:
    state = {key: torch.zeros(shape) for key, shape in KEYS.items()}
    kept = {key for key in KEYS if not key.endswith(clap.INDEX_BUFFERS) and not key.startswith("logit_scale")}
    towers = [clap.build_audio(state).state_dict().keys(), clap.build_text(state).state_dict().keys()]
    assert {key for tower in towers for key in tower if not key.endswith(clap.INDEX_BUFFERS)} == kept
    with pytest.raises(UserError, match=r"audio_projection\.linear1\.bias"):
        clap.build_audio({key: value for key, value in state.items() if key != "audio_projection.linear1.bias"})
    with pytest.raises(UserError, match="surprise"):
        clap.build_text({**state, "text_model.surprise": torch.zeros(3)})
    with pytest.raises(UserError, match="fused"):
        clap.build_audio({**state, "audio_model.audio_encoder.patch_embed.fusion_model.x": torch.zeros(3)})
    with pytest.raises(UserError, match="not a CLAP checkpoint"):
        clap.build_text({"weight": torch.zeros(3)})


def test_front_end_of_laion_clap() -> None:
    """Published for torchlibrosa: 8 s of the signal, zero-padded to 10 s."""
    mel = family.log_mel(np.pad(signal(48000, 8), (0, 96000)), family.LAION_HOP, family.LAION_RATE)
    assert mel.shape == (1001, 64)
    assert [mel.mean(), mel.std(), mel[0, 0], mel[-1, -1]] == pytest.approx(
        [-31.469547, 35.260711, 15.607237, -100.0], abs=1e-5
    )


def test_front_end_of_ms_clap() -> None:
    mel = family.MSMel()(sound(signal(44100, 7), 44100))[0]
    assert mel.shape == (965, 64)
    assert [mel.mean(), mel.std(), mel[0, 0], mel[-1, -1]] == pytest.approx(
        [-13.074730, 8.910749, 17.707668, -15.874357], abs=1e-5
    )


@pytest.mark.parity
def test_htsat_base_in_laions_names() -> None:
    """257 tensors, 71,341,207 values; the pooled embedding of the signal as published for the original network."""
    from transformers import ClapAudioModel

    shapes = htsat(128, (2, 2, 12, 2))
    assert len(shapes) == 257 and sum(int(np.prod(shape)) for shape in shapes.values()) == 71_341_207
    state = {f"module.audio_branch.{key}": value for key, value in numbered(shapes).items()}
    renamed = {
        key.removeprefix("audio_model."): value
        for key, value in clap.rename_laion(state).items()
        if key.startswith("audio_model.")
    }
    model = clap.fill(ClapAudioModel(clap.audio_config(renamed, "audio_encoder.")), renamed, "HTSAT-base")
    mel = family.log_mel(np.pad(signal(48000, 8), (0, 96000)), family.LAION_HOP, family.LAION_RATE)
    with torch.inference_mode():
        pooled = model(input_features=torch.from_numpy(mel)[None, None]).pooler_output[0].numpy()
    assert [pooled.mean(), pooled.std()] == pytest.approx([0.005181, 0.941422], abs=1e-5)
    assert pooled[[0, 1, 2, 3, -2, -1]] == pytest.approx(
        [-1.072078, 1.902134, 1.182266, 0.141511, 2.087800, 1.454297], abs=1e-5
    )


@pytest.mark.parity
def test_laions_format_is_the_same_network() -> None:
    """The hashed checkpoint under LAION's names gives what it gives under transformers' names."""
    state = hashed_checkpoint()
    as_laion = {f"module.{key}": value for key, value in to_laion(state).items()}
    mels = torch.from_numpy(hashed("input:mel", (1, 1001, 64)))
    ids = torch.tensor([[0, 5911, 36778, 2]])
    with torch.inference_mode():
        for build, embed in (
            (clap.build_audio, lambda model: clap.embed_audio(model, mels)),
            (clap.build_text, lambda model: clap.embed_text(model, ids, torch.ones_like(ids))),
        ):
            assert torch.equal(embed(build(state)), embed(build(clap.rename_laion(as_laion))))


def to_laion(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names back to LAION's."""
    import re

    found: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key.startswith("audio_model.audio_encoder."):
            name = key.replace("audio_model.audio_encoder.", "audio_branch.").replace("batch_norm.", "bn0.")
            name = name.replace("attention.output.dense", "attn.proj").replace("attention.self.", "attn.")
            name = name.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
            name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
            if match := re.fullmatch(r"(.*attn\.)query(\..*)", name):
                parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
                found[f"{match[1]}qkv{match[2]}"] = torch.cat(parts)
            elif "attn.key" not in name and "attn.value" not in name:
                found[name] = value
        elif key.startswith("text_model."):
            found[key.replace("text_model.", "text_branch.")] = value
        elif match := re.fullmatch(r"(audio|text)_projection\.linear([12])\.(\w+)", key):
            found[f"{match[1]}_projection.{2 * int(match[2]) - 2}.{match[3]}"] = value
    return found


def ms_shapes(width: int = 64, layers: int = 2) -> Shapes:
    found = {f"audio_encoder.base.htsat.{key}": shape for key, shape in htsat(32, (2, 2, 2, 2)).items()}
    found |= {"caption_encoder.base.wte.weight": (100, width), "caption_encoder.base.wpe.weight": (80, width)}
    for layer in range(layers):
        at = f"caption_encoder.base.h.{layer}"
        found |= norm(f"{at}.ln_1", width) | norm(f"{at}.ln_2", width)
        for name, out in (("attn.c_attn", 3 * width), ("attn.c_proj", width), ("mlp.c_fc", 4 * width)):
            found |= {f"{at}.{name}.weight": (width, out), f"{at}.{name}.bias": (out,)}
        found |= {f"{at}.mlp.c_proj.weight": (4 * width, width), f"{at}.mlp.c_proj.bias": (width,)}
        found[f"{at}.attn.bias"] = (1, 1, 80, 80)
    found |= norm("caption_encoder.base.ln_f", width)
    for tower, inner in (("audio", 256), ("caption", width)):
        at = f"{tower}_encoder.projection"
        found |= {f"{at}.linear1.weight": (16, inner), f"{at}.linear2.weight": (16, 16)} | norm(f"{at}.layer_norm", 16)
    return found | {"logit_scale": ()}


def test_ms_clap_reads_its_own_names() -> None:
    """A small one; the projection and the place of reading are checked against their formulas."""
    state = {key: torch.from_numpy(np.asarray(hashed(key, shape))) for key, shape in ms_shapes().items()}
    audio, text = clap.MSAudio(state).eval(), clap.MSText(state).eval()
    ids = torch.tensor([[5, 7, 9, 0, 0], [5, 7, 9, 11, 0]])
    with torch.inference_mode():
        assert audio(torch.from_numpy(hashed("input:ms", (2, 965, 64)))).shape == (2, 16)
        hidden = text.base(input_ids=ids).last_hidden_state[torch.arange(2), torch.tensor([2, 3])]
        e = hidden @ state["caption_encoder.projection.linear1.weight"].T
        inner = e + torch.nn.functional.gelu(e) @ state["caption_encoder.projection.linear2.weight"].T
        gain, shift = (state[f"caption_encoder.projection.layer_norm.{leaf}"] for leaf in ("weight", "bias"))
        expected = torch.nn.functional.layer_norm(inner, (16,), gain, shift)
        assert torch.allclose(text(ids), expected, atol=1e-5)
        shorter = text(torch.tensor([[5, 7, 9]]))
        assert torch.allclose(text(ids)[:1], shorter, atol=1e-5), "what comes after the end must not matter"


def word_tokenizer(path: Path, special: dict[str, int]) -> Path:
    """A tokenizer.json of a few words, enough to drive the text loaders without the hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {**special, **{word: 10 + index for index, word in enumerate(["a", "dog", "barks", "at", "the", "sea"])}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if "<s>" in special:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    tokenizer.save(str(path))
    return path


def test_roberta_ids_are_padded_cut_and_masked(tmp_path: Path) -> None:
    path = word_tokenizer(tmp_path / "tokenizer.json", {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3})
    tokenizer = clap.read_tokenizer(path)
    ids, mask = clap.roberta_ids(tokenizer, ["a dog barks", "a dog"], 77)
    assert ids.tolist() == [[0, 10, 11, 12, 2], [0, 10, 11, 2, 1]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    cut, _ = clap.roberta_ids(tokenizer, ["dog " * 500], 77)
    assert cut.shape == (1, 77) and cut[0, -1] == 2


def test_gpt2_ids_end_with_the_end_of_text(tmp_path: Path) -> None:
    path = word_tokenizer(tmp_path / "tokenizer.json", {"!": 0, "<|endoftext|>": 9, "<unk>": 3})
    ids = clap.gpt2_ids(clap.read_tokenizer(path), ["a dog barks"])
    assert ids.shape == (1, 77) and ids[0, :5].tolist() == [10, 11, 12, 9, 0]


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        clap.read_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        clap.read_folder(tmp_path)


@pytest.mark.heavy
def test_loaders_read_a_published_folder(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(hashed_checkpoint(), tmp_path / "model.safetensors")
    word_tokenizer(tmp_path / "tokenizer.json", {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3})
    (tmp_path / "config.json").write_text('{"text_config": {"layer_norm_eps": 1e-12}}')
    context = Context(torch.device("cpu"), torch.float32, {"clap_htsat_unfused": tmp_path})
    with torch.inference_mode():
        texts = clap.htsat_text(context)(["a dog barks", "a dog"])
        alone = clap.htsat_text(context)(["a dog"])
        sounds = clap.htsat_audio(context)(torch.from_numpy(hashed("input:mel", (1, 1001, 64))))
    assert torch.allclose(texts[1], alone[0], atol=1e-5), "padding must not change a text"
    assert torch.allclose(torch.cat([texts, sounds]).norm(dim=-1), torch.ones(3), atol=1e-5)


def test_shorter_and_longer_audio() -> None:
    ramp = np.arange(3, dtype=np.float32) + 1
    assert family.fitted(ramp, 8, "repeat", "centre").tolist() == [1, 2, 3, 1, 2, 3, 0, 0]
    assert family.fitted(ramp, 8, "zero", "centre").tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert family.fitted(np.arange(10), 4, "repeat", "centre").tolist() == [3, 4, 5, 6]
    seeded = family.fitted(np.arange(482304), 480000, "repeat", "seeded")
    assert len(seeded) == 480000 and seeded[0] == 1653
    assert family.fitted(np.arange(4), 4, "repeat", "seeded").tolist() == [0, 1, 2, 3]


def test_channels_one_after_the_other() -> None:
    left, right = signal(44100, 2), np.zeros(88200, dtype=np.float32)
    stereo = family.MSMel()(sound(np.stack([left, right]), 44100))
    joined = family.MSMel()(sound(np.concatenate([left, right]), 44100))
    assert np.array_equal(stereo, joined)


def test_audio_that_is_not_there() -> None:
    with pytest.raises(NotApplicable, match="no_audio"):
        family.ClapMel()(Clip(synthetic(frames=2).video, None))
    with pytest.raises(SampleError, match=r"audio\.empty"):
        family.ClapMel()(sound(np.zeros(0, dtype=np.float32), 48000))


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", ["3qes", "ZYc4", "ovi"])
def test_javisbench_clap_score(name: str) -> None:
    """Clips whose wav was taken from the mp4 that is here; those of `universe1` shipped another wav beside it."""
    one, expected = decode(name, video=False), scores()["clap_score"][name]
    mel = family.ClapScoreJavisBench.audio.view(one)
    places = np.linspace(0, mel.size - 1, 32).astype(int)
    assert mel.ravel()[places] == pytest.approx(expected["input_features"]["sample32"], abs=1e-3)
    ids = torch.tensor([expected["input_ids"]])
    with torch.inference_mode():
        audio = clap.embed_audio(clap.build_audio(hashed_checkpoint()), torch.from_numpy(mel)).numpy()
        text = clap.embed_text(clap.build_text(hashed_checkpoint()), ids, torch.ones_like(ids)).numpy()
    assert close(audio[0], golden(f"clap_audio_{name}"))
    assert close(text[0], golden(f"clap_text_{name}"))
    assert family.ClapScoreJavisBench().score(audio, text) == pytest.approx(expected["score"], abs=2e-6)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("name", CLIPS)
def test_text_tower(name: str) -> None:
    ids = torch.tensor([scores()["clap_score"][name]["input_ids"]])
    with torch.inference_mode():
        text = clap.embed_text(clap.build_text(hashed_checkpoint()), ids, torch.ones_like(ids))
    assert close(text[0].numpy(), golden(f"clap_text_{name}"))
