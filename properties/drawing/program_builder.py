"""Building programs step by step, each on the numbers at hand.

A step is kept only if its numbers are ordinary there: its arguments within their domains and away from kinks,
its result neither large nor infinite. So any op may take part, and no program blows up or has a kink nearby.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, dtype_of
from gradspec.properties.cases.programs import (
    INNER_STEPS,
    PICK,
    REAL,
    Input,
    Numbers,
    Program,
    Shape,
    Step,
    draw_input,
    is_inside,
)
from gradspec.properties.judging.judge import get_spec_backend
from gradspec.properties.laws.programs import run_steps
from gradspec.reference import OPS, Op
from gradspec.reference.calls import Choices
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.rule import Array

MAX_SIZE = 8.0  # of a number that a program meets
MAX_PROGRAM_ELEMENTS = 36  # of an array of a program
MAX_RANK = 4
MAX_PICKS = 3  # of the values of one call
EPS_PER_KINK_DISTANCE = 64  # how many roundings of a number a kink is away from it, at least
MIN_DOMAIN_DISTANCE = 1 / 8  # of a number from the ends of a domain that it must be in
STEPS_BACK = (0, 0, 1, 0, 2, 3)  # how many results or inputs a step goes back for what it takes


@dataclass
class ProgramBuilder:
    """A program in the making, with the numbers that it meets in float64.

    Attributes:
        dtype: The name of the dtype of the program.
        seed: Its seed.
        inputs: Its inputs so far.
        input_values: Their numbers, those of the dtype.
        steps: Its steps so far.
        values: The results of the steps; of an op of several values a tuple, which only picks take.
        usable: The numbers of the arrays of floats that a step may take, inputs and results, oldest first.
        masks: The numbers of the arrays of truth values.
        constants: Inputs whose gradients are not asked for.
    """

    dtype: str
    seed: int
    inputs: list[Input] = field(default_factory=list)
    input_values: list[Array] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    usable: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    constants: list[int] = field(default_factory=list)

    def get(self, number: int) -> Any:
        """Return the numbers of an input or a result."""
        return self.values[number] if number >= 0 else self.input_values[~number]

    def add_input(self, shape: Shape, numbers: Numbers = REAL, *, usable: bool = True) -> int:
        """Add an input and return its number."""
        i = len(self.inputs)
        self.inputs.append((shape, numbers, i))
        x = draw_input(self.dtype, self.seed, self.inputs[i], self.input_values)
        self.input_values.append(x.astype(np.float64) if x.dtype.kind not in "biu" else x)
        if usable and x.dtype.kind not in "biu":
            self.usable.append(~i)
        return ~i

    def choose_value(self, choose: Choices, hub: int | None = None) -> int:
        """Return the number of one of the newest arrays of floats, or, more often, the hub."""
        if hub is not None and choose.of([True, True, False]):
            return hub
        return self.usable[-1 - min(choose.of(STEPS_BACK), len(self.usable) - 1)]

    def drop_inputs(self, count: int) -> None:
        """Forget all inputs but the first ones."""
        for numbers in (self.usable, self.masks):
            numbers[:] = [k for k in numbers if k >= -count]
        del self.inputs[count:], self.input_values[count:]
        self.constants[:] = [i for i in self.constants if i < count]

    def fits_domain(self, op: Op, i: int, x: Array) -> bool:
        domain = op.domain(i)
        return isinstance(domain, Interval) and (
            domain == Interval() or bool(np.all(is_inside(domain, x, MIN_DOMAIN_DISTANCE)))
        )

    def try_step(self, op: Op, operands: tuple[int, ...], keywords: dict[str, Any]) -> bool:
        """Add a step if its numbers are ordinary."""
        xs = [self.get(k) for k in operands]
        for i, x in enumerate(xs):
            if not isinstance(op.domain(i), Integers | Booleans) and not self.fits_domain(op, i, x):
                return False
        if not op.is_defined(xs, keywords):
            return False
        if op.kinks is not None and not self._is_off_kinks(op, xs, keywords):
            return False
        value = op.compute_value(*xs, **keywords)
        step = (op.address, operands, keywords)
        if not op.has_several_values:
            return self._add_result(step, np.asarray(value))
        self.steps.append(step)
        self.values.append(value)
        return True

    def try_picks(self) -> bool:
        """Add steps that pick values of the last step; forget it, and return False, if none is ordinary."""
        whole = len(self.values) - 1
        added = [self._try_pick(whole, k) for k in range(min(len(self.values[whole]), MAX_PICKS))]
        if not any(added):
            self.drop_step()
        return any(added)

    def _try_pick(self, whole: int, number: int) -> bool:
        """Add a step that picks a value of several, if there is such a value and it is ordinary."""
        values = self.get(whole)
        step: Step = (PICK, (whole,), {"number": number})
        return number < len(values) and self._add_result(step, np.asarray(values[number]))

    def _is_off_kinks(self, op: Op, xs: list[Array], keywords: dict[str, Any]) -> bool:
        assert op.kinks is not None
        eps = 2.0**-7 if self.dtype == "bfloat16" else float(np.finfo(dtype_of(self.dtype)).eps)
        floats = [x for x in xs if x.dtype.kind == "f"]
        size = max((float(np.max(np.abs(x), initial=0)) for x in floats), default=0)
        margin = max(MIN_KINK_DISTANCE, EPS_PER_KINK_DISTANCE * eps * size)
        return all(np.all(d >= margin) for d in op.kinks(*xs, **keywords))

    def _add_result(self, step: Step, value: Array) -> bool:
        if not 0 < value.size <= MAX_PROGRAM_ELEMENTS or value.ndim > MAX_RANK:
            return False
        is_mask = value.dtype.kind == "b"
        if not (is_mask or (value.dtype.kind == "f" and np.all(np.abs(value) <= MAX_SIZE))):
            return False
        (self.masks if is_mask else self.usable).append(len(self.values))
        self.steps.append(step)
        self.values.append(value)
        return True

    def drop_step(self) -> None:
        """Forget the last step, whose result no other takes; with all that pick a value of the same call."""
        while self.steps[-1][0] == PICK:
            del self.steps[-1], self.values[-1]
        del self.steps[-1], self.values[-1]
        for numbers in (self.usable, self.masks):
            numbers[:] = [k for k in numbers if k < len(self.values)]

    def append(self, name: str, operands: tuple[int, ...]) -> None:
        self.values.append(np.asarray(OPS[name].compute_value(*map(self.get, operands))))
        self.steps.append((name, operands, {}))

    def make_inner(self, by: int) -> "ProgramBuilder":
        """Return a builder of the function that is differentiated by the value numbered `by`."""
        return ProgramBuilder(
            self.dtype, self.seed, self.inputs, self.input_values, [], [*self.values, self.get(by)],
            [*self.usable, len(self.values)], [*self.masks],
        )  # fmt: skip

    def add_inner(self, name: str, by: int, inner: "ProgramBuilder") -> bool:
        """Add the gradient of an inner function, or its value, if its numbers are ordinary."""
        last = inner.usable[-1]
        steps = tuple(inner.steps[: last - len(self.values)])
        step: Step = (name, (by,), {"steps": steps, "shape": inner.get(last).shape})
        program = Program(self.dtype, self.seed, tuple(self.inputs), ())
        value = run_steps(
            get_spec_backend(), [step], self.input_values, self.values,
            lambda s: program.draw_cotangent(s, inner=True).astype(np.float64),
        )  # fmt: skip
        return self._add_result(step, np.asarray(value))

    def try_steps(self, steps: Sequence[Step]) -> bool:
        """Add these steps; return False where the numbers of one are not ordinary."""
        for name, operands, keywords in steps:
            if name in INNER_STEPS:
                inner = self.make_inner(operands[0])
                if not inner.try_steps(keywords["steps"]) or not self.add_inner(name, operands[0], inner):
                    return False
            elif name == PICK:
                if not self._try_pick(operands[0], keywords["number"]):
                    return False
            elif not self.try_step(OPS[name], operands, keywords):
                return False
        return True
