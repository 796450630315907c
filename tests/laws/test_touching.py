"""Formulas beside infinities: what kernels multiply by a masked element is open, all else is judged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.cases.firm import FirmElements
from gradspec.properties.cases.touching import run_touching
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.extremes import (
    extremes_go_where_the_spec_says,
    gradients_beside_infinite_cotangents_agree,
)
from gradspec.reference import VJP, Op, op, ops
from gradspec.reference.domains import Mask, Real
from tests.helpers.planting import make_backend_of_rules
from tests.laws.test_firm_elements import (
    is_doubled_wherever_the_value_is_not_finite,
    is_found,
    is_nan_wherever_the_value_is_not_finite,
    is_zero_wherever_the_value_is_not_finite,
    make_wrong_rule,
)

pytestmark = pytest.mark.usefixtures("restored_registry")

inf, nan = np.inf, np.nan
Array = Any


def causal_attention(q: Real, k: Real, v: Real) -> Array:
    s = np.matmul(q, np.matrix_transpose(k)) / np.sqrt(q.shape[-1]).astype(q.dtype)
    s = np.where(np.tri(q.shape[-2], dtype=np.bool_), s, -np.inf)
    e = np.exp(s - ops.stop_gradient(np.max(s, axis=-1, keepdims=True)))
    return np.matmul(e / np.sum(e, axis=-1, keepdims=True), v)


def rms_norm(x: Real, weight: Real) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * weight


def masked_logsumexp(x: Real, mask: Mask) -> Array:
    return ops.logsumexp(np.where(mask, x, -np.inf), axis=-1)


def declare_attention() -> Op:
    return op("(*b,s,d),(*b,s,d),(*b,s,d)->(*b,s,d)")(causal_attention)


DECLARATIONS: dict[str, Callable[[], Op]] = {
    "causal_attention": declare_attention,
    "rms_norm": lambda: op("(*b,n),(n)->(*b,n)")(rms_norm),
    "masked_logsumexp": lambda: op("(*b,n),(n)->(*b)")(masked_logsumexp),
}


def attend(q: Array, k: Array, v: Array, mask: Callable[[Array], Array]) -> VJP:
    """Attention as kernels have it: what is masked is 0 in p, and nothing is masked again."""
    scale = 1 / np.sqrt(q.shape[-1]).astype(q.dtype)
    s = mask(q @ np.matrix_transpose(k) * scale)
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    p = e / np.sum(e, axis=-1, keepdims=True)

    def pull(g: Array) -> tuple[Array, ...]:
        dp = g @ np.matrix_transpose(v)
        ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) * scale
        return ds @ k, np.matrix_transpose(ds) @ q, np.matrix_transpose(p) @ g

    return p @ v, pull


def attend_by_a_mask(q: Array, k: Array, v: Array) -> VJP:
    return attend(q, k, v, lambda s: np.where(np.tri(s.shape[-1], dtype=np.bool_), s, -inf))


def attend_by_an_added_mask(q: Array, k: Array, v: Array) -> VJP:
    return attend(q, k, v, lambda s: s + np.triu(np.full(s.shape[-2:], -inf, s.dtype), 1))


Q, K, V = [[1.0, 0.5], [1, 2]], [[1.0, 2], [3, 1]], [[1, 0.5], [2.0, 1]]


def make_attention_case(q: Any = Q, k: Any = K, g: Any = ((1, 2), (3, 5))) -> Case:
    return Case.of(declare_attention().address, "float64", [q, k, V], {}, g)


@pytest.mark.parametrize("number", [inf, -inf, nan, 1e300])
@pytest.mark.parametrize("rule", [attend_by_a_mask, attend_by_an_added_mask])
def test_a_right_attention_at_an_infinite_query_or_key_agrees(rule: Any, number: float) -> None:
    for case in (
        make_attention_case(q=[[1, number], [1, 2]]),
        make_attention_case(k=[[1, 2], [3, number]]),
    ):
        backend = make_backend_of_rules(**{case.op.address: rule})
        assert judge_case(extremes_go_where_the_spec_says, backend, case).verdict in ("agree", "undecidable")


@pytest.mark.parametrize("rule", [attend_by_a_mask, attend_by_an_added_mask])
def test_a_right_attention_at_an_infinite_cotangent_agrees(rule: Any) -> None:
    case = make_attention_case(g=[[inf, 2], [3, 5]])
    backend = make_backend_of_rules(**{case.op.address: rule})
    assert judge_case(gradients_beside_infinite_cotangents_agree, backend, case).verdict == "agree"


def test_the_queries_and_values_beside_an_infinite_one_are_firm() -> None:
    firm = FirmElements(make_attention_case(q=[[1, inf], [1, 2]])).outcome
    assert firm.value.tolist() == [[False] * 2, [True] * 2]
    assert firm.gradients["q"].tolist() == [[False] * 2, [True] * 2]
    assert not firm.gradients["k"].any()  # both are multiplied by the row of p that is NaN


def test_another_batch_is_firm_throughout() -> None:
    op = declare_attention()
    inputs = [[Q, [[1, inf], [1, 2]]], [K, K], [V, V]]
    firm = FirmElements(Case.of(op.address, "float64", inputs, {}, np.ones((2, 2, 2)))).outcome
    for part in (firm.value, *firm.gradients.values()):
        assert part[0].all()
        assert not part[1, 0].any()


def test_an_op_by_hand_is_run_as_ever() -> None:
    case = Case.of("where", "float64", [[True, False], [1, 2], [3, 4]], {}, [nan, nan])
    assert run_touching(case).gradients["x"].tolist()[1] == 0


@pytest.mark.parametrize("name", DECLARATIONS)
@pytest.mark.parametrize(
    "spoil",
    [
        is_nan_wherever_the_value_is_not_finite,
        is_zero_wherever_the_value_is_not_finite,
        is_doubled_wherever_the_value_is_not_finite,
    ],
)
def test_a_gradient_of_a_formula_that_is_wrong_beside_an_infinity_is_caught(name: str, spoil: Any) -> None:
    address = DECLARATIONS[name]().address
    assert is_found(address, make_wrong_rule(address, spoil))
