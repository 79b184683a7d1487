"""The plan of JavisBench's metrics for a clip of 4 s at 24 fps: every forward pass that differs from all others, once.

The released evaluator decodes such a clip eight times, reads its sound nine times, and runs ImageBind's audio tower 21
times where eight of its inputs differ.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avbench.encode import write_clip
from avbench.evaluation import Spec, preview
from avbench.groups import resolve
from avbench.metric import features
from avbench.plan import encoders
from avbench.registry import metrics
from tests.metrics.alignment import synthetic

ITEMS = {
    "i3d.k400": 1,  # 24 frames together
    "audioclip.audio_float32": 1,  # and not the 24 images that the reference passes along and its score ignores
    "imagebind.vision": 15 + 96,  # pairs for TV and AV; stills for AVHScore and JavisScore
    "imagebind.audio": 7,  # 3 clips (AVHScore's are the same) and 5 windows (of 15), the first of which is a clip
    "imagebind.text_released": 1,  # one prompt for both sides of the caption
    "clip.b32.image": 48,
    "clip.b32.text": 1,
    "clap.htsat.audio": 1,
    "clap.htsat.text": 1,
    "synchformer.video": 11,
    "synchformer.audio": 11,
    "synchformer.head": None,  # one (see test_desync); the plan knows it once the trunks have run
    "audiobox.windows": 1,
}
ALGORITHMS = {"farneback", "onsets.native", "javisscore.windows"}


@pytest.fixture
def spec(cache: Path, tmp_path: Path) -> Spec:
    """One clip, its own reference, and a file in the place of every checkpoint: a plan reads none of them."""
    chosen = resolve(["javisbench"])
    (tmp_path / "weights").write_bytes(b"a plan needs the digest alone")
    wanted = encoders(feature for name in chosen for feature in features(metrics.get(name)).values())
    names = {name for encoder in wanted for name in encoder.weights}
    write_clip(tmp_path / "clips" / "a.mkv", synthetic(96, 128), lossless=True)
    row = {"id": "a", "text": "noise that moves", "reference": "clips/a.mkv"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row))
    return Spec(
        str(tmp_path / "clips"), str(tmp_path / "prompts.jsonl"), tuple(chosen),
        weights=dict.fromkeys(names, tmp_path / "weights"),
    )  # fmt: skip


def test_every_distinct_forward_pass_once(spec: Spec) -> None:
    least = preview(spec)["floor"]
    items = {one["encoder"]: one["items"] for one in least["encoders"]}
    assert least["decodes"] == 1
    assert {name: items[name] for name in items if name not in ALGORITHMS} == ITEMS
    assert set(items) > ALGORITHMS


def test_a_second_clip_of_equal_bytes_costs_nothing(spec: Spec) -> None:
    """The reference is the clip itself here: decoded and encoded once for both roles."""
    encoded = {one["encoder"]: one for one in preview(spec)["floor"]["encoders"]}
    assert encoded["i3d.k400"]["clips"] == encoded["audioclip.audio_float32"]["clips"] == 1
