"""Programs as they are drawn: of every op that a backend offers, of ordinary numbers, and shown in short."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from gradspec.backends import load
from gradspec.properties.cases.program_ops import ProgramOps, classify_ops, list_program_ops
from gradspec.properties.cases.programs import INNER_STEPS, Program, Step, drop_unused
from gradspec.properties.drawing.program_builder import MAX_PROGRAM_ELEMENTS, MAX_SIZE
from gradspec.properties.drawing.programs import BYTES, build_program
from gradspec.properties.laws.programs import differentiate_program
from gradspec.reference import OPS, VJP, op
from gradspec.reference.domains import Real

SPEC = load("numpy")
MANY = 1_500

FIRST_MENU = (
    *("add", "multiply", "subtract", "sin", "tanh", "negative", "square", "sigmoid"),
    *("sum", "mean", "logsumexp", "softmax", "flip", "getitem"),
)
"""What programs were made of when it was listed by name."""


def build_programs(ops: ProgramOps, count: int) -> list[Program]:
    """Return programs from random bytes."""
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        return [
            build_program(ops, ["float64"], rng.bytes(BYTES), int(rng.integers(2**16))) for _ in range(count)
        ]


@cache
def get_many_programs() -> list[Program]:
    return build_programs(classify_ops(list_program_ops(SPEC)), MANY)


def iterate_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield the steps, those of inner functions too."""
    for step in steps:
        yield step
        yield from iterate_steps(step[2]["steps"]) if step[0] in INNER_STEPS else ()


def list_steps() -> list[Step]:
    return [step for program in get_many_programs() for step in iterate_steps(program.steps)]


def test_every_op_takes_part() -> None:
    count = Counter(name for name, _, _ in list_steps())
    are_integers = {"argmax", "argmin"}
    assert set(OPS) - are_integers <= set(count)
    assert all(count[name] >= 5 for name in FIRST_MENU)


def test_reductions_go_along_any_axis_and_keep_it_or_not() -> None:
    for name in ("sum", "mean", "logsumexp", "softmax", "flip"):
        axes = {str(keywords["axis"]) for op, _, keywords in list_steps() if op == name}
        assert len(axes) > 2, name


def test_indices_are_slices_masks_and_integers_that_recur() -> None:
    keys: list[Any] = [keywords["key"] for name, _, keywords in list_steps() if name == "getitem"]
    parts = [part for key in keys for part in (key if isinstance(key, tuple) else (key,))]
    arrays = [part for part in parts if isinstance(part, np.ndarray) and part.ndim]
    assert any(isinstance(part, slice) for part in parts)
    assert any(array.dtype == np.bool_ for array in arrays)
    assert any(len(np.unique(array)) < array.size for array in arrays if array.dtype != np.bool_)


def test_inputs_have_every_rank() -> None:
    ranks = {len(shape) for program in get_many_programs() for shape, _, _ in program.inputs}
    assert ranks == {0, 1, 2, 3, 4}


def test_some_values_are_both_operands_and_some_gradients_are_steps() -> None:
    assert any(name == "matmul" and len(set(operands)) == 1 for name, operands, _ in list_steps())
    inner = [keywords["steps"] for name, _, keywords in list_steps() if name in INNER_STEPS]
    assert any(name in ("where", "maximum") for steps in inner for name, _, _ in steps)


def test_masks_hide_undefined_branches() -> None:
    hidden = [program for program in get_many_programs() if program.has_undefined_branch]
    assert MANY / 20 < len(hidden) < MANY / 2


def test_numbers_are_ordinary() -> None:
    for program in get_many_programs()[:300]:
        with np.errstate(all="ignore"):
            value = differentiate_program(SPEC, program).value
        assert value.size <= MAX_PROGRAM_ELEMENTS
        assert np.all(np.abs(value) <= MAX_SIZE)


def test_what_the_value_does_not_depend_on_can_be_dropped() -> None:
    changed = 0
    for program in get_many_programs()[:300]:
        short = drop_unused(program)
        changed += short != program
        with np.errstate(all="ignore"):
            before, after = differentiate_program(SPEC, program), differentiate_program(SPEC, short)
        np.testing.assert_array_equal(before.value, after.value)
        keys = [key for _, _, key in program.inputs]
        kept = [keys.index(key) for _, _, key in short.inputs]
        for i, name in enumerate(f"x{i}" for i in short.differentiable_inputs):
            k = kept[short.differentiable_inputs[i]]
            np.testing.assert_array_equal(before.gradients[f"x{k}"], after.gradients[name])
    assert changed > 10


def test_a_program_is_written_as_python() -> None:
    for program in get_many_programs()[:100]:
        again = eval(program.as_python(), {"np": np, "Program": Program})
        assert repr(again) == repr(program)
        assert program.as_lines()


@pytest.fixture
def added_op() -> Iterator[str]:
    """Yield the address of an op that somebody adds."""

    @op("(),()->()")
    def added_by_a_user(x: Real, y: Real) -> VJP:
        return x * y + x, (lambda g: g * y + g, lambda g: g * x)

    yield added_by_a_user.address
    del OPS[added_by_a_user.address]


def test_an_op_that_is_added_takes_part(added_op: str) -> None:
    backend = replace(SPEC, ops={**SPEC.ops, added_op: OPS[added_op]})
    found = build_programs(classify_ops(list_program_ops(backend)), 100)
    steps = [step for program in found for step in iterate_steps(program.steps)]
    assert sum(name == added_op for name, _, _ in steps) > 10


@pytest.mark.parametrize("name", ["add", "matmul", "layer_norm", "concat", "where", "maximum", "pow", "clip"])
def test_programs_of_one_op_are_drawn(name: str) -> None:
    found = build_programs(classify_ops([name]), 50)
    assert {step[0] for program in found for step in iterate_steps(program.steps)} <= {name, *INNER_STEPS}
    assert any(program.steps for program in found)


def test_ops_that_are_declared_to_deviate_take_no_part() -> None:
    known = {"where": "wrong", "tanh: value agrees": "wrong in one law", "exp[float16]": "wrong in one dtype"}
    backend = replace(SPEC, known=known, dtypes={"float64", "float16"})
    assert set(list_program_ops(SPEC)) - set(list_program_ops(backend)) == {"where"}
