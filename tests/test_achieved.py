"""The timeline of a run: what each thread did, the same spans in both formats, and stages that add up."""

from pathlib import Path
from xml.etree import ElementTree

from avbench.execute import Counts
from benchmarks.achieved import Trace, perfetto, svg, table
from tests.test_execute import FRAMES, made, run


def test_every_thread_of_a_run_is_seen_and_the_engine_is_itself_again(tmp_path: Path) -> None:
    trace, subjects, timed = Trace(), made(tmp_path, [0, 1]), Counts.time
    with trace.on():
        _, executor, found = run(tmp_path / "a", subjects, FRAMES, threads=1)
    assert Counts.time is timed
    assert trace.lanes == ["device", "leader", "decode 0", "load 0", "view 0"]
    forwards = [one for one in trace.spans if one.lane == "device"]
    assert {one.name for one in forwards} == {"test.conv"}
    assert sum(one.end - one.begin for one in forwards) >= executor.counts.seconds["forward test.conv"]
    assert {one.name for one in trace.spans if one.lane == "decode 0"} == {"c0", "c1"}
    events = [event for event in perfetto(trace)["traceEvents"] if event["ph"] == "X"]
    assert len(events) == len(trace.spans) and all(event["dur"] >= 0 for event in events)
    boxes = ElementTree.fromstring(svg(trace, max(one.end for one in trace.spans))).findall(".//{*}title")
    assert any((box.text or "").startswith("forward test.conv") for box in boxes)
    assert set(found) == {"c0", "c1"}


def test_stages_add_up_and_only_forwards_are_inside() -> None:
    least = {
        "decode_seconds": 0.5, "view_seconds": 0.1, "device_seconds": 6.0, "host_seconds": 1.6,
        "encoders": [
            {"encoder": "net", "flops": 1e12, "seconds": 6.0}, {"encoder": "flow", "flops": None, "seconds": 1.0},
        ],
    }  # fmt: skip
    text = table({"decode": 1.0, "forward net": 8.0}, 10.0, least)
    assert "| forward net | 8.00 | 80.0% | 6 |" in text and "| other | 1.00 | 10.0% |  |" in text
    assert "Outside the forwards: 2.00 s, 20.0%" in text
