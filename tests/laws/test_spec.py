"""The law of the spec catches gradients that are a billionth off, and allows for rounding."""

from dataclasses import replace

import numpy as np
import pytest

from gradspec.properties.cases.case import Case
from gradspec.properties.judging.judge import SPEC_BACKEND
from gradspec.properties.laws.spec import spec_agrees_with_numerical_differentiation
from gradspec.reference import OPS, VJP
from gradspec.reference.rule import Array

FACTORS_WITH_A_ZERO = [0.0, -0.001, 200.0, -0.0003, 200.0, 200.0, 200.0, 200.0]
"""The product is 0, and so are its terms where it is differentiated; a step away it is in the thousands."""


def judge_prod_off_by(share: float) -> str:
    """Return the verdict on a prod whose gradient is off by this share of itself."""

    def rule(x: Array) -> VJP:
        y, (pull,) = OPS["prod"].rule(x)  # type: ignore[misc]
        return y, (lambda g: pull(g) * (1 + share),)  # type: ignore[misc]

    op = replace(OPS["prod"], rule=rule)
    case = Case(op, "float64", (np.array(FACTORS_WITH_A_ZERO),), {}, np.array(1.0))
    return spec_agrees_with_numerical_differentiation(SPEC_BACKEND, case).verdict


def test_what_rounding_does_a_step_away_is_no_fault() -> None:
    assert judge_prod_off_by(0.0) == "agree"


@pytest.mark.parametrize("share", [1e-9, -1e-6, 1e-3])
def test_a_billionth_off_is_found(share: float) -> None:
    assert judge_prod_off_by(share) == "disagree"
