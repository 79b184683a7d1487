"""Random numbers that twins share.

Every draw comes from a generator of its own, a function of (run seed, stream name, step) and nothing else. A T2V-only
twin uses exactly the streams whose names do not end in `_a`: it sees the same weights, order, times and noises as the
joint model, and a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

VIDEO = ("init_video", "order", "t", "eps_v", "drop_v")
AUDIO = ("init_a", "t_a", "eps_a", "drop_a")
Streams = Callable[[str], torch.Generator]


def stream_seed(seed: int, name: str, step: int = 0) -> int:
    """63 bits of sha256 over the three."""
    digest = hashlib.sha256(f"{seed}/{name}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str, step: int = 0) -> torch.Generator:
    """The CPU generator of one stream at one step."""
    return torch.Generator().manual_seed(stream_seed(seed, name, step))


def streams(seed: int, step: int = 0) -> Streams:
    """name -> its generator."""
    return lambda name: generator(seed, name, step)


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Modules built inside draw their initial weights from this stream; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, name))
        yield
