"""The backends "cupy" and, without its fused kernels, "cupy:composed"."""

from functools import cache, partial

import cupy

from gradspec.backends.backend import Backend, Unavailable
from gradspec.backends.cupy.arrays import from_numpy, poisoned, synchronize, to_numpy
from gradspec.backends.cupy.fused import AHEAD, RULES
from gradspec.backends.cupy.probe import obstacle
from gradspec.backends.cupy.rules import COMPOSED, NARROW
from gradspec.backends.cupy.tensor import CuPyVariable, kind_of
from gradspec.reference import tape

Tensor = kind_of(RULES, AHEAD)
"""A CuPy array on the tape, which computes by the fused rules."""


def gpu() -> Backend:
    """CuPy on the current device. Raises Unavailable, with what is missing, where CuPy cannot run."""
    return _backend("cupy", Tensor)


def composed() -> Backend:
    """CuPy by rules made of its array functions alone. Raises Unavailable where CuPy cannot run."""
    return _backend("cupy:composed", kind_of(COMPOSED))


def _backend(name: str, kind: type[CuPyVariable]) -> Backend:
    if reason := _obstacle():
        raise Unavailable(f"{name}: {reason}")
    return Backend(
        name=name,
        ops=kind.ops,
        vjp=partial(tape.vjp, kind=kind),
        from_numpy=from_numpy,
        to_numpy=to_numpy,
        synchronize=synchronize,
        poisoned=poisoned,
        dtypes=_dtypes(),
        device="cuda",
        nests=True,
    )


_obstacle = cache(obstacle)


def _dtypes() -> set[str]:
    """What there is of float64, float32 and the 16-bit floats; CuPy before 14 has no bfloat16."""
    found = {"float64", "float32"}
    for dtype in NARROW:
        try:
            cupy.empty(0, dtype)
        except (TypeError, ValueError):
            continue
        found.add(dtype.name)
    return found
