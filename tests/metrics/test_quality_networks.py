"""The networks of visual quality against the reference's outputs, and what may not change a feature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders import aesthetic, amt, dino, musiq, raft, viclip
from tests.hashed import close, hashed
from tests.metrics.quality import KEYS, arrays, weights

CPU = torch.device("cpu")
BUILDERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "amt_s": (amt.build, "comb_block.0.bias"),
    "raft": (raft.build, "cnet.conv1.bias"),
    "dino_vitb16": (dino.build, "norm.bias"),
}


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, str], Context]:
    """(registered name, manifest) -> the context of a loader, with hashed weights in a file."""
    from safetensors.torch import save_file

    def make(name: str, manifest: str) -> Context:
        path = tmp_path / f"{name}.safetensors"
        save_file(weights(manifest), path)
        return Context(CPU, torch.float32, {name: path})

    return make


@pytest.mark.parametrize("name", BUILDERS)
def test_other_checkpoints_are_refused(name: str) -> None:
    build, key = BUILDERS[name]
    state = {key: torch.empty(shape) for key, shape in KEYS[name].items()}
    with pytest.raises(UserError, match="lacks"):
        build({other: value for other, value in state.items() if other != key})
    with pytest.raises(UserError, match="surprise"):
        build({**state, "surprise": torch.empty(1)})
    with pytest.raises(UserError, match="other shapes"):
        build({**state, key: torch.empty(3)})


def test_both_towers_of_viclip_use_every_key() -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in KEYS["viclip_l"].items()}
    used = {f"vision_encoder.{key}" for key in viclip.build_vision(state).state_dict()}
    used |= {f"text_encoder.{key}" for key in viclip.build_text(state).state_dict()}
    assert used | {"temp"} == state.keys()


# --- AMT-S ---


@pytest.mark.parity
def test_amt_is_the_reference_s() -> None:
    model = amt.build(weights("amt_s"))
    first, second = (
        torch.from_numpy(hashed(f"input:amt.{name}", (1, 3, 128, 192))).sigmoid() for name in ("img0", "img1")
    )
    with torch.inference_mode():
        found = model(first, second).numpy()
    assert close(found, arrays()["amt_s.imgt_pred"])


def test_midpoint_errors_do_not_depend_on_the_batch(saved: Callable[[str, str], Context]) -> None:
    encode = amt.midpoint_error(saved("amt_s", "amt_s"))
    items = noise(3, 3, 118, 150, 3)
    with torch.inference_mode():
        together = encode(items)
        apart = torch.cat([encode(one[None]) for one in items])
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, apart, rtol=0, atol=2e-3)


def test_predictions_are_cropped_and_cut_down_to_whole_levels(
    saved: Callable[[str, str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Size] = []

    def half(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        seen.append(first.shape)
        return (first + second) / 2

    class Stub:
        def to(self, device: torch.device) -> Callable[..., torch.Tensor]:
            return half

    monkeypatch.setattr(amt, "build", lambda state: Stub())
    encode = amt.midpoint_error(saved("amt_s", "amt_s"))
    frames = torch.zeros(1, 3, 18, 33, 3, dtype=torch.uint8)
    frames[0, 0], frames[0, 1], frames[0, 2] = 10, 12, 11  # predicted 10.5, cut down to 10
    assert encode(frames)[0].tolist() == [2.0, pytest.approx(1.5, abs=1e-4)]
    assert seen == [(1, 3, 32, 48)]


def test_padding_is_centred_and_repeats_the_border() -> None:
    image = torch.arange(15.0).reshape(1, 1, 3, 5)
    padded, inside = raft.pad(image, 8)
    assert padded.shape == (1, 1, 8, 8) and torch.equal(padded[..., *inside], image)
    assert inside == (slice(2, 5), slice(1, 6))
    assert padded[0, 0, 0, 0] == image[0, 0, 0, 0] and padded[0, 0, -1, -1] == image[0, 0, -1, -1]


# --- RAFT ---


def test_raft_loads_under_either_name() -> None:
    original = weights("raft")
    one = raft.build(original).state_dict()
    two = raft.build(one).state_dict()
    three = raft.build({f"module.{key}": value for key, value in original.items()}).state_dict()
    assert all(torch.equal(one[key], two[key]) and torch.equal(one[key], three[key]) for key in one)
    assert torch.equal(one["context_encoder.layer2.0.downsample.1.bias"], original["cnet.layer2.0.downsample.1.bias"])
    assert sum(p.numel() for p in raft.build(original).parameters()) == 5_257_536


def test_top_mean_counts_down() -> None:
    values = torch.arange(100.0).reshape(1, 10, 10)
    assert raft.top_mean(values, 0.05).item() == 97.0  # 95...99
    assert raft.top_mean(values, 0.029).item() == 98.5  # 98, 99
    assert raft.top_mean(values[:, :1, :3], 0.05).item() == 2.0  # never fewer than one


def test_motion_has_the_columns_it_promises(saved: Callable[[str, str], Context]) -> None:
    encode = raft.motion(saved("raft_things", "raft"))
    items = noise(2, 2, 125, 131, 3)
    with torch.inference_mode():
        found = encode(items)
        apart = torch.cat([encode(one[None]) for one in items])
    assert found.shape == (2, len(raft.COLUMNS))
    torch.testing.assert_close(found, apart, rtol=1e-4, atol=1e-3)
    top5, top2, inside, mean, side = found.T
    assert (top2 >= top5).all() and (top5 >= inside * 0.5).all() and (mean < top5).all() and (side == 125).all()


# --- DINO ---


def test_square_images_keep_their_positions_and_others_follow_the_reference() -> None:
    table = torch.from_numpy(hashed("input:positions", (1, 197, 8)))
    assert dino.positions(table, 14, 14) is table
    found = dino.positions(table, 14, 24)
    assert found.shape == (1, 1 + 14 * 24, 8) and torch.equal(found[:, 0], table[:, 0])
    # Not a resize to the target size, as timm and transformers do it.
    grid = table[:, 1:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    plain = torch.nn.functional.interpolate(grid, size=(14, 24), mode="bicubic").flatten(2).transpose(1, 2)
    assert 0.1 < (found[:, 1:] - plain).abs().max() < 1
    # Along the height nothing but the nudge of 0.1 is left: the reference's table differs there too.
    assert (dino.positions(table, 14, 15)[:, 1 : 1 + 14] - table[:, 1 : 1 + 14]).abs().max() > 0.01


def test_dino_ignores_what_fills_no_patch() -> None:
    model = dino.build(weights("dino_vitb16"))
    images = torch.from_numpy(hashed("input:images", (1, 3, 48, 71)))
    other = images.clone()
    other[..., 64:] = 0
    with torch.inference_mode():
        assert torch.equal(model(images), model(other))


# --- ViCLIP ---


@pytest.mark.parity
@pytest.mark.heavy
def test_viclip_is_the_reference_s() -> None:
    video = torch.from_numpy(hashed("input:viclip.video", (1, 8, 3, 224, 224)))
    ids = viclip.tokenize(["a ball bounces on a wooden floor"], context=viclip.TOKENS)
    with torch.inference_mode():
        seen = viclip.build_vision(weights("viclip_l"))(video).numpy()
        read = viclip.build_text(weights("viclip_l"))(ids).numpy()
    assert close(seen, arrays()["viclip_l.video"])
    assert close(read, arrays()["viclip_l.text"])


def test_viclip_reads_32_tokens_and_keeps_the_end() -> None:
    ids = viclip.tokenize(["dog " * 50, "a dog"], context=viclip.TOKENS)
    assert ids.shape == (2, 32) and ids[0, -1] == 49407 and ids[1, 3] == 49407 and not ids[1, 4:].any()


# --- aesthetics and MUSIQ ---


def test_laion_s_predictor_is_linear_on_unit_vectors(tmp_path: Path) -> None:
    state = {"weight": torch.arange(768.0)[None] / 768, "bias": torch.tensor([5.0])}
    torch.save(state, tmp_path / "linear.pth")
    encode = aesthetic.linear(Context(CPU, torch.float32, {"laion_aesthetic_l14": tmp_path / "linear.pth"}))
    items = torch.zeros(2, 768)
    items[0, 767], items[1, 0] = 3.0, 0.5
    assert encode(items).tolist() == pytest.approx([5 + 767 / 768, 5.0])
    with pytest.raises(UserError, match="lacks"):
        aesthetic.build_linear({"weight": state["weight"]})


def head() -> aesthetic.Head:
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in aesthetic.Head().state_dict().items()}
    return aesthetic.build_head(
        {key: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for key, shape in shapes.items()}
    )


def test_the_head_of_v2_5_is_one_affine_map() -> None:
    assert list(aesthetic.Head().scoring_head) == ["0", "2", "4", "6", "8"]
    layers = head()
    weight, bias = aesthetic.folded(layers)
    x = torch.randn(16, 1152, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close((x.double() @ weight + bias).float(), layers(x), rtol=1e-5, atol=1e-5)


@pytest.fixture
def siglip(tmp_path: Path) -> Context:
    """SigLIP's vision tower with one thin layer and large patches, its width the real one."""
    from safetensors.torch import save_file
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=384,
        patch_size=96,
    )
    torch.manual_seed(0)
    SiglipVisionModel(config).save_pretrained(tmp_path / "siglip")
    save_file(head().state_dict(), tmp_path / "head.safetensors")
    names = {"siglip_so400m_384": tmp_path / "siglip", "aesthetic_v2_5": tmp_path / "head.safetensors"}
    return Context(CPU, torch.float32, names)


def test_v2_5_in_both_precisions(siglip: Context) -> None:
    images = noise(3, 384, 384, 3)
    with torch.inference_mode():
        exact, coarse = aesthetic.v2_5(siglip)(images), aesthetic.v2_5_bf16(siglip)(images)
    assert exact.dtype == coarse.dtype == torch.float32 and exact.shape == (3,)
    assert torch.equal(coarse, coarse.bfloat16().float()) and not torch.equal(exact, exact.bfloat16().float())
    torch.testing.assert_close(exact, coarse, rtol=0.1, atol=0.1)


def test_a_folder_that_lacks_weights_is_refused(siglip: Context) -> None:
    from safetensors.torch import load_file, save_file

    path = siglip.weights["siglip_so400m_384"] / "model.safetensors"
    state = load_file(path)
    gone = sorted(state)[0]
    save_file({key: value for key, value in state.items() if key != gone}, path, {"format": "pt"})
    with pytest.raises(UserError, match="missing keys"):
        aesthetic.siglip(siglip)
    path.unlink()
    with pytest.raises(UserError, match="no folder of SiglipVisionModel"):
        aesthetic.siglip(siglip)


def test_dinov3_gives_the_class_token_and_the_last_patch_but_one(tmp_path: Path) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    from avbench.metrics.encoders import dinov3

    config = DINOv3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, patch_size=16, image_size=224
    )
    torch.manual_seed(0)
    reference = DINOv3ViTModel(config).eval()
    reference.save_pretrained(tmp_path)
    images = noise(2, 224, 224, 3)
    encode = dinov3.image(Context(CPU, torch.float32, {"dinov3_vitl16": tmp_path}))
    mean, std = torch.tensor(dino.MEAN), torch.tensor(dino.STD)
    with torch.inference_mode():
        found = encode(images)
        answer = reference(pixel_values=((images / 255 - mean) / std).movedim(-1, 1))
    torch.testing.assert_close(found[:, 0], answer.pooler_output)
    torch.testing.assert_close(found[:, 1], answer.last_hidden_state[:, 1 + config.num_register_tokens + 196 - 2])


def test_musiq_is_pyiqa_s(tmp_path: Path) -> None:
    reference_of = pytest.importorskip("pyiqa.archs.musiq_arch").MUSIQ
    torch.manual_seed(0)
    reference = reference_of(pretrained=False).eval()
    torch.save(reference.state_dict(), tmp_path / "musiq.pth")
    encode = musiq.quality(Context(CPU, torch.float32, {"musiq_spaq": tmp_path / "musiq.pth"}))
    images = noise(2, 72, 128, 3)
    with torch.inference_mode():
        found = encode(images)
        expected = reference((images / 255).movedim(-1, 1))[:, 0]
        torch.testing.assert_close(encode(images[1:]), found[1:], rtol=0, atol=1e-5)
        torch.testing.assert_close(encode(images / 255), found)
    torch.testing.assert_close(found, expected)


def test_musiq_without_pyiqa_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from avbench.errors import MissingResource

    monkeypatch.setitem(sys.modules, "pyiqa.archs.musiq_arch", None)
    with pytest.raises(MissingResource, match="pip install pyiqa"):
        musiq.build({})
