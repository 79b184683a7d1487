"""VideoMAE v2: the public file's keys, and the same function as transformers' VideoMAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import VideoMAEConfig, VideoMAEModel

from avbench.errors import SampleError, UserError
from avbench.features import Context
from avbench.metrics.encoders import videomae
from tests.hashed import close

DIM, HEADS, DEPTH, HIDDEN = 44, 4, 2, 96


def library() -> VideoMAEModel:
    config = VideoMAEConfig(
        image_size=224, patch_size=14, num_frames=4, tubelet_size=2, hidden_size=DIM, num_hidden_layers=DEPTH,
        num_attention_heads=HEADS, intermediate_size=HIDDEN, layer_norm_eps=1e-6, qkv_bias=True, use_mean_pooling=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VideoMAEModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def renamed(model: VideoMAEModel) -> dict[str, torch.Tensor]:
    """The library's tensors under the public file's names."""
    state = model.state_dict()
    found = {"fc_norm.weight": torch.ones(DIM), "fc_norm.bias": torch.zeros(DIM)}
    parts = {
        "attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
        "layernorm_before": "norm1", "layernorm_after": "norm2",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        found[f"patch_embed.proj.{kind}"] = state[f"embeddings.patch_embeddings.projection.{kind}"]
    for i in range(DEPTH):
        theirs, ours = f"encoder.layer.{i}.", f"blocks.{i}."
        qkv = [state[f"{theirs}attention.attention.{name}.weight"] for name in ("query", "key", "value")]
        found[f"{ours}attn.qkv.weight"] = torch.cat(qkv)
        for name, short in (("query", "q"), ("value", "v")):
            found[f"{ours}attn.{short}_bias"] = state[f"{theirs}attention.attention.{name}.bias"]
        for name, short in parts.items():
            for kind in ("weight", "bias"):
                found[f"{ours}{short}.{kind}"] = state[f"{theirs}{name}.{kind}"]
    return found


def test_same_function_as_the_library() -> None:
    model = library()
    video = torch.rand(2, 4, 3, 224, 224)
    with torch.inference_mode():
        tokens = model(video).last_hidden_state
        found = videomae.build(renamed(model), heads=HEADS)(video.transpose(1, 2))
    assert close(found.numpy(), F.layer_norm(tokens.mean(dim=1), (DIM,), eps=1e-6).numpy())


def test_the_giant_has_its_published_size_and_keys() -> None:
    with torch.device("meta"):
        giant = videomae.VideoMAE(**videomae.GIANT)
    state = {**giant.state_dict(), "head.weight": torch.empty(174, 1408), "head.bias": torch.empty(174)}
    assert sum(value.numel() for value in giant.parameters()) == 1_011_610_752
    built = videomae.build(state)
    assert len(built.blocks) == 40 and built.fc_norm.eps == 1e-6
    for part in ("attn.q_bias", "attn.v_bias", "attn.qkv.weight", "mlp.fc2.bias", "norm2.weight"):
        assert f"blocks.39.{part}" in state
    with pytest.raises(UserError, match="unknown keys: pos_embed"):
        videomae.build({**state, "pos_embed": torch.empty(1)})
    with pytest.raises(UserError, match=r"lacks: blocks\.7\.attn\.q_bias"):
        videomae.build({key: value for key, value in state.items() if key != "blocks.7.attn.q_bias"})


def test_positions_alternate_sine_and_cosine() -> None:
    table = videomae.sinusoids(5, 6)[0].double().numpy()
    for j in range(6):
        angle = np.arange(5) / 10000 ** (2 * (j // 2) / 6)
        np.testing.assert_allclose(table[:, j], np.cos(angle) if j % 2 else np.sin(angle), atol=1e-7)


def test_loader_scales_to_unit_range_and_squashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"module": renamed(library())}, tmp_path / "mae.pth")
    monkeypatch.setattr(videomae, "build", lambda state, build=videomae.build: build(state, heads=HEADS))
    context = Context(torch.device("cpu"), torch.float32, {"videomae_giant_ssv2": tmp_path / "mae.pth"})
    embed = videomae.giant_ssv2(context)
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 4, 32, 56, 3), dtype=np.uint8))
    flat = F.interpolate(frames[0].permute(0, 3, 1, 2) / 255.0, size=(224, 224), mode="bilinear")
    with torch.inference_mode():
        expected = videomae.build(renamed(library()))(flat.transpose(0, 1)[None])
        assert close(embed(frames).numpy(), expected.numpy())
        with pytest.raises(SampleError, match=r"video\.odd_frames"):
            embed(frames[:, :3])
