"""The package installs as one: wheel and checkout, with hostile names in the working directory."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKS = ("metrics", "suites", "baselines", "reference_models")
TRY = (
    "import avbench, avbench.metrics, avbench.suites, avbench.baselines, avbench.reference_models, importlib.resources;"
    "from avbench.registry import metrics, suites, models;"
    "assert 'av_align' in metrics.list() and 'clatter' in suites.list() and 'reference' in models.list();"
    "assert (importlib.resources.files('avbench.metrics') / 'groups.toml').is_file();"
    "assert (importlib.resources.files('avbench') / 'report' / 'page.html').is_file();"
    "print(avbench.metrics.__file__)"
)


def hostile(folder: Path) -> Path:
    """A user's folder with modules named like our rooms."""
    for name in PACKS:
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')")
    return folder


def python(cwd: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_users_own_modules_do_not_disturb_us(tmp_path: Path) -> None:
    for words in (("-c", TRY), ("-m", "avbench", "metrics", "list")):
        done = python(hostile(tmp_path), *words)
        assert done.returncode == 0, done.stderr


def test_from_the_repository_root_too() -> None:
    for words in (("-c", TRY), ("-m", "avbench", "suites", "list")):
        done = python(ROOT, *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PACKS)
def test_the_rooms_are_not_importable_by_their_bare_name(name: str) -> None:
    done = python(ROOT, "-c", f"import {name}")
    assert done.returncode == 1 and f"import this folder as avbench.{name}" in done.stderr


@pytest.mark.heavy
def test_the_wheel_holds_everything_and_works_anywhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path / "dist")]
    subprocess.run([*build, str(source)], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "avbench/metrics/av_align.py",
        "avbench/metrics/groups.toml",
        "avbench/report/style.css",
        "avbench/py.typed",
    ):
        assert wanted in names
    assert not [name for name in names if name.split("/")[0] not in ("avbench",) and ".dist-info/" not in name]
    target = tmp_path / "site"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True)
    away = tmp_path / "away"
    away.mkdir()
    done = python(hostile(away), "-c", TRY, path=target)
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout


def test_every_module_imports_without_a_warning_or_a_side_effect() -> None:
    code = (
        "import sys, pkgutil, importlib, avbench\n"
        "found = ['avbench']\n"
        "for room in ('', '.metrics', '.suites', '.baselines', '.reference_models'):\n"
        "    package = importlib.import_module('avbench' + room)\n"
        "    found += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "found = [name for name in found if '__main__' not in name]\n"
        "import socket\n"
        "socket.socket.connect = None  # a network at import is an error\n"
        "for name in found: importlib.import_module(name)\n"
        "assert len(found) > 40, found\n"
    )
    done = python(ROOT, "-W", "error:::avbench", "-c", code)
    assert done.returncode == 0, done.stderr


def test_no_index_addresses_and_no_machine_paths_are_committed() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".sh", ".yaml", ".html") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) + "/" not in text, f"{name} names a path of this machine"


def test_dependencies_are_ranges_that_resolve_together() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    torch = [line for line in project["dependencies"] if line.startswith("torch")]
    assert len(torch) == 3 and all("<" in line and ">=" in line for line in torch)
