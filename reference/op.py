"""An op: a rule or a formula, and the mathematical facts that everything else is derived from."""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradspec.reference.calls import DrawCall, IntegerArrayBelow
from gradspec.reference.derived import Formula, apply_formula, get_formula
from gradspec.reference.domains import Booleans, Domain, Integers, Interval
from gradspec.reference.kink_distances import KinkDistanceFunction
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array, Rule
from gradspec.reference.several_values import pick_value
from gradspec.reference.signatures import broadcasts, is_elementwise, parse_core_dimensions

Settle = Callable[..., Sequence[Array]]
"""From the arguments of a call to as many arrays of their shapes; equal ones where nothing has to move."""

OPS: dict[str, "Op"] = {}
"""Every op, by its address: those of the spec, and those that have been declared elsewhere so far."""


@dataclass(frozen=True, eq=False)
class Op:
    """An op of the spec, callable on arrays and on tensors.

    Attributes:
        name: its name; of an op of the spec that in the Array API standard, or torch's where that has none.
        rule: the function from arrays to value and pullbacks; of a derived op, the vjp of its formula. An op
            of several values has a tuple of them, and pullbacks that take one cotangent for each.
        apply: the rule made an op by `record`, or the formula itself; it takes the arrays by position.
        arguments: the names of its array arguments.
        domains: the domain of each of them.
        keywords: the names of its metadata.
        variadic: whether it takes one sequence of arrays instead of a fixed number of arguments.
        differentiable: whether it has pullbacks.
        cases: draws the calls it can be tried with.
        signature: its signature; None if its arguments constrain each other.
        kinks: the distances to the points of its domain where it has no derivative; None if there are none.
        options: with a signature, the values that each keyword may have.
        has_zero_gradient: whether it has no pullbacks although its value is of floating point, like sign.
        usual_rules: other rules of the same function, right ones that many libraries use, although they lose
            digits where `rule` does not. Those of a derived op that its ops give it come last.
        parts: of a derived op, the addresses of the ops with usual rules that its formula is made of.
        module: the name of the module that declares it; "" for an op of the spec.
        definition: what it is declared by, as `describe_definition` returns it.
        float_values: for each value of an op of several values, whether it is of floats; empty for one value.
        value_count_varies: whether it depends on the call how many values there are; `float_values` is then
            that of the smallest call.
        whole: of an op that has only a picked one of several values, the op that has them all, else None.
        picked: the number of the picked value, -1 for the last; None if none is picked.
        settle: moves arguments that constrain each other to where the function is defined; None if none do.
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
    parts: tuple[str, ...] = ()
    module: str = ""
    definition: Any = None
    float_values: tuple[bool, ...] = ()
    value_count_varies: bool = False
    whole: "Op | None" = None
    picked: int | None = None
    settle: Settle | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Arrays may be passed by name.
        if kwargs and not self.variadic and not kwargs.keys().isdisjoint(self.arguments):
            bound = inspect.signature(self.rule).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        return self.apply(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<op {self.address}>" if self.picked is None else f"<op {self.address}, value {self.picked}>"

    @property
    def address(self) -> str:
        """What it is looked up by: its name, or "module:name" if it is declared outside of the spec.

        So two ops may have the same name.
        """
        return f"{self.module}:{self.name}" if self.module else self.name

    @property
    def formula(self) -> Formula | None:
        """The formula of a derived op; None for one whose rule is written by hand."""
        return get_formula(self.rule)

    @property
    def has_several_values(self) -> bool:
        """Whether its value is a tuple; not if one of them is picked."""
        return bool(self.float_values) and self.picked is None

    @cached_property
    def value_forms(self) -> tuple["Op", ...]:
        """The op with each of its values picked in turn, the op itself if it has one.

        If it depends on the call how many there are, these are the first and the last.
        """
        if not self.has_several_values:
            return (self,)
        return tuple(map(self.pick, (0, -1) if self.value_count_varies else range(len(self.float_values))))

    def pick(self, number: int) -> "Op":
        """Return the op with one of its several values picked: an op of one value, of the same name.

        Raises:
            ValueError: for an op of one value, or the number of a value that it does not have.
        """
        if not self.has_several_values or not (self.value_count_varies or self._has_value(number)):
            raise ValueError(f"op {self.name!r} has no value {number} to be picked from several")
        if number not in self._by_picked:
            is_float = self.float_values[0 if self.value_count_varies else number]
            self._by_picked[number] = replace(
                self,
                rule=pick_value(self.rule, number),
                apply=lambda *args, **keywords: self.apply(*args, **keywords)[number],
                usual_rules=tuple(pick_value(rule, number) for rule in self.usual_rules),
                differentiable=self.differentiable and is_float,
                has_zero_gradient=self.has_zero_gradient and is_float,
                whole=self,
                picked=number,
            )
        return self._by_picked[number]

    def _has_value(self, number: int) -> bool:
        return number in range(len(self.float_values))

    @cached_property
    def _by_picked(self) -> dict[int, "Op"]:
        return {}

    def compute_value(self, *arrays: Array, **keywords: Any) -> Any:
        """Return the value for arrays, each a positional argument; nothing is made ready for pullbacks.

        It is a tuple of arrays if the op has several values.
        """
        return self.apply(arrays, **keywords) if self.variadic else self.apply(*arrays, **keywords)

    def settle_arguments(self, arrays: Sequence[Array], keywords: Mapping[str, Any]) -> tuple[Array, ...]:
        """Return the arrays of a call, moved to where the function is defined."""
        return tuple(arrays if self.settle is None else self.settle(*arrays, **keywords))

    def is_defined(self, arrays: Sequence[Array], keywords: Mapping[str, Any]) -> bool:
        """Return whether the function is defined for all arrays of a call together."""
        return self.settle is None or all(
            np.array_equal(now, before, equal_nan=True)
            for now, before in zip(self.settle_arguments(arrays, keywords), arrays, strict=True)
        )

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
        if self.whole is not None and self.picked is not None:
            return tuple(form.pick(self.picked) for form in self.whole.usual_forms)
        return tuple(replace(self.with_rule(rule), usual_rules=()) for rule in self.usual_rules)

    def with_rule(self, rule: Rule) -> "Op":
        """Return the op by another rule, which may be that of a formula."""
        formula = get_formula(rule)
        apply = (
            record(rule, elementwise=self.elementwise and not self.float_values)
            if formula is None
            else apply_formula(formula, self.has_gradient, self.variadic)
        )
        return replace(self, rule=rule, apply=apply)

    @property
    def has_gradient(self) -> tuple[bool, ...]:
        """For each argument, whether its domain is one of numbers with a gradient."""
        return tuple(isinstance(d, Interval) and d.has_gradient for d in self.domains)

    @cached_property
    def has_mixed_dtypes(self) -> bool:
        """Whether some arguments are float32 where others are 16-bit floats."""
        return any(isinstance(d, Interval) and d.at_least_float32 for d in self.domains)

    @property
    def core_ranks(self) -> tuple[int, ...]:
        """How many core dimensions the signature gives each argument; empty without a signature."""
        return tuple(map(len, parse_core_dimensions(self.signature))) if self.signature else ()

    @property
    def elementwise(self) -> bool:
        """Whether each element of the value depends on one element of every argument."""
        return self.signature is not None and is_elementwise(self.signature)

    @property
    def broadcasts(self) -> bool:
        """Whether its arguments are broadcast before their core dimensions."""
        return self.signature is not None and broadcasts(self.signature)

    def argument_name(self, i: int) -> str:
        """Return the name of the i-th array of a call."""
        return f"{self.arguments[0]}[{i}]" if self.variadic else self.arguments[i]

    def differentiable_arguments(self, count: int) -> tuple[int, ...]:
        """Return the indices of the arrays that have a gradient, in a call with `count` arrays."""
        has = self.has_gradient
        return tuple(i for i in range(count) if self.differentiable and has[0 if self.variadic else i])


def fill_from_domain(domain: Domain, shape: Any) -> Array:
    """Return an array filled with one value of the domain, of dtype float64, int64 (zeros) or bool (True).

    Args:
        domain: the domain.
        shape: the shape of the array; an `IntegerArrayBelow` for integers, which get the simplest ones.
    """
    if isinstance(shape, IntegerArrayBelow):
        return shape.pick(np.zeros(shape.shape, np.int64))
    if isinstance(domain, Integers):
        return np.zeros(shape, np.int64)
    if isinstance(domain, Booleans):
        return np.ones(shape, np.bool_)
    steps = (2.0**-k for k in itertools.count())
    return np.full(shape, next(x for d in steps for x in (d, domain.low + d, domain.high - d) if x in domain))
