"""Plain functions of torch as references: told from formulas in NumPy, and declared as ops.

Such a function is exact in float64, with torch's own autograd, and so has nothing to say of float64 itself.
"""

import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from gradspec.backends.addresses import suggest_nearest
from gradspec.properties.verifying.kernels import name_function
from gradspec.properties.verifying.parameters import find_domain, list_keyword_values, read_hints
from gradspec.properties.verifying.torch_rules import TorchRule
from gradspec.reference import Op, op
from gradspec.reference.calls import Call, SeededChoices
from gradspec.reference.domains import Domain, Interval
from gradspec.reference.formula_checks import list_values
from gradspec.reference.kink_distances import KinkDistanceFunction
from gradspec.reference.misfits import refuse_misfits
from gradspec.reference.op import fill_from_domain
from gradspec.reference.rule import VJP, Array
from gradspec.reference.signatures import from_signature, parse_dimensions

N_CALLS_TRIED = 3
"""So many small calls show whether a function can be a reference at all."""

NOT_ASKED_BY_FUNCTIONS = (
    "test_extremes_go_where_the_spec_says",
    "test_extremes_of_elementwise_ops_go_where_the_spec_says",
)
"""The properties that only a formula that is known to be stable could decide."""

LEFT_OUT_OF_FUNCTIONS = (
    "extremes go where the spec says: whether there are infinities and NaN, the reference's formula decides",
    "float64: torch has no wider dtype, in which the reference would be exact",
    "the reference itself: its gradients are taken as torch's autograd gives them",
    "lossy: usual formulas of the reference are not known; what loses digits as they do is right or wrong",
)
"""What is not asked where a plain function is the reference, with the reason."""

LEFT_OUT_WITHOUT_KINKS = (
    "gradient at kinks is a legal subgradient: without kinks= nothing says where they are"
)


def is_plain_function(against: Any) -> bool:
    """Return whether this is a function of torch, which has been imported.

    It is if its value is annotated as torch's, or if none of its arrays is annotated with a domain.
    """
    if not callable(against) or isinstance(against, Op | type) or "torch" not in sys.modules:
        return False
    hints = read_hints(against)
    return _returns_tensors(hints) or not any(map(find_domain, hints.values()))


def _returns_tensors(hints: Mapping[str, Any]) -> bool:
    value = hints.get("return")
    kinds = [value, *typing.get_args(value)]
    return any(str(getattr(kind, "__module__", "")).partition(".")[0] == "torch" for kind in kinds)


def declare_function(
    function: Callable[..., Any],
    shapes: str,
    keywords: Mapping[str, Sequence[Any]] | None = None,
    kinks: KinkDistanceFunction | None = None,
) -> Op:
    """Declare a function of torch as an op of these shapes, in which nothing broadcasts without a star.

    The arguments are those of `verify`. An array without a domain may have any numbers.

    Raises:
        TypeError: It cannot be a reference; the message says why.
    """
    name, hints = name_function(function), read_hints(function)
    parameters = _read_parameters(function, name)
    arrays, values = _choose_parameters(parameters, name, shapes, keywords or {})
    if keywords is None or any(p.kind is p.KEYWORD_ONLY for p in parameters.values()):
        values = {**list_keyword_values(function), **values}
    domains = [find_domain(hints.get(a)) or Interval() for a in arrays]
    told = "" if _returns_tensors(hints) else "; a formula in NumPy annotates its arrays with domains"
    torch_rule = TorchRule(function, f"verify: against={name}, a function of torch, ", told, domains)

    def rule(*args: Any, **given: Any) -> VJP:
        return torch_rule(*args, **given)

    kind = inspect.Parameter
    rule.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [kind(a, kind.POSITIONAL_OR_KEYWORD) for a in arrays]
        + [kind(k, kind.KEYWORD_ONLY, default=parameters[k].default) for k in values]
    )
    rule.__annotations__ = {a: Annotated[Array, d] for a, d in zip(arrays, domains, strict=True)}
    rule.__name__, rule.__module__ = name, function.__module__
    draw_call = from_signature(shapes, values, domains, literal=True)
    calls = [draw_call(SeededChoices(seed, (2, 3))) for seed in range(N_CALLS_TRIED)]
    _try_out(torch_rule, arrays, domains, shapes, calls)
    return op(None, shapes=shapes, kinks=kinks, also=(), settle=None, **values)(rule)


def _read_parameters(function: Any, name: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise TypeError(
            f"verify: what against={name} takes cannot be read from it; give a function of your own that "
            f"calls it, such as lambda x: {name}(x)"
        ) from None


def _choose_parameters(
    parameters: Mapping[str, inspect.Parameter],
    name: str,
    shapes: str,
    keywords: Mapping[str, Sequence[Any]],
) -> tuple[list[str], dict[str, Sequence[Any]]]:
    """Return the names of the arrays, which are as many as the shapes, and the keywords given, in order.

    Raises:
        TypeError: The parameters do not go with the shapes and keywords.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p.name for p in parameters.values() if p.kind in kinds]
    count = len(parse_dimensions(shapes))
    if len(positional) < count:
        raise TypeError(
            f"verify: shapes={shapes!r} has {count} arrays, of which against={name} names {len(positional)} "
            "in its parameters; give a function of your own that names them all"
        )
    others = [p for p in parameters if p not in positional[:count]]
    if unknown := [k for k in keywords if k not in others]:
        hint = suggest_nearest(unknown[0], others) if others else "it takes none"
        raise TypeError(f"verify: against={name} takes no keyword {unknown[0]!r}; {hint}")
    for k in others:
        p = parameters[k]
        if p.default is p.empty and k not in keywords and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise TypeError(
                f"verify: against={name} needs {k}, which is no array of shapes={shapes!r}; "
                f"keywords={{{k!r}: [...]}} has the values to try"
            )
    return positional[:count], {k: keywords[k] for k in others if k in keywords}


def _try_out(
    rule: TorchRule, arrays: Sequence[str], domains: Sequence[Domain], shapes: str, calls: Sequence[Call]
) -> None:
    """Raise TypeError unless a rule gives what the shapes say, the same twice, and a gradient by every array.

    Args:
        rule: The rule.
        arrays: The names of its arrays.
        domains: Their domains.
        shapes: The signature.
        calls: The calls that it is tried with.
    """
    without, has_floats = {*rule.wrt}, False
    for call in calls:
        inputs = [fill_from_domain(d, s) for d, s in zip(domains, call.shapes, strict=True)]
        value, pull = rule.run(inputs, call.keywords)
        again, _ = rule.run(inputs, call.keywords)
        if not _have_shapes(shapes, [*inputs, *list_values(value)]):
            got, given = (", ".join(str(x.shape) for x in some) for some in (list_values(value), inputs))
            raise rule.make_error(
                f"returns {got} for arrays of shapes {given}, where shapes={shapes!r} says otherwise"
            )
        for one, other in zip(list_values(value), list_values(again), strict=True):
            if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
                raise rule.make_error("gives another value when it is called again; is there dropout in it?")
        has_floats |= any(v.dtype.kind == "f" for v in list_values(value))
        gradients = pull(*map(np.ones_like, list_values(value)))
        without -= {i for i, d in zip(rule.wrt, gradients, strict=True) if d is not None}
    if without and has_floats:
        names = " and ".join(arrays[i] for i in sorted(without))
        raise rule.make_error(
            f"has no gradient by {names}: what it computes from it is detached, or not used; annotate what "
            f"has none, as in {arrays[min(without)]}: gradspec.Fixed"
        )


def _have_shapes(shapes: str, arrays_and_values: Sequence[Array]) -> bool:
    """Return whether arrays, and after them values, are as many as a signature has, and have its shapes."""
    all_of_them = shapes.replace("->", ",") + "->()"
    count = len(parse_dimensions(all_of_them))
    try:
        refuse_misfits(lambda *_: None, all_of_them, [""] * count)(*arrays_and_values)
    except ValueError:
        return False
    return len(arrays_and_values) == count
