"""AudioBox: windows and weights, JavisBench's resampling fault, and parity with Meta's own predictor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip
from avbench.errors import MissingResource, NotApplicable, UserError
from avbench.features import Context
from avbench.metrics import audiobox as family
from avbench.metrics.encoders import audiobox
from avbench.registry import metrics

CONFIG: dict[str, Any] = {
    "proj_num_layer": 5, "proj_ln": True, "proj_act_fn": "gelu", "proj_dropout": 0.0, "nth_layer": 13,
    "use_weighted_layer_sum": True, "precision": "32", "normalize_embed": True, "output_dim": 1,
    "target_transform": {
        axis: {"mean": mean, "std": std} for axis, mean, std in
        [("CE", 5.1, 1.9), ("CU", 5.7, 1.8), ("PC", 3.2, 1.9), ("PQ", 6.6, 1.5)]
    },
}  # fmt: skip


def sound(seconds: float, rate: int = 16000, channels: int = 1) -> Clip:
    rng = np.random.default_rng(round(seconds * 10) + rate)
    return Clip(None, Audio((0.1 * rng.standard_normal((channels, round(seconds * rate)))).astype(np.float32), rate))


def test_windows_mark_their_end() -> None:
    found = family.Windows()(sound(12.5))
    assert found.shape == (2, 160000) and not np.isnan(found[0]).any()
    assert np.isnan(found[1]).sum() == 120000 and not np.isnan(found[1, :40000]).any()
    assert family.Windows()(sound(10)).shape == (1, 160000)
    assert (~np.isnan(family.windowed(np.ones(160001, np.float32)))).sum(axis=1).tolist() == [160000, 1]
    with pytest.raises(NotApplicable, match="no_audio"):
        family.Windows()(Clip())


def test_windows_weigh_by_their_sound() -> None:
    feature = np.array([[4, 2, 6, 8, 1.0], [8, 4, 2, 0, 0.25]], np.float32)
    weighed = {"pq": 4.8, "pc": 2.4, "ce": 5.2, "cu": 6.4}
    for axis, expected in weighed.items():
        assert metrics.get(f"audiobox_{axis}").score(feature) == pytest.approx(expected)
    assert metrics.get("audio_quality").score(feature) == pytest.approx(np.mean(list(weighed.values())))
    assert audiobox.AXES == ("PQ", "PC", "CE", "CU") and (family.PQ, family.PC, family.CE, family.CU) == (0, 1, 2, 3)


@pytest.mark.parametrize(("rate", "factor"), [(16000, 1.0), (44100, 0.3592), (48000, 0.33)])
def test_javisbench_scales_and_slows_what_is_not_at_16_khz(rate: int, factor: float) -> None:
    clip = sound(5, rate, 2)
    found = family.JavisWindow()(clip)
    assert found.shape == (1, 160000) and (~np.isnan(found)).sum() == 64000
    np.testing.assert_allclose(found[0, :64000], clip.audio.mono[:64000] * factor, rtol=2e-4, atol=1e-6)


def test_javisbench_s_fault_is_its_resampler_on_the_wrong_axis() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    clip = sound(0.5, 44100)
    wrong = functional.resample(torch.from_numpy(clip.audio.samples).T, 44100, 16000).T[0].numpy()
    found = family.JavisWindow()(clip)[0]
    np.testing.assert_allclose(found[: len(wrong)], wrong, rtol=1e-6, atol=1e-8)
    assert not found[len(wrong) : 64000].any() and np.isnan(found[64000:]).all()


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "audiobox_aesthetics.model.aes", None)
    with pytest.raises(MissingResource, match="pip install audiobox_aesthetics"):
        audiobox.build({}, CONFIG)


def test_a_configuration_without_scales_is_refused() -> None:
    with pytest.raises(UserError, match="target_transform"):
        audiobox.scales({"target_transform": {"CE": {"mean": 1, "std": 2}}})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.json, model.safetensors and checkpoint.pt: Meta's network with random weights."""
    aes = pytest.importorskip("audiobox_aesthetics.model.aes")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    settings = {name: CONFIG[name] for name in audiobox.SETTINGS}
    state = aes.AesMultiOutput(**settings, target_transform=CONFIG["target_transform"]).state_dict()
    folder = tmp_path_factory.mktemp("audiobox")
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    wrapped = {f"model.{key}": value for key, value in state.items()}
    config = {"model_cfg": settings, "target_transform": CONFIG["target_transform"]}
    torch.save({"state_dict": wrapped, **config}, folder / "checkpoint.pt")
    return folder


@pytest.mark.parity
@pytest.mark.heavy
def test_scores_are_those_of_meta_s_predictor(checkpoint: Path) -> None:
    infer = pytest.importorskip("audiobox_aesthetics.infer")
    reference = infer.AesPredictor(checkpoint_pth=str(checkpoint / "checkpoint.pt"))
    clips = [sound(12.3, 44100, 2), sound(0.7), sound(3, 48000)]
    items = [{"path": torch.from_numpy(one.audio.samples), "sample_rate": one.audio.rate} for one in clips]
    expected = [row for item in items for row in reference.forward([item])]
    for path in (checkpoint, checkpoint / "checkpoint.pt"):
        encode = audiobox.windows(Context(torch.device("cpu"), torch.float32, {"audiobox_aesthetics": path}))
        for clip, row in zip(clips, expected):
            with torch.inference_mode():
                feature = encode(torch.from_numpy(family.Windows()(clip))).numpy()
            found = {axis: metrics.get(f"audiobox_{axis.lower()}").score(feature) for axis in row}
            assert found == pytest.approx(row, abs=1e-5)


@pytest.mark.heavy
def test_another_checkpoint_is_refused(checkpoint: Path) -> None:
    state, config = audiobox.read(checkpoint)
    state.pop("wavlm_model.layer_norm.bias")
    with pytest.raises(UserError, match=r"wavlm_model\.layer_norm\.bias"):
        audiobox.build(state, config)
