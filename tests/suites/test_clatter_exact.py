"""The arithmetic under `clatter`: right to the last bits, and what the digests rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avbench.suites.clatter import exact


def test_exp_and_trigonometry_agree_with_the_library() -> None:
    x = np.linspace(-60.0, 60.0, 20001)
    assert np.abs(exact.exp(x) / np.exp(x) - 1).max() < 1e-15
    cosine, sine = exact.cos_sin(x * 50)
    assert np.abs(cosine - np.cos(x * 50)).max() < 1e-15
    assert np.abs(sine - np.sin(x * 50)).max() < 1e-15
    assert float(exact.exp(0.0)) == 1.0
    assert float(exact.sin(0.0)) == 0.0


def test_damped_is_the_closed_form() -> None:
    frequency, decay, n = np.array([0.05, 1.3]), np.array([1e-3, 0.02]), 5000
    cosines, sines = exact.damped(frequency, decay, n)
    k = np.arange(n)
    for row in range(2):
        envelope = np.exp(-decay[row] * k)
        np.testing.assert_allclose(cosines[row], envelope * np.cos(frequency[row] * k), atol=1e-11)
        np.testing.assert_allclose(sines[row], envelope * np.sin(frequency[row] * k), atol=1e-11)


def test_filters_are_the_recursions_they_stand_for() -> None:
    x = exact.Draws("filters").noise(700)
    y, pole = np.zeros(701), 0.9
    for n, sample in enumerate(x):
        y[n] = sample + pole * y[n - 1]
    np.testing.assert_allclose(exact.one_pole(x, pole), y[:700], atol=1e-4)
    response = np.exp(-0.01 * np.arange(700)) * np.cos(0.7 * np.arange(700))
    np.testing.assert_allclose(exact.resonate(x, 0.7, 0.01), np.convolve(x, response)[:700], atol=1e-3)


def test_rms_does_not_depend_on_order() -> None:
    x = exact.Draws("rms").noise(9999)
    assert exact.rms(x) == exact.rms(x[::-1])
    assert exact.rms(x) == pytest.approx(math.sqrt(float(np.mean(x * x))), rel=1e-6)


def test_draws_are_named_streams() -> None:
    """The first numbers are pinned: a change here would change every scene."""
    assert exact.Draws("a", 1).unit() == exact.Draws("a", 1).unit()
    assert exact.Draws("a", 1).unit() != exact.Draws("a", 2).unit()
    assert exact.Draws("clatter", 1, "test", 0).bits.random_raw() == 9095898295235427532
    draws = exact.Draws("b")
    assert sorted(draws.shuffled(range(9))) == list(range(9))
    assert {draws.below(3) for _ in range(60)} == {0, 1, 2}
    units = draws.units(20000)
    assert units.min() >= 0
    assert units.max() < 1
    assert units.mean() == pytest.approx(0.5, abs=0.01)
