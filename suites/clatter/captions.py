"""What a scene is called: templates for the picture alone, the sound alone, and both together.

Slots in braces are filled from the words of the stage. A picture's text never names a sound.
"""

from __future__ import annotations

from collections.abc import Mapping

from avbench.suites.clatter.exact import Draws
from avbench.suites.clatter.scenery import hue_name
from avbench.suites.clatter.world import TIGHT

LOOKS: dict[str, tuple[str, ...]] = {
    "bounce": (
        "A {colour} {made} ball bounces on a {earth} floor.",
        "A {colour} ball of {material} falls onto a {earth} floor and bounces lower each time.",
        "A ball made of {material} is tossed and bounces across a {earth} floor between two walls.",
    ),
    "stick": (
        "A hand with a wooden stick strikes three blocks of {first}, {second} and {third}.",
        "Someone taps {first}, {second} and {third} blocks on a table with a stick.",
        "A wooden stick hits a row of blocks: {first} on the left, {second} in the middle, {third} on the right.",
    ),
    "hammer nail": (
        "A hammer drives a nail into a wooden board, blow by blow.",
        "A hand swings a hammer at a nail, which sinks into the wood.",
        "Someone hammers a nail into a thick piece of wood.",
    ),
    "hammer anvil": (
        "A hammer beats a glowing iron bar on an anvil, and sparks fly.",
        "A smith's hammer strikes hot metal on an anvil.",
        "Someone forges a glowing bar on an anvil with a hammer.",
    ),
    "metronome": (
        "The arm of a wooden metronome swings from side to side on a table.",
        "A metronome swings at {tempo} beats per minute, flicking a metal tongue in the middle.",
        "A metronome with a brass weight swings back and forth.",
    ),
    "collide cradle": (
        "{Count} {made} balls hang in a row; one swings against the others and the last one flies off.",
        "A cradle of {count} {made} balls on strings swings to and fro.",
        "A {made} ball on a string swings down and hits the next one, which swings out on the other side.",
    ),
    "collide valley": (
        "Two {made} balls roll down the slopes of a {earth} valley and collide at the bottom.",
        "Two balls of {material} meet at the bottom of a V-shaped track, roll back and meet again.",
        "A pair of {made} balls rolls down from both sides and collides in the middle.",
    ),
    "drums": (
        "Two mallets strike a small and a large drum in turn.",
        "A pair of felt mallets plays two drums.",
        "Two drums of different size are played with a mallet each.",
    ),
    "drop": (
        "{Things} fall onto a {earth} table and settle.",
        "Several things drop onto a {earth} table, one after another: {things}.",
        "{Things} are dropped on a {earth} surface.",
    ),
    "clap": (
        "Two hands clap two {made} blocks together.",
        "Two blocks of {material}, one in each hand, are struck against each other.",
        "Someone claps a pair of {made} blocks.",
    ),
    "rain": (
        "{Weather} rain falls on a {thing}, and rings spread in a puddle.",
        "Streaks of rain in front of a {thing} under a grey sky.",
        "A {thing} in {weather} rain, with a puddle in front.",
    ),
    "wind": (
        "Tall grass and a {thing} bend to the {side} under a blue sky with clouds.",
        "A {thing} sways above a meadow of long grass.",
        "Grass leans to the {side} in gusts, a {thing} behind it.",
    ),
    "waves": (
        "Waves roll onto a sandy {thing} {light}.",
        "The sea {light}, with foam running up the sand.",
        "A view of the sea from a {thing} {light}.",
    ),
    "car": (
        "A {colour} {thing} drives to the {side} along a country road.",
        "A {colour} {thing} passes fields and hills.",
        "On a road between fields, a {colour} {thing} moves steadily to the {side}.",
    ),
    "stream": (
        "A stream runs to the {side} between grassy banks and round stones.",
        "Clear water flows past stones below trees.",
        "A small {thing} with stones in it, flowing to the {side}.",
    ),
    "fire": (
        "A {thing} burns at night in a ring of stones.",
        "Flames rise from crossed logs in the dark.",
        "Orange flames flicker over logs at night.",
    ),
    "city": (
        "Cars pass in both directions along a city {thing} {light}.",
        "A row of tall buildings {light}, with traffic in front.",
        "Traffic on a {thing} below office buildings {light}.",
    ),
    "fan": (
        "A desk {thing} with {count} blades turns in a room.",
        "The {count} blades of a {thing} spin behind a wire cage.",
        "A {thing} on a table, its blades turning.",
    ),
}

SOUNDS: dict[str, tuple[str, ...]] = {
    "bounce": (
        "A {made} ball hits a {earth} floor again and again, faster and softer each time.",
        "Bounces of {material} on {surface}, dying away.",
        "The knocks of a bouncing {made} ball.",
    ),
    "stick": (
        "A stick knocks on {first}, {second} and {third}.",
        "Separate taps of wood on different materials.",
        "Sharp knocks of different pitch, some dull and some ringing.",
    ),
    "hammer nail": (
        "Hammer blows on a nail in wood.",
        "Heavy knocks of a hammer driving a nail.",
        "Steady hammering on wood with a metallic edge.",
    ),
    "hammer anvil": (
        "A hammer rings on an anvil.",
        "Bright, ringing metal blows.",
        "Steady clangs of hammer on iron.",
    ),
    "metronome": (
        "A metronome ticks at {tempo} beats per minute.",
        "Steady wooden ticks.",
        "The regular tick of a metronome.",
    ),
    "collide cradle": (
        "Single clicks of {material} on {material}, evenly spaced.",
        "{Made} balls click against each other.",
        "A slow, regular clicking of {material}.",
    ),
    "collide valley": (
        "{Made} balls knock together, a little softer each time.",
        "Two {made} balls collide again and again.",
        "Separate knocks of {material} on {material}.",
    ),
    "drums": (
        "Alternating beats on a high and a low drum.",
        "Two drums of different pitch are played in turn.",
        "A slow pattern on two drums.",
    ),
    "drop": (
        "Several things land on {surface}, each with a thump and a small bounce.",
        "Thuds and clatter of things dropped on {surface}.",
        "Objects of different materials hit a {earth} table one by one.",
    ),
    "clap": (
        "Two {made} blocks are clapped together.",
        "Sharp claps of {material} against {material}.",
        "Separate, even claps of {made} blocks.",
    ),
    "rain": ("Steady rain with the patter of drops.", "The hiss and patter of rainfall.", "Rain falls continuously."),
    "wind": ("Wind blows in gusts.", "The rush and faint whistle of wind.", "A gusty wind rises and falls."),
    "waves": ("Sea waves wash in and out.", "The slow roar of surf.", "Waves break on a shore and draw back."),
    "car": ("A car engine hums steadily.", "The low drone of an engine.", "An engine runs at constant speed."),
    "stream": ("Water burbles and rushes.", "A stream babbles.", "Continuous bubbling of running water."),
    "fire": ("A fire crackles softly.", "Crackles and pops over a low roar.", "Burning wood snaps and hisses."),
    "city": ("Distant city traffic murmurs.", "The low murmur of a busy street.", "Muffled traffic noise."),
    "fan": ("An electric fan whirs.", "The steady hum and whir of a fan.", "A fan blows with a constant hum."),
}  # fmt: skip

TOGETHER = ("{look} {sound}", "{look} We hear: {heard}", "{look} The sound: {heard}")
APART = ("{look} Out of sight, {heard}", "{look} In the background: {heard}", "{look} Meanwhile, off screen: {heard}")


ADJECTIVES = {"wood": "wooden"}


def lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def fill(template: str, words: Mapping[str, str]) -> str:
    """Slots filled, doubled blanks closed, "a" before vowels mended; {Word} is {word} with a capital."""
    slots = dict(words)
    slots["made"] = ADJECTIVES.get(words.get("material", ""), words.get("material", ""))
    ground = words.get("ground") or words.get("surface", "")
    slots["earth"] = ADJECTIVES.get(ground, ground)
    slots["colour"] = words.get("colour", "")
    if "hue" in words:
        slots["colour"] = hue_name(float(words["hue"]))
    slots |= {name.capitalize(): text[:1].upper() + text[1:] for name, text in list(slots.items())}
    text = " ".join(template.format_map(slots).split()).split(" ")
    for k, word in enumerate(text[:-1]):
        if word in ("a", "A") and text[k + 1][0].lower() in "aeiou":
            text[k] = word + "n"
    return " ".join(text)


def variant(event: str, words: Mapping[str, str]) -> str:
    """The key of an event's templates: some events come in two kinds."""
    kind = words.get("target") or words.get("kind")
    return f"{event} {kind}" if kind else event


def captions(event: str, ambience: str, words: Mapping[str, str], draws: Draws) -> tuple[str, str, str]:
    """Texts of the picture, of the sound, and of both. ambience: name of a loose soundtrack, or empty."""
    look = fill(draws.choice(LOOKS[variant(event, words)]), words)
    sound = fill(draws.choice(SOUNDS[ambience or variant(event, words)]), words)
    frames = APART if ambience and event in TIGHT else TOGETHER
    return look, sound, draws.choice(frames).format(look=look, sound=sound, heard=lower(sound))
