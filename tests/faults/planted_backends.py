"""Backends with a fault in them: of a wrong rule on the tape, of a wrong vjp, and of an engine that guards nothing."""

from collections.abc import Callable, Collection
from dataclasses import replace
from inspect import unwrap
from typing import Any

from gradspec.backends import Backend, load
from gradspec.reference import OPS, Variable, record
from tests.faults.fault import (
    Array,
    CallContext,
    GradientContext,
    Rule,
    RuleResult,
    apply_spec_rule,
    unbroadcast_like,
)

SPEC_BACKEND = load("numpy")


def make_op(op: str, rule: Rule) -> Callable[..., Any]:
    """The op that a rule makes; one written `def rule(*xs)` for whatever op takes its arrays as the op does."""
    recorded = record(rule)
    many = bool(unwrap(rule).__code__.co_flags & 0x04)  # CO_VARARGS
    return (lambda *xs, **keywords: recorded(xs, **keywords)) if many and not OPS[op].variadic else recorded


def plant_rule(
    op: str, rule: Rule, dtypes: Collection[str] = SPEC_BACKEND.dtypes, nests: bool = False
) -> Backend:
    """The spec with one op by another rule; that it nests would say that NumPy in the rule can be differentiated."""
    return replace(
        SPEC_BACKEND,
        name="faulty",
        ops={**SPEC_BACKEND.ops, op: make_op(op, rule)},
        nests=nests,
        dtypes=dtypes,
    )


def change_value(op: str, change: Callable[[CallContext], Array]) -> Rule:
    """The spec's rule with its value changed."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pulls = OPS[op].rule(*xs, **keywords)
        return change(CallContext(OPS[op], xs, keywords, y)), pulls

    return rule


def change_gradient(op: str, change: Callable[[GradientContext], Array], argument: int | None = None) -> Rule:
    """The spec's rule with the gradient of one argument changed, or of each."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pulled = apply_spec_rule(op, *xs, **keywords)

        def pull(g: Array) -> Any:
            return [
                d
                if d is None or argument not in (None, i)
                else change(GradientContext(OPS[op], xs, keywords, y, i, g, d, pulled))
                for i, d in enumerate(pulled(g))
            ]

        return y, pull if OPS[op].differentiable else None

    return rule


def change_inputs(op: str, change: Callable[[Array], Array], forward: bool, backward: bool) -> Rule:
    """The spec's rule, its value or its gradients computed from other inputs than those given."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pulled = apply_spec_rule(op, *xs, **keywords)
        others = tuple(x if x.dtype.kind in "biu" else change(x) for x in xs)
        other_y, other = apply_spec_rule(op, *others, **keywords)
        value = other_y.astype(y.dtype) if forward else y
        if not OPS[op].differentiable:
            return value, None

        def pull(g: Array) -> Any:
            given = (other if backward else pulled)(g)
            return [
                d if d is None else unbroadcast_like(d, x).astype(x.dtype)
                for d, x in zip(given, xs, strict=False)
            ]

        return value, pull

    return rule


def plant_vjp_change(op: str, change: Callable[..., Any]) -> Backend:
    """The spec's op alone, with a changed vjp: of the right one's inputs, value and pullback `change` makes another pair."""

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        return change(inputs, *SPEC_BACKEND.vjp(fn, *inputs))

    return replace(SPEC_BACKEND, name="faulty", ops={op: SPEC_BACKEND.ops[op]}, vjp=vjp, nests=False)


def plant_rule_unguarded(op: str, rule: Rule) -> Backend:
    """A wrong rule, or a right one, on an engine that copies nothing and checks nothing: what is saved is whatever lies there."""

    def vjp(fn: Callable[..., Any], *inputs: Array) -> tuple[Array, Callable[[Array], Any]]:
        leaves = [Variable(x, requires_grad=True) for x in inputs]
        value: Any = fn(*leaves)
        pulls: Any = value._pullbacks
        parents: Any = value._parents
        places = {id(leaf): k for k, leaf in enumerate(leaves)}

        def pullback(g: Array) -> list[Array]:
            gradients: list[Array] = [None] * len(leaves)
            pulled: Any = pulls(g) if callable(pulls) else [p and p(g) for p in pulls]
            for parent, d in zip(parents, pulled, strict=False):
                if parent is not None:
                    gradients[places[id(parent)]] = unbroadcast_like(d, parent.data)
            return gradients

        return value.data, pullback

    return replace(SPEC_BACKEND, name="unguarded", ops={op: make_op(op, rule)}, vjp=vjp, nests=False)
