"""Derived ops: the op is a formula, and the tape gives its pullbacks.

    @op("(*b,n),(n)->(*b,n)")
    def rms_norm(x: Real, weight: Real) -> Array:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) * weight

A formula is written in NumPy's functions and operators, and returns an array, or a tuple of arrays for
several values, where a rule returns a value and pullbacks. On variables it is recorded op by op; as a rule
it is the `vjp` of itself.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from gradspec.reference.arrays import as_array
from gradspec.reference.rule import Array, Rule
from gradspec.reference.tape import Variable, vjp

Formula = Callable[..., Array | tuple[Array, ...]]
"""A function from arrays to an array or a tuple of arrays, made of ops."""

V = TypeVar("V", bound=type[Variable])

_classes: list[type[Variable]] = []


def run_formulas_on(variable_class: V) -> V:
    """Let formulas run on variables of this class, which NumPy's functions and operators accept."""
    _classes.append(variable_class)
    return variable_class


def get_formula_class() -> type[Variable]:
    """Return the class of the variables that formulas run on.

    Raises:
        TypeError: while the spec itself is still being imported.
    """
    if not _classes:
        raise TypeError(
            "an op of the spec itself needs pullbacks: no tensor is there yet to run its formula on"
        )
    return _classes[-1]


def is_vjp(outcome: Any) -> bool:
    """Return whether an outcome is a rule's: a value and its pullbacks; a formula's is an array, or some."""
    if not (isinstance(outcome, tuple) and len(outcome) == 2):
        return False
    pullbacks = outcome[1]
    each = pullbacks if isinstance(pullbacks, tuple) else (pullbacks,)
    return all(p is None or callable(p) for p in each)


def get_formula(rule: Rule) -> Formula | None:
    """Return the formula that a rule was derived from, None if it was written by hand."""
    return getattr(rule, "formula", None)


def derive_rule(formula: Formula, has_gradient: Sequence[bool], variadic: bool = False) -> Rule:
    """Return the rule of a formula: its value, and all gradients from one walk of the tape.

    Args:
        formula: the formula.
        has_gradient: for each argument, whether it has a gradient; all False if the op has none.
        variadic: whether the first entry of `has_gradient` is that of every array.
    """

    @wraps(formula)
    def rule(*args: Any, **keywords: Any) -> Any:
        wrt = [i for i, x in enumerate(args) if has_gradient[0 if variadic else i] and _is_float_array(x)]
        if not any(has_gradient):
            return formula(*args, **keywords), None

        constants = [x if i in wrt else _keep_constant(x) for i, x in enumerate(args)]

        def fn(*leaves: Any) -> Any:
            by_place = dict(zip(wrt, leaves, strict=True))
            return formula(*[by_place.get(i, x) for i, x in enumerate(constants)], **keywords)

        value, pull = vjp(fn, *[args[i] for i in wrt], variable_class=get_formula_class())

        def pull_all(*gs: Array) -> tuple[Array, ...]:
            gradients = dict(zip(wrt, pull(*gs), strict=True))
            return tuple(gradients.get(i) for i in range(len(args)))

        return value, pull_all

    rule.formula = formula  # type: ignore[attr-defined]
    return rule


def apply_formula(
    formula: Formula, has_gradient: Sequence[bool], variadic: bool = False
) -> Callable[..., Any]:
    """Return the formula as an op: given arrays it returns arrays, given variables variables.

    Args:
        formula: the formula.
        has_gradient: for each argument, whether it has a gradient; the others are constants.
        variadic: whether the op takes its arrays as one sequence; the first entry of `has_gradient` is that
            of all of them.
    """

    @wraps(formula)
    def op(*args: Any, **keywords: Any) -> Any:
        if variadic:
            args = tuple(args[0])
        variable = next((x for x in args if isinstance(x, Variable)), None)
        if variable is None:
            return formula(*args, **keywords)
        xs = [x if has_gradient[0 if variadic else i] else _keep_constant(x) for i, x in enumerate(args)]
        value = formula(*xs, **keywords)
        if isinstance(value, tuple):
            return tuple(_as_variable(v, type(variable)) for v in value)
        return _as_variable(value, type(variable))

    return op


def _keep_constant(x: Any) -> Any:
    """Return the array of an argument without a gradient, a copy: pullbacks need it, and it is the caller's.

    The ops copy integers and truth values themselves.
    """
    x = x._data if isinstance(x, Variable) else x
    return np.array(x) if isinstance(x, np.ndarray) and x.dtype.kind not in "biu" else x


def _as_variable(x: Any, kind: type[Variable]) -> Variable:
    return x if isinstance(x, Variable) else kind(np.asarray(as_array(x)))


def _is_float_array(x: Any) -> bool:
    return hasattr(x, "dtype") and x.dtype.kind not in "biu"
