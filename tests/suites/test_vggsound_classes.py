"""The class lists of AV-Tight and AV-Loose: their counts, and every label against the paper where it is at hand."""

import re
import tomllib
from pathlib import Path

import pytest

from avbench.suites import vggsound

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT.parent / "shared" / "seeds" / "hearing-helps-seeing.txt"
TABLE = tomllib.loads((ROOT / "suites" / "vggsound" / "classes.toml").read_text(encoding="utf-8"))


def letters(label: str) -> str:
    return re.sub("[^a-z0-9]", "", label.lower())


def test_counts() -> None:
    subsets = vggsound.subset_classes()
    assert {name: len(set(labels)) for name, labels in subsets.items()} == {"av-tight": 37, "av-loose": 146}
    assert {name: len(labels) for name, labels in subsets.items()} == {"av-tight": 37, "av-loose": 146}
    assert not set(subsets["av-tight"]) & set(subsets["av-loose"])


def test_labels_are_spelt_as_vggsound_spells_them() -> None:
    labels = [label for group in vggsound.subset_classes().values() for label in group]
    assert all(re.fullmatch(r"[a-z][a-z\-,.() ]+", label) and "_" not in label for label in labels)
    assert {"arc welding", "eletric blender running", "bee, wasp, etc. buzzing", "police car (siren)"} <= set(labels)


def test_lookup() -> None:
    assert vggsound.subset_of("chopping wood") == "av-tight"
    assert vggsound.subset_of("male speech, man speaking") == "av-loose"
    assert vggsound.subset_of("playing violin, fiddle") == ""
    assert vggsound.subset_of("playing guio") == ""


def test_spellings_of_paper_and_copies_are_mapped() -> None:
    assert vggsound.spelt("arc_welking") == "arc welding" and vggsound.spelt("cat_mewwing") == "cat meowing"
    assert vggsound.spelt("electric_blender_running") == "eletric blender running"
    assert vggsound.spelt("bee_wasp_etc_buzzing") == "bee, wasp, etc. buzzing"
    assert vggsound.spelt("playing violin, fiddle") == "playing violin, fiddle"
    labels = [label for group in vggsound.subset_classes().values() for label in group]
    assert [vggsound.spelt(label) for label in labels] == labels
    assert len(vggsound.spellings()) == len(labels) + len(TABLE["printed"])


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text (../shared/seeds) is not here")
def test_recount_from_the_paper() -> None:
    lines = PAPER.read_text(encoding="utf-8").splitlines()
    tight, loose = (next(i for i, line in enumerate(lines) if line.startswith(n)) for n in ("AV-Tight C", "AV-Loose C"))
    printed = {"av-tight": lines[tight + 1 : loose], "av-loose": lines[loose + 1 :]}
    for name, labels in vggsound.subset_classes().items():
        found = [cell.strip() for line in printed[name] for cell in line.split("\t") if cell.strip()]
        assert [letters(TABLE["printed"].get(label, label)) for label in labels] == [letters(label) for label in found]
