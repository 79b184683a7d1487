"""Inception I3D: reference outputs, keys, padding, and TorchScript archives that are read and never run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.errors import SampleError, UserError
from avbench.features import Context
from avbench.metrics.encoders import i3d
from avbench.metrics.encoders.torchscript import read_torchscript, strip_root
from tests.hashed import close, hashed
from tests.metrics.distribution import KEYS, arrays, weights

FIRST = "Conv3d_1a_7x7.conv3d.weight"


@pytest.fixture(scope="module")
def network() -> i3d.InceptionI3d:
    return i3d.build(weights("i3d"))


def clip(frames: int = 9, batch: int = 1) -> torch.Tensor:
    return torch.from_numpy(hashed("input:i3d.small", (batch, 3, frames, 224, 224)))


@pytest.mark.parity
def test_reference_outputs(network: i3d.InceptionI3d) -> None:
    x = torch.from_numpy(hashed("input:i3d.video", (1, 3, 16, 224, 224)))
    with torch.inference_mode():
        assert close(network.pooled(x).numpy(), arrays()["i3d.features"])
        assert close(network(x).numpy(), arrays()["i3d.logits"])


def test_every_key_is_consumed_and_strangers_are_refused() -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in KEYS["i3d"].items()}
    built = i3d.build(state)
    assert set(built.state_dict()) == set(KEYS["i3d"])
    assert sum(p.numel() for p in built.parameters()) == 12_697_264
    assert not built.training and not any(p.requires_grad for p in built.parameters())
    with pytest.raises(UserError, match=r"unknown keys: head\.weight"):
        i3d.build({**state, "head.weight": torch.empty(1)})
    with pytest.raises(UserError, match=f"lacks: {FIRST}"):
        i3d.build({key: value for key, value in state.items() if key != FIRST})
    with pytest.raises(UserError, match="other shapes"):
        i3d.build({**state, FIRST: torch.empty(64, 3, 7, 7, 5)})


def test_files_without_counters_and_with_other_classes_load() -> None:
    """piergiaj's file is of PyTorch 0.3; fine-tuned files have other heads."""
    state = {key: value for key, value in weights("i3d").items() if not key.endswith("num_batches_tracked")}
    assert i3d.build(state, eps=1e-3).Conv3d_1a_7x7.bn.eps == 1e-3
    head = {"logits.conv3d.weight": torch.zeros(7, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(7)}
    with torch.inference_mode():
        assert i3d.build({**state, **head})(clip()).shape == (1, 7)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "front", "back"),
    [(16, 7, 2, 2, 3), (15, 7, 2, 3, 3), (9, 3, 2, 1, 1), (8, 2, 2, 0, 0), (7, 2, 2, 0, 1), (5, 1, 1, 0, 0)],
)
def test_padding_is_tensorflows(size: int, kernel: int, stride: int, front: int, back: int) -> None:
    padded = i3d.pad_same(torch.ones(1, 1, size, 1, 1), (kernel, 1, 1), (stride, 1, 1))
    expected = [0.0] * front + [1.0] * size + [0.0] * back
    assert padded.flatten().tolist() == expected
    assert (len(expected) - kernel) // stride + 1 == -(-size // stride)


def test_epsilon_is_part_of_the_network(network: i3d.InceptionI3d) -> None:
    with torch.inference_mode():
        other = i3d.build(weights("i3d"), eps=1e-3)(clip())
        assert (other - network(clip())).abs().max() > 1e-4 * other.std()


def test_clips_of_a_batch_do_not_touch_each_other(network: i3d.InceptionI3d) -> None:
    x = clip(batch=2)
    with torch.inference_mode():
        assert close(network(x).numpy(), torch.cat([network(x[:1]), network(x[1:])]).numpy())


def test_pixels_end_in_minus_one_to_one() -> None:
    frames = torch.zeros(1, 9, 224, 224, 3, dtype=torch.uint8)
    frames[:, :, :, 112:] = 255
    x = i3d.prepare(frames, torch.float32)
    assert x.shape == (1, 3, 9, 224, 224) and x[..., :112].unique() == -1.0 and x[..., 112:].unique() == 1.0


def test_other_sizes_are_scaled_and_cropped_in_the_middle() -> None:
    frames = torch.zeros(2, 9, 64, 128, 3, dtype=torch.uint8)
    frames[:, :, :, 30:98] = 200
    x = i3d.prepare(frames, torch.float32)
    assert x.shape == (2, 3, 9, 224, 224)
    assert (x - (200 / 127.5 - 1)).abs().max() < 1e-5  # columns 32 to 95 are left
    assert (i3d.prepare(frames.transpose(2, 3), torch.float32) - x.transpose(3, 4)).abs().max() < 1e-5


def test_short_clips_are_refused() -> None:
    with pytest.raises(SampleError, match=r"video\.too_short"):
        i3d.prepare(torch.zeros(1, 8, 224, 224, 3), torch.float32)


def test_loaders_read_checkpoints(tmp_path: Path) -> None:
    """The three files, as users have them: a bare dict, a wrapped one, a TorchScript archive."""
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 9, 224, 224, 3), dtype=np.uint8))
    torch.save(weights("i3d"), tmp_path / "bare.pt")
    torch.save({"state_dict": weights("i3d")}, tmp_path / "wrapped.pt")
    traced(tmp_path / "script.pt")
    paths = {"i3d_k400": "bare.pt", "i3d_rgb_imagenet": "wrapped.pt", "i3d_stylegan_v": "script.pt"}
    context = Context(torch.device("cpu"), torch.float32, {name: tmp_path / file for name, file in paths.items()})
    with torch.inference_mode():
        k400, imagenet, stylegan = (load(context)(frames) for load in (i3d.k400, i3d.imagenet, i3d.stylegan_v))
    assert k400.shape == (1, 400) and k400.dtype == torch.float32
    assert torch.equal(imagenet, stylegan) and not torch.equal(k400, imagenet)


# TorchScript ----------------------------------------------------------------------------------------------------------


class Wrapped(torch.nn.Module):
    """As a published program might hold the network: not at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = i3d.build(weights("i3d"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.detector(x)


def traced(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the padding depends on the size
        torch.jit.trace(Wrapped(), clip(), check_trace=False).save(str(path))


def test_tensors_of_an_archive_come_out_under_their_names(tmp_path: Path) -> None:
    traced(tmp_path / "script.pt")
    state = strip_root(read_torchscript(tmp_path / "script.pt"), FIRST)
    assert state.keys() == weights("i3d").keys()
    assert all(torch.equal(state[key], value) for key, value in weights("i3d").items())


def test_an_archive_of_another_network_is_refused_with_its_names(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))).save(str(tmp_path / "x.pt"))
    state = read_torchscript(tmp_path / "x.pt")
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert set(state) == {"0.weight", "0.bias", *(f"1.{name}" for name in norm)}
    with pytest.raises(UserError, match=r"0\.weight, 0\.bias"):
        strip_root(state, FIRST)


class Trap:
    """What a hostile file would do when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_in_an_archive_runs(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for name, content in (("trap", Trap(sprung)), ("getattr", getattr)):
        path = tmp_path / f"{name}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content))
        with pytest.raises(UserError, match="neither a tensor nor a module"):
            read_torchscript(path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works where it is not guarded against


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + 18 * b"\0"])
def test_broken_archives_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pt is not a readable TorchScript archive"):
        read_torchscript(tmp_path / "broken.pt")
