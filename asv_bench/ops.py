"""The value and the pullback of every op, on every backend, at three sizes. Nothing here is listed by hand."""

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from asv_bench.calls import arrays, cotangent, typical
from asv_bench.memory import settle
from asv_bench.subjects import BACKENDS, SIZES, backend_named, offered, op_named, per_op, preload
from asv_bench.timed import Timed
from asv_bench.verified import verify
from gradspec.backends import call

preload()


class _Op(Timed):
    """float32, on one thread; an op that disagrees with the spec is not timed."""

    op: str
    params = (BACKENDS, SIZES)
    param_names = ("backend", "size")

    def setup(self, backend: str, size: str) -> None:
        settle(size)
        self.backend, self.spec = backend_named(backend), op_named(self.op)
        fn = offered(self.backend, self.spec)
        verify(self.backend, self.spec, "cache" if size == "memory" else size)
        chosen = typical(self.spec, size)
        inputs = [self.backend.from_numpy(x) for x in arrays(self.spec, chosen, "float32", seed=0)]
        free = self.spec.differentiable_arguments(len(inputs))

        def function(*xs: Any) -> Any:
            """The op of those arrays that have a gradient, the others being as they are."""
            given = dict(zip(free, xs, strict=True))
            return call(self.spec, fn, [given.get(i, x) for i, x in enumerate(inputs)], chosen.keywords)

        self.function, self.inputs = function, [inputs[i] for i in free]

    def time_forward(self, backend: str, size: str) -> None:
        """The value, with nothing recorded."""
        self.measure(lambda: self.function(*self.inputs), self.backend, size)

    def time_backward(self, backend: str, size: str) -> None:
        """All gradients, from a cotangent, by the pullback that the backend's vjp returns."""
        if not self.spec.differentiable:
            raise SkipNotImplemented(f"{self.op} is not differentiable")
        value, pullback = self.backend.vjp(self.function, *self.inputs)
        g = self.backend.from_numpy(cotangent(self.backend.to_numpy(value)))
        self.measure(lambda: pullback(g), self.backend, size)


globals().update(per_op(__name__, _Op))
