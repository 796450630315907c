"""Does anything change that should not: inputs, cotangents, or the result of the same call the next time?

Does not see: values and gradients that differ but are as right as before, anything at kinks, a value that is
a view of an input (which a later write to the input changes, as in many libraries), global state that no
result depends on, memory leaks.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.backends import Backend, call
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import call_backend_vjp
from gradspec.properties.judging.judge import Judge, Judgement
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "unsafe"


def calls_leave_no_trace(backend: Backend, case: Case) -> Judgement:
    """Judge whether a call, repeated, gives the same value and gradients, and leaves all arrays as they are.

    Nor may a later write to the cotangent change a gradient, or a later write to a gradient, the value, an
    index or an input corrupt what a pullback gives: it must give the same as before, or raise if the array is
    one that it may still need. "The same" is bit for bit, or else as right as before: sums of torch have been
    seen to change in the last place, depending on where arrays lie in memory.
    """
    if not case.differentiable_inputs:
        return _judge_op_without_gradient(backend, case)
    inputs, g = case.to_backend_arrays(backend)
    before = _take_snapshots(backend, [*inputs, g])
    keywords = deepcopy(case.keywords)
    value, pullback = call_backend_vjp(backend, replace(case, keywords=keywords), inputs)
    (value_before,) = _take_snapshots(backend, [value])
    first = pullback(g)
    gradients = _take_snapshots(backend, first)
    names = [case.op.argument_name(i) for i in case.differentiable_inputs]
    judge = Judge(case)

    if changed := _find_change(backend, case, [*inputs, g], before):
        return changed
    other_inputs, other_g = _make_other_arrays(backend, case)
    _, other_pullback = call_backend_vjp(backend, case, other_inputs)
    other_pullback(other_g)
    for name, d, saved in zip(names, first, gradients, strict=True):
        if not _are_bitwise_equal(backend.to_numpy(d), saved):
            return Judgement("disagree", f"the gradient of {name} is overwritten by that of another call")
    if wrong := _find_wrong_gradient(judge, names, _take_snapshots(backend, pullback(g)), gradients):
        return Judgement(
            "disagree", f"after a call with other numbers the pullback gives a different {wrong}"
        )
    second_value, second = call_backend_vjp(backend, case, inputs)
    if not _is_same_or_right(judge, value_before, *_take_snapshots(backend, [second_value])):
        return Judgement("disagree", "a second run gives a different value")
    if wrong := _find_wrong_gradient(judge, names, _take_snapshots(backend, second(g)), gradients):
        return Judgement("disagree", f"a second run gives a different {wrong}")
    _, spent_cotangent = case.to_backend_arrays(backend)
    kept = second(spent_cotangent)
    _overwrite(spent_cotangent)
    if wrong := _find_wrong_gradient(judge, names, _take_snapshots(backend, kept), gradients):
        return Judgement("disagree", f"a later write to the cotangent changes the {wrong}")
    for i, d in enumerate(first):
        _overwrite(d)
        for j in range(i + 1, len(first)):
            if not _are_bitwise_equal(backend.to_numpy(first[j]), gradients[j]):
                return Judgement("disagree", f"the gradients of {names[i]} and {names[j]} share memory")
    indices = _collect_index_arrays(keywords)
    if not all(map(_are_bitwise_equal, indices, _collect_index_arrays(case.keywords))):
        return Judgement("disagree", f"an index was changed to {[x.tolist() for x in indices]}")
    writes: list[tuple[str, Sequence[Any], Callable[[Any], None]]] = [
        ("the gradients", (), _overwrite),  # written to above
        ("an index", indices, _change_index),
        ("the value", [value], _overwrite),
        ("the inputs", inputs, _overwrite),
    ]
    for what, arrays, write in writes:
        for x in arrays:
            write(x)
        try:
            again = _take_snapshots(backend, pullback(g))
        except Exception:
            # To raise is right where the pullback may need what was written to.
            if arrays and write is _overwrite:
                break
            raise
        if wrong := _find_wrong_gradient(judge, names, again, gradients):
            if arrays is inputs:
                what = _find_guilty_inputs(backend, case, judge, gradients) or what
            return Judgement("disagree", f"after a write to {what} the pullback gives a different {wrong}")
    return Judgement("agree", informative=any(map(np.any, gradients)))


def _find_guilty_inputs(backend: Backend, case: Case, judge: Judge, expected: list[Array]) -> str:
    """Return the names of the inputs to each of which alone a write changes a gradient; "" if there are none.

    A write for which the pullback raises is not among them.
    """
    names = [case.op.argument_name(i) for i in case.differentiable_inputs]
    guilty = []
    for i in range(len(case.inputs)):
        inputs, g = case.to_backend_arrays(backend)
        _, pullback = call_backend_vjp(backend, case, inputs)
        _overwrite(inputs[i])
        try:
            again = _take_snapshots(backend, pullback(g))
        except Exception:
            continue
        if _find_wrong_gradient(judge, names, again, expected):
            guilty.append(case.op.argument_name(i))
    return " or ".join(guilty)


def _judge_op_without_gradient(backend: Backend, case: Case) -> Judgement:
    """Judge an op without a gradient: its inputs must stay as they are, and its value when called again."""
    inputs, g = case.to_backend_arrays(backend)
    before = _take_snapshots(backend, [*inputs, g])
    values = []
    for arrays in (inputs, _make_other_arrays(backend, case)[0], inputs):
        value = call(case.op, backend.ops[case.op.address], arrays, case.keywords)
        values += _take_snapshots(backend, [value])
    if changed := _find_change(backend, case, [*inputs, g], before):
        return changed
    if not _is_same_or_right(Judge(case), values[0], values[-1]):
        return Judgement("disagree", "a second run gives a different value")
    return Judgement("agree", informative=any(map(np.any, before[:-1])))


def _find_change(
    backend: Backend, case: Case, arrays: Sequence[Any], before: list[Array]
) -> Judgement | None:
    """Return a disagreement if an input or the cotangent is no longer what it was, else None."""
    names = [*map(case.op.argument_name, range(len(case.inputs))), "cotangent"]
    for name, x, saved in zip(names, arrays, before, strict=True):
        now = backend.to_numpy(x)
        if not _are_bitwise_equal(now, saved):
            return Judgement("disagree", f"{name} was changed from {saved.tolist()} to {now.tolist()}")
    return None


def _collect_index_arrays(keywords: Mapping[str, Any]) -> list[Array]:
    """Return the arrays among the keywords, alone or in tuples."""
    parts = [part for k in keywords.values() for part in (k if isinstance(k, tuple) else (k,))]
    return [part for part in parts if isinstance(part, np.ndarray)]


def _make_other_arrays(backend: Backend, case: Case) -> tuple[list[Any], Any]:
    """Return other inputs and another cotangent, of the same shapes: the same numbers in another order."""
    flipped = replace(case, inputs=tuple(map(np.flip, case.inputs)), cotangent=np.flip(case.cotangent))
    return flipped.to_backend_arrays(backend)


def _take_snapshots(backend: Backend, arrays: Sequence[Any]) -> list[Array]:
    return [np.array(backend.to_numpy(x)) for x in arrays]


def _overwrite(x: Any) -> None:
    """Write to an array, if it can be written to; one that cannot is as good."""
    try:
        x[...] = 7
    except Exception:
        return


def _change_index(x: Array) -> None:
    """Write to an index array, so that it is another valid index."""
    x[...] = np.roll(x, 1) if x.dtype == np.bool_ else 0


def _are_bitwise_equal(x: Array, y: Array) -> bool:
    """Return whether two arrays are the same bit for bit."""
    return bool(x.dtype == y.dtype) and x.shape == y.shape and x.tobytes() == y.tobytes()


def _is_same_or_right(judge: Judge, expected: Array, value: Array) -> bool:
    """Return whether a value is bit for bit as expected, or else both are right."""
    return _are_bitwise_equal(value, expected) or all(
        judge.judge_value(x).verdict != "disagree" for x in (expected, value)
    )


def _find_wrong_gradient(
    judge: Judge, names: list[str], gradients: list[Array], expected: list[Array]
) -> str:
    """Return which gradient is neither bit for bit as expected nor right; "" if none."""
    for name, d, e in zip(names, gradients, expected, strict=True):
        if not _are_bitwise_equal(d, e) and judge.judge_gradient(name, d).verdict == "disagree":
            return f"gradient of {name}"
    return ""
