"""The real pipelines of diffusers with tiny random parts, saved in diffusers' layout for `from_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

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


def audioldm2(folder: Path) -> Path:
    """AudioLDM2Pipeline: CLAP and T5, a GPT-2 between, mels of 8 bands."""
    torch.manual_seed(0)
    sentencepieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁ball", -1.0), ("▁drops", -1.0)]
    bytes_ = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abdloprs", "Ġ"])}
    clap = ClapConfig(
        text_config={
            "vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1,
            "num_hidden_layers": 1, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
            "max_position_embeddings": 64,
        },
        audio_config={
            "spec_size": 8, "window_size": 4, "num_mel_bins": 8, "patch_size": 2, "depths": [1],
            "num_attention_heads": [1], "num_hidden_layers": 1, "hidden_size": 32, "patch_stride": 2,
            "patch_embeds_hidden_size": 4, "projection_dim": 8,
        },
        projection_dim=8,
    )  # fmt: skip
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]], normalize_before=False,
    )  # fmt: skip
    parts: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=[8, 16], in_channels=1, out_channels=1, norm_num_groups=8, latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        ),
        "text_encoder": ClapModel(clap).eval(),
        "text_encoder_2": T5EncoderModel(T5Config(**T5)).eval(),
        "projection_model": diffusers.AudioLDM2ProjectionModel(
            text_encoder_dim=8, text_encoder_1_dim=16, langauge_model_dim=16
        ),
        "language_model": GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=16, n_ctx=99, n_positions=99)
        ).eval(),
        "tokenizer": RobertaTokenizer(vocab=bytes_, merges=[], model_max_length=16),
        "tokenizer_2": T5Tokenizer(vocab=sentencepieces, extra_ids=0, model_max_length=8),
        "feature_extractor": ClapFeatureExtractor(
            feature_size=8, sampling_rate=16000, hop_length=16, nb_max_samples=160
        ),
        "unet": diffusers.AudioLDM2UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, sample_size=8, in_channels=4,
            out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(8, 16), attention_head_dim=8,
        ),
        "scheduler": diffusers.DDIMScheduler(clip_sample=False),
        "vocoder": SpeechT5HifiGan(vocoder).eval(),
    }  # fmt: skip
    return saved(diffusers.AudioLDM2Pipeline(**parts), folder)


def ltx2(folder: Path) -> Path:
    """LTX2Pipeline: video and sound by one transformer, text by a Gemma 3."""
    torch.manual_seed(0)
    gemma = Gemma3Config(
        text_config={
            "vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16,
            "layer_types": ["full_attention", "full_attention"],
        },
        vision_config={
            "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 8,
        },
        mm_tokens_per_image=4, image_token_index=7, boi_token_index=8, eoi_token_index=9,
    )  # fmt: skip
    one = {"num_attention_heads": 4, "attention_head_dim": 4, "num_layers": 1, "num_learnable_registers": None}
    connectors = {f"{stream}_connector_{key}": value for stream in ("video", "audio") for key, value in one.items()}
    rope = {"rope_double_precision": False, "rope_type": "split"}
    parts: dict[str, Any] = {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": diffusers.AutoencoderKLLTX2Video(
            latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,),
            decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,),
            decoder_inject_noise=(False, False), downsample_type=("spatial",), upsample_residual=(False,),
            upsample_factor=(1,), down_block_types=("LTX2VideoDownBlock3D",), upsample_type=("spatiotemporal",),
        ),
        "audio_vae": diffusers.AutoencoderKLLTX2Audio(
            base_channels=4, ch_mult=(1,), num_res_blocks=1, latent_channels=2, resolution=32, mel_bins=8
        ),
        "text_encoder": Gemma3ForConditionalGeneration(gemma).eval(),
        "tokenizer": tokenizer(),
        "connectors": LTX2TextConnectors(
            caption_channels=16, text_proj_in_factor=3, connector_rope_base_seq_len=32, **connectors, **rope
        ),
        "transformer": diffusers.LTX2VideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
            audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
            audio_cross_attention_dim=8, num_layers=2, caption_channels=16, **rope,
        ),
        "vocoder": LTX2Vocoder(
            in_channels=16, hidden_channels=8, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
            resnet_kernel_sizes=[3], resnet_dilations=[[1, 3]], output_sampling_rate=16000,
        ),
    }  # fmt: skip
    return saved(diffusers.LTX2Pipeline(**parts), folder)


def saved(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder
