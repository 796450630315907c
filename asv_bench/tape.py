"""The spec's tape side by side with hand-written NumPy, HIPS autograd and torch, on the same work in one process.

As ratios of times that take turns: a machine that is slow for a while is slow for both.
"""

import time
from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench import clock
from asv_bench.ratios import prepared
from asv_bench.subjects import preload
from asv_bench.workloads import workloads

preload()

WORK = {work.key: work for work in workloads()}

RATIOS = {
    "tape / by hand": ("gradspec", "by hand"),
    "HIPS autograd / by hand": ("HIPS autograd", "by hand"),
    "torch / by hand": ("torch eager", "by hand"),
    "HIPS autograd / tape": ("HIPS autograd", "gradspec"),
    "torch / tape": ("torch eager", "gradspec"),
}
SAMPLES = 5  # medians of pairs, whose spread tells asv a change from noise


class _Ratio:
    """Forward and backward; every engine was first found to have the gradients of the tape."""

    work: str
    version = "1"
    timeout = 300
    params = tuple(RATIOS)
    param_names = ("ratio",)

    def track_ratio(self, ratio: str) -> dict[str, Any]:
        """How many times as long as the second the first takes; asv reads several samples from a dictionary."""
        runs = prepared(WORK[self.work])
        first, second = RATIOS[ratio]
        if first not in runs:
            raise SkipNotImplemented(f"{first} is not installed")
        samples = [
            round(clock.ratio(runs[first], runs[second], time.process_time), 3) for _ in range(SAMPLES)
        ]
        return {"samples": samples, "number": 1}

    track_ratio.unit = "times"  # type: ignore[attr-defined]


globals().update(
    {
        key: type(key, (_Ratio,), {"work": key, "__module__": __name__, "__doc__": f"{work.name}."})
        for key, work in WORK.items()
    }
)
