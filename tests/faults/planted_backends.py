"""Backends with a planted fault: a wrong rule on the tape, a wrong vjp, or an engine that checks nothing."""

from collections.abc import Callable, Collection
from dataclasses import replace
from inspect import CO_VARARGS, unwrap
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
BARE_ENGINE = "unguarded"  # the name of backends on an engine that knows programs of one step alone


def make_op(op: str, rule: Rule) -> Callable[..., Any]:
    """Return the op that a rule makes.

    If the rule is written `def rule(*xs)` to fit any op, the result takes its arrays as this op does.
    """
    recorded = record(rule)
    takes_many = bool(unwrap(rule).__code__.co_flags & CO_VARARGS)
    if takes_many and not OPS[op].variadic:
        return lambda *xs, **keywords: recorded(xs, **keywords)
    return recorded


def plant_rule(
    op: str, rule: Rule, dtypes: Collection[str] = SPEC_BACKEND.dtypes, nests: bool = False
) -> Backend:
    """Return the spec with another rule for one op; `nests`: NumPy within the rule can be differentiated."""
    ops = {**SPEC_BACKEND.ops, op: make_op(op, rule)}
    return replace(SPEC_BACKEND, name="faulty", ops=ops, nests=nests, dtypes=dtypes)


def make_changed_value_rule(op: str, change: Callable[[CallContext], Array]) -> Rule:
    """Return the spec's rule with its value changed."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pulls = OPS[op].rule(*xs, **keywords)
        return change(CallContext(OPS[op], xs, keywords, y)), pulls

    return rule


def make_changed_gradient_rule(
    op: str, change: Callable[[GradientContext], Array], argument: int | None = None
) -> Rule:
    """Return the spec's rule with the gradient of one argument changed, or of every argument."""

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pull_all = apply_spec_rule(op, *xs, **keywords)

        def pull(g: Array) -> Any:
            return [
                d
                if d is None or argument not in (None, i)
                else change(GradientContext(OPS[op], xs, keywords, y, i, g, d, pull_all))
                for i, d in enumerate(pull_all(g))
            ]

        return y, pull if OPS[op].differentiable else None

    return rule


def make_changed_inputs_rule(
    op: str, change: Callable[[Array], Array], forward: bool, backward: bool
) -> Rule:
    """Return the spec's rule, its value or its gradients computed from changed inputs.

    Args:
        op: The op.
        change: What to do to each array of floats.
        forward: Whether the value is computed from the changed arrays.
        backward: Whether the gradients are.
    """

    def rule(*xs: Array, **keywords: Any) -> RuleResult:
        y, pull_right = apply_spec_rule(op, *xs, **keywords)
        changed_xs = tuple(x if x.dtype.kind in "biu" else change(x) for x in xs)
        changed_y, pull_changed = apply_spec_rule(op, *changed_xs, **keywords)
        value = changed_y.astype(y.dtype) if forward else y
        if not OPS[op].differentiable:
            return value, None

        def pull(g: Array) -> Any:
            gradients = (pull_changed if backward else pull_right)(g)
            return [
                d if d is None else unbroadcast_like(d, x).astype(x.dtype)
                for d, x in zip(gradients, xs, strict=False)
            ]

        return value, pull

    return rule


def plant_vjp_change(op: str, change: Callable[..., Any]) -> Backend:
    """Return a backend of this op alone; its vjp is what `change` makes of inputs, value and pullback."""

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        return change(inputs, *SPEC_BACKEND.vjp(fn, *inputs))

    return replace(SPEC_BACKEND, name="faulty", ops={op: OPS[op]}, vjp=vjp, nests=False)


def plant_rule_on_bare_engine(op: str, rule: Rule) -> Backend:
    """Return a backend of this op alone on an engine that copies and checks nothing.

    If an array that a pullback saved is overwritten, the pullback reads what is there by then.
    """

    def vjp(fn: Callable[..., Any], *inputs: Array) -> tuple[Array, Callable[[Array], Any]]:
        leaves = [Variable(x, requires_grad=True) for x in inputs]
        value: Any = fn(*leaves)
        pulls: Any = value._pullbacks
        parents: Any = value._parents
        places = {id(leaf): k for k, leaf in enumerate(leaves)}

        def pullback(g: Array) -> list[Array]:
            gradients: list[Array] = [None] * len(leaves)
            shares: Any = pulls(g) if callable(pulls) else [p and p(g) for p in pulls]
            for parent, d in zip(parents, shares, strict=False):
                if parent is not None:
                    gradients[places[id(parent)]] = unbroadcast_like(d, parent.data)
            return gradients

        return value.data, pullback

    return replace(SPEC_BACKEND, name=BARE_ENGINE, ops={op: make_op(op, rule)}, vjp=vjp, nests=False)
