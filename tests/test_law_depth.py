"""The law of long chains is broken by an engine that recurses, and by one that loses its way, and by no right one."""

from collections.abc import Callable
from typing import Any

import pytest
from faults.engines import Node, by_recursion, engine, newest_first, second_branch_is_lost
from planting import planted

from gradspec.backends import Backend, load
from gradspec.properties.judging.attempt import judged
from gradspec.properties.laws.depth import Chain, a_chain_of_any_length_is_differentiated
from gradspec.reference import VJP


def negative_that_loses_a_sign(x: Any) -> VJP:
    return -x, (lambda g: g,)


def broken_by(backend: Backend, length: int = 4_999) -> str:
    return judged(a_chain_of_any_length_is_differentiated, backend, Chain("float32", length)).reason


def test_an_engine_that_recurses_is_found() -> None:
    assert "RecursionError" in broken_by(engine(by_recursion))
    assert not broken_by(engine(by_recursion), length=100)


def test_a_wrong_number_at_the_end_is_found() -> None:
    assert broken_by(planted(negative=negative_that_loses_a_sign)).startswith("the gradient is")


@pytest.mark.parametrize("right", [newest_first, second_branch_is_lost])
def test_an_engine_that_does_not_recurse_passes(right: Callable[[Node], None]) -> None:
    assert not broken_by(engine(right))


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_libraries_pass(name: str) -> None:
    assert not broken_by(load(name))
