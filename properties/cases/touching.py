"""What an extraordinary number touches in a formula: all that a usual way to compute it may multiply by it.

The rules of the spec keep NaN out of what is known to be 0: the branch that a `where` does not take has the
gradient 0, whatever the cotangent is. Kernels take the path of products, as that of attention,

    s = where(mask, q k^T, -inf),  p = softmax(s),  dp = g v^T,  ds = p (dp - delta),  dk = ds^T q

in which the p of a masked element is 0, but NaN in a row of NaN, and so is ds there, and all of dk. So
formulas are run on elementwise ops that let NaN through:

- the gradient is NaN wherever the cotangent is, even if it is 0 times that;
- the value is NaN where an infinity stands in the place of a NaN: a mask of -inf may be added.

What a formula replaces by a finite number stays untouched, and so does what lies in other rows.
"""

from collections.abc import Sequence
from functools import cache, wraps
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.reference import OPS, VJP, Op
from gradspec.reference.forms import use_forms
from gradspec.reference.rule import Array


def run_touching(case: Case) -> Result:
    """Return the value and gradients of the spec, NaN wherever a NaN of the case may get to.

    Of an op by hand they are as ever.
    """
    with np.errstate(all="ignore"):
        if case.op.formula is None:
            return run_spec(case)
        with use_forms({address: _make_touching_form(op) for address, op in OPS.items() if _is_touched(op)}):
            return run_spec(case)


def _is_touched(op: Op) -> bool:
    """Return whether NaN goes through an op in the way of elementwise ones; formulas are made of these."""
    return op.formula is None and op.differentiable and op.elementwise


@cache
def _make_touching_form(op: Op) -> Op:
    """Return an elementwise op that lets NaN through, in its value and its gradients."""

    @wraps(op.rule)
    def rule(*xs: Any, **keywords: Any) -> VJP:
        value, pullbacks = op.rule(*xs, **keywords)
        if pullbacks is None:
            return value, None
        value = _touch_infinities(value, xs)
        if callable(pullbacks):
            return value, lambda g: tuple(_touch_gradient(d, g) for d in pullbacks(g))
        return value, tuple(p and (lambda g, p=p: _touch_gradient(p(g), g)) for p in pullbacks)

    return op.with_rule(rule)


def _touch_gradient(d: Array, g: Array) -> Array:
    """Return a gradient, NaN where the cotangent is; None if there is none."""
    return d if d is None else np.where(np.isnan(g), np.nan, d)


def _touch_infinities(value: Array, xs: Sequence[Any]) -> Array:
    """Return the value of an elementwise op, NaN where it is infinite although an argument is NaN."""
    for x in xs:
        if getattr(x, "dtype", np.dtype(np.bool_)).kind == "f":
            value = np.where(np.isinf(value) & np.isnan(x), np.nan, value)
    return value
