"""The law of long chains catches recursion and wrong numbers, and passes engines that are right."""

from collections.abc import Callable
from typing import Any

import pytest

from gradspec.backends import Backend, load
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.depth import CHAIN_STEPS, Chain, a_chain_of_any_length_is_differentiated
from gradspec.reference import VJP
from tests.faults.engines import (
    Node,
    make_engine,
    pull_by_recursion,
    pull_newest_first,
    second_branch_is_lost,
)
from tests.helpers.planting import make_backend_of_rules


def negative_that_loses_a_sign(x: Any) -> VJP:
    return -x, (lambda g: g,)


def judge_chain(backend: Backend, length: int = CHAIN_STEPS) -> str:
    """Return why the backend breaks the law, "" if it does not."""
    return judge_case(a_chain_of_any_length_is_differentiated, backend, Chain("float32", length)).reason


def test_an_engine_that_recurses_is_found() -> None:
    assert "RecursionError" in judge_chain(make_engine(pull_by_recursion))
    assert not judge_chain(make_engine(pull_by_recursion), length=100)


def test_a_wrong_number_at_the_end_is_found() -> None:
    assert judge_chain(make_backend_of_rules(negative=negative_that_loses_a_sign)).startswith(
        "the gradient is"
    )


@pytest.mark.parametrize("right", [pull_newest_first, second_branch_is_lost])
def test_an_engine_that_does_not_recurse_passes(right: Callable[[Node], None]) -> None:
    assert not judge_chain(make_engine(right))


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_libraries_pass(name: str) -> None:
    assert not judge_chain(load(name))
