"""The declaration of an op: a rule, and beside it the mathematical facts that everything else is derived from."""

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradspec.reference.cases import Cases, SmallestChoices, from_signature, parse_core_dimensions
from gradspec.reference.domains import Booleans, Domain, Integers, Interval
from gradspec.reference.kink_distances import KinkDistances
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array

OPS: dict[str, "Op"] = {}
"""Every op of the spec, by its name in the Array API standard (torch's name where the standard has none)."""


@dataclass(frozen=True, eq=False)
class Op:
    """An op of the spec, callable on arrays and on tensors.

    name: its name. rule: from arrays to value and pullbacks. arguments: the names of its array arguments. domains: where
    each of them lives. cases: the calls it can be tried with. keywords: the names of its metadata. variadic: whether it
    takes one sequence of arrays instead of a fixed number of arguments. differentiable: whether it has pullbacks. kinks:
    where, in its domain, it still has no derivative; None for nowhere. signature: as a gufunc; None where the arguments
    constrain each other. options: with a signature, what each keyword may be. flat: whether it has no pullbacks though its
    value is of floats, as that of sign.
    """

    name: str
    rule: Callable[..., VJP]
    apply: Callable[..., Any]
    arguments: tuple[str, ...]
    domains: tuple[Domain, ...]
    keywords: tuple[str, ...]
    variadic: bool
    differentiable: bool
    cases: Cases
    signature: str | None
    kinks: KinkDistances | None
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    has_zero_gradient: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (
            kwargs and not self.variadic and not kwargs.keys().isdisjoint(self.arguments)
        ):  # arrays given by name
            bound = inspect.signature(self.rule).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        return self.apply(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def domain(self, i: int) -> Domain:
        """The domain of the i-th array of a call."""
        return self.domains[0 if self.variadic else i]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What arguments and keywords are where a call leaves them out, by their names."""
        parameters = inspect.signature(self.rule).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    @property
    def core_ranks(self) -> tuple[int, ...]:
        """How many core dimensions each argument has by the signature; empty for ops without one."""
        return tuple(map(len, parse_core_dimensions(self.signature))) if self.signature else ()

    @property
    def elementwise(self) -> bool:
        """Whether each element of the value depends on one element of every argument."""
        return self.signature is not None and not any(self.core_ranks)

    def argument_name(self, i: int) -> str:
        """The name of the i-th array of a call."""
        return f"{self.arguments[0]}[{i}]" if self.variadic else self.arguments[i]

    def differentiable_arguments(self, count: int) -> tuple[int, ...]:
        """Which of the `count` arrays of a call have a gradient."""
        return tuple(i for i in range(count) if self.differentiable and isinstance(self.domain(i), Interval))


def op(
    cases: str | Cases, *, kinks: KinkDistances | None = None, **keywords: Sequence[Any]
) -> Callable[[Callable[..., VJP]], Op]:
    """Declare the decorated rule as an op of the spec under its own name.

    cases: a gufunc signature, or a function of a `Choices` for ops whose arguments constrain each other. keywords: with a
    signature, what the op's keywords may be.
    Raises TypeError or ValueError, at import, for facts that are missing or contradict each other: an argument without a
    domain, a name declared twice, pullbacks that do not match the arguments.
    """

    def declare(rule: Callable[..., VJP]) -> Op:
        name = rule.__name__
        for keyword, options in keywords.items():
            if not isinstance(options, Sequence):
                raise TypeError(
                    f"op {name!r}: {keyword}={options!r} is no fact; what a keyword may be is a sequence"
                )
        if name in OPS:
            raise ValueError(f"op {name!r} is declared twice")
        parameters = inspect.signature(rule).parameters.values()
        arrays = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        declared = Op(
            name=name,
            rule=rule,
            apply=record(rule, elementwise=isinstance(cases, str) and not any(parse_core_dimensions(cases))),
            arguments=tuple(p.name for p in arrays),
            domains=_read_domains(rule, [p.name for p in arrays]),
            keywords=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
            variadic=any(p.kind is p.VAR_POSITIONAL for p in arrays),
            differentiable=True,
            cases=from_signature(cases, keywords) if isinstance(cases, str) else cases,
            signature=cases if isinstance(cases, str) else None,
            options=keywords,
            kinks=kinks,
        )
        OPS[name] = declared = _check_smallest_call(declared)
        return declared

    return declare


def _read_domains(rule: Callable[..., VJP], arguments: list[str]) -> tuple[Domain, ...]:
    hints = typing.get_type_hints(rule, include_extras=True)
    for argument in arguments:
        if not isinstance(next(iter(getattr(hints.get(argument), "__metadata__", ())), None), Domain):
            raise TypeError(
                f"op {rule.__name__!r}: argument {argument!r} needs a domain as its type, such as Real"
            )
    return tuple(hints[argument].__metadata__[0] for argument in arguments)


def _check_smallest_call(declared: Op) -> Op:
    """The op with `differentiable` as found, once its smallest case has shown that facts and pullbacks agree."""
    call, kinks = declared.cases(SmallestChoices()), declared.kinks
    if not declared.variadic and len(call.shapes) != len(declared.arguments):
        raise ValueError(
            f"op {declared.name!r}: {len(declared.arguments)} arguments, but cases of {len(call.shapes)} arrays"
        )
    if unknown := set(call.keywords) - set(declared.keywords):
        raise ValueError(
            f"op {declared.name!r}: its cases have keywords {sorted(unknown)} that its rule does not take"
        )
    inputs = [fill_from_domain(declared.domain(i), s) for i, s in enumerate(call.shapes)]
    value, pullbacks = declared.rule(*inputs, **call.keywords)
    flat = pullbacks is None and np.asarray(value).dtype.kind == "f"
    found = replace(declared, differentiable=pullbacks is not None, has_zero_gradient=flat)
    shapes = [x.shape for x in inputs]
    distances = shapes if kinks is None else [np.shape(d) for d in kinks(*inputs, **call.keywords)]
    if distances != shapes:
        raise ValueError(
            f"op {declared.name!r}: distances to its kinks of {distances} for arrays of {shapes}"
        )
    if pullbacks is not None:
        _check_pullbacks(found, inputs, value, pullbacks)
    return found


def _check_pullbacks(declared: Op, inputs: list[Array], value: Array, pullbacks: Any) -> None:
    expected = declared.differentiable_arguments(len(inputs))
    needed = ["pullback" if i in expected else "None" for i in range(len(inputs))]
    given: Any = pullbacks(np.ones_like(value)) if callable(pullbacks) else pullbacks
    has = ["None" if p is None else "pullback" for p in given]
    if has != needed:
        raise ValueError(
            f"op {declared.name!r}: needs one pullback for each of its {len(inputs)} arrays, and None for just those "
            f"without a gradient: {needed}; has {has}"
        )


def fill_from_domain(domain: Domain, shape: Any) -> Array:
    """An array of this shape (a `Below` for integers) filled with one value of the domain: float64, int64 zeros or True."""
    if isinstance(domain, Integers):
        return np.zeros(shape.shape, np.int64)
    if isinstance(domain, Booleans):
        return np.ones(shape, np.bool_)
    steps = (2.0**-k for k in itertools.count())
    return np.full(shape, next(x for d in steps for x in (d, domain.low + d, domain.high - d) if x in domain))
