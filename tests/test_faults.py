"""Every op has its faults, each property one that it alone catches, and what makes no difference is let pass."""

from collections import Counter

import numpy as np
import pytest
from faults import planted
from faults.alone import ALONE
from faults.equivalent import EQUIVALENT
from faults.fault import Array, Made
from faults.properties_of import properties
from faults.registry import faults
from faults.trial import concerned, subjects, tried
from planting import breaks
from planting import planted as of_rules

from gradspec.properties.case import Case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.shape_and_dtype import shapes_and_dtypes_are_kept
from gradspec.properties.laws.training import Lesson, a_network_learns_as_the_spec_does
from gradspec.reference import OPS

SEEDS = (1,)
ENOUGH = 10  # faults of each op


def test_every_op_has_faults_enough() -> None:
    count = Counter(fault.op for fault in faults().values())
    assert min(count[op] for op in OPS) >= ENOUGH


def test_bugs_that_libraries_had_are_among_them() -> None:
    assert sum(fault.source.startswith("https://") for fault in faults().values()) >= 15


def test_what_is_called_equivalent_has_a_reason() -> None:
    assert all(EQUIVALENT.values())
    assert not faults().keys() & EQUIVALENT.keys()


# Each property has a fault of its own


def test_every_property_names_a_fault_of_its_own() -> None:
    assert ALONE.keys() == properties().keys()
    for name, fault in ALONE.items():
        said = " ".join((properties()[name].__doc__ or "").split())
        assert said == f"Its own fault: {fault.name}.", name


@pytest.mark.rotating
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALONE)
def test_a_property_alone_finds_a_fault(name: str, seed: int) -> None:
    fault = ALONE[name]
    found = tried(fault, seed)
    assert found
    assert found.by == name
    others = {other for other, _ in concerned(subjects(fault.op, fault.plant(), fault.spec))} - {name}
    assert others
    assert not tried(fault, seed, without=[name])


# The fault that started it all


def linear_that_learns_nothing(x: Array, weight: Array, bias: Array | None = None) -> Made:
    nothing = np.zeros_like(weight), np.zeros_like(weight[:, 0])
    return OPS["linear"].rule(x, weight, bias)[0], lambda g: (g, *nothing)


def test_a_linear_that_learns_nothing_is_found_by_gradient_shape_and_training_each() -> None:
    by_shape = faults()["linear: linear passes the cotangent through and learns nothing"].plant()
    case = Case.of("linear", "float64", [[[1, 2]], [[1, 2], [3, 4], [5, 6]], [1, 2, 3]], {}, [[1, 2, 3]])
    assert (
        shapes_and_dtypes_are_kept(by_shape, case).reason == "the gradient of x has shape (1, 3), not (1, 2)"
    )
    assert breaks(every_gradient_agrees, of_rules(linear=linear_that_learns_nothing), smooth=True)
    network = planted.of_rule("linear", linear_that_learns_nothing)
    square = Lesson(seed=0, dtype="float64", examples=4, inputs=3, hidden=3, classes=3)
    assert a_network_learns_as_the_spec_does(network, square).reason == "weight1 has not moved in 10 steps"
