"""Measures that judges share.

What is exact, and how far rounding leads, depends on the case alone: it is computed once for everything tried
on it.
"""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.formula_samples import Formulas
from gradspec.properties.judging.judge import ComputationJudge

_cache: dict[Any, Formulas[Any]] = {}


def share_measures() -> None:
    """Let all judges of this process that compute the same share their results, until `clear_cache`."""

    def init(
        self: ComputationJudge[Any], dtype: str, compute: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        init_alone(self, dtype, compute, *args, **kwargs)
        self.formulas = _cache.setdefault((type(self), make_cache_key(compute)), self.formulas)

    init_alone = ComputationJudge.__init__
    ComputationJudge.__init__ = init  # type: ignore[method-assign]


def clear_cache() -> None:
    """Forget all results, before faults of another op are tried."""
    _cache.clear()


def make_cache_key(x: Any) -> Any:
    """Return what a computation depends on: a function's code and all it closes over, arrays by content."""
    if isinstance(x, FunctionType):
        return x.__code__, *(make_cache_key(cell.cell_contents) for cell in x.__closure__ or ())
    if isinstance(x, partial):
        return make_cache_key(x.func), make_cache_key(x.args)
    if isinstance(x, ReprCase):
        return type(x), repr(x)
    if isinstance(x, Backend):
        return tuple(x.ops.items())
    if isinstance(x, np.ndarray):
        return x.shape, x.dtype, x.tobytes()
    if isinstance(x, Case):
        return x.op, x.dtype, make_cache_key(x.keywords), make_cache_key([*x.inputs, x.cotangent])
    if isinstance(x, dict):
        return tuple((k, make_cache_key(v)) for k, v in x.items())
    if isinstance(x, list | tuple):
        return tuple(map(make_cache_key, x))
    if isinstance(x, slice):  # not hashable before Python 3.12
        return x.start, x.stop, x.step
    return x
