"""The static site: complete, escaped, without addresses of other servers, and alive in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avbench.cli import app
from avbench.leaderboard import Boards
from avbench.site import write_site
from avbench.site.radar import radar
from tests.synthetic import synthetic_run

EVIL = "</script><img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METRICS = ("av_align", "integrity", "temporal_flickering")


@pytest.fixture
def site(cache: Path, tmp_path: Path) -> Path:
    """Two models on two suites; clips of `real` are files, those of `made` are not there."""
    from avbench.encode import write_clip
    from tests.conftest import bouncing

    ids = [f"s{i}" for i in range(12)]
    for suite in ("made", "real"):
        for place, model in enumerate(("<b>one</b>", "two")):
            scores = {name: {i: 0.1 * place + 0.01 * at for at, i in enumerate(ids)} for name in METRICS}
            folder = synthetic_run(tmp_path / "runs", model.strip("<b>/"), scores, suite=suite, tags={"s0": [EVIL]})
            manifest = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps({**manifest, "model": {**manifest["model"], "name": model}}))
            if suite == "real":
                with_clips(folder, tmp_path / f"{place}.mp4")
                write_clip(tmp_path / f"{place}.mp4", bouncing(place))
    return write_site(tmp_path / "runs", ["made", "real"], tmp_path / "site", clips=3)


def with_clips(folder: Path, clip: Path) -> None:
    """Let the samples of a run lie at a file."""
    from avbench.run import Run, write_table

    rows = [{**row, "path": str(clip), "text": f"a disc {EVIL}"} for row in Run(folder).records("samples")]
    write_table(folder / "samples.parquet", "samples", rows)


def test_pages_are_escaped_and_ask_nobody(site: Path) -> None:
    for page in site.parent.glob("*.html"):
        html = page.read_text()
        assert EVIL not in html and "<b>one</b>" not in html
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", html)
    assert 'href="made.html"' in site.read_text() and (site.parent / "real.html").is_file()


def test_clips_are_small_files_and_missing_ones_say_so(site: Path) -> None:
    def data(name: str) -> dict[str, dict[str, str]]:
        text = (site.parent / name).read_text()
        found = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
        return found["samples"][0]["clips"]

    for clip in data("real.html").values():
        assert (site.parent / clip["video"]).stat().st_size > 500 and (site.parent / clip["poster"]).is_file()
    assert all(clip["error"] for clip in data("made.html").values())


def test_a_radar_keeps_its_bounds(cache: Path, tmp_path: Path) -> None:
    ids = [f"s{i}" for i in range(12)]
    shapes = []
    for model, value in (("a", 0.5), ("b", 0.9)):
        synthetic_run(tmp_path, model, {name: dict.fromkeys(ids, value) for name in METRICS})
        drawn = radar(Boards(tmp_path, "made").board(sort="model"))
        assert drawn is not None and drawn.bounds[0] == ("av_align", 0.0, 1.0)
        shapes.append(re.search(r'data-model="a".*?</g>', drawn.svg)[0])  # type: ignore[index]
    assert shapes[0] == shapes[1]
    assert radar(Boards(tmp_path, "made", ["av_align"]).board()) is None


def test_the_command_needs_a_folder(cache: Path) -> None:
    result = CliRunner().invoke(app, ["leaderboard", "--format", "html"])
    assert result.exit_code == 2 and "-o DIR" in result.stderr


def loaded(page: Path, profile: Path, *more: str) -> str:
    """The page's document after its script has run in headless Chromium."""
    assert CHROMIUM is not None
    words = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=3000", *more, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_lives_in_a_browser(site: Path, tmp_path: Path, width: int) -> None:
    page = site.parent / "real.html"
    probe = """<script>
      const heads = document.querySelectorAll(".board thead button");
      heads[1].click(); heads[1].click();
      const rows = [...document.querySelector(".board").tBodies[0].rows];
      const models = rows.map((row) => row.cells[0].textContent.trim());
      rows[0].classList.add("printed");
      const below = [1, 1, 0, 0].map((index) => {
        heads[index].click();
        return [...rows[0].parentNode.rows].at(-1) === rows[0];
      });
      const before = document.querySelector("#prompt span").textContent;
      const first = document.querySelector("#sample").value;
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
      const second = document.querySelector("#sample").value;
      const select = document.querySelector("#subset");
      select.value = "1"; select.dispatchEvent(new Event("change"));
      const facts = {
        models, below, before, moved: first + ">" + second, videos: document.querySelectorAll("#players video").length,
        heard: [...document.querySelectorAll("#players video")].map((video) => !video.muted),
        tables: [...document.querySelectorAll(".subset")].map((one) => !one.hidden),
        wide: document.documentElement.scrollWidth - innerWidth,
        injected: document.querySelectorAll("img").length,
      };
      const note = Object.assign(document.createElement("pre"), { id: "facts", textContent: JSON.stringify(facts) });
      document.body.append(note);
    </script></body>"""
    page.write_text(page.read_text().replace("</body>", probe))
    html = loaded(page, tmp_path / "profile", f"--window-size={width},900")
    import html as entities

    facts = json.loads(entities.unescape(re.search(r'<pre id="facts">(.*?)</pre>', html, re.S)[1]))  # type: ignore[index]
    assert facts["models"] == ["<b>one</b>", "two"], "the second click puts the worst first"
    assert facts["below"] == [True] * 4, "a printed row stays below the measured ones, however sorted"
    assert facts["before"] == f"a disc {EVIL}" and facts["moved"] == "0>1"
    assert facts["videos"] == 2 and facts["heard"] == [True, False]
    assert facts["tables"] == [False, True] and facts["wide"] <= 0 and facts["injected"] == 0
