"""The distances against closed forms, SciPy, other people's numbers, and their own invariants."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.special import rel_entr, softmax

from avbench.metrics import distances as d
from tests.hashed import hashed
from tests.metrics.distribution import GOLDENS

FUNCTIONS = json.loads((GOLDENS / "distribution.json").read_text())["functions"]


def legacy(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def scipy_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b))))


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> d.Moments:
    """Moments with exactly this mean and covariance."""
    return d.Moments(1001, mean, covariance * 1000)


sets = st.tuples(st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 1e3])).map(
    lambda t: t[3] * np.random.default_rng(t[2]).standard_normal((t[0], t[1]))
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows of one width, of full rank or not."""
    dims, seed = draw(st.integers(1, 8)), draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    sizes, scales = st.integers(2, 14), st.sampled_from([0.1, 1.0, 9.0])
    a, b = (draw(scales) * rng.standard_normal((draw(sizes), dims)) for _ in "ab")
    return a, b + draw(st.sampled_from([0.0, 1.0]))


# Fréchet distance -----------------------------------------------------------------------------------------------------


def test_diagonal_gaussians_have_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    m1, m2 = rng.normal(size=(2, 7))
    s1, s2 = rng.uniform(0.1, 3.0, (2, 7))
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    found = d.frechet_distance(gaussian(m1, np.diag(s1**2)), gaussian(m2, np.diag(s2**2)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_one_covariance_a_multiple_of_the_other() -> None:
    root = np.random.default_rng(1).normal(size=(6, 6))
    covariance = root @ root.T
    found = d.frechet_distance(gaussian(np.zeros(6), covariance), gaussian(np.zeros(6), 4.0 * covariance))
    assert found == pytest.approx(np.trace(covariance), rel=1e-10)  # (2 - 1)^2 tr S


@pytest.mark.parametrize(("n", "m", "dims"), [(200, 150, 20), (60, 400, 32), (33, 33, 32)])
def test_equals_scipy_where_the_covariances_have_full_rank(n: int, m: int, dims: int) -> None:
    rng = np.random.default_rng(n)
    mix = rng.normal(size=(dims, dims))
    a, b = rng.normal(size=(n, dims)) @ mix, 1.5 * rng.normal(size=(m, dims)) + 0.3
    assert d.frechet_distance(a, b) == pytest.approx(scipy_frechet(a, b), rel=1e-8)


def test_rank_deficient_sets_agree_on_every_path() -> None:
    """Rows, statistics and SciPy, with fewer rows than dimensions."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(20, 64)), rng.normal(size=(300, 64)) + 0.5
    by_rows = d.frechet_distance(a, b)
    assert d.frechet_distance(d.Moments.of(a), d.Moments.of(b)) == pytest.approx(by_rows, rel=1e-9)
    assert d.frechet_distance(a, d.Moments.of(b)) == pytest.approx(by_rows, rel=1e-9)
    assert scipy_frechet(a, b) == pytest.approx(by_rows, rel=1e-5)


def test_one_row_more_than_dimensions_changes_no_path() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(17, 16)), rng.normal(size=(16, 16))
    factor = (a - a.mean(0)) / math.sqrt(16)
    cross = np.linalg.svd(factor @ ((b - b.mean(0)) / math.sqrt(15)).T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * cross
    assert d.frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_published_values_of_the_audio_evaluators() -> None:
    """specs: SciPy 1.17.1, hkchengrex/av-benchmark 050a5cd."""
    a, b = legacy(0, 64, 8), (1.2 * np.random.RandomState(1).randn(80, 8) + 0.3).astype(np.float32)
    assert d.frechet_sqrtm(a, b, mean_dtype=np.float32) == pytest.approx(2.142943238, abs=1e-8)
    assert d.frechet_distance(a, b) == pytest.approx(2.142943329, abs=1e-8)
    assert d.frechet_sqrtm(a[:2], b[:2], mean_dtype=np.float32) == pytest.approx(23.0808301, abs=1e-6)
    low = np.maximum(legacy(2, 20, 32), 0)
    high = np.maximum(np.random.RandomState(3).randn(24, 32) + 0.1, 0).astype(np.float32)
    assert d.frechet_sqrtm(low, high, mean_dtype=np.float32) == pytest.approx(10.98970728, abs=2e-7)
    assert d.frechet_distance(low, high) == pytest.approx(10.98970747, abs=1e-8)


@given(pairs())
def test_it_is_a_distance_of_sets(rows: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = rows
    scale = float(np.square(a).sum() + np.square(b).sum()) + 1.0
    value = d.frechet_distance(a, b)
    assert value >= 0.0
    assert d.frechet_distance(b, a) == pytest.approx(value, abs=1e-9 * scale)
    assert d.frechet_distance(a, a) <= 1e-12 * scale
    order = np.random.default_rng(0).permutation(len(a))
    assert d.frechet_distance(a[order], b) == pytest.approx(value, abs=1e-9 * scale)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(a.shape[1],) * 2))
    assert d.frechet_distance(a @ turn + 7.0, b @ turn + 7.0) == pytest.approx(value, abs=1e-8 * scale)


@given(sets, st.floats(-3, 3))
def test_a_shift_costs_its_square(rows: np.ndarray, shift: float) -> None:
    found = d.frechet_distance(rows, rows + shift)
    assert found == pytest.approx(rows.shape[1] * shift**2, rel=1e-6, abs=1e-9 * (1 + np.square(rows).sum()))


@given(sets, st.lists(st.integers(0, 12), max_size=4))
def test_shards_merge_to_the_whole(rows: np.ndarray, cuts: list[int]) -> None:
    parts = [part for part in np.split(rows, sorted(cut % len(rows) for cut in cuts)) if len(part)]
    whole, merged = d.Moments.of(rows), d.Moments.merge(d.Moments.of(part) for part in parts)
    scale = np.square(rows).sum() + 1e-30
    assert merged.n == whole.n
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=0, atol=1e-12 * math.sqrt(scale))
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=0, atol=1e-11 * scale)


def test_moments_are_numpys_and_need_no_centred_copy() -> None:
    rows = (np.random.default_rng(0).normal(size=(d.CHUNK + 77, 9)) + 1e4).astype(np.float32)
    moments, exact = d.Moments.of(rows), rows.astype(np.float64)
    for ddof in (0, 1):
        expected = np.cov(exact, rowvar=False, ddof=ddof)
        np.testing.assert_allclose(moments.covariance(ddof), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.array([[1.0, np.nan]]), np.array([[np.inf, 0.0]])])
def test_no_number_from_broken_rows(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features"):
        d.frechet_distance(bad, bad)
    with pytest.raises(ValueError, match="features"):
        d.polynomial_mmd(bad, bad)


def test_too_few_rows_and_other_widths_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match="at least 2 rows"):
        d.frechet_distance(rows[:1], rows)
    with pytest.raises(ValueError, match="dimensions"):
        d.frechet_distance(rows, rows[:, :2])
    with pytest.raises(ValueError, match="merged"):
        d.Moments.of(rows) + d.Moments.of(rows[:, :2])
    with pytest.raises(ValueError, match="at least 2 rows"):
        d.polynomial_mmd(rows[:1], rows)


def test_halves_share_nothing_and_are_seeded() -> None:
    first, second = d.halves(101, seed=3)
    assert len(first) == len(second) == 50 and not set(first) & set(second)
    assert np.array_equal(first, d.halves(101, seed=3)[0]) and not np.array_equal(first, d.halves(101, seed=4)[0])


def test_infinity_is_nearer_to_the_truth() -> None:
    """Equal distributions: the truth is 0, the plain value is not."""
    rng = np.random.default_rng(0)
    rows, reference = rng.normal(size=(400, 12)), rng.normal(size=(40000, 12))
    found = d.frechet_infinity(rows, reference)
    plain = d.frechet_distance(rows, reference)
    assert plain > 0.1 and abs(found.value) < 0.35 * plain
    assert found.slope > 0 and 0.5 < found.r2 <= 1 and found.distances[-1] == pytest.approx(plain)
    assert found.value == d.frechet_infinity(rows, reference).value
    with pytest.raises(ValueError, match="too few"):
        d.frechet_infinity(rows[:12], reference)
    with pytest.raises(ValueError, match="too few"):
        d.frechet_infinity(rows, reference, points=25, smallest=500, replace=True)


# Kernel distance ------------------------------------------------------------------------------------------------------


def brute_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Pair by pair."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1.0) ** 3)

    n, m = len(a), len(b)
    aa = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return aa + bb - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@given(pairs(), st.integers(1, 9))
@settings(max_examples=50)
def test_blocks_of_any_size_give_the_sum_over_pairs(rows: tuple[np.ndarray, np.ndarray], block: int) -> None:
    a, b = rows
    expected = brute_mmd(a, b)
    scale = 1.0 + (np.square(a).sum() + np.square(b).sum()) ** 3
    assert d.polynomial_mmd(a, b, block=block) == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)


def test_it_is_unbiased_around_zero() -> None:
    rng = np.random.default_rng(0)
    values = np.array([d.polynomial_mmd(*rng.normal(size=(2, 10, 20))) for _ in range(600)])
    assert (values < 0).any() and abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))


def test_subsets_are_seeded_and_need_enough_rows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 8)), rng.normal(size=(60, 8)) + 0.4
    values = d.mmd_subsets(a, b, subsets=7, size=30)
    assert values.shape == (7,) and np.array_equal(values, d.mmd_subsets(a, b, subsets=7, size=30))
    assert abs(values.mean() - d.polynomial_mmd(a, b)) < 3 * values.std()
    whole = d.mmd_subsets(a, a + 0.4, subsets=2, size=50)
    assert whole == pytest.approx(d.polynomial_mmd(a, a + 0.4), rel=1e-9)
    with pytest.raises(ValueError, match="subsets of 51"):
        d.mmd_subsets(a, b, size=51)


# Class probabilities --------------------------------------------------------------------------------------------------


def test_kl_equals_scipy_and_vanishes_only_where_equal() -> None:
    rng = np.random.default_rng(0)
    p, q = 3 * rng.normal(size=(2, 9, 30))
    expected = rel_entr(softmax(p, axis=1), softmax(q, axis=1)).sum() / 9
    assert d.paired_kl(q, p) == pytest.approx(expected, rel=1e-12)
    assert d.paired_kl(p, p) == 0.0 and d.paired_kl(p + 5.0, p) == pytest.approx(0.0, abs=1e-12)
    assert d.paired_kl_sigmoid(p, p) == 0.0 and d.paired_kl_sigmoid(q, p) > 0
    on, off = 1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-q))
    bernoulli = rel_entr(on, off).sum() + rel_entr(1 - on, 1 - off).sum()
    assert d.paired_kl_sigmoid(q, p) == pytest.approx(bernoulli / 9, rel=1e-9)


def test_kl_survives_extreme_logits() -> None:
    p, q = np.array([[1e4, 0.0]]), np.array([[0.0, 1e4]])
    assert d.paired_kl(q, p) == pytest.approx(1e4) and d.paired_kl_sigmoid(q, p) == pytest.approx(5e3, rel=1e-6)
    assert d.paired_kl_epsilon(q, p) == pytest.approx(-math.log(1e-6), rel=1e-6)


def test_kl_takes_pairs_only() -> None:
    with pytest.raises(ValueError, match="one shape"):
        d.paired_kl(np.zeros((3, 4)), np.zeros((2, 4)))


def test_inception_score_between_one_and_the_number_of_classes() -> None:
    certain = 1e3 * np.eye(12)
    assert d.inception_score(certain)[0] == pytest.approx(12.0)
    assert d.inception_score(np.zeros((12, 5)))[0] == pytest.approx(1.0)
    logits = np.random.default_rng(0).normal(size=(40, 6))
    assert d.inception_score(logits) == d.inception_score(logits) and d.inception_score(logits)[1] == 0.0
    assert d.inception_score(logits[::-1])[0] == pytest.approx(d.inception_score(logits)[0], rel=1e-12)
    p = softmax(logits, axis=1)
    expected = np.exp(rel_entr(p, p.mean(0)).sum(1).mean())
    assert d.inception_score(logits)[0] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="10 splits"):
        d.inception_score(logits[:9], splits=10)


def test_published_values_of_divergences_and_scores() -> None:
    generated, reference = 2 * legacy(4, 37, 527), 2 * legacy(5, 37, 527)
    assert d.paired_kl(generated, reference) == pytest.approx(3.6764183, abs=1e-6)
    assert d.paired_kl_epsilon(generated, reference) == pytest.approx(3.6557159, abs=1e-6)
    assert d.paired_kl_sigmoid_positive(generated, reference) == pytest.approx(159.1197815, rel=1e-6)
    assert d.inception_score(generated, splits=10, seed=2020) == pytest.approx((2.324674033, 0.200048152), abs=1e-8)
    assert d.inception_score(generated, splits=10) == pytest.approx((2.359631952, 0.225641412), abs=1e-8)


# Arithmetic of published evaluators -----------------------------------------------------------------------------------


def fake(name: str, n: int, dims: int) -> np.ndarray:
    return np.asarray(1.3 * hashed(f"input:{name}", (n, dims)) + 0.2, dtype=np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("n", [16, 600])
def test_javisbench_functions(n: int) -> None:
    """Single precision: the two SVDs of a rank-deficient covariance leave differences of 1e-4 between libraries."""
    golden = FUNCTIONS[f"javisbench_direct_n{n}"]
    real, made = hashed("input:fvd.real", (n, 40)), fake("fvd.fake", n, 40)
    assert d.frechet_thresholded(made, real) == pytest.approx(golden["fvd"], rel=1e-5)
    assert d.kvd_centred(made, real) == pytest.approx(golden["kvd_as_the_reference_returns_it"], rel=1e-4)
    assert d.polynomial_mmd(made, real) == pytest.approx(golden["kvd_on_embeddings_not_centred_in_place"], rel=1e-5)
    real, made = hashed("input:fad.real", (n, 48)), fake("fad.fake", n, 48)
    assert 1e4 * d.frechet_thresholded(made, real) == pytest.approx(golden["fad_x10000"], rel=1e-4)


@pytest.mark.parity
def test_av_benchmark_functions() -> None:
    generated, reference = fake("avb.pred", 200, 32), hashed("input:avb.gt", (200, 32))
    golden = FUNCTIONS["av_bench_fd_n200_d32"]["fd"]
    assert d.frechet_sqrtm(generated, reference, mean_dtype=np.float32) == pytest.approx(golden, rel=1e-9)
    assert d.frechet_distance(generated, reference) == pytest.approx(golden, rel=1e-6)
    logits = [2 * hashed(f"input:avb.logits.{side}", (53, 527)) for side in ("pred", "gt")]
    golden = FUNCTIONS["av_bench_kl_n53"]
    assert d.paired_kl(*logits) == pytest.approx(golden["kl_softmax"], rel=1e-6)
    assert d.paired_kl_sigmoid_positive(*logits) == pytest.approx(golden["kl_sigmoid"], rel=1e-6)
    golden = FUNCTIONS["av_bench_isc_n53"]
    expected = (golden["inception_score_mean"], golden["inception_score_std"])
    assert d.inception_score(logits[0], splits=10, seed=2020) == pytest.approx(expected, rel=1e-9)


def test_the_threshold_gives_a_set_a_distance_from_itself() -> None:
    """The fault that `fad` does not have: at small scale most singular values stay unrooted."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, 257.0) ** -1.0
    rows = (rng.normal(size=(600, 256)) * np.sqrt(spectrum / spectrum.sum() * 2.5e-3)).astype(np.float32)
    assert d.frechet_thresholded(rows, rows) > 1e-5
    assert abs(d.frechet_thresholded(rows, rows, threshold=0.0)) < 0.2 * d.frechet_thresholded(rows, rows)
    assert d.frechet_distance(rows, rows) < 1e-15


def test_centring_hides_a_shift_of_the_mean() -> None:
    """The fault that `kvd` does not have."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 50)).astype(np.float32)
    assert d.kvd_centred(a, b + 0.5) == pytest.approx(d.kvd_centred(a, b), abs=1e-5)
    assert d.polynomial_mmd(a, b + 0.5) > 20 * abs(d.polynomial_mmd(a, b))


def test_population_covariance_is_smaller() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(100, 20)), 1.3 * rng.normal(size=(100, 20))
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    assert d.frechet_sqrtm(a, b, ddof=0) - shift == pytest.approx(0.99 * (d.frechet_sqrtm(a, b) - shift), rel=1e-9)
