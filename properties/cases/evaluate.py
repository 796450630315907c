"""The value and the gradients of a case, as the spec or a backend computes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.backends import Backend, call
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.layouts import lay_out
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.rule import Array


@dataclass(frozen=True)
class Result:
    """The value of a case and, by name, the gradient of each argument that has one."""

    value: Array
    gradients: dict[str, Array]


def run_spec(case: Case) -> Result:
    """Return the value and gradients that the spec gives, at the precision of the case's own arrays."""
    value, pullbacks = case.op.rule(*case.inputs, **case.keywords)
    if pullbacks is None:
        return Result(np.asarray(value), {})
    g = case.cotangent
    by_input: Sequence[Array] = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks]
    gradients = {}
    for i in case.differentiable_inputs:
        x, d = case.inputs[i], by_input[i]
        gradients[case.op.argument_name(i)] = np.asarray(
            d if d.shape == x.shape else unbroadcast(d, x.shape)
        ).astype(x.dtype)
    return Result(np.asarray(value), gradients)


def forward(backend: Backend, case: Case) -> Array:
    """Return the value that a backend computes, without its vjp."""
    arrays, _ = case.to_backend_arrays(backend)
    return backend.to_numpy(call(case.op, backend.ops[case.op.address], arrays, case.keywords))


def run_on_backend(backend: Backend, case: Case) -> Result:
    """Return the value and gradients of a backend's vjp, or the value alone of an op that has no gradient."""
    return differentiate(backend, case) if case.differentiable_inputs else Result(forward(backend, case), {})


def differentiate(backend: Backend, case: Case) -> Result:
    """Return the value and gradients that a backend's vjp gives."""
    value, pull = value_and_pullback(backend, case)
    return Result(value, pull(case.cotangent))


def value_and_pullback(
    backend: Backend, case: Case, wrt: Sequence[int] | None = None
) -> tuple[Array, Callable[[Array], dict[str, Array]]]:
    """Return the value of a backend's vjp, and its pullback from a cotangent to the gradients by argument.

    Args:
        backend: The backend.
        case: The case; its cotangent plays no part.
        wrt: The numbers of the inputs to differentiate by; all that have a gradient if None.

    Raises:
        TypeError: From the pullback, when the backend's own returns another number of gradients.
    """
    arrays, _ = case.to_backend_arrays(backend)
    wrt = case.differentiable_inputs if wrt is None else wrt
    value, pullback = call_backend_vjp(backend, case, arrays, wrt)
    layout = case.layouts[-1] if case.layouts else "C"

    def pull(g: Array) -> dict[str, Array]:
        gradients = pullback(backend.from_numpy(lay_out(g, layout)))
        if len(gradients) != len(wrt):
            raise TypeError(
                f"the pullback of {backend.name} returned {len(gradients)} gradients for {len(wrt)} inputs"
            )
        names = [case.op.argument_name(i) for i in wrt]
        return {n: backend.to_numpy(d) for n, d in zip(names, gradients, strict=True)}

    return backend.to_numpy(value), pull


def call_backend_vjp(
    backend: Backend, case: Case, arrays: Sequence[Any], wrt: Sequence[int] | None = None
) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    """Return the value and the pullback that a backend's vjp gives for arrays of its own.

    Args:
        backend: The backend.
        case: The case whose op and keywords are used.
        arrays: The backend's arrays, in place of the case's inputs.
        wrt: The numbers of the arrays to differentiate by; all that have a gradient if None.
    """
    wrt = case.differentiable_inputs if wrt is None else wrt
    value, pullback = backend.vjp(bind_constants(backend, case, arrays, wrt), *(arrays[i] for i in wrt))
    return value, pullback


def bind_constants(
    backend: Backend, case: Case, arrays: Sequence[Any], wrt: Sequence[int]
) -> Callable[..., Any]:
    """Return the backend's op as a function of the arrays that `wrt` numbers, with the others bound."""
    fn = backend.ops[case.op.address]

    def function(*xs: Any) -> Any:
        variables = dict(zip(wrt, xs, strict=True))
        return call(case.op, fn, [variables.get(i, x) for i, x in enumerate(arrays)], case.keywords)

    return function
