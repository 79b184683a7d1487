"""Published autoencoders, text encoders and towers by `from_pretrained`, from tiny random folders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan, AutoencoderOobleck, WanTransformer3DModel
from transformers import (
    PreTrainedTokenizerFast,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from avbench.clip import Audio, Video
from avbench.errors import MissingResource, SampleError, UserError
from avbench.reference_models.catalogue import build, presets
from avbench.reference_models.codecs import LogMel, Pixels, audio_codec, resampled, sampled, silence, video_codec
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.training.conditions import Conditioner, T5Text, captions
from avbench.reference_models.training.config import ARMS, Pretrained, Text
from avbench.reference_models.training.start import begin_from

CPU = torch.device("cpu")


def ramp(count: int = 30, fps: int = 10, height: int = 20, width: int = 40) -> Video:
    """Every frame has its own grey."""
    greys = np.linspace(0, 250, count).astype(np.uint8)
    frames = np.broadcast_to(greys[:, None, None, None], (count, height, width, 3)).copy()
    return Video(frames, np.arange(count) / fps, Fraction(fps))


def tone(seconds: float = 2.0, rate: int = 16000) -> Audio:
    t = np.arange(int(seconds * rate)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * 440 * t) * (t > 0.5)).astype(np.float32)[None], rate)


def test_frames_are_those_shown_at_their_time() -> None:
    video = ramp()
    found = sampled(video, 5, Fraction(4), 20, 10)
    assert found.shape == (5, 10, 20, 3)
    assert [int(f[0, 0, 0]) for f in found] == [int(video.frames[i, 0, 0, 0]) for i in (0, 2, 5, 7, 10)]
    with pytest.raises(SampleError, match=r"codec\.short"):
        sampled(video, 20, Fraction(4), 20, 10)
    assert resampled(tone(1.0), 8000, 12000).shape == (1, 12000)


def test_pixels_come_back() -> None:
    codec = Pixels(frames=8, fps=Fraction(4), width=16, height=8, channels=3, show=2)
    latents = codec.encode(ramp(30, 10, 8, 16))
    assert latents.shape == (3, 8, 8, 16)
    back = codec.decode(latents)
    assert back.frames.shape == (8, 16, 32, 3)
    assert np.array_equal(back.frames[:, ::2, ::2], sampled(ramp(30, 10, 8, 16), 8, Fraction(4), 16, 8))


def test_decoded_sound_keeps_headroom() -> None:
    codec = LogMel()
    loud = codec.decode(np.full((64, 16), 4.0, np.float32)).samples
    assert 0.85 < np.abs(loud).max() <= 0.89 + 1e-6
    assert not codec.decode(codec.encode(silence(2.0))).samples.any()


def test_wan(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, latents_mean=[0.5] * 4, latents_std=[2.0] * 4
    )
    vae.save_pretrained(tmp_path / "repo" / "vae")
    table = {"kind": "wan", "repo": str(tmp_path / "repo"), "frames": 9, "fps": 10, "width": 32, "height": 16}
    codec = video_codec(table)
    latents = codec.encode(ramp())
    assert latents.shape == (4, 3, 2, 4)
    pixels = torch.from_numpy(sampled(ramp(), 9, Fraction(10), 32, 16)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected = (vae.eval().encode(pixels).latent_dist.mode()[0] - 0.5) / 2
    np.testing.assert_allclose(latents, expected.numpy(), atol=1e-5)
    assert codec.decode(latents).frames.shape == (9, 16, 32, 3)


def test_oobleck(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = AutoencoderOobleck(
        encoder_hidden_size=8, downsampling_ratios=[2, 4, 4], channel_multiples=[1, 2, 2], decoder_channels=8,
        decoder_input_channels=4, audio_channels=2, sampling_rate=8000,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    codec = audio_codec({"kind": "oobleck", "repo": str(tmp_path), "length": 1.0})
    latents = codec.encode(tone())
    assert latents.shape == (250, 4) and codec.seconds == 1.0
    back = codec.decode(latents)
    assert back.samples.shape == (2, 8000) and back.rate == 8000 and np.abs(back.samples).max() <= 1


def test_audioldm2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(8, 8, 8), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.4,
    ).save_pretrained(tmp_path / "vae")  # fmt: skip
    shape = {"model_in_dim": 64, "upsample_initial_channel": 16, "sampling_rate": 16000}
    rates = {"upsample_rates": [5, 4, 8], "upsample_kernel_sizes": [10, 8, 16]}
    SpeechT5HifiGan(SpeechT5HifiGanConfig(**shape, **rates)).save_pretrained(tmp_path / "vocoder")
    codec = audio_codec({"kind": "audioldm2", "repo": str(tmp_path), "length": 1.0})
    quiet, loud = codec.encode(silence(1.0)), codec.encode(tone())
    assert loud.shape == (4, 32, 16) and not np.array_equal(quiet, loud)
    assert codec.decode(loud).samples.shape == (1, 16000)


def tokenizer(folder: Path) -> None:
    """A word tokenizer with T5's special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["<pad>", "</s>", "<unk>", "a", "ball", "bounces"]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_text_of_t5(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 8, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5EncoderModel(T5Config(**shape)) if kind == "t5" else UMT5EncoderModel(UMT5Config(**shape))
    model.save_pretrained(tmp_path / "text_encoder")
    tokenizer(tmp_path / "tokenizer")
    text = Text(kind="t5", repo=str(tmp_path), folder="text_encoder", tokenizer="tokenizer", tokens=6)
    encode = T5Text(text, CPU)
    out, mask = encode(["a ball bounces", "a"])
    assert out.shape == (2, 6, 16) and mask.tolist() == [[True] * 3 + [False] * 3, [True] + [False] * 5]
    assert not out[~mask].any() and torch.equal(out, encode(["a ball bounces", "a"])[0])
    cond = Conditioner(text, text, ARMS["t2av"], False, CPU).null(2, 1.0)
    assert not cond.need("text_v").any()
    with pytest.raises(MissingResource, match="text encoder"):
        T5Text(Text(kind="t5", repo=str(tmp_path / "nothing")), CPU)


def test_towers_begin_with_public_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = WanTransformer3DModel(**presets("avfulldit")["nano"]["video"])
    other.save_pretrained(tmp_path / "transformer")
    model = build("avfulldit-nano")
    audio = {name: p.clone() for name, p in model.audio.state_dict().items()}
    begin_from(model, Pretrained(video=str(tmp_path)))
    assert all(torch.equal(p, other.state_dict()[name]) for name, p in model.video.state_dict().items())
    assert all(torch.equal(p, audio[name]) for name, p in model.audio.state_dict().items())
    with pytest.raises(UserError, match="does not fit"):
        begin_from(build("avfulldit-tiny"), Pretrained(video=str(tmp_path)))
    with pytest.raises(MissingResource, match=r"start\.audio"):
        begin_from(model, Pretrained(audio=str(tmp_path / "nothing")))


def test_captions_of_the_arms() -> None:
    row = {"text": "both", "video_text": "seen", "audio_text": "heard"}
    found = {arm: captions(row, ARMS[arm], False) for arm in ("t2av", "no-audio-caption", "t2v-audio-caption")}
    assert list(found.values()) == [("seen", "heard"), ("seen", ""), ("seen heard", "heard")]
    assert captions(row, ARMS["t2v"], True)[0] == captions(row, ARMS["t2av"], True)[0] == "both"
    assert captions(row, ARMS["no-audio-caption"], True)[0] == "seen"


def test_conditions_carry_the_length() -> None:
    cond = Conditioner(Text(), Text(), ARMS["t2v"], False, CPU)(
        [{"video_text": "a", "audio_text": "", "text": ""}], 2.5
    )
    assert isinstance(cond, Conditions) and cond.text_a is None and cond.need("seconds").tolist() == [2.5]
