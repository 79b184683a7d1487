"""FD, KL and IS of audio: what the networks hear, the protocols, and the whole path against av-benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip
from avbench.errors import NotApplicable, SampleError
from avbench.features import View
from avbench.metric import Rows, inputs
from avbench.metrics import fd_audio
from avbench.metrics.distances import frechet_distance, frechet_sqrtm, inception_score, paired_kl, paired_kl_epsilon
from avbench.metrics.encoders import panns, vggish
from avbench.registry import metrics
from tests.hashed import close
from tests.metrics.alignment import decode
from tests.metrics.distribution import arrays, rows, values, weights

NAMES = [name for name in metrics.list() if getattr(metrics.get(name), "__module__", "") == fd_audio.__name__]
REAL = values()["av_benchmark"]


def noise(seconds: float, rate: int = 16000, channels: int = 1, offset: float = 0.0) -> Clip:
    rng = np.random.default_rng(3)
    samples = offset + 0.2 * rng.standard_normal((channels, round(seconds * rate)))
    return Clip(audio=Audio(samples.astype(np.float32), rate))


def view(metric: Any) -> View:
    return metric.audio.view  # type: ignore[no-any-return]


# Views ----------------------------------------------------------------------------------------------------------------


def test_every_name_is_there() -> None:
    bare = {"fd_vgg", "fd_panns", "fd_passt", "kl_panns", "kl_passt", "is_panns"}
    assert {name for name in NAMES if "@" not in name} == bare
    assert {f"{name}@av-benchmark" for name in bare} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_views(name: str) -> None:
    look = inputs(metrics.get(name))["audio"].view
    assert look.media == {"audio"}
    found = look(noise(3.0, 22050, channels=2))
    assert found.dtype == np.float32 and np.array_equal(found, look(noise(3.0, 22050, channels=2)))
    with pytest.raises(NotApplicable, match="no_audio"):
        look(Clip())
    with pytest.raises(SampleError, match=r"audio\.too_short"):
        look(Clip(audio=Audio(np.zeros((1, 0), np.float32), 16000)))


def test_the_mean_of_channels_and_no_offset() -> None:
    clip = noise(2.0, channels=2, offset=0.3)
    found = view(fd_audio.FDPANNs)(clip)[0]
    expected = clip.need_audio().samples.mean(axis=0)
    np.testing.assert_allclose(found, expected - expected.mean(), atol=1e-6)
    first = view(fd_audio.FDPANNsAudioLDM)(clip)[0]
    expected = clip.need_audio().samples[0]
    np.testing.assert_allclose(first, expected - expected.mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "seconds", "samples"),
    [
        (fd_audio.FDPANNs, 9.0, 144000), (fd_audio.FDPANNsAVBenchmark, 9.0, 128000),
        (fd_audio.FDPANNsAVBenchmark, 5.0, 80000), (fd_audio.FDPANNsAudioLDM, 1.0, 32000),
        (fd_audio.FDPANNsAudioLDM32k, 2.0, 64000), (fd_audio.FDPaSST, 4.0, 320000), (fd_audio.FDPaSST, 12.0, 320000),
        (fd_audio.FDPaSSTAVBenchmark, 12.0, 320000),
    ],
)  # fmt: skip
def test_lengths(metric: type, seconds: float, samples: int) -> None:
    found = view(metric)(noise(seconds))
    assert found.shape == (1, samples)
    heard = {fd_audio.FDPaSSTAVBenchmark: 256000}.get(metric, min(samples, round(seconds * view(metric).rate)))  # type: ignore[attr-defined]
    assert found[0, heard - 100 : heard].any() and not found[0, heard:].any()


def test_vggish_windows_and_their_least_length() -> None:
    assert view(fd_audio.FDVGG)(noise(10.0)).shape == (10, 96, 64)
    assert view(fd_audio.FDVGGAVBenchmark)(noise(10.0)).shape == (8, 96, 64)
    assert view(fd_audio.FDVGGAudioLDM)(noise(0.5)).shape == (2, 96, 64)
    with pytest.raises(SampleError, match=r"audio\.too_short: 15200 samples"):
        view(fd_audio.FDVGG)(noise(0.95))
    with pytest.raises(SampleError, match=r"audio\.too_short"):
        view(fd_audio.FDPANNs)(noise(0.3))
    assert view(fd_audio.FDPANNs)(noise(0.31)).shape == (1, 4960)


# Values ---------------------------------------------------------------------------------------------------------------


def logits_and_features(n: int = 24, seed: int = 0, width: int = 2048) -> Rows:
    rng = np.random.default_rng(seed)
    return rows(np.concatenate([rng.normal(size=(n, width)), 2 * rng.normal(size=(n, 527))], axis=1), "audio")


def stack(side: Rows) -> np.ndarray:
    return np.concatenate(side.audio)


def test_features_and_logits_are_not_confused() -> None:
    made, real = logits_and_features(), logits_and_features(seed=1)
    a, b = stack(made), stack(real)
    assert fd_audio.FDPANNs().reduce(made, real) == frechet_distance(a[:, :2048], b[:, :2048])
    assert fd_audio.KLPANNs().reduce(made, real) == paired_kl(a[:, 2048:], b[:, 2048:])
    assert fd_audio.KLPANNsAudioLDM().reduce(made, real) == paired_kl_epsilon(a[:, 2048:], b[:, 2048:])
    assert fd_audio.ISPANNs().reduce(made) == inception_score(a[:, 2048:])[0]
    made, real = logits_and_features(width=768), logits_and_features(seed=1, width=768)
    a, b = stack(made), stack(real)
    assert fd_audio.KLPaSST().reduce(made, real) == paired_kl(a[:, 768:], b[:, 768:])
    expected = frechet_sqrtm(a[:, :768], b[:, :768], mean_dtype=np.float32)
    assert fd_audio.FDPaSSTAVBenchmark().reduce(made, real) == expected


def test_kl_is_of_pairs_and_zero_for_the_same_sound() -> None:
    made, real = logits_and_features(), logits_and_features(seed=1)
    assert fd_audio.KLPANNs().reduce(made, made) == 0.0
    with pytest.raises(SampleError, match=r"set\.not_paired"):
        fd_audio.KLPANNs().reduce(made, real.take([1, 0, *range(2, 24)]))
    order = [5, 3, *range(6, 24), 0, 1, 2, 4]
    value = fd_audio.KLPANNs().reduce(made, real)
    assert fd_audio.KLPANNs().reduce(made.take(order), real.take(order)) == pytest.approx(value, rel=1e-12)


def test_inception_score_does_not_depend_on_the_order_of_clips() -> None:
    made = logits_and_features()
    for metric in (fd_audio.ISPANNs(), fd_audio.ISPANNsAVBenchmark()):
        assert metric.reduce(made.take(list(reversed(range(24))))) == pytest.approx(metric.reduce(made), rel=1e-12)
        assert metric.notes(made) == ["N = 24: comparable only at this N"]
    assert fd_audio.ISPANNs().reduce(made) > fd_audio.ISPANNsAVBenchmark().reduce(made)
    with pytest.raises(SampleError, match="needs 10 clips"):
        fd_audio.ISPANNsAVBenchmark().reduce(made.take(range(9)))
    with pytest.raises(SampleError, match="needs 2 clips"):
        fd_audio.ISPANNs().reduce(made.take([0]))


@pytest.mark.parametrize("name", NAMES)
def test_cards(name: str) -> None:
    card = metrics.get(name).card
    assert bool(card.differs) == ("@" in name) and card.source and card.title
    assert card.paired == name.startswith("kl") and card.reference != name.startswith("is")
    assert card.better == ("higher" if name.startswith("is") else "lower")


# The whole path -------------------------------------------------------------------------------------------------------


def evaluated(network: str, width: slice) -> tuple[Rows, Rows]:
    """Features av-benchmark computed for its 12 predicted and 7 real files."""
    found = []
    for side in ("pred", "gt"):
        features = arrays()[f"av_benchmark.{side}.{network}"]
        counts = REAL["windows"][side] if network == "vggish" else [1] * len(features)
        parts = np.split(features[:, width], np.cumsum(counts)[:-1])
        found.append(Rows(REAL["ids"][side], {"audio": parts}))
    return found[0], found[1]


@pytest.mark.parity
def test_av_benchmark_values_from_its_own_features() -> None:
    """The two matrix roots are of singular products: SciPy's own builds differ in the sixth digit."""
    golden = REAL["metrics"]
    made, real = evaluated("vggish", slice(None))
    assert fd_audio.FDVGGAVBenchmark().reduce(made, real) == pytest.approx(golden["FD-VGG"], rel=1e-5)
    assert fd_audio.FDVGG().reduce(made, real) == pytest.approx(golden["FD-VGG"], rel=1e-5)
    made, real = evaluated("panns", slice(None))
    assert fd_audio.FDPANNsAVBenchmark().reduce(made, real) == pytest.approx(golden["FD-PANN"], rel=1e-5)
    assert fd_audio.FDPANNs().reduce(made, real) == pytest.approx(golden["FD-PANN"], rel=2e-4)
    assert fd_audio.ISPANNsAVBenchmark().reduce(made) == pytest.approx(golden["ISC-PANNS-mean"], rel=1e-7)
    shared = [id for id in made.ids if id in real.ids]
    made, real = (side.take([side.ids.index(id) for id in shared]) for side in (made, real))
    assert fd_audio.KLPANNsAVBenchmark().reduce(made, real) == pytest.approx(golden["KL-PANNS-softmax"], rel=1e-5)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize(("network", "build"), [("panns", panns.build), ("vggish", vggish.build)])
def test_av_benchmark_features_of_real_clips(network: str, build: Callable[..., torch.nn.Module]) -> None:
    module = build(weights(network))
    look = view({"panns": fd_audio.FDPANNsAVBenchmark, "vggish": fd_audio.FDVGGAVBenchmark}[network])
    golden = arrays()[f"av_benchmark.gt.{network}"]
    counts = REAL["windows"]["gt"] if network == "vggish" else [1] * len(golden)
    parts = dict(zip(REAL["ids"]["gt"], np.split(golden, np.cumsum(counts)[:-1])))
    for name in ("3qes", "ZYc4", "ovi"):
        with torch.inference_mode():
            found = module(torch.from_numpy(look(decode(name, video=False)))).numpy()
        assert close(found, parts[name])
