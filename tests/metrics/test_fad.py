"""FAD: what each protocol shows AudioCLIP, and the whole path against JavisBench's evaluator."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip
from avbench.errors import NotApplicable, SampleError
from avbench.metric import inputs
from avbench.metrics import fad
from avbench.metrics.distances import frechet_distance, frechet_thresholded
from avbench.metrics.encoders import audioclip
from avbench.registry import metrics
from tests.metrics.alignment import decode
from tests.metrics.distribution import arrays, deviation, rows, values, weights

NAMES = [name for name in metrics.list() if name.partition("@")[0] == "fad"]
JAVIS = values()["javisbench"]
DEFAULT, JAVISBENCH, MM = (one.audio.view for one in (fad.FAD, fad.FADJavisBench, fad.FADMMDiffusion))


def tone(seconds: float, rate: int = 16000, channels: int = 1, pitch: float = 440.0) -> Clip:
    t = np.arange(round(seconds * rate)) / rate
    one = 0.5 * np.sin(2 * np.pi * pitch * t)
    return Clip(audio=Audio(np.stack([one * (1 + i) / channels for i in range(channels)]).astype(np.float32), rate))


def pitch(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize("name", NAMES)
def test_views_refuse_what_they_cannot_show(name: str) -> None:
    view = inputs(metrics.get(name))["audio"].view
    assert view.media == {"audio"}
    with pytest.raises(NotApplicable, match="no_audio"):
        view(Clip())
    assert view(tone(2.0)).dtype == np.float32 and np.array_equal(view(tone(2.0)), view(tone(2.0)))


def test_the_default_is_the_whole_track_in_the_trained_scale() -> None:
    found = DEFAULT(tone(2.5, 16000, channels=2))
    assert found.shape == (1, round(2.5 * 44100)) and pitch(found[0], 44100) == pytest.approx(440, abs=1)
    assert np.abs(found[0][2000:-2000]).max() == pytest.approx(0.75 * 0.5 * 32768, rel=1e-3)  # the mean of 1/2 and 2/2
    with pytest.raises(SampleError, match=r"audio\.too_short"):
        DEFAULT(tone(0.05))


def test_javisbench_is_four_seconds_at_16_khz_in_plus_minus_one() -> None:
    long, short = JAVISBENCH(tone(6.0)), JAVISBENCH(tone(1.0))
    assert long.shape == short.shape == (1, 64000) and not short[0, 16000:].any() and short[0, :16000].any()
    assert np.array_equal(long[0], tone(6.0).need_audio().samples[0, :64000])
    other = JAVISBENCH(tone(4.0, rate=48000))
    assert pitch(other[0], 16000) == pytest.approx(440, abs=1) and np.abs(other).max() == pytest.approx(0.5, abs=0.01)


def test_mm_diffusion_windows_of_the_first_channel() -> None:
    found = MM(tone(4.0, 44100, channels=2))
    assert found.shape == (2, 70560) and np.abs(found).max() == pytest.approx(0.25, abs=1e-3)
    short = MM(tone(1.0, 44100))
    assert short.shape == (1, 70560) and not short[0, 44100:].any()


def test_arithmetic_and_scale() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 12)), 1.1 * rng.normal(size=(30, 12))
    made, real = rows(a, "audio"), rows(b, "audio")
    assert fad.FAD().reduce(made, real) == frechet_distance(a, b)
    assert fad.FADJavisBench().reduce(made, real) == 1e4 * frechet_thresholded(a[:30], b)
    assert fad.FADMMDiffusion().reduce(made, real) == fad.FADJavisBench().reduce(made, real)


def test_identical_sets_are_points_apart_in_the_published_arithmetic_only() -> None:
    """A spectrum of the scale that FADs of 5 to 9 (times 10,000) imply."""
    rng = np.random.default_rng(0)
    spectrum = 1 / np.arange(1, 257.0)
    real = rows((rng.normal(size=(500, 256)) * np.sqrt(spectrum / spectrum.sum() * 2.5e-3)).astype("f4"), "audio")
    assert fad.FADJavisBench().self_distance(real) > 0.3
    assert fad.FAD().self_distance(real) < 1e-12


def test_cards() -> None:
    for name in NAMES:
        card = metrics.get(name).card
        assert bool(card.differs) == ("@" in name) and card.better == "lower" and card.text
    assert sum(line.startswith("fault") for line in metrics.get("fad@javisbench").card.differs) == 4
    ours, theirs = (inputs(metrics.get(name))["audio"] for name in ("fad", "fad@javisbench"))
    assert ours.encoder.name != theirs.encoder.name and ours.encoder.weights == theirs.encoder.weights


# The whole path -------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", ["3qes", "ZYc4", "ovi"])
def test_javisbench_on_real_clips(name: str) -> None:
    """Samples as its reader gave them to the network, and the network's output.

    Quiet frames hold float32 rounding, which is the processor's: in one arithmetic our output is equal to 3e-5 of its
    standard deviation, in others by a few tenths (the noise of the fault itself), so the loud clip is held to more.
    """
    samples, golden = JAVISBENCH(decode(name, video=False)), JAVIS["samples"][name]
    at = np.linspace(0, samples.size - 1, 32).astype(int)
    np.testing.assert_allclose(samples[0, at], golden["sample32"], atol=1e-6)
    if name != "ovi":  # resampled: the same values, not the same bits
        assert zlib.crc32((np.round(samples, 3) + np.float32(0)).astype("<f4").tobytes()) == golden["crc_r3"]
    network = audioclip.build({**audioclip.front_end(), **weights("audioclip")})
    network.front = torch.float32
    with torch.inference_mode():
        found = network(torch.from_numpy(samples)).numpy()
    side = "real" if name in JAVIS["real"] else "fake"
    expected = arrays()[f"javisbench.{side}.audioclip"][[JAVIS[side].index(name)]]
    assert deviation(found, expected) < (2e-3 if name != "ovi" else 0.5)


@pytest.mark.parity
def test_javisbench_value_from_its_own_features() -> None:
    """Four clips in 1,024 dimensions: its float32 roots are 4e-4 from the exact value, and so are ours from its own."""
    made, real = (rows(arrays()[f"javisbench.{side}.audioclip"], "audio") for side in ("fake", "real"))
    assert fad.FADJavisBench().reduce(made, real) == pytest.approx(JAVIS["fad_x10000"], rel=2e-3)
    assert 1e4 * fad.FAD().reduce(made, real) == pytest.approx(JAVIS["fad_x10000_float64_exact"], rel=1e-6)
