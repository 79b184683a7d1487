"""Decoding ahead: in order, within memory, errors as values, and over when the consumer is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import avbench.prefetch as prefetch
from avbench.clip import Clip, Video
from avbench.errors import MissingResource, SampleError
from avbench.generator import ClipFile
from avbench.prefetch import decode_ahead
from tests.media_factory import tones, write

BOTH = frozenset({"video", "audio"})
MB = 1_000_000


@dataclass(frozen=True)
class Item:
    """What the executor calls a subject."""

    name: str
    file: ClipFile | None


@dataclass
class Stage:
    """Stand-ins for decoding and probing that keep account of what is held."""

    seconds: Callable[[int], float] = lambda index: 0.01 * (1 + index % 3)
    sizes: Callable[[int], int] = lambda index: MB

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most_running = self.begun = 0
        self.held = self.most_held = 0

    def probe(self, path: Path, audio: Path | None = None) -> dict[str, dict[str, int]]:
        return {"decoded_bytes": {"video": self.sizes(int(path.stem)), "audio": 0}}

    def decode(self, path: Path, audio: Path | None, media: frozenset[str], stop: threading.Event) -> Clip:
        index = int(path.stem)
        with self.lock:
            self.running += 1
            self.begun += 1
            self.most_running = max(self.most_running, self.running)
            self.held += self.sizes(index)
            self.most_held = max(self.most_held, self.held)
        end = time.monotonic() + self.seconds(index)
        while time.monotonic() < end and not stop.is_set():
            time.sleep(0.002)
        with self.lock:
            self.running -= 1
        if index % 10 == 7:
            self.release(index)
            raise SampleError("decode.truncated", path.name)
        return Clip(Video(np.zeros((1, 1, self.sizes(index) // 3, 3), np.uint8), np.zeros(1), Fraction(25)))

    def release(self, index: int) -> None:
        """The consumer is done with a clip."""
        with self.lock:
            self.held -= self.sizes(index)

    def jobs(self, count: int) -> list[tuple[Item, frozenset[str]]]:
        return [(Item(str(i), ClipFile(Path(f"{i}.mp4"))), BOTH) for i in range(count)]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(prefetch, "decode", lambda *arguments: made.decode(*arguments))
    monkeypatch.setattr(prefetch, "probe", lambda *arguments: made.probe(*arguments))
    return made


def no_threads_left() -> bool:
    deadline = time.monotonic() + 5
    while any(one.name.startswith("avbench-decode") for one in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_order_and_errors_as_values(stage: Stage, threads: int) -> None:
    jobs = stage.jobs(40)
    results = list(decode_ahead(iter(jobs), threads, 100 * MB))
    assert [job for job, _ in results] == jobs
    for index, (_, result) in enumerate(results):
        assert isinstance(result, SampleError if index % 10 == 7 else Clip)
    assert stage.most_running == threads
    assert no_threads_left()


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_memory_is_bounded(stage: Stage, limit: int) -> None:
    for index, (_, result) in enumerate(decode_ahead(stage.jobs(30), 4, limit * MB)):
        time.sleep(0.003)
        stage.release(index) if isinstance(result, Clip) else None
    assert stage.most_held <= (limit + 1) * MB, "the limit, and the one that was just handed over"
    assert stage.most_running <= max(limit, 1)


def test_a_clip_beyond_the_bound_passes_alone(stage: Stage) -> None:
    stage.sizes = lambda index: 50 * MB if index == 3 else MB
    results = []
    for index, (_, result) in enumerate(decode_ahead(stage.jobs(7), 3, 5 * MB)):
        stage.release(index)
        results.append(result)
    assert all(isinstance(result, Clip) for result in results) and len(results) == 7
    assert stage.most_held <= 51 * MB


def test_wrong_estimates_are_corrected(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that declares nothing is estimated at 0; what is done counts as it is."""
    monkeypatch.setattr(prefetch, "probe", lambda *_: {"decoded_bytes": {"video": 0, "audio": 0}})
    done = decode_ahead(stage.jobs(30), 1, 3 * MB)
    next(done)
    time.sleep(0.5)
    next(done)
    assert stage.begun <= 2 + prefetch.AHEAD
    time.sleep(0.5)
    for _ in range(3):
        next(done)
    assert stage.begun <= 5 + 4, "three clips of 1 MB wait, so no more is begun"
    done.close()


def test_work_goes_on_while_the_consumer_is_slow(stage: Stage) -> None:
    stage.seconds = lambda index: 0.05
    started, waits = time.monotonic(), 0.0
    for _ in decode_ahead(stage.jobs(12), 2, 100 * MB):
        time.sleep(0.05)
        waits += 0.05
    assert time.monotonic() - started < waits + 0.3


def test_closing_early_is_prompt(stage: Stage) -> None:
    stage.seconds = lambda index: 60.0 if index else 0.0
    done = decode_ahead(stage.jobs(50), 3, 100 * MB)
    next(done)
    started = time.monotonic()
    done.close()
    assert time.monotonic() - started < 2.0
    assert no_threads_left() and stage.begun <= 4


def test_an_exception_in_the_consumer_ends_the_threads(stage: Stage) -> None:
    stage.seconds = lambda index: 0.05

    def consume() -> None:
        for index, _ in enumerate(decode_ahead(stage.jobs(50), 2, 100 * MB)):
            if index == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert no_threads_left() and stage.begun < 50


@pytest.mark.parametrize("error", [MemoryError(), MissingResource("install it")])
def test_what_no_sample_is_to_blame_for_is_raised(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> Clip:
        raise error

    monkeypatch.setattr(prefetch, "decode", fail)
    with pytest.raises(type(error)):
        list(decode_ahead(stage.jobs(5), 2, 100 * MB))
    assert no_threads_left()


def test_a_fault_of_ours_is_a_row(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Clip:
        raise ZeroDivisionError("who knows")

    monkeypatch.setattr(prefetch, "decode", fail)
    ((_, result),) = decode_ahead(stage.jobs(1), 2, MB)
    assert isinstance(result, SampleError) and result.code == "decode.error" and "ZeroDivisionError" in result.detail


def test_no_jobs_and_no_file(stage: Stage) -> None:
    assert list(decode_ahead([], 2, MB)) == []
    ((_, result),) = decode_ahead([(Item("a", None), BOTH)], 2, MB)
    assert isinstance(result, SampleError) and result.code == "clip.missing"


def test_jobs_are_taken_as_needed(stage: Stage) -> None:
    taken = []

    def endless() -> Iterator[tuple[Item, frozenset[str]]]:
        for job in stage.jobs(10_000):
            taken.append(job)
            yield job

    done = decode_ahead(endless(), 2, 100 * MB)
    next(done)
    done.close()
    assert len(taken) <= 2 * prefetch.AHEAD + 2


def test_real_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", audio=tones(1, 16000, 1.0))
    sound = write(tmp_path / "b.wav", pts=None, audio=tones(2, 8000, 0.5), rate=8000, audio_codec="pcm_s16le")
    (tmp_path / "empty.mp4").write_bytes(b"")
    files = {
        "whole": ClipFile(whole), "pair": ClipFile(whole, sound), "sound": ClipFile(None, sound),
        "empty": ClipFile(tmp_path / "empty.mp4"), "none": ClipFile(tmp_path / "none.mp4"),
    }  # fmt: skip
    jobs = [(Item(name, file), BOTH) for name, file in files.items()]
    jobs.append((Item("heard", files["whole"]), frozenset({"audio"})))
    found = {job[0].name: result for job, result in decode_ahead(jobs, 2, MB)}
    assert isinstance(found["whole"], Clip) and found["whole"].need_audio().rate == 16000
    assert isinstance(found["pair"], Clip) and found["pair"].need_audio().samples.shape == (2, 4000)
    assert isinstance(found["sound"], Clip) and found["sound"].video is None
    assert isinstance(found["heard"], Clip) and found["heard"].video is None
    assert str(found["empty"]).startswith("decode.empty_file") and str(found["none"]).startswith("decode.not_found")
