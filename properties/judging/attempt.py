"""Judging a case by a law: whatever a backend does, short of ending the process, comes back as a judgement.

Needs neither pytest nor Hypothesis: the scripts that reproduce failures call `judge_case` themselves.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.declining import judge_declined
from gradspec.properties.judging.error_descriptions import (
    describe_exception,
    describe_object,
    get_message_line,
)
from gradspec.properties.judging.judgement import Judgement, get_declared_severity
from gradspec.properties.judging.shared_state import notice_changes
from gradspec.properties.judging.subnormals import allow_flushing, flushes_subnormals

Law = Callable[[Backend, Any], Judgement]
"""The question that a property asks of one case. Exceptions of the backend are failures."""


def judge_case(law: Law, backend: Backend, case: Any) -> Judgement:
    """Judge a case by a law; an exception, or a result that is not an array, is a disagreement.

    So is a change of what the whole process shares (`shared_state`), which is unsafe.

    `NotImplementedError` alone is none: the backend declines the call. Where it flushes subnormal numbers,
    what that explains is allowed.

    A warning is not, whoever gives it and whatever filters are set. Where filters turn warnings into errors,
    a warning that gradspec itself gives, on a Python newer than it, would otherwise count against the
    backend.

    Nor is a result, or an exception, wrong where the op is not defined for these arguments together: nothing
    can be said of it then.
    """
    changes: list[str] = []
    try:
        with notice_changes(changes):
            judgement = _judge_quietly(law, backend, case)
    except KeyboardInterrupt:  # for all that can be told here, Ctrl-C
        raise
    except NotImplementedError as error:
        judgement = judge_declined(backend, case, error)
    except WrongKindError as error:
        judgement = Judgement("disagree", get_message_line(error))
    except BaseException as error:
        judgement = Judgement("disagree", describe_exception(error), raised=True)
    if judgement.verdict in ("disagree", "lossy") and _is_left_open(law, case, judgement):
        judgement = Judgement("undecidable", f"{case.op.name} is not defined there", informative=False)
    return Judgement("disagree", "; ".join(changes), severity="unsafe") if changes else judgement


def _is_left_open(law: Law, case: Any, judgement: Judgement) -> bool:
    """Return whether a judgement is about results of a case for which the op is not defined."""
    is_about_results = judgement.raised or get_declared_severity(law) in ("wrong", "edge")
    return isinstance(case, Case) and is_about_results and not case.is_settled


def _judge_quietly(law: Law, backend: Backend, case: Any) -> Judgement:
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"), backend.poisoned():
        dtype = getattr(case, "dtype", "")  # a law of somebody else's may have cases of any kind
        may_flush = bool(dtype) and flushes_subnormals(backend, dtype)
        with allow_flushing(may_flush):
            judgement = law(wrap_in_checks(backend), case)
        return replace(judgement, flushing=dtype) if may_flush else judgement


class WrongKindError(TypeError):
    """A result of the backend is of a wrong kind: `wrap_in_checks` raises this, not the backend."""


class WrongClassError(WrongKindError):
    """A result of the backend is of another class than the arrays that its `from_numpy` gives.

    Args:
        what: The result, in words.
        backend: The backend.
        found: The class of the result.
        expected: The classes of the arrays.
    """

    def __init__(self, what: str, backend: Backend, found: type, expected: Iterable[type]) -> None:
        self.found, self.found_name = found, _name_class(found)
        self.expected = " or ".join(sorted(map(_name_class, expected)))
        super().__init__(f"{what} is not {_name_array(backend)}")


def _name_array(backend: Backend) -> str:
    return f"{'an' if backend.name[:1].lower() in 'aeiou' else 'a'} {backend.name} array"


def _name_class(cls: type) -> str:
    """Return the name of a class with the package that it is of: numpy.ndarray, mygrad.Tensor, list."""
    package = str(cls.__module__).split(".")[0]
    return cls.__qualname__ if package == "builtins" else f"{package}.{cls.__qualname__}"


_checked_backends: dict[int, tuple[Backend, Backend]] = {}
"""Backends and their checked forms, by `id`: tables of functions can only be told apart by identity."""


def wrap_in_checks(backend: Backend) -> Backend:
    """Return the backend with checks: an error for a result or gradient that is not an array of its own.

    What its arrays are, its `from_numpy` shows: they are of the same classes as those, or of classes derived
    from these or the reverse, as torch's Parameter is a Tensor. Where `from_numpy` gives NumPy's arrays, a
    value without axes may be a NumPy number, as the value of `np.sum` is. A gradient may not, whatever the
    library: it stands in for an array that it is added to or written over. In a `vjp` within another one,
    whose arrays are those of a tape, classes are not looked at.
    """
    if id(backend) not in _checked_backends:
        _checked_backends[id(backend)] = backend, _wrap_without_cache(backend)
    return _checked_backends[id(backend)][1]


def _wrap_without_cache(backend: Backend) -> Backend:
    input_devices: set[str] = set()
    array_classes: set[type] = set()
    running_vjps: list[Any] = []

    def from_numpy(x: Any) -> Any:
        array = backend.from_numpy(np.asarray(x))  # never a NumPy number, which its gradients may not be
        input_devices.update(_get_device(array))
        array_classes.add(type(array))
        return array

    def is_array(x: Any) -> bool:
        own = type(x)
        return own is not object and any(issubclass(own, c) or issubclass(c, own) for c in array_classes)

    def to_numpy(x: Any) -> Any:
        is_numpy_number = isinstance(x, np.generic) and np.ndarray in array_classes
        if array_classes and not is_numpy_number and not is_array(x):
            raise WrongClassError(describe_object(x), backend, type(x), array_classes)
        if other_devices := _get_device(x) - input_devices if input_devices else set():
            expected = " and ".join(sorted(input_devices))
            raise WrongKindError(f"a result is on {other_devices.pop()}, but the inputs were on {expected}")
        try:
            array = backend.to_numpy(x)
        except NotImplementedError:  # of a lazy library, which computes now
            raise
        except Exception as error:
            if is_array(x):  # a lazy library computes now, and raises what it would have raised before
                raise
            raise WrongKindError(
                f"{describe_object(x)} is not {_name_array(backend)}: {get_message_line(error)}"
            ) from error
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OSUMm" or array.dtype.names:
            raise WrongKindError(f"{describe_object(x)} is not {_name_array(backend)}")
        return array

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        running_vjps.append(fn)
        try:
            value, pullback = backend.vjp(fn, *inputs)
        finally:
            running_vjps.pop()

        def checked_pullback(g: Any) -> Any:
            gradients = pullback(g)
            if not isinstance(gradients, Sequence) or len(gradients) != len(inputs):
                raise WrongKindError(
                    f"the pullback returned {describe_object(gradients)}, not {len(inputs)} gradients"
                )
            if not running_vjps and {type(x) for x in (g, *inputs)} <= array_classes:
                for d in gradients:
                    if not is_array(d):
                        what = f"the gradient {describe_object(d)}"
                        raise WrongClassError(what, backend, type(d), array_classes)
            return gradients

        return value, checked_pullback

    return replace(backend, from_numpy=from_numpy, to_numpy=to_numpy, vjp=vjp)


def _get_device(x: Any) -> set[str]:
    """Return the device an array says it is on, in a set; an empty set if it does not say."""
    device = getattr(x, "device", None)
    return {str(device)} if device is not None and not callable(device) else set()
