"""Hypothesis strategies: programs, which are compositions of a backend's ops."""

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.cases.program_ops import ProgramOps, classify_ops, list_program_ops
from gradspec.properties.cases.programs import MAX_STEPS, Program, Shape, drop_unused, is_made_of_floats
from gradspec.properties.cases.sizes import REPEATED_LENGTH_WEIGHT
from gradspec.properties.drawing.choices import DrawnChoices
from gradspec.properties.drawing.program_builder import MAX_PROGRAM_ELEMENTS, ProgramBuilder
from gradspec.properties.drawing.program_steps import add_masked, add_random_step, try_inner, try_move, try_op
from gradspec.properties.drawing.strategies import Draw
from gradspec.reference.calls import Choices, draw_broadcastable_shape

PROGRAMS_PER_EXAMPLE = 34
"""An example's time is mostly Hypothesis's own. With 4, cotangents that share memory were missed."""

PROGRAM_LENGTHS = (*range(1, MAX_STEPS + 1), *list(range(MAX_STEPS // 2, MAX_STEPS + 1)) * 2)
"""How many steps a program may have. The longer ones, where more branches meet, are three times as likely."""

ONE_HUB_IN_SEEDS = 2  # one of so many seeds gives a program many of whose steps take the same input
ONE_CONSTANT_IN_SEEDS = 3  # one of so many seeds makes one of several inputs a constant
ONE_WITH_UNUSED_IN_SEEDS = 4  # one of so many seeds keeps steps and inputs that the value does not depend on
ONE_OF_MOVES_IN_SEEDS = 5  # one of so many seeds gives a program that only moves elements
ONE_MASK_IN_STEPS = 16  # one of so many steps adds an undefined branch behind a mask
ONE_INNER_IN_STEPS = 12  # one of so many steps is the gradient of an inner function, or its value
ONE_FRESH_INPUT_IN_STEPS = 8  # one of so many steps adds an input of its shape to a result
MAX_TRIES = 20  # how often an op is tried where none fitted the inputs

BYTES_PER_PROGRAM = 8  # that its inputs are read off
BYTES_PER_STEP = 10
BYTES = BYTES_PER_PROGRAM + MAX_STEPS * BYTES_PER_STEP

RANKS = (2, 3, 1, 3, 2, 0, 4, 3)
LENGTHS = (2, 1, 3, 2, 4, 3)
SHAPES_OF_MOVES = ((2, 3, 4), (3, 2, 2), (2, 3, 2, 2), (4, 3, 2), (2, 2, 3, 2))


@dataclass(frozen=True)
class DrawnPrograms:
    """Programs of a backend's ops, each decoded from a block of bytes and a seed as it is asked for."""

    ops: ProgramOps
    dtypes: Sequence[str]
    blocks: Sequence[bytes]
    seeds: Sequence[int]
    nests: bool

    def __iter__(self) -> Iterator[Program]:
        return self.build(self.seeds)

    def build(self, seeds: Container[int]) -> Iterator[Program]:
        """Yield the programs that have these seeds."""
        for block, seed in zip(self.blocks, self.seeds, strict=True):
            if seed in seeds:
                with np.errstate(all="ignore"):
                    program = build_program(self.ops, self.dtypes, block, seed, nests=self.nests)
                yield program


@st.composite
def programs(
    draw: Draw, backend: Backend, dtypes: Sequence[str], count: int = PROGRAMS_PER_EXAMPLE
) -> DrawnPrograms:
    """Draw programs of the backend's ops.

    The first block is Hypothesis' own and shrinks, the others come from a seed. Zeros add an input to itself.

    Args:
        draw: Given by Hypothesis.
        backend: The backend.
        dtypes: The dtypes to choose from.
        count: How many programs an example has. The simplest example, of zeros, has one.
    """
    block, seed = draw(st.binary(min_size=BYTES, max_size=BYTES)), draw(st.integers(0, 2**16 - 1))
    # Hypothesis draws some seeds more than once, beside other blocks.
    rng = np.random.default_rng((seed, *block[:4]))
    blocks = [block] + [rng.bytes(BYTES) for _ in range(count - 1) if any(block)]
    seeds = [seed, *rng.integers(0, 2**16, len(blocks) - 1).tolist()]
    return DrawnPrograms(classify_ops(list_program_ops(backend)), tuple(dtypes), blocks, seeds, backend.nests)


def build_program(
    ops: ProgramOps, dtypes: Sequence[str], block: bytes, seed: int, *, nests: bool = True
) -> Program:
    """Return the program that a block of bytes and a seed stand for.

    Each step takes one of the last few results, so that branches meet again and few results go unused.

    Args:
        ops: What it is made of.
        dtypes: The dtypes to choose from.
        block: Picks shapes, ops and what they take.
        seed: The seed of its numbers and of what the bytes leave open.
        nests: Whether a step may be the gradient of an inner function.
    """
    rng = np.random.default_rng(seed)
    choose: Choices = DrawnChoices(block[:BYTES_PER_PROGRAM], MAX_PROGRAM_ELEMENTS, rng)
    length = choose.of(PROGRAM_LENGTHS)
    builder = ProgramBuilder(choose.of(dtypes), seed)
    # Another remainder than that of the seeds that give small cotangents.
    if ops.moving and seed % ONE_OF_MOVES_IN_SEEDS == 2:
        return _build_program_of_moves(builder, ops, choose)
    _add_inputs(builder, choose)
    hub = ~(seed // ONE_HUB_IN_SEEDS % len(builder.inputs)) if seed % ONE_HUB_IN_SEEDS else None
    for k in range(length):
        start = BYTES_PER_PROGRAM + k * BYTES_PER_STEP
        choose = DrawnChoices(block[start : start + BYTES_PER_STEP], MAX_PROGRAM_ELEMENTS, rng)
        _add_step(builder, ops, choose, hub, nests)
    for _ in range(MAX_TRIES):
        if builder.steps:
            break
        try_op(builder, choose.of(ops.of_several), choose, -1, anywhere=True)
    last = builder.usable[-1] + 1 if builder.usable[-1] >= 0 else len(builder.steps)
    floats = [i for i, (_, numbers, _) in enumerate(builder.inputs) if is_made_of_floats(numbers)]
    constants = tuple(builder.constants)
    floats = [i for i in floats if i not in constants]
    if len(floats) > 1 and seed % ONE_CONSTANT_IN_SEEDS == ONE_CONSTANT_IN_SEEDS - 1:
        constants += (floats[seed // ONE_CONSTANT_IN_SEEDS % len(floats)],)
    program = Program(builder.dtype, seed, tuple(builder.inputs), tuple(builder.steps[:last]), constants)
    keeps_unused = seed % ONE_WITH_UNUSED_IN_SEEDS == ONE_WITH_UNUSED_IN_SEEDS - 1
    if program.steps and not keeps_unused:
        program = drop_unused(program)
    return program if program.differentiable_inputs else replace(program, constants=())


def _build_program_of_moves(builder: ProgramBuilder, ops: ProgramOps, choose: Choices) -> Program:
    """Return a program of ops that only move elements, each applied to the result of the one before."""
    builder.add_input(choose.of(SHAPES_OF_MOVES))
    for _ in range(2 * MAX_STEPS):
        if len(builder.steps) < MAX_STEPS:
            try_move(builder, ops, choose)
    return Program(builder.dtype, builder.seed, tuple(builder.inputs), tuple(builder.steps))


def _add_inputs(builder: ProgramBuilder, choose: Choices) -> None:
    """Add an input, and up to two more that broadcast with it."""
    shape: Shape = ()
    for _ in range(choose.of(RANKS)):
        lengths = (*LENGTHS, *shape[-1:] * REPEATED_LENGTH_WEIGHT)
        shape = (*shape, choose.of([n for n in lengths if n * math.prod(shape) <= MAX_PROGRAM_ELEMENTS // 2]))
    builder.add_input(shape)
    for _ in range(choose.of([0, 1, 2])):
        builder.add_input(choose.of([shape, (), *[draw_broadcastable_shape(choose, shape)] * 2]))


def _add_step(
    builder: ProgramBuilder, ops: ProgramOps, choose: Choices, hub: int | None, nests: bool
) -> None:
    """Add a step, or the few that make up a masked branch; nothing where none that was tried fits."""
    kind, first = choose.integer(0, 255), builder.choose_value(choose, hub)
    if kind % ONE_MASK_IN_STEPS == 1 and ops.partial and "where" in ops.combining:
        add_masked(builder, ops, choose, first)
    elif kind % ONE_INNER_IN_STEPS == 2 and nests:
        try_inner(builder, ops, choose, first)
    elif kind % ONE_FRESH_INPUT_IN_STEPS == 3:
        builder.add_input(choose.of([builder.get(first).shape, ()]))
        try_op(builder, choose.of([ops.of_several[0], *ops.pairing]), choose, first)
    else:
        add_random_step(builder, ops, choose, first, hub)
