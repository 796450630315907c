"""From rules to ops: what a call leaves on the tape."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from numpy import ndarray

from gradspec.reference import grad_mode
from gradspec.reference.arrays import as_array
from gradspec.reference.backward import UNKNOWN_SHAPE_DTYPE
from gradspec.reference.rule import VJP
from gradspec.reference.several_values import (
    gather_cotangents,
    make_gathering_pullbacks,
    make_picking_rule,
)
from gradspec.reference.tape import Variable, get_shape_dtype, sequence_numbers

_new = object.__new__


def record(rule: Callable[..., VJP], *, elementwise: bool = False) -> Callable[..., Any]:
    """Make an op of a rule.

    Given arrays, the op returns an array; with a `Variable` among them, it returns a `Variable` that
    remembers the rule. Of a rule of several values it returns a tuple of them. Positional arguments are array
    data or Python numbers, keywords are metadata. A rule written `def rule(*xs)` makes an op that takes its
    arrays as one sequence, as `concat` does in the Array API standard.

    Args:
        rule: the rule; if it wraps another function (`functools.wraps`), that one says which arguments it
            takes.
        elementwise: a promise that for arguments of the same shape and dtype the one value and the gradients
            have this shape and dtype, too. The backward pass then need not check.
    """
    kinds = [p.kind if p.default is p.empty else None for p in signature(rule).parameters.values()]
    if elementwise and len(kinds) <= 2 and {*kinds} == {Parameter.POSITIONAL_OR_KEYWORD}:
        return wraps(rule)(_record_unary(rule) if len(kinds) == 1 else _record_binary(rule))
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature(rule).parameters.values())
    return wraps(rule)(_record_general(rule, variadic))


def _record_general(rule: Callable[..., VJP], variadic: bool = False) -> Callable[..., Any]:
    """Make an op of a rule with any arguments and keywords."""

    def op(*args: Any, **kwargs: Any) -> Any:
        if variadic:
            args = tuple(args[0])
        variables = [x for x in args if isinstance(x, Variable)]
        if kwargs and variables:
            kwargs = {name: _copy_index(x) for name, x in kwargs.items()}
        value, pullbacks = rule(*[x._data if isinstance(x, Variable) else x for x in args], **kwargs)
        if not variables:
            return value
        if isinstance(value, tuple):
            return _record_values(rule, args, kwargs, value, pullbacks)
        result = _new(type(variables[0]))
        result._data = as_array(value)
        result._sequence_nr = next(sequence_numbers)
        result._shape_dtype = result._parents = None
        if pullbacks is None:
            if result.note_constant is not None:
                result.note_constant(rule)
        elif grad_mode.is_grad_enabled() and any(x._parents is not None for x in variables):
            inputs = [x._data if isinstance(x, Variable) and x._parents is None else x for x in args]
            result._parents = tuple([x if isinstance(x, Variable) else None for x in inputs])
            result._pullbacks = pullbacks
            result._gradient_shape_dtype = UNKNOWN_SHAPE_DTYPE
            result._rule_call = rule, tuple(inputs), kwargs
        return result

    return op


def _record_values(
    rule: Callable[..., VJP],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: tuple[Any, ...],
    pull: Any,
) -> tuple[Any, ...]:
    """Return the values of a call as variables; those of integers do not require grad."""
    variables = [x for x in args if isinstance(x, Variable)]
    kind = type(variables[0])
    if kind.note_constant is not None and (pull is None or any(v.dtype.kind in "biu" for v in values)):
        kind.note_constant(rule)
    requires_grad = any(x._parents is not None for x in variables)
    bundle = None
    if pull is not None and requires_grad and grad_mode.is_grad_enabled():
        inputs = [x._data if isinstance(x, Variable) and x._parents is None else x for x in args]
        bundle = _new(kind)
        bundle._data = None
        bundle._sequence_nr = next(sequence_numbers)
        bundle._shape_dtype = object()  # that of `Cotangents`, which nothing need be fitted to
        bundle._parents = tuple([x if isinstance(x, Variable) else None for x in inputs])
        bundle._pullbacks = make_gathering_pullbacks(values, pull)
        bundle._gradient_shape_dtype = UNKNOWN_SHAPE_DTYPE
        bundle._rule_call = gather_cotangents(rule), tuple(inputs), kwargs
    results = []
    for number, value in enumerate(values):
        result: Any = kind(as_array(value))
        if bundle is not None and result._data.dtype.kind not in "biu":
            result._parents = (bundle,)
            result._rule_call = make_picking_rule(number)
            result._pullbacks = result._rule_call(bundle)[1]
            result._gradient_shape_dtype = bundle._shape_dtype
        results.append(result)
    return tuple(results)


def _copy_index(x: Any) -> Any:
    """Return a copy of an index, also within a tuple, so that nobody overwrites it before the backward pass.

    Return anything else as it is.
    """
    if type(x) is tuple:
        return tuple([_copy_index(part) for part in x])
    return x if isinstance(x, type) or not hasattr(x, "copy") else x.copy()


# Elementwise ops of one or two arrays without keywords, which programs call most, are written out without
# helper functions: for small arrays each further call would cost a tenth of the time of an op.


def _record_unary(rule: Callable[..., VJP]) -> Callable[..., Any]:
    def op(x: Any) -> Any:
        try:
            x_parents = x._parents
        except AttributeError:  # not a Variable
            return rule(x)[0]
        value, pullbacks = rule(x._data)
        result = _new(type(x))
        result._data = value if type(value) is ndarray else as_array(value)
        result._sequence_nr = next(sequence_numbers)
        if (
            x_parents is None
            or pullbacks is None
            or (grad_mode.no_grad_count and not grad_mode.is_grad_enabled())
        ):
            result._shape_dtype = result._parents = None
            if pullbacks is None and result.note_constant is not None:
                result.note_constant(rule)
        else:
            result._shape_dtype = result._gradient_shape_dtype = x._shape_dtype or get_shape_dtype(x)
            result._parents = (x,)
            result._pullbacks = pullbacks
            result._rule_call = rule
        return result

    return op


def _record_binary(rule: Callable[..., VJP]) -> Callable[..., Any]:
    general = _record_general(rule)

    def op(x: Any, y: Any) -> Any:
        try:
            x_parents = x._parents
            y_parents = y._parents
        except AttributeError:  # not both are Variables
            return general(x, y)
        value, pullbacks = rule(x._data, y._data)
        result = _new(type(x))
        result._data = value if type(value) is ndarray else as_array(value)
        result._sequence_nr = next(sequence_numbers)
        parents: tuple[Any, ...] = (x, y)
        call: Any = rule
        if x_parents is None or y_parents is None:
            if x_parents is y_parents:  # neither requires grad
                pullbacks = None
            call = rule, tuple([v._data if v._parents is None else v for v in parents]), {}
            parents = tuple([None if v._parents is None else v for v in parents])
        if pullbacks is None or (grad_mode.no_grad_count and not grad_mode.is_grad_enabled()):
            result._shape_dtype = result._parents = None
            if pullbacks is None and result.note_constant is not None:
                result.note_constant(rule)
            return result
        shape_dtype = x._shape_dtype or get_shape_dtype(x)
        if shape_dtype is (y._shape_dtype or get_shape_dtype(y)):
            result._shape_dtype = result._gradient_shape_dtype = shape_dtype
        else:
            result._shape_dtype = None
            result._gradient_shape_dtype = UNKNOWN_SHAPE_DTYPE
        result._parents = parents
        result._pullbacks = pullbacks
        result._rule_call = call
        return result

    return op
