"""Weights and inputs drawn from names alone, so that two implementations own the same tensors without a download.

`hashed(name, shape)` seeds PCG64 with crc32(name). Names that begin with "input:" are standard normal. Of checkpoint
keys: `running_var` is uniform in [0.5, 1.5), `running_mean` is N(0, 0.1), `num_batches_tracked` is 0, a scalar is 1, a
vector is 1 + N(0, 0.1) where it is a gain (weight, scale, gamma) and N(0, 0.02) otherwise, and a tensor of two or more
axes is N(0, 1 / fan_in), fan_in being the product of all axes but the first.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

GAINS = ("weight", "scale", "gamma")


def hashed(name: str, shape: Sequence[int]) -> np.ndarray:
    """Draw the tensor called `name`: float32, but int64 zeros for `num_batches_tracked`."""
    shape = tuple(shape)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    leaf = name.rsplit(".", 1)[-1]
    if name.startswith("input:"):
        return rng.standard_normal(shape, dtype=np.float32)
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if not shape:
        return np.ones(shape, dtype=np.float32)
    if leaf == "running_var":
        return (0.5 + rng.random(shape, dtype=np.float32)).astype(np.float32)
    noise = rng.standard_normal(shape, dtype=np.float32)
    if leaf == "running_mean":
        return 0.1 * noise
    if len(shape) == 1:
        return 1 + 0.1 * noise if leaf in GAINS else 0.02 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


def hashed_state_dict(manifest: Mapping[str, Sequence[int]], prefix: str = "") -> dict:
    """{key: torch tensor} for a manifest {key: shape}."""
    import torch

    return {key: torch.from_numpy(np.asarray(hashed(prefix + key, shape))) for key, shape in manifest.items()}


def close(ours: np.ndarray, golden: np.ndarray) -> bool:
    """The parity tolerance of this project: max |a - b| <= 1e-4 std(b) + 1e-5."""
    return float(np.abs(ours - golden).max()) <= 1e-4 * float(golden.std()) + 1e-5
