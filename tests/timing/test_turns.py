"""Calls in turns: who is favoured by a machine that drifts, and what the spread of a ratio says."""

import gc
from collections.abc import Callable
from random import Random

import pytest

from gradspec.timing.turns import MIN_ROUNDS, Spread, make_slice_timer, measure_in_turns


class Machine:
    """A machine whose clock only moves when it works, at a speed that drifts and jitters.

    Args:
        drift: by which share of its time a unit of work takes longer after each one.
        jitter: the largest share by which a unit of work takes longer by chance.
        seed: of the chance.
    """

    def __init__(self, drift: float = 0.0, jitter: float = 0.0, seed: int = 0) -> None:
        self.now, self.slowness, self.drift, self.jitter = 0.0, 1.0, drift, jitter
        self.random = Random(seed)

    def make_call(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.slowness *= 1 + self.drift
            self.now += seconds * self.slowness * (1 + self.jitter * self.random.random())

        return call

    def measure_ratio(self, first: float, second: float) -> Spread:
        """Return the ratio of two calls that take so many seconds each on an idle machine."""
        return _compute_ratio(measure_in_turns(self.make_slice_timers(first, second), seconds=0.01))

    def make_slice_timers(self, *seconds: float) -> list[Callable[[], float]]:
        return [make_slice_timer(self.make_call(s), lambda: self.now) for s in seconds]


def _compute_ratio(rounds: list[list[float]]) -> Spread:
    return Spread.of([a / b for a, b in rounds])


def test_a_slow_call_has_a_ratio_above_one() -> None:
    spread = Machine(jitter=0.5).measure_ratio(2e-3, 1e-3)
    assert spread.low > 1.3
    assert spread.median == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_spread_of_equal_calls_covers_one(seed: int) -> None:
    spread = Machine(jitter=0.5, seed=seed).measure_ratio(1e-3, 1e-3)
    assert spread.low < 1 < spread.high
    assert spread.median == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("drift", [0.001, 0.05])
def test_a_machine_that_becomes_slower_favours_nobody(drift: float) -> None:
    """In the same order each round, the second call would always be the slower one."""
    spread = Machine(drift).measure_ratio(1e-3, 1e-3)
    assert spread.low < 1 < spread.high
    takes = Machine(drift).make_slice_timers(1e-3, 1e-3)
    assert _compute_ratio([[take() for take in takes] for _ in range(MIN_ROUNDS)]).high < 1


def test_a_call_that_takes_seconds_is_still_measured_often_enough() -> None:
    assert len(measure_in_turns([lambda: 1.0, lambda: 2.0], seconds=0)) == MIN_ROUNDS


def test_each_measurement_stays_with_its_call() -> None:
    assert measure_in_turns([lambda: 1.0, lambda: 2.0, lambda: 3.0], seconds=0) == [[1, 2, 3]] * MIN_ROUNDS


def test_the_garbage_collector_is_off_meanwhile_and_on_again_after_an_error() -> None:
    seen: list[bool] = []

    def take() -> float:
        seen.append(gc.isenabled())
        return 0.0

    measure_in_turns([take], seconds=0)
    assert not any(seen)
    assert seen

    def fail() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_in_turns([fail], seconds=0)
    assert gc.isenabled()
