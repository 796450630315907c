"""The planted faults: every op has enough of them, every property one that it alone catches."""

from collections import Counter

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.laws.training import TrainingCase, a_network_learns_as_the_spec_does
from gradspec.reference import OPS
from tests.faults import planted_backends
from tests.faults.caught_by_one_property import FAULT_CAUGHT_ONLY_BY
from tests.faults.collected_properties import properties
from tests.faults.detection import detect_fault, list_applicable_properties, make_under_test
from tests.faults.equivalent import EQUIVALENT
from tests.faults.fault import Array, RuleResult
from tests.faults.registry import faults
from tests.helpers.planting import find_violation, make_backend_of_rules

SEEDS = (1,)
MIN_FAULTS_PER_OP = 10


def test_every_op_has_faults_enough() -> None:
    count = Counter(fault.op for fault in faults().values())
    assert min(count[op] for op in OPS) >= MIN_FAULTS_PER_OP


def test_bugs_that_libraries_had_are_among_the_faults() -> None:
    assert sum(fault.source.startswith("https://") for fault in faults().values()) >= 15


def test_what_is_called_equivalent_has_a_reason() -> None:
    assert all(EQUIVALENT.values())
    assert not faults().keys() & EQUIVALENT.keys()


# Each property has a fault of its own


def test_every_property_names_a_fault_of_its_own() -> None:
    assert FAULT_CAUGHT_ONLY_BY.keys() == properties().keys()
    for name, fault in FAULT_CAUGHT_ONLY_BY.items():
        docstring = " ".join((properties()[name].__doc__ or "").split())
        assert docstring == f"Its own fault: {fault.name}.", name


@pytest.mark.rotating
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULT_CAUGHT_ONLY_BY)
def test_a_property_alone_finds_a_fault(name: str, seed: int) -> None:
    fault = FAULT_CAUGHT_ONLY_BY[name]
    detection = detect_fault(fault, seed)
    assert detection
    assert detection.property == name
    under_test = make_under_test(fault.op, fault.plant(), fault.spec)
    assert {other for other, _ in list_applicable_properties(under_test)} - {name}
    assert not detect_fault(fault, seed, without=[name])


# The fault that started it all


def linear_that_learns_nothing(x: Array, weight: Array, bias: Array | None = None) -> RuleResult:
    nothing = np.zeros_like(weight), np.zeros_like(weight[:, 0])
    return OPS["linear"].rule(x, weight, bias)[0], lambda g: (g, *nothing)


def test_a_linear_that_learns_nothing_is_found_by_gradient_shape_and_training_each() -> None:
    by_shape = faults()["linear: linear passes the cotangent through and learns nothing"].plant()
    case = Case.of("linear", "float64", [[[1, 2]], [[1, 2], [3, 4], [5, 6]], [1, 2, 3]], {}, [[1, 2, 3]])
    reason = shapes_and_dtypes_are_kept(by_shape, case).reason
    assert reason == "the gradient of x has shape (1, 3), not (1, 2)"
    backend = make_backend_of_rules(linear=linear_that_learns_nothing)
    assert find_violation(every_gradient_agrees, backend, smooth=True)
    network = planted_backends.plant_rule("linear", linear_that_learns_nothing)
    square = TrainingCase(seed=0, dtype="float64", examples=4, inputs=3, hidden=3, classes=3)
    assert a_network_learns_as_the_spec_does(network, square).reason == "weight1 has not moved in 10 steps"
