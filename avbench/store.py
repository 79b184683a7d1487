"""The feature store: what was computed once is never computed again.

A feature's key is the sha256 of all that decides its value: the bytes of the media (or the text), view, encoder,
digest of the weights, decoder, precision. Names and times of files play no part. One file per feature, written beside
its place and moved there, so that a reader sees a whole file or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Value = np.ndarray | dict[str, np.ndarray]
SINGLE = "value"
CHUNK = 1 << 20


def cache_root() -> Path:
    """`$AVBENCH_CACHE`, else the platform's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("AVBENCH_CACHE") or user_cache_dir("avbench"))


def file_digest(*paths: Path) -> str:
    """sha256 over the bytes of one or several files, in order; folders are read in order of relative path."""
    digest = hashlib.sha256()
    for path in paths:
        for part in parts(path):
            if path.is_dir():
                digest.update(f"\0{part.relative_to(path).as_posix()}\0".encode())
            with part.open("rb") as stream:
                while block := stream.read(CHUNK):
                    digest.update(block)
    return digest.hexdigest()


def parts(path: Path) -> list[Path]:
    """The files of a folder, hidden ones left out (a hub client's bookkeeping), or the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and not any(w[0] == "." for w in p.relative_to(path).parts))


def text_digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def combine(*parts: str) -> str:
    """One key from several."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


class Folder:
    """Blobs in a folder, local or on a shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __contains__(self, name: str) -> bool:
        try:
            return (self.root / name).stat().st_size > 0
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        write_atomic(self.root / name, data, sync=False)


class Bucket:
    """Blobs below a URL that fsspec understands (s3://, gs://, ...); an object store shows an object whole or not."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @property
    def files(self) -> Any:
        import fsspec

        return fsspec.url_to_fs(self.url)[0]  # kept by fsspec for each process

    def __contains__(self, name: str) -> bool:
        return bool(self.files.exists(f"{self.url}/{name}"))

    def read(self, name: str) -> bytes:
        return bytes(self.files.cat_file(f"{self.url}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        self.files.makedirs(f"{self.url}/{name}".rsplit("/", 1)[0], exist_ok=True)
        self.files.pipe_file(f"{self.url}/{name}", data)


class Store:
    """Features by key, content-addressed.

    root: a folder or a URL; else `$AVBENCH_STORE`, else `features` in the cache.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        place = str(root or os.environ.get("AVBENCH_STORE") or cache_root() / "features")
        self.blobs: Folder | Bucket = Bucket(place) if "://" in place else Folder(Path(place))

    def __contains__(self, key: str) -> bool:
        return blob(key) in self.blobs

    def get(self, key: str) -> Value:
        """The feature: an array, or a dict of arrays for encoders that give several."""
        from safetensors.numpy import load

        tensors = load(self.blobs.read(blob(key)))
        return tensors[SINGLE] if set(tensors) == {SINGLE} else tensors

    def put(self, key: str, value: Value, meta: Mapping[str, Any]) -> None:
        """Write a feature atomically; `meta` says in words what it is."""
        from safetensors.numpy import save

        tensors = value if isinstance(value, dict) else {SINGLE: value}
        data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {k: str(v) for k, v in meta.items()})
        self.blobs.write(blob(key), data)


def blob(key: str) -> str:
    """Where a feature lies in its store."""
    return f"{key[:2]}/{key}.safetensors"


def write_atomic(path: Path, data: bytes, sync: bool = True) -> None:
    """Write beside the target and move into place: a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with part.open("xb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, no NaN."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def text_array(text: str) -> np.ndarray:
    """A text as a uint8 array, for features that are words."""
    return np.frombuffer(text.encode(), dtype=np.uint8).copy()


def array_text(array: np.ndarray) -> str:
    """The text of `text_array`."""
    return bytes(np.asarray(array, dtype=np.uint8)).decode()
