"""The tensors of a TorchScript archive, read without running it.

A TorchScript file is a zip: `data.pkl` is a pickle of the module tree whose classes are named `__torch__...`, the bytes
of its tensors lie beside it, and the program is in `code/`. Here only the tree and the bytes are read. The unpickler
knows five kinds of names and refuses all others, so that no code of the file, and none named by it, can run.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avbench.errors import UserError

DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class Node:
    """Stands for any module or object of the program: its attributes and nothing else."""

    def __init__(self, *parts: Any) -> None:
        self.state: Any = parts

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Storage(NamedTuple):
    """The bytes of one stored tensor."""

    data: bytes
    dtype: torch.dtype


def tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Tensor:
    """A tensor over a storage, copied out."""
    if not storage.data:
        return torch.empty(size, dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(storage.data), dtype=storage.dtype)
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


def parameter(data: Tensor, *rest: Any) -> Tensor:
    """A parameter is its tensor."""
    return data


class Reader(pickle.Unpickler):
    """Unpickler of `data.pkl`; tensors are the only thing it makes."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return Node
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch.jit._pickle" or (module, name) == ("collections", "OrderedDict"):
            return Node if name != "OrderedDict" else OrderedDict
        known = {"_rebuild_tensor_v2": tensor, "_rebuild_parameter": parameter}
        if module == "torch._utils" and name in known:
            return known[name]
        raise UserError(f"the archive names {module}.{name}, which is neither a tensor nor a module; it is not read")

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, *_ = pid
        return Storage(self.archive.read(f"{self.root}/data/{key}"), dtype)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """{dotted attribute path: tensor} of a TorchScript archive. Raises `UserError` where it is none or not readable."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name[: -len("/data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl"))
            return dict(walk(Reader(archive, root).load()))
    except (
        zipfile.BadZipFile,
        StopIteration,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as e:
        raise UserError(f"{path} is not a readable TorchScript archive: {e or type(e).__name__}") from None


def walk(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors below a node, depth first."""
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Node):
        yield from walk(node.state, name)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from walk(value, f"{name}.{key}" if name else str(key))


def strip_root(state: Mapping[str, Tensor], known: str) -> dict[str, Tensor]:
    """The part of the tree below which the key `known` lies, with that prefix removed.

    Raises `UserError` with the names that were found where `known` lies nowhere.
    """
    at = [key[: -len(known)] for key in state if key.endswith(known)]
    if len(at) != 1:
        names = ", ".join(list(state)[:6])
        raise UserError(f"no tensor named {known} in this archive of {len(state)} tensors ({names}, ...)")
    return {key[len(at[0]) :]: value for key, value in state.items() if key.startswith(at[0])}
