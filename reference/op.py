"""The declaration of an op: a rule, and the mathematical facts that everything else is derived from."""

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradspec.reference.calls import (
    DrawCall,
    SeededChoices,
    SmallestChoices,
    from_signature,
    parse_core_dimensions,
)
from gradspec.reference.domains import Booleans, Domain, Integers, Interval
from gradspec.reference.kink_distances import KinkDistanceFunction
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array, Rule
from gradspec.reference.usual_formulas import check_agreement, check_same_parameters

OPS: dict[str, "Op"] = {}
"""Every op of the spec, by its name in the Array API standard (torch's name where the standard has none)."""

CALLS_TO_COMPARE = 8
"""On how many calls formulas are compared, unless calls are alike: each keyword has all its values then."""

COMPARED_LENGTHS = (2, 3, 1)
"""The lengths of the axes of these calls."""


@dataclass(frozen=True, eq=False)
class Op:
    """An op of the spec, callable on arrays and on tensors.

    Attributes:
        name: its name.
        rule: the function from arrays to value and pullbacks.
        apply: the rule made an op by `record`; it takes the arrays by position.
        arguments: the names of its array arguments.
        domains: the domain of each of them.
        keywords: the names of its metadata.
        variadic: whether it takes one sequence of arrays instead of a fixed number of arguments.
        differentiable: whether it has pullbacks.
        cases: draws the calls it can be tried with.
        signature: its gufunc signature; None if its arguments constrain each other.
        kinks: the distances to the points of its domain where it has no derivative; None if there are none.
        options: with a signature, the values that each keyword may have.
        has_zero_gradient: whether it has no pullbacks although its value is of floating point, like sign.
        usual_rules: other rules of the same function, right ones that many libraries use, although they lose
            digits where `rule` does not.
    """

    name: str
    rule: Callable[..., VJP]
    apply: Callable[..., Any]
    arguments: tuple[str, ...]
    domains: tuple[Domain, ...]
    keywords: tuple[str, ...]
    variadic: bool
    differentiable: bool
    draw_call: DrawCall
    signature: str | None
    kinks: KinkDistanceFunction | None
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    has_zero_gradient: bool = False
    usual_rules: tuple[Rule, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Arrays may be passed by name.
        if kwargs and not self.variadic and not kwargs.keys().isdisjoint(self.arguments):
            bound = inspect.signature(self.rule).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        return self.apply(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def domain(self, i: int) -> Domain:
        """Return the domain of the i-th array of a call."""
        return self.domains[0 if self.variadic else i]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The defaults of arguments and keywords, by name."""
        parameters = inspect.signature(self.rule).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    @cached_property
    def usual_forms(self) -> tuple["Op", ...]:
        """The op by each of its usual rules, for whatever runs the op; only the first form is in `OPS`."""
        return tuple(
            replace(self, rule=rule, apply=record(rule, elementwise=self.elementwise), usual_rules=())
            for rule in self.usual_rules
        )

    @property
    def core_ranks(self) -> tuple[int, ...]:
        """How many core dimensions the signature gives each argument; empty without a signature."""
        return tuple(map(len, parse_core_dimensions(self.signature))) if self.signature else ()

    @property
    def elementwise(self) -> bool:
        """Whether each element of the value depends on one element of every argument."""
        return self.signature is not None and not any(self.core_ranks)

    def argument_name(self, i: int) -> str:
        """Return the name of the i-th array of a call."""
        return f"{self.arguments[0]}[{i}]" if self.variadic else self.arguments[i]

    def differentiable_arguments(self, count: int) -> tuple[int, ...]:
        """Return the indices of the arrays that have a gradient, in a call with `count` arrays."""
        return tuple(i for i in range(count) if self.differentiable and isinstance(self.domain(i), Interval))


def op(
    cases: str | DrawCall,
    *,
    kinks: KinkDistanceFunction | None = None,
    also: Sequence[Rule] = (),
    **keywords: Sequence[Any],
) -> Callable[[Callable[..., VJP]], Op]:
    """Declare the decorated rule as an op of the spec under its own name.

    Args:
        cases: a gufunc signature, or a function of a `Choices` for ops whose arguments constrain each other.
        kinks: the distances to the op's kinks, if it has any.
        also: usual formulas of the op, beside the decorated rule, which is the stable one. They take the same
            parameters.
        **keywords: with a signature, the values that each keyword of the op may have.

    Raises:
        TypeError: at import, for an argument without a domain or a keyword without a sequence of values.
        ValueError: at import, for facts that contradict each other, such as a name declared twice,
            pullbacks that do not match the arguments, or a usual formula of another function.
    """

    def declare(rule: Callable[..., VJP]) -> Op:
        name = rule.__name__
        for keyword, options in keywords.items():
            if not isinstance(options, Sequence):
                raise TypeError(
                    f"op {name!r}: option {keyword} must be a sequence of allowed values, got {options!r}"
                )
        if name in OPS:
            raise ValueError(f"op {name!r} is declared twice")
        parameters = inspect.signature(rule).parameters.values()
        arrays = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        new_op = Op(
            name=name,
            rule=rule,
            apply=record(rule, elementwise=isinstance(cases, str) and not any(parse_core_dimensions(cases))),
            arguments=tuple(p.name for p in arrays),
            domains=_read_domains(rule, [p.name for p in arrays]),
            keywords=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
            variadic=any(p.kind is p.VAR_POSITIONAL for p in arrays),
            differentiable=True,
            draw_call=from_signature(cases, keywords) if isinstance(cases, str) else cases,
            signature=cases if isinstance(cases, str) else None,
            options=keywords,
            kinks=kinks,
            usual_rules=tuple(also),
        )
        new_op = _complete_by_smallest_call(new_op)
        _check_usual_forms(new_op)
        OPS[name] = new_op
        return new_op

    return declare


def _read_domains(rule: Callable[..., VJP], arguments: list[str]) -> tuple[Domain, ...]:
    """Return the domains that annotate the arguments; TypeError for one without."""
    hints = typing.get_type_hints(rule, include_extras=True)
    for argument in arguments:
        if not isinstance(next(iter(getattr(hints.get(argument), "__metadata__", ())), None), Domain):
            raise TypeError(
                f"op {rule.__name__!r}: argument {argument!r} needs a domain as its type, such as Real"
            )
    return tuple(hints[argument].__metadata__[0] for argument in arguments)


def _complete_by_smallest_call(op: Op) -> Op:
    """Check on the op's smallest call that facts and pullbacks agree, and return the completed op.

    What the call shows of it is `differentiable` and `has_zero_gradient`.
    """
    call, kinks = op.draw_call(SmallestChoices()), op.kinks
    if not op.variadic and len(call.shapes) != len(op.arguments):
        raise ValueError(
            f"op {op.name!r}: {len(op.arguments)} arguments, but cases of {len(call.shapes)} arrays; "
            "they must be as many"
        )
    if unknown := set(call.keywords) - set(op.keywords):
        raise ValueError(
            f"op {op.name!r}: its cases have keywords {sorted(unknown)}, which its rule does not take"
        )
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    value, pullbacks = op.rule(*inputs, **call.keywords)
    has_zero_gradient = pullbacks is None and np.asarray(value).dtype.kind == "f"
    op = replace(op, differentiable=pullbacks is not None, has_zero_gradient=has_zero_gradient)
    shapes = [x.shape for x in inputs]
    distances = shapes if kinks is None else [np.shape(d) for d in kinks(*inputs, **call.keywords)]
    if distances != shapes:
        raise ValueError(
            f"op {op.name!r}: `kinks` returns distances of shapes {distances} for arrays of shapes {shapes}; "
            "they must be the same"
        )
    if pullbacks is not None:
        _check_pullbacks(op, inputs, value, pullbacks)
    return op


def _check_usual_forms(op: Op) -> None:
    """Raise ValueError unless the usual rules have the op's parameters, pullbacks, values and gradients."""
    for form in op.usual_forms:
        check_same_parameters(op.name, op.rule, form.rule)
        if _complete_by_smallest_call(form).differentiable != op.differentiable:
            has, other_has = ("no pullbacks", "some") if op.differentiable else ("pullbacks", "none")
            raise ValueError(
                f"op {op.name!r}: its usual formula {form.rule.__name__!r} has {has}, its rule {other_has}"
            )
    alike = op.elementwise and not op.options
    for seed in range((2 if alike else CALLS_TO_COMPARE) if op.usual_rules else 0):
        call = op.draw_call(SeededChoices(seed, COMPARED_LENGTHS))
        arrays = range(len(call.shapes))
        domains, names = [op.domain(i) for i in arrays], [op.argument_name(i) for i in arrays]
        check_agreement(op.name, (op.rule, *op.usual_rules), call, domains, names, seed)


def _check_pullbacks(op: Op, inputs: list[Array], value: Array, pullbacks: Any) -> None:
    """Raise ValueError unless exactly the differentiable arguments have a pullback."""
    differentiable = op.differentiable_arguments(len(inputs))
    expected = ["pullback" if i in differentiable else "None" for i in range(len(inputs))]
    results: Any = pullbacks(np.ones_like(value)) if callable(pullbacks) else pullbacks
    actual = ["None" if p is None else "pullback" for p in results]
    if actual != expected:
        form = "" if op.rule.__name__ == op.name else f", usual formula {op.rule.__name__!r}"
        raise ValueError(
            f"op {op.name!r}{form}: needs one pullback for each of its {len(inputs)} arrays, and None for "
            f"just those without a gradient: {expected}; has {actual}"
        )


def fill_from_domain(domain: Domain, shape: Any) -> Array:
    """Return an array filled with one value of the domain, of dtype float64, int64 (zeros) or bool (True).

    Args:
        domain: the domain.
        shape: the shape of the array; an `IntegersBelow` for integers.
    """
    if isinstance(domain, Integers):
        return np.zeros(shape.shape, np.int64)
    if isinstance(domain, Booleans):
        return np.ones(shape, np.bool_)
    steps = (2.0**-k for k in itertools.count())
    return np.full(shape, next(x for d in steps for x in (d, domain.low + d, domain.high - d) if x in domain))
