"""Which runs stand on a leaderboard: one per model, the latest complete one, and older ones of the same clips.

A partial run, one that lacks clips, is left out unless asked for, and then shown without a rank: a model must not
stand best by failing on what is hard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avbench.errors import UserError
from avbench.run import Run, runs_in


@dataclass
class Entry:
    """A model on the board: its runs of one set of clips, newest first.

    partial: what its run lacks, such as "1 of 5 clips ok"; "" for a complete one.
    """

    model: str
    runs: list[Run]
    partial: str = ""
    tables: dict[str, dict[tuple[str, str], dict[str, float]]] = field(default_factory=dict)

    def run_with(self, metric: str) -> Run | None:
        """The newest run that scored this metric."""
        return next((run for run in self.runs if any(one["id"] == metric for one in run.manifest["metrics"])), None)

    def values(self, metric: str, name: str) -> dict[str, float]:
        """{sample: value} of a field, samples without a value left out."""
        run = self.run_with(metric)
        if run is None:
            return {}
        key = str(run.folder)
        if key not in self.tables:
            self.tables[key] = read_values(run)
        return self.tables[key].get((metric, name), {})


def read_values(run: Run) -> dict[tuple[str, str], dict[str, float]]:
    """{(metric, field): {sample: value}} of everything that is ok in scores.parquet."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys = ["metric", "field"]
    table = pq.read_table(run._path("scores"), columns=["sample", "metric", "field", "value", "status"])
    table = table.filter(pc.equal(table["status"], "ok"))
    samples, values = table["sample"].to_pylist(), table["value"].to_pylist()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for sample, value, *key in zip(samples, values, *(table[name].to_pylist() for name in keys)):
        found.setdefault((key[0], key[1]), {})[sample] = value
    return found


def suites_in(out: Path, partial: bool = False) -> list[str]:
    """Suites with a complete run below `out`; `partial`: or one that lacks clips."""
    counts = ("complete", "partial") if partial else ("complete",)
    return sorted({run.suite for run in runs_in(out) if run.manifest["status"] in counts})


def entries_in(out: Path, suite: str, partial: bool = False) -> tuple[list[Entry], list[str]]:
    """The models of a leaderboard and what is left out, with the reason. partial: take partial runs where needed."""
    by_model: dict[str, list[Run]] = {}
    for run in reversed(runs_in(out, suite)):
        by_model.setdefault(run.model, []).append(run)
    if not by_model:
        known = suites_in(out)
        have = f"; suites with finished runs there: {', '.join(known)}" if known else ""
        raise UserError(f"no run of suite {suite!r} in {out}{have}\n  make one: avbench eval --model M --suite {suite}")
    left_out = [unfinished(runs) for runs in by_model.values() if runs[0].manifest["status"] != "complete"]
    usable = {model: found for model, runs in by_model.items() if (found := countable(runs, partial))}
    if not usable:
        have_partial = any(countable(runs, True) for runs in by_model.values())
        hint = "\n  --partial shows partial runs, unranked" if have_partial else ""
        raise UserError(f"no complete run of suite {suite!r} in {out}\n  " + "\n  ".join(left_out) + hint)
    left_out = [unfinished(runs) for model, runs in by_model.items() if runs[0] not in usable.get(model, [])]
    digest = commonest(runs[0].manifest["suite"]["digest"] for runs in usable.values())
    entries = []
    for model, runs in usable.items():
        same = [run for run in runs if run.manifest["suite"]["digest"] == digest]
        if not same:
            left_out.append(f"{model}: scored on other prompts (suite digest {digest_of(runs[0])}, not {digest[:12]})")
            continue
        lacks = "" if same[0].manifest["status"] == "complete" else clips_ok(same[0])
        entries.append(Entry(model, [same[0], *(run for run in same[1:] if same_clips(same[0], run))], lacks))
    return sorted(entries, key=lambda entry: entry.model), left_out


def countable(runs: Sequence[Run], partial: bool) -> list[Run]:
    """A model's complete runs; where it has none and `partial`, its partial ones."""
    complete = [run for run in runs if run.manifest["status"] == "complete"]
    return complete or [run for run in runs if partial and run.manifest["status"] == "partial"]


def clips_ok(run: Run) -> str:
    """How many clips of a finished run are good, "" of an unfinished one."""
    counts, limit = run.manifest.get("counts") or {}, run.manifest.get("limit")
    limited = f", --limit {limit}" if limit else ""
    return f"{counts['ok']} of {counts['expected']} clips ok{limited}" if counts else ""


def unfinished(runs: Sequence[Run]) -> str:
    """Why a model's latest run does not count."""
    status, counted = runs[0].manifest["status"], clips_ok(runs[0])
    done = f" ({counted})" if counted else ""
    older = any(run.manifest["status"] == "complete" for run in runs)
    used = "; an older complete run is shown" if older else ""
    return f"{runs[0].model}: its latest run is {status}{done}{used}"


def digest_of(run: Run) -> str:
    return str(run.manifest["suite"]["digest"])[:12]


def commonest(values: Iterable[str]) -> str:
    """The value that occurs most often; of several, the one seen first."""
    return Counter(values).most_common(1)[0][0]


def same_clips(first: Run, second: Run) -> bool:
    """Whether two runs scored the same files, by digest."""

    def digests(run: Run) -> list[tuple[str, str]]:
        return [(row["sample"], row["sha256"]) for row in run.records("samples")]

    return first.manifest["model"]["digest"] == second.manifest["model"]["digest"] and digests(first) == digests(second)
