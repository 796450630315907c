"""What formulas write out, since NumPy has no name for it, and the usual formulas of it.

    x / (1 + np.exp(-z))            a sigmoid s, which kernels differentiate by s (1 - s)
    e / np.sum(e, keepdims=True)    a softmax, with e = exp(x - top); kernels compute exp(x - logsumexp(x))
    np.matmul(softmax, v)           attention, of which kernels take sum(g * value), for sum(g v^T * softmax)

FlashAttention's backward pass does both of the latter (Dao, 2023), where a formula calls the op softmax, too.
On variables each is told from other quotients and products by how its arguments were computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.reference.axes import Axes, fit_axes, normalize_axes
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


def _take_shares(x: Array, axis: Axes) -> Array:
    y: Array = np.exp(x - OPS["logsumexp"].usual_forms[0](x, axis=axis, keepdims=True))
    return y


def _exp_less_logsumexp(x: Array, *, axis: Axes = -1) -> VJP:
    """Return the softmax of x."""
    axis = fit_axes(axis, x.ndim)
    y = _take_shares(x, axis)
    return y, (lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True)),)


_softmax = record(_exp_less_logsumexp)


@record
def _attend(x: Array, v: Array) -> VJP:
    """Return softmax(x) @ v, the softmax along the last axis."""
    p = _take_shares(x, -1)
    value = np.matmul(p, v)

    def pull_x(g: Array) -> Array:
        return p * (np.matmul(g, np.matrix_transpose(v)) - np.sum(g * value, axis=-1, keepdims=True))

    return value, (pull_x, lambda g: np.matmul(np.matrix_transpose(p), g))


def _find_quotient(x: Any, y: Any) -> Callable[[], Any] | None:
    """Return what computes x / y by the usual formula of what it is; None if it is another quotient."""
    if (z := _find_exponent_beside_one(y)) is not None:
        return lambda: _over_one_plus_exp(x, z)
    total, e = _find_call(y, "sum"), _find_call(x, "exp")
    if total is None or e is None or not total[1].get("keepdims"):
        return None
    ((term, *_), keywords), ((z, *_), _) = total, e
    added, axis = _find_call(term, "exp"), keywords.get("axis")
    if added is None or added[0][0] is not z:
        return None
    difference = _find_call(z, "subtract")
    if (
        difference
        and isinstance(difference[0][0], Variable)
        and _is_one_along(difference[0][1], z.ndim, axis)
    ):
        z = difference[0][0]  # what is subtracted is left to the logarithm of the sum
    return lambda: _softmax(z, axis=axis)


def _find_attention(x: Any, y: Any) -> Callable[[], Any] | None:
    """Return what computes x @ y by the usual formula of attention; None if it is another product."""
    softmax = OPS["softmax"]
    call = _find_call(x, softmax.rule, *softmax.usual_rules, _exp_less_logsumexp)
    if call is None or np.ndim(y) < 2 or normalize_axes(call[1].get("axis", -1), x.ndim) != (x.ndim - 1,):
        return None
    return lambda: _attend(call[0][0], y)


def make_usual_forms(note: Callable[[], None] = lambda: None) -> dict[str, Op]:
    """Return forms of ops that compute what is written out by its usual formula.

    Args:
        note: is called whenever something is.
    """

    def make(name: str, find: Callable[[Any, Any], Callable[[], Any] | None]) -> Op:
        plain = OPS[name].apply

        def apply(x: Any, y: Any) -> Any:
            compute = find(x, y)
            if compute is None:
                return plain(x, y)
            note()
            return compute()

        return replace(OPS[name], apply=apply)

    def softmax(x: Any, *, axis: Axes = -1) -> Any:
        note()
        return _softmax(x, axis=axis)

    return {
        "divide": make("divide", _find_quotient),
        "matmul": make("matmul", _find_attention),
        "softmax": replace(OPS["softmax"], apply=softmax),
    }


def is_anything_written_out(call: Callable[[], Any]) -> bool:
    """Return whether a program writes out what has a usual formula; `call` runs it on variables."""
    found: list[bool] = []
    with use_forms(make_usual_forms(lambda: found.append(True))):
        call()
    return bool(found)


def _find_call(x: Any, *ops: Any) -> tuple[Sequence[Any], dict[str, Any]] | None:
    """Return the arguments and keywords of the call that made a variable; None if another op did.

    Args:
        x: a variable, or anything else.
        *ops: the rules or the names of the ops that are looked for.
    """
    if not (isinstance(x, Variable) and x._parents):
        return None
    call = x._rule_call
    rule, arguments, keywords = call if isinstance(call, tuple) else (call, x._parents, {})
    is_one = any(rule is (OPS[op].rule if isinstance(op, str) else op) for op in ops)
    return (arguments, keywords) if is_one else None


def _find_exponent_beside_one(x: Any) -> Variable | None:
    """Return z of 1 + exp(z), however it is ordered; None if x is not that."""
    terms = _find_call(x, "add")
    for one, e in (terms[0], terms[0][::-1]) if terms else ():
        exponent = _find_call(e, "exp")
        if exponent and not isinstance(one, Variable) and np.all(np.equal(one, 1)):
            return exponent[0][0]  # type: ignore[no-any-return]
    return None


def _is_one_along(x: Any, ndim: int, axis: Axes) -> bool:
    """Return whether x, broadcast to an array of so many dimensions, is the same along these axes."""
    shape = (1,) * (ndim - np.ndim(x)) + np.shape(x)
    return all(shape[a] == 1 for a in normalize_axes(axis, ndim))
