"""Times of the value and the pullback of every op, on every backend, at three sizes.

Nothing here is listed by hand.
"""

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.measuring.memory_placement import fix_memory_placement
from asv_bench.measuring.result_check import require_right_result
from asv_bench.measuring.timed_benchmark import TimedBenchmark
from asv_bench.workloads.calls import SIZES, make_arrays, make_cotangent, make_typical_call
from asv_bench.workloads.ops_and_backends import (
    BACKENDS,
    get_backend,
    get_implementation,
    get_op,
    make_benchmark_classes,
    preload,
)
from gradspec.backends import call

preload()


class _OpBenchmark(TimedBenchmark):
    """An op in float32, on one thread; not timed where it disagrees with the spec."""

    op: str
    params = (BACKENDS, SIZES)
    param_names = ("backend", "size")

    def setup(self, backend: str, size: str) -> None:
        fix_memory_placement(size)
        self.backend, self.spec = get_backend(backend), get_op(self.op)
        fn = get_implementation(self.backend, self.spec)
        require_right_result(self.backend, self.spec, "cache" if size == "memory" else size)
        typical = make_typical_call(self.spec, size)
        inputs = [self.backend.from_numpy(x) for x in make_arrays(self.spec, typical, "float32", seed=0)]
        differentiable = self.spec.differentiable_arguments(len(inputs))

        def function(*xs: Any) -> Any:
            """Call the op on `xs` in place of the arrays that have a gradient."""
            replaced = dict(zip(differentiable, xs, strict=True))
            arrays = [replaced.get(i, x) for i, x in enumerate(inputs)]
            return call(self.spec, fn, arrays, typical.keywords)

        self.function, self.inputs = function, [inputs[i] for i in differentiable]

    def time_forward(self, backend: str, size: str) -> None:
        """Time the value, with nothing recorded."""
        self.measure(lambda: self.function(*self.inputs), self.backend, size)

    def time_backward(self, backend: str, size: str) -> None:
        """Time all gradients: the pullback that the backend's vjp returns, of one cotangent."""
        if not self.spec.differentiable:
            raise SkipNotImplemented(f"{self.op} is not differentiable")
        value, pullback = self.backend.vjp(self.function, *self.inputs)
        g = self.backend.from_numpy(make_cotangent(self.backend.to_numpy(value)))
        self.measure(lambda: pullback(g), self.backend, size)


globals().update(make_benchmark_classes(__name__, _OpBenchmark))
