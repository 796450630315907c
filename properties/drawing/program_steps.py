"""Drawing the steps of a program: what an op may take so that it fits what is there."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from gradspec.properties.cases.program_ops import ProgramOps
from gradspec.properties.cases.programs import (
    INNER_GRADIENT,
    INNER_VALUE,
    MASK,
    MIXED,
    PICK,
    REAL,
    Numbers,
    Shape,
)
from gradspec.properties.drawing.program_builder import MAX_PROGRAM_ELEMENTS, MAX_SIZE, ProgramBuilder
from gradspec.reference import OPS, Op
from gradspec.reference.calls import Call, Choices, IntegerArrayBelow, draw_broadcastable_shape
from gradspec.reference.domains import Booleans, Interval

NEWEST = 4  # the same where it looks for an array of a certain shape
MAX_MOVES = 3  # in a row, of ops that only move elements, in a program of others
TRIES_PER_MOVE = 4  # of an op, to fit
MIN_RANK_OF_MOVES = 3  # of all arrays in a program of nothing else

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


def try_op(
    builder: ProgramBuilder,
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
        builder: The program.
        name: The op.
        choose: Draws its keywords and what else it takes.
        first: The number of the value that it takes.
        hub: The number of a value that it is likely to take besides.
        same: Whether it takes that value wherever it can.
        anywhere: Whether it may take new inputs alone, if the value does not fit.
    """
    op, before = OPS[name], len(builder.inputs)
    drawn = _draw_elementwise(builder, op, choose, first, hub) if op.elementwise else None
    drawn = drawn or _draw_call(builder, op, choose, first, same, anywhere)
    if drawn and builder.try_step(op, *drawn) and (not op.has_several_values or builder.try_picks()):
        return True
    builder.drop_inputs(before)
    return False


def _draw_elementwise(
    builder: ProgramBuilder, op: Op, choose: Choices, first: int, hub: int | None
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return what an elementwise op may take besides `first`: values that broadcast with it."""
    keywords = {name: choose.of(options) for name, options in op.options.items()}
    floats = [i for i, domain in enumerate(op.domains) if isinstance(domain, Interval)]
    place = choose.of(floats)
    operands: list[int] = []
    shape = builder.get(first).shape
    for i in range(len(op.domains)):
        if operands:
            shape = np.broadcast_shapes(shape, builder.get(operands[-1]).shape)
        if i == place and builder.fits_domain(op, i, builder.get(first)):
            operands.append(first)
        elif i == len(op.domains) - 1 and op.arguments[i] in op.defaults and choose.integer(0, 1):
            break
        elif isinstance(op.domain(i), Booleans):
            operands.append(_choose_mask(builder, choose, shape))
        else:
            operands.append(_choose_to_broadcast(builder, op, i, choose, shape, hub))
    return tuple(operands), keywords


def _choose_mask(builder: ProgramBuilder, choose: Choices, shape: Shape) -> int:
    fitting = [k for k in builder.masks if broadcasts(builder.get(k).shape, shape)]
    if fitting:
        return choose.of(fitting[::-1])
    return builder.add_input(draw_broadcastable_shape(choose, shape), MASK)


def _choose_to_broadcast(
    builder: ProgramBuilder, op: Op, i: int, choose: Choices, shape: Shape, hub: int | None
) -> int:
    """Return a value that broadcasts with the shape, in the domain of the i-th argument, or an input."""
    for _ in range(2):
        k = builder.choose_value(choose, hub)
        if broadcasts(builder.get(k).shape, shape) and builder.fits_domain(op, i, builder.get(k)):
            return k
    shape = choose.of([draw_broadcastable_shape(choose, shape), ()])
    return builder.add_input(shape, make_numbers(op, i))


def _draw_call(
    builder: ProgramBuilder, op: Op, choose: Choices, first: int, same: bool, anywhere: bool
) -> tuple[tuple[int, ...], dict[str, Any]] | None:
    """Return what an op may take so that it takes `first`: those of a call that it draws."""
    shape = builder.get(first).shape
    ranks = [rank for rank in (len(shape), len(shape) - 1, len(shape) - 2) if rank >= 0]
    for kept_rank in ranks * (3 if same else 1):
        call = op.draw_call(ChoicesForShape(choose, shape, kept_rank))
        if all(s == shape for s in call.shapes) if same else shape in call.shapes:
            return _fill_call(builder, op, call, choose, first, same), call.keywords
    if not anywhere:
        return None
    call = op.draw_call(ChoicesForShape(choose, (), 2))
    return _fill_call(builder, op, call, choose, first, same), call.keywords


def _fill_call(
    builder: ProgramBuilder, op: Op, call: Call, choose: Choices, first: int, same: bool
) -> tuple[int, ...]:
    places = [i for i, shape in enumerate(call.shapes) if shape == builder.get(first).shape]
    place = choose.of(places or [-1])
    operands: list[int] = []
    for i, shape in enumerate(call.shapes):
        if isinstance(shape, IntegerArrayBelow):
            operands.append(builder.add_input(shape.shape, shape.bound))
        elif isinstance(op.domain(i), Booleans):
            operands.append(builder.add_input(shape, MASK))
        elif i == place or (same and i in places):
            operands.append(first)
        else:
            fitting = [k for k in builder.usable if builder.get(k).shape == shape]
            # Half of the time the first value itself, so that it is used twice.
            fitting = [*fitting[-1:-NEWEST:-1], *([first] * 3 if i in places else [])]
            reuses = bool(fitting) and choose.integer(0, 3) < 3
            operands.append(choose.of(fitting) if reuses else builder.add_input(shape, make_numbers(op, i)))
    return tuple(operands)


def add_masked(builder: ProgramBuilder, ops: ProgramOps, choose: Choices, other: int) -> None:
    """Add a branch that is undefined at some elements, hidden by a mask: where(mask, f(x), other).

    In one of three the argument is masked, too: where(mask, f(where(mask, x, inside)), other).
    """
    name, place = choose.of(ops.partial)
    op, shape = OPS[name], builder.get(other).shape
    x = builder.add_input(shape, MIXED)
    mask = builder.add_input(shape, (name, place, "inside", ~x))
    argument = x
    if choose.of([False, False, True]):
        inside = builder.add_input((), (name, place), usable=False)
        builder.append("where", (mask, x, inside))
        argument = len(builder.values) - 1
    operands = [
        argument
        if i == place
        else builder.add_input(draw_broadcastable_shape(choose, shape), make_numbers(op, i))
        for i in range(len(op.domains))
    ]
    builder.append(name, tuple(operands))
    builder.append("where", (mask, len(builder.values) - 1, other))
    if np.all(np.abs(builder.values[-1]) <= MAX_SIZE):
        builder.usable.append(len(builder.values) - 1)


def try_inner(builder: ProgramBuilder, ops: ProgramOps, choose: Choices, by: int) -> bool:
    """Add the gradient or value, by the value numbered `by`, of a function that closes over other values."""
    before, variable = len(builder.inputs), len(builder.values)
    if choose.of([False, True]):
        by = builder.add_input(builder.get(by).shape, usable=False)
        builder.constants.append(~by)
    inner = builder.make_inner(by)
    for k in range(choose.of([2, 3, 1, 3])):
        hub = choose.of([*builder.usable[:-NEWEST:-1], variable])
        if k == 0:
            try_op(inner, choose.of(ops.of_several), choose, variable, hub)
        elif not add_random_step(inner, ops, choose, inner.usable[-1], hub):
            break
    builder.usable.extend(k for k in inner.usable if k < -before)
    # Without steps, nothing that depends on the variable was found; or the last result is a mask.
    if (
        inner.steps
        and inner.usable[-1] > variable
        and builder.add_inner(choose.of([INNER_GRADIENT, INNER_GRADIENT, INNER_VALUE]), by, inner)
    ):
        return True
    builder.drop_inputs(before)
    return False


def try_move(builder: ProgramBuilder, ops: ProgramOps, choose: Choices) -> bool:
    """Add a step that moves the elements of the newest array, by an op that has several tries to fit.

    Returns:
        Whether one fits and leaves `MIN_RANK_OF_MOVES` axes: what has fewer is hardly moved by any op.
    """
    name = choose.of(ops.moving)
    for _ in range(TRIES_PER_MOVE):
        if try_op(builder, name, choose, builder.usable[-1]):
            if builder.values[-1].ndim >= MIN_RANK_OF_MOVES:
                return True
            builder.drop_step()
    return False


def choose_square(builder: ProgramBuilder, first: int) -> int:
    """Return the number of the newest array whose last two axes are as long, else `first`."""
    return next((k for k in builder.usable[::-1] if len({*builder.get(k).shape[-2:]}) == 1), first)


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
        try_op(builder, choose.of(ops.comparing), choose, first, hub)
        return try_op(builder, "where", choose, builder.choose_value(choose, hub), hub)
    if 28 <= kind <= 30 and ops.mixing:
        return try_op(builder, choose.of(ops.mixing), choose, choose_square(builder, first), same=True)
    last = next((step for step in reversed(builder.steps) if step[0] != PICK), None)
    if 24 <= kind <= 27 and last and last[2] and last[0] in OPS:
        name, operands, _ = last
        before = builder.usable[-1]
        return (
            try_op(builder, name, choose, operands[0])
            and bool(ops.pairing)
            and try_op(builder, choose.of(ops.pairing), choose, builder.usable[-1], before)
        )
    if kind == 23 and ops.stopping and ops.pairing:
        # Beside what it stops, a straight-through estimator's way; the two are not to be taken for one.
        stopped = try_op(builder, choose.of(ops.stopping), choose, first)
        return stopped and try_op(builder, choose.of(ops.pairing), choose, first, builder.usable[-1])
    groups = [ops.pairing, ops.moving, ops.combining, ops.moving, ops.pairing, ops.mixing, ops.others]
    if hub is not None:
        groups += [ops.pairing, ops.pairing]
    groups = [group for group in groups if group]
    for attempt in range(3):
        group = groups[(kind + attempt) % len(groups)]
        if hub is not None:
            first = hub if group in (ops.moving, ops.others) else builder.usable[-1]
        if try_op(builder, choose.of(group), choose, first, hub):
            for _ in range(MAX_MOVES - 1):
                if group is ops.moving and choose.of([False, True, True]):
                    try_op(builder, choose.of(group), choose, builder.usable[-1])
            return True
    return False


def make_numbers(op: Op, i: int) -> Numbers:
    """Return what an input is made of that is to be the i-th argument of an op."""
    return REAL if op.domain(i) == Interval() else (op.address, i)


def broadcasts(shape: Shape, other: Shape) -> bool:
    """Return whether arrays of these shapes broadcast to one that is not large."""
    for n, m in zip(reversed(shape), reversed(other), strict=False):
        if n != m and 1 not in (n, m):
            return False
    return math.prod(np.broadcast_shapes(shape, other)) <= MAX_PROGRAM_ELEMENTS
