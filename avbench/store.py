"""The feature store: what was computed once is never computed again.

A feature's key is the sha256 of all that decides its value: the bytes of the media (or the text), view, encoder,
digest of the weights, decoder, precision. Names and times of files play no part. One file per feature, written beside
its place and moved there, so that a reader sees a whole file or none. What a crash of the machine has torn all the same
counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avbench.errors import UserError

Value = np.ndarray | dict[str, np.ndarray]
SINGLE = "value"
CHUNK = 1 << 20
HEAD = 4096  # bytes read to see whether a feature is whole: more than nearly all headers have
PAUSES = (0.1, 0.4, 1.6, 6.4, 25.6)  # seconds; NFS answers "no such file" for up to 30 s after another node wrote it
AGAIN = "repeat the command: what is there is kept, what is lost is computed anew; keep the store while it is in use"


class FeatureLost(UserError):
    """A feature that was in the store cannot be had from it. No sample is to blame, so the command ends."""


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

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def read(self, name: str, count: int = -1) -> bytes:
        """The first `count` bytes; all where it is negative."""
        with (self.root / name).open("rb") as stream:
            return stream.read(count)

    def write(self, name: str, data: bytes) -> None:
        write_atomic(self.root / name, data, sync=False)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


class Bucket:
    """Blobs below a URL that fsspec understands (s3://, gs://, ...); an object store shows an object whole or not."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @property
    def files(self) -> Any:
        import fsspec

        return fsspec.url_to_fs(self.url)[0]  # kept by fsspec for each process

    def size(self, name: str) -> int:
        return int(self.files.size(f"{self.url}/{name}"))

    def read(self, name: str, count: int = -1) -> bytes:
        """The first `count` bytes; all where it is negative."""
        return bytes(self.files.cat_file(f"{self.url}/{name}", end=None if count < 0 else count))

    def write(self, name: str, data: bytes) -> None:
        self.files.makedirs(f"{self.url}/{name}".rsplit("/", 1)[0], exist_ok=True)
        self.files.pipe_file(f"{self.url}/{name}", data)

    def delete(self, name: str) -> None:
        self.files.rm_file(f"{self.url}/{name}")


class Store:
    """Features by key, content-addressed.

    root: a folder or a URL; else `$AVBENCH_STORE`, else `features` in the cache.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.place = str(root or os.environ.get("AVBENCH_STORE") or cache_root() / "features")
        self.blobs: Folder | Bucket = Bucket(self.place) if "://" in self.place else Folder(Path(self.place))

    def __contains__(self, key: str) -> bool:
        """Whether the feature is there and whole, by its size and header; its values are not read."""
        name = blob(key)
        try:
            size = self.blobs.size(name)
            head = self.blobs.read(name, min(size, HEAD)) if size else b""
            if HEAD < header_end(head) <= size:
                head = self.blobs.read(name, header_end(head))
        except FileNotFoundError:
            return False
        return declared_size(head) == size

    def get(self, key: str) -> Value:
        """The feature: an array, or a dict of arrays for encoders that give several.

        `FeatureLost` where it is not there, also after a while, or cannot be read; such a file is deleted.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        data = self.read(blob(key))
        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            self.blobs.delete(blob(key))
            raise FeatureLost(f"{self.place}: {blob(key)} was damaged ({error}) and is deleted\n  {AGAIN}") from None
        return tensors[SINGLE] if set(tensors) == {SINGLE} else tensors

    def read(self, name: str) -> bytes:
        """The bytes of a file that should be there: a network file system may deny it for a while."""
        pauses = iter(PAUSES)
        while True:
            try:
                return self.blobs.read(name)
            except OSError as error:
                if (pause := next(pauses, None)) is None:
                    reason = f"was there and cannot be read now ({error})"
                    raise FeatureLost(f"{self.place}: {name} {reason}\n  {AGAIN}") from None
                time.sleep(pause)

    def put(self, key: str, value: Value, meta: Mapping[str, Any]) -> None:
        """Write a feature atomically; `meta` says in words what it is."""
        from safetensors.numpy import save

        tensors = value if isinstance(value, dict) else {SINGLE: value}
        data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {k: str(v) for k, v in meta.items()})
        self.blobs.write(blob(key), data)


def blob(key: str) -> str:
    """Where a feature lies in its store."""
    return f"{key[:2]}/{key}.safetensors"


def header_end(head: bytes) -> int:
    """Where the header of a safetensors file ends: eight bytes say how long it is."""
    return 8 + int.from_bytes(head[:8], "little")


def declared_size(head: bytes) -> int | None:
    """Bytes that a safetensors file with this header has; None where there is no whole header."""
    try:
        entries = json.loads(head[8 : header_end(head)])
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return header_end(head) + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


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
