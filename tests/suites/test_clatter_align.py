"""What `clatter-mini` is for: a synchrony metric tells the own sound from a late or a foreign one, if it is tight."""

from __future__ import annotations

import numpy as np
import pytest

from avbench.clip import Audio
from avbench.features import Context
from avbench.metrics import av_align
from avbench.metrics.encoders import farneback, onsets
from avbench.suites import clatter

SAMPLES = 64
SHIFT = round(0.2 * clatter.CLATTER.rate)


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """AV-Align [3 soundtracks, 64 samples] of either variant: own sound, 200 ms late, that of the sample 32 further."""
    context = Context(None, None)
    flow_of = farneback.load(context)
    ears = {"av_align": onsets.load_22050(context), "av_align@javisbench": onsets.load_native(context)}
    metrics = {"av_align": av_align.AVAlign(), "av_align@javisbench": av_align.JavisAVAlign()}
    flows, sounds = [], []
    for index in range(SAMPLES):
        clip = clatter.render(clatter.scene("test", index))
        flows.append(flow_of(clip.need_video()))
        sounds.append(clip.need_audio().samples)
    result = {}
    for name, hear in ears.items():
        own = [hear(Audio(samples, clatter.CLATTER.rate)) for samples in sounds]
        late = [hear(Audio(np.roll(samples, SHIFT, axis=1), clatter.CLATTER.rate)) for samples in sounds]
        other = own[SAMPLES // 2 :] + own[: SAMPLES // 2]
        result[name] = np.array([[metrics[name].score(f, s)[""] for f, s in zip(flows, x)] for x in (own, late, other)])
    return result


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean."""
    draws = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["av_align", "av_align@javisbench"])
def test_synchrony_separates_on_tight_and_not_on_loose(scores: dict[str, np.ndarray], name: str) -> None:
    tight = np.arange(SAMPLES) % 2 == 0
    own, late, other = (interval(row[tight]) for row in scores[name])
    assert own[0] > late[1], (own, late)
    assert own[0] > other[1], (own, other)
    own, late, other = (interval(row[~tight]) for row in scores[name])
    assert own[0] < late[1], (own, late)
    assert late[0] < own[1], (own, late)
    assert own[0] < other[1], (own, other)


@pytest.mark.heavy
def test_every_tight_event_prefers_its_own_sound(scores: dict[str, np.ndarray]) -> None:
    own, late, _ = scores["av_align"]
    for k, event in enumerate(clatter.TIGHT):
        assert own[2 * k :: 16].mean() > late[2 * k :: 16].mean() + 0.05, event
