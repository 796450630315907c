"""What is observed of an op is true, misses nothing that is known, and depends on nothing but the op."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends.addresses import find_op
from gradspec.properties.cases import symmetries as s
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.observed.batches import find_batch_axes, is_batch, may_be_batch
from gradspec.properties.cases.observed.movement import moves_elements
from gradspec.properties.cases.observed.sample_cases import make_sample_case, make_sample_cases
from gradspec.properties.cases.observed.sums import Sums, observe_sums
from gradspec.properties.cases.observed.symmetries import is_symmetric, observe_symmetries
from gradspec.properties.laws import batches, symmetries
from gradspec.properties.laws.batches import a_batch_equals_its_members
from gradspec.properties.laws.symmetries import symmetries_are_kept
from gradspec.reference import op
from gradspec.reference.axes import normalize_axes
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, draw_shape
from gradspec.reference.domains import Index, Real
from gradspec.reference.rule import VJP
from tests.helpers.forms import FORMS
from tests.helpers.planting import make_backend_of_rules

Array = Any

FORWARD, BACKWARD, BOTH = Sums(True, False), Sums(False, True), Sums(True, True)

KNOWN_SUMS = {
    **dict.fromkeys(("sum", "mean", "var", "logsumexp", "cross_entropy"), FORWARD),
    **dict.fromkeys(("softmax", "log_softmax", "layer_norm", "linear", "matmul"), BOTH),
    **dict.fromkeys(
        ("add", "subtract", "multiply", "divide", "pow", "where"), BACKWARD
    ),  # what was broadcast
    **dict.fromkeys(("maximum", "minimum", "clip", "broadcast_to"), BACKWARD),  # likewise
    **dict.fromkeys(("getitem", "take_along_axis"), BACKWARD),  # an index that recurs
    "index_add": FORWARD,  # likewise
    **dict.fromkeys(("cumulative_sum", "einsum"), BOTH),
}
"""Every op that adds up; the others do not."""

BACKWARD_BY_FORMULA = {"logsumexp", "cross_entropy"}
"""Ops whose pullback adds up in one formula (e / sum e, the probability of all others) and not in another."""

KNOWN_SYMMETRIES: dict[str, tuple[s.Symmetry, ...]] = {
    "softmax": (s.SHIFT_INVARIANT, s.ORDER_EQUIVARIANT),
    "log_softmax": (s.SHIFT_INVARIANT, s.ORDER_EQUIVARIANT),
    "layer_norm": (s.SMALL_SHIFT_INVARIANT,),
    "logsumexp": (s.SMALL_SHIFT_EQUIVARIANT, s.ORDER_INVARIANT),
    "max": (s.SHIFT_EQUIVARIANT, s.ORDER_INVARIANT, s.SCALE_EQUIVARIANT),
    "min": (s.SHIFT_EQUIVARIANT, s.ORDER_INVARIANT, s.SCALE_EQUIVARIANT),
    "mean": (s.SHIFT_EQUIVARIANT, s.ORDER_INVARIANT, s.SCALE_EQUIVARIANT),
    "sum": (s.ORDER_INVARIANT, s.SCALE_EQUIVARIANT),
    "var": (s.SHIFT_INVARIANT, s.ORDER_INVARIANT, s.SCALE_QUADRATIC),
    "relu": (s.SCALE_EQUIVARIANT,),
    "abs": (s.SCALE_EQUIVARIANT,),
    "square": (s.SCALE_QUADRATIC,),
}
"""What is known since long."""

FURTHER_SYMMETRIES: dict[str, tuple[tuple[s.Symmetry, str], ...]] = {
    "negative": ((s.SCALE_EQUIVARIANT, "-(2 x) = 2 (-x)"),),
    "add": ((s.SHIFT_EQUIVARIANT, "(x + c) + y = (x + y) + c, and its gradients are constant"),),
    "subtract": ((s.SHIFT_EQUIVARIANT, "(x + c) - y = (x - y) + c, and its gradients are constant"),),
    "prod": ((s.ORDER_INVARIANT, "a product does not depend on the order of its factors"),),
    "argmax": ((s.SHIFT_INVARIANT, "the largest element remains the largest"),),
    "argmin": ((s.SHIFT_INVARIANT, "the smallest element remains the smallest"),),
    "cumulative_sum": ((s.SCALE_EQUIVARIANT, "a sum of doubled numbers is the doubled sum"),),
    "index_add": ((s.SHIFT_EQUIVARIANT, "(x + c) + s = (x + s) + c, and its gradients are constant"),),
    "take_along_axis": (
        (s.SHIFT_EQUIVARIANT, "what is taken is an element of x, whatever was added to all"),
        (s.SCALE_EQUIVARIANT, "likewise, whatever all were multiplied by"),
    ),
    "sort[0]": (
        (s.SHIFT_EQUIVARIANT, "the order is the same, whatever was added to all"),
        (s.SCALE_EQUIVARIANT, "likewise, whatever positive all were multiplied by"),
    ),
    "sort[1]": ((s.SHIFT_INVARIANT, "the order is the same, whatever was added to all"),),
    "cross_entropy": ((s.SHIFT_INVARIANT, "it is made of log_softmax(x), which is invariant"),),
}
"""What was found besides, and why it is true."""

KNOWN_BATCHES = (
    *("sum", "mean", "max", "min", "prod", "var", "logsumexp", "argmax", "argmin"),
    *("softmax", "log_softmax", "flip", "layer_norm", "linear"),
)
"""Ops without a signature of which calls are known to be batches; those of cross_entropy may be, too."""

NO_BATCHES = {"broadcast_to"}
"""Ops without a signature of which no call is a batch: the shape that is asked for is one of the keywords."""


def test_what_adds_up_is_observed() -> None:
    observed = {name: observe_sums(op) for name, op in FORMS.items()}
    for name in BACKWARD_BY_FORMULA:
        observed[name] = replace(observed[name], backward=False)
    assert {name: sums for name, sums in observed.items() if sums.forward or sums.backward} == KNOWN_SUMS


def test_every_known_symmetry_is_observed_and_any_other_has_a_reason() -> None:
    expected = {name: set(known) for name, known in KNOWN_SYMMETRIES.items()}
    for name, further in FURTHER_SYMMETRIES.items():
        expected[name] = expected.get(name, set()) | {symmetry for symmetry, _ in further}
    observed = {name: set(observe_symmetries(op)) for name, op in FORMS.items() if observe_symmetries(op)}
    assert observed == expected


def test_ops_of_which_calls_are_batches_are_observed() -> None:
    assert {name for name, op in FORMS.items() if not may_be_batch(op)} == NO_BATCHES


def test_ops_that_only_move_elements_are_observed() -> None:
    movers = {"reshape", "permute_dims", "matrix_transpose", "expand_dims", "squeeze", "broadcast_to"}
    assert {name for name, op in FORMS.items() if moves_elements(op)} == movers | {
        "flip",
        "concat",
        "stack",
        "getitem",
        "unstack[0]",
        "unstack[-1]",
    }


@pytest.mark.parametrize("name", [name for name, op in FORMS.items() if observe_symmetries(op)])
def test_an_observed_symmetry_holds_on_other_cases(name: str) -> None:
    cases = [make_sample_case(FORMS[name], seed) for seed in range(1000, 1060)]
    for symmetry in observe_symmetries(FORMS[name]):
        broken = [case for case in cases if symmetry.applies_to(case) and not is_symmetric(case, symmetry)]
        assert not broken, symmetry.name


@pytest.mark.parametrize("name", [name for name, op in FORMS.items() if may_be_batch(op)])
def test_an_observed_batch_is_one_with_other_numbers_and_more_members(name: str) -> None:
    for seed in range(1000, 1030):
        case = make_sample_case(FORMS[name], seed)
        batch = find_batch_axes(case) if case.cotangent.size else None
        if batch:
            assert is_batch(case, batch, times=7), (batch, case)


def find_declared_batch_axes(case: Case) -> tuple[int, ...]:
    """Return the axes of the value that are known, by the name of the op, to be those of a batch."""
    x, name = case.inputs[0], case.op.name
    if name in {"layer_norm", "linear"}:
        return tuple(range(x.ndim - (case.inputs[1].ndim if name == "layer_norm" else 1)))
    if name in {"softmax", "log_softmax", "flip"}:
        reduced = normalize_axes(case.keywords["axis"], x.ndim)
        return tuple(i for i in range(x.ndim) if i not in reduced)
    return tuple(range(case.cotangent.ndim))  # of reductions, unless keepdims


@pytest.mark.parametrize("name", KNOWN_BATCHES)
def test_every_known_batch_is_observed(name: str) -> None:
    for case in make_sample_cases(FORMS[name]):
        if find_declared_batch_axes(case) and not case.keywords.get("keepdims"):
            assert find_batch_axes(case), case


def test_facts_depend_on_nothing_but_the_op(restored_registry: None) -> None:
    """Neither on what was observed before nor on the state of any random generator."""
    first = [(observe_sums(op), observe_symmetries(op)) for op in FORMS.values()]
    again: list[Any] = []
    for name in reversed(list(FORMS)):
        same_rule: Callable[..., VJP] = lambda *xs, rule=FORMS[name].rule, **keywords: rule(*xs, **keywords)
        copy = replace(FORMS[name], rule=same_rule)
        np.random.seed(len(again))  # noqa: NPY002
        again.append((observe_sums(copy), observe_symmetries(copy)))
    assert again[::-1] == first


# What holds on the sample cases and not everywhere must accuse nobody


def _draw_head(choose: Choices) -> Call:
    return Call((draw_shape(choose, 1, 3),), {"count": 500})


def head(x: Real, *, count: int) -> VJP:
    return x[:count] * 2, (lambda g: np.concatenate([g * 2, np.zeros_like(x[count:])]),)


def soft_limit(x: Real) -> VJP:
    return np.minimum(x, 1e5), (lambda g: np.where(x < 1e5, g, 0),)


def test_a_batch_that_ends_somewhere_accuses_nobody(
    restored_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    op(_draw_head)(head)
    assert may_be_batch(find_op("head"))
    case = Case.of("head", "float64", [[1.0, 2, 3]], {"count": 500}, [1.0, -1, 2])
    backend = make_backend_of_rules(head=head)
    judgement = a_batch_equals_its_members(backend, case)
    assert (judgement.verdict, judgement.informative) == ("agree", False)
    monkeypatch.setattr(batches, "_is_batch_by_spec", lambda *_: True)
    with pytest.raises(ValueError, match="cotangent has shape"):
        a_batch_equals_its_members(backend, case)


def _draw_channels(choose: Choices) -> Call:
    n, c, s = (length or 1 for length in draw_shape(choose, 3, 3))
    return Call(((n, c, s), (c,)))


def normalize_channels(x: Real, weight: Real) -> Array:
    return x / (1 + np.sum(x * x, axis=1, keepdims=True)) * weight[:, None]


def _draw_rows(choose: Choices) -> Call:
    v, n = (length or 1 for length in draw_shape(choose, 2, 2))
    return Call(((v,), IntegerArrayBelow((n,), v)))


def count_rows(x: Real, index: Index) -> Array:
    return x + np.sum(index == np.arange(x.shape[0])[:, None], axis=-1).astype(x.dtype)


@pytest.mark.parametrize(
    ("draw", "formula", "inputs", "cotangent"),
    [
        (_draw_channels, normalize_channels, ([[[1.0, 2]]], [1.0]), [[[1.0, -1]]]),
        (_draw_rows, count_rows, (np.ones(17), np.array([16])), np.arange(17.0)),
    ],
)
def test_what_a_formula_takes_and_its_declaration_never_draws_accuses_nobody(
    restored_registry: None, draw: Any, formula: Any, inputs: Any, cotangent: Any
) -> None:
    """The one broadcasts, the other compares with an index that is too large; a kernel may refuse both."""
    declared: Any = op(draw)(formula)

    def refuse(x: Array, y: Array) -> VJP:
        if y.dtype.kind == "i" and y.size and y.max() >= x.shape[0]:
            raise IndexError("out of bounds")
        if y.dtype.kind == "f" and x.shape[1] != y.size:
            raise ValueError("x and weight do not fit")
        return declared.rule(x, y)  # type: ignore[no-any-return]

    case = Case.of(declared.address, "float64", inputs, {}, cotangent)
    judgement = a_batch_equals_its_members(make_backend_of_rules(**{declared.name: refuse}), case)
    assert judgement.verdict == "agree", judgement


def test_a_symmetry_that_ends_somewhere_accuses_nobody(
    restored_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    op("()->()")(soft_limit)
    assert s.SCALE_EQUIVARIANT in observe_symmetries(find_op("soft_limit"))
    case = Case.of("soft_limit", "float64", [[0.8e5, 1]], {}, [1.0, -1])
    backend = make_backend_of_rules(soft_limit=soft_limit)
    assert symmetries_are_kept(backend, case).verdict == "agree"
    monkeypatch.setattr(symmetries, "is_symmetric", lambda *_: True)
    monkeypatch.setattr(symmetries, "_is_right", lambda *_: False)
    assert symmetries_are_kept(backend, case).verdict == "disagree"


def test_a_symmetry_of_small_numbers_alone_is_none(restored_registry: None) -> None:
    def huber(x: Real) -> VJP:
        return np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5), (lambda g: g * np.clip(x, -1, 1),)

    op("()->()")(huber)
    assert observe_symmetries(find_op("huber")) == ()


@pytest.mark.parametrize(
    ("rule", "adds_up"),
    [
        (lambda x: np.einsum("...i->...", x), True),
        (lambda x: np.einsum("i,j->ij", x.ravel(), x.ravel()), False),
        (lambda x: x.cumsum(-1), True),
        (lambda x: np.convolve(x.ravel(), x.ravel()), True),
        (lambda x: x.mean(-1), True),
        (lambda x: np.vecdot(x, x), True),
        (lambda x: (x > 0).sum(-1) * x[..., 0], False),  # a count
        (lambda x: np.sum(x[..., :1], axis=-1), False),  # a sum of one
    ],
)
def test_sums_in_any_words_are_noted(restored_registry: None, rule: Any, adds_up: bool) -> None:
    def summing(x: Real) -> VJP:
        return rule(x), None

    op(lambda choose: Call((draw_shape(choose, 1, 2),)))(summing)
    assert observe_sums(find_op("summing")).forward == adds_up
