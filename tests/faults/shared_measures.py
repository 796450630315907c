"""What is exact, and how far rounding leads, depends on the case alone: found out once for all that are tried on it."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.judging.judge import ComputationJudge

_cache: dict[Any, dict[str, Any]] = {}


def share_measures() -> None:
    """From now on, and until `forget`, measures of this process that compute the same know what one of them found out."""

    def init(
        self: ComputationJudge[Any], dtype: str, compute: Callable[..., Any], rounds: bool = True
    ) -> None:
        alone(self, dtype, compute, rounds)
        self.__dict__ = _cache.setdefault((type(self), make_cache_key(compute)), self.__dict__)

    alone = ComputationJudge.__init__
    ComputationJudge.__init__ = init  # type: ignore[method-assign]


def clear_cache() -> None:
    """Make room, before faults of another op are tried."""
    _cache.clear()


def make_cache_key(x: Any) -> Any:
    """What a computation depends on: the code of a function and all that it closes over, arrays by what they hold."""
    if isinstance(x, FunctionType):
        return x.__code__, *(make_cache_key(cell.cell_contents) for cell in x.__closure__ or ())
    if isinstance(x, np.ndarray):
        return x.shape, x.dtype, x.tobytes()
    if isinstance(x, Case):
        return x.op, x.dtype, make_cache_key(x.keywords), make_cache_key([*x.inputs, x.cotangent])
    if isinstance(x, dict):
        return tuple((k, make_cache_key(v)) for k, v in x.items())
    if isinstance(x, list | tuple):
        return tuple(map(make_cache_key, x))
    if isinstance(x, slice):  # which not every Python can hash
        return x.start, x.stop, x.step
    return x
