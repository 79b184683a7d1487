"""Write docs/parity.md from the records of the parity tests.

    python tools/parity_page.py

The records are `tests/goldens/parity_*.json`: what was compared with which reference code on which clips, and the
largest deviation found. The tests marked `parity` hold the goldens themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Parity

How far our numbers are from those of the reference code. Made by `python tools/parity_page.py` from the records of the
parity tests (`pytest -m parity`).

The public checkpoints cannot be fetched where this is built. Both sides therefore own the same *hashed* weights: every
tensor is drawn from its public key name and shape alone (`tests/hashed.py`), so that a wrong key, shape or operation
shows as a wrong output. The numbers below compare those outputs, in fp32 on a CPU. **They say that the computation is
the same; they are no scores, and the published checkpoint files themselves were not loaded here.**
"""


def rows(record: dict[str, Any]) -> list[list[str]]:
    """Table cells of one record."""
    return [
        [
            row["metric"] + (f"@{row['protocol']}" if row.get("protocol") else ""),
            str(row.get("compared", "")),
            str(row["reference"]),
            ", ".join(row["clips"]) if isinstance(row["clips"], list) else str(row["clips"]),
            f"{row['largest_deviation']:.1e} {row.get('unit', '')}".strip(),
        ]
        for row in record["rows"]
    ]


def table(cells: list[list[str]]) -> str:
    """A Markdown table."""
    head = ["what", "compared", "reference", "clips", "largest deviation"]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path in sorted((ROOT / "tests" / "goldens").glob("parity_*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        title = path.stem.removeprefix("parity_").replace("_", " ").capitalize()
        notes = record.get("notes", [])
        parts.append(f"## {title}\n\n{table(rows(record))}\n")
        if record.get("clips"):
            parts.append(f"Clips: {record['clips']}.\n")
        if notes:
            parts.append("\n".join(f"* {note}" for note in ([notes] if isinstance(notes, str) else notes)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "parity.md").write_text(page(), encoding="utf-8")
