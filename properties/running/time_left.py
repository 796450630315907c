"""The time that a property has: for drawing fresh examples, and in all, its smallest case included."""

import math
import time
from collections.abc import Callable
from typing import Any

from gradspec.backends import Backend
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.running.targets import BackendUnderTest

SHRINK_SECONDS = 10.0
"""For the smallest case of a failure, where a property has a time at all, and has less of it left."""

MAX_SHRINK_SECONDS = 30.0
"""For the smallest case, where a property has no limit: Hypothesis would try cases for five minutes."""

SHARE_FOR_SIMPLER_VALUES = 0.2
"""Of the time for the smallest case: what is kept for simpler values once Hypothesis has been stopped."""


class OutOfTimeError(BaseException):
    """The time of a property is over; Hypothesis lets it pass, as it does what is no `Exception`."""


class TimeLeft:
    """Ends the search of a property, between one case and the next, when its time is over.

    Args:
        seconds: For how long it repeats with fresh examples; None where their number is what ends it.
        max_seconds: How long it may take in all.
    """

    def __init__(self, seconds: float | None, max_seconds: float) -> None:
        self._begin = time.monotonic()
        self._seconds = seconds
        self._last_end = self._begin + max_seconds
        self._shrink_end: float | None = None
        self.end = self._begin

    def begin_part(self, k: int, count: int) -> None:
        """Begin the k-th of several parts that share the time alike."""
        self.end = self._begin + (k + 1) / count * (self._seconds or 0)

    def begin_run(self) -> None:
        """Begin a run of the search, with a smallest case of its own."""
        self._shrink_end = None

    @property
    def has_any(self) -> bool:
        """Whether some is left."""
        return time.monotonic() < self._last_end

    def bound(self, target: BackendUnderTest) -> Callable[[Law, Backend, Any], Judgement]:
        """Return what judges a case for this target if there is time, and else raises `OutOfTimeError`.

        The first case is always judged.
        """
        judge = target.judge_case

        def judge_in_time(law: Law, backend: Backend, case: Any) -> Judgement:
            if target.tally.judged and time.monotonic() > self._find_end(target.failure is not None):
                raise OutOfTimeError
            return judge(law, backend, case)

        return judge_in_time

    def _find_end(self, has_failed: bool) -> float:
        if not has_failed:
            return self._last_end if self._seconds is None else min(self.end, self._last_end)
        if self._shrink_end is None:
            now = time.monotonic()
            seconds = self._last_end - now if math.isfinite(self._last_end) else MAX_SHRINK_SECONDS
            if self._seconds is not None:
                seconds = min(seconds, max(SHRINK_SECONDS, self.end - now))
            self._shrink_end = now + (1 - SHARE_FOR_SIMPLER_VALUES) * seconds
        return self._shrink_end

    def allow_simplifying(self) -> None:
        """Leave what is left to the search for simpler values, which has a limit of its own."""
        self._shrink_end = self._last_end
