"""Clip integrity: is this a whole, sounding, moving clip at all?"""

from __future__ import annotations

import numpy as np

from avbench.features import Encoder, Feature, Whole
from avbench.metric import sample_metric

INTEGRITY = Encoder("integrity", "avbench.metrics.encoders.integrity:load", unit="clip")

# measurement -> largest value of a sound clip; what is not named here is reported and never judged
LIMITS = {
    "black": 0.5,
    "duplicated": 0.9,
    "silence": 0.999,
    "clipping": 0.001,
    "dc": 0.02,
    "gap": 0.25,
}


@sample_metric(
    "integrity", version=1, better="higher", unit="share", range=(0, 1), source="avbench",
    fields={
        "black": "share of frames with 98 % of pixels below 10 % luma (FFmpeg blackdetect's rule)",
        "duplicated": "share of frames within 0.1 % of full scale of the last (FFmpeg freezedetect's rule)",
        "frozen": "seconds of the longest still run",
        "silence": "share of 20 ms frames below -60 dBFS",
        "peak": "largest absolute sample",
        "clipping": "share of samples in runs of three or more at full scale",
        "dc": "largest absolute mean of a channel",
        "loudness": "integrated loudness, LUFS (ITU-R BS.1770-4)",
        "gap": "seconds by which starts or ends of the two streams differ",
        "defects": "number of measurements beyond their limit",
    },
)  # fmt: skip
class Integrity:
    """Share of clips without a technical defect.

    A clip is sound (1) when at most half its frames are black, at most 90 % repeat the frame before, the audio is not
    all silence, at most 0.1 % of samples are clipped, DC is at most 0.02, and the streams start and end within 0.25 s
    of each other; else 0. Streams that are not there are not judged. Every measurement is a field of its own.
    """

    clip = Feature(INTEGRITY, Whole("clip"))

    def score(self, clip: dict[str, np.ndarray]) -> dict[str, float]:
        measured = {name: float(value[0]) for name, value in clip.items()}
        defects = sum(measured[name] > limit for name, limit in LIMITS.items() if name in measured)
        return {"": float(defects == 0), **measured, "defects": defects}
