"""A third-party package: one metric with its own encoder, one suite, one generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from avbench.clip import Clip, Video
from avbench.features import Context, Encoder, Feature, Network, Whole
from avbench.generator import Request, model
from avbench.metric import sample_metric
from avbench.suite import Sample, Suite, suite

WEIGHTS = Path(__file__).with_name("weights.toml")


def load(context: Context) -> Network:
    """Video -> mean level per frame."""
    return lambda video: video.frames.mean(axis=(1, 2, 3)) / 255


LEVEL = Encoder("lab.level", "avbench_lab:load", unit="clip")


@sample_metric("lab.brightness", version=1, better="none", unit="share", range=(0, 1), source="the lab")
class Brightness:
    """Mean brightness."""

    level = Feature(LEVEL, Whole("video"))

    def score(self, level: np.ndarray) -> float:
        return float(level.mean())


@suite("lab.two")
def two(name: str) -> Suite:
    """Two prompts."""
    samples = tuple(Sample(id, index, f"a {id} field") for index, id in enumerate(("grey", "dark")))
    return Suite(name, "1", samples, metrics=("lab.brightness",))


class Grey:
    """Makes flat clips, dark where the prompt says so."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Clip]:
        for request in requests:
            level = 32 if "dark" in request.sample.text else 128
            frames = np.full((12, 32, 32, 3), level, np.uint8)
            yield Clip(Video(frames, np.arange(12) / 12, Fraction(12)))


@model("lab.grey")
def grey(name: str) -> Grey:
    """The lab's generator."""
    return Grey()
