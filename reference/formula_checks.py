"""What is asked of a formula when it is declared: whatever it does on arrays it does on tensors, too.

It is run on a few small calls, on arrays and on tensors that take note of what has kinks. An op whose formula
compares, or is made of ops with kinks, has kinks itself as far as anyone can see, and must say where.

Does not see: what a formula computes from `x.data` or `x.item()`, and a branch that none of the calls takes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradspec.reference.calls import Call
from gradspec.reference.derived import Formula, get_formula_class
from gradspec.reference.op import Op
from gradspec.reference.rule import Array, Rule
from gradspec.reference.tape import Variable

RELATIVE_DIFFERENCE = 1e-9
"""By which arrays and tensors may differ in float64, besides 1e-8: both run the same operations."""

HOW_TO_WRITE = (
    "methods of tensors are torch's; write NumPy's functions, such as np.mean(x, axis=-1, keepdims=True) for "
    "x.mean(-1, keepdims=True), np.size(x) for x.size"
)
HOW_TO_DECLARE_KINKS = (
    "say where: kinks=points(0), kinks=ties or a function of the arguments that returns the distance of each "
    "element to the nearest kink (gradspec.reference.kink_distances); kinks=smooth if there is none after "
    "all; or put stop_gradient(...) around what only shifts the numbers, such as the maximum in a softmax"
)


def run_on_arrays(op: Op, function: Callable[..., Any], call: Call, inputs: Sequence[Array]) -> Any:
    """Return what a rule or formula of an op returns for the arrays of a call; ValueError if it raises."""
    try:
        return function(*inputs, **call.keywords)
    except Exception as error:
        shapes = [np.shape(x) for x in inputs]
        has_further_axes = any(len(s) > rank for s, rank in zip(shapes, op.core_ranks, strict=False))
        advice = (
            f"; as there is no star in the signature {op.signature!r}, axes before the named ones are "
            f"broadcast: if it has none, write shapes={op.signature!r}"
        )
        raise ValueError(
            f"op {op.name!r}: it raises {type(error).__name__} in a call with shapes {shapes} and keywords "
            f"{call.keywords}: {error}{advice if op.broadcasts and has_further_axes else ''}"
        ) from error


def check_formula(
    op: Op, formula: Formula, call: Call, inputs: Sequence[Array], wrt: Sequence[int]
) -> list[Array]:
    """Return the values of a formula on arrays; TypeError unless tensors give the same, and float32 float32.

    Args:
        op: the op.
        formula: the formula.
        call: the call that the inputs are of.
        inputs: arrays in float64, integers and booleans.
        wrt: the numbers of those that have a gradient.
    """
    outcome = run_on_arrays(op, formula, call, inputs)
    values = list_values(outcome)
    if not values or any(isinstance(v, tuple | list | dict) or v is None for v in values):
        raise TypeError(
            f"op {op.name!r}: it returns {outcome!r:.80}; a formula returns an array, or a tuple of them for "
            "several values, a rule a value and a tuple of pullbacks"
        )
    narrow = [x.astype(np.float32) if x.dtype == np.float64 else x for x in inputs]
    for value in map(np.asarray, list_values(formula(*narrow, **call.keywords))):
        if value.dtype.kind == "f" and value.dtype != np.float32 and wrt:
            raise TypeError(
                f"op {op.name!r}: its formula returns {value.dtype} for arrays of float32; make constants in "
                "the dtype of an argument, as in np.ones(n, x.dtype) or np.arange(n).astype(x.dtype)"
            )
    tensors = [get_formula_class()(x, requires_grad=i in wrt) for i, x in enumerate(inputs)]
    try:
        on_tensors = formula(*[tensors[i] if i in wrt else x for i, x in enumerate(inputs)], **call.keywords)
    except (TypeError, AttributeError, ValueError) as error:
        raise TypeError(
            f"op {op.name!r}: its formula works on arrays and not on tensors, which give it its pullbacks: "
            f"{error}; {HOW_TO_WRITE}"
        ) from error
    expected = list(map(np.asarray, values))
    got = [v.data if isinstance(v, Variable) else np.asarray(v) for v in list_values(on_tensors)]
    if len(got) != len(expected) or not all(map(_are_alike, got, expected)):
        raise TypeError(
            f"op {op.name!r}: its formula gives another value on tensors than on arrays, in a call with "
            f"shapes {call.shapes} and keywords {call.keywords}; {HOW_TO_WRITE}, np.var(x) for x.var()"
        )
    return expected


def list_values(outcome: Any) -> list[Any]:
    """Return the values of a formula, of which there may be one."""
    return list(outcome) if isinstance(outcome, tuple) else [outcome]


def _are_alike(got: Array, value: Array) -> bool:
    return got.shape == value.shape and np.allclose(got, value, RELATIVE_DIFFERENCE, equal_nan=True)


def is_on_tape(formula: Formula, call: Call, inputs: Sequence[Array], wrt: Sequence[int]) -> bool:
    """Return whether a value of a formula has a gradient with respect to any of its arguments."""
    kind = get_formula_class()
    outcome = formula(
        *[kind(x, requires_grad=True) if i in wrt else x for i, x in enumerate(inputs)], **call.keywords
    )
    return any(isinstance(v, Variable) and v.requires_grad for v in list_values(outcome))


def find_hidden_kinks(
    formula: Formula,
    call: Call,
    inputs: Sequence[Array],
    wrt: Sequence[int],
    kinked_rules: Mapping[Rule, str],
    constant_rules: Mapping[Rule, str],
) -> set[str]:
    """Return what has kinks in a formula, on one call: names of ops, of comparisons.

    Args:
        formula: the formula.
        call: the call that the inputs are of.
        inputs: its arrays.
        wrt: the numbers of those that have a gradient.
        kinked_rules: the names of the differentiable ops with kinks, by their rules.
        constant_rules: likewise, of those without pullbacks, such as comparisons and sign.
    """
    notes: set[str] = set()

    def note(rule: Any) -> None:
        name = rule if isinstance(rule, str) else constant_rules.get(rule)
        if name is not None:
            notes.add(name)

    kind = type(
        "NotingTensor", (get_formula_class(),), {"__slots__": (), "note_constant": staticmethod(note)}
    )
    xs = [kind(x, requires_grad=True) if i in wrt else x for i, x in enumerate(inputs)]
    values = list_values(formula(*xs, **call.keywords))
    return notes | {kinked_rules[r] for r in _list_rules(values) if r in kinked_rules}


def _list_rules(values: Sequence[Any]) -> set[Rule]:
    """Return the rules of all ops that values were computed by, as far as the tape leads to leaves."""
    waiting, seen, rules = [v for v in values if isinstance(v, Variable)], set[int](), set[Rule]()
    while waiting:
        x = waiting.pop()
        if x._parents and x._sequence_nr not in seen:
            seen.add(x._sequence_nr)
            call = x._rule_call
            rule = call[0] if isinstance(call, tuple) else call
            rules.add(getattr(rule, "of", rule))  # of several values, the bundle's rule is made of the op's
            waiting.extend(parent for parent in x._parents if parent is not None)
    return rules
