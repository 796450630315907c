"""Which ops add up elements, forward and backward: observed while the spec's rule and pullbacks run.

Does not see: sums that a rule writes as a loop of its own over slices, or has another library compute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.sample_cases import make_sample_cases, observe_once
from gradspec.reference.op import Op

_ADDING_METHODS = {"reduce", "accumulate", "reduceat", "at"}

_ADDING_FUNCTIONS = {
    *(np.dot, np.inner, np.vdot, np.tensordot, np.convolve, np.correlate, np.trace),
    *(np.cumsum, np.bincount, np.interp, np.cov, np.corrcoef),
}
"""Functions of NumPy, beside its ufuncs, that add up: those that compute in C and call no ufunc."""


@dataclass(frozen=True)
class Sums:
    """Where an op adds up elements.

    Attributes:
        forward: Whether its value is made of sums.
        backward: Whether a gradient is: because its pullback adds up, as that of an index that recurs does,
            or because an argument was broadcast, over which the engine adds up.
    """

    forward: bool
    backward: bool


@observe_once
def observe_sums(op: Op) -> Sums:
    """Return where the op adds up elements of floating point."""
    forward = backward = False
    for case in make_sample_cases(op):
        now = _observe_sums_of_case(case)
        forward, backward = forward or now.forward, backward or now.backward
        if forward and (backward or not op.differentiable):
            break
    return Sums(forward, backward)


def adds_up_forward(op: Op) -> bool:
    """Return whether the value of the op is made of sums."""
    return observe_sums(op).forward


def adds_up_backward(op: Op) -> bool:
    """Return whether a gradient of the op is made of sums."""
    return observe_sums(op).backward


def _observe_sums_of_case(case: Case) -> Sums:
    """Return where the spec adds up on one case."""
    inputs = [x if x.dtype.kind in "biu" else x.view(SumNotingArray) for x in case.inputs]
    with np.errstate(all="ignore"):
        with _note_sums() as forward:
            _, pullbacks = case.op.rule(*inputs, **case.keywords)
        with _note_sums() as backward:
            g = case.cotangent.view(SumNotingArray)
            gradients: Any = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks or ()]
    is_broadcast = any(
        d is not None and np.size(d) > np.size(x) for d, x in zip(gradients, inputs, strict=False)
    )
    return Sums(bool(forward), bool(backward) or is_broadcast)


_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


@contextmanager
def _note_sums() -> Iterator[list[str]]:
    """Let every `SumNotingArray` note its sums in the list that this context gives."""
    notes: list[str] = []
    token = _noted.set(notes)
    try:
        yield notes
    finally:
        _noted.reset(token)


def is_noting_sums() -> bool:
    """Return whether somebody wants to know where elements are added up."""
    return _noted.get() is not None


def note_sum(name: str) -> None:
    """Note that elements were added up by this function, if anybody wants to know."""
    notes = _noted.get()
    if notes is not None:
        notes.append(name)


class SumNotingArray(np.ndarray[Any, Any]):
    """An array that notes when elements of floating point are added up."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        plain = [_view_as_plain(x) for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(map(_view_as_plain, out))
        result = getattr(ufunc, method)(*plain, **kwargs)
        if _adds_up(ufunc, method, plain, result):
            note_sum(ufunc.__name__)
        # A Python function made into a ufunc returns objects.
        if getattr(result, "dtype", None) == np.object_:
            result = result.astype(plain[0].dtype)
        return out[0] if out else _view_as_noting(result)

    def cumsum(self, *args: Any, **kwargs: Any) -> Any:  # methods in C pass both protocols by
        return np.cumsum(self, *args, **kwargs)

    def dot(self, *args: Any, **kwargs: Any) -> Any:
        return np.dot(self, *args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        return np.trace(self, *args, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _ADDING_FUNCTIONS or (function is np.einsum and _contracts(args[0])):
            note_sum(function.__name__)
            return _view_as_noting(function(*_view_all_as_plain(args), **kwargs))
        return _view_as_noting(super().__array_function__(function, types, args, kwargs))


def _adds_up(ufunc: np.ufunc, method: str, inputs: list[Any], result: Any) -> bool:
    """Return whether the call of a ufunc added up several numbers of floating point."""
    if not any(getattr(x, "dtype", np.dtype(bool)).kind in "fc" for x in inputs):
        return False
    if ufunc.signature is not None:  # a product of matrices or vectors
        return method == "__call__"
    if ufunc is not np.add or method not in _ADDING_METHODS:
        return False
    return method != "reduce" or np.size(inputs[0]) > np.size(result)


def _contracts(subscripts: Any) -> bool:
    """Return whether `np.einsum` with these subscripts adds up, rather than multiplies and moves alone."""
    if not isinstance(subscripts, str):
        return True
    terms, arrow, kept = subscripts.replace(" ", "").partition("->")
    letters = [letter for letter in terms if letter.isalpha()]
    return bool(set(letters) - set(kept)) if arrow else len(letters) > len(set(letters))


def _view_as_noting(x: Any) -> Any:
    return np.asarray(x).view(SumNotingArray) if isinstance(x, np.ndarray | np.generic) else x


def _view_all_as_plain(args: Any) -> list[Any]:
    return [list(map(_view_as_plain, x)) if isinstance(x, list | tuple) else _view_as_plain(x) for x in args]


def _view_as_plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, SumNotingArray) else x
