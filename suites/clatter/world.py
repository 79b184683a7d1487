"""What the world is made of: specifications, materials, contacts, stages and scenes. Plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from avbench.suites.clatter.paint import Shape

Track = Callable[[np.ndarray], np.ndarray]
"""A quantity over time: seconds float64 [T] -> [T] or [T, 2]. World units: the box is 1 high, y points up."""

TIGHT = ("bounce", "stick", "hammer", "metronome", "collide", "drums", "drop", "clap")
LOOSE = ("rain", "wind", "waves", "car", "stream", "fire", "city", "fan")
EVENTS = tuple(event for pair in zip(TIGHT, LOOSE) for event in pair)


@dataclass(frozen=True)
class WorldSpec:
    """How the world is filmed and recorded, and how fast things fall in it.

    width, height: pixels. channels: 3 (RGB) or 1 (grey). fps: frames per second. rate: audio samples per second.
    seconds, gravity (box heights / s^2), events and plain shape what happens; the others only how it is captured:
    the same scene can be rendered at any size and rate. events: dealt out by `index % len(events)`.
    plain: no camera, textures, shading or shadows, one grey per material, for pictures of few pixels.
    occluder: a board in front of the floor hides where a bouncing ball lands.
    """

    width: int = 128
    height: int = 128
    fps: int | Fraction = 24
    seconds: float = 4.0
    rate: int = 16000
    channels: int = 3
    gravity: float = 3.0
    events: tuple[str, ...] = EVENTS
    plain: bool = False
    occluder: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"WorldSpec.channels must be 3 (RGB) or 1 (grey), not {self.channels}")
        if min(self.width, self.height, self.fps, self.seconds, self.rate) <= 0 or not self.events:
            raise ValueError(f"WorldSpec needs a positive size, rate and length, and at least one event: {self}")

    @property
    def frames(self) -> int:
        return int(self.seconds * self.fps + 0.5)

    @property
    def samples(self) -> int:
        return int(self.seconds * self.rate + 0.5)

    @property
    def times(self) -> np.ndarray:
        """Seconds at which the frames are taken, float64 [T]."""
        return np.arange(self.frames) / float(self.fps)

    @property
    def pace(self) -> float:
        """How much slower than in `CLATTER` hands move, so that strokes suit the gravity."""
        return math.sqrt(3.0 / self.gravity)

    @property
    def unit(self) -> float:
        """Pixels per box height, before the camera's zoom."""
        return float(min(self.width, self.height))


CLATTER = WorldSpec()
DESK = WorldSpec(
    16, 16, fps=8, seconds=2.0, rate=8000, channels=1, gravity=2.2, events=("bounce", "stick", "collide"), plain=True
)


@dataclass(frozen=True)
class Material:
    """How a stuff looks, sounds and bounces.

    ratios: frequencies of its modes over the lowest. pitch: Hz of the lowest mode of a body of size 0.1.
    ring: seconds to decay by 60 dB. damping: how much faster high modes decay. pulse: seconds of a full-strength
    contact. click: share of noise in the attack. restitution: of a ball of it on the floor.
    colours: hue, saturation and value ranges. texture: name in `paint.TEXTURES`.
    """

    name: str
    ratios: tuple[float, ...]
    pitch: float
    ring: float
    damping: float
    pulse: float
    click: float
    restitution: float
    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    texture: str


def _materials(*materials: Material) -> dict[str, Material]:
    return {material.name: material for material in materials}


BAR = (1.0, 2.756, 5.404, 8.933, 13.34)
MATERIALS = _materials(
    Material("wood", (1.0, 2.57, 4.62, 6.9, 9.8), 430, 0.16, 0.5, 0.0010, 0.30, 0.65, (0.07, 0.10), (0.45, 0.65),
             (0.5, 0.78), "grain"),
    Material("metal", BAR, 880, 1.10, 0.15, 0.0003, 0.15, 0.70, (0.55, 0.62), (0.05, 0.18), (0.6, 0.82), "gloss"),
    Material("glass", (1.0, 2.32, 4.25, 6.63, 9.38), 1750, 0.50, 0.25, 0.0003, 0.10, 0.75, (0.45, 0.55),
             (0.25, 0.45), (0.75, 0.92), "gloss"),
    Material("rubber", (1.0, 1.58, 2.24, 2.92), 150, 0.11, 0.6, 0.0045, 0.35, 0.85, (0.0, 1.0), (0.7, 0.9),
             (0.65, 0.95), "plain"),
    Material("stone", (1.0, 1.83, 2.91, 4.2, 5.7), 900, 0.07, 0.5, 0.0004, 0.60, 0.55, (0.08, 0.12), (0.05, 0.15),
             (0.45, 0.65), "speckle"),
    Material("ceramic", (1.0, 2.1, 3.4, 5.2, 7.5), 1250, 0.26, 0.3, 0.0004, 0.20, 0.62, (0.0, 0.12), (0.1, 0.5),
             (0.8, 0.95), "plain"),
    Material("plastic", (1.0, 1.9, 3.1, 4.4), 620, 0.09, 0.5, 0.0012, 0.30, 0.78, (0.0, 1.0), (0.65, 0.9),
             (0.7, 0.95), "plain"),
    Material("skin", (1.0, 1.594, 2.136, 2.653, 3.156), 150, 0.38, 0.5, 0.0022, 0.25, 0.70, (0.10, 0.12),
             (0.08, 0.2), (0.85, 0.95), "plain"),
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Something that rings when struck: a material, a size in world units and a gain."""

    material: str
    size: float
    gain: float = 1.0


@dataclass(frozen=True)
class Contact:
    """One collision. time: seconds. surface: what was hit. speed: normal speed of approach, world units / s.

    strength: 0 ... 1, sets loudness and brightness. bodies: which of the stage's bodies ring. at: world position.
    """

    time: float
    surface: str
    material: str
    speed: float
    strength: float
    bodies: tuple[int, ...]
    at: tuple[float, float]


@dataclass(frozen=True)
class Laws:
    """Physical law of a scene. The defaults are this world's; the others are the faults of `Scene.unphysical`.

    gravity: factor. restitution: of every material (0: its own). gap: how far above a surface things turn round
    (negative: inside it).
    """

    gravity: float = 1.0
    restitution: float = 0.0
    gap: float = 0.0


FAULTS = {
    "hover": Laws(gap=0.12),  # turns round before it touches
    "sink": Laws(gap=-0.09),  # enters the floor before it turns round
    "gain": Laws(restitution=1.1),  # comes back faster than it came
    "weightless": Laws(gravity=0.0),  # flies straight
    "floaty": Laws(gravity=0.35),  # falls too slowly
}


@dataclass(frozen=True)
class Camera:
    """Where the camera looks. centre: world point in the middle of the picture. zoom: magnification.

    pan: world units per second. shake: (seconds, amplitude) of each jolt that reaches the camera.
    """

    centre: tuple[float, float] = (0.5, 0.5)
    zoom: float = 1.0
    pan: tuple[float, float] = (0.0, 0.0)
    shake: tuple[tuple[float, float], ...] = ()

    @property
    def still(self) -> bool:
        return self.pan == (0.0, 0.0) and not self.shake

    def look(self, times: np.ndarray) -> np.ndarray:
        """World point in the middle of the picture at each time, float64 [T, 2]."""
        x, y = self.centre[0] + self.pan[0] * times, self.centre[1] + self.pan[1] * times
        for start, size in self.shake:
            since = times - start
            y = y + np.where((since >= 0) & (since < 0.16), size * (1 - since / 0.16), 0.0)
        return np.stack([x, y], 1)


@dataclass(frozen=True)
class Stage:
    """A scene ready to be filmed: built by `tight.py` and `loose.py`.

    backdrop: (x, y float32 [H, W], noise) -> float32 [3, H, W]. props: shapes that never move, painted once.
    actors: shapes that do, painted in order. tracks: what the truth records, name -> (centre, size).
    laws: facts of the physics that the truth records. words: what captions are made of.
    """

    backdrop: Callable[..., np.ndarray]
    props: tuple[Shape, ...] = ()
    actors: tuple[Shape, ...] = ()
    bodies: tuple[Body, ...] = ()
    contacts: tuple[Contact, ...] = ()
    tracks: Mapping[str, tuple[Track, float]] = field(default_factory=dict)
    laws: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    jolt: float = 0.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One scene: an event, what is seen, what is heard, and the truth about both. Built by `scene`."""

    split: str
    index: int
    event: str
    sound: str
    fault: str
    spec: WorldSpec
    stage: Stage
    camera: Camera
    ambience: str
    video_text: str
    audio_text: str
    text: str

    @property
    def id(self) -> str:
        """Stable, and safe as a file name: `test-00012-hammer`, twins and faults with a suffix."""
        twin = "-loose" if self.sound == "loose" and self.event in TIGHT else ""
        return f"{self.split}-{self.index:05d}-{self.event}{twin}{'-' + self.fault if self.fault else ''}"

    @property
    def tags(self) -> dict[str, str]:
        """Categories for subsets: event, tight or loose, material, surface."""
        words = self.stage.words
        tags = {"event": self.event, "sync": self.sound, "sound": self.ambience or self.event}
        return tags | {name: words[name] for name in ("material", "surface") if name in words}

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """Contacts within the clip, in order of time, heard or not."""
        return self.stage.contacts

    @property
    def onsets(self) -> list[float]:
        """Seconds at which contacts start to sound; empty for a loose soundtrack."""
        return [contact.time for contact in self.contacts] if self.sound == "tight" else []

    def project(self, points: np.ndarray, times: np.ndarray, spec: WorldSpec | None = None) -> np.ndarray:
        """World positions [T, 2] at `times` [T] to pixels [T, 2] (x right, y down, pixel centres at integers)."""
        spec = spec or self.spec
        scale = spec.unit * self.camera.zoom
        offset = (points - self.camera.look(times)) * scale
        middle = np.array([(spec.width - 1) / 2, (spec.height - 1) / 2])
        return middle + offset * np.array([1.0, -1.0])

    def with_sound(self, sound: str) -> Scene:
        """The same video with a "tight" or a "loose" soundtrack, and captions that say so."""
        from avbench.suites.clatter import scene

        return scene(self.split, self.index, self.spec, event=self.event, sound=sound, fault=self.fault)

    def unphysical(self, fault: str) -> Scene:
        """The same scene under a broken law: one of `FAULTS`. Only `bounce` scenes can be broken."""
        from avbench.suites.clatter import scene

        return scene(self.split, self.index, self.spec, event=self.event, sound=self.sound, fault=fault)

    def truth(self, spec: WorldSpec | None = None) -> dict[str, Any]:
        """Everything that is exactly known, as plain JSON values.

        contacts: time, surface, material, speed, strength, at (world), frame (first frame at or after it).
        onsets: seconds at which the soundtrack has a contact sound. tracks: per moving thing, its size (radius, or half
        width, world units), its centre at every frame in world units ([T][2]) and in pixels.
        laws: gravity, restitution, materials, as far as the event has them.
        """
        spec = spec or self.spec
        times = spec.times
        scale = spec.unit * self.camera.zoom
        tracks = {}
        for name, (track, size) in self.stage.tracks.items():
            points = track(times)
            tracks[name] = {
                "size": size,
                "size_px": size * scale,
                "world": points.tolist(),
                "pixels": self.project(points, times, spec).tolist(),
            }
        contacts = [
            {
                "time": contact.time,
                "frame": int(np.ceil(contact.time * float(spec.fps))),
                "surface": contact.surface,
                "material": contact.material,
                "speed": contact.speed,
                "strength": contact.strength,
                "at": list(contact.at),
            }
            for contact in self.contacts
        ]
        return {
            "event": self.event,
            "sync": self.sound,
            "fault": self.fault,
            "ambience": self.ambience,
            "contacts": contacts,
            "onsets": self.onsets,
            "tracks": tracks,
            "laws": dict(self.stage.laws),
            "camera": {"centre": list(self.camera.centre), "zoom": self.camera.zoom, "pan": list(self.camera.pan)},
            "pixels_per_unit": scale,
        }
