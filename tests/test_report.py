"""The report page: self-contained, escaped, and whole in a real browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import avbench
from avbench.report import write_report
from avbench.run import Run

Folder = Callable[[int], Path]
EVIL = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'


@pytest.fixture
def run(cache: Path, folder: Folder, tmp_path: Path) -> Run:
    clips = folder(5)
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    rows[0] |= {"text": EVIL, "tags": ["even", EVIL]}
    rows.append({"id": "gone", "text": "never made"})
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return avbench.evaluate(str(clips), str(tmp_path / "prompts.jsonl"), "av_align,integrity", device="cpu")


class Links(HTMLParser):
    """Collects what a page refers to and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "poster") and value:
                self.addresses.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_page_holds_everything_and_loads_nothing(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert all(address.startswith(("data:", "#")) for address in links.addresses)
    anchors = [address[1:] for address in links.addresses if address.startswith("#")]
    assert anchors and set(anchors) <= set(links.ids), "a link leads nowhere"
    assert links.tags.count("video") == links.tags.count("article") - 2 and "svg" in links.tags
    assert links.tags.count("script") == 1 and not re.search(r"https?://(?!www\.w3\.org)", page)
    assert "av_align" in page and "clip.missing" in page and "partial" in page


def test_captions_and_tags_are_escaped(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "report.html").read_text()
    assert "<script>alert" not in page and "onerror=alert(1)>" not in page.replace("&gt;", "")
    assert "&lt;script&gt;alert" in page


def test_a_page_without_its_clips_says_why(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "clips").iterdir():
        path.unlink()
    page = write_report(run, tmp_path / "report.html").read_text()
    assert "decode.not_found" in page and "<video" not in page


@pytest.mark.browser
def test_a_browser_plays_it_without_an_error(run: Run, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = write_report(run, tmp_path / "report.html")
    probe = (
        "<script>addEventListener('error', e => document.title = 'error ' + e.message);"
        "addEventListener('load', () => setTimeout(() => { document.querySelector('#fields').click();"
        "const v = [...document.querySelectorAll('video')];"
        "document.title = 'videos ' + v.length + ' playable ' + v.filter(x => x.readyState > 0 && !x.error).length"
        "+ ' hidden ' + document.querySelectorAll('tr.field[hidden]').length"
        "+ ' wide ' + (document.documentElement.scrollWidth > innerWidth); }, 1500));</script>"
    )
    page.write_text(page.read_text().replace("</head>", probe + "</head>"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=420,900",
        "--virtual-time-budget=6000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    found = re.fullmatch(r"videos (\d+) playable (\d+) hidden (\d+) wide (\w+)", title[1])
    assert found, title[1]
    assert int(found[1]) >= 4 and found[2] == found[1] and found[3] == "0"
    assert found[4] == "false", "the page is wider than a narrow screen"
