"""Synchformer: keys, reference outputs, what its parts need, its log-mels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders import synchformer
from tests.hashed import close
from tests.metrics.synchrony import KEYS, arrays, given, shapes, weights

CPU = torch.device("cpu")


def test_keys_are_those_of_the_checkpoint() -> None:
    keys = shapes("synchformer")
    built = synchformer.build(keys)
    unused = {"vfeat_extractor.patch_embed.proj.weight", "vfeat_extractor.patch_embed.proj.bias"}
    assert set(built.state_dict()) == set(keys) - unused
    assert len(keys) == 513 and sum(value.numel() for value in keys.values()) == 237_460_245


@pytest.mark.parametrize("part", ["video", "audio", "head"])
def test_a_part_needs_its_own_keys_alone(part: str) -> None:
    keys = shapes("synchformer")
    own = {key: value for key, value in keys.items() if key.startswith(synchformer.PARTS[part])}
    alone, among_all = synchformer.build(own, [part]), synchformer.build(keys, [part])
    assert set(alone.state_dict()) == set(among_all.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer.OFF_tok": None}, "lacks: transformer.OFF_tok"),
        ({"transformer.extra": (1,)}, "unknown keys: transformer.extra"),
        ({"transformer.pos_emb_cfg.pos_emb": (1, 184, 768)}, "other shapes: transformer.pos_emb_cfg.pos_emb"),
    ],
)
def test_another_checkpoint_is_refused(change: dict[str, tuple[int, ...] | None], message: str) -> None:
    keys = shapes("synchformer")
    for key, shape in change.items():
        if shape is None:
            del keys[key]
        else:
            keys[key] = torch.empty(shape, device="meta")
    with pytest.raises(UserError, match=message):
        synchformer.build(keys)


@pytest.mark.parity
@pytest.mark.heavy
def test_reference_outputs() -> None:
    """About 1 GB and ten seconds of one core."""
    network, golden = synchformer.build(weights("synchformer")), arrays()
    with torch.inference_mode():
        video = network.vfeat_extractor(given("synchformer.video", 1, 2, 16, 3, 224, 224)[0])
        assert close(video.numpy(), golden["synchformer.video_features"][0])
        audio = network.afeat_extractor(given("synchformer.audio", 1, 2, 1, 128, 66)[0, :, 0])
        assert close(audio.numpy(), golden["synchformer.audio_features"][0])
        seen, heard = given("synchformer.vis_feats", 1, 14, 8, 768), given("synchformer.aud_feats", 1, 14, 6, 768)
        assert close(network.compare(seen, heard).numpy(), golden["synchformer.logits"])


@pytest.mark.parity
def test_head_on_joined_features(tmp_path: Path) -> None:
    """The loader takes video before audio tokens, and rows do not touch each other."""
    from safetensors.torch import save_file

    own = {key: value for key, value in weights("synchformer").items() if key.startswith(synchformer.PARTS["head"])}
    save_file(own, tmp_path / "head.safetensors")
    head = synchformer.head(Context(CPU, torch.float32, {"synchformer": tmp_path / "head.safetensors"}))
    seen, heard = given("synchformer.vis_feats", 1, 14, 8, 768), given("synchformer.aud_feats", 1, 14, 6, 768)
    joined = torch.cat([seen, heard], dim=2)
    with torch.inference_mode():
        found = head(torch.cat([joined, joined.flip(1)])).numpy()
    assert close(found[:1], arrays()["synchformer.logits"])
    assert not close(found[1:], arrays()["synchformer.logits"])


def test_divided_attention_equals_attention_with_a_mask() -> None:
    """A patch sees CLS and its own group, CLS sees all: one softmax over masked keys says the same."""
    time, cells, heads = synchformer.STEPS, synchformer.CELLS, synchformer.HEADS
    x = given("synchformer.tokens", 1, 1 + time * cells, synchformer.WIDTH)
    place = torch.arange(time * cells)
    for over, group in (("time", place % cells), ("space", place // cells)):
        layer = synchformer.GroupAttention(over).requires_grad_(False)
        with torch.inference_mode():
            q, k, v = (synchformer.split(part, heads) for part in layer.qkv(x).chunk(3, dim=-1))
            mask = torch.ones(1 + time * cells, 1 + time * cells, dtype=torch.bool)
            mask[1:, 1:] = group[:, None] == group[None]
            whole = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            assert torch.allclose(layer(x), layer.proj(synchformer.merge(whole)), atol=1e-5)


def test_log_mel_of_the_published_signal() -> None:
    t = np.arange(128000) / 16000
    noise = np.random.RandomState(7).randn(len(t))
    wave = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * noise
    segments = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float32), 10240)[::5120]
    mels = synchformer.log_mel(CPU)(torch.from_numpy(segments.copy())).numpy()
    assert mels.shape == (24, 128, 66)
    assert [mels.mean(), mels.std(), mels[0, 0, 0], mels[-1, -1, -1]] == pytest.approx(
        [0.510914, 0.221922, 0.946049, 0.467032], abs=2e-6
    )


def test_half_precision_keeps_the_order_of_offsets(tmp_path: Path) -> None:
    """The whole head in bf16: the logits stay within a twentieth of their spread."""
    from safetensors.torch import save_file

    own = {key: value for key, value in weights("synchformer").items() if key.startswith(synchformer.PARTS["head"])}
    save_file(own, tmp_path / "head.safetensors")
    head = synchformer.head(Context(CPU, torch.bfloat16, {"synchformer": tmp_path / "head.safetensors"}))
    seen, heard = given("synchformer.vis_feats", 1, 14, 8, 768), given("synchformer.aud_feats", 1, 14, 6, 768)
    with torch.inference_mode():
        found = head(torch.cat([seen, heard], dim=2))
    golden = arrays()["synchformer.logits"]
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - golden).max() < 0.05 * golden.std()


def test_every_key_is_in_one_part() -> None:
    for key in KEYS["synchformer"]:
        assert sum(key.startswith(names) for names in synchformer.PARTS.values()) == 1
