"""Physical commonsense on desk-sized clatter, measured instead of judged.

The thing that moves is found and followed in the pixels of the clip itself (`tracking`); nothing is compared with where
the real clip has it, since a generator may put the ball elsewhere. What is held against the clip is what its prompt
implies: the kind of event, this world's gravity, the restitution of the material.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avbench.errors import NotApplicable, SampleError
from avbench.features import Encoder, Feature, Field, Whole
from avbench.metric import Track, sample_metric
from avbench.metrics.tracking import EVENTS, PIXEL, Motion, follow
from avbench.suites.clatter.falling import LOSS
from avbench.suites.clatter.world import DESK, MATERIALS

GRID = Encoder("motion.grid", "avbench.metrics.encoders.motion:load_grid", unit="clip")
SOUNDS = Encoder("motion.onsets", "avbench.metrics.encoders.motion:load_onsets", unit="clip")

FRAMES = 4  # fewer show no law
TOUCH = PIXEL  # a turn farther from the surface has avoided it
NEAR, FAR = 0.5 * PIXEL, 1.5 * PIXEL  # a turn nearer has wholly touched, a turn farther not at all
TURN = 0.5 * PIXEL  # a smaller dent in the gap is no turn
STRIKE = 1.5 * PIXEL  # nor is a smaller one of a stick, which strikes from four pixels and more
AIRBORNE, HIGH = 0.75 * PIXEL, 1.5 * PIXEL  # frames nearer are not in free flight; flights that stay lower are not used
OVERLAP = 0.5 * PIXEL  # bodies may overlap by so much before it counts
JUMP = PIXEL  # how far a step may differ from the steps beside it
HELD = 0.125  # seconds at the start in which a thing may still be held
FAST = 0.4  # slower contacts tell no restitution, heights per second
SURE = 0.25  # largest standard error of a gravity that counts, as a share, at an eighth of a pixel of noise
ROLLING = 5 / 7  # of the pull along a slope, for a solid ball that rolls
STROKE = (7.0, 4.0)  # deceleration of the gap before and after the blow of a stick, heights per second squared
SLOPES = (0.3, 0.9)  # radians; a valley outside them is not a valley, and the middle of the prompt's range is taken
SLOPE = 0.56


@dataclass(frozen=True)
class Turn:
    """A reversal of the gap, between frames: seconds, the gap there, and the speeds in and out (NaN: not measured)."""

    time: float
    gap: float
    speed_in: float = np.nan
    speed_out: float = np.nan


def turns(times: np.ndarray, gap: np.ndarray, pull: tuple[float, float], least: float = TURN) -> list[Turn]:
    """The reversals of a gap [T] under these decelerations before and after, at least so deep.

    Around each local minimum, up to three frames before and after are continued to where they meet; the lowest frame
    belongs to the side with which that happens between the right two frames.
    """
    from scipy.signal import find_peaks

    seen = np.isfinite(gap)
    if seen.sum() < 3:
        return []
    filled = np.interp(np.arange(len(gap)), np.flatnonzero(seen), gap[seen])
    lows, _ = find_peaks(-filled, prominence=least)
    lows = lows[seen[lows]]  # one among frames without the thing was not seen
    edges = [-1, *lows, len(gap)]
    return [meeting(times, gap, low, edges[i], edges[i + 2], pull) for i, low in enumerate(lows)]


def meeting(times: np.ndarray, gap: np.ndarray, low: int, start: int, end: int, pull: tuple[float, float]) -> Turn:
    """The turn at frame `low`, between the turns at frames `start` and `end`."""
    step, best = float(np.median(np.diff(times))), Turn(float(times[low]), float(gap[low]))
    least = np.inf
    for first in (low, low + 1):  # the first frame after the turn
        left, right = np.arange(max(start + 1, first - 3), first), np.arange(first, min(end, first + 3))
        left, right = left[np.isfinite(gap[left])], right[np.isfinite(gap[right])]
        if len(left) < 2 or len(right) < 2:
            continue
        here = 0.5 * (times[first - 1] + times[first])
        (a, va, worse_a), (b, vb, worse_b) = (
            launch(times[side] - here, gap[side], bend) for side, bend in zip((left, right), pull)
        )
        when = crossing(a - b, va - vb, pull[1] - pull[0])
        if not abs(when) <= 0.75 * step or worse_a + worse_b >= least:
            continue
        least = worse_a + worse_b
        level = a + va * when - 0.5 * pull[0] * when * when
        best = Turn(float(here + when), float(level), pull[0] * when - va, vb - pull[1] * when)
    return best


def launch(t: np.ndarray, y: np.ndarray, pull: float) -> tuple[float, float, float]:
    """Height and speed at 0 of the parabola of this deceleration through points, and its mean squared residual."""
    straight = y + 0.5 * pull * t * t
    middle = t - t.mean()
    speed = float((middle * straight).sum() / (middle * middle).sum())
    height = float(straight.mean() - speed * t.mean())
    return height, speed, float(np.mean((straight - height - speed * t) ** 2))


def crossing(height: float, speed: float, bend: float) -> float:
    """The root nearest to 0 of height + speed t + bend t^2 / 2, infinite where there is none."""
    roots = np.roots([0.5 * bend, speed, height]) if bend else np.array([-height / speed]) if speed else np.array([])
    real = np.real(roots[np.abs(np.imag(roots)) < 1e-9])
    return float(real[np.abs(real).argmin()]) if len(real) else np.inf


def deceleration(motion: Motion, found: list[Turn]) -> float | None:
    """The constant deceleration that fits all free flights at once, each with its own height and speed.

    None where the flights are too short to tell.
    """
    t, step = motion.times, motion.step
    free = motion.seen & motion.whole & (motion.gap > AIRBORNE) & (t - t[0] >= HELD)
    cuts = [-np.inf, *(turn.time for turn in found), np.inf]
    columns, bends, values = [], [], []
    for start, end in zip(cuts, [*cuts[1:-1], landing(motion, cuts[-2])]):
        mine = np.flatnonzero(free & (t > start + 0.1 * step) & (t < end - 0.1 * step))
        if len(mine) < 3 or motion.gap[mine].max() < HIGH:
            continue
        since = t[mine] - t[mine].mean()
        columns.append(np.stack([np.ones(len(mine)), since], 1))
        bends.append(-0.5 * since * since)
        values.append(motion.gap[mine])
    if not columns:
        return None
    # what is left of bend and value once each flight's own height and speed are taken out
    rests = [
        (x - q @ (q.T @ x), y - q @ (q.T @ y))
        for q, x, y in ((np.linalg.qr(c)[0], x, y) for c, x, y in zip(columns, bends, values))
    ]
    bend, value = (np.concatenate(part) for part in zip(*rests))
    power = float(bend @ bend)
    if PIXEL / 8 / np.sqrt(max(power, 1e-12)) > SURE * pull_of(motion):
        return None
    return float(bend @ value) / power


def landing(motion: Motion, after: float) -> float:
    """When the last flight ends: where, near the surface, the gap bends upward. Too few frames follow for a turn."""
    gap, bend = motion.gap, np.full(len(motion.gap), -np.inf)
    bend[1:-1] = gap[2:] - 2 * gap[1:-1] + gap[:-2]
    near = np.fmin.reduce([gap, np.append(gap[1:], np.inf)]) < 2 * HIGH
    late = motion.times > after + 2 * motion.step
    found = np.flatnonzero((bend > 0.3 * PIXEL) & near & late)
    return float(motion.times[found[0]]) if len(found) else np.inf


def pull_of(motion: Motion) -> float:
    """The deceleration of the gap that the world's gravity asks for: of a ball above a floor, of two in a valley."""
    if motion.event == "bounce":
        return DESK.gravity
    slope = motion.slope if SLOPES[0] < motion.slope < SLOPES[1] else SLOPE
    return 2 * ROLLING * DESK.gravity * float(np.sin(slope) * np.cos(slope))


def elasticity(event: str, material: str) -> float:
    """The restitution that the prompt's material has in this world."""
    return MATERIALS[material].restitution if event == "bounce" else min(0.98, LOSS[material])


def permanence(motion: Motion) -> float:
    """How much of the thing is there and in one piece, on average over frames: 0 ... 1."""
    usable = motion.whole & motion.seen
    usual = float(np.median(motion.mass[usable])) if usable.any() else 0.0
    if motion.event == "stick" or usual <= 0:
        return float(np.mean(motion.kept * motion.seen))
    amount = np.where(motion.whole, 1 - np.abs(motion.mass / usual - 1), 1.0)
    return float(np.mean(np.clip(amount, 0, 1) * motion.kept * motion.seen))


def variation(motion: Motion) -> float:
    """Standard deviation over mean of the thing's area, frames in which it is cut off left out."""
    mass = motion.mass[motion.whole]
    return float(mass.std() / mass.mean()) if len(mass) and mass.mean() > 0 else 0.0


def jumps(motion: Motion) -> float:
    """Single leaps summed, in picture heights: by how much steps differ from both neighbours, beyond a pixel each.

    A step is compared with the median of itself and its neighbours, which lets reversals pass and single leaps not.
    """
    total = 0.0
    for path in motion.paths:
        steps = np.diff(path, axis=0)
        if len(steps) < 3:
            continue
        usual = np.median(np.stack([steps[:-2], steps[1:-1], steps[2:]]), axis=0)
        leap = np.hypot(*(steps[1:-1] - usual).T)
        total += float(np.clip(leap[np.isfinite(leap)] - JUMP, 0, None).sum())
    return total


def penetration(motion: Motion, found: list[Turn]) -> float:
    """The deepest overlap of two bodies beyond half a pixel, in picture heights."""
    depths = [0.0, *(-turn.gap for turn in found)]
    with_values = motion.clearances[np.isfinite(motion.clearances)]
    return max(0.0, max(*depths, -float(with_values.min(initial=0.0))) - OVERLAP)


@dataclass(frozen=True)
class Reading:
    """A motion with its turns, and the deceleration that was measured (None: it could not be)."""

    motion: Motion
    turns: list[Turn]
    pull: float | None


def read(event: str, grid: np.ndarray, times: np.ndarray) -> Reading:
    """Follow the thing and find its turns, first under the world's gravity, then under the one that was measured."""
    motion = follow(event, grid, times)
    if event == "stick":
        return Reading(motion, turns(times, motion.gap, STROKE, STRIKE), None)
    due = pull_of(motion)
    found = turns(times, motion.gap, (due, due))
    pull = deceleration(motion, found)
    if pull is not None:
        bend = float(np.clip(pull, 0, 2 * due))
        found = turns(times, motion.gap, (bend, bend))
    return Reading(motion, found, pull)


def judge(reading: Reading, material: str) -> dict[str, float]:
    """The fields of `physics@clatter`; those that could not be measured are left out."""
    motion, found = reading.motion, reading.turns
    values = {
        "permanence": permanence(motion),
        "mass_cv": variation(motion),
        "continuity": 1.0,
        "penetration": penetration(motion, found),
        "contact": 0.0,
        "turns": float(len(found)),
    }
    if found:
        gaps = np.array([turn.gap for turn in found])
        values["contact"] = float(np.clip((FAR - gaps) / (FAR - NEAR), 0, 1).mean())
        values["avoidance"] = float((gaps > TOUCH).mean())
    size = motion.radius or PIXEL
    values["solidity"] = max(0.0, 1 - values["penetration"] / (2 * size))
    laws = [values["contact"]]
    if motion.event != "stick":
        values["jumps"] = jumps(motion)
        values["continuity"] = max(0.0, 1 - values["jumps"])
        laws += lawful(reading, material, values)
    things = values["permanence"] * values["continuity"] * values["solidity"]
    return {"": things * float(np.mean(laws)), **values}


def lawful(reading: Reading, material: str, values: dict[str, float]) -> list[float]:
    """Add gravity and restitution to the values where they can be measured; how well each is kept, 0 ... 1.

    A law that the clip gives no occasion to see is not kept: its prompt asks for a thing that flies and lands.
    """
    if reading.pull is not None:
        due = pull_of(reading.motion)
        values["gravity"] = reading.pull / due
        values["gravity_error"] = min(1.0, abs(reading.pull / due - 1))
    told = [turn for turn in reading.turns if turn.speed_in > FAST and np.isfinite(turn.speed_out)]
    if told:
        ratio = sum(turn.speed_out for turn in told) / sum(turn.speed_in for turn in told)
        due = elasticity(reading.motion.event, material)
        values["restitution_error"] = min(1.0, abs(ratio / due - 1))
        values["energy_gain"] = float(np.mean([turn.speed_out > 1.05 * turn.speed_in for turn in told]))
    return [1 - values.get(name, 1.0) for name in ("gravity_error", "restitution_error")]


def event_of(tags: Sequence[str]) -> str:
    """The event among a sample's tags; `NotApplicable` where none is known here."""
    for tag in tags:
        if tag in EVENTS:
            return tag
    raise NotApplicable("physics.event", f"it is known how {', '.join(EVENTS)} must move, not: {', '.join(tags)}")


def checked(tags: Sequence[str], truth: Mapping[str, Any], grid: Mapping[str, np.ndarray]) -> str:
    """The event of a sample whose physics can be measured here; `NotApplicable` says why of any other."""
    event, camera = event_of(tags), truth["camera"]
    if (list(camera["centre"]), camera["zoom"]) != ([0.5, 0.5], 1.0):
        raise NotApplicable("physics.camera", "only the desk world (clatter-desk) is plain enough to be followed")
    if len(grid["times"]) < FRAMES:
        raise NotApplicable("physics.short", f"{len(grid['times'])} frames; at least {FRAMES} are needed")
    if (np.diff(grid["times"]) <= 0).any():
        raise SampleError("physics.times", "the frames' times do not increase")
    return event


@sample_metric(
    "physics@clatter", version=1, better="higher", range=(0, 1), source="avbench", suites=("clatter*",),
    differs=("measured by the known laws of one world, where videophy2_pc asks a language model",),
    fields={
        "permanence": "share of the thing that is there and in the pieces it should be, mean over frames (1 is best)",
        "continuity": "1 less `jumps`, at least 0 (balls)",
        "solidity": "1 less the deepest overlap of bodies in diameters, at least 0",
        "contact": "how far reversals reach the surface: 1 within half a desk pixel, 0 from 1.5 on; 0 if nothing turns",
        "avoidance": "share of reversals more than a desk pixel off the surface",
        "gravity": "measured over true gravity, from free flights (balls)",
        "gravity_error": "its distance from 1, at most 1",
        "restitution_error": "relative error of the speed after contacts over the speed before, at most 1 (balls)",
        "energy_gain": "share of contacts that are left faster than they were met, by over 5 %",
        "penetration": "deepest overlap of bodies beyond half a desk pixel, picture heights",
        "jumps": "single leaps, each less a pixel, summed, picture heights",
        "mass_cv": "coefficient of variation of the thing's area",
        "turns": "number of reversals",
    },
)  # fmt: skip
class Physics:
    """Does what is seen keep the laws of the desk world? 1: a solid, lasting thing that falls, lands and rebounds so.

    The thing is followed in the clip's own pixels; only event, gravity and material are taken from the prompt.
    Score = permanence x continuity x solidity x mean(contact, 1 - gravity_error, 1 - restitution_error); for stick,
    permanence x solidity x contact. A law that the clip gives no occasion to measure counts as broken, and a clip in
    which nothing can be followed has permanence 0 and so scores 0. Sound plays no part. Not applicable to other events
    than bounce, stick and collide, to the larger clatter with its moving camera, and to fewer than four frames.
    """

    video = Feature(GRID, Whole("video"))
    tags = Field("tags")
    truth = Field("truth")

    def score(self, video: dict[str, np.ndarray], tags: Sequence[str], truth: Mapping[str, Any]) -> dict[str, float]:
        event = checked(tags, truth, video)
        return judge(read(event, video["grid"], video["times"]), truth["laws"].get("material", ""))

    def timeline(self, video: dict[str, np.ndarray], tags: Sequence[str]) -> list[Track]:
        """The gap between what should meet, and where it turns."""
        event = event_of(tags)
        reading = read(event, video["grid"], video["times"])
        seen = reading.motion.seen
        moments = np.array([turn.time for turn in reading.turns])
        if not seen.any():
            return []
        name = {"bounce": "height above the floor", "stick": "height of the tip", "collide": "distance of the balls"}
        return [Track(name[event], reading.motion.times[seen], reading.motion.gap[seen], moments)]


def contacts(reading: Reading) -> np.ndarray:
    """Seconds of all visible reversals, at walls too."""
    motion = reading.motion
    times = [turn.time for turn in reading.turns]
    if motion.event == "bounce":
        times += [turn.time for turn in turns(motion.times, motion.clearances[1:].min(axis=0), (0.0, 0.0))]
    return np.sort(np.array(times, np.float64))


def pairs(first: np.ndarray, second: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
    """One-to-one matches of two lists of instants within a tolerance, the nearest first."""
    apart = np.abs(first[:, None] - second[None]) if len(first) and len(second) else np.zeros((0, 0))
    found: list[tuple[int, int]] = []
    for flat in np.argsort(apart, axis=None, kind="stable"):
        i, j = divmod(int(flat), apart.shape[1])
        if apart[i, j] > tolerance:
            break
        if all(i != a and j != b for a, b in found):
            found.append((i, j))
    return found


def judged(reading: Reading, heard: np.ndarray, matched: set[int]) -> int:
    """How many onsets count: all but unmatched ones while bodies touch (small rebounds hide in a pixel) or when a
    reversal could not be seen, in the first and last two frames."""
    motion = reading.motion
    start, end = motion.times[0] + motion.step, motion.times[-1] - motion.step
    seen = np.isfinite(motion.gap)
    near = np.interp(heard, motion.times[seen], np.min(motion.clearances, axis=0)[seen]) if seen.any() else heard + 1
    return sum(j in matched or (start <= t <= end and gap > TOUCH) for j, (t, gap) in enumerate(zip(heard, near)))


@sample_metric(
    "contact_sync@clatter", version=1, better="higher", unit="F1", range=(0, 1), source="avbench",
    suites=("clatter*",), differs=("contacts of things that are followed, where av_align takes peaks of motion",),
    fields={
        "lag": "mean distance of matched onsets and contacts, seconds",
        "recall": "share of visible contacts that are heard",
        "precision": "share of onsets at which something is seen to land",
        "contacts": "visible contacts", "onsets": "onsets heard",
    },
)  # fmt: skip
class ContactSync:
    """F1 of sound onsets and visible contacts of the desk world: is heard what is seen to land, and when?

    Contacts are reversals of what `physics@clatter` follows, in the air too, and at walls; onsets are sudden rises of
    the spectrum. They match one to one within one frame. An onset while bodies touch, or too near the clip's ends for a
    reversal to be seen, is not held against the clip. A silent track scores 0. Not applicable to loose samples, to
    clips without sound, and where nothing is seen or heard to land.
    """

    video = Physics.video
    audio = Feature(SOUNDS, Whole("audio"))
    tags = Field("tags")
    truth = Field("truth")

    def score(
        self,
        video: dict[str, np.ndarray],
        audio: dict[str, np.ndarray],
        tags: Sequence[str],
        truth: Mapping[str, Any],
    ) -> dict[str, float]:
        event = checked(tags, truth, video)
        if "av-tight" not in tags:
            raise NotApplicable("physics.loose", "ambient sound has nothing to do with contacts")
        reading = read(event, video["grid"], video["times"])
        seen, heard = contacts(reading), audio["times"]
        matches = pairs(seen, heard, reading.motion.step)
        count = judged(reading, heard, {j for _, j in matches})
        if not len(seen) and not count:
            raise NotApplicable("physics.no_contact", "nothing is seen or heard to land")
        values = {"": 2 * len(matches) / (len(seen) + count), "contacts": float(len(seen)), "onsets": float(len(heard))}
        if len(seen):
            values["recall"] = len(matches) / len(seen)
        if count:
            values["precision"] = len(matches) / count
        if matches:
            values["lag"] = float(np.mean([abs(seen[i] - heard[j]) for i, j in matches]))
        return values

    def timeline(self, video: dict[str, np.ndarray], audio: dict[str, np.ndarray], tags: Sequence[str]) -> list[Track]:
        """Contacts seen and onsets heard."""
        seen = contacts(read(event_of(tags), video["grid"], video["times"]))
        return [Track("contacts seen", events=seen), Track("onsets heard", events=audio["times"])]
