"""What an extraordinary number touches in a formula: all that a usual way to compute it may multiply by it.

The rules of the spec keep NaN out of what is known to be 0: the branch that a `where` does not take has the
gradient 0, whatever the cotangent is. Kernels take the path of products, as that of attention,

    s = where(mask, q k^T, -inf),  p = softmax(s),  dp = do v^T,  ds = p (dp - delta),  dk = ds^T q

in which the p of a masked element is 0 and in a row of NaN it is NaN, and so is ds there, and all of dk. So
formulas are run on rules that let NaN through:

- the gradient of an elementwise op is NaN wherever the cotangent is, even if it is 0 times that;
- the value is NaN where an infinity stands in the place of a NaN: a mask of -inf may be added;
- another op that keeps NaN out, as a maximum does where another element wins, is observed: each number of its
  arguments in turn is made NaN, to see which elements of its value change.

Values that a formula replaces by finite numbers stay untouched, and so does what lies in other rows.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import numpy as np

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import Result, run_spec
from gradspec.reference import OPS, VJP, Op
from gradspec.reference.forms import use_forms
from gradspec.reference.rule import Array, Pullback

MAX_ELEMENTS_OBSERVED = 64
"""Of an array whose elements are made NaN in turn."""


def run_touching(case: Case) -> Result:
    """Return the value and gradients of the spec, NaN wherever a NaN of the case may get to.

    Of an op by hand they are as ever.
    """
    with np.errstate(all="ignore"):
        if case.op.formula is None:
            return run_spec(case)
        with use_forms({address: _make_touching_form(op) for address, op in OPS.items() if _is_touched(op)}):
            return run_spec(case)


def find_parts(
    compute_value: Callable[[Array], Array], x: Array, elements: Array
) -> Array:
    """Return which elements of an array have a part in any of these elements of a value.

    Args:
        compute_value: Computes the value from the array.
        x: The array, of ordinary numbers.
        elements: Which elements of the value are in question.
    """
    parts, before = np.full(x.shape, False), compute_value(x)
    for k in range(x.size):
        changed = x.copy()
        changed.flat[k] = np.nan
        parts.flat[k] = np.any(elements & (compute_value(changed) != before))
    return parts


def _is_touched(op: Op) -> bool:
    """Return whether an op has a form that lets NaN through; others are made of such ops, or do so anyway."""
    return op.formula is None and op.differentiable and not (op.variadic or op.float_values)


@cache
def _make_touching_form(op: Op) -> Op:
    @wraps(op.rule)
    def rule(*xs: Array, **keywords: Any) -> VJP:
        value, pullbacks = op.rule(*xs, **keywords)
        if op.elementwise:
            value = _touch_infinities(value, xs)

        def touch(i: int, pull: Pullback) -> Pullback:
            if op.elementwise:
                return lambda g: np.where(np.isnan(g), np.nan, pull(g))
            return lambda g: _touch_parts(op, i, xs, keywords, g, pull)

        if pullbacks is None or callable(pullbacks):
            return value, pullbacks
        return value, tuple(p and touch(i, p) for i, p in enumerate(pullbacks))

    return op.with_rule(rule)


def _touch_infinities(value: Array, xs: Sequence[Any]) -> Array:
    """Return the value of an elementwise op, NaN where it is infinite and an argument is NaN."""
    for x in xs:
        if getattr(x, "dtype", np.dtype(np.bool_)).kind == "f":
            value = np.where(np.isinf(value) & np.isnan(x), np.nan, value)
    return value


def _touch_parts(
    op: Op, i: int, xs: Sequence[Any], keywords: dict[str, Any], g: Array, pull: Pullback
) -> Array:
    """Return the gradient of the i-th argument, NaN where it has a part in a value whose cotangent is NaN."""
    d, touched = pull(g), np.isnan(g)
    loses_nan = np.any(touched) and not np.all(np.isnan(pull(np.full_like(g, np.nan))))
    if not loses_nan or d.shape != xs[i].shape or d.size > MAX_ELEMENTS_OBSERVED:
        return d
    ordinary = [_replace_extraordinary(x) for x in xs]

    def compute_value(x: Array) -> Array:
        return op.rule(*ordinary[:i], x, *ordinary[i + 1 :], **keywords)[0]

    return np.where(find_parts(compute_value, ordinary[i], touched), np.nan, d)


def _replace_extraordinary(x: Any) -> Any:
    is_float_array = getattr(x, "dtype", np.dtype(np.bool_)).kind == "f"
    return np.where(np.isfinite(x), x, 1).astype(x.dtype) if is_float_array else x
