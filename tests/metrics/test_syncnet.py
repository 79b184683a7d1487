"""SyncNet: keys, reference outputs, the lip tower as a 2-D network, what the loaders take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders import syncnet
from tests.hashed import close
from tests.metrics.synchrony import KEYS, arrays, given, shapes, weights

CPU = torch.device("cpu")
LIP, AUDIO = ("syncnet.lip", 2, 3, 5, 224, 224), ("syncnet.audio", 2, 1, 13, 20)


@pytest.fixture(scope="module")
def network() -> syncnet.SyncNet:
    return syncnet.build(weights("syncnet"))


def test_keys_are_those_of_the_checkpoint(network: syncnet.SyncNet) -> None:
    assert set(network.state_dict()) == set(KEYS["syncnet"])
    assert sum(value.numel() for value in network.parameters()) == 13_631_616


def test_another_checkpoint_is_refused() -> None:
    keys = shapes("syncnet")
    del keys["netfclip.3.bias"]
    with pytest.raises(UserError, match=r"lacks: netfclip\.3\.bias"):
        syncnet.build(keys)


def test_counters_may_be_absent() -> None:
    """The public file is of PyTorch 0.3, which kept no batch counters."""
    keys = {key: value for key, value in shapes("syncnet").items() if not key.endswith("num_batches_tracked")}
    assert set(syncnet.build(keys).state_dict()) == set(KEYS["syncnet"])


@pytest.mark.parity
def test_reference_outputs(network: syncnet.SyncNet) -> None:
    with torch.inference_mode():
        assert close(network.lips(given(*LIP)).numpy(), arrays()["syncnet.lip"])
        assert close(network.audio(given(*AUDIO)[:, 0]).numpy(), arrays()["syncnet.audio"])


def test_the_first_layer_is_the_convolution_over_time_it_replaces(network: syncnet.SyncNet) -> None:
    flat = network.netcnnlip[0]
    assert isinstance(flat, nn.Conv3d)
    x = given(*LIP)
    with torch.inference_mode():
        whole = nn.functional.conv3d(x, flat.weight, flat.bias, flat.stride, flat.padding)
        assert torch.allclose(flat(x.flatten(1, 2)), whole[:, :, 0], atol=1e-4)


def test_loaders_take_rgb_crops_and_mfccs(network: syncnet.SyncNet, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights("syncnet"), tmp_path / "syncnet.safetensors")
    context = Context(CPU, torch.float32, {"syncnet_v2": tmp_path / "syncnet.safetensors"})
    crops = np.random.default_rng(0).integers(0, 256, (2, 5, 224, 224, 3), dtype=np.uint8)
    bgr = torch.from_numpy(crops[..., ::-1].copy()).permute(0, 4, 1, 2, 3).float()
    with torch.inference_mode():
        assert torch.equal(syncnet.lips(context)(torch.from_numpy(crops)), network.lips(bgr))
        heard = given(*AUDIO)[:, 0]
        assert torch.equal(syncnet.audio(context)(heard), network.audio(heard))
