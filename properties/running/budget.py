"""The time budget of a run, divided among its properties.

Every property gets a share of the time that is left, in proportion to a weight that falls with the number of
informative cases it has seen, in this run and in earlier ones (pytest's cache remembers them): the newest and
the least tested properties get most, and come first. Once the time is over, no other property is begun.
"""

import time
from collections.abc import Iterable, Mapping

CASES_THAT_HALVE_WEIGHT = 1000  # after so many informative cases a property has half its weight


class Budget:
    """Divides a given time, which begins with the first property, among the items of a run.

    Args:
        seconds: The time to divide.
        items: The node ids of the items.
        informative_cases: The informative cases of earlier runs, by node id.
        workers: How many processes share the items.
    """

    def __init__(
        self, seconds: float, items: Iterable[str], informative_cases: Mapping[str, int], workers: int = 1
    ) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self.weights = {
            item: 1 / (1 + informative_cases.get(item, 0) / CASES_THAT_HALVE_WEIGHT) for item in items
        }
        self.weight_left = sum(self.weights.values()) / workers

    @property
    def seconds_left(self) -> float:
        return self._seconds if self._end is None else max(0.0, self._end - time.monotonic())

    def allot_seconds(self, item: str) -> float:
        """Return the seconds for this item, which is the next to run."""
        if self._end is None:
            self._end = time.monotonic() + self._seconds
        weight = self.weights[item]
        seconds = self.seconds_left * weight / max(self.weight_left, weight)
        self.weight_left -= weight
        return seconds
