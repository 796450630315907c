"""The spec's tape side by side with hand-written NumPy, HIPS autograd and torch.

They run the same programs in one process, two engines in turns, and the results are ratios of their times, as
`tools/ratios.py` prints them: a machine that is slow for a while is slow for both.
"""

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.undisturbed_time import measure_ratio_samples
from asv_bench.workloads.engines import prepare_engines
from asv_bench.workloads.ops_and_backends import preload
from asv_bench.workloads.programs import make_workloads_with_hand_gradients

preload()

WORKLOAD_BY_KEY = {work.key: work for work in make_workloads_with_hand_gradients()}

ENGINES_BY_RATIO = {
    "tape / by hand": ("gradspec", "by hand"),
    "HIPS autograd / by hand": ("HIPS autograd", "by hand"),
    "torch / by hand": ("torch eager", "by hand"),
    "HIPS autograd / tape": ("HIPS autograd", "gradspec"),
    "torch / tape": ("torch eager", "gradspec"),
}


class _Ratio:
    """Forward and backward; every engine is first checked to have the gradients of the tape."""

    work: str
    version = "1"
    timeout = 300
    params = tuple(ENGINES_BY_RATIO)
    param_names = ("ratio",)

    def track_ratio(self, ratio: str) -> dict[str, Any]:
        """Return samples of the first engine's time over the second's, in a dictionary such as asv reads."""
        first, second = ENGINES_BY_RATIO[ratio]
        runs = prepare_engines(WORKLOAD_BY_KEY[self.work], (first, second))
        if first not in runs:
            raise SkipNotImplemented(f"{first} is not installed")
        samples = measure_ratio_samples(runs[first], runs[second])
        return {"samples": [round(sample, 3) for sample in samples], "number": 1}

    track_ratio.unit = "times"  # type: ignore[attr-defined]


globals().update(
    {
        key: type(key, (_Ratio,), {"work": key, "__module__": __name__, "__doc__": f"{work.name}."})
        for key, work in WORKLOAD_BY_KEY.items()
    }
)
