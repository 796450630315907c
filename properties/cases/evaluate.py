"""What comes of a case: its value and gradients, in the spec and on a backend."""

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
    """What came of a case: the value, and the gradient of each argument that has one, by the argument's name."""

    value: Array
    gradients: dict[str, Array]


def run_spec(case: Case) -> Result:
    """The value and gradients that the spec's rule gives, at the precision of the case's own arrays."""
    value, pullbacks = case.op.rule(*case.inputs, **case.keywords)
    if pullbacks is None:
        return Result(np.asarray(value), {})
    g = case.cotangent
    pulled: Sequence[Array] = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks]
    gradients = {}
    for i in case.differentiable_inputs:
        x, d = case.inputs[i], pulled[i]
        gradients[case.op.argument_name(i)] = np.asarray(
            d if d.shape == x.shape else unbroadcast(d, x.shape)
        ).astype(x.dtype)
    return Result(np.asarray(value), gradients)


def forward(backend: Backend, case: Case) -> Array:
    """The value that a backend computes, without its vjp."""
    arrays, _ = case.to_backend_arrays(backend)
    return backend.to_numpy(call(case.op, backend.ops[case.op.name], arrays, case.keywords))


def run_on_backend(backend: Backend, case: Case) -> Result:
    """What a backend makes of the case: by its vjp, or the value alone of an op that has no gradient."""
    return differentiate(backend, case) if case.differentiable_inputs else Result(forward(backend, case), {})


def differentiate(backend: Backend, case: Case) -> Result:
    """The value and gradients that a backend's vjp gives."""
    value, pull = value_and_pullback(backend, case)
    return Result(value, pull(case.cotangent))


def value_and_pullback(
    backend: Backend, case: Case, wrt: Sequence[int] | None = None
) -> tuple[Array, Callable[[Array], dict[str, Array]]]:
    """The value that a backend's vjp gives, and its pullback: from a cotangent to the gradients by argument.

    free: as `linearized` has it.
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
    """What the backend's vjp makes of the case at these arrays of its own: a value and a pullback.

    free: by which of the arrays; by all that have a gradient unless given.
    """
    wrt = case.differentiable_inputs if wrt is None else wrt
    value, pullback = backend.vjp(bind_constants(backend, case, arrays, wrt), *(arrays[i] for i in wrt))
    return value, pullback


def bind_constants(
    backend: Backend, case: Case, arrays: Sequence[Any], wrt: Sequence[int]
) -> Callable[..., Any]:
    """The op as a function of the `free` ones among its arrays, the others being as given."""
    fn = backend.ops[case.op.name]

    def function(*xs: Any) -> Any:
        given = dict(zip(wrt, xs, strict=True))
        return call(case.op, fn, [given.get(i, x) for i, x in enumerate(arrays)], case.keywords)

    return function
