"""Reading checkpoint files safely: tensors only, never code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict {key: tensor} from `.safetensors`, or from a PyTorch file with `weights_only=True`.

    A file that wraps the state dict in one of `WRAPPERS` is unwrapped. TorchScript archives and pickles that hold
    anything but tensors and plain containers are refused with a `UserError` that names the file.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return unwrap(read_tensors(path), path)


def read_tensors(path: Path) -> Any:
    """Load a PyTorch file of tensors and plain containers, on the CPU, memory-mapped where its format allows."""
    import pickle

    import torch

    if is_torchscript(path):
        raise UserError(f"{path} is a TorchScript program, which runs code when loaded; give a state dict instead")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors and is not loaded: {str(error).splitlines()[0]}") from None
    except Exception as error:  # the bytes are not trusted: the unpickler may fail in any way
        raise UserError(f"{path} is not a readable checkpoint: {type(error).__name__}: {error}") from None


def unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside what a file held."""
    import torch

    if isinstance(loaded, Mapping):
        for name in WRAPPERS:
            if isinstance(loaded.get(name), Mapping):
                return unwrap(loaded[name], path)
        tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
        if tensors:
            return tensors
    raise UserError(f"{path} holds no state dict (found {type(loaded).__name__})")


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive (a zip with a `code/` folder or `constants.pkl`)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name or name.endswith("/constants.pkl") for name in names)
