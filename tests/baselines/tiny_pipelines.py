"""The real pipelines of diffusers with tiny random parts, saved in diffusers' layout for `from_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

WORDS = {"[PAD]": 0, "[EOS]": 1, "[UNK]": 2, "a": 3, "ball": 4, "drops": 5}
T5 = {"vocab_size": 8, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", model_max_length=8
    )


def wan(folder: Path) -> Path:
    """WanPipeline: latents of 4 channels, 4 frames and 8 pixels to one."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=32,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    encoder = UMT5EncoderModel(UMT5Config(**T5)).eval()
    return saved(diffusers.WanPipeline(tokenizer(), encoder, vae, scheduler, transformer), folder)


def stable_audio(folder: Path) -> Path:
    """StableAudioPipeline; its published scheduler needs torchsde, its deterministic sibling does not."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=4, downsampling_ratios=[4, 8], decoder_channels=4, decoder_input_channels=4,
        audio_channels=2, channel_multiples=[1, 2], sampling_rate=4000,
    )  # fmt: skip
    transformer = diffusers.StableAudioDiTModel(
        sample_size=256, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        num_key_value_attention_heads=2, cross_attention_dim=16, time_proj_dim=8, global_states_input_dim=32,
        cross_attention_input_dim=16,
    )  # fmt: skip
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": T5EncoderModel(T5Config(**T5)).eval(),
        "projection_model": StableAudioProjectionModel(16, 16, 0, 8),
        "tokenizer": tokenizer(),
        "transformer": transformer,
        "scheduler": diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=50, sigma_data=1.0, prediction_type="v_prediction", sigma_schedule="exponential"
        ),
    }
    return saved(diffusers.StableAudioPipeline(**parts), folder)


def saved(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder
