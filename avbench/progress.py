"""How a long command says where it is: a rich bar on a terminal, plain lines elsewhere, nothing in a library."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """What `evaluate` reports to."""

    def note(self, text: str) -> None: ...
    def start(self, total: int, summary: Mapping[str, Any]) -> None: ...
    def phase(self, name: str, total: int, unit: str = "clip") -> None: ...
    def step(self, name: str, problem: str = "") -> None: ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        pass

    def start(self, total: int, summary: Mapping[str, Any]) -> None:
        pass

    def phase(self, name: str, total: int, unit: str = "clip") -> None:
        pass

    def step(self, name: str, problem: str = "") -> None:
        pass


class Plain:
    """A line at the start of each phase, every 30 seconds and at its end, on stderr."""

    every = 30.0

    def __init__(self) -> None:
        self.name, self.total, self.done, self.problems, self.unit = "", 0, 0, 0, "clip"
        self.began = self.said = time.monotonic()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def start(self, total: int, summary: Mapping[str, Any]) -> None:
        self.note(headline(summary))
        self.phase("scoring", total)

    def phase(self, name: str, total: int, unit: str = "clip") -> None:
        self.name, self.total, self.done, self.problems, self.unit = name, total, 0, 0, unit
        self.began = self.said = time.monotonic()

    def step(self, name: str, problem: str = "") -> None:
        self.done += 1
        self.problems += bool(problem)
        if problem:
            self.note(f"  {name}: {problem}")
        now = time.monotonic()
        if self.done == self.total or now - self.said >= self.every:
            self.said = now
            rate = self.done / max(now - self.began, 1e-9)
            left = f", {(self.total - self.done) / rate:.0f} s left" if self.done < self.total else ""
            self.note(f"{self.name}: {self.done}/{self.total}, {speed_words(rate, self.unit)}{left}")


class Live:
    """A rich progress bar with rate and time left, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[problems]}"), console=Console(stderr=True), transient=False,
        )  # fmt: skip
        self.task: Any = None
        self.problems, self.unit = 0, "clip"

    def __enter__(self) -> Live:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)

    def start(self, total: int, summary: Mapping[str, Any]) -> None:
        self.note(headline(summary))
        self.phase("scoring", total)

    def phase(self, name: str, total: int, unit: str = "clip") -> None:
        self.problems, self.unit = 0, unit
        self.task = self.bars.add_task(name, total=total, rate="", problems="", visible=total > 0)

    def step(self, name: str, problem: str = "") -> None:
        self.problems += bool(problem)
        if problem:
            self.note(f"  {name}: {problem}")
        self.bars.advance(self.task)
        speed = self.bars.tasks[-1].finished_speed or self.bars.tasks[-1].speed
        told = f"{self.problems} with problems" if self.problems else ""
        self.bars.update(self.task, rate=speed_words(speed, self.unit) if speed else "", problems=told)


def speed_words(rate: float, unit: str = "clip") -> str:
    """Clips (or steps) per second, or seconds per clip where that is slow."""
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


def headline(summary: Mapping[str, Any]) -> str:
    """The plan in one line."""
    todo = ", ".join(f"{name} {count}" for name, count in summary["encoders"].items())
    cached = f"{summary['cached']}/{summary['features']} features cached"
    head = f"{summary['clips']} clips, {summary['decodes']} to decode, {cached}"
    return f"{head}; to encode: {todo}" if todo else head
