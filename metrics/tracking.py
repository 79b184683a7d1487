"""Finding and following the things of a desk-sized clatter clip in its pixels, without knowing where they should be.

Input is the grey grid of `encoders.motion`: float32 [T, 16, 16]. The scene that stands still (floor and walls, the
valley, the blocks) is measured first; what is brighter than it belongs to a moving thing, pixel by pixel in shares of
the thing's own brightness, so that sums are areas and centres of mass have a fraction of a pixel's precision.

What comes out is a `Motion`: above all the *gap*, the distance between the two surfaces that ought to meet (ball and
floor; ball and ball; stick and block), over time. Lengths are heights of the picture, times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avbench.metrics.encoders.motion import SIDE

PIXEL = 1.0 / SIDE
FAINTEST = 0.12  # of white; a thing that stands out less from the dark is not there
NOISE = 0.06  # share of a pixel below which it is background, in a clip without grain
PIECE = 0.2  # share of a pixel from which it belongs to a piece
CUT = 0.1  # of a pixel by which a ball's rim may seem to leave the picture and still be whole
LARGEST = 0.14  # radius of a ball
BREADTH = 1.75  # pixels; how far from its axis a stick with its arm reaches
EVENTS = ("bounce", "stick", "collide")
STICK_LEAST = 0.5  # pixel area of the stick that can be seen
TIP = 0.35  # pixel area below the height that counts as the stick's tip


@dataclass(frozen=True)
class Motion:
    """What was followed, over T frames.

    gap: distance of the surfaces that ought to meet, [T]. clearances: distances that must not be negative, [K, T].
    paths: centres (x right, y up), [n, T, 2]. radius: of one thing. seen: frames in which the things are there, [T].
    whole: frames in which none is cut off by the picture's rim, [T]. mass: total pixel area, [T].
    kept: share of the area in the pieces there ought to be, [T]. slope: of the valley, radians (0: none).
    ground: height of the surface that is met (of the valley's bottom), for pictures.
    """

    event: str
    times: np.ndarray
    gap: np.ndarray
    clearances: np.ndarray
    paths: np.ndarray
    radius: float
    seen: np.ndarray
    whole: np.ndarray
    mass: np.ndarray
    kept: np.ndarray
    slope: float = 0.0
    ground: float = 0.0

    @property
    def step(self) -> float:
        """Seconds per frame."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0


@dataclass(frozen=True)
class Still:
    """The scene without its moving things.

    picture: [16, 16]. dark: of the empty space. heights: of the surface in each column, in pixels, [16].
    """

    picture: np.ndarray
    dark: float
    heights: np.ndarray


def follow(event: str, grid: np.ndarray, times: np.ndarray) -> Motion:
    """The motion in a clip of this event: "bounce", "stick" or "collide"."""
    return {"bounce": follow_ball, "stick": follow_stick, "collide": follow_pair}[event](grid, times)


def share(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """How far values are from low to high, cut to 0 ... 1; 0 where the two are alike."""
    return np.clip((values - low) / (high - low), 0, 1) if abs(high - low) > 0.02 else np.zeros_like(values)


def box(grid: np.ndarray) -> Still:
    """Floor and walls: rows and columns are the same throughout, so medians along them leave the ball out."""
    rows = np.median(grid[:, :, 2:-2], axis=(0, 2))
    dark = float(np.median(rows[: SIDE // 2]))
    floor = share(rows, dark, float(np.median(rows[-2:]))) * (np.arange(SIDE) >= SIDE // 2)
    level = floor.sum()
    above = max(1, int(SIDE - level) - 1)
    walls = np.median(grid[:, :above], axis=(0, 1))
    walls[2:-2] = dark
    ground = float(np.median(rows[-2:]))
    picture = floor[:, None] * ground + (1 - floor[:, None]) * walls[None]
    return Still(picture, dark, np.full(SIDE, level))


def valley(grid: np.ndarray) -> tuple[Still, np.ndarray]:
    """Two slopes: the column heights of what is always there, and a robust line through either half, [2, 2].

    A line is (height at the middle of the picture, rise per pixel away from it), in pixels.
    """
    always = np.quantile(grid, 0.15, axis=0)
    dark, ramp = float(np.median(always[:3])), float(np.median(always[-2:]))
    heights = share(always, dark, ramp).sum(axis=0)
    away = np.arange(SIDE // 2) + 0.5
    lines = np.array([line(away, half) for half in (heights[SIDE // 2 - 1 :: -1], heights[SIDE // 2 :])])
    fine = (np.arange(4 * SIDE // 2) + 0.5) / 4
    sides = [
        np.clip(at + rise * fine - np.arange(SIDE)[:, None], 0, 1).reshape(SIDE, -1, 4).mean(axis=2)
        for at, rise in lines
    ]
    covered = np.concatenate([sides[0][:, ::-1], sides[1]], axis=1)[::-1]
    return Still(dark + (ramp - dark) * covered, dark, heights), lines


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Value at 0 and slope of the Theil-Sen line: medians, so that a column hidden by a ball does no harm."""
    first, second = np.triu_indices(len(x), 1)
    slope = float(np.median((y[second] - y[first]) / (x[second] - x[first])))
    return float(np.median(y - slope * x)), slope


def cover(grid: np.ndarray, still: Still) -> np.ndarray | None:
    """Share of each pixel that the moving things cover, [T, 16, 16]; None where nothing stands out.

    Their brightness is that of the brightest pixel of a frame, in the median frame.
    """
    brightest = grid.max(axis=(1, 2))
    present = brightest[brightest > still.dark + FAINTEST]
    if not len(present):
        return None
    light = float(np.median(present))
    alpha = (grid - still.picture) / np.maximum(light - still.picture, FAINTEST / 2)
    grain = 1.4826 * float(np.median(np.abs(alpha)))  # most pixels are background
    alpha = np.where(alpha < max(NOISE, 3 * grain), 0.0, np.minimum(alpha, 1.5))
    return alpha if alpha.max() > PIECE else None


def pieces(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected pieces of one frame [16, 16]: their areas, largest first, and centres [K, 2] (column, row)."""
    from scipy.ndimage import label

    marks, count = label(alpha > PIECE, np.ones((3, 3)))
    if not count:
        return np.zeros(0), np.zeros((0, 2))
    areas, centres = moments(alpha, marks, count)
    order = np.argsort(-areas)
    return areas[order], centres[order]


def moments(alpha: np.ndarray, marks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Areas [count] and centres [count, 2] of the marked regions 1 ... count."""
    flat = marks.ravel()
    y, x = np.divmod(np.arange(alpha.size), alpha.shape[1])
    sums = [np.bincount(flat, alpha.ravel() * w, count + 1)[1:] for w in (np.ones(alpha.size), x, y)]
    return sums[0], np.stack(sums[1:], 1) / np.maximum(sums[0], 1e-9)[:, None]


def nearest(alpha: np.ndarray, centres: np.ndarray, rounds: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Areas and centres of the regions nearest to each centre (weighted k-means, so many rounds)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    areas = np.zeros(len(centres))
    for _ in range(rounds):
        apart = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
        areas, found = moments(alpha, apart.argmin(axis=2) + 1, len(centres))
        centres = np.where(areas[:, None] > 0, found, centres)
    return areas, centres


def upward(centres: np.ndarray) -> np.ndarray:
    """Pixel places (column, row) to picture heights, y up from the lower edge."""
    return np.stack([centres[..., 0] + 0.5, SIDE - 0.5 - centres[..., 1]], -1) * PIXEL


def nothing(event: str, times: np.ndarray) -> Motion:
    """The motion of a clip in which no thing can be found."""
    count, never = len(times), np.zeros(len(times), bool)
    empty = np.full(count, np.nan)
    return Motion(event, times, empty, np.full((3, count), np.nan), np.full((1, count, 2), np.nan), 0.0, never, never,
                  np.zeros(count), np.zeros(count))  # fmt: skip


def together(alpha: np.ndarray, centres: np.ndarray, radius: float) -> np.ndarray:
    """Share of the area [T, 16, 16] that lies where balls of this radius are, within a pixel: [T], 0 where none is.

    centres: pixel places [T, n, 2]. A radius above that of any ball (a picture full of noise) is not believed.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    reach = min(radius, LARGEST) / PIXEL + 1
    here = np.where(np.isfinite(centres), centres, np.inf)[..., None, None]
    inside = (np.hypot(x - here[:, :, 0], y - here[:, :, 1]) <= reach).any(axis=1)
    return (alpha * inside).sum(axis=(1, 2)) / np.maximum(alpha.sum(axis=(1, 2)), 1e-9)


def sized(mass: np.ndarray, paths: np.ndarray) -> tuple[float, np.ndarray]:
    """Radius of a ball and the frames in which no ball is cut off by the left, right or upper rim: height, bool [T].

    mass: pixel area of one ball, [T]. The radius is that of the median whole ball.
    """
    room = np.minimum(np.minimum(paths[..., 0], 1 - paths[..., 0]), 1 - paths[..., 1]).min(axis=0)
    radius = float(np.sqrt(np.quantile(mass[mass > 0], 0.6) / np.pi)) * PIXEL
    whole = room > radius - CUT * PIXEL
    if whole.any():
        radius = float(np.sqrt(np.median(mass[whole]) / np.pi)) * PIXEL
    return radius, whole


def follow_ball(grid: np.ndarray, times: np.ndarray) -> Motion:
    """One ball above a floor, between walls."""
    still = box(grid)
    alpha = cover(grid, still)
    if alpha is None:
        return nothing("bounce", times)
    mass = alpha.sum(axis=(1, 2))
    usual = float(np.median(mass[mass > 0]))
    centres = np.full((len(grid), 2), np.nan)
    last = None
    for k, frame in enumerate(alpha):
        areas, places = pieces(frame)
        big = areas > 0.2 * usual
        if not big.any():
            continue
        areas, places = areas[big], places[big]
        worth = areas if last is None else areas / usual - np.hypot(*(places - last).T) / 4
        mine = int(np.argmax(worth))
        last = centres[k] = nearest(frame, places)[1][mine]
    path = upward(centres)
    radius, whole = sized(mass, path[None])
    kept = together(alpha, centres[:, None], radius)
    level = float(np.median(still.heights)) * PIXEL
    gap = path[:, 1] - radius - level
    walls = [path[:, 0] - radius - 0.04, 0.96 - radius - path[:, 0]]
    return Motion("bounce", times, gap, np.stack([gap, *walls]), path[None], radius, ~np.isnan(gap), whole, mass, kept,
                  ground=level)  # fmt: skip


def follow_pair(grid: np.ndarray, times: np.ndarray) -> Motion:
    """Two balls in a valley."""
    still, lines = valley(grid)
    alpha = cover(grid, still)
    if alpha is None:
        return nothing("collide", times)
    mass = alpha.sum(axis=(1, 2))
    usual = float(np.median(mass[mass > 0]))
    count = len(grid)
    centres, both = np.full((count, 2, 2), np.nan), np.zeros(count, bool)
    last = np.array([[SIDE / 4, SIDE / 2], [3 * SIDE / 4, SIDE / 2]])
    for k, frame in enumerate(alpha):
        areas, _ = pieces(frame)
        if not (areas > 0.2 * usual / 2).any():
            continue
        shares, found = nearest(frame, last, 6)
        both[k] = shares.min() > 0.2 * usual / 2
        if both[k]:
            last = centres[k] = found
    paths = upward(centres).transpose(1, 0, 2)
    radius, whole = sized(mass / 2, paths)
    kept = together(alpha, centres, radius)
    gap = np.hypot(*(paths[1] - paths[0]).T) - 2 * radius
    ramps = [
        (path[:, 1] - (at * PIXEL + rise * abs(path[:, 0] - 0.5))) / np.hypot(1, rise) - radius
        for path, (at, rise) in zip(paths, lines)
    ]
    slope = float(np.arctan(lines[:, 1]).mean())
    return Motion("collide", times, gap, np.stack([gap, *ramps]), paths, radius, both, whole, mass, kept, slope,
                  float(lines[:, 0].mean()) * PIXEL)  # fmt: skip


def blocks(grid: np.ndarray) -> Still:
    """Three blocks side by side: the height of their tops in each column, 0 where there is none."""
    usual = np.median(grid, axis=0)
    dark = float(np.median(usual[: SIDE // 2]))
    heights = np.zeros(SIDE)
    for x, column in enumerate(usual.T):
        full = float(column[SIDE // 2 :].max())
        if full < dark + FAINTEST:
            continue
        covered = share(column, dark, full) * (np.arange(SIDE) >= SIDE // 2)
        first = int(np.argmax(covered > 0.9))
        heights[x] = SIDE - first + (covered[first - 1] if covered[first - 1] > NOISE else 0.0)
    return Still(usual, dark, heights)


def follow_stick(grid: np.ndarray, times: np.ndarray) -> Motion:
    """A stick above blocks: the gap is that between its tip and the tops; the path is that of the tip."""
    still = blocks(grid)
    standing = still.heights[still.heights > 0]
    if not len(standing):
        return nothing("stick", times)
    top = float(np.median(standing))
    above = int(np.floor(SIDE - top))  # rows that are free of blocks
    upper = grid[:, :above]
    if upper.size == 0 or upper.max() < still.dark + FAINTEST:
        return nothing("stick", times)
    light = float(np.quantile(upper[upper > still.dark + FAINTEST], 0.9))
    empty = np.full(upper.shape[1:], still.dark)
    empty[-2:] = still.picture[max(above - 2, 0) : above]  # light that the blocks shed; a raised stick is higher
    alpha = np.zeros_like(grid)
    alpha[:, :above] = np.clip((upper - empty) / np.maximum(light - empty, FAINTEST / 2), 0, 1.5)
    inner = slice(above + 2, SIDE - 3)  # of the blocks, whose upper and lower edges shake when they are hit
    changed = np.abs(grid[:, inner] - still.picture[inner]) / (light - still.dark)
    alpha[:, inner] = np.where(changed > PIECE, changed, 0)
    alpha = np.where(alpha < 2 * NOISE, 0, alpha)
    mass = alpha.sum(axis=(1, 2))
    seen = mass > STICK_LEAST
    kept, tips = np.zeros(len(grid)), np.full((len(grid), 2), np.nan)
    for k in np.flatnonzero(seen):
        alpha[k, :above] = piece = largest(alpha[k, :above])
        kept[k] = min(1.0, along(piece) / mass[k])  # rounding
        if alpha[k].sum() > STICK_LEAST:
            tips[k] = tip(alpha[k])
    path = upward(tips)
    gap = path[:, 1] - top * PIXEL
    seen = np.isfinite(gap)
    return Motion("stick", times, gap, gap[None], path[None], 0.5 * PIXEL, seen, np.ones(len(grid), bool), mass, kept,
                  ground=top * PIXEL)  # fmt: skip


def largest(alpha: np.ndarray) -> np.ndarray:
    """The largest piece of one picture [H, W], with its faint edges; zeros where there is none."""
    from scipy.ndimage import binary_dilation, label

    marks, count = label(alpha > PIECE, np.ones((3, 3)))
    if not count:
        return np.zeros_like(alpha)
    sums = np.bincount(marks.ravel(), alpha.ravel(), count + 1)
    mine = binary_dilation(marks == 1 + sums[1:].argmax(), np.ones((3, 3), bool))
    return np.where(mine, alpha, 0.0)


def along(piece: np.ndarray) -> float:
    """Area of a piece [H, W] that lies along its longer axis, within the breadth of a stick."""
    y, x = np.nonzero(piece)
    if not len(x):
        return 0.0
    weight = piece[y, x]
    places = np.stack([x, y], 1) - np.average(np.stack([x, y], 1), axis=0, weights=weight)
    _, axes = np.linalg.eigh((places * weight[:, None]).T @ places)
    return float(weight[np.abs(places @ axes[:, 0]) <= BREADTH].sum())


def tip(alpha: np.ndarray) -> np.ndarray:
    """(column, row) of the lower end: the row below which `TIP` pixels of area lie, and the middle of what is there."""
    rows = alpha.sum(axis=1)[::-1]
    below = np.cumsum(rows)
    k = int(np.searchsorted(below, TIP))
    part = (TIP - (below[k - 1] if k else 0.0)) / max(rows[k], 1e-9)
    row = SIDE - 1 - k
    weights = alpha[max(row - 1, 0) : row + 2].sum(axis=0)
    column = (weights * np.arange(SIDE)).sum() / max(weights.sum(), 1e-9)
    return np.array([column, row + 0.5 - part])
