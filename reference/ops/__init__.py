"""The ops of the spec, by family. Importing this package declares them all; `ops.log` is the op `log`."""

from gradspec.reference.op import OPS, Op
from gradspec.reference.ops import activations, elementwise, linalg, nn, places, reductions, shapes

__all__ = ["activations", "elementwise", "linalg", "nn", "places", "reductions", "shapes"]


def __getattr__(name: str) -> Op:
    if name not in OPS:
        raise AttributeError(f"the spec has no op {name!r}; it has {', '.join(sorted(OPS))}")
    return OPS[name]
