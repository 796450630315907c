"""From rules to ops: what a call leaves on the tape."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from numpy import ndarray

from gradspec.reference.arrays import as_array
from gradspec.reference.tape import VJP, Array, Variable, clock
from gradspec.reference.tracking import tracking

_new = object.__new__
_NO_KEYWORDS: dict[str, Any] = {}


def record(rule: Callable[..., VJP]) -> Callable[..., Any]:
    """An op from a rule: arrays give an array; a `Variable` among them gives a `Variable` that remembers the rule.

    Positional arguments are array data or Python numbers, keywords are metadata. A rule written `def rule(*xs)` makes
    an op that takes its arrays as one sequence, as `concat` does in the Array API standard.
    """
    code = rule.__code__
    variadic = bool(code.co_flags & 0x04)  # CO_VARARGS: the rule is written with *xs
    if variadic or code.co_kwonlyargcount or rule.__defaults__ or code.co_argcount > 2:
        return wraps(rule)(_general(rule, variadic))
    return wraps(rule)(_unary(rule) if code.co_argcount == 1 else _binary(rule))


def _general(rule: Callable[..., VJP], variadic: bool) -> Callable[..., Any]:
    """An op of any arguments and keywords."""

    def op(*args: Any, **kwargs: Any) -> Any:
        if variadic:
            args = tuple(args[0])
        variables = [x for x in args if isinstance(x, Variable)]
        value, pullbacks = rule(*[x.data if isinstance(x, Variable) else x for x in args], **kwargs)
        if not variables:
            return value
        parents = tuple([x if isinstance(x, Variable) and x._node is not None else None for x in args])
        tracked = any(x is not None for x in parents)
        return _result(
            type(variables[0]), value, (pullbacks, parents, rule, args, kwargs) if tracked else None
        )

    return op


# Ops of one or two arrays and no keywords, those that programs call most, are written out down to the new variable: with
# a few elements to an array each further call costs a tenth of the work.


def _unary(rule: Callable[..., VJP]) -> Callable[..., Any]:
    def op(x: Any) -> Any:
        if not isinstance(x, Variable):
            return rule(x)[0]
        value, pullbacks = rule(x.data)
        result = _new(type(x))
        result.data = value if type(value) is ndarray else as_array(value)
        result._order = next(clock)
        if x._node is None or pullbacks is None or not tracking.get():
            result._node = None
        else:
            parents = (x,)
            result._node = (pullbacks, parents, rule, parents, _NO_KEYWORDS)
        return result

    return op


def _binary(rule: Callable[..., VJP]) -> Callable[..., Any]:
    def op(x: Any, y: Any) -> Any:
        kind = type(x)
        if type(y) is not kind or not isinstance(x, Variable):
            return general(x, y)
        value, pullbacks = rule(x.data, y.data)
        result = _new(kind)
        result.data = value if type(value) is ndarray else as_array(value)
        result._order = next(clock)
        if pullbacks is None or not tracking.get():
            result._node = None
        elif y._node is not None:
            args = (x, y)
            result._node = (pullbacks, args if x._node is not None else (None, y), rule, args, _NO_KEYWORDS)
        elif x._node is not None:
            result._node = (pullbacks, (x, None), rule, (x, y), _NO_KEYWORDS)
        else:
            result._node = None
        return result

    general = _general(rule, variadic=False)
    return op


def _result(kind: type[Variable], value: Array, node: Any) -> Variable:
    """A new variable without the detour through __init__; it keeps the node if there is something to differentiate."""
    result = _new(kind)
    result.data = as_array(value)
    result._order = next(clock)
    result._node = None if node is None or node[0] is None or not tracking.get() else node
    return result
