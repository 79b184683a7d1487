"""Decoding ahead of the consumer, in threads, in bounded memory and in order.

The consumer's own thread hands out the work, each time it asks for a clip: there is no lock to wait for and no queue
that could stay full. FFmpeg and numpy release the interpreter lock, so threads decode in parallel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from avbench.clip import Clip
from avbench.errors import SampleError, UserError
from avbench.media import decode, probe

if TYPE_CHECKING:
    from avbench.generator import ClipFile

AHEAD = 4  # clips that may wait for the consumer, for each thread, however small they are


class Source(Protocol):
    """What knows where its clip lies."""

    @property
    def file(self) -> ClipFile | None: ...


One = TypeVar("One", bound=Source)


def decode_ahead(
    jobs: Iterable[tuple[One, frozenset[str]]], threads: int, max_bytes: int
) -> Iterator[tuple[tuple[One, frozenset[str]], Clip | SampleError]]:
    """Decode (source, media) pairs; yields each with its clip, or the error that belongs to it, in the order given.

    threads: clips decoded at one time. max_bytes: decoded clips under way or waiting for the consumer, by the size that
    `probe` estimates until it is known; a clip larger than that is decoded while nothing else waits. What the consumer
    has taken is its own affair. Closing the generator cancels what waits and ends running decodes at their next packet.
    """
    todo, waiting, stop = iter(jobs), deque[Waiting[One]](), Event()
    upcoming = next(todo, None)
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="avbench-decode") as pool:

        def fill() -> None:
            """Hand out work while there is room for its clips."""
            nonlocal upcoming
            while upcoming is not None and len(waiting) < AHEAD * threads:
                size = estimate(upcoming)
                if waiting and size + sum(one.bytes for one in waiting) > max_bytes:
                    return
                waiting.append(Waiting(upcoming, size, pool.submit(decode_job, upcoming, stop)))
                upcoming = next(todo, None)

        try:
            fill()
            while waiting:
                result = waiting[0].future.result()
                job = waiting.popleft().job
                fill()
                yield job, result
                del result  # or the clip would live on while the next one is waited for
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class Waiting(Generic[One]):
    """A clip that is being decoded, or is done and not yet taken."""

    job: tuple[One, frozenset[str]]
    estimate: int
    future: Future[Clip | SampleError]

    @property
    def bytes(self) -> int:
        """Its size: measured when it is done, estimated before."""
        if not self.future.done() or self.future.cancelled() or self.future.exception() is not None:
            return self.estimate
        return decoded_bytes(self.future.result())


def decoded_bytes(clip: Clip | SampleError) -> int:
    """Memory that a decoded clip takes; an error takes none."""
    if isinstance(clip, SampleError):
        return 0
    return (clip.video.frames.nbytes if clip.video else 0) + (clip.audio.samples.nbytes if clip.audio else 0)


def estimate(job: tuple[Source, frozenset[str]]) -> int:
    """Bytes that a job's clip will take; 0 for one that cannot be opened, which decoding will report."""
    source, media = job
    if source.file is None:
        return 0
    try:
        info = probe(source.file.main, source.file.audio if source.file.video else None)
    except Exception:
        return 0
    return sum(info["decoded_bytes"][stream] for stream in media)


def decode_job(job: tuple[Source, frozenset[str]], stop: Event) -> Clip | SampleError:
    """The clip of a job, or its error. What no sample is to blame for (memory, installation) is raised."""
    source, media = job
    if source.file is None:
        return SampleError("clip.missing", "the sample has no file")
    try:
        return decode(source.file.main, source.file.audio if source.file.video else None, media, stop)
    except SampleError as error:
        return error
    except (MemoryError, UserError):
        raise
    except Exception as error:
        return SampleError("decode.error", f"{source.file.main.name}: {type(error).__name__}: {error}")
