"""A given time, spent where it tells most.

Every property gets a share of the time that is left, in proportion to a weight that falls with the informative cases it
has seen, in this run and in earlier ones (pytest's cache remembers them): the newest and the least tested get most.
"""

import time
from collections.abc import Iterable, Mapping

MANY = 1000  # informative cases that halve the weight


class Budget:
    """Divides the time. seen: informative cases so far, by node id. workers: how many share the items."""

    def __init__(
        self, seconds: float, items: Iterable[str], seen: Mapping[str, int], workers: int = 1
    ) -> None:
        self.end = time.monotonic() + seconds
        self.weights = {item: 1 / (1 + seen.get(item, 0) / MANY) for item in items}
        self.left = sum(self.weights.values()) / workers

    def share(self, item: str) -> float:
        """Seconds for this item, which is the next."""
        weight = self.weights[item]
        seconds = max(0.0, self.end - time.monotonic()) * weight / max(self.left, weight)
        self.left -= weight
        return seconds
