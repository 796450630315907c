"""Cotangents of several values at once: what only they show, and an LSTM cell declared by its formula."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from gradspec.backends import Backend, load
from gradspec.backends.addresses import find_op
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.linearity import pullback_is_linear_in_the_cotangent
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.second_order import make_moderate, second_derivatives_agree
from gradspec.properties.laws.several_values import all_cotangents_count_together, make_cotangents
from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.laws.spec import spec_agrees_with_numerical_differentiation
from gradspec.properties.laws.value import value_agrees
from gradspec.properties.running.targets import OpUnderTest
from gradspec.reference import OPS, VJP, Op, op, ops
from gradspec.reference.calls import Call, Choices
from gradspec.reference.domains import Real
from tests.faults import by_cotangents as faults
from tests.faults.planted_backends import make_op
from tests.helpers.planting import GENERATE_ONLY_SETTINGS, find_violation, make_backend_of_ops

FEW_EXAMPLES = settings(GENERATE_ONLY_SETTINGS, max_examples=8)
"""Of an LSTM cell, whose gradients in higher precision take long."""

LAWS_OF_ONE_VALUE = (
    value_agrees,
    every_gradient_agrees,
    pullback_is_linear_in_the_cotangent,
    shapes_and_dtypes_are_kept,
    calls_leave_no_trace,
)

FOUND_TOGETHER_ALONE = (
    faults.the_other_cotangents_are_forgotten_where_the_first_counts,
    faults.the_last_cotangent_is_forgotten_where_another_counts,
    faults.cotangents_are_averaged_where_several_count,
)
"""Pullbacks that are right as long as one cotangent counts."""

FOUND_BY_GRADIENTS = (
    faults.cotangents_are_swapped,
    faults.the_last_cotangent_never_counts,
    faults.zeros_are_missing_for_an_unused_value,
    faults.the_pullback_of_the_last_value_alone_returns_none,
)


def draw_lstm_cell(choose: Choices) -> Call:
    batch, inputs, units = (choose.of([2, 1, 3]) for _ in range(3))
    weights = (4 * units, inputs), (4 * units, units), (4 * units,)
    return Call(((batch, inputs), (batch, units), (batch, units), *weights))


def lstm_cell(x: Real, h: Real, c: Real, weight_x: Real, weight_h: Real, bias: Real) -> Any:
    gates = x @ np.matrix_transpose(weight_x) + h @ np.matrix_transpose(weight_h) + bias
    i, f, g, o = np.split(gates, 4, axis=-1)
    new_c = ops.sigmoid(f) * c + ops.sigmoid(i) * np.tanh(g)
    return ops.sigmoid(o) * np.tanh(new_c), new_c


def lstm_cell_as_kernels_differentiate_it(
    x: Real, h: Real, c: Real, weight_x: Real, weight_h: Real, bias: Real
) -> VJP:
    """Take the gradients of sigmoid and tanh from their values, which loses digits near 1."""
    gates = x @ np.matrix_transpose(weight_x) + h @ np.matrix_transpose(weight_h) + bias
    before_i, before_f, before_g, before_o = np.split(gates, 4, axis=-1)
    i, f, o = ops.sigmoid(before_i), ops.sigmoid(before_f), ops.sigmoid(before_o)
    g = np.tanh(before_g)
    new_c = f * c + i * g
    bent = np.tanh(new_c)

    def pull(to_h: Any, to_c: Any) -> Any:
        to_c = to_c + to_h * o * (1 - bent * bent)
        to_gates = [
            to_c * g * i * (1 - i),
            to_c * c * f * (1 - f),
            to_c * i * (1 - g * g),
            to_h * bent * o * (1 - o),
        ]
        d = np.concat(to_gates, axis=-1)
        turned = np.matrix_transpose(d)
        return d @ weight_x, d @ weight_h, to_c * f, turned @ x, turned @ h, np.sum(d, axis=0)

    return (o * bent, new_c), pull


@pytest.fixture(scope="module")
def declared() -> Iterator[Op]:
    lstm = op(draw_lstm_cell, also=[lstm_cell_as_kernels_differentiate_it])(lstm_cell)
    yield lstm
    del OPS[lstm.address]


@pytest.fixture
def on_torch(declared: Op) -> Backend:
    torch = pytest.importorskip("torch")

    def cell(x: Any, h: Any, c: Any, weight_x: Any, weight_h: Any, bias: Any) -> Any:
        return torch.lstm_cell(x, (h, c), weight_x, weight_h, bias, torch.zeros_like(bias))

    dtypes = {"float64", "float32"}
    return load("torch").with_ops(name="torch-lstm", lstm_cell=cell, dtypes=dtypes, nests=False)


def draw_moderate(target: OpUnderTest) -> Any:
    """Draw cases of ordinary numbers: small ones underflow elsewhere, multiplied in another order."""
    return target.cases(cases_per_example=2).map(lambda cases: list(map(make_moderate, cases)))


# What is right


def test_an_lstm_cell_is_declared_by_its_formula(declared: Op) -> None:
    assert (declared.float_values, declared.differentiable) == ((True, True), True)
    assert [form.picked for form in declared.value_forms] == [0, 1]


@pytest.mark.rotating
@pytest.mark.parametrize("law", [*LAWS_OF_ONE_VALUE, all_cotangents_count_together])
def test_the_lstm_cell_of_torch_agrees(law: Any, on_torch: Backend) -> None:
    violation = find_violation(law, on_torch, example_settings=FEW_EXAMPLES, draw_cases=draw_moderate)
    assert violation is None


@pytest.mark.rotating
@pytest.mark.parametrize("law", [spec_agrees_with_numerical_differentiation, second_derivatives_agree])
def test_the_spec_of_the_lstm_cell_agrees(law: Any, declared: Op) -> None:
    spec = make_backend_of_ops({"lstm_cell": declared.apply})
    assert find_violation(law, spec, example_settings=FEW_EXAMPLES, draw_cases=draw_moderate) is None


@pytest.mark.parametrize("name", ["unstack", "sort"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_what_is_right_agrees(name: str, backend: str) -> None:
    right = replace(load(backend), ops={name: load(backend).ops[name]}, known={})
    violation = find_violation(
        all_cotangents_count_together, right, example_settings=FEW_EXAMPLES, smooth=True
    )
    assert violation is None


# What is wrong


def plant(name: str, wrong: Any) -> Backend:
    address = find_op(name).address
    return make_backend_of_ops({address: make_op(address, faults.make_wrong_pull_rule(address, wrong))})


@pytest.mark.parametrize("wrong", FOUND_TOGETHER_ALONE)
def test_what_is_wrong_where_several_cotangents_count_is_found_by_this_law_alone(wrong: Any) -> None:
    backend = plant("unstack", wrong)
    for law in LAWS_OF_ONE_VALUE:
        assert find_violation(law, backend, example_settings=FEW_EXAMPLES) is None, law
    violation = find_violation(all_cotangents_count_together, backend)
    assert violation is not None
    assert "for all cotangents together" in violation.judgement.reason
    assert "\nthe cotangents: " in violation.judgement.reason


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("wrong", FOUND_TOGETHER_ALONE)
def test_it_is_found_in_an_lstm_cell_too(wrong: Any) -> None:
    assert find_violation(all_cotangents_count_together, plant("lstm_cell", wrong), cases_per_example=1)


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("wrong", FOUND_BY_GRADIENTS)
@pytest.mark.parametrize("name", ["lstm_cell", "unstack"])
def test_what_is_wrong_for_one_cotangent_is_found_by_its_gradient(name: str, wrong: Any) -> None:
    assert find_violation(every_gradient_agrees, plant(name, wrong), cases_per_example=1) is not None


def test_another_number_of_values_is_found() -> None:
    def one_more(x: Any, *, axis: int = 0) -> Any:
        values = OPS["unstack"].apply(x, axis=axis)
        return (*values, values[0])

    backend = make_backend_of_ops({"unstack": one_more})
    assert find_violation(
        value_agrees, replace(backend, ops={"unstack": lambda x, axis: one_more(x, axis=axis)})
    )
    case = Case.of("unstack", "float64", [[1, 2]], {"axis": 0}, 1.0, picked=0)
    judgement = judge_case(all_cotangents_count_together, backend, case)
    assert (judgement.verdict, judgement.reason) == ("disagree", "unstack returns 3 values, not 2")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda x, axis: x, "unstack returned one ndarray; an op of several values returns a tuple of them"),
        (lambda x, axis: [x[0]], "unstack returned 1 values, and so none numbered 1"),
    ],
)
def test_what_is_no_tuple_of_the_values_is_said(wrong: Any, reason: str) -> None:
    case = Case.of("unstack", "float64", [[1, 2]], {"axis": 0}, 1.0, picked=1)
    judgement = judge_case(value_agrees, make_backend_of_ops({"unstack": wrong}), case)
    assert judgement.verdict == "disagree"
    assert judgement.reason.startswith(f"raised TypeError: {reason}")


@pytest.mark.parametrize("wrong", [lambda i: i[..., ::-1], lambda i: np.where(i == 1, 0, i)])
def test_indices_are_compared_exactly(wrong: Any) -> None:
    def sort(x: Any, **keywords: Any) -> Any:
        values, indices = OPS["sort"].apply(x, **keywords)
        return values, wrong(indices)

    case = Case.of("sort", "float32", [[3, 1, 2]], {}, [1, 2, 3], picked=1)
    assert judge_case(value_agrees, load("numpy"), case).verdict == "agree"
    judgement = judge_case(value_agrees, make_backend_of_ops({"sort": sort}), case)
    assert judgement.verdict == "disagree"
    assert judgement.reason.endswith(("exactly 0", "exactly 1"))


def test_values_differ_in_their_cotangents() -> None:
    """Or none would show that two were swapped."""
    case = Case.of("unstack", "float64", [np.zeros((4, 3))], {"axis": 0}, [1, 2, 3], picked=-1)
    values = list(OPS["unstack"](case.inputs[0]))
    *others, own = make_cotangents(case, values)
    assert own is not None
    assert own.tolist() == [1, 2, 3]
    assert len({g.tobytes() for g in others if g is not None}) == 3
    integers = Case.of("sort", "float64", [[1, 2]], {}, [1, 2], picked=0)
    assert make_cotangents(integers, list(OPS["sort"](integers.inputs[0])))[1] is None


# How a case of one value is written


def test_a_case_names_its_value() -> None:
    case = Case.of("sort", "float64", [[3, 1]], {"axis": 0}, [1, 2], picked=1)
    again = eval(case.as_python(), {"Case": Case, "np": np})
    assert (again.op, again.as_python()) == (case.op, case.as_python())
    assert "picked=1" in case.as_python()
    assert case.as_lines()[0] == "in float64, value 1"
    assert case.as_json()["picked"] == 1
    assert "picked" not in Case.of("exp", "float64", [0], {}, 1).as_json()
