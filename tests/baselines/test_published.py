"""Published tables: shapes and sums of every table, and, where the papers' texts are at hand, every digit again.

The sums in tests/goldens/published_sums.json were taken from the texts by `write_sums`, not from the data files.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from avbench.baselines import published
from avbench.errors import UnknownName

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT.parent / "shared" / "seeds"
SUMS = ROOT / "tests" / "goldens" / "published_sums.json"

# table: rows, columns, blanks
SHAPES = {
    "bridgedit-1": (11, 8, 0),
    "bridgedit-2": (10, 6, 0),
    "bridgedit-3": (10, 6, 0),
    "bridgedit-4": (7, 5, 0),
    "bridgedit-5": (25, 1, 0),
    "bridgedit-6": (0, 0, 0),
    "bridgedit-7": (0, 0, 0),
    "bridgedit-8": (5, 4, 0),
    "bridgedit-9": (6, 6, 0),
    "harmony-1": (5, 16, 19),
    "harmony-2": (5, 16, 7),
    "harmony-3": (4, 4, 0),
    "harmony-4": (6, 1, 0),
    "harmony-5": (2, 3, 0),
    "hearing-helps-seeing-1": (4, 4, 0),
    "hearing-helps-seeing-2": (14, 6, 0),
    "hearing-helps-seeing-3a": (2, 6, 0),
    "hearing-helps-seeing-3b": (3, 6, 0),
    "hearing-helps-seeing-4": (3, 6, 0),
    "hearing-helps-seeing-5": (3, 6, 0),
    "hearing-helps-seeing-6": (0, 0, 0),
    "javisdit-plus-plus-1": (10, 11, 29),
    "javisdit-plus-plus-2": (3, 7, 0),
    "javisdit-plus-plus-3": (6, 3, 0),
    "javisdit-plus-plus-4": (7, 7, 0),
    "javisdit-plus-plus-A1": (12, 3, 1),
    "javisdit-plus-plus-A2": (6, 12, 12),
    "javisdit-plus-plus-A3": (9, 9, 0),
    "visiosonic-1": (4, 4, 0),
    "visiosonic-2": (4, 2, 0),
    "visiosonic-3": (2, 3, 0),
    "visiosonic-4": (3, 8, 0),
}
TEXTS = {
    "bridgedit": "bridgedit.txt",
    "harmony": "harmony-supplement.txt",
    "hearing-helps-seeing": "hearing-helps-seeing.txt",
    "javisdit-plus-plus": "javisdit-plus-plus.txt",
    "visiosonic": "visiosonic-supplement.txt",
}
SCORED = [name for name in SHAPES if published.table(name).kind in ("results", "human")]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
METRICS = {
    "fvd", "kvd", "fad", "fd_passt", "fd_panns", "fd_vgg", "kl_passt", "kl_panns", "is_panns", "tv_ib", "ta_ib",
    "av_ib", "clip_score", "clap_score", "avh_score", "javis_score", "desync", "av_align", "sync_c", "sync_d", "wer",
    "subject_consistency", "background_consistency", "dynamic_degree", "imaging_quality", "aesthetic_quality",
    "motion_smoothness", "text_consistency", "id_consistency", "audiobox_pq", "audiobox_pc", "audiobox_ce",
    "audiobox_cu", "videophy2_pc",
}  # fmt: skip


def numeric(name: str) -> list[int]:
    """Columns of numbers: the others hold words in the paper too."""
    table = published.table(name)
    return [
        i
        for i in range(len(table.columns))
        if all(row[i].value is not None or not row[i].printed for row in table.rows)
    ]


def ours(name: str) -> list[list[str]]:
    """The digits of our data, "-" for a blank; one list per row, columns of numbers alone."""
    columns = numeric(name)
    return [[row[i].printed or "-" for i in columns] for row in published.table(name).rows]


# --- without the papers


def test_every_table_is_there_with_its_cells() -> None:
    found = {table.id: (len(table.rows), len(table.columns), table.blanks) for table in published.tables()}
    assert found == SHAPES
    assert all(
        len(table.cells) == rows * columns for table, (rows, columns, _) in zip(published.tables(), found.values())
    )
    assert sum(rows * columns for rows, columns, _ in SHAPES.values()) == 1119


@pytest.mark.parametrize("name", SCORED)
def test_columns_add_up(name: str) -> None:
    golden = json.loads(SUMS.read_text())[name]
    assert [str(total) for total in sums(ours(name))] == golden


def sums(rows: list[list[str]]) -> list[Decimal]:
    return [sum((Decimal(v) for v in column if v != "-"), Decimal(0)) for column in zip(*rows)]


def test_metrics_suites_and_protocols_are_named() -> None:
    suites = set()
    for table in published.tables():
        for cell in table.cells:
            assert cell.column.metric in METRICS | {""}
            assert table.protocols.get(cell.protocol)
            if cell.column.metric:
                assert table.kind == "results" and (cell.value is not None or not cell.printed)
                assert cell.column.better in ("higher", "lower") or cell.column.metric == "dynamic_degree"
                suites.add(cell.suite)
    assert suites == {
        "avsync15", "vggsound-ss", "landscape", "harmony-ambient", "harmony-speech", "harmony-complex", "alt-merge",
        "vggsound", "javisbench", "javisbench-mini", "audiocaps",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [("av_ib", 0, 0.5), ("clap_score", 0, 0.6), ("clip_score", 0.15, 0.7), ("wer", 0, 10), ("videophy2_pc", 1, 5)],
)
def test_natural_units_agree_between_papers(metric: str, low: float, high: float) -> None:
    found = [cell for table in published.tables() for cell in table.cells if cell.column.metric == metric]
    values = [cell.natural for cell in found if cell.natural is not None]
    assert values and all(low <= value <= high for value in values)


def test_one_model_one_value() -> None:
    """Rows that papers repeat from table to table agree, but for the contradictions noted as errata."""
    seen: dict[tuple[str, ...], set[str]] = {}
    doubtful = set()
    for table in published.tables():
        for cell in table.cells:
            if cell.ours and cell.column.metric and table.paper in ("bridgedit", "hearing-helps-seeing"):
                key = (table.paper, cell.suite, cell.subset, cell.metric)
                seen.setdefault(key, set()).add(f"{cell.value:.3f}" if cell.value is not None else "")
                doubtful |= {key} if cell.errata else set()
    several = {key for key, values in seen.items() if len({value[:5] for value in values}) > 1}
    assert several <= {("bridgedit", "avsync15", "", "av_align@bridgedit")}  # 0.275 and 0.2746


def test_printed_changes_follow_from_the_values() -> None:
    table = published.table("hearing-helps-seeing-2")
    base = {(c.suite, c.subset, c.column.name): c.value for c in table.cells if c.arm == "T2V"}
    wrong = []
    for cell in table.cells:
        if cell.change is None:
            continue
        before = base[cell.suite, cell.subset, cell.column.name]
        assert before is not None and cell.value is not None
        low, high = ((cell.value + s * 0.005) / (before - s * 0.005) * 100 - 100 for s in (-1, 1))
        if not low - 0.005 <= cell.change <= high + 0.005:
            wrong.append(cell)
    assert [(c.subset, c.column.name) for c in wrong] == [("landscape", "ImageQual")] and wrong[0].errata
    assert sum(cell.change is not None for cell in table.cells) == 42


def test_remarks_reach_their_cells() -> None:
    table = published.table("hearing-helps-seeing-2")
    doubtful = [cell for cell in table.cells if cell.uncertain]
    assert {(c.arm, c.suite, c.subset) for c in doubtful} == {("T2V", "vggsound", "av-loose")} and len(doubtful) == 6
    cell = next(c for c in published.table("javisdit-plus-plus-A2").cells if c.errata)
    assert (cell.arm, cell.column.name, cell.printed) == ("Interleave+Offset", "AV-IB", "0.200")
    assert not any(cell.errata for cell in published.table("javisdit-plus-plus-1").cells)


def test_lookup() -> None:
    assert published.table("JavisDiT-plus-plus-a2").number == "A2"
    with pytest.raises(UnknownName, match="bridgedit-1"):
        published.table("bridgedit-99")
    best = published.rows_for("javisbench", "fvd")
    assert [(c.system, c.value) for c in best if c.ours] == [("JavisDiT++", 141.5)] and len(best) == 5 + 1
    assert published.rows_for("javisbench", "fvd@javisbench") == best
    assert published.rows_for("javisbench", "fvd@bridgedit") == []
    assert {c.subset for c in published.rows_for("vggsound", "videophy2_pc")} == {"", "av-tight", "av-loose"}
    tight = published.rows_for("vggsound", "videophy2_pc", "av-tight")
    assert [(c.arm, c.printed) for c in tight] == [("T2V", "3.99"), ("T2AV", "4.09")]
    scaled = published.rows_for("avsync15", "clip_score")[0]
    assert scaled.printed == "28.12" and scaled.natural == pytest.approx(0.2812)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('rows = [{ system = "a", values = [1] }]', "1 values for 2 columns"),
        ('rows = [{ system = "a", values = [1, 2], valeus = [1, 2] }]', "unknown keys valeus"),
        ('protocol = "other"\nrows = [{ system = "a", values = [1, 2] }]', "without a description"),
        ('rows = [{ system = "a", values = [1, 2] }]\nerrata = [{ row = "b", text = "x" }]', "matches no cell"),
    ],
)
def test_mistakes_in_the_data_are_refused(broken: str, message: str) -> None:
    head = 'paper = "p"\ntitle = "t"\nsource = "s"\n[protocols.""]\nabout = "x"\n[[table]]\nid = "1"\ntitle = "t"\n'
    text = head + 'columns = [{ name = "x" }, { name = "y" }]\n' + broken
    with pytest.raises(ValueError, match=message):
        list(published.read_paper(text, "p.toml"))


# --- with the papers


def reparse(name: str) -> list[list[str]]:
    """The digits of a table, read from the text of its paper; rows as printed."""
    paper, _, number = name.rpartition("-")
    lines = (SEEDS / TEXTS[paper]).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"Table {number.rstrip('ab')}[.:]", line))
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"(Table|Figure) \w+[.:]", lines[i])), len(lines))
    block = lines[start + 1 : end]
    if number in ("3a", "3b"):
        cut = next(i for i, line in enumerate(block) if line.startswith("(b)"))
        block = block[:cut] if number == "3a" else block[cut:]
    width = len(numeric(name))
    if name == "visiosonic-2":
        printed = [cells_of(line)[1:] for line in block if re.match(r"(IB|DeSync) ", line)]
        return [list(row) for row in zip(*printed)]
    rows = [row for line in block for row in split_joined(cells_of(line)) if is_data(row, width)]
    return [[value.split(" (")[0].rstrip("%") for value in row[-width:]] for row in rows]


def cells_of(line: str) -> list[str]:
    """Tab-separated cells without markup; a duration such as 1m17s in seconds."""
    plain = re.sub(r"</?[a-z]+>|\*\*", "", line)
    plain = re.sub(r"(\d)m(\d\d)s", lambda m: str(60 * int(m[1]) + int(m[2])), plain)
    return [cell.strip() for cell in plain.split("\t")]


def split_joined(row: list[str]) -> Iterator[list[str]]:
    """Two printed rows that the text joined: all cells but the label hold two numbers."""
    pairs = [cell.split(" ") for cell in row[1:]]
    if row[1:] and all(len(pair) == 2 and all(NUMBER.fullmatch(value) for value in pair) for pair in pairs):
        yield from ([row[0], *values] for values in zip(*pairs))
    else:
        yield row


def is_data(row: list[str], width: int) -> bool:
    return len(row) > width and all(
        value == "-" or re.fullmatch(rf"{NUMBER.pattern}%?( \([+-]{NUMBER.pattern}%\))?", value)
        for value in row[-width:]
    )


needs_papers = pytest.mark.skipif(not SEEDS.is_dir(), reason="the papers' texts (../shared/seeds) are not here")


@needs_papers
@pytest.mark.parametrize("name", SCORED)
def test_every_digit_is_the_papers(name: str) -> None:
    table, rows = published.table(name), ours(name)
    kept = [row for row, cells in zip(rows, table.rows) if not all(cell.uncertain for cell in cells)]
    assert len(rows) - len(kept) == (1 if name == "hearing-helps-seeing-2" else 0)
    assert kept == reparse(name)


@needs_papers
def test_printed_changes_are_the_papers() -> None:
    text = (SEEDS / "hearing-helps-seeing.txt").read_text(encoding="utf-8")
    printed = [
        float(change)
        for change in re.findall(r"\(([+-]\d+\.\d+)%\)\t|\(([+-]\d+\.\d+)%\)$", text, re.M)
        for change in change
        if change
    ]
    found = [cell.change for cell in published.table("hearing-helps-seeing-2").cells if cell.change is not None]
    assert found == printed


@needs_papers
@pytest.mark.parametrize("paper", TEXTS)
def test_no_table_is_left_out(paper: str) -> None:
    text = (SEEDS / TEXTS[paper]).read_text(encoding="utf-8")
    captions = set(re.findall(r"^Table (\w+)[.:]", text, re.M))
    assert {t.number.rstrip("ab") for t in published.tables() if t.paper == paper} == captions


@needs_papers
def test_settings_are_the_papers() -> None:
    text = (SEEDS / "bridgedit.txt").read_text(encoding="utf-8")
    for row in published.table("bridgedit-5").rows:
        line = next(line for line in text.splitlines() if line.startswith(row[0].system + "\t"))
        numbers = NUMBER.findall(row[0].printed.replace(",", ""))
        assert numbers == NUMBER.findall(line.split("\t")[1].replace(",", "")), row[0].system
    text = (SEEDS / "javisdit-plus-plus.txt").read_text(encoding="utf-8")
    for row in published.table("javisdit-plus-plus-A1").rows:
        line = next(line for line in text.splitlines() if line.startswith(row[0].system + "\t"))
        assert [cell.printed or "-" for cell in row] == cells_of(line.replace(" **K**", "K").replace(" <b>K</b>", "K"))[
            1:
        ]
    text = (SEEDS / "hearing-helps-seeing.txt").read_text(encoding="utf-8")
    lines = [cells_of(line) for line in text.splitlines() if line.count("\t") == 4]
    counts = [[row[2].replace(",", ""), row[3]] for row in lines if row[3] in ("2", "5")]
    assert counts == [[row[1].printed, row[2].printed] for row in published.table("hearing-helps-seeing-1").rows]


def write_sums() -> None:
    """Take the sums anew from the papers; the row of `uncertain` cells is added from the data."""
    golden = {}
    for name in SCORED:
        rows = reparse(name)
        rows += [row for row, cells in zip(ours(name), published.table(name).rows) if all(c.uncertain for c in cells)]
        golden[name] = [str(total) for total in sums(rows)]
    SUMS.write_text(json.dumps(golden, indent=1) + "\n")
