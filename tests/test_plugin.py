"""A third-party package, really installed: its metric, suite, generator and weights work, its broken part is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    folder = tmp_path_factory.mktemp("site")
    source = folder.parent / "plugin-source"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True)
    return folder


def avbench(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "AVBENCH_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "avbench", *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_plugin_generates_and_is_scored_by_its_own_metric_on_its_own_suite(site: Path, tmp_path: Path) -> None:
    done = avbench(site, tmp_path, "eval", "--model", "lab.grey", "--suite", "lab.two", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    (value,) = [r["value"] for r in json.loads(done.stdout)["results"] if r["metric"] == "lab.brightness"]
    assert value == pytest.approx((128 + 32) / 2 / 255, abs=0.01)


def test_the_broken_part_is_named_and_the_rest_is_listed(site: Path, tmp_path: Path) -> None:
    listed = avbench(site, tmp_path, "metrics", "list")
    assert listed.returncode == 0 and "lab.brightness" in listed.stdout and "av_align" in listed.stdout
    assert "lab.broken" in listed.stderr and "No module named" in listed.stderr
    asked = avbench(site, tmp_path, "metrics", "show", "lab.broken")
    assert asked.returncode == 2 and "cannot be loaded" in asked.stderr
    assert "lab_net" in avbench(site, tmp_path, "weights", "list").stdout
    doctor = json.loads(avbench(site, tmp_path, "doctor", "--json").stdout)
    (check,) = [c for c in doctor["checks"] if c["name"] == "registries"]
    assert not check["ok"] and "lab.broken" in check["found"]
