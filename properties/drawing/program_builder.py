"""Building programs step by step, each on the numbers at hand.

A step is kept only if its numbers are ordinary there: its arguments within their domains and away from kinks,
its result neither large nor infinite. So any op may take part, and no program blows up or has a kink nearby.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from gradspec.properties.cases.case import MIN_KINK_DISTANCE, dtype_of
from gradspec.properties.cases.program_ops import ProgramOps
from gradspec.properties.cases.programs import (
    INNER_GRADIENT,
    MASK,
    MIXED,
    REAL,
    Input,
    Numbers,
    Program,
    Shape,
    Step,
    draw_input,
    is_inside,
)
from gradspec.properties.judging.judge import SPEC_BACKEND
from gradspec.properties.laws.programs import run_steps
from gradspec.reference import OPS, Op
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, draw_broadcastable_shape
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.rule import Array

MAX_SIZE = 8.0  # of a number that a program meets
MAX_PROGRAM_ELEMENTS = 36  # of an array of a program
EPS_PER_KINK_DISTANCE = 64  # how many roundings of a number a kink is away from it, at least
MIN_DOMAIN_DISTANCE = 1 / 8  # of a number from the ends of a domain that it must be in
STEPS_BACK = (0, 0, 1, 0, 2, 3)  # how many results or inputs a step goes back for what it takes
NEWEST = 4  # the same where it looks for an array of a certain shape
MAX_MOVES = 3  # in a row, of ops that only move elements

T = TypeVar("T")


class ChoicesForShape:
    """Choices with which an op draws a call for an array of this shape, if such a call can be drawn."""

    def __init__(self, base: Choices, shape: Shape, kept_rank: int) -> None:
        """Make choices of which none is taken yet.

        Args:
            base: Makes all choices but those of ranks and lengths.
            shape: The shape, whose lengths are given out in turn.
            kept_rank: The rank that is given out first.
        """
        self.base, self.lengths, self.kept_rank = base, list(shape), kept_rank
        self.last = shape[-1] if shape else 2

    def of(self, options: Sequence[T]) -> T:
        return self.base.of(options)

    def integer(self, low: int, high: int) -> int:
        return self.base.integer(low, high)

    def rank(self, low: int, high: int) -> int:
        rank, self.kept_rank = min(max(self.kept_rank, low), high), 0
        return rank

    def size(self, taken: int) -> int:
        fitting = [n for n in (self.last, self.last, 1, 2, 3) if n * taken <= MAX_PROGRAM_ELEMENTS]
        return self.lengths.pop(0) if self.lengths else self.of(fitting or [1])


@dataclass
class ProgramBuilder:
    """A program in the making, with the numbers that it meets in float64.

    Attributes:
        dtype: The name of the dtype of the program.
        seed: Its seed.
        inputs: Its inputs so far.
        input_values: Their numbers, those of the dtype.
        steps: Its steps so far.
        values: The results of the steps.
        usable: The numbers of the arrays of floats that a step may take, inputs and results, oldest first.
        masks: The numbers of the arrays of truth values.
        constants: Inputs whose gradients are not asked for.
    """

    dtype: str
    seed: int
    inputs: list[Input] = field(default_factory=list)
    input_values: list[Array] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    usable: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    constants: list[int] = field(default_factory=list)

    def get(self, number: int) -> Array:
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

    def choose_square(self, first: int) -> int:
        """Return the number of the newest array whose last two axes are as long, else `first`."""
        return next((k for k in self.usable[::-1] if len({*self.get(k).shape[-2:]}) == 1), first)

    def try_op(
        self,
        name: str,
        choose: Choices,
        first: int,
        hub: int | None = None,
        *,
        same: bool = False,
        anywhere: bool = False,
    ) -> bool:
        """Add a step of this op, if one is found that fits; return whether it was.

        Args:
            name: The op.
            choose: Draws its keywords and what else it takes.
            first: The number of the value that it takes.
            hub: The number of a value that it is likely to take besides.
            same: Whether it takes that value wherever it can.
            anywhere: Whether it may take new inputs alone, if the value does not fit.
        """
        op, before = OPS[name], len(self.inputs)
        drawn = self._draw_elementwise(op, choose, first, hub) if op.elementwise else None
        drawn = drawn or self._draw_call(op, choose, first, same, anywhere)
        if drawn and self._try_step(op, *drawn):
            return True
        self._drop_inputs(before)
        return False

    def _drop_inputs(self, count: int) -> None:
        """Forget all inputs but the first ones."""
        for numbers in (self.usable, self.masks):
            numbers[:] = [k for k in numbers if k >= -count]
        del self.inputs[count:], self.input_values[count:]
        self.constants[:] = [i for i in self.constants if i < count]

    def _draw_elementwise(
        self, op: Op, choose: Choices, first: int, hub: int | None
    ) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Return what an elementwise op may take besides `first`: values that broadcast with it."""
        keywords = {name: choose.of(options) for name, options in op.options.items()}
        floats = [i for i, domain in enumerate(op.domains) if isinstance(domain, Interval)]
        place = choose.of(floats)
        operands: list[int] = []
        shape = self.get(first).shape
        for i in range(len(op.domains)):
            if operands:
                shape = np.broadcast_shapes(shape, self.get(operands[-1]).shape)
            if i == place and self._fits_domain(op, i, self.get(first)):
                operands.append(first)
            elif i == len(op.domains) - 1 and op.arguments[i] in op.defaults and choose.integer(0, 1):
                break
            elif isinstance(op.domain(i), Booleans):
                operands.append(self._choose_mask(choose, shape))
            else:
                operands.append(self._choose_to_broadcast(op, i, choose, shape, hub))
        return tuple(operands), keywords

    def _choose_mask(self, choose: Choices, shape: Shape) -> int:
        fitting = [k for k in self.masks if broadcasts(self.get(k).shape, shape)]
        if fitting:
            return choose.of(fitting[::-1])
        return self.add_input(draw_broadcastable_shape(choose, shape), MASK)

    def _choose_to_broadcast(self, op: Op, i: int, choose: Choices, shape: Shape, hub: int | None) -> int:
        """Return a value that broadcasts with the shape, in the domain of the i-th argument, or an input."""
        for _ in range(2):
            k = self.choose_value(choose, hub)
            if broadcasts(self.get(k).shape, shape) and self._fits_domain(op, i, self.get(k)):
                return k
        shape = choose.of([draw_broadcastable_shape(choose, shape), ()])
        return self.add_input(shape, make_numbers(op, i))

    def _draw_call(
        self, op: Op, choose: Choices, first: int, same: bool, anywhere: bool
    ) -> tuple[tuple[int, ...], dict[str, Any]] | None:
        """Return what an op may take so that it takes `first`: values of the shapes of a call that it draws."""
        shape = self.get(first).shape
        ranks = [rank for rank in (len(shape), len(shape) - 1, len(shape) - 2) if rank >= 0]
        for kept_rank in ranks * (3 if same else 1):
            call = op.draw_call(ChoicesForShape(choose, shape, kept_rank))
            if all(s == shape for s in call.shapes) if same else shape in call.shapes:
                return self._fill_call(op, call, choose, first, same), call.keywords
        if not anywhere:
            return None
        call = op.draw_call(ChoicesForShape(choose, (), 2))
        return self._fill_call(op, call, choose, first, same), call.keywords

    def _fill_call(self, op: Op, call: Call, choose: Choices, first: int, same: bool) -> tuple[int, ...]:
        places = [i for i, shape in enumerate(call.shapes) if shape == self.get(first).shape]
        place = choose.of(places or [-1])
        operands: list[int] = []
        for i, shape in enumerate(call.shapes):
            if isinstance(shape, IntegerArrayBelow):
                operands.append(self.add_input(shape.shape, shape.bound))
            elif isinstance(op.domain(i), Booleans):
                operands.append(self.add_input(shape, MASK))
            elif i == place or (same and i in places):
                operands.append(first)
            else:
                fitting = [k for k in self.usable if self.get(k).shape == shape]
                # Half of the time the first value itself, so that it is used twice.
                fitting = [*fitting[-1:-NEWEST:-1], *([first] * 3 if i in places else [])]
                reuses = fitting and choose.of([True, True, True, False])
                operands.append(choose.of(fitting) if reuses else self.add_input(shape, make_numbers(op, i)))
        return tuple(operands)

    def _fits_domain(self, op: Op, i: int, x: Array) -> bool:
        domain = op.domain(i)
        return isinstance(domain, Interval) and (
            domain == Interval() or bool(np.all(is_inside(domain, x, MIN_DOMAIN_DISTANCE)))
        )

    def _try_step(self, op: Op, operands: tuple[int, ...], keywords: dict[str, Any]) -> bool:
        """Add a step if its numbers are ordinary."""
        xs = [self.get(k) for k in operands]
        for i, x in enumerate(xs):
            if not isinstance(op.domain(i), Integers | Booleans) and not self._fits_domain(op, i, x):
                return False
        if op.kinks is not None and not self._is_off_kinks(op, xs, keywords):
            return False
        value = op.rule(*xs, **keywords)[0]
        if isinstance(value, tuple):
            return False
        return self._add_result((op.name, operands, keywords), np.asarray(value))

    def _is_off_kinks(self, op: Op, xs: list[Array], keywords: dict[str, Any]) -> bool:
        assert op.kinks is not None
        eps = 2.0**-7 if self.dtype == "bfloat16" else float(np.finfo(dtype_of(self.dtype)).eps)
        floats = [x for x in xs if x.dtype.kind == "f"]
        size = max((float(np.max(np.abs(x), initial=0)) for x in floats), default=0)
        margin = max(MIN_KINK_DISTANCE, EPS_PER_KINK_DISTANCE * eps * size)
        return all(np.all(d >= margin) for d in op.kinks(*xs, **keywords))

    def _add_result(self, step: Step, value: Array) -> bool:
        if not 0 < value.size <= MAX_PROGRAM_ELEMENTS:
            return False
        is_mask = value.dtype.kind == "b"
        if not (is_mask or (value.dtype.kind == "f" and np.all(np.abs(value) <= MAX_SIZE))):
            return False
        (self.masks if is_mask else self.usable).append(len(self.values))
        self.steps.append(step)
        self.values.append(value)
        return True

    def add_masked(self, ops: ProgramOps, choose: Choices, other: int) -> None:
        """Add a branch that is undefined at some elements, hidden by a mask: where(mask, f(x), other).

        In one of three the argument is masked, too: where(mask, f(where(mask, x, inside)), other).
        """
        name, place = choose.of(ops.partial)
        op, shape = OPS[name], self.get(other).shape
        x = self.add_input(shape, MIXED)
        mask = self.add_input(shape, (name, place, "inside", ~x))
        argument = x
        if choose.of([False, False, True]):
            inside = self.add_input((), (name, place), usable=False)
            self._append("where", (mask, x, inside))
            argument = len(self.values) - 1
        operands = [
            argument
            if i == place
            else self.add_input(draw_broadcastable_shape(choose, shape), make_numbers(op, i))
            for i in range(len(op.domains))
        ]
        self._append(name, tuple(operands))
        self._append("where", (mask, len(self.values) - 1, other))
        if np.all(np.abs(self.values[-1]) <= MAX_SIZE):
            self.usable.append(len(self.values) - 1)

    def _append(self, name: str, operands: tuple[int, ...]) -> None:
        self.values.append(np.asarray(OPS[name].rule(*map(self.get, operands))[0]))
        self.steps.append((name, operands, {}))

    def try_inner_gradient(self, ops: ProgramOps, choose: Choices, by: int) -> bool:
        """Add the gradient, by the value numbered `by`, of an inner function that closes over other values."""
        before, variable = len(self.inputs), len(self.values)
        if choose.of([False, True]):
            by = self.add_input(self.get(by).shape, usable=False)
            self.constants.append(~by)
        inner = ProgramBuilder(
            self.dtype, self.seed, self.inputs, self.input_values, [], [*self.values, self.get(by)],
            [*self.usable, len(self.values)], [*self.masks],
        )  # fmt: skip
        for k in range(choose.of([1, 2, 3])):
            hub = choose.of([*self.usable[:-NEWEST:-1], variable])
            if k == 0:
                inner.try_op(choose.of(ops.of_several), choose, variable, hub)
            elif not add_random_step(inner, ops, choose, inner.usable[-1], hub):
                break
        self.usable.extend(k for k in inner.usable if k < -before)
        if not inner.steps or inner.usable[-1] <= variable:
            # Nothing that depends on the variable was found, or its last result is a mask.
            self._drop_inputs(before)
            return False
        steps = tuple(inner.steps[: inner.usable[-1] - variable])
        shape = inner.values[inner.usable[-1]].shape
        step: Step = (INNER_GRADIENT, (by,), {"steps": steps, "shape": shape})
        program = Program(self.dtype, self.seed, tuple(self.inputs), ())
        value = run_steps(
            SPEC_BACKEND, [step], self.input_values, self.values,
            lambda s: program.draw_cotangent(s, inner=True).astype(np.float64),
        )  # fmt: skip
        if self._add_result(step, np.asarray(value)):
            return True
        self._drop_inputs(before)
        return False


def add_random_step(
    builder: ProgramBuilder, ops: ProgramOps, choose: Choices, first: int, hub: int | None
) -> bool:
    """Add a step or two of random ops; return whether one of a few fits.

    Args:
        builder: The program.
        ops: What it is made of.
        choose: Chooses the ops.
        first: The number of the value that the step takes.
        hub: If there is one, ops of several values take the newest one and the hub, others the hub.
    """
    kind = choose.integer(0, 31)
    if kind == 31 and ops.comparing and "where" in ops.combining:
        builder.try_op(choose.of(ops.comparing), choose, first, hub)
        return builder.try_op("where", choose, builder.choose_value(choose, hub), hub)
    if 28 <= kind <= 30 and ops.mixing:
        return builder.try_op(choose.of(ops.mixing), choose, builder.choose_square(first), same=True)
    if 25 <= kind <= 27 and builder.steps and builder.steps[-1][2] and builder.steps[-1][0] in OPS:
        name, operands, _ = builder.steps[-1]
        return (
            builder.try_op(name, choose, operands[0])
            and bool(ops.pairing)
            and builder.try_op(choose.of(ops.pairing), choose, builder.usable[-1], len(builder.steps) - 2)
        )
    groups = [ops.pairing, ops.moving, ops.combining, ops.moving, ops.pairing, ops.mixing, ops.others]
    if hub is not None:
        groups += [ops.pairing, ops.pairing]
    groups = [group for group in groups if group]
    for attempt in range(3):
        group = groups[(kind + attempt) % len(groups)]
        if hub is not None:
            first = hub if group in (ops.moving, ops.others) else builder.usable[-1]
        if builder.try_op(choose.of(group), choose, first, hub):
            for _ in range(MAX_MOVES - 1):
                if group is ops.moving and choose.of([False, True, True]):
                    builder.try_op(choose.of(group), choose, builder.usable[-1])
            return True
    return False


def make_numbers(op: Op, i: int) -> Numbers:
    """Return what an input is made of that is to be the i-th argument of an op."""
    return REAL if op.domain(i) == Interval() else (op.name, i)


def broadcasts(shape: Shape, other: Shape) -> bool:
    """Return whether arrays of these shapes broadcast to one that is not large."""
    for n, m in zip(reversed(shape), reversed(other), strict=False):
        if n != m and 1 not in (n, m):
            return False
    return math.prod(np.broadcast_shapes(shape, other)) <= MAX_PROGRAM_ELEMENTS
