"""The feature store and atomic writes."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from avbench.store import FeatureLost, Store, array_text, blob, combine, file_digest, text_array, write_atomic


def test_round_trip_of_arrays_dicts_and_texts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    store.put("aa1", array, {"encoder": "x"})
    store.put("aa2", {"a": array, "t": text_array("雨 rain")}, {})
    assert (store.get("aa1") == array).all()
    assert array_text(store.get("aa2")["t"]) == "雨 rain"
    assert "aa1" in store and "aa3" not in store


def test_a_store_behind_a_url(tmp_path: Path) -> None:
    """Features go through fsspec: an object store (here in memory), and a folder by its URL."""
    for url in ("memory://avbench-test/features", (tmp_path / "f").as_uri()):
        store = Store(url)
        assert "ab1" not in store
        store.put("ab1", {"x": np.eye(2, dtype=np.float32)}, {})
        assert "ab1" in Store(url) and (Store(url).get("ab1")["x"] == np.eye(2)).all()
    assert fsspec.filesystem("memory").ls("/avbench-test/features/ab", detail=False) == [
        "/avbench-test/features/ab/ab1.safetensors"
    ]
    assert (Store(tmp_path / "f").get("ab1")["x"] == np.eye(2)).all()


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVBENCH_STORE", str(tmp_path / "shared"))
    Store().put("ab1", np.ones(1, np.float32), {})
    assert (tmp_path / "shared" / "ab" / "ab1.safetensors").is_file()


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_digests_depend_on_bytes_not_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    (tmp_path / "c").write_bytes(b"y")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")
    assert combine("ab", "c") != combine("a", "bc")


def test_a_folder_digest_ignores_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_bytes(b"x")
    before = file_digest(tmp_path / "m")
    (tmp_path / "m" / ".lock").write_bytes(b"")
    assert file_digest(tmp_path / "m") == before
    (tmp_path / "m" / "v").write_bytes(b"")
    assert file_digest(tmp_path / "m") != before


@pytest.mark.parametrize("url", [False, True])
@pytest.mark.parametrize("arrays", [1, 300])
def test_what_is_torn_is_not_there(tmp_path: Path, url: bool, arrays: int) -> None:
    """By size and header, which may be longer than what is read at first; another feature can take its place."""
    store = Store(tmp_path.as_uri() if url else tmp_path)
    value = {f"a{index}": np.full(3, index, np.float32) for index in range(arrays)}
    store.put("ab1", value, {"encoder": "x"})
    assert "ab1" in store
    path = tmp_path / blob("ab1")
    data = path.read_bytes()
    for torn in (b"", data[:5], data[:40], data[: len(data) // 2], data[:-1], data + b"x", bytes(len(data))):
        path.write_bytes(torn)
        assert "ab1" not in store
    store.put("ab1", value, {})
    assert "ab1" in store and (store.get("ab1")["a0"] == 0).all()
    path.write_bytes(b"\xff" * len(data))
    with pytest.raises(FeatureLost, match="deleted"):
        store.get("ab1")
    assert not path.exists()


def test_an_empty_array_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("ab1", np.zeros((0, 4), np.float32), {})
    assert "ab1" in store and store.get("ab1").shape == (0, 4)  # type: ignore[union-attr]
