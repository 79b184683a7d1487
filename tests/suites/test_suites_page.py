"""docs/suites.md says of every suite what its card says."""

from pathlib import Path

from avbench.dataset import Card, catalogue
from avbench.registry import suites

PAGE = Path(__file__).resolve().parents[2] / "docs" / "suites.md"
SUBSETS = 4  # more are counted, not named


def row(name: str) -> str:
    """A line of the page's table."""
    if card := catalogue().get(name):
        size = f"{card.expected:,}" if card.expected else "as listed"
        cells = [f"`{name}`", size, subsets_of(list(card.subsets)), protocol_of(card), got(card), card.licence]
    else:
        suite = suites.get(name)
        made = "rendered" if suite.render else "in avbench"
        seconds = f"{suite.protocol['seconds']:g} s"
        cells = [f"`{name}`", f"{len(suite.samples):,}", subsets_of(list(suite.subsets)), seconds, made, suite.licence]
    return f"| {' | '.join(cells)} |"


def subsets_of(tags: list[str]) -> str:
    return ", ".join(f"`{tag}`" for tag in tags) if len(tags) <= SUBSETS else f"{len(tags)}"


def protocol_of(card: Card) -> str:
    facts = card.protocol
    size = f"{facts['width']} × {facts['height']}" if "width" in facts else ""
    seconds = f"{facts['seconds']:g} s" if "seconds" in facts else ""
    rate = f"{facts['fps']} fps" if "fps" in facts else ""
    return ", ".join(part for part in (size, seconds, rate) if part) or "not stated"


def got(card: Card) -> str:
    """How its needed files are had."""
    needed = [one for one in card.files if one.needed]
    return "`pull`" if all(one.url or one.hf for one in needed) else "by hand"


def table() -> list[str]:
    head = ["| suite | samples | subsets | clips | files | licence |", "|---|---:|---|---|---|---|"]
    return head + [row(name) for name in suites.list() if "." not in name]


def test_the_table_is_that_of_the_cards() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(table()[0])
    assert lines[first : first + len(table())] == table()


def test_what_is_not_verified_is_on_the_page() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for name, card in catalogue().items():
        assert f"`{name}`" in page
        for note in card.unverified:
            assert " ".join(note.split()) in page, f"{name}: {note}"
