"""The backends "cupy" and, without its fused kernels, "cupy:composed"."""

from functools import cache, partial

import cupy

from gradspec.backends.backend import Backend, Unavailable
from gradspec.backends.cupy.arrays import from_numpy, poison_memory, to_numpy
from gradspec.backends.cupy.deferred_errors import synchronize
from gradspec.backends.cupy.fused import EAGER_GRADIENT_RULES, FUSED_RULES
from gradspec.backends.cupy.probe import find_obstacle
from gradspec.backends.cupy.rules import COMPOSED_RULES, DTYPES_16_BIT
from gradspec.backends.cupy.tensor import CuPyVariable, make_variable_class
from gradspec.reference import tape

Tensor = make_variable_class(FUSED_RULES, EAGER_GRADIENT_RULES)
"""A CuPy array on the tape that computes by the fused rules."""


def gpu() -> Backend:
    """Return the backend "cupy" on the current device.

    Raises:
        Unavailable: CuPy cannot run; the message says what is missing.
    """
    return _make_backend("cupy", Tensor)


def composed() -> Backend:
    """Return the backend "cupy:composed", whose rules are made of CuPy's array functions alone.

    Raises:
        Unavailable: CuPy cannot run; the message says what is missing.
    """
    return _make_backend("cupy:composed", make_variable_class(COMPOSED_RULES))


def _make_backend(name: str, variable_class: type[CuPyVariable]) -> Backend:
    if reason := _find_obstacle_once():
        raise Unavailable(f"{name}: {reason}")
    return Backend(
        name=name,
        ops=variable_class.ops,
        vjp=partial(tape.vjp, variable_class=variable_class),
        from_numpy=from_numpy,
        to_numpy=to_numpy,
        synchronize=synchronize,
        poisoned=poison_memory,
        dtypes=_find_dtypes(),
        declines={},  # it offers every call of the ops that it has, in every dtype
        device="cuda",
        nests=True,
    )


_find_obstacle_once = cache(find_obstacle)


def _find_dtypes() -> set[str]:
    """Return float64, float32 and the 16-bit floats that CuPy has; before 14 it has no bfloat16."""
    names = {"float64", "float32"}
    for dtype in DTYPES_16_BIT:
        try:
            cupy.empty(0, dtype)
        except (TypeError, ValueError):
            continue
        names.add(dtype.name)
    return names
