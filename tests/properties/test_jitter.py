"""Jitter: the quick one does as the careful one, and says so where it does not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.judging import quick_jitter, random_signs
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, use_jitter
from gradspec.properties.judging.judge import OVERFLOW_HEADROOM, Judge
from gradspec.properties.judging.quick_jitter import PEAK_HEADROOM, QuickJitterSource
from gradspec.reference.rule import Array

RNG = np.random.default_rng(0)
COPIES = 200


def make_case(op: str, dtype: str, *shapes: tuple[int, ...], scale: float = 1, **keywords: Any) -> Case:
    inputs = [RNG.normal(size=s) * scale for s in shapes]
    value = Case.of(op, dtype, inputs, keywords, 0.0)
    return Case.of(op, dtype, inputs, keywords, RNG.normal(size=run_spec_value(value).shape))


def run_spec_value(case: Case) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(case.op.rule(*case.inputs, **case.keywords)[0])


def run_jittered(case: Case, rounding: JitterSource) -> Array:
    """Return the value and all gradients of a jittered copy, one after the other."""

    def convert(x: Array) -> Array:
        return rounding.jitter(x.astype(rounding.compute_dtype)).view(JitteredArray)

    with use_jitter(rounding), np.errstate(all="ignore"):
        result = run_spec(case.map_float_arrays(convert))
    return np.concatenate([x.ravel() for x in (result.value, *result.gradients.values())]).view(np.ndarray)


def measure_spread(case: Case, source: type[JitterSource]) -> Array:
    copies = [run_jittered(case, source(dtype_of(case.dtype), seed + 1)) for seed in range(COPIES)]
    return np.std(np.array(copies, np.float64), axis=0)


CASES = [
    make_case("layer_norm", "float32", (3, 8), (8,), (8,)),
    make_case("softmax", "bfloat16", (4, 7)),
    make_case("matmul", "float64", (3, 4), (4, 2)),
    make_case("var", "float16", (5, 2, 4), axis=(0, 2)),
    make_case("sum", "float32", (40, 2), axis=0),
    make_case("mean", "float64", (2, 3, 4), axis=(2, 0), keepdims=True),
    make_case("multiply", "float32", (), ()),
    make_case("gelu", "float32", ()),
]


def spreads_alike(case: Case, source: type[JitterSource]) -> bool:
    """Whether copies with this source scatter as the careful ones do; by chance, a tenth more or less."""
    quick, careful = measure_spread(case, source), measure_spread(case, JitterSource)
    # Where the copies take two or three values only, how often each is taken is chance, too.
    return bool(np.all((quick < 1.6 * careful) & (careful < 1.6 * quick) | (quick == careful)))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op.name}-{c.dtype}")
def test_quick_copies_scatter_as_careful_ones_do(case: Case) -> None:
    assert spreads_alike(case, QuickJitterSource)


class _LosesScalars(QuickJitterSource):
    """A result of rank 0 comes back as NumPy's scalar, whose products nobody jitters."""

    def round_result(self, ufunc: Any, method: str, inputs: Any, axis: Any, result: Any) -> Any:
        rounded = super().round_result(ufunc, method, inputs, axis, result)
        return rounded if np.ndim(rounded) else result


class _SumsExactly(QuickJitterSource):
    """A sum is off by no more than its own last place."""

    def _round_sum(self, x: Array, axis: Any, result: Any, is_float: bool) -> Any:
        return result


class _StepsHalfAsFar(QuickJitterSource):
    """Steps are of half a unit, of which most are rounded away."""

    def __init__(self, dtype: np.dtype[Any], seed: int) -> None:
        super().__init__(dtype, seed)
        self.spacing /= 2


class _AlwaysStepsUp(QuickJitterSource):
    """All steps go the same way."""

    def jitter(self, x: Any) -> Array:
        return np.asarray(x * x.dtype.type(1 + self.spacing))


@pytest.mark.parametrize("fault", [_SumsExactly, _StepsHalfAsFar, _AlwaysStepsUp])
def test_other_jitter_is_found_out(fault: type[JitterSource]) -> None:
    assert not all(spreads_alike(case, fault) for case in CASES)


def count_outcomes_of_squaring(source: type[JitterSource]) -> int:
    """Return how many outcomes 40 copies have of squaring an unjittered 1 of rank 0, 20 times over."""
    outcomes = set()
    for seed in range(40):
        with use_jitter(source(np.dtype(np.float64), seed)):
            x: Any = np.array(1.0).view(JitteredArray)
            for _ in range(20):
                x = x * x
            outcomes.add(float(x))
    return len(outcomes)


def test_results_of_rank_0_stay_jittered() -> None:
    """Of two arrays of rank 0 the product is no array, and its jitter is easily lost."""
    assert count_outcomes_of_squaring(QuickJitterSource) > 30
    assert count_outcomes_of_squaring(_LosesScalars) == 1
    with use_jitter(QuickJitterSource(np.dtype(np.float64), 1)):
        assert isinstance(np.sum(np.ones(3).view(JitteredArray)), JitteredArray)


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_a_sum_is_off_by_half_a_unit_of_each_partial_sum(n: int) -> None:
    """Of n ones these are 2, ..., n; each with a random sign."""
    sums = []
    for seed in range(COPIES):
        source = QuickJitterSource(np.dtype(np.float64), seed)
        sums.append(source._round_sum(np.ones((30, n)), -1, np.zeros(30), True))
    expected = np.sqrt(np.sum(np.arange(2, n + 1, dtype=float) ** 2)) * np.finfo(np.float64).eps / 2
    assert np.std(sums) == pytest.approx(expected, rel=0.05)  # of 6,000 sums: six standard errors


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["inf", "nan", "large", "subnormal"])
def test_what_is_not_ordinary_is_seen(dtype: str, kind: str) -> None:
    source = QuickJitterSource(dtype_of(dtype), 1)
    smallest_normal = source.smallest / source.spacing
    number = {"inf": -np.inf, "nan": np.nan, "large": 0.6 * source.largest, "subnormal": -smallest_normal / 2}
    with np.errstate(all="ignore"):
        source.jitter(np.array([1, 0, 2 * smallest_normal, source.largest / 4], source.compute_dtype))
        assert source.look_at_numbers()
        source.jitter(np.array([1, number[kind]], source.compute_dtype))
        assert not source.look_at_numbers()
        source.jitter(np.ones(2, source.compute_dtype))
        assert not source.look_at_numbers()


def test_what_is_not_ordinary_is_seen_when_it_is_let_go_of_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_jitter, "MAX_RESULTS_KEPT", 3)
    source = QuickJitterSource(np.dtype(np.float32), 1)
    for x in (np.inf, *range(1, 10)):
        source.jitter(np.float32(x))
    assert len(source._results) <= 4
    assert not source.look_at_numbers()


def test_peaks_near_overflow_are_those_of_the_careful_copies() -> None:
    """Partial sums of float16 overflow where neither the terms nor, since they cancel, the sum are large."""
    for scale in (1e-3, 1, 30, 1000):
        for case in (
            Case.of("sum", "float16", [np.array([1.0, -1] * 40) * scale], {}, 1.0),
            Case.of("prod", "float16", [np.array([2.0, 0.5] * 4) * min(scale, 30) ** 0.1], {}, 1.0),
            make_case("layer_norm", "float16", (3, 8), (8,), (8,), scale=scale),
        ):
            judge, careful = Judge(case), JitterSource(dtype_of("float16"), 1)
            judge.compute_samples(1)
            run_jittered(case, careful)
            near = OVERFLOW_HEADROOM * careful.peak > 65504
            assert judge.near_overflow == near
            if near:
                assert judge.samples.peak == pytest.approx(careful.peak, rel=0.05)
            if case.op.name == "prod":  # elsewhere the steps decide what is left where numbers cancel
                assert judge.samples.trough == pytest.approx(careful.trough, rel=0.05)


def test_partial_sums_that_are_not_recorded_are_far_from_overflow() -> None:
    assert PEAK_HEADROOM > 2 * OVERFLOW_HEADROOM


def test_overflow_on_the_way_is_seen_by_the_judge() -> None:
    case = Case.of("square", "float32", [np.array([1e30, 1])], {}, [1.0, 1.0])
    judge = Judge(case)
    judge.compute_samples(2)
    assert judge.near_overflow


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op.name}-{c.dtype}")
def test_noise_is_the_same_whatever_was_measured_before(case: Case) -> None:
    def measure(op_case: Case) -> list[Array]:
        part: Callable[[str], Any] = lambda name: lambda r: r.gradients[name]
        judge = Judge(op_case)
        return [judge.measure_noise(part(name), 8) for name in judge.exact.gradients]

    first = measure(case)
    for other in CASES:
        measure(other)
    random_signs._get_factor_pool.cache_clear()  # as in another process
    random_signs._get_walk_pool.cache_clear()
    for before, after in zip(first, measure(case), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("size", [5, random_signs.MAX_WINDOW + 3])
def test_signs_of_each_draw_are_of_either_kind_and_differ(size: int) -> None:
    signs = random_signs.RandomSigns(1)
    draws = [signs.draw_factors((size,), size, np.dtype(np.float32), 0.5) for _ in range(200)]
    assert np.mean(draws) == pytest.approx(1, abs=0.1)  # of 1,000 signs or more: six standard errors
    assert set(np.unique(draws)) == {0.5, 1.5}
    assert np.abs(np.corrcoef(draws[:2])[0, 1]) < 0.9 or size == 5
    walks = [signs.draw_walks(2, size, np.dtype(np.float64)) for _ in range(2)]
    assert not np.array_equal(walks[0], walks[1]) or size == 5
    assert all(np.array_equal(w[:, 0], w[:, -1]) and np.all(np.abs(np.diff(w[:, 1:])) == 1) for w in walks)
