"""General faults of ops of several values: which of their cotangents count, and which value is which."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.reference import OPS, Op
from tests.faults import planted_backends
from tests.faults.fault import (
    GRADIENT_PROPERTY,
    SEVERAL_VALUES_PROPERTY,
    VALUE_PROPERTY,
    Array,
    RuleResult,
    apply_spec_rule,
    spell_out_name,
)
from tests.faults.general import GENERAL_FAULTS, GeneralFault

KIND_COTANGENTS = "cotangents"

Pull = Callable[..., Sequence[Array]]
"""From one cotangent per value to the gradients."""

WrongPull = Callable[[Pull, Sequence[Array], Sequence[Array]], Sequence[Array]]
"""Makes wrong gradients, given the right pullback, the cotangents and the values."""


def has_several_values(form: Op) -> bool:
    return form.whole is not None


def has_several_float_values(form: Op) -> bool:
    whole = form.whole
    return whole is not None and (whole.value_count_varies or sum(whole.float_values) > 1)


def make_wrong_pull_rule(op: str | Op, wrong: WrongPull) -> Callable[..., RuleResult]:
    """Return the spec's rule of an op of several values with another pullback."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        values, pull = apply_spec_rule(op, *xs, **keywords)
        return values, lambda *gs: wrong(pull, gs, values)

    return rule


def cotangents_fault(
    *, applies_to: Callable[[Op], bool] = has_several_float_values, likely: str = SEVERAL_VALUES_PROPERTY
) -> Callable[[WrongPull], WrongPull]:
    """Declare a wrong pullback as a fault of every op of several values; its name is the whole sentence."""

    def declare(wrong: WrongPull) -> WrongPull:
        def plant(op: str, _: int | None) -> Backend:
            return planted_backends.plant_rule(op, make_wrong_pull_rule(op, wrong))

        is_affected = lambda form: form.differentiable and applies_to(form)
        GENERAL_FAULTS.append(
            GeneralFault(KIND_COTANGENTS, spell_out_name(wrong), plant, is_affected, likely=likely)
        )
        return wrong

    return declare


def forget_others(gs: Sequence[Array], kept: int) -> list[Array]:
    return [g if k == kept else np.zeros_like(g) for k, g in enumerate(gs)]


@cotangents_fault()
def the_other_cotangents_are_forgotten_where_the_first_counts(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    return pull(*(forget_others(gs, 0) if np.any(gs[0]) else gs))


@cotangents_fault()
def the_last_cotangent_is_forgotten_where_another_counts(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    return pull(*gs[:-1], np.zeros_like(gs[-1]) if any(map(np.any, gs[:-1])) else gs[-1])


@cotangents_fault()
def cotangents_are_averaged_where_several_count(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    count = max(sum(bool(np.any(g)) for g in gs), 1)
    return [d if d is None else (d / count).astype(d.dtype) for d in pull(*gs)]


@cotangents_fault(likely=GRADIENT_PROPERTY)
def cotangents_are_swapped(pull: Pull, gs: Sequence[Array], values: Sequence[Array]) -> Sequence[Array]:
    return pull(*gs[::-1])


@cotangents_fault(likely=GRADIENT_PROPERTY)
def the_last_cotangent_never_counts(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    return pull(*gs[:-1], np.zeros_like(gs[-1]))


@cotangents_fault(likely=GRADIENT_PROPERTY)
def zeros_are_missing_for_an_unused_value(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    """As where a framework passes None for the cotangent of what is unused, and the kernel multiplies it."""
    floats = [g for g, v in zip(gs, values, strict=True) if v.dtype.kind == "f"]
    if len(floats) > 1 and not all(map(np.any, floats)):
        raise TypeError("unsupported operand type(s) for *: 'NoneType' and 'float'")
    return pull(*gs)


@cotangents_fault(likely=GRADIENT_PROPERTY)
def the_pullback_of_the_last_value_alone_returns_none(
    pull: Pull, gs: Sequence[Array], values: Sequence[Array]
) -> Sequence[Array]:
    return pull(*gs) if any(map(np.any, gs[:-1])) else [None] * len(pull(*gs))


def register_value_fault(name: str, change: Callable[[tuple[Array, ...]], Any]) -> None:
    """Register a change of the tuple of values as a fault of every op that has several."""

    def plant(op: str, _: int | None) -> Backend:
        def rule(*xs: Array, **keywords: Any) -> RuleResult:
            values, pulls = OPS[op].rule(*xs, **keywords)
            return change(values), pulls

        return planted_backends.plant_rule(op, rule)

    GENERAL_FAULTS.append(
        GeneralFault(KIND_COTANGENTS, name, plant, has_several_values, likely=VALUE_PROPERTY)
    )


register_value_fault("values come in the reverse order", lambda values: values[::-1])
register_value_fault("the last value is missing", lambda values: values[:-1] or values)
register_value_fault("the values are one array", lambda values: np.asarray(values[0]))
