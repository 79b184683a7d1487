"""ImageBind: the network against reference outputs, what it is shown, and the scores on real clips."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from avbench.clip import Audio, Clip, Video
from avbench.errors import NotApplicable, UserError
from avbench.features import Context, Feature
from avbench.metric import features
from avbench.metrics import imagebind as family
from avbench.metrics import views_imagebind as views
from avbench.metrics.encoders import imagebind
from avbench.metrics.encoders.clip import MEAN, STD, tokenize
from avbench.registry import metrics
from tests.hashed import close, hashed, hashed_state_dict
from tests.metrics.alignment import CLIPS, GOLDENS, decode, golden, scores, synthetic

KEYS: dict[str, list[int]] = json.loads((GOLDENS / "imagebind_keys.json").read_text())
NAMES = [name for name in metrics.list() if metrics.get(name).__module__ == family.__name__]
Network = imagebind.Callable[[torch.Tensor], torch.Tensor]


def tower(modality: str) -> imagebind.ImageBind:
    """One tower with hashed weights; made alone, so that memory stays below 6 GB."""
    keys = {key: shape for key, shape in KEYS.items() if key.split(".")[1] == modality}
    return imagebind.build(hashed_state_dict(keys), [modality])


def use_hashed(patch: pytest.MonkeyPatch) -> Context:
    """Let the loaders build hashed towers instead of reading a checkpoint."""
    patch.setattr(imagebind, "load", lambda context, modality: tower(modality))
    return Context(torch.device("cpu"), torch.float32)


def encode(network: Network, items: np.ndarray) -> np.ndarray:
    """Features of items, equal items once, four at a time, as the engine would."""
    digests = [item.tobytes() for item in items]
    first = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    order = sorted(first.values())
    with torch.inference_mode():
        parts = [network(torch.from_numpy(items[order[at : at + 4]])) for at in range(0, len(order), 4)]
    known = dict(zip(order, torch.cat(parts).numpy()))
    return np.stack([known[first[digest]] for digest in digests])


# The network --------------------------------------------------------------------------------------------------------


def meta(keys: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def test_every_key_is_consumed_and_none_is_left_over() -> None:
    ours = imagebind.build(meta(KEYS)).state_dict().keys()
    assert ours == {key for key in KEYS if key.split(".")[1] in imagebind.SIZES}
    assert {key.split(".")[1] for key in KEYS.keys() - ours} == set(imagebind.UNUSED)
    first = "modality_trunks.vision.blocks.0.norm_1.weight"
    with pytest.raises(UserError, match="lacks"):
        imagebind.build(meta({key: shape for key, shape in KEYS.items() if key != first}))
    for stranger in ("modality_trunks.vision.blocks.32.norm_1.weight", "modality_trunks.smell.x", "epoch"):
        with pytest.raises(UserError, match="unknown"):
            imagebind.build(meta({**KEYS, stranger: [1280]}))
    with pytest.raises(UserError, match="other shapes"):
        imagebind.build(meta({**KEYS, first: [1281]}))


@pytest.mark.parametrize("modality", sorted(imagebind.SIZES))
def test_one_tower_needs_no_other(modality: str) -> None:
    built = imagebind.build(meta(KEYS), [modality])
    assert {key.split(".")[1] for key in built.state_dict()} == {modality}
    assert not any(parameter.requires_grad for parameter in built.parameters()) and not built.training


@pytest.mark.parity
def test_two_blocks_against_published_figures() -> None:
    """Weights drawn by the place of each key in sorted order; figures of the reference network with two blocks."""
    depths = {"vision": 2, "audio": 2}
    sizes = {m: imagebind.replace(imagebind.SIZES[m], depth=2) for m in depths}
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in imagebind.ImageBind(sizes).state_dict().items()}
    assert len(shapes) == 69
    state = {}
    for index, key in enumerate(sorted(shapes)):
        draw = np.asarray(np.random.RandomState(index).randn(*shapes[key]))
        gain = draw.ndim == 1 and key.endswith("weight")
        value = math.log(20) if key.endswith("log_logit_scale") else 1 + 0.1 * draw if gain else 0.02 * draw
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    model = imagebind.build(state, depths, depths)
    pair = torch.from_numpy(np.random.RandomState(2000).randn(1, 3, 2, 224, 224).astype(np.float32))
    mels = torch.from_numpy(np.random.RandomState(2001).randn(1, 3, 1, 128, 204).astype(np.float32))
    with torch.inference_mode():
        seen = model.vision(pair.permute(0, 2, 3, 4, 1))[0].numpy()
        heard = model.audio(mels[0, :, 0]).mean(dim=0).numpy()
    figures = [-0.006098, 0.025092, -0.011914, 0.008557, 0.032368, -0.010402]
    assert seen[[0, 1, 2, 3, -2, -1]] == pytest.approx(figures, abs=2e-6)
    figures = [0.176431, -0.240270, -0.991830, 0.385158, -0.402396, 0.328107]
    assert heard[[0, 1, 2, 3, -2, -1]] == pytest.approx(figures, abs=2e-6)
    assert np.linalg.norm(heard) == pytest.approx(18.606241, abs=2e-5)


@pytest.mark.parity
@pytest.mark.heavy
@pytest.mark.parametrize("modality", ["audio", "text", "vision"])
def test_tower_against_reference_outputs(modality: str) -> None:
    """ImageBind-huge with hashed weights against facebookresearch/ImageBind 53680b0."""
    model = tower(modality)
    with np.load(GOLDENS / "imagebind.npz") as file:
        tokens, expected = torch.from_numpy(file["tokens"]), file[modality]
    with torch.inference_mode():
        if modality == "vision":
            frames = torch.from_numpy(hashed("input:imagebind.vision", (2, 3, 224, 224))).movedim(1, -1)
            found = model.vision(frames[:, None].expand(-1, 2, -1, -1, -1))
        elif modality == "audio":
            mels = torch.from_numpy(hashed("input:imagebind.audio", (2, 3, 1, 128, 204)))
            found = model.audio(mels.flatten(0, 2)).unflatten(0, (2, 3)).mean(dim=1)
        else:
            found = model.text(tokens)
    assert close(found.numpy(), expected)


def test_a_long_prompt_without_end_is_a_constant() -> None:
    """The released tokenizer's fault, and that ours mends it: where the largest id stands decides what is read."""
    long = ["a dog barks " * 30, "the sea is calm " * 30]
    assert tokenize(long, "cut").argmax(dim=-1).tolist() == [0, 0]
    assert tokenize(long, "end").argmax(dim=-1).tolist() == [76, 76]


@pytest.mark.parametrize("fault", [True, False])
def test_text_features_of_long_prompts(fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    size = imagebind.replace(imagebind.SIZES["text"], depth=1)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in imagebind.ImageBind({"text": size}).state_dict().items()}
    state = hashed_state_dict(shapes)
    mask = "modality_preprocessors.text.mask"
    state[mask] = torch.full((77, 77), float("-inf")).triu(1)
    monkeypatch.setattr(imagebind, "load", lambda *_: imagebind.build(state, ["text"], {"text": 1}))
    load = imagebind.text_released if fault else imagebind.text
    with torch.inference_mode():
        a, b = load(Context(torch.device("cpu"), torch.float32))(["a dog barks " * 30, "the sea is calm " * 30])
    assert torch.equal(a, b) == fault


def test_stills_and_pairs_of_equal_frames_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    size = imagebind.replace(imagebind.SIZES["vision"], depth=1)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in imagebind.ImageBind({"vision": size}).state_dict().items()}
    state = hashed_state_dict(shapes)
    monkeypatch.setattr(imagebind, "load", lambda *_: imagebind.build(state, ["vision"], {"vision": 1}))
    network = imagebind.vision(Context(torch.device("cpu"), torch.float32))
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    with torch.inference_mode():
        still, pair = network(frames), network(torch.stack([frames, frames], dim=1))
        floats = network(frames.float() / 255)
    assert torch.allclose(still, pair, atol=1e-6) and torch.allclose(still, floats, atol=1e-6)
    assert torch.allclose(still.norm(dim=-1), torch.ones(2), atol=1e-6)


# What it is shown ---------------------------------------------------------------------------------------------------


def test_clip_starts() -> None:
    assert views.clip_starts(4.0, 3) == [0, 1, 2]
    assert views.clip_starts(4.0, 5) == [0, Fraction(1, 2), 1, Fraction(3, 2), 2]
    assert views.clip_starts(1.5, 3) == [0, 0, 0]


def test_clip_spans() -> None:
    assert views.clip_spans(128000) == [(0, 32000), (48000, 80000), (96000, 128000)]
    assert views.clip_spans(16000) == [(0, 16000)] * 3
    assert views.clip_spans(160868) == [(0, 32000), (64433, 96433), (128867, 160867)]  # the float's side of a sample


def test_pair_indices() -> None:
    assert views.pair_indices(96, Fraction(24)) == [(0, 47), (12, 59), (24, 71), (36, 83), (48, 95)]
    assert views.pair_indices(20, Fraction(24)) == [(0, 19)] * 5


def test_crops() -> None:
    assert views.crop_offsets(224, 397) == [(0, 0), (0, 87), (0, 173)]
    assert views.crop_offsets(397, 224) == [(0, 0), (87, 0), (173, 0)]
    assert views.FramePairs()(synthetic(240, 426, frames=48)).shape == (15, 2, 224, 224, 3)


def test_too_short_for_av_benchmark() -> None:
    with pytest.raises(NotApplicable, match="too_short"):
        views.NeighbourPairs()(synthetic(240, 426, frames=48))


def test_log_mel_of_the_published_signal() -> None:
    """8 s at 16 kHz; figures of Kaldi's filter bank after padding and normalisation, no DC removal."""
    t = np.arange(128000) / 16000
    noise = np.random.RandomState(7).randn(len(t))
    wave = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * noise
    spans = views.clip_spans(len(wave))
    mels = (views.mels_of(wave.astype(np.float32), spans) + 4.268) / 9.138
    assert mels.shape == (3, 128, 204)
    assert [mels.mean(), mels.std(), mels[0, 0, 0], mels[-1, -1, -1]] == pytest.approx(
        [0.288133, 0.386119, -0.479152, 0.467061], abs=2e-6
    )


def test_a_short_sound_is_padded() -> None:
    assert views.log_mel(np.zeros(399, dtype=np.float32)).shape == (128, 204)
    mel = views.log_mel(np.random.default_rng(0).standard_normal(1000).astype(np.float32))
    assert (mel[:, 4:] == 0).all() and (mel[:, :4] != 0).all()


def test_released_audio_hears_the_left_channel_only() -> None:
    stereo = synthetic(frames=2, channels=2)
    assert stereo.audio is not None
    left = Clip(None, Audio(stereo.audio.samples[:1], 16000))
    released, ours = views.AudioMels(released=True), views.AudioMels()
    assert np.allclose(released(stereo)[0], released(left)[0], atol=1e-3)
    assert not np.allclose(ours(stereo), ours(left), atol=1e-1)


def test_released_audio_shifts_what_overlaps() -> None:
    """A later range sees the mean of an earlier one removed; ranges that share nothing are as ours."""
    wave = np.random.default_rng(0).standard_normal((1, 64000)).astype(np.float32) + 1.0
    apart, overlapping = [(0, 32000), (32000, 64000)], [(0, 32000), (16080, 48080)]
    for spans, same in ((apart, True), (overlapping, False)):
        assert np.allclose(views.mels_released(wave, spans), views.mels_of(wave[0], spans), atol=1e-3) == same


def test_views_leave_the_clip_as_it_was() -> None:
    clip = synthetic(frames=96)
    assert clip.audio is not None and clip.video is not None
    before = clip.audio.samples.copy(), clip.video.frames.copy()
    for name in NAMES:
        for feature in features(metrics.get(name)).values():
            if feature.view.media and not isinstance(feature.view, views.NeighbourPairs):
                feature.view(clip)
    assert np.array_equal(before[0], clip.audio.samples) and np.array_equal(before[1], clip.video.frames)


# Windows of JavisScore ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "fps", "seconds", "starts", "wide"),
    [
        (96, 24, 4.0, [0, 12, 24, 36, 48], 48),
        (102, 24, 4.25, [0, 12, 24, 36, 48, 54], 48),
        (65, 16, 4.0625, [0, 8, 16, 24, 32, 33], 32),
        (100, 25, 4.0, [0, 13, 26, 39, 50], 50),
    ],
)
def test_released_windows(frames: int, fps: int, seconds: float, starts: list[int], wide: int) -> None:
    pairs = views.Windows().pair_released(frames, fps, round(seconds * 16000))
    assert [seen for seen, _ in pairs] == [(start, start + wide) for start in starts]
    assert [heard[1] - heard[0] for _, heard in pairs] == [32000] * len(starts)


def test_released_windows_of_short_streams() -> None:
    assert views.Windows().pair_released(48, 24, 64000) == [((0, 48), (0, 64000))]
    assert views.Windows().pair_released(96, 24, 32000) == [((0, 96), (0, 32000))]
    assert len(views.Windows().pair_released(240, 24, 64000)) == 5  # cut to the shorter list


@pytest.mark.parametrize(("frames", "fps"), [(96, 24), (100, 25), (120, 30), (64, 16)])
def test_windows_by_time(frames: int, fps: int) -> None:
    """Every window is two seconds of both streams, at the same time, at any frame rate."""
    pairs = views.Windows().pair(synthetic(32, 32, frames=frames, fps=fps))
    assert len(pairs) == 5
    for (first, last), (start, end) in pairs:
        assert (last - first, end - start) == (2 * fps, 32000)
        assert abs(first / fps - start / 16000) <= 1 / fps


def test_a_window_in_which_no_frame_begins_shows_the_one_before() -> None:
    clip = synthetic(32, 32, frames=6, seconds=6.0)
    held = Video(clip.need_video().frames, np.array([0, 0.1, 0.2, 5.0, 5.1, 5.2]), Fraction(10))
    pairs = views.Windows().pair(Clip(held, clip.audio))
    assert all(first < last for (first, last), _ in pairs)
    assert pairs[3][0] == (2, 3)  # 1.5 to 3.5 s: frame 2, shown since 0.2 s


def test_windows_of_a_late_audio() -> None:
    pairs = views.Windows().pair(synthetic(32, 32, frames=96, seconds=3.0, start=0.5))
    assert pairs[0] == ((12, 60), (0, 32000))
    assert pairs[-1][1][1] == 48000 and len(pairs) == 3


def test_windows_of_a_short_clip() -> None:
    assert views.Windows().pair(synthetic(32, 32, frames=24, seconds=1.0)) == [((0, 24), (0, 16000))]
    with pytest.raises(NotApplicable, match="no_overlap"):
        views.Windows().pair(synthetic(32, 32, frames=24, seconds=1.0, start=2.0))


# Scores -------------------------------------------------------------------------------------------------------------


def test_javis_score_takes_the_least_aligned_frames() -> None:
    axis = np.eye(2)
    frames = np.stack([axis[0]] * 6 + [axis[1]] * 4)
    ranges = np.array([[0, 10], [0, 6]])
    sound = np.stack([axis[0]] * 6)
    found = family.JavisScore().score(frames, sound, ranges)
    assert found == {"": pytest.approx(0.5), "all": pytest.approx(0.8), "highest": pytest.approx(1.0)}
    assert family.JavisScoreJavisBench().score(frames, sound, ranges) == pytest.approx(0.5)


def test_javis_score_of_hardly_any_frames() -> None:
    frames, ranges = np.eye(2), np.array([[0, 2]])
    assert family.JavisScore().score(frames, np.eye(2)[:1], ranges)[""] == pytest.approx(0.0)
    with pytest.raises(NotApplicable, match="too_short"):
        family.JavisScoreJavisBench().score(frames, np.eye(2)[:1], ranges)


def test_avh_score_is_the_mean_over_frames() -> None:
    frames, audio = np.eye(2), np.array([[20.0, 0.0], [20.0, 0.0]])
    assert family.AVHScore().score(frames, audio) == pytest.approx(0.5)


def test_variants_name_what_they_do_otherwise() -> None:
    for name in NAMES:
        card = metrics.get(name).card
        assert bool(card.differs) == bool(card.protocol), name


def test_stills_are_encoded_once_for_all_scores() -> None:
    stills = [
        feature
        for name in ("avh_score", "javis_score", "avh_score@javisbench", "javis_score@javisbench")
        for feature in features(metrics.get(name)).values()
        if feature.view == family.STILLS
    ]
    assert len(stills) == 4 and len({feature.key for feature in stills}) == 1


@pytest.mark.parametrize(("protocol", "distinct"), [("", 5), ("@javisbench", 7)])
def test_distinct_forwards_of_a_four_second_clip(protocol: str, distinct: int) -> None:
    """A clip of 4 s at 24 fps: 15 pairs and 96 stills; the reference runs 21 log-mels for these scores.

    Three clips and five windows: ours has three in common, the released loader's shifted waveform only the first.
    """
    clip = synthetic(frames=96)
    names = [f"{name}{protocol}" for name in ("tv_ib", "ta_ib", "av_ib", "avh_score", "javis_score")]
    wanted: list[Feature] = list(dict.fromkeys(f for name in names for f in features(metrics.get(name)).values()))
    seen = {item.tobytes() for f in wanted if f.encoder == family.IB_VISION for item in f.view(clip)}
    heard = [item.tobytes() for f in wanted if f.encoder == family.IB_AUDIO for item in f.view(clip)]
    assert len(seen) == 15 + 96
    assert (len(heard), len(set(heard))) == (18, distinct)


# Real clips ---------------------------------------------------------------------------------------------------------


def like(array: np.ndarray, summary: dict[str, object], tolerance: float) -> bool:
    """Whether 32 sampled values, mean and deviation of an array are those of a golden's summary."""
    places = np.linspace(0, array.size - 1, 32).astype(int)
    sampled = np.abs(array.ravel()[places] - np.array(summary["sample32"])).max() <= tolerance
    moments = [array.mean(dtype=np.float64) - summary["mean"], array.std(dtype=np.float64) - summary["std"]]
    return bool(sampled) and bool(np.abs(moments).max() <= tolerance)


def normalised(frames: np.ndarray) -> np.ndarray:
    """What reaches the tower, channels before time, as the goldens summarise it."""
    scaled = frames.astype(np.float32) / (255 if frames.dtype == np.uint8 else 1)
    return np.moveaxis((scaled - np.float32(MEAN)) / np.float32(STD), -1, -4 if frames.ndim == 5 else -3)


@pytest.mark.parity
@pytest.mark.parametrize("name", CLIPS)
def test_frame_pairs_of_real_clips(name: str) -> None:
    clip, expected = decode(name, audio=False), scores()["imagebind_score"][name]
    assert clip.video is not None
    assert [list(span) for span in views.pair_indices(len(clip.video.frames), clip.video.fps)] == expected[
        "frame_indices"
    ]
    assert like(normalised(views.FramePairs()(clip)), expected["vision"], 1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["3qes", "ovi"])
def test_neighbour_pairs_of_real_clips(name: str) -> None:
    pairs = views.NeighbourPairs()(decode(name, audio=False))
    assert like(normalised(pairs), scores()["av_benchmark"]["vision"][name], 1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["00000", "00041"])
def test_stills_and_windows_of_real_clips(name: str) -> None:
    """Windows for the 80,000 samples of the wav that these clips ship with."""
    clip, expected = decode(name, audio=False), scores()["av_score"]
    assert clip.video is not None
    assert like(normalised(family.STILLS(clip)), expected[f"{name}:w2.0_o1.5"]["frames"], 1e-6)
    for setting, windows in (("w2.0_o1.5", views.Windows()), ("w0.5_o0", views.Windows(0.5, 0.0))):
        pairs = windows.pair_released(len(clip.video.frames), float(clip.video.fps), 80000)
        assert [list(seen) for seen, _ in pairs] == expected[f"{name}:{setting}"]["windows"]


@pytest.mark.parity
@pytest.mark.parametrize("name", ["3qes", "ZYc4", "ovi"])
def test_log_mels_of_real_clips(name: str) -> None:
    """Clips whose wav was taken from the mp4 that is here; those of `universe1` shipped another wav beside it."""
    mels = (views.AudioMels(released=True)(decode(name, video=False)) + 4.268) / 9.138
    assert like(mels[:, None], scores()["imagebind_score"][name]["audio"], 2e-4)


@pytest.mark.parity
@pytest.mark.heavy
def test_imagebind_scores_of_real_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """TV, TA and AV of JavisBench and IB-Score of av-benchmark, features and values."""
    context = use_hashed(monkeypatch)
    names, expected = ["3qes", "ovi"], scores()["imagebind_score"]
    audio, text = imagebind.audio(context), imagebind.text_released(context)
    heard = {name: encode(audio, views.AudioMels(released=True)(decode(name, video=False))) for name in names}
    with torch.inference_mode():
        said = {name: text([expected[name]["prompt"]]).numpy() for name in names}
    del audio, text
    vision = imagebind.vision(context)
    for name in names:
        clip = decode(name, audio=False)
        seen = encode(vision, views.FramePairs()(clip))
        assert close(seen.mean(axis=0), golden(f"ib_vision_{name}"))
        assert close(heard[name].mean(axis=0), golden(f"ib_audio_{name}"))
        assert close(said[name][0], golden(f"ib_text_{name}"))
        assert family.TVIBJavisBench().score(seen, said[name]) == pytest.approx(expected[name]["tv"], abs=2e-6)
        assert family.TAIBJavisBench().score(heard[name], said[name]) == pytest.approx(expected[name]["ta"], abs=2e-6)
        assert family.AVIBJavisBench().score(seen, heard[name]) == pytest.approx(expected[name]["av"], abs=2e-6)
        pairs = encode(vision, views.NeighbourPairs()(clip))
        assert close(pairs.mean(axis=0), golden(f"avb_ib_video_{name}"))


@pytest.mark.parity
@pytest.mark.heavy
def test_av_scores_of_a_real_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVHScore and JavisScore of JavisBench; every fifth frame embedding, then the scores on the golden's own sound.

    The wav of this clip is not the track of its mp4, so the sound is the golden's; the log-mels have their own test.
    """
    vision = imagebind.vision(use_hashed(monkeypatch))
    clip, expected = decode("00000", audio=False), scores()["av_score"]
    frames = encode(vision, family.STILLS(clip))
    assert close(frames[::5], golden("avh_frames_every5_00000"))
    sound = golden("avh_audio_00000")
    assert family.AVHScoreJavisBench().score(frames, sound) == pytest.approx(
        expected["00000:w2.0_o1.5"]["avh"], abs=2e-6
    )
    ranges = np.array(expected["00000:w2.0_o1.5"]["windows"])
    windows = golden("javis_audio_w2.0_o1.5_00000")
    found = family.JavisScoreJavisBench().score(frames, windows, ranges)
    assert found == pytest.approx(expected["00000:w2.0_o1.5"]["javis"], abs=2e-6)
