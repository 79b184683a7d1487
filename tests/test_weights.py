"""The checkpoint registry: what is missing, what is verified, what is refused."""

import http.server
import threading
from pathlib import Path

import pytest
import torch

from avbench import weights
from avbench.checkpoints import read_state
from avbench.errors import MissingResource, UnknownName, UserError
from avbench.weights import Checkpoint, catalogue, locate, locate_all, pull, verify

SHA_OF_HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def declare(monkeypatch: pytest.MonkeyPatch, **fields: object) -> Checkpoint:
    one = Checkpoint("toy", file="toy.bin", **fields)  # type: ignore[arg-type]
    monkeypatch.setattr(weights, "catalogue", lambda: {"toy": one})
    return one


def test_every_checkpoint_is_fully_described() -> None:
    for name, one in catalogue().items():
        assert one.title and one.format, name
        assert one.url or one.hf or one.note, f"{name}: where does it come from?"
        assert not one.sha256 or len(one.sha256) == 64, name


def test_missing_weights_say_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = declare(monkeypatch, bytes=5_000_000, licence="MIT", sha256=SHA_OF_HELLO)
    with pytest.raises(MissingResource) as caught:
        locate_all(["toy"], {})
    text = str(caught.value)
    assert "avbench weights pull toy" in text and str(one.place) in text and SHA_OF_HELLO in text and "5 MB" in text
    assert caught.value.exit_code == 4


def test_a_local_file_is_verified_by_its_digest(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, sha256=SHA_OF_HELLO)
    (tmp_path / "good").write_bytes(b"hello")
    (tmp_path / "other").write_bytes(b"hullo")
    assert locate("toy", {"toy": tmp_path / "good"}).verified
    assert not locate("toy", {"toy": tmp_path / "other"}).verified
    with pytest.raises(UserError, match="published is"):
        verify("toy", {"toy": tmp_path / "other"})


def test_a_changed_file_gets_a_new_digest(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, sha256=SHA_OF_HELLO)
    path = tmp_path / "w"
    path.write_bytes(b"hello")
    first = locate("toy", {"toy": path})
    path.write_bytes(b"hello again")
    assert locate("toy", {"toy": path}).sha256 != first.sha256


def test_unknown_names_suggest() -> None:
    with pytest.raises(UnknownName, match="did you mean: whisper"):
        locate("whisperer", {})
    with pytest.raises(UnknownName, match="no weights named"):
        locate_all([], {"nonsense": Path("x")})


def test_offline_pull_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, url="http://127.0.0.1:9/toy.bin")
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    with pytest.raises(MissingResource, match="offline"):
        pull("toy")


class Partial(http.server.BaseHTTPRequestHandler):
    """Serves b"hello", from the byte asked for."""

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(5 - start))
        self.end_headers()
        self.wfile.write(b"hello"[start:])

    def log_message(self, *words: object) -> None:
        pass


def test_pull_continues_a_partial_download_and_checks_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Partial)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        one = declare(monkeypatch, url=f"http://127.0.0.1:{server.server_port}/toy.bin", sha256=SHA_OF_HELLO)
        one.place.parent.mkdir(parents=True)
        one.place.with_suffix(".bin.part").write_bytes(b"hel")
        assert pull("toy").read_bytes() == b"hello"
        wrong = declare(monkeypatch, url=one.url, sha256="0" * 64)
        wrong.place.unlink()
        with pytest.raises(UserError, match="the file was removed"):
            pull("toy")
        assert not wrong.place.exists()
    finally:
        server.shutdown()


def test_only_tensors_are_loaded(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "good.pth")
    assert read_state(tmp_path / "good.pth")["w"].tolist() == [1, 1]
    torch.save({"w": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="more than tensors"):
        read_state(tmp_path / "evil.pth")
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "program.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        read_state(tmp_path / "program.pt")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"junk\.pth"):
        read_state(tmp_path / "junk.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no state dict"):
        read_state(tmp_path / "list.pth")
