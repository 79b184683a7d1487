"""The builders of all events, by name."""

from __future__ import annotations

from collections.abc import Callable

from avbench.suites.clatter import falling, machines, nature, striking
from avbench.suites.clatter.exact import Draws
from avbench.suites.clatter.world import Laws, Stage, WorldSpec

Builder = Callable[[Draws, WorldSpec, Laws], Stage]
"""Draws one scene: random choices, the world, its laws -> a stage."""

BUILDERS: dict[str, Builder] = {
    "bounce": falling.bounce,
    "collide": falling.collide,
    "drop": falling.drop,
    "stick": striking.stick,
    "hammer": striking.hammer,
    "metronome": striking.metronome,
    "drums": striking.drums,
    "clap": striking.clap,
    "rain": nature.rain,
    "wind": nature.wind,
    "waves": nature.waves,
    "stream": nature.stream,
    "fire": nature.fire,
    "car": machines.car,
    "city": machines.city,
    "fan": machines.fan,
}
