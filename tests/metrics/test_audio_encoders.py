"""AudioCLIP, VGGish, PANNs and PaSST: reference outputs, front ends, keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import get_window

from avbench.errors import SampleError, UserError
from avbench.features import Context
from avbench.metrics.encoders import audioclip, panns, passt, vggish
from tests.hashed import close, hashed
from tests.metrics.distribution import KEYS, arrays, weights

# Signal and weights of the specs' golden values: a tone, a sweep and noise; legacy draws by place of the sorted key.


def sweep(rate: int, seconds: int = 8) -> np.ndarray:
    n = rate * seconds
    t = np.arange(n) / rate
    noise = 0.05 * np.random.RandomState(7).randn(n)
    tones = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (200 + 400 * t) * t)
    return (tones + noise).astype(np.float32)


def drawn(make: Callable[[], torch.nn.Module], scale: float = 0.02, skip: str = "extractor") -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in make().state_dict().items() if value.is_floating_point()}
    found = {}
    for index, key in enumerate(sorted(key for key in shapes if skip not in key)):
        a = np.random.RandomState(index).randn(*shapes[key])
        gain = len(shapes[key]) == 1 and key.endswith("weight")
        value = 1 + 0.1 * a if gain else 1 + 0.1 * np.abs(a) if key.endswith("running_var") else scale * a
        found[key] = torch.from_numpy(value.astype(np.float32))
    return found


def summary(array: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, population standard deviation, first and last element."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    return float(flat.mean()), float(flat.std()), float(flat[0]), float(flat[-1])


def meta(keys: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


# AudioCLIP ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> audioclip.ESResNeXt:
    return audioclip.build({**audioclip.front_end(), **weights("audioclip")})


@pytest.fixture
def single(head: audioclip.ESResNeXt, monkeypatch: pytest.MonkeyPatch) -> audioclip.ESResNeXt:
    """The head with its spectrogram in single precision, as in the reference."""
    monkeypatch.setattr(head, "front", torch.float32)
    return head


@pytest.mark.parity
def test_audioclip_reference_output(single: audioclip.ESResNeXt) -> None:
    samples = torch.from_numpy(0.1 * hashed("input:audioclip.audio", (1, 1, 64000))[:, 0])
    with torch.inference_mode():
        assert close(single(samples).numpy(), arrays()["audioclip.audio"])


def test_audioclip_reads_its_own_keys_among_others() -> None:
    others = {"visual.conv1.weight": [64, 3, 7, 7], "logit_scale": []}
    front = {key: list(value.shape) for key, value in audioclip.front_end().items()}
    state = meta({**KEYS["audioclip"], **front, **others})
    built = audioclip.build(state)
    assert {f"audio.{key}" for key in built.state_dict()} == set(KEYS["audioclip"]) | set(front)
    del state["audio.window"]
    assert torch.equal(audioclip.build(state).window, audioclip.blackman_harris())
    with pytest.raises(UserError, match=r"lacks: fbsp\.m"):
        audioclip.build({key: value for key, value in state.items() if key != "audio.fbsp.m"})
    with pytest.raises(UserError, match="unknown keys: extra"):
        audioclip.build({**state, "audio.extra": torch.empty(1)})


def test_the_window_is_scipys() -> None:
    expected = get_window("blackmanharris", audioclip.WINDOW, fftbins=True)
    np.testing.assert_allclose(audioclip.blackman_harris().numpy(), expected, atol=1e-7)


def test_untrained_wavelets_are_a_fourier_transform(head: audioclip.ESResNeXt) -> None:
    filters = head.fbsp.filters(torch.float64)
    k, t = torch.arange(audioclip.BINS)[:, None], math.pi * torch.linspace(-1, 1, audioclip.FFT, dtype=torch.float64)
    expected = torch.stack([torch.cos(k * t), -torch.sin(k * t)], dim=-1) / math.sqrt(audioclip.FFT)
    assert (filters - expected).abs().max() < 2e-5 / math.sqrt(audioclip.FFT)  # its t is off by 1e-8, bins go to 1024


def test_wavelets_are_complex_powers_of_sinc() -> None:
    module = audioclip.FBSP()
    m, fb, fc = 2.3, 0.7, 31.0
    for parameter, value in ((module.m, m), (module.fb, fb), (module.fc, fc)):
        torch.nn.init.constant_(parameter, value)
    with torch.no_grad():
        found = module.filters(torch.float64)[5].numpy()
    t = np.pi * np.linspace(-1, 1, audioclip.FFT) + 1e-8
    m, fb, fc = (float(np.float32(value)) for value in (m, fb, fc))
    power = (np.sin(fb * t / (m + 1e-8)) / (fb * t / (m + 1e-8))).astype(complex) ** m
    expected = math.sqrt(fb) * power * np.exp(-1j * fc * t) / math.sqrt(audioclip.FFT)
    np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1], expected, atol=1e-12)


@pytest.mark.parametrize(("samples", "frames"), [(64000, 113), (1654, 1), (1655, 2), (100, 1), (2215, 2), (2216, 3)])
def test_frames_cover_every_sample(samples: int, frames: int) -> None:
    found = audioclip.windows(torch.ones(1, samples))
    assert found.shape == (1, frames, audioclip.WINDOW)
    lack = (frames - 1) * audioclip.HOP + audioclip.WINDOW - samples
    whole = torch.nn.functional.pad(torch.ones(samples), (lack // 2, lack - lack // 2))
    assert all(torch.equal(found[0, i], whole[i * audioclip.HOP :][: audioclip.WINDOW]) for i in range(frames))


def test_samples_in_plus_minus_one_are_quantised(single: audioclip.ESResNeXt) -> None:
    """The fault of JavisBench's input: 641 levels are left, and whispers are silence."""
    x = torch.linspace(-1, 1, 100_001)
    y = (x + 32768.0) * 2.0 / 65535.0 - 1.0
    assert len(y.unique()) == 641
    assert y[50_000] == 1.52587890625e-05 == (torch.tensor(0.001) + 32768.0) * 2.0 / 65535.0 - 1.0
    scaled = (x * 32768.0 + 32768.0) * 2.0 / 65535.0 - 1.0
    assert len(scaled.unique()) > 60_000


def test_double_precision_keeps_what_single_precision_rounds_away(
    head: audioclip.ESResNeXt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet hum: the bins above it lie 100 dB and more below it, where float32 has only rounding."""
    t = torch.arange(20000, dtype=torch.float64) / 44100
    samples = (40 * torch.sin(2 * math.pi * 100 * t))[None]
    found = {}
    for dtype in (torch.float32, torch.float64):
        monkeypatch.setattr(head, "front", dtype)
        found[dtype] = head.spectrogram(samples)[0, 2, :, 10:20].double()
    y = (samples[0].numpy() + 32768.0) * 2.0 / 65535.0 - 1.0
    count = 1 + math.ceil((20000 - 1654) / 561)
    padded = np.pad(y, (((count - 1) * 561 + 1654 - 20000) // 2, 561))
    frames = np.stack([padded[i * 561 : i * 561 + 1654] for i in range(10, 20)]) * head.window.double().numpy()
    spectrum = np.pad(frames, ((0, 0), (197, 197))) @ (head.fbsp.filters(torch.float64).numpy() @ [1, 1j]).T
    expected = 10 * np.log10(np.abs(spectrum[:, 682:1023].T) ** 2)
    assert np.abs(found[torch.float64].numpy() - expected).max() < 1e-3
    assert np.median(np.abs(found[torch.float32].numpy() - expected)) > 0.3


def test_audioclip_loaders(tmp_path: Path) -> None:
    torch.save({**audioclip.front_end(), **weights("audioclip"), "visual.x": torch.zeros(1)}, tmp_path / "full.pt")
    context = Context(torch.device("cpu"), torch.float32, {"audioclip": tmp_path / "full.pt"})
    samples = torch.from_numpy(8000 * hashed("input:loud", (2, 20000)))
    with torch.inference_mode():
        double, single = audioclip.audio(context)(samples), audioclip.audio_float32(context)(samples)
        assert double.shape == (2, 1024) and double.dtype == single.dtype == torch.float32
        assert 0 < (double - single).abs().max() < 0.05 * double.std()
        assert close(audioclip.audio(context)(samples[1:]).numpy(), double[1:].numpy())
        half = Context(torch.device("cpu"), torch.bfloat16, {"audioclip": tmp_path / "full.pt"})
        assert (audioclip.audio(half)(samples) - double).abs().max() < 0.3 * double.std()


# VGGish ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parity
def test_vggish_reference_output() -> None:
    samples = 0.1 * hashed("input:vggish.audio", (1, 160000))[0]
    with torch.inference_mode():
        found = vggish.build(weights("vggish"))(torch.from_numpy(vggish.examples(samples)))
    assert close(found.numpy()[None], arrays()["vggish.embeddings"])


def test_vggish_front_end_and_network_by_the_specs() -> None:
    examples = vggish.examples(sweep(16000))
    assert examples.shape == (8, 96, 64)
    assert summary(examples) == pytest.approx((0.736715, 1.052539, 1.619018, 1.627620), abs=2e-6)
    state = drawn(vggish.VGGish)
    assert sum(value.numel() for value in state.values()) == 72_141_184
    with torch.inference_mode():
        found = vggish.build({**state, "pproc.pca_means": torch.zeros(1)})(torch.from_numpy(examples)).numpy()
    assert summary(found) == pytest.approx((0.002395, 0.053805, -0.065374, 0.033241), abs=2e-6)


@pytest.mark.parametrize(
    ("samples", "windows"), [(15599, 0), (15600, 1), (30959, 1), (30960, 2), (128000, 8), (399, 0)]
)
def test_vggish_windows(samples: int, windows: int) -> None:
    assert vggish.examples(np.zeros(samples)).shape == (windows, 96, 64)


# PANNs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cnn14() -> panns.Cnn14:
    return panns.build(weights("panns"))


@pytest.mark.parity
def test_panns_reference_output(cnn14: panns.Cnn14) -> None:
    samples = torch.from_numpy(0.1 * hashed("input:panns.audio", (2, 160000)))
    with torch.inference_mode():
        found = cnn14(samples).numpy()
    assert close(found[:, :2048], arrays()["panns.features_2048"]) and close(found[:, 2048:], arrays()["panns.logits"])


def test_panns_front_end_and_network_by_the_specs() -> None:
    state = drawn(lambda: panns.Cnn14(panns.AT_16K), scale=0.05)
    assert len(state) == 68 and sum(value.numel() for value in state.values()) == 80_769_871
    network = panns.build(state)
    samples = torch.from_numpy(sweep(16000))[None]
    with torch.inference_mode():
        mel, found = network.log_mel(samples), network(samples)[0].numpy()
    assert mel.shape == (1, 801, 64)
    assert summary(mel.numpy()) == pytest.approx((-16.373255, 8.688672, 6.500152, -17.656616), abs=5e-6)
    assert summary(panns.mel_matrix(panns.AT_16K).numpy())[:2] == pytest.approx((0.000125, 0.001038), abs=1e-6)
    assert summary(found[:2048]) == pytest.approx((981.404024, 1433.484207, 0.0, 173.753235), rel=1e-5, abs=1e-2)
    expected = (-3653.373, 1885.334, 10396.360, 4692.128)
    np.testing.assert_allclose(found[2048:2052], expected, rtol=1e-5)
    np.testing.assert_allclose(found[-2:], (-4422.826, 8346.948), rtol=1e-5)


def test_the_mel_matrix_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    for sizes in (panns.AT_16K, panns.AT_32K):
        expected = librosa.filters.mel(
            sr=sizes.rate, n_fft=sizes.window, n_mels=64, fmin=sizes.low, fmax=sizes.high, htk=False, norm="slaney"
        )
        np.testing.assert_allclose(panns.mel_matrix(sizes).numpy(), expected.T, atol=1e-8)


@pytest.mark.parametrize("sizes", [panns.AT_16K, panns.AT_32K])
def test_the_stft_is_torchs(sizes: panns.FrontEnd) -> None:
    samples = torch.from_numpy(hashed("input:stft", (1, 20000)))
    module = panns.Spectrogram(sizes)
    kernels = panns.stft_kernels(sizes)
    module.load_state_dict({"stft.conv_real.weight": kernels[0], "stft.conv_imag.weight": kernels[1]})
    window = torch.hann_window(sizes.window)
    expected = torch.stft(samples, sizes.window, sizes.hop, sizes.window, window, return_complex=True).abs() ** 2
    with torch.inference_mode():
        np.testing.assert_allclose(module(samples).numpy(), expected.mT.numpy(), rtol=1e-3, atol=1e-3)


def test_panns_at_both_rates_share_their_keys(cnn14: panns.Cnn14) -> None:
    front = {key: list(value.shape) for key, value in panns.front_end(panns.AT_16K).items()}
    assert set(cnn14.state_dict()) == set(KEYS["panns"]) | set(front)
    wide = panns.build(weights("panns"), panns.AT_32K)
    with torch.inference_mode():
        assert wide(torch.zeros(1, 32000)).shape == (1, 2575)
        with pytest.raises(SampleError, match=r"audio\.too_short"):
            cnn14(torch.zeros(1, 31 * 160 - 1))
        assert cnn14(torch.zeros(1, 31 * 160)).isfinite().all()
    with pytest.raises(UserError, match="other shapes"):
        panns.build({**weights("panns"), **panns.front_end(panns.AT_32K)}, panns.AT_16K)


# PaSST ----------------------------------------------------------------------------------------------------------------


def test_passt_front_end_and_network_by_the_specs() -> None:
    state = drawn(passt.PaSST)
    assert len(state) == 159 and sum(value.numel() for value in state.values()) == 86_153_758
    samples = np.pad(sweep(32000), (0, 64000))
    with torch.inference_mode():
        mel = passt.log_mel(torch.from_numpy(samples)[None])
        found = passt.build(state)(mel)[0].numpy()
    assert mel.shape == (1, 128, 1000)
    assert summary(mel.numpy()) == pytest.approx((0.299680, 1.056889, 0.274954, -1.402585), abs=5e-6)
    assert summary(found[768:]) == pytest.approx((-0.002666, 0.576843, -0.949986, 0.144784), abs=5e-6)
    assert summary(found[:768]) == pytest.approx((0.005692, 0.959197, 0.200859, -0.300965), abs=5e-6)
    np.testing.assert_allclose(found[1:4], (0.682842, -1.169135, 0.574703), atol=5e-6)
    np.testing.assert_allclose(found[769:772], (0.239192, 0.121848, -0.027669), atol=5e-6)


def test_the_kaldi_mel_matrix_is_torchaudios() -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    expected, _ = kaldi.get_mel_banks(128, 1024, 32000, 0.0, 15000.0, 100.0, -500.0, 1.0)
    np.testing.assert_allclose(passt.mel_matrix()[:, :-1].numpy(), expected.numpy(), atol=2e-5)
    assert not passt.mel_matrix()[:, -1].any()
