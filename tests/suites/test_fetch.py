"""Fetching and showing suites through the command line: a server on 127.0.0.1 stands for the world."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner, Result

from avbench import dataset
from avbench.cli import app
from avbench.dataset import catalogue
from avbench.encode import write_clip
from tests.conftest import bouncing
from tests.suites import public_files as files

COMMIT = "a" * 40
HUB, VERSE = "/datasets/JavisVerse/JavisBench/resolve/main/", "/datasets/dorni/Verse-Bench"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


class World(http.server.BaseHTTPRequestHandler):
    """Serves `files`: byte ranges, and what a hub client asks of a dataset repository."""

    files: dict[str, bytes]
    asked: list[str]
    address: str

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        body = self.files.get(path)
        if body is None:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        head = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start >= len(body) and body:
            self.reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        else:
            self.reply(206 if start else 200, body[start:], head)

    def do_HEAD(self) -> None:
        self.do_GET()

    def reply(self, status: int, body: bytes, head: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**head, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[World]]:
    """A server on this machine; `world.files` is what it has, `world.address` where it is."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    handler = type("Here", (World,), {"files": {}, "asked": [], "address": ""})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler
    server.shutdown()
    server.server_close()


def served(
    world: type[World], monkeypatch: pytest.MonkeyPatch, name: str, body: bytes, sha256: str | None = None
) -> None:
    """Let the first file of a suite come from the server."""
    card = catalogue()[name]
    first = replace(
        card.files[0],
        url=f"{world.address}/file",
        sha256=hashlib.sha256(body).hexdigest() if sha256 is None else sha256,
    )
    cards = {**catalogue(), name: replace(card, files=(first, *card.files[1:]))}
    monkeypatch.setattr(dataset, "catalogue", lambda: cards)
    world.files["/file"] = body


def prompts(tmp_path: Path) -> bytes:
    return (files.moviegen(tmp_path / "made") / "MovieGenAudioBenchSfx.jsonl").read_bytes()


def test_pull_fetches_continues_and_checks(
    cache: Path, world: type[World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = prompts(tmp_path)
    served(world, monkeypatch, "moviegen-audio", body)
    place = cache / "data" / "moviegen-audio" / "MovieGenAudioBenchSfx.jsonl"
    place.parent.mkdir(parents=True)
    part = place.with_name(place.name + ".part")
    part.write_bytes(body[:1000])
    result = run("suites", "pull", "moviegen-audio")
    assert result.exit_code == 0, result.output
    assert place.read_bytes() == body and not part.exists() and world.asked == ["GET /file bytes=1000-"]
    assert "CC BY-NC 4.0" in result.stdout and str(place) in result.stdout and "by hand: the archive" in result.stdout
    assert run("suites", "pull", "moviegen-audio").exit_code == 0 and len(world.asked) == 1  # here already
    document = json.loads(run("suites", "pull", "moviegen-audio", "--again", "--json").stdout)
    assert len(world.asked) == 2 and document["files"][0]["here"] and not document["files"][1]["here"]
    shown = run("suites", "show", "moviegen-audio")
    assert shown.exit_code == 0 and "moviegen-audio (527 samples" in shown.stdout and "not here yet" not in shown.stdout


def test_a_part_that_is_already_whole_is_taken(
    cache: Path, world: type[World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = prompts(tmp_path)
    served(world, monkeypatch, "moviegen-audio", body)
    part = tmp_path / "mine" / "MovieGenAudioBenchSfx.jsonl.part"
    part.parent.mkdir()
    part.write_bytes(body)
    result = run("suites", "pull", "moviegen-audio", "--data", tmp_path / "mine")
    assert result.exit_code == 0 and f"--suite moviegen-audio={tmp_path / 'mine'}" in result.stdout
    assert part.with_suffix("").read_bytes() == body


def test_another_file_than_the_published_one_is_removed(
    cache: Path, world: type[World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served(world, monkeypatch, "moviegen-audio", prompts(tmp_path), sha256="0" * 64)
    result = run("suites", "pull", "moviegen-audio")
    assert result.exit_code == 2 and "the file was removed" in result.output
    assert not any((cache / "data" / "moviegen-audio").glob("Movie*"))


def test_what_the_server_lacks_and_offline_are_exit_4_with_the_command(
    cache: Path, world: type[World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served(world, monkeypatch, "moviegen-audio", prompts(tmp_path))
    world.files.clear()
    result = run("suites", "pull", "moviegen-audio")
    assert result.exit_code == 4 and "404" in result.output and "avbench suites pull moviegen-audio" in result.output
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    result = run("suites", "pull", "moviegen-audio")
    assert result.exit_code == 4 and "offline" in result.output and "on a machine with a network" in result.output
    assert len(world.asked) == 1


def test_files_without_an_address_are_named(cache: Path) -> None:
    result = run("suites", "pull", "avsync15")
    assert result.exit_code == 4 and "by hand, AVSync15/test.txt: download" in result.output
    files.asva(cache / "data" / "asva")
    assert run("suites", "pull", "avsync15").exit_code == 0
    assert run("suites", "pull", "clatter").exit_code == 2
    assert "did you mean: avsync15" in run("suites", "pull", "avsync1").output


def pulled(world: type[World], cache: Path, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`suites pull` from the server as a hub. Its client reads the environment when it is imported: its own process."""
    settings = {
        "HF_ENDPOINT": world.address, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0", "AVBENCH_CACHE": str(cache),
    }  # fmt: skip
    command = [sys.executable, "-m", "avbench", "suites", "pull", *words]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)


def test_pull_a_file_from_the_hub(cache: Path, world: type[World], tmp_path: Path) -> None:
    files.javisbench(tmp_path / "made")
    world.files[f"{HUB}JavisBench-mini.csv"] = (tmp_path / "made" / "JavisBench-mini.csv").read_bytes()
    done = pulled(world, cache, tmp_path, "javisbench-mini")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vanilla-max4s.pt: not here, optional" in done.stdout
    assert run("suites", "show", "javisbench-mini", "--json").exit_code == 0
    world.files.clear()
    again = pulled(world, cache, tmp_path, "javisbench-mini", "--again")
    assert again.returncode == 4 and "cannot fetch JavisBench-mini.csv" in again.stderr
    assert "Traceback" not in again.stderr


def test_pull_folders_from_the_hub_and_what_they_lack(cache: Path, world: type[World], tmp_path: Path) -> None:
    made = files.verse_bench(tmp_path / "made", (2, 2, 1))
    names = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*.*"))]
    tree = [{"type": "file", "oid": "0" * 40, "size": (made / name).stat().st_size, "path": name} for name in names]
    world.files |= {f"{VERSE}/resolve/main/{name}": (made / name).read_bytes() for name in names}
    tree.append({**tree[0], "path": "set1/../../../outside.json"})  # never asked for
    world.files[f"/api{VERSE}/tree/main"] = json.dumps(tree).encode()
    place = cache / "data" / "verse-bench"
    files.text(place / "set1" / "00000.json", "{}")  # of an earlier try; the hub is asked for the others
    done = pulled(world, cache, tmp_path, "verse-bench")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any("outside" in asked for asked in world.asked)
    assert sorted(p.relative_to(place).as_posix() for p in place.glob("set*/*")) == names
    assert json.loads((place / "set1" / "00000.json").read_text())["video_prompt"] == "picture 0"
    assert "give 5 samples, published are 600" in run("suites", "show", "verse-bench").output
    del world.files[f"{VERSE}/resolve/main/{names[-1]}"]
    (place / names[-1]).unlink()
    lacking = pulled(world, cache, tmp_path, "verse-bench")
    assert lacking.returncode == 4 and "cannot fetch set3/* from dorni/Verse-Bench" in lacking.stderr


def test_the_list_says_what_is_here(cache: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("suites", "list", "--json").stdout)}
    assert rows["javisbench"] | {"title": ""} == {
        "name": "javisbench",
        "samples": 10140,
        "data": "missing",
        "title": "",
    }
    assert rows["clatter-mini"]["data"] == "part of it" and rows["clatter-mini"]["samples"] == 64
    files.compass(cache / "data" / "t2av-compass")
    text = run("suites", "list").stdout
    assert any("t2av-compass" in line and "500" in line and " here " in line for line in text.splitlines())
    assert "avbench suites pull NAME" in text


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_show_tells_everything_before_the_data_are_here(name: str, cache: Path) -> None:
    card = catalogue()[name]
    result = run("suites", "show", name)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    for told in (
        card.title,
        card.source,
        card.licence,
        *card.subsets,
        *(one.what for one in card.files),
        *card.unverified,
    ):
        assert " ".join(told.split()) in words
    assert f"avbench suites pull {name}" in words and str(cache / "data" / card.data) in words
    facts = json.loads(run("suites", "show", name, "--json").stdout)
    assert facts["samples"] == card.expected and [one["here"] for one in facts["files"]] == [False] * len(card.files)


def test_show_of_a_folder_counts_its_subsets(cache: Path, tmp_path: Path) -> None:
    files.javisbench(tmp_path / "mine")
    facts = json.loads(run("suites", "show", "javisbench-mini", "--data", tmp_path / "mine", "--json").stdout)
    assert facts["subsets"]["speech-sounds"] == 400 and facts["real_clips"] == "0 of 1,000 here" and facts["digest"]
    assert json.loads(run("suites", "show", f"javisbench-mini={tmp_path / 'mine'}", "--json").stdout) == facts
    part = json.loads(run("suites", "show", f"javisbench-mini/single-event={tmp_path / 'mine'}", "--json").stdout)
    assert part["name"] == "javisbench-mini/single-event" and part["samples"] == 334
    assert run("suites", "show", "javisbench-mini", "--data", tmp_path / "nowhere").exit_code == 2


def test_eval_without_data_is_exit_4_and_with_data_scores_the_named_clips(cache: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    write_clip(clips / "sample_0001.mp4", bouncing(1))
    words = (
        "eval",
        "--model",
        clips,
        "--metrics",
        "integrity",
        "--device",
        "cpu",
        "--limit",
        "2",
        "--allow-failed",
        "1",
    )
    result = run(*words, "--suite", "javisbench-mini")
    assert result.exit_code == 4 and "avbench suites pull javisbench-mini" in result.output
    files.javisbench(tmp_path / "mine")
    result = run(*words, "--suite", f"javisbench-mini={tmp_path / 'mine'}", "--json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / "javisbench-mini" / "clips").is_dir()
