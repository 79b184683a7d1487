"""MFCCs as `python_speech_features` computes them: by their definition and by published values."""

from __future__ import annotations

import numpy as np
import pytest

from avbench.metrics.mfcc import filters, mfcc


def test_mfcc_of_silence() -> None:
    found = mfcc(np.zeros(80000, dtype=np.int16))
    assert found.shape == (499, 13)
    assert found[:, 0] == pytest.approx(-36.0436534) and np.abs(found[:, 1:]).max() < 1e-9


@pytest.mark.parametrize(("samples", "columns"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (64000, 399)])
def test_mfcc_columns(samples: int, columns: int) -> None:
    assert len(mfcc(np.ones(samples))) == columns


def test_mfcc_filters() -> None:
    edges = [
        0, 2, 4, 7, 10, 13, 16, 20, 24, 29, 34, 40, 46, 53, 60, 68, 77, 87, 97, 109, 122, 136, 152, 169, 188, 209, 231,
        256,
    ]  # fmt: skip
    bank = filters()
    assert bank.shape == (26, 257)
    assert bank.argmax(axis=1).tolist() == edges[1:-1]
    assert [int(np.flatnonzero(row)[0]) for row in bank] == [edge + 1 for edge in edges[:-2]]
    assert [int(np.flatnonzero(row)[-1]) for row in bank] == [edge - 1 for edge in edges[2:]]


def test_mfcc_by_its_definition() -> None:
    """One frame, written out: emphasis, power, energies, cosine sum, lifter, energy in front."""
    x = np.random.default_rng(0).integers(-3000, 3000, 400).astype(np.int16)
    y = np.array([float(x[0])] + [float(x[t]) - 0.97 * float(x[t - 1]) for t in range(1, 400)])
    power = np.abs(np.fft.rfft(y, 512)) ** 2 / 512
    bands = np.log(filters() @ power)
    cosines = np.cos(np.pi * np.arange(13)[:, None] * (np.arange(26) + 0.5) / 26) @ bands
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    expected = lifter * np.sqrt(2 / 26) * cosines
    assert mfcc(x)[0] == pytest.approx([np.log(power.sum()), *expected[1:]], rel=1e-10)


def test_mfcc_in_other_units_moves_the_energy_alone() -> None:
    x = np.random.default_rng(0).integers(-3000, 3000, 4000)
    moved = mfcc(x / 32768) - mfcc(x)
    assert moved[:, 0] == pytest.approx(-2 * np.log(32768)) and np.abs(moved[:, 1:]).max() < 1e-9
