"""The real clips of a suite as its paper used them: chosen by a score, then cut or padded to one length.

`avbench suites prepare NAME` follows the suite's card: it scores the clips that are here with one metric, keeps those
above a threshold, draws the wanted number with the suite's seed, evenly over classes, and writes a cut of each at a
seeded place (H.264 CRF 18 and AAC, as generated clips are written). Scores come from the feature store where they were
computed before, cuts that exist are kept, and the choice counts only once it is complete: an interrupted run is
continued by repeating the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from avbench.clip import Audio, Clip, Video
from avbench.dataset import Card, balanced, label_of, load_samples, pick, prepared_folder
from avbench.errors import MissingResource, SampleError, UserError
from avbench.execute import Settings
from avbench.progress import Progress
from avbench.references import real_file
from avbench.suite import Sample

ENOUGH = 2  # clips; fewer have no spread


@dataclass(frozen=True)
class Prepared:
    """What was done: clips found here, scored, above the threshold, chosen and cut; and why others were left out."""

    folder: Path
    found: int
    passed: int
    chosen: int
    lost: Mapping[str, str]


def prepare(card: Card, root: Path, settings: Settings, weights: Mapping[str, Path], progress: Progress) -> Prepared:
    """Choose and cut the real clips of a suite as its card says.

    Raises `UserError` where the card has no such step, `MissingResource` where no real clips are here.
    """
    from avbench.store import write_json

    recipe = card.prepare
    if not recipe:
        raise UserError(f"suite {card.name!r} uses its clips as they are; there is nothing to prepare")
    samples = load_samples(card, root)
    if "metric" not in recipe:
        samples = pick(card, samples, card.options.get("count"))
    here = [one for one in samples if real_file(one) is not None]
    if not here:
        raise MissingResource(
            f"no real clips of suite {card.name!r} are in {root}\n  they belong there as: {card.layout}"
        )
    seed = int(card.protocol.get("seed", 0))
    scores: dict[str, float] = {}
    lost: dict[str, str] = {}
    passed = here
    if "metric" in recipe:
        scores, lost = score_real(here, str(recipe["metric"]), settings, weights, progress)
        passed = [one for one in here if scores.get(one.id, -np.inf) > recipe["above"]]
    count = recipe.get("count")
    if len(passed) < (count or ENOUGH):
        raise UserError(
            f"suite {card.name!r} needs {count or ENOUGH} clips; {len(here)} of {len(samples)} are in {root}"
            + (f", {len(passed)} of them have {recipe['metric']} above {recipe['above']}" if scores else "")
        )
    chosen = balanced(passed, count, label_of, seed) if count else passed
    folder = prepared_folder(card, root)
    cuts, broken = cut_all(chosen, folder, float(recipe["seconds"]), seed, progress)
    rows = [{"id": id, "start": start, **({"score": scores[id]} if id in scores else {})} for id, start in cuts.items()]
    document = {"name": recipe["name"], "filtered": "metric" in recipe, "recipe": dict(recipe), "seed": seed}
    numbers = {"listed": len(samples), "found": len(here), "passed": len(passed)}
    write_json(folder / "choice.json", {**document, **numbers, "lost": {**lost, **broken}, "chosen": rows})
    return Prepared(folder, len(here), len(passed), len(rows), {**lost, **broken})


def score_real(
    samples: Sequence[Sample], name: str, settings: Settings, weights: Mapping[str, Path], progress: Progress
) -> tuple[dict[str, float], dict[str, str]]:
    """A sample metric of the real clips: {id: value}, and {id: reason} where there is none."""
    from avbench.execute import Executor, given, settled
    from avbench.media import DECODER
    from avbench.metric import features
    from avbench.plan import Plan, encoders, subjects
    from avbench.registry import metrics
    from avbench.score import score
    from avbench.store import Store
    from avbench.weights import locate_all

    metric = metrics.get(name)
    needed = {weight for one in encoders(features(metric).values()) for weight in one.weights}
    files = {one.id: file for one in samples if (file := real_file(one)) is not None}
    clips = subjects("generated", samples, files)
    plan = Plan([metric], clips, Store(), locate_all(needed, weights), settings.precision, DECODER)
    failures: dict[str, SampleError] = {}
    progress.phase(f"{name} of real clips", len(plan.todo))
    for one, outcomes in Executor(plan, settings).execute():
        failures.update({plan.key(one, f): o for f, o in outcomes.items() if isinstance(o, SampleError)})
        progress.step(one.sample.id)

    found: dict[str, float] = {}
    lost: dict[str, str] = {}
    for one in clips:
        row = score(metric, one, given(settled(plan, one, features(metric).values(), failures)))[0]
        if row.value is None:
            lost[one.sample.id] = row.reason
        else:
            found[one.sample.id] = row.value
    return found, lost


def cut_all(
    samples: Sequence[Sample], folder: Path, seconds: float, seed: int, progress: Progress
) -> tuple[dict[str, float], dict[str, str]]:
    """Write the cuts that are not there yet: {id: start in seconds}, and {id: reason} of clips that cannot be read."""
    from avbench.encode import write_clip
    from avbench.media import decode, probe

    starts: dict[str, float] = {}
    lost: dict[str, str] = {}
    progress.phase(f"cutting to {seconds:g} s", len(samples))
    for one in samples:
        file, target = real_file(one), folder / f"{one.id}.mp4"
        assert file is not None, "only clips that are here are chosen"
        try:
            info = probe(file.main, file.audio)
            length = info.get("video_seconds") or info.get("audio_seconds") or 0.0
            starts[one.id] = round(place_of(one.id, seed) * max(0.0, length - seconds), 3)
            if not target.is_file():
                write_clip(target, cut(decode(file.main, file.audio), starts[one.id], seconds))
            progress.step(one.id)
        except SampleError as error:
            starts.pop(one.id, None)
            lost[one.id] = str(error)
            progress.step(one.id, str(error))
    return starts, lost


def place_of(id: str, seed: int) -> float:
    """Where the cut of a clip lies in its room, in [0, 1): a function of seed and id alone."""
    return int.from_bytes(sha256(f"{seed}:{id}:cut".encode()).digest()[:7]) / 2**56


def cut(clip: Clip, start: float, seconds: float) -> Clip:
    """`seconds` of a clip from `start` on. A short clip is padded: its last frame stays, its sound falls silent.

    Picture and sound are cut at the same moment, that of the first frame kept.
    """
    video = audio = None
    begin = start
    if clip.video is not None:
        times = np.asarray(clip.video.times)
        period = 1 / float(clip.video.fps)
        first = min(int(np.searchsorted(times, start - period / 2)), len(times) - 1)
        begin = float(times[first])
        kept = np.flatnonzero((np.arange(len(times)) >= first) & (times < begin + seconds - period / 2))
        extra = max(0, round((begin + seconds - times[kept[-1]]) / period) - 1)
        shown = np.concatenate([times[kept] - begin, times[kept[-1]] - begin + period * np.arange(1, extra + 1)])
        frames = np.concatenate([clip.video.frames[kept], np.repeat(clip.video.frames[kept[-1:]], extra, axis=0)])
        video = Video(frames, shown, clip.video.fps)
    if clip.audio is not None:
        rate, length = clip.audio.rate, round(seconds * clip.audio.rate)
        offset = round((begin - clip.audio.start) * rate)
        samples = np.zeros((len(clip.audio.samples), length), np.float32)
        source = clip.audio.samples[:, max(0, offset) : max(0, offset + length)]
        at = max(0, -offset)
        samples[:, at : at + source.shape[1]] = source[:, : length - at]
        audio = Audio(samples, rate)
    return Clip(video, audio)
