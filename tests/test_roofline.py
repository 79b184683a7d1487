"""The floor of a plan: counts are exact, rates are measured, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from avbench.evaluation import Spec, evaluate, preview
from avbench.execute import CPU_BATCH, Executor, Settings
from avbench.generator import find_clips
from avbench.plan import Plan, subjects
from avbench.roofline import copy_rate, floor, matmul_rate
from avbench.store import Store
from avbench.suite import load_suite
from tests.test_execute import FRAMES, HALF, metric_of


def test_items_and_forwards_are_those_of_the_run(cache: Path, folder: Callable[[int], Path]) -> None:
    """Two views of one encoder share their items; on one clip the floor counts what the executor then does."""
    clips = folder(3)
    suite = load_suite(str(clips.parent / "prompts.jsonl"))
    found = subjects("generated", suite.samples, find_clips(clips, suite))
    plans = {n: Plan([metric_of(FRAMES, HALF)], found[:n], Store(cache), {}, "fp32", "decoder-1") for n in (1, 3)}
    (one,), (three,) = (floor(plans[n], Settings()).loads for n in (1, 3))
    least = floor(plans[1], Settings())
    executor = Executor(plans[1], Settings())
    list(executor.execute())
    assert one.items == executor.counts.distinct[FRAMES.encoder.name] and three.items == 3 * one.items
    assert one.forwards("cpu") == executor.counts.forwards[FRAMES.encoder.name] == -(-one.items // CPU_BATCH)
    assert least.decodes == executor.counts.decodes == 1 and least.decoded_bytes > 0 and least.decode_seconds > 0
    assert one.bytes == one.items * 48 * 48 * 3
    assert set(executor.counts.seconds) >= {"decode", "views", "load", "forward test.conv", "store"}


def test_a_dry_run_prints_it_and_writes_nothing(cache: Path, folder: Callable[[int], Path]) -> None:
    clips = folder(2)
    spec = Spec(str(clips), str(clips.parent / "prompts.jsonl"), ("fast",))
    least = preview(spec)["floor"]
    assert least["decodes"] == 2 and least["host_seconds"] > 0 and least["device_seconds"] == 0
    assert {one["encoder"] for one in least["encoders"]} >= {"farneback", "onsets", "integrity"}
    assert not list(cache.rglob("*.safetensors")) and not Path("runs").exists()
    evaluate(str(clips), str(clips.parent / "prompts.jsonl"), "fast", device="cpu")
    assert preview(spec)["floor"] == {}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rates_are_of_this_world(precision: str) -> None:
    assert 1e8 < matmul_rate("cpu", precision) < 1e15
    assert 1e7 < copy_rate("cpu") < 1e13
