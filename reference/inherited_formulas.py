"""Usual formulas of a derived op by those of the ops that its formula is made of.

The formula is run on the usual form of each op, all at once: where one writes np.tanh(x) * weight, kernels
compute 1 - y * y for the derivative, as they do for tanh itself. So it is for what a formula writes out since
NumPy has no name for it (`written_out`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from gradspec.reference.calls import Call
from gradspec.reference.derived import Formula, derive_rule, get_formula_class
from gradspec.reference.forms import list_usual_forms, use_forms
from gradspec.reference.op import OPS, Op
from gradspec.reference.rule import Array
from gradspec.reference.written_out import is_anything_written_out, make_usual_forms


def inherit_usual_rules(op: Op, calls: Iterable[tuple[Call, list[Array]]]) -> Op:
    """Return a derived op with the usual rules, too, that it has by its parts.

    Args:
        op: the op.
        calls: calls of it, with arrays in float64, which show what it is made of.
    """
    formula, kind, wrt = op.formula, get_formula_class(), op.has_gradient
    assert formula is not None
    with_usual_rules = {address: part for address, part in OPS.items() if part.usual_rules}
    parts, writes_out = set[str](), False
    for call, inputs in calls:
        has = [wrt[0 if op.variadic else i] for i in range(len(inputs))]
        xs = [kind(x, requires_grad=True) if h else x for x, h in zip(inputs, has, strict=True)]
        run = partial(formula, *xs, **call.keywords)
        parts |= _find_called_ops(run, with_usual_rules)
        writes_out |= is_anything_written_out(run)
    forms = list_usual_forms(parts)
    if writes_out:
        forms.append({**(forms[-1] if forms else {}), **make_usual_forms()})
    rules = [derive_rule(_run_on_forms(formula, f), wrt, op.variadic) for f in forms]
    return replace(op, usual_rules=(*op.usual_rules, *rules), parts=tuple(sorted(parts)))


def _find_called_ops(call: Callable[[], Any], ops: Mapping[str, Op]) -> set[str]:
    """Return which ops a program calls.

    Args:
        call: runs the program on variables.
        ops: the ops to look out for, by address.
    """
    called: set[str] = set()

    def note(address: str, apply: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **keywords: Any) -> Any:
            called.add(address)
            return apply(*args, **keywords)

        return noting

    with use_forms({address: replace(op, apply=note(address, op.apply)) for address, op in ops.items()}):
        call()
    return called


def _run_on_forms(formula: Formula, forms: Mapping[str, Op]) -> Formula:
    """Return the formula made of these forms of ops."""

    @wraps(formula)
    def usual(*args: Any, **keywords: Any) -> Any:
        with use_forms(forms):
            return formula(*args, **keywords)

    return usual
