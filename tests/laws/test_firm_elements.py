"""Firm elements: what lies beside infinities, masks and NaN is judged; what they had a part in is open."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.extremes import make_extreme
from gradspec.properties.cases.firm import FirmElements
from gradspec.properties.cases.infinities import find_ordinary_infinities, ignores_numbers
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.extremes import extremes_go_where_the_spec_says
from gradspec.properties.running.profiles import PROFILES
from gradspec.reference import OPS, VJP, record
from tests.faults.fault import apply_spec_rule, unbroadcast_like
from tests.helpers.planting import GENERATE_ONLY_SETTINGS, find_violation, make_backend_of_rules
from tests.laws.test_extremes import draw_extreme_cases

inf, nan = np.inf, np.nan
Array = Any
SpoilGradient = Callable[[Array, Array, Array], Array]
"""From the right gradient, the value and the input to a wrong gradient."""

DEFAULT_SETTINGS = settings(GENERATE_ONLY_SETTINGS, max_examples=PROFILES["default"])
COMBINING_OPS = (
    *("logsumexp", "log_softmax", "softmax", "cross_entropy", "max", "min", "sum", "mean", "linear"),
    *("matmul", "prod", "concat", "layer_norm", "var", "where", "getitem"),
)
MASKED_OPS = ("logsumexp", "log_softmax", "softmax", "cross_entropy", "max", "sum", "mean", "concat")


def make_wrong_rule(
    op: str,
    spoil_gradient: SpoilGradient = lambda gradient, y, x: gradient,
    spoil_value: Callable[[Array, Array], Array] = lambda y, x: y,
) -> Callable[..., VJP]:
    """Return the rule of an op with its gradients spoilt, or its value, by a function of it and the input."""

    @functools.wraps(OPS[op].rule)
    def rule(*xs: Array, **keywords: Any) -> VJP:
        y, pull = apply_spec_rule(op, *xs, **keywords)

        def pull_wrongly(g: Array) -> Any:
            return tuple(
                None
                if d is None
                else np.asarray(spoil_gradient(unbroadcast_like(d, x), y, x)).astype(x.dtype)
                for d, x in zip(pull(g), xs, strict=True)
            )

        return np.asarray(spoil_value(y, xs[0])).astype(np.asarray(y).dtype), pull_wrongly

    return rule


def has_row_of_minus_inf(x: Array) -> bool:
    """Whether an array has a row, along any axis, of -inf throughout, and another one."""
    rows = [np.all(x == -inf, axis=i) for i in range(np.ndim(x))]
    return any(row.any() and not row.all() for row in rows)


def is_nan_wherever_the_value_is_infinite(gradient: Array, y: Array, x: Array) -> Array:
    return gradient * nan if np.isinf(y).any() else gradient


def is_nan_wherever_the_value_is_not_finite(gradient: Array, y: Array, x: Array) -> Array:
    return gradient * nan if not np.isfinite(y).all() else gradient


def is_zero_wherever_the_value_is_not_finite(gradient: Array, y: Array, x: Array) -> Array:
    return np.zeros_like(gradient) if not np.isfinite(y).all() else gradient


def is_doubled_wherever_the_value_is_not_finite(gradient: Array, y: Array, x: Array) -> Array:
    return gradient * 2 if not np.isfinite(y).all() else gradient


def is_nan_beside_a_row_of_minus_inf(gradient: Array, y: Array, x: Array) -> Array:
    return gradient * nan if has_row_of_minus_inf(x) else gradient


def is_nan_at_minus_inf(gradient: Array, y: Array, x: Array) -> Array:
    return np.where(x == -inf, nan, gradient)


def is_off_at_minus_inf(gradient: Array, y: Array, x: Array) -> Array:
    return np.where(x == -inf, gradient + 0.5, gradient)


def is_nan_in_a_row_with_minus_inf(gradient: Array, y: Array, x: Array) -> Array:
    return np.where(np.any(x == -inf, axis=-1, keepdims=True), nan, gradient)


def finite_values_are_nan_beside_others(y: Array, x: Array) -> Array:
    return y if np.isfinite(y).all() else np.where(np.isfinite(y), nan, y)


def finite_values_are_nan_beside_a_row_of_minus_inf(y: Array, x: Array) -> Array:
    return np.where(np.isfinite(y), nan, y) if has_row_of_minus_inf(x) else y


def is_found(op: str, rule: Callable[..., VJP]) -> bool:
    """Whether as many examples as the default profile has find the rule wrong."""
    backend = make_backend_of_rules(**{op: rule})
    with np.errstate(all="ignore"):
        found = find_violation(
            extremes_go_where_the_spec_says,
            backend,
            draw_cases=draw_extreme_cases,
            example_settings=DEFAULT_SETTINGS,
        )
    return found is not None


@pytest.mark.parametrize("op", COMBINING_OPS)
def test_a_gradient_that_an_infinity_makes_nan_throughout_is_caught(op: str) -> None:
    # The value of softmax is never infinite, but NaN.
    spoil = is_nan_wherever_the_value_is_infinite
    spoil = is_nan_wherever_the_value_is_not_finite if op == "softmax" else spoil
    assert is_found(op, make_wrong_rule(op, spoil))


@pytest.mark.rotating
@pytest.mark.parametrize(
    "spoil",
    [
        is_nan_wherever_the_value_is_not_finite,
        is_zero_wherever_the_value_is_not_finite,
        is_doubled_wherever_the_value_is_not_finite,
    ],
)
@pytest.mark.parametrize("op", COMBINING_OPS)
def test_a_gradient_that_is_wrong_beside_an_infinity_is_caught(op: str, spoil: SpoilGradient) -> None:
    assert is_found(op, make_wrong_rule(op, spoil))


@pytest.mark.rotating
@pytest.mark.parametrize(
    "spoil", [is_nan_beside_a_row_of_minus_inf, is_nan_at_minus_inf, is_off_at_minus_inf]
)
@pytest.mark.parametrize("op", MASKED_OPS)
def test_a_gradient_that_a_mask_makes_wrong_is_caught(op: str, spoil: SpoilGradient) -> None:
    assert is_found(op, make_wrong_rule(op, spoil))


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_a_row_that_its_mask_makes_nan_is_caught(op: str) -> None:
    assert is_found(op, make_wrong_rule(op, is_nan_in_a_row_with_minus_inf))


def multiply_sums_of_blocks(x: Array, y: Array) -> Any:
    """Products of blocks of even matrices are added and cancel later, as Strassen's do: inf - inf is NaN."""
    z, pull = apply_spec_rule("matmul", x, y)
    if x.ndim == y.ndim == 2 and not any(n % 2 for n in (*x.shape, *y.shape)):
        upper = np.matmul(x[: len(x) // 2], y)
        z = z + np.concat([np.matmul(x[len(x) // 2 :], y)] * 2) * 0 + np.concat([upper] * 2) * 0
    return z, pull


def test_an_infinity_that_blocks_of_a_matrix_spread_is_caught() -> None:
    assert is_found("matmul", multiply_sums_of_blocks)


@pytest.mark.rotating
@pytest.mark.parametrize("op", COMBINING_OPS)
def test_a_value_that_is_nan_beside_an_infinity_is_caught(op: str) -> None:
    assert is_found(op, make_wrong_rule(op, spoil_value=finite_values_are_nan_beside_others))


@pytest.mark.rotating
@pytest.mark.parametrize("op", [op for op in MASKED_OPS if op != "cross_entropy"])
def test_a_value_that_is_nan_beside_a_row_of_minus_inf_is_caught(op: str) -> None:
    assert is_found(op, make_wrong_rule(op, spoil_value=finite_values_are_nan_beside_a_row_of_minus_inf))


@pytest.mark.parametrize("op", ["logsumexp", "softmax", "log_softmax", "max"])
def test_a_row_of_minus_inf_excuses_no_other_row(op: str) -> None:
    """Whatever the spec's formula meets in that row, an overflow or a logarithm of 0."""
    cotangent = [1, 2] if op in ("logsumexp", "max") else [[1, 2], [3, 5]]
    case = Case.of(op, "float64", [[[-inf, -inf], [0, 1]]], {"axis": 1}, cotangent)
    backend = make_backend_of_rules(**{op: make_wrong_rule(op, is_nan_beside_a_row_of_minus_inf)})
    assert judge_case(extremes_go_where_the_spec_says, backend, case).verdict == "disagree"


def test_what_a_row_of_minus_inf_throughout_gets_is_open() -> None:
    def logsumexp_as_torch_has_it(x: Any, *, axis: Any = None, keepdims: bool = False) -> VJP:
        y, _ = OPS["logsumexp"].rule(x, axis=axis, keepdims=True)
        return OPS["logsumexp"].rule(x, axis=axis, keepdims=keepdims)[0], (
            lambda g: np.reshape(g, y.shape) * np.exp(x - y),  # NaN for -inf - -inf
        )

    backend = make_backend_of_rules(logsumexp=logsumexp_as_torch_has_it)
    x = [[-inf, -inf], [1, -inf]]
    case = Case.of("logsumexp", "float64", [x], {"axis": 1, "keepdims": False}, [1, 2])
    assert judge_case(extremes_go_where_the_spec_says, backend, case).verdict == "agree"


@pytest.mark.parametrize(
    ("op", "infinities", "ignores"),
    [
        *((op, (-inf,), False) for op in ("logsumexp", "softmax", "log_softmax", "cross_entropy")),
        *((op, (), False) for op in ("prod", "var", "matmul", "linear", "layer_norm")),
        *((op, (-inf, inf), False) for op in ("max", "min")),
        *((op, (-inf, inf), True) for op in ("sum", "mean", "concat", "stack", "getitem", "broadcast_to")),
    ],
)
def test_what_masks_go_into_is_observed(op: str, infinities: tuple[float, ...], ignores: bool) -> None:
    assert find_ordinary_infinities(OPS[op], 0) == infinities
    assert ignores_numbers(OPS[op], 0) == ignores


def test_masks_go_into_the_bias_of_linear() -> None:
    assert find_ordinary_infinities(OPS["linear"], 2) == (-inf, inf)
    assert ignores_numbers(OPS["linear"], 2)


def find_firm(op: str, *inputs: Any, cotangent: Any, **keywords: Any) -> tuple[Any, Any]:
    """Return where the value is firm, and where the gradient of the first argument is."""
    case = Case.of(op, "float64", inputs, keywords, cotangent)
    outcome = FirmElements(case).outcome
    return outcome.value.tolist(), outcome.gradients[case.op.argument_name(0)].tolist()


@pytest.mark.parametrize(
    ("rows", "is_firm"),
    [
        ([[1, -inf, 2], [1, 2, 3]], [True, True]),
        ([[1, nan, 2], [1, 2, 3]], [False, True]),
        ([[1, 1e300, 2], [1, 2, 3]], [False, True]),
        ([[-inf, -inf, -inf], [1, 2, -inf]], [False, True]),
    ],
)
@pytest.mark.parametrize("op", ["logsumexp", "max"])
def test_a_row_is_firm_unless_an_extraordinary_number_is_in_it(op: str, rows: Any, is_firm: Any) -> None:
    value, gradient = find_firm(op, rows, cotangent=[1, 2], axis=1, keepdims=False)
    assert value == is_firm
    assert gradient == [[firm] * 3 for firm in is_firm]


def test_the_gradient_of_a_sum_is_firm_whatever_is_added() -> None:
    value, gradient = find_firm("sum", [[1, nan], [1, 2]], cotangent=[1, 2], axis=1, keepdims=False)
    assert value == [False, True]
    assert gradient == [[True, True], [True, True]]


def test_a_product_of_matrices_is_firm_in_the_other_rows() -> None:
    value, gradient = find_firm("matmul", [[1, inf], [1, 2]], [[1], [2]], cotangent=[[1], [2]])
    assert value == [[False], [True]]
    assert gradient == [[False, False], [True, True]]


def test_an_op_that_moves_nan_to_the_end_of_its_row_touches_that_row() -> None:
    def sort(x: Array, *, axis: Any = -1) -> VJP:
        order = np.argsort(x, axis=-1, kind="stable")
        return np.take_along_axis(x, order, -1), (
            lambda g: np.take_along_axis(g, np.argsort(order, axis=-1), -1),
        )

    op = replace(OPS["softmax"], name="sort", rule=sort, apply=record(sort))
    inputs = (np.array([[3, nan, 2], [3, 1, 2]]),)
    outcome = FirmElements(Case(op, "float64", inputs, {}, np.array([[1.0, 2, 3], [4, 5, 6]]))).outcome
    assert outcome.gradients["x"].tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize(("op", "least"), [("softmax", 0.25), ("max", 0.2), ("cross_entropy", 0.25)])
def test_masks_are_drawn_often(op: str, least: float) -> None:
    """A mask is a -inf in an array of numbers that are otherwise ordinary, or NaN."""
    rng = np.random.default_rng(0)
    inputs = [np.array([[1.0, 2, 3], [4, 5, 6]])]
    keywords: dict[str, Any] = {"axis": 1}
    case = Case.of(op, "float64", inputs, keywords, np.ones((2, 3)) if op == "softmax" else [1, 2])
    if op == "cross_entropy":
        case = Case.of(op, "float64", [*inputs, [0, 1]], {"reduction": "none"}, [1, 2])
    drawn = [make_extreme(case, rng).inputs[0] for _ in range(300)]
    masked = [np.any(x == -inf) and np.all((x == -inf) | ~(np.abs(x) >= 7)) for x in drawn]
    assert least < np.mean(masked) < 0.6
