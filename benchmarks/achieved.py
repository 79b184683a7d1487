"""How near does a run come to its floor? Every stage against `avbench.roofline`, and a timeline of what was idle when.

    python -m benchmarks.achieved FOLDER SUITE [METRICS] [--weights NAME=FILE]...   (from the repository root)
    python -m benchmarks.achieved FOLDER SUITE --hashed CACHE                       (the networks of `side_by_side`)

The run is a real one, from a clip folder and an empty feature store to the finished run folder, in a fresh process;
digests of weights are known, as after a first run. Seconds of a stage are those of the thread that leads the work: what
it did, or waited for others to do, so that they add up to the wall time. The floor is measured after the run. With
`--trace FOLDER` every span of every thread is kept: trace.json for https://ui.perfetto.dev, timeline.svg to look at.
Forwards end when their results are on the host, so a span of the device is the device's. Not a test: these figures
belong to one machine on one day.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

FORWARD = "forward "
COLOURS = {
    "forward": "#2f6db5", "decode": "#c9762b", "views": "#5a9a57", "algorithms": "#8a63a8", "load": "#9a9a9a",
    "pool": "#d3b13f", "store": "#c25555",
}  # fmt: skip
PALER = "#74a3da"  # every second forward
WIDTH, ROW, LEFT = 1100, 26, 120  # of the timeline, in pixels


class Span(NamedTuple):
    """What a thread did from when to when, in seconds since the trace began. kind: a key of `COLOURS`."""

    lane: str
    kind: str
    name: str
    begin: float
    end: float


class Trace:
    """Spans of all threads, taken by wrapping the engine's stages while it is `on`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.began = time.perf_counter()

    @contextmanager
    def span(self, kind: str, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            thread = threading.current_thread().name.removeprefix("avbench-").replace("_", " ")
            lane = "device" if kind == "forward" else "leader" if thread == "MainThread" else thread
            self.spans.append(Span(lane, kind, name, began - self.began, time.perf_counter() - self.began))

    def wrapped(self, work: Callable[..., Any], kind: str, name: Callable[..., str]) -> Callable[..., Any]:
        """A function or method whose calls are spans."""

        def call(*arguments: Any) -> Any:
            with self.span(kind, name(*arguments)):
                return work(*arguments)

        return call

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch the leading thread's stages, decoders, view cutters, whole-clip algorithms and loading."""
        from avbench import prefetch
        from avbench.execute import Counts, Executor, Networks

        original = Counts.time

        @contextmanager
        def timed(counts: Counts, stage: str) -> Iterator[None]:
            forward = stage.startswith(FORWARD)
            with self.span("forward" if forward else stage, stage.removeprefix(FORWARD)), original(counts, stage):
                yield

        def clip(job: Any, stop: Any) -> str:
            return job[0].sample.id

        def view(executor: Any, pair: Any, *rest: Any) -> str:
            return f"{pair[0].sample.id} {type(pair[1].view).__name__}"

        def algorithm(executor: Any, pair: Any, *rest: Any) -> str:
            return f"{pair[0].sample.id} {pair[1].encoder.name}"

        def network(networks: Any, encoder: Any) -> str:
            return encoder.name

        with ExitStack() as stack:
            for where, what, kind, name in (
                (prefetch, "decode_job", "decode", clip), (Executor, "cut", "views", view),
                (Executor, "encode_clip", "algorithms", algorithm), (Networks, "load", "load", network),
            ):  # fmt: skip
                stack.enter_context(patch.object(where, what, self.wrapped(getattr(where, what), kind, name)))
            stack.enter_context(patch.object(Counts, "time", timed))
            yield

    @property
    def lanes(self) -> list[str]:
        """The device first, then the host's threads."""
        return sorted({one.lane for one in self.spans}, key=lambda lane: (lane != "device", lane != "leader", lane))


def perfetto(trace: Trace) -> dict[str, Any]:
    """The trace in Chrome's format."""
    rows = {lane: index for index, lane in enumerate(trace.lanes)}
    named = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": index, "args": {"name": lane}}
        for lane, index in rows.items()
    ]
    spans = [
        {
            "ph": "X", "name": one.name, "cat": one.kind, "pid": 0, "tid": rows[one.lane],
            "ts": round(1e6 * one.begin), "dur": round(1e6 * (one.end - one.begin)),
        }
        for one in trace.spans
    ]  # fmt: skip
    return {"traceEvents": [*named, *spans]}


def svg(trace: Trace, seconds: float) -> str:
    """The trace as a picture: a row for each lane, a box for each span that is wide enough to be seen."""
    scale = (WIDTH - LEFT - 10) / seconds
    lanes = trace.lanes
    height = ROW * len(lanes) + 60
    parts = [f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    for row, lane in enumerate(lanes):
        parts.append(f'<text x="{LEFT - 8}" y="{row * ROW + 19}" text-anchor="end">{escape(lane)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{row * ROW + 4}" width="{seconds * scale:.1f}" height="20" fill="#f1f1ee"/>')
        last, blue = -1.0, PALER
        for one in sorted((s for s in trace.spans if s.lane == lane), key=lambda s: (s.begin, -s.end)):
            x, wide = LEFT + one.begin * scale, (one.end - one.begin) * scale
            if wide < 0.3 and x - last < 0.3:
                continue
            last = x + wide
            blue = PALER if blue != PALER else COLOURS["forward"]
            label = escape(f"{one.kind} {one.name}: {one.end - one.begin:.2f} s")
            parts.append(
                f'<rect x="{x:.1f}" y="{row * ROW + 4}" width="{max(wide, 0.3):.1f}" height="20" '
                f'fill="{blue if one.kind == "forward" else COLOURS[one.kind]}"><title>{label}</title></rect>'
            )
            if one.kind == "forward" and wide > 6.5 * len(one.name):
                parts.append(f'<text x="{x + 4:.1f}" y="{row * ROW + 18}" fill="#fff">{escape(one.name)}</text>')
    step = next(s for base in (1, 10, 100, 1000, 10000) for s in (base, 2 * base, 5 * base) if seconds / s <= 12)
    for tick in range(0, int(seconds) + 1, step):
        x = LEFT + tick * scale
        parts.append(f'<path d="M{x:.1f} 2V{ROW * len(lanes) + 4}" stroke="#00000022"/>')
        parts.append(f'<text x="{x:.1f}" y="{ROW * len(lanes) + 20}" text-anchor="middle">{tick} s</text>')
    for index, (kind, colour) in enumerate(COLOURS.items()):
        x, y = LEFT + 125 * index, ROW * len(lanes) + 35
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 11}">{kind}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n{body}\n</svg>\n'
    )


def table(seconds: Mapping[str, float], total: float, floor: Mapping[str, Any]) -> str:
    """Stages as Markdown; the floor of what waits is the work of all threads over their number."""
    encoders = {one["encoder"]: one for one in floor["encoders"]}
    network = [name.removeprefix(FORWARD) for name in seconds if name.startswith(FORWARD)]
    least: dict[str, float | None] = {
        "decode": floor["decode_seconds"],
        "views": floor["view_seconds"],
        "algorithms": sum(one["seconds"] for name, one in encoders.items() if name not in network),
    }
    for name in network:
        known = name in encoders and encoders[name]["flops"] is not None
        least[FORWARD + name] = encoders[name]["seconds"] if known else None
    stages = {**seconds, "other": total - sum(seconds.values())}
    lines = ["| stage | seconds | of the wall time | floor |", "|---|---|---|---|"]
    for name, taken in stages.items():
        low = least.get(name)
        lines.append(f"| {name} | {taken:.2f} | {taken / total:.1%} | {'' if low is None else f'{low:.3g}'} |")
    outside = total - sum(taken for name, taken in seconds.items() if name.startswith(FORWARD))
    lines.append(f"| **all** | {total:.2f} | 100% | device {floor['device_seconds']}, host {floor['host_seconds']} |")
    return "\n".join([*lines, "", f"Outside the forwards: {outside:.2f} s, {outside / total:.1%} of the wall time."])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("suite")
    parser.add_argument("metrics", nargs="?", default="")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--hashed", type=Path, help="folder for hashed weights, written once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--trace", type=Path, help="folder for trace.json and timeline.svg")
    chosen = parser.parse_args()
    weights = {name: Path(file) for name, _, file in (one.partition("=") for one in chosen.weights)}
    metrics = tuple(name for name in chosen.metrics.split(",") if name)
    if chosen.hashed:
        from benchmarks import side_by_side

        weights |= {name: one.path for name, one in side_by_side.weights(chosen.hashed).items()}
        metrics = metrics or side_by_side.METRICS

    from avbench.evaluation import Spec, perform, preview, resolve_spec
    from avbench.execute import Settings
    from avbench.progress import Silent

    settings = Settings(device=chosen.device, precision=chosen.precision, threads=chosen.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AVBENCH_CACHE"] = cache
        spec = Spec(
            chosen.model, chosen.suite, metrics, chosen.limit, weights=weights, out=Path(cache) / "runs",
            allow_failed="100%", settings=settings,
        )  # fmt: skip
        resolve_spec(spec)
        trace = Trace()
        with trace.on():
            run = perform(spec, Silent())
        total = time.perf_counter() - trace.began
        work, counts = run.manifest["work"], run.manifest["counts"]
        os.environ["AVBENCH_STORE"] = str(Path(cache) / "empty")
        floor = preview(spec)["floor"]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"{chosen.device}, {chosen.precision}, {chosen.threads} threads; {counts['ok']} clips, "
        f"{work['decodes']} decodes, {sum(work['forwards'].values())} forward passes; "
        f"matrix product {floor['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s\n"
    )
    print(table(work["seconds"], total, floor))
    if chosen.trace:
        chosen.trace.mkdir(parents=True, exist_ok=True)
        (chosen.trace / "trace.json").write_text(json.dumps(perfetto(trace)))
        (chosen.trace / "timeline.svg").write_text(svg(trace, total))


if __name__ == "__main__":
    main()
