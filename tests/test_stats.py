"""Statistics against scipy and closed forms, their invariants, and their error rates by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from avbench import stats
from avbench.metric import Direction, Rows
from tools.simulate_statistics import POPULATIONS, coverage, unwidened

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=10, max_size=40)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(size=shape)


# --- intervals of a mean


@pytest.mark.parametrize("n", [12, 40, 300])
def test_bca_agrees_with_scipy(n: int) -> None:
    values = drawn(n, n)
    ours = stats.mean_interval(values, seed=0, level=unwidened(0.95, n), resamples=20_000)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", batch=1000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours is not None and ours.method == "bca"
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.04 * width


def test_large_symmetric_samples_get_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=20_000)
    interval = stats.mean_interval(values, seed=0)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval is not None
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@settings(max_examples=25, deadline=None)
@given(samples, st.randoms(use_true_random=False))
def test_order_does_not_matter(values: list[float], random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert stats.mean_interval(values, 3) == stats.mean_interval(shuffled, 3)
    assert stats.sign_flip(values, 3) == stats.sign_flip(shuffled, 3)


@settings(max_examples=25, deadline=None)
@given(samples, st.integers(-50, 50), st.sampled_from([0.5, 2.0, 8.0]))
def test_shift_and_scale_carry_over(values: list[float], shift: int, scale: float) -> None:
    plain = stats.mean_interval(values, 0, resamples=2000, proportion=False)
    moved = stats.mean_interval(scale * np.array(values) + shift, 0, resamples=2000, proportion=False)
    assert plain is not None and moved is not None
    # tolerance: shifted values round, and a resampled mean that ties with the mean may stop doing so
    spread = max(np.ptp(values), 1)
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=0.02 * scale * spread)
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=0.02 * scale * spread)


@settings(max_examples=25, deadline=None)
@given(samples)
def test_interval_lies_within_the_values(values: list[float]) -> None:
    interval = stats.mean_interval(values, 0, resamples=2000, proportion=False)
    assert interval is not None
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_seed_decides_and_repeats() -> None:
    values = drawn(0, 50)
    assert stats.mean_interval(values, 1) == stats.mean_interval(values, 1)
    assert stats.mean_interval(values, 1) != stats.mean_interval(values, 2)


def test_few_samples_get_no_interval_but_a_reason() -> None:
    assert stats.mean_interval(drawn(0, 9), 0) is None
    assert stats.mean_interval(drawn(0, 10), 0) is not None
    assert "9" in stats.reason(9) and stats.reason(10) == ""


def test_equal_values_are_marked() -> None:
    interval = stats.mean_interval([0.25] * 20, 0)
    assert interval == stats.Interval(0.25, 0.25, "constant", 0.95)


def test_proportions_get_wilsons_interval() -> None:
    interval = stats.mean_interval([1] * 9 + [0] * 21, 0)
    expected = scipy_stats.binomtest(9, 30).proportion_ci(method="wilson")
    assert interval is not None and interval.method == "wilson"
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    never = stats.mean_interval([0] * 30, 0)
    assert never is not None and never.low == 0 and 0.1 < never.high < 0.12
    assert stats.mean_interval([0, 1] * 15, 0, proportion=False) != stats.mean_interval([0, 1] * 15, 0)


def test_takes_of_one_item_are_one_observation() -> None:
    items = drawn(0, 30)
    takes = np.repeat(items, 4) + np.tile([-0.1, 0.1, -0.2, 0.2], 30)
    names = [f"item{i:02}" for i in range(30) for _ in range(4)]
    clustered, naive = stats.mean_interval(takes, 0, clusters=names), stats.mean_interval(takes, 0)
    of_items = stats.mean_interval(items, 0)
    assert clustered is not None and naive is not None and of_items is not None
    assert (clustered.low, clustered.high) == pytest.approx((of_items.low, of_items.high))
    assert naive.high - naive.low < 0.7 * (clustered.high - clustered.low)
    assert stats.mean_interval(takes[:36], 0, clusters=names[:36]) is None  # nine items


def test_values_without_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        stats.mean_interval([1.0] * 20 + [math.nan], 0)
    with pytest.raises(ValueError, match="cluster"):
        stats.mean_interval([1.0] * 20, 0, clusters=["a"])


def test_memory_is_bounded() -> None:
    import tracemalloc

    values = drawn(0, 30_000)
    tracemalloc.start()
    stats.mean_interval(values, 0)
    stats.sign_flip(values - values.mean(), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


# --- paired comparison


def test_exact_sign_flip_is_the_enumeration() -> None:
    d = drawn(3, 9) - 1
    sums = [abs(sum(s * x for s, x in zip(signs, d))) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert stats.sign_flip(d, 0) == pytest.approx(expected)


def test_sampled_sign_flip_agrees_with_scipy() -> None:
    d = drawn(4, 60) - 1.3
    theirs = scipy_stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    ).pvalue
    assert stats.sign_flip(d, 0) == pytest.approx(theirs, abs=0.015)


def test_sampled_sign_flip_agrees_with_the_exact_one() -> None:
    d = drawn(5, stats.EXACT) - 1.4
    exact = stats.sign_flip(d, 0)
    assert 0.02 < exact < 0.98
    tiny = np.full(1, 1e-12)  # one more nonzero difference that changes no sum: sampled instead of enumerated
    assert stats.sign_flip(np.concatenate([d, tiny]), 0) == pytest.approx(exact, abs=0.02)


def test_p_beyond_the_resamples_is_hoeffdings_bound() -> None:
    d = 1 + 0.1 * np.random.default_rng(0).normal(size=100)
    p = stats.sign_flip(d, 0)
    assert 2.0**-99 <= p < 1e-15
    assert p == pytest.approx(2 * math.exp(-(d.sum() ** 2) / (2 * (d @ d))), rel=1e-6)
    assert stats.sign_flip(1e3 * np.ones(10_000), 0) > 0


def test_no_differences_give_one() -> None:
    result = stats.paired([0.1] * 12, [0.1] * 12, seed=0)
    assert (result.p, result.difference, result.win_rate) == (1.0, 0.0, 0.5)
    assert result.interval == stats.Interval(0, 0, "constant", 0.95)


def test_paired_result_by_hand() -> None:
    result = stats.paired([1, 2, 3, 4], [2, 2, 5, 3], seed=0, better="higher")
    assert (result.n, result.mean_a, result.mean_b, result.difference) == (4, 2.5, 3.0, 0.5)
    assert result.relative_change == pytest.approx(0.2)
    assert result.win_rate == (2 + 0.5) / 4
    assert result.interval is None
    assert result.p == pytest.approx(6 / 8)  # signs of (1, 2, -1): |sum| >= 2 in 6 of 8
    assert stats.paired([1, 2, 3, 4], [2, 2, 5, 3], seed=0, better="lower").win_rate == (1 + 0.5) / 4
    assert stats.paired([0, 0], [1, 1], seed=0).relative_change is None
    assert stats.paired([-2, -2], [-1, -1], seed=0).relative_change == 0.5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_paired_is_antisymmetric_and_blind_to_order(pairs: list[tuple[float, float]], random) -> None:
    a, b = map(np.array, zip(*pairs))
    there, back = stats.paired(a, b, 0), stats.paired(b, a, 0)
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert there.win_rate == pytest.approx(1 - back.win_rate)
    assert there.p == pytest.approx(back.p, abs=0.02)
    random.shuffle(pairs)
    c, d = map(np.array, zip(*pairs))
    assert stats.paired(c, d, 0) == there


def test_pairing_sees_what_the_spread_of_samples_hides() -> None:
    a = 10 * drawn(0, 100)
    result = stats.paired(a, a + 0.1 + 0.05 * np.random.default_rng(1).normal(size=100), seed=0)
    assert result.p < 1e-4 and result.interval is not None and 0 < result.interval.low < 0.1 < result.interval.high
    assert result.error is not None and stats.detectable(result.n, result.error) < 0.02


def test_binary_scores_get_an_interval_of_paired_proportions() -> None:
    a, b = [0] * 30 + [1] * 20, [1] * 8 + [0] * 22 + [1] * 18 + [0] * 2
    interval = stats.paired(a, b, seed=0).interval
    assert interval is not None and interval.method == "paired proportions"
    gained, lost = 9 / 52, 3 / 52
    half = 1.959964 * math.sqrt((gained + lost - (gained - lost) ** 2) / 52)
    assert (interval.low, interval.high) == pytest.approx((gained - lost - half, gained - lost + half), abs=1e-6)
    same = stats.paired(a, a, seed=0).interval
    assert same is not None and same.low < 0 < same.high  # agreement on 50 is no proof of equality


@pytest.mark.parametrize("tests", [1, 14])
def test_detectable_difference_has_its_power(tests: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 40))
    size = np.mean([stats.detectable(40, row.std(ddof=1) / math.sqrt(40), tests) for row in noise[:200]])
    found = scipy_stats.ttest_1samp(noise + size, 0, axis=1).pvalue < 0.05 / tests
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    assert stats.paired([1.0], [2.0], seed=0).error is None


@pytest.mark.parametrize("tests", [1, 2, 6, 14, 100])
def test_fewest_pairs_are_those_of_which_flips_can_show_something(tests: int) -> None:
    least = stats.fewest(tests)
    assert stats.sign_flip(np.ones(least), 0) < 0.05 / tests <= stats.sign_flip(np.ones(least - 1), 0)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="paired"):
        stats.paired([1, 2], [1], seed=0)
    with pytest.raises(ValueError, match="paired"):
        stats.paired([], [], seed=0)


# --- families of tests


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_holm_is_monotone_and_lies_between_p_and_bonferroni(p: list[float], random) -> None:
    adjusted = stats.holm(p)
    assert all(x <= y <= min(1, len(p) * x) + 1e-12 for x, y in zip(p, adjusted))
    ranked = [y for _, y in sorted(zip(p, adjusted))]
    assert ranked == sorted(ranked)
    order = list(range(len(p)))
    random.shuffle(order)
    assert stats.holm([p[i] for i in order]) == [adjusted[i] for i in order]


@pytest.mark.parametrize(
    ("p", "difference", "better", "word"),
    [
        (0.01, 1.0, "higher", "better"),
        (0.01, 1.0, "lower", "worse"),
        (0.01, -1.0, "higher", "worse"),
        (0.01, -1.0, "lower", "better"),
        (0.01, -1.0, "none", "lower"),
        (0.01, 1.0, "none", "higher"),
        (0.05, 1.0, "higher", "no difference shown"),
        (0.5, -1.0, "none", "no difference shown"),
    ],
)
def test_verdicts(p: float, difference: float, better: Direction, word: str) -> None:
    assert stats.verdict(p, difference, better) == word


def column(means: dict[str, float], n: int = 100, noise: float = 0.1) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=n)
    return {
        name: {f"s{i}": float(hardness[i] + mean + noise * rng.normal()) for i in range(n)}
        for name, mean in means.items()
    }


def test_rank_groups_join_what_is_not_separated() -> None:
    scores = column({"worst": 0.0, "best": 1.0, "second": 0.999, "middle": 0.5})
    groups = stats.rank_groups(scores, 0, "higher")
    assert groups == {**dict.fromkeys(("best", "second"), 1), "middle": 2, "worst": 3}
    assert list(groups)[2:] == ["middle", "worst"]
    assert stats.rank_groups(scores, 0, "lower") == {"worst": 1, "middle": 2, "second": 3, "best": 3}


def test_rank_groups_of_noise_are_one_group() -> None:
    scores = column(dict.fromkeys("abcdefgh", 0.0))
    assert set(stats.rank_groups(scores, 0, "higher").values()) == {1}


def test_rank_groups_compare_on_shared_samples_only() -> None:
    scores = column({"a": 1.0, "b": 0.0})
    scores["b"] = {f"other-{id}": value for id, value in scores["b"].items()}
    assert stats.rank_groups(scores, 0, "higher") == {"a": 1, "b": 1}


def test_many_systems_can_still_be_separated() -> None:
    groups = stats.rank_groups(column({f"m{i:02}": i / 10 for i in range(30)}, n=200), 0, "higher")
    assert list(groups.values()) == list(range(1, 31))


def test_ranking_needs_a_direction() -> None:
    with pytest.raises(ValueError, match="direction"):
        stats.rank_groups({"a": {"x": 1.0}}, 0, "none")


# --- set metrics


def rows(features: np.ndarray, prefix: str = "s") -> Rows:
    return Rows([f"{prefix}{i}" for i in range(len(features))], {"x": list(features)})


def mean_distance(generated: Rows, reference: Rows | None) -> float:
    assert reference is not None
    return float(np.linalg.norm(np.mean(generated.x, axis=0) - np.mean(reference.x, axis=0)))


def test_joint_difference_of_a_linear_statistic_is_the_paired_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 1)), rng.normal(0.2, 1, size=(200, 1))
    found = stats.joint_difference(
        lambda generated, _: float(np.mean(generated.x)), rows(a), rows(b), None, seed=0, resamples=2000
    )
    test = scipy_stats.ttest_rel(b[:, 0], a[:, 0])
    half = test.confidence_interval().high - (b - a).mean()
    assert found is not None and found.interval.method == "joint half-samples"
    assert found.difference == pytest.approx((b - a).mean(), abs=0.05 * half)
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(test.confidence_interval()), abs=0.1 * half)
    assert found.p == pytest.approx(test.pvalue, rel=0.3) and found.error == pytest.approx(half / 1.972, rel=0.1)


def test_joint_difference_takes_the_same_samples_everywhere() -> None:
    shared = np.random.default_rng(0).normal(size=(40, 3))
    seen: list[tuple[list[str], list[str]]] = []

    def reduce(generated: Rows, reference: Rows | None) -> float:
        assert reference is not None
        seen.append((generated.ids, reference.ids))
        return mean_distance(generated, reference)

    found = stats.joint_difference(reduce, rows(shared), rows(shared), rows(shared + 1), seed=0, resamples=20)
    assert found is not None and (found.interval.low, found.interval.high) == (0, 0)  # a set against itself
    assert (found.difference, found.error, found.p) == (0, 0, 1)
    assert all(ids == reference for ids, reference in seen)
    assert {len(ids) for ids, _ in seen} == {20, 40} and all(len(set(ids)) == len(ids) for ids, _ in seen)


def test_a_reference_of_other_samples_stays_whole() -> None:
    sizes = set()

    def reduce(generated: Rows, reference: Rows | None) -> float:
        assert reference is not None
        sizes.add(len(reference))
        return mean_distance(generated, reference)

    a = np.random.default_rng(0).normal(size=(40, 3))
    stats.joint_difference(reduce, rows(a), rows(a + 1), rows(a[:30], "r"), seed=0, resamples=5)
    assert sizes == {30}


def test_joint_difference_refuses_unpaired_sets_and_small_ones() -> None:
    a = np.zeros((40, 2))
    with pytest.raises(ValueError, match="same samples"):
        stats.joint_difference(mean_distance, rows(a), rows(a, "t"), rows(a), seed=0)
    assert stats.joint_difference(mean_distance, rows(a[:19]), rows(a[:19]), rows(a), seed=0) is None


def test_a_less_varied_model_of_equal_distance_is_not_called_better() -> None:
    """The bias of a Fréchet distance grows with a set's spread, so it does not cancel between models."""
    from avbench.metrics.distances import frechet_distance

    def reduce(generated: Rows, reference: Rows | None) -> float:
        assert reference is not None
        return frechet_distance(np.array(generated.x), np.array(reference.x))

    rng, dims, n, less = np.random.default_rng(0), 32, 80, 0.2
    raw, estimates, shown = [], [], 0
    for seed in range(20):
        real, a, b = rng.normal(size=(3, n, dims))
        one, other = (1 - less) * a, less + b  # the true distance of both is dims x less^2
        found = stats.joint_difference(reduce, rows(one), rows(other), rows(real), seed, resamples=40)
        assert found is not None
        raw.append(reduce(rows(other), rows(real)) - reduce(rows(one), rows(real)))
        estimates.append(found.difference)
        shown += found.p < 0.05
    assert sum(one > 0 for one in raw) >= 17 and np.mean(raw) > 1.0  # in favour of the less varied one
    assert abs(np.mean(estimates)) < 0.3 and shown <= 3


@given(st.integers(0, 200), st.integers(0, 5))
def test_half_split_is_two_disjoint_halves(n: int, seed: int) -> None:
    first, second = stats.half_split(n, seed)
    assert len(first) == len(second) == n // 2
    assert not set(first) & set(second) and set(first) | set(second) <= set(range(n))
    assert list(first) == sorted(first) and list(second) == sorted(second)


# --- error rates; tools/simulate_statistics.py measures them with more repetitions for docs/statistics.md


def test_false_positive_rate_of_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    hits = [stats.sign_flip(rng.normal(size=30), seed, resamples=500) < 0.05 for seed in range(1500)]
    assert 0.03 < np.mean(hits) < 0.07


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize(("name", "floor"), [("normal", 0.93), ("bounded", 0.93), ("lognormal", 0.86)])
def test_coverage_of_the_interval(name: str, floor: float, n: int) -> None:
    assert floor <= coverage(POPULATIONS[name], n, repetitions=1000, resamples=2000) <= 0.975


def test_family_of_true_nulls_is_rejected_at_most_at_its_level() -> None:
    rng, rejected = np.random.default_rng(0), 0
    for seed in range(400):
        p = [stats.sign_flip(rng.normal(size=25), seed, resamples=1000) for _ in range(8)]
        rejected += min(stats.holm(p)) < 0.05
    assert rejected / 400 < 0.075


def test_intervals_made_together_are_those_made_one_by_one() -> None:
    rng = np.random.default_rng(3)
    columns = [rng.gamma(2, 1, 40), rng.normal(0, 1, 40), rng.normal(0, 1, 25), np.ones(30), np.arange(4.0)]
    columns.append((rng.random(50) < 0.3).astype(float))
    together, alone = stats.mean_intervals(columns, 0), [stats.mean_interval(column, 0) for column in columns]
    for one, other in zip(together, alone):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.method, one.low, one.high) == (
                other.method,
                pytest.approx(other.low),
                pytest.approx(other.high),
            )


def test_pairs_tested_together_agree_with_pairs_tested_alone() -> None:
    rng = np.random.default_rng(4)
    scene = rng.normal(0, 1, 60)
    scores = {
        f"m{step}": {f"s{i}": float(scene[i] + 0.06 * step + rng.normal(0, 0.4)) for i in range(60)}
        for step in range(8)
    }
    names = sorted(scores)
    together = stats._pair_tests(scores, names, 0, 1)
    assert list(together) == [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for (a, b), (p, difference) in together.items():
        alone, same = stats._shared(scores[a], scores[b], 0, 1)
        assert difference == pytest.approx(same)
        assert p == pytest.approx(
            alone, abs=4 * np.sqrt(max(alone * (1 - alone), 1e-4) / (5_000 if alone < 0.2 else 500))
        )
