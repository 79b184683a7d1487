"""Harmony-style prompts: 150 items of our own in three subsets of 50, after the description of Harmony-Bench.

Harmony-Bench itself (Hu et al. 2025) is not published; these prompts were written for avbench. `ambient` asks for
sounds timed by what is seen, `speech` for transcripts (25 English, 25 Mandarin) under captions that say next to
nothing, and `complex` for English speech and ambient sound together. Transcripts hold no digits, no numerals that
recognisers write as digits, and no words whose British and American spellings differ, so that WER measures speech, not
spelling.
"""

from __future__ import annotations

import json
from importlib.resources import files

from avbench.suite import TEXTS, Sample, Suite, suite

VIDEO = ("aesthetic_quality", "imaging_quality", "dynamic_degree", "motion_smoothness", "clip_score")
AUDIO = ("audiobox_pq", "audiobox_pc", "audiobox_ce", "audiobox_cu")
SPEECH = ("wer", "cer", "sync_c", "sync_d")
METRICS = {
    "ambient": (*VIDEO, *AUDIO, "ta_ib", "desync", "av_ib"),
    "speech": (*VIDEO, *AUDIO, *SPEECH, "desync", "av_ib"),
    "complex": (*VIDEO, *AUDIO, *SPEECH, "ta_ib", "desync", "av_ib"),
}
DESCRIPTIONS = {
    "ambient": "sounds timed by visible events, no speech",
    "speech": "spoken transcripts under minimal captions, English and Mandarin",
    "complex": "English speech over ambient sound",
}


@suite("harmony-ambient", "harmony-speech", "harmony-complex")
def harmony(name: str) -> Suite:
    """One subset of the Harmony-style prompts; tags carry the language of the speech and the kind of scene or voice."""
    subset = name.removeprefix("harmony-")
    lines = (files(__name__) / "items.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["tags"][0] == subset]
    return Suite(
        name=name,
        version="1",
        samples=tuple(
            Sample(
                id=row["id"],
                index=index,
                tags=tuple(row["tags"][1:]),
                extra={"speaker": row["speaker"]} if row["speaker"] else {},
                **{field: row[field] for field in TEXTS},
            )
            for index, row in enumerate(rows)
        ),
        description=f"Harmony-style prompts: {DESCRIPTIONS[subset]}",
        metrics=METRICS[subset],
        licence="Apache-2.0",
        source="written for avbench after the description of Harmony-Bench (arXiv 2511.21579)",
        protocol={"seconds": 5},
    )
