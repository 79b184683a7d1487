"""Evaluation on a real local Ray cluster: equal bytes, also when a node dies."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import avbench
from avbench.cli import optional_value
from avbench.cluster import split
from avbench.plan import Subject
from avbench.suite import Sample

ALONE = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # Ray listens beyond 127.0.0.1


def test_parts_cover_the_work_in_order() -> None:
    todo = [(Subject("generated", Sample(str(i), i, ""), None), []) for i in range(101)]
    for workers in (1, 3, 64):
        parts = split(todo, workers)
        assert [one for part in parts for one in part] == todo
        assert max(map(len, parts)) <= 16 and len(parts) >= min(101, 4 * workers)


def test_the_address_is_optional() -> None:
    assert optional_value(["eval", "--ray", "--json"], "--ray") == ["eval", "--ray=", "--json"]
    assert optional_value(["eval", "--ray"], "--ray") == ["eval", "--ray="]
    assert optional_value(["--ray", "head:6379", "-x"], "--ray") == ["--ray", "head:6379", "-x"]


@pytest.mark.heavy
def test_a_killed_node_changes_no_byte(folder: Callable[[int], Path], tmp_path: Path) -> None:
    """Two nodes, one killed when it has computed something: nothing is lost and the tables are the same bytes."""
    pytest.importorskip("ray")
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a network namespace, in which Ray's ports are nobody else's")
    clips = folder(12)
    suite = clips.parent / "prompts.jsonl"
    alone = avbench.evaluate(str(clips), str(suite), "fast", out=tmp_path / "alone", device="cpu")
    (tmp_path / "other").mkdir()
    environment = {**os.environ, "AVBENCH_CACHE": str(tmp_path / "other"), "RAY_USAGE_STATS_ENABLED": "0"}
    root = Path(__file__).resolve().parent
    script = [sys.executable, str(root / "two_nodes.py"), str(clips), str(suite), str(tmp_path / "ray")]
    done = subprocess.run(
        [*ALONE, *script], env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "killed" in done.stdout and "done 12" in done.stdout
    (together,) = (tmp_path / "ray").glob("*/*/*/scores.parquet")
    assert together.read_bytes() == (alone.folder / "scores.parquet").read_bytes()
