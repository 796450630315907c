"""What formulas write out, since NumPy has no name for it: a sigmoid, a softmax, and usual formulas of both.

    x / (1 + np.exp(-gate))         of which kernels differentiate the sigmoid s by s (1 - s)
    e / np.sum(e, keepdims=True)    with e = exp(x - top); kernels compute exp(x - log(sum(exp(x)))), as
                                    FlashAttention does again in its backward pass (Dao, 2023)

Both are quotients. On variables a quotient is told from others by how its arguments were computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.reference.axes import Axes
from gradspec.reference.forms import use_forms
from gradspec.reference.op import OPS, Op
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array
from gradspec.reference.tape import Variable


@record
def _over_one_plus_exp(x: Array, z: Array) -> VJP:
    """Return x / (1 + exp(z)), by the sigmoid of -z."""
    s = 1 / (1 + np.exp(z))
    return x * s, (lambda g: g * s, lambda g: -g * x * (s * (1 - s)))


@record
def _exp_less_logsumexp(x: Array, top: Array, *, axis: Axes) -> VJP:
    """Return the softmax of x; `top` is a constant that keeps exp from overflow."""
    y = np.exp(x - (top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))))
    return y, (lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True)), None)


def find_written_out(x: Any, y: Any) -> Callable[[], Any] | None:
    """Return what computes x / y by a usual formula of what it is; None if it is another quotient."""
    if (z := _find_exponent_beside_one(y)) is not None:
        return lambda: _over_one_plus_exp(x, z)
    total, e = _find_call(y, "sum"), _find_call(x, "exp")
    if total is None or e is None or not total[1].get("keepdims"):
        return None
    ((term, *_), keywords), ((z, *_), _) = total, e
    added = _find_call(term, "exp")
    if added is None or added[0][0] is not z:
        return None
    difference = _find_call(z, "subtract")
    shifted, top = difference[0] if difference else (z, 0)
    top = top.data if isinstance(top, Variable) else top
    return lambda: _exp_less_logsumexp(shifted, top, axis=keywords.get("axis"))


def make_usual_divide(note: Callable[[], None] = lambda: None) -> Op:
    """Return `divide` as a form that computes what is written out by its usual formula.

    Args:
        note: is called whenever something is.
    """
    plain = OPS["divide"].apply

    def divide(x: Any, y: Any) -> Any:
        compute = find_written_out(x, y)
        if compute is None:
            return plain(x, y)
        note()
        return compute()

    return replace(OPS["divide"], apply=divide)


def is_anything_written_out(call: Callable[[], Any]) -> bool:
    """Return whether a program writes out what has a usual formula; `call` runs it on variables."""
    found: list[bool] = []
    with use_forms({"divide": make_usual_divide(lambda: found.append(True))}):
        call()
    return bool(found)


def _find_call(x: Any, name: str) -> tuple[Sequence[Any], dict[str, Any]] | None:
    """Return the arguments and keywords of the call of this op that made a variable; None if none did."""
    if not (isinstance(x, Variable) and x._parents):
        return None
    call = x._rule_call
    rule, arguments, keywords = call if isinstance(call, tuple) else (call, x._parents, {})
    return (arguments, keywords) if rule is OPS[name].rule else None


def _find_exponent_beside_one(x: Any) -> Variable | None:
    """Return z of 1 + exp(z), however it is ordered; None if x is not that."""
    terms = _find_call(x, "add")
    for one, e in (terms[0], terms[0][::-1]) if terms else ():
        exponent = _find_call(e, "exp")
        if exponent and not isinstance(one, Variable) and np.all(np.equal(one, 1)):
            return exponent[0][0]  # type: ignore[no-any-return]
    return None
