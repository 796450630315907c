"""Times of well-known programs, on every backend.

They are chains, a perceptron, broadcasting, layer_norm and a transformer block.
"""

from types import SimpleNamespace
from typing import Any

from asv_bench.measuring.memory_placement import fix_memory_placement
from asv_bench.measuring.timed_benchmark import TimedBenchmark
from asv_bench.workloads.ops_and_backends import BACKENDS, get_backend, preload
from asv_bench.workloads.programs import (
    make_workloads_with_hand_gradients,
    make_workloads_without_hand_gradients,
)

preload()

WORKLOAD_BY_KEY = {
    work.key: work
    for work in [*make_workloads_with_hand_gradients(), *make_workloads_without_hand_gradients()]
}


class _Program(TimedBenchmark):
    """Forward and backward, to the gradient of every parameter, through the backend's vjp."""

    work: str
    params = BACKENDS
    param_names = ("backend",)

    def setup(self, backend: str) -> None:
        self.backend, work = get_backend(backend), WORKLOAD_BY_KEY[self.work]
        fix_memory_placement(work.size)
        ops = SimpleNamespace(**self.backend.ops)
        inputs = [self.backend.from_numpy(x) for x in work.inputs]
        cotangent = self.backend.from_numpy(work.cotangent)
        parameters, data = inputs[: work.differentiable_count], inputs[work.differentiable_count :]

        def step() -> Any:
            _, pullback = self.backend.vjp(lambda *xs: work.program(ops, *xs, *data), *parameters)
            return pullback(cotangent)

        self.step, self.size = step, work.size

    def time_step(self, backend: str) -> None:
        """Time the value and all gradients."""
        self.measure(self.step, self.backend, self.size)


globals().update(
    {
        key: type(key, (_Program,), {"work": key, "__module__": __name__, "__doc__": f"{work.name}."})
        for key, work in WORKLOAD_BY_KEY.items()
    }
)
