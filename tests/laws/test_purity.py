"""The laws of layouts and of purity catch their faults and pass what is right."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.cases.layouts import LAYOUTS, lay_out
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.test_layouts import laid_out_cases
from gradspec.reference import OPS, VJP
from tests.helpers.planting import find_violation, make_backend_of_ops, make_backend_of_rules


def read_in_the_order_of_memory(g: Any) -> Any:
    """Return what a kernel reads that takes every array to be contiguous."""
    return g.ravel(order="K").reshape(g.shape)


def multiply_of_contiguous_cotangents(x: Any, y: Any) -> VJP:
    return x * y, (lambda g: read_in_the_order_of_memory(g) * y, lambda g: read_in_the_order_of_memory(g) * x)


def multiply_of_contiguous_inputs(x: Any, y: Any) -> VJP:
    return x * y, (lambda g: g * y, lambda g: g * read_in_the_order_of_memory(x))


def tanh_that_spends_its_cotangent(x: Any) -> VJP:
    def pull(g: Any) -> Any:
        if g.flags.writeable and g.ndim:
            g *= 1 - np.tanh(x) ** 2
            return g
        return g * (1 - np.tanh(x) ** 2)

    return np.tanh(x), (pull,)


def tanh_that_writes_to_its_input(x: Any) -> VJP:
    y, pulls = OPS["tanh"].rule(x.copy())
    if x.flags.writeable and x.ndim:
        x[...] = y
    return y, pulls


def tanh_of_a_worn_buffer(x: Any) -> VJP:
    y, (pull,) = OPS["tanh"].rule(x)  # type: ignore[misc]
    calls = iter(range(100))
    return y, (lambda g: pull(g) * (1 if next(calls) == 0 else 2),)  # type: ignore[misc]


def tanh_that_drifts(x: Any, calls: Any = itertools.count()) -> VJP:  # noqa: B008 - all calls share it
    y, pullbacks = OPS["tanh"].rule(x)
    return y * (1 + next(calls) % 5), pullbacks


def sign_that_drifts(x: Any, calls: Any = itertools.count()) -> VJP:  # noqa: B008 - all calls share it
    return np.sign(x) * (1 + next(calls) % 5), None


def keep_the_cotangent_as_gradient(fn: Any, *inputs: Any) -> Any:
    """Return a vjp for a sum of two arrays: a read-only view of the cotangent, or the cotangent itself."""
    value = fn(*inputs)

    def pullback(g: Any) -> Any:
        view = g.view()
        view.flags.writeable = False
        return tuple(view if d.shape == g.shape else d for d in load("numpy").vjp(fn, *inputs)[1](g))

    return value, pullback


def make_backend_with_one_gradient_buffer(**ops: Callable[..., Any]) -> Backend:
    """Return a backend whose vjp returns one buffer as the gradient of every input."""

    def vjp(fn: Any, *inputs: Any) -> Any:
        value = fn(*inputs)
        return value, lambda g: (d := np.array(g), d)

    return replace(make_backend_of_ops(ops), vjp=vjp)


@pytest.mark.parametrize("rule", [multiply_of_contiguous_cotangents, multiply_of_contiguous_inputs])
def test_only_the_law_of_layouts_notices_an_order_taken_for_granted(rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(multiply=rule)
    assert find_violation(layout_makes_no_difference, backend, draw_cases=laid_out_cases)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)
    assert not find_violation(value_agrees, backend)


@pytest.mark.parametrize(
    "rule", [tanh_that_spends_its_cotangent, tanh_that_writes_to_its_input, tanh_of_a_worn_buffer]
)
def test_what_is_left_behind_is_noticed(rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(tanh=rule)
    assert find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)


def test_a_gradient_in_memory_that_calls_share_is_noticed() -> None:
    workspaces: dict[Any, Any] = {}

    def vjp(fn: Any, *inputs: Any) -> Any:
        value, pullback = load("numpy").vjp(fn, *inputs)

        def pull_into_workspaces(g: Any) -> Any:
            kept = []
            for d in pullback(g):
                workspace = workspaces.setdefault((d.shape, d.dtype), np.empty_like(d))
                workspace[...] = d
                kept.append(workspace)
            return tuple(kept)

        return value, pull_into_workspaces

    backend = replace(make_backend_of_ops({"tanh": OPS["tanh"].apply}), vjp=vjp)
    violation = find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)
    assert "the gradient of x is overwritten by that of another call" in str(violation)


def test_only_the_law_of_purity_calls_a_pullback_twice() -> None:
    backend = make_backend_of_rules(tanh=tanh_of_a_worn_buffer)
    assert not find_violation(every_gradient_agrees, backend, smooth=True)


@pytest.mark.parametrize("rule", [tanh_that_drifts, sign_that_drifts])
def test_a_value_that_differs_from_call_to_call_is_noticed(rule: Callable[..., VJP]) -> None:
    backend = make_backend_of_rules(**{rule.__name__.split("_")[0]: rule})
    violation = find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)
    assert "a second run gives a different value" in str(violation)


def test_a_gradient_that_is_a_view_of_the_cotangent_is_noticed() -> None:
    backend = replace(make_backend_of_ops({"add": OPS["add"].apply}), vjp=keep_the_cotangent_as_gradient)
    violation = find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)
    assert "a later write to the cotangent changes the gradient of x" in str(violation)


def test_one_buffer_for_two_gradients_is_noticed() -> None:
    backend = make_backend_with_one_gradient_buffer(add=OPS["add"].apply)
    violation = find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)
    assert violation
    assert "share memory" in str(violation)


@pytest.mark.parametrize("name", ["multiply", "tanh", "add", "sum", "reshape", "concat"])
def test_the_spec_keeps_both_laws(name: str) -> None:
    backend = make_backend_of_ops({name: OPS[name].apply}, "spec")
    assert not find_violation(layout_makes_no_difference, backend, draw_cases=laid_out_cases)
    assert not find_violation(calls_leave_no_trace, backend, smooth=True, cases_per_example=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_does_not_depend_on_how_an_array_lay_before(layout: str) -> None:
    x = np.broadcast_to(np.arange(4.0).reshape(2, 2, 1), (2, 2, 3))
    copies = [lay_out(y, layout) for y in (x, np.array(x), np.array(x, order="F"), np.array(x.tolist()))]
    assert len({y.strides for y in copies}) == 1
    memories = [y if y.base is None else y.base for y in copies]
    assert len({m.tobytes("A") for m in memories}) == 1
